"""The training report in a real headless Chromium: dark, light, and on a phone."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from run_records import made_up
from webdriver import Browser

from cmgan_jax.diagnosis.history import History
from cmgan_jax.diagnosis.rules import apply_rules
from cmgan_jax.recipes import make_config
from cmgan_jax.training import pictures, report

pytestmark = pytest.mark.browser
LONG = "a_rather_long_name_of_a_file_without_any_place_where_it_could_be_broken_p232_001"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("chromium and chromedriver are absent (apt-get install chromium chromium-driver)")
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    clean = np.random.default_rng(0).normal(0, 0.1, 64_000).astype(np.float32)
    for epoch in range(1, 9):
        pictures.save_epoch(folder, epoch, [(LONG, clean, clean)], {LONG: clean / epoch}, 16_000)
    records = made_up()
    said = {"kind": "finding", "step": 480, "code": "skipped_updates", "text": "one in ten was left out"}
    findings = apply_rules(History.from_records(records))
    seen = {LONG: pictures.pick(folder, LONG, 8)}
    html = report.build("run", make_config("recommended", "demo"), [*records, said], findings, seen)
    (folder / report.PAGE).write_text(html, encoding="utf-8")
    return folder / report.PAGE


def show(browser: Browser, page: Path, width: int, scheme: str) -> None:
    browser.cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.size(width, 800)
    browser.open(page)


@pytest.mark.parametrize("width", [375, 1280])
def test_nothing_is_wider_than_the_screen(browser: Browser, page: Path, width: int) -> None:
    show(browser, page, width, "light")
    assert browser.script("return document.documentElement.scrollWidth <= innerWidth")
    overflowing = """return [...document.querySelectorAll("section svg, section img, section li, h1, h3")].filter(
      (one) => one.getBoundingClientRect().right > innerWidth).length"""
    assert browser.script(overflowing) == 0
    assert browser.script('return document.querySelectorAll("svg .line").length') > 20
    assert browser.script("return [...document.images].every((image) => image.naturalWidth > 0)")
    assert browser.log() == []


def test_text_can_be_read_in_both_schemes(browser: Browser, page: Path) -> None:
    """Contrast with the card: 4.5 for text and a chart's labels, 3 for its lines (WCAG 2.2, 1.4.3 and 1.4.11)."""
    contrast = """
      const light = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).map((v) => v / 255)
        .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
      const card = light(getComputedStyle(document.querySelector("section")).backgroundColor);
      const against = (l) => (Math.max(l, card) + .05) / (Math.min(l, card) + .05);
      const of = (selector, key) =>
        [...document.querySelectorAll(selector)].map((e) => against(light(getComputedStyle(e)[key])));
      return [Math.min(...of("section p, section li, .chart .about", "color"), ...of(".chart text", "fill")),
              Math.min(...of(".chart .line", "stroke"))];
    """
    backgrounds = []
    for scheme in ("light", "dark"):
        show(browser, page, 1280, scheme)
        text, line = browser.script(contrast)
        assert text >= 4.5, scheme
        assert line >= 3, scheme
        backgrounds.append(browser.script("return getComputedStyle(document.body).backgroundColor"))
    assert backgrounds[0] != backgrounds[1]
