"""Charts as text: what is drawn where, gaps, zeros on a logarithmic axis, names that are markup."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from cmgan_jax.report.charts import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    Axis,
    Series,
    line_chart,
    log_ticks,
    number,
    scatter,
    thin,
    ticks,
)

X, Y = Axis("epoch"), Axis("loss", low=0.0, high=1.0)


def column(*values: float) -> np.ndarray:
    return np.array(values, np.float64)


def parsed(figure: str) -> ElementTree.Element:
    """A figure that is well-formed, as markup must be to be shown."""
    return ElementTree.fromstring(figure)


def lines(figure: str) -> list[str]:
    return [path.get("d", "") for path in parsed(figure).iter("path") if path.get("class", "").startswith("line")]


def places(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([\d.-]+) ([\d.-]+)", path)]


def test_a_line_goes_from_edge_to_edge() -> None:
    """The first point is at the left edge; 0 is at the bottom, 1 at the top, and 0.5 in the middle."""
    figure = line_chart("Loss", [Series("generator", column(1, 2, 3), column(0, 0.5, 1))], X, Y)
    middle = ((LEFT + RIGHT) / 2, (BOTTOM + TOP) / 2)
    assert places(lines(figure)[0]) == [(LEFT, BOTTOM), middle, (RIGHT, TOP)]


def test_a_gap_breaks_the_line_and_a_lone_point_is_a_dot() -> None:
    nan = np.nan
    figure = line_chart("Loss", [Series("a", np.arange(7.0), column(0, 1, nan, 0.5, nan, 0, 1))], X, Y)
    assert [lines(figure)[0].count(move) for move in "ML"] == [2, 2]
    (dot,) = parsed(figure).iter("circle")
    assert float(dot.get("cx", "")) == pytest.approx((LEFT + RIGHT) / 2)


def test_a_logarithmic_axis_has_equal_steps_for_equal_ratios() -> None:
    """And what is exactly 0 has no place on it: it becomes a stroke on the edge and a gap in the line."""
    losses = Series("discriminator", np.arange(5.0), column(1e-6, 1e-3, 1, 0, 0))
    figure = line_chart("Loss", [losses], X, Axis("loss", log=True))
    (_, low), (_, middle), (_, high) = places(lines(figure)[0])
    assert low - middle == pytest.approx(middle - high, abs=0.11)
    (zeros,) = (path for path in parsed(figure).iter("path") if path.get("class") == "zero")
    assert zeros.get("d", "").count("M") == 2


def test_all_zero_on_a_logarithmic_axis() -> None:
    figure = line_chart("Loss", [Series("d", column(0, 1), column(0, 0))], X, Axis("loss", log=True))
    assert 'class="zero"' in figure
    assert not lines(figure)


@pytest.mark.parametrize("values", [(), (np.nan, np.nan), (np.inf,)])
def test_nothing_measured_is_said(values: tuple[float, ...]) -> None:
    for chart in (line_chart, scatter):
        figure = chart("Loss", [Series("a", np.arange(len(values)) * 1.0, column(*values))], X, Y)
        assert "Nothing measured yet." in figure
        assert "<svg" not in figure


def test_names_are_text() -> None:
    hostile = '<script>alert("1")</script>&'
    axis = Axis(hostile)
    series = [Series(hostile, column(1, 2), column(1, 2), dots=True)] * 2
    for figure in (line_chart(hostile, series, axis, axis, hostile), scatter(hostile, series, axis, axis, hostile)):
        assert not list(parsed(figure).iter("script"))
        assert hostile in "".join(parsed(figure).itertext())


def test_a_legend_where_there_is_a_choice() -> None:
    one, two = Series("one", column(1, 2), column(1, 2)), Series("two", column(1, 2), column(2, 1), dashed=True)
    assert not list(parsed(line_chart("t", [one], X, Y)).iter("li"))
    legend = [(item.get("class"), item.text) for item in parsed(line_chart("t", [one, two], X, Y)).iter("li")]
    assert legend == [("s0", "one"), ("s1 dashed", "two")]


def test_an_interval_surrounds_its_line() -> None:
    of = Series("mean", column(1, 2), column(0.5, 0.5), band=(column(0, 0), column(1, 1)))
    (band,) = parsed(line_chart("t", [of], X, Y)).iter("polygon")
    corners = [tuple(map(float, corner.split(","))) for corner in band.get("points", "").split()]
    assert corners == [(LEFT, TOP), (RIGHT, TOP), (RIGHT, BOTTOM), (LEFT, BOTTOM)]


def test_a_scatter_has_one_scale_for_both() -> None:
    """Equal values lie on the line from corner to corner."""
    figure = scatter("t", [Series("a", column(1, 4, 2), column(1, 4, 3))], Axis("true"), Axis("predicted"))
    dots = [(float(dot.get("cx", "")), float(dot.get("cy", ""))) for dot in parsed(figure).iter("circle")]
    slope = (BOTTOM - TOP) / (RIGHT - LEFT)
    assert (dots[0][1] - dots[1][1]) / (dots[1][0] - dots[0][0]) == pytest.approx(slope, rel=1e-2)
    assert dots[2][1] < dots[0][1] - slope * (dots[2][0] - dots[0][0])


@pytest.mark.parametrize(
    ("low", "high", "whole", "expected"),
    [
        (0.0, 1.0, False, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (1.0, 3.0, True, [1.0, 2.0, 3.0]),
        (-0.3, 0.9, False, [0.0, 0.5]),
        (0.0, 120.0, False, [0.0, 50.0, 100.0]),
    ],
)
def test_ticks_are_round(low: float, high: float, whole: bool, expected: list[float]) -> None:
    assert ticks(low, high, whole=whole) == pytest.approx(expected)


def test_logarithmic_ticks() -> None:
    assert log_ticks(1e-6, 1.0) == pytest.approx([1e-6, 1e-4, 1e-2, 1])
    assert log_ticks(0.15, 3.0) == pytest.approx([0.2, 0.5, 1, 2])


def test_numbers_in_few_signs() -> None:
    assert [number(value) for value in (0.1 + 0.2, 250.0, 12_000.0, 3.5e6, 1e-6)] == [
        "0.3",
        "250",
        "12k",
        "3.5M",
        "1e-06",
    ]


def test_a_long_curve_keeps_its_peak_and_its_gap() -> None:
    y = np.zeros(100_000)
    y[54_321], y[70_000:80_000] = 9.0, np.nan
    x, thinned = thin(np.arange(y.size, dtype=np.float64), y)
    assert len(x) <= 600
    assert x[np.nanargmax(thinned)] == 54_321
    assert np.isnan(thinned[(x > 70_500) & (x < 79_500)]).all()
    short = np.arange(600.0)
    assert thin(short, short)[0] is short
