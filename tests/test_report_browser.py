"""The listening report in a real headless Chromium."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from webdriver import Browser

from cmgan_jax.evaluation import published, report
from cmgan_jax.evaluation.evaluation import Case, assemble
from cmgan_jax.evaluation.scores import METRICS, FileScores

RATE = 16_000
SECONDS = 6.0
pytestmark = pytest.mark.browser
HOSTILE = "<img src=x onerror=\"document.title='attacked'\">"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("chromium and chromedriver are absent (apt-get install chromium chromium-driver)")
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


def store(path: Path, seconds: float, gain: float) -> Path:
    t = np.arange(round(seconds * RATE)) / RATE
    soundfile.write(path, (gain * np.sin(2 * np.pi * 300 * t)).astype(np.float32), RATE)
    return path


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """Five files: a name that is markup, one without a score, one whose audio is left out, and a third system."""
    folder = tmp_path_factory.mktemp("report")
    pesq = {"middling": 2.5, HOSTILE: 1.5, "unscored": None, "good": 3.5, "best": 4.5}
    systems = ("noisy", "enhanced", "other")
    paths = {name: store(folder / f"{name}.wav", SECONDS, 0.1 * i) for i, name in enumerate(("clean", *systems), 1)}
    scores = {
        system: [
            FileScores(name, {}, dict.fromkeys(METRICS, "because"))
            if score is None
            else FileScores(
                name, {metric: 5 - score for metric in METRICS} | {"pesq": score - 0.3 * (system == "noisy")}
            )
            for name, score in pesq.items()
        ]
        for system in systems
    }
    result = assemble([Case(name, paths) for name in pesq], scores)
    source = {"version": "1", "source": {"clean": HOSTILE}}
    with pytest.MonkeyPatch.context() as patch:  # as if it were the test set, so that the literature has a table
        patch.setattr(published, "is_voicebank_test", lambda _: True)
        html = report.build(result, published_scale=False, source=source, audio_files=4).html
    (folder / "index.html").write_text(html, encoding="utf-8")
    return folder / "index.html"


@pytest.fixture
def opened(browser, page):
    """The page, freshly loaded at a desktop's size, and a log that must be empty at the end."""
    browser.size(1280, 900)
    browser.open(page)
    browser.log()
    browser.open(page)
    browser.wait(lambda: browser.script(NAMES))
    yield browser
    assert browser.log() == []


STATE = """
const heard = [...document.querySelectorAll("audio")].filter((audio) => !audio.muted);
const all = [...document.querySelectorAll("audio")];
return {
  heard: heard.map((audio) => audio.dataset.version), at: heard[0]?.currentTime, playing: heard[0] && !heard[0].paused,
  spread: Math.max(...all.map((a) => a.currentTime)) - Math.min(...all.map((a) => a.currentTime)),
  pressed: [...document.querySelectorAll("#choices [aria-pressed=true]")].map((button) => button.dataset.version),
  file: document.querySelector("#listen-title").textContent, label: document.querySelector("#play-label").textContent,
};
"""
NAMES = 'return [...document.querySelectorAll("#files-table tbody button")].map((button) => button.textContent)'
LOADED = 'return [...document.querySelectorAll("audio")].every((audio) => audio.readyState >= 3)'


def state(browser: Browser) -> dict[str, Any]:
    return browser.script(STATE)


def test_the_page_loads_without_an_error_and_shows_the_worst_file(opened):
    assert opened.script(NAMES) == ["unscored", HOSTILE, "middling", "good", "best"]
    assert state(opened)["file"] == "unscored"
    assert opened.script("return document.title") == "Listening report"  # no name has run
    assert opened.script('return document.querySelectorAll("img[src=x]").length') == 0
    assert opened.script(
        'return [...document.querySelectorAll(".picture img")].every((i) => i.complete && i.naturalWidth > 0)'
    )
    versions = opened.script('return [...document.querySelectorAll("audio")].map((audio) => audio.dataset.version)')
    assert versions == ["noisy", "enhanced", "clean", "other"]
    assert "because" in opened.script('return document.querySelector("#remarks").textContent')
    assert "4 scored of 5" in opened.script('return document.querySelector("#subtitle").textContent')


def test_summary_groups_and_literature_have_their_tables(opened):
    def cells(selector: str) -> list[str]:
        rows = f"[...document.querySelectorAll('{selector} tr')]"
        return opened.script(f"return {rows}.map((row) => [...row.cells].map((cell) => cell.textContent).join(' '))")

    # The mean of 1.5, 2.5, 3.5 and 4.5 is 3; noisy files have 0.3 less, each.
    assert any(row.startswith("PESQ 2.700") and "3.000" in row and "+0.300" in row for row in cells("#summary-table"))
    assert any("CMGAN (2022) 3.41 4.63 3.94 4.12 11.10 0.96" in row for row in cells("#literature-table"))
    assert any(row.startswith("this result 3.00") for row in cells("#literature-table"))
    # Three systems have no score for the fifth file, for one reason each.
    assert opened.script('return document.querySelectorAll("#missing-list li").length') == 3


def test_a_log_that_must_be_empty_is_not_always(browser, page):
    # The check of the other tests sees what it is meant to see: an error, and a request that the policy stops.
    browser.open(page)
    browser.script("setTimeout(() => { throw new Error('seen'); })")
    browser.script("fetch('http://127.0.0.1:9/').catch(() => {})")
    time.sleep(0.2)
    text = json.dumps(browser.log())
    assert "seen" in text
    assert "Content Security Policy" in text


def test_tables_sort_by_every_column_worst_first_then_best_first(opened):
    sort = 'return document.querySelector("th[data-key=KEY]").getAttribute("aria-sort")'
    assert opened.script(sort.replace("KEY", "pesq")) == "ascending"
    opened.click("th[data-key=pesq] button")
    # What has no score stays on top, whichever way.
    assert opened.script(NAMES) == ["unscored", "best", "good", "middling", HOSTILE]
    assert opened.script(sort.replace("KEY", "pesq")) == "descending"
    opened.click("th[data-key=llr] button")
    # LLR is 5 - PESQ here, and less of it is better: the worst is that of the lowest PESQ.
    assert opened.script(NAMES) == ["unscored", HOSTILE, "middling", "good", "best"]
    assert opened.script(sort.replace("KEY", "llr")) == "descending"
    assert opened.script(sort.replace("KEY", "pesq")) is None
    opened.click("th[data-key=name] button")
    assert opened.script(NAMES) == [HOSTILE, "best", "good", "middling", "unscored"]


def test_files_are_found_by_a_part_of_their_name(opened):
    opened.click("#find")
    opened.keys(*"GOO")
    assert opened.script(NAMES) == ["good"]
    assert opened.script('return document.querySelector("#files-count").textContent') == "1 of 5 files"


# Read in the page, on the way down to what is clicked and on the way up from it: no command's delay is in it.
PLACES = """
const at = () => [...document.querySelectorAll("audio")].find((audio) => !audio.muted).currentTime;
document.addEventListener("click", () => { window.places = [at()]; }, true);
document.addEventListener("click", () => { window.places.push(at()); });
"""


def test_it_plays_and_switching_keeps_the_position(opened):
    opened.wait(lambda: opened.script(LOADED))
    assert state(opened)["heard"] == ["enhanced"]
    opened.script(PLACES)
    opened.click("#play")
    for chosen in ("clean", "noisy", "other", "enhanced"):
        opened.keys("0")  # far from the end, however slow the machine
        opened.wait(lambda: 0.3 < state(opened)["at"] < SECONDS / 2)
        opened.click(f"#choices button[data-version={chosen}]")
        before, after = opened.script("return window.places")
        assert before > 0.3
        assert after == pytest.approx(before, abs=0.1)
        found = state(opened)
        assert found["heard"] == found["pressed"] == [chosen]
        assert found["playing"]
        opened.wait(lambda place=after: state(opened)["at"] > place)  # and on it goes
    opened.click("#play")
    paused = opened.wait(lambda: (found := state(opened)) and not found["playing"] and found)
    assert paused["spread"] == pytest.approx(0, abs=1e-3)
    opened.click("#choices button[data-version=clean]")
    assert state(opened)["at"] == pytest.approx(paused["at"], abs=1e-3)


def test_versions_stay_together_while_they_play(opened):
    opened.wait(lambda: opened.script(LOADED))
    opened.click("#play")
    opened.wait(lambda: state(opened)["at"] > 0.3)
    opened.script("document.querySelectorAll('audio')[0].currentTime += 0.2")  # muted, and ahead from now on
    assert state(opened)["spread"] > 0.1
    opened.wait(lambda: state(opened)["spread"] < 0.03, 4)


def test_it_stops_at_the_end_and_repeats_where_asked(opened):
    opened.wait(lambda: opened.script(LOADED))
    opened.script("document.querySelectorAll('audio').forEach((audio) => { audio.currentTime = 5.8; })")
    opened.click("#play")
    opened.wait(lambda: state(opened)["label"] == "Play")
    assert not state(opened)["playing"]
    opened.click("#repeat")
    opened.click("#play")
    opened.wait(lambda: 0.1 < state(opened)["at"] < 5)
    opened.script("document.querySelectorAll('audio').forEach((audio) => { audio.currentTime = 5.8; })")
    opened.wait(lambda: 0.1 < state(opened)["at"] < 5)
    assert state(opened)["playing"]


def test_everything_works_by_keyboard(opened):
    opened.wait(lambda: opened.script(LOADED))
    opened.keys("Space")
    opened.wait(lambda: state(opened)["at"] > 0.1)
    opened.keys("1")
    assert state(opened)["heard"] == ["noisy"]
    opened.keys("Space")
    opened.wait(lambda: not state(opened)["playing"])
    opened.keys("0")
    opened.keys("Right", "Right")
    assert state(opened)["at"] == pytest.approx(2.0, abs=0.05)
    opened.keys("Left")
    assert state(opened)["at"] == pytest.approx(1.0, abs=0.05)
    opened.keys("n")
    assert state(opened)["file"] == HOSTILE
    assert state(opened)["heard"] == ["noisy"]  # the choice stays from file to file
    opened.keys("p")
    assert state(opened)["file"] == "unscored"
    # From the top of the page by tab alone: the first stop is the way past the tables, and focus can be seen.
    opened.script("document.activeElement.blur(); scrollTo(0, 0)")
    opened.keys("Tab", "Enter", "Tab")
    focus = opened.script(
        "const e = document.activeElement, s = getComputedStyle(e); return [e.id, s.outlineStyle, s.outlineWidth]"
    )
    assert focus == ["play", "solid", "3px"]
    opened.keys("Space")
    opened.wait(lambda: state(opened)["playing"])


def test_rows_open_files_also_those_without_audio(opened):
    opened.script('document.querySelectorAll("#files-table tbody button")[4].focus()')
    opened.keys("Enter")
    assert state(opened)["file"] == "best"
    assert opened.script('return document.querySelector("#play").disabled')
    assert "not in the page" in opened.script('return document.querySelector("#remarks").textContent')
    opened.script('document.querySelectorAll("#files-table tbody tr")[2].click()')
    assert state(opened)["file"] == "middling"
    assert not opened.script('return document.querySelector("#play").disabled')
    opened.script('document.querySelectorAll(".point")[2].dispatchEvent(new MouseEvent("click"))')
    assert state(opened)["file"] == "good"  # the plot has the files with scores, worst first


def test_a_spectrogram_seeks(opened):
    opened.wait(lambda: opened.script(LOADED))
    opened.click(".version[data-version=clean] .picture")  # WebDriver clicks the middle
    assert state(opened)["at"] == pytest.approx(SECONDS / 2, abs=0.05)
    left = opened.script('return document.querySelector(".version[data-version=noisy] .playhead").style.left')
    assert float(left.rstrip("%")) == pytest.approx(50, abs=2)


def test_the_next_file_s_row_comes_into_sight(opened):
    opened.script("document.querySelector('#files-table').style.maxHeight = '120px'")
    opened.keys("n", "n", "n")
    seen = """const box = document.querySelector("#files-table").getBoundingClientRect();
    const row = document.querySelector("#files-table tr.current").getBoundingClientRect();
    return [row.top - box.top, box.bottom - row.bottom]"""
    above, below = opened.script(seen)
    assert above > 0
    assert below >= 0
    assert state(opened)["file"] == "good"


def test_a_phone_shows_it_without_sideways_scrolling(opened):
    opened.size(375, 812)
    assert opened.script("return document.documentElement.scrollWidth") <= 375
    small = opened.script(
        """return [...document.querySelectorAll("button, select, input")].filter((e) => e.offsetParent)
        .map((e) => [e.id || e.textContent, e.getBoundingClientRect().height]).filter(([, height]) => height < 18)"""
    )
    assert small == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_in_both_schemes(opened, scheme):
    # WCAG 2.2, 1.4.3: 4.5 to 1, by its formula for relative luminance.
    opened.cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    style = "return getComputedStyle(document.documentElement).getPropertyValue('--NAME').trim()"

    def luminance(name: str) -> float:
        text = opened.script(style.replace("NAME", name))
        channels = [int(text[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    assert (luminance("page") < 0.1) == (scheme == "dark")
    backgrounds = {"card": ("ink", "soft", "accent", "good", "bad", "v0", "v1", "v2", "v3", "v4", "v5")}
    backgrounds |= {"page": ("ink", "soft"), "chosen": ("ink", "soft", "accent", "good", "bad"), "warn": ("ink",)}
    backgrounds |= {"hover": ("ink", "soft", "accent", "good", "bad"), "accent": ("on-accent",)}
    for background, texts in backgrounds.items():
        for text in texts:
            dark, light = sorted((luminance(background), luminance(text)))
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (background, text)
