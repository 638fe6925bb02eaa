"""Charts: pure functions from columns to an HTML figure with an inline SVG, for self-contained pages.

A page puts `STYLE` into its style sheet once; colours follow the reader's preference for dark or light. A figure fills
the available width, and is designed for 320 to 560 pixels.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from html import escape

import numpy as np

WIDTH, HEIGHT = 380, 215
LEFT, RIGHT, TOP, BOTTOM = 42, 372, 24, 182
"""Edges of the plot area within the picture, in SVG units."""
MARGIN = 0.06
"""Share of the values' range left free above and below them."""
COLOURS = 8
"""Number of colours of series; further series reuse them."""

STYLE = """
.chart { --c0: #1769c4; --c1: #c4481a; --c2: #17805a; --c3: #a2308c; --c4: #8a6a00; --c5: #5a57c9; --c6: #0f7f8c;
  --c7: #8d3b3b; --grid: #e3e6ea; --axis: #8b939e; --label: #5b6470; margin: 0; min-width: 0; }
@media (prefers-color-scheme: dark) { .chart { --c0: #6db3ff; --c1: #ff9a66; --c2: #5fd0a2; --c3: #ee8fd8;
  --c4: #e0c04c; --c5: #aaa6ff; --c6: #5fd0dc; --c7: #f0a0a0; --grid: #2b3138; --axis: #6f7884; --label: #a3acb8; } }
.chart figcaption { font-weight: 600; font-size: .95rem; }
.chart .about { font-weight: 400; font-size: .82rem; color: var(--label); display: block; line-height: 1.35; }
.chart svg { display: block; width: 100%; height: auto; overflow: visible; }
.chart text { font-size: 11px; fill: var(--label); font-family: inherit; font-variant-numeric: tabular-nums; }
.chart .grid { stroke: var(--grid); stroke-width: 1; }
.chart .edge { stroke: var(--axis); stroke-width: 1; }
.chart .line { fill: none; stroke: var(--c); stroke-width: 1.7; stroke-linejoin: round; stroke-linecap: round; }
.chart .line, .chart .edge, .chart .grid { vector-effect: non-scaling-stroke; }
.chart .dashed { stroke-dasharray: 5 5; stroke-width: 1.3; }
.chart .dot { fill: var(--c); }
.chart .faint { fill-opacity: .45; }
.chart .band { fill: var(--c); fill-opacity: .16; stroke: none; }
.chart .zero { stroke: var(--c); stroke-width: 2; vector-effect: non-scaling-stroke; }
.chart ul { list-style: none; display: flex; flex-wrap: wrap; gap: .1rem .9rem; margin: .15rem 0 .25rem; padding: 0;
  font-size: .8rem; color: var(--label); }
.chart li::before { content: ""; display: inline-block; width: 1.1em; border-top: 3px solid var(--c);
  vertical-align: .25em; margin-right: .4em; }
.chart li.dashed::before { border-top-style: dashed; }
.chart li.dots::before { width: .6em; height: .6em; border: 0; border-radius: 50%; background: var(--c);
  vertical-align: 0; }
""" + "".join(f".chart .s{i} {{ --c: var(--c{i}); }}\n" for i in range(COLOURS))


@dataclass(frozen=True)
class Series:
    """A series of points in one colour.

    Attributes:
        label: its name in the legend.
        x: float[N], positions.
        y: float[N], values; there is a gap where one is not finite.
        band: lower and upper edge of an interval around it, float[N] each; None: no interval.
        dashed: whether it is dashed, as a reference.
        dots: whether each point of the line is drawn.
    """

    label: str
    x: np.ndarray
    y: np.ndarray
    band: tuple[np.ndarray, np.ndarray] | None = None
    dashed: bool = False
    dots: bool = False


@dataclass(frozen=True)
class Axis:
    """The scale of one axis.

    Attributes:
        label: its label, with the unit.
        low: the axis begins at this value or below; None for what the data need.
        high: the axis ends at this value or above; None for what the data need.
        log: whether it is logarithmic; values of 0 and below are then shown as strokes on the lower edge.
        whole: whether ticks are at integers only.
    """

    label: str
    low: float | None = None
    high: float | None = None
    log: bool = False
    whole: bool = False


@dataclass(frozen=True)
class _Scale:
    """A linear or logarithmic map from values to positions in the picture."""

    low: float
    high: float
    log: bool
    begin: float
    end: float

    def __call__(self, values: np.ndarray | float) -> np.ndarray:
        values = np.asarray(values, np.float64)
        low, high = self.low, self.high
        if self.log:
            values = np.log10(np.where(values > 0, values, np.nan))
            low, high = math.log10(low), math.log10(high)
        return self.begin + (values - low) / (high - low) * (self.end - self.begin)


def line_chart(title: str, series: Sequence[Series], x: Axis, y: Axis, about: str = "") -> str:
    """Draw curves over a common axis.

    Args:
        title: the figure's title.
        series: the curves; one without finite values appears in the legend only.
        x: horizontal axis.
        y: vertical axis.
        about: a sentence under the title that explains the figure.

    Returns:
        An HTML figure, with a sentence instead of the picture if no value is finite.
    """
    shown = [(i % COLOURS, of) for i, of in enumerate(series)]
    across, up = _scales([of for _, of in shown], x, y)
    legend = [(f"s{i}" + " dashed" * of.dashed, of.label) for i, of in shown] if len(series) > 1 else []
    if across is None or up is None:
        return _figure(title, about, legend, "")
    parts = [_frame(across, up, x, y)]
    parts += [_band(i, of.x, of.band, across, up) for i, of in shown if of.band is not None]
    parts += [_curve(i, of, across, up) for i, of in shown]
    return _figure(title, about, legend, _picture(title, parts))


def scatter(title: str, groups: Sequence[Series], x: Axis, y: Axis, about: str = "") -> str:
    """Draw points of two quantities on the same scale, with the line of equality.

    Args:
        title: the figure's title.
        groups: the points, the last group in full colour and those before it faint.
        x: horizontal axis; its range serves for both.
        y: vertical axis.
        about: a sentence under the title.

    Returns:
        An HTML figure, as for `line_chart`.
    """
    legend = [(f"s{i % COLOURS} dots", of.label) for i, of in enumerate(groups)] if len(groups) > 1 else []
    there = [np.isfinite(of.x) & np.isfinite(of.y) for of in groups]
    columns = [side[kept] for of, kept in zip(groups, there, strict=True) for side in (of.x, of.y)]
    up = _scale(columns, x, BOTTOM, TOP, MARGIN)
    if up is None:
        return _figure(title, about, legend, "")
    across = replace(up, begin=LEFT, end=RIGHT)
    parts = [_frame(across, up, x, y)]
    parts.append(f'<path class="edge dashed" d="M{LEFT} {BOTTOM}L{RIGHT} {TOP}"/>')
    for i, of in enumerate(groups):
        faint = " faint" if i < len(groups) - 1 else ""
        parts.append(f'<g class="s{i % COLOURS}">{_dots(of, across, up, "dot" + faint, x.label, y.label)}</g>')
    return _figure(title, about, legend, _picture(title, parts))


def ticks(low: float, high: float, count: int = 5, whole: bool = False) -> list[float]:
    """Return round numbers in a range: multiples of 1, 2 or 5 times a power of ten, about `count` of them."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    step = max(step, 1.0) if whole else step
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return powers of ten in a range, thinned if there are many; below two decades also their 2- and 5-folds."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if math.log10(high / low) < 2 else (1,)
    every = -(-len(decades) // 6)
    found = [factor * 10.0**d for d in decades if d % every == 0 for factor in factors]
    return [value for value in found if low * 0.999 <= value <= high * 1.001]


def number(value: float) -> str:
    """Format a tick's value in few characters: 0.05, 250, 12k, 1e-06."""
    if abs(value) >= 10_000:
        return f"{value / 1e6:g}M" if abs(value) >= 1e6 else f"{value / 1e3:g}k"
    return f"{value:.6g}"


def thin(x: np.ndarray, y: np.ndarray, most: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Reduce the points of a long curve, keeping peaks and gaps.

    Args:
        x: float[N].
        y: float[N].
        most: number of groups into which neighbours are merged.

    Returns:
        The columns unchanged if they have at most 2 · `most` points; otherwise the lowest and the highest point of each
        group in order, or one gap where a group has no value.
    """
    if len(x) <= 2 * most:
        return x, y
    kept: list[int] = []
    for group in np.array_split(np.arange(len(x)), most):
        finite = group[np.isfinite(y[group])]
        kept += sorted({finite[np.argmin(y[finite])], finite[np.argmax(y[finite])]}) if len(finite) else [group[0]]
    return x[kept], y[kept]


def _scales(series: Iterable[Series], x: Axis, y: Axis) -> tuple[_Scale | None, _Scale | None]:
    across, up = [], []
    for of in series:
        there = np.isfinite(of.y) & np.isfinite(of.x)
        across.append(of.x[there])
        up += [edge[there] for edge in (of.y, *(of.band or ()))]
    return _scale(across, x, LEFT, RIGHT, 0.0), _scale(up, y, BOTTOM, TOP, MARGIN)


def _scale(columns: list[np.ndarray], axis: Axis, begin: float, end: float, margin: float) -> _Scale | None:
    values = np.concatenate([*columns, np.empty(0)])
    values = values[np.isfinite(values)]
    if not values.size:
        return None
    if axis.log:
        # If all values are zero, any decade serves, as every value is a stroke on the edge.
        values = values[values > 0] if (values > 0).any() else np.ones(1)
        low, high = math.log10(values.min()), math.log10(values.max())
    else:
        low, high = float(values.min()), float(values.max())
    room = margin * (high - low) or (0.5 if high == low else 0.0)
    low, high = low - room, high + room
    if axis.log:
        low, high = 10.0**low, 10.0**high
    low = low if axis.low is None else min(axis.low, float(values.min()))
    high = high if axis.high is None else max(axis.high, float(values.max()))
    return _Scale(low, high if high > low else low + 1, axis.log, begin, end)


def _frame(across: _Scale, up: _Scale, x: Axis, y: Axis) -> str:
    parts = []
    for value in log_ticks(up.low, up.high) if up.log else ticks(up.low, up.high, whole=y.whole):
        at = float(up(value))
        parts.append(f'<path class="grid" d="M{LEFT} {at:.1f}H{RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{number(value)}</text>')
    for value in log_ticks(across.low, across.high) if across.log else ticks(across.low, across.high, 6, x.whole):
        at = float(across(value))
        parts.append(f'<path class="edge" d="M{at:.1f} {BOTTOM}v4"/>')
        parts.append(f'<text x="{at:.1f}" y="{BOTTOM + 16}" text-anchor="middle">{number(value)}</text>')
    parts.append(f'<path class="edge" d="M{LEFT} {BOTTOM}H{RIGHT}"/>')
    parts.append(f'<text x="{RIGHT}" y="{HEIGHT - 3}" text-anchor="end">{escape(x.label)}</text>')
    parts.append(f'<text x="0" y="12">{escape(y.label)}</text>')
    return "".join(parts)


def _curve(i: int, of: Series, across: _Scale, up: _Scale) -> str:
    none = np.isfinite(of.y) & (of.y <= 0) & up.log
    x, y = thin(of.x, np.where(none, np.nan, of.y))
    there = np.isfinite(x) & np.isfinite(y)
    right, top = across(x), up(y)
    path, lone = [], []
    for place, shown in enumerate(there):
        before, after = place > 0 and there[place - 1], place + 1 < len(there) and there[place + 1]
        if shown and not (before or after):
            lone.append(place)
        elif shown:
            path.append(f"{'L' if before else 'M'}{right[place]:.1f} {top[place]:.1f}")
    line = f'<path class="line{" dashed" * of.dashed}" d="{"".join(path)}"/>' if path else ""
    strokes = "".join(f"M{at} {BOTTOM}v-7" for at in np.unique(np.round(across(of.x[none]), 1)))
    zeros = f'<path class="zero" d="{strokes}"/>' if strokes else ""
    dotted = of if of.dots else Series("", x[lone], y[lone])
    return f'<g class="s{i}">{line}{zeros}{_dots(dotted, across, up, "dot", "", of.label)}</g>'


def _band(i: int, x: np.ndarray, band: tuple[np.ndarray, np.ndarray], across: _Scale, up: _Scale) -> str:
    places = [across(x), *map(up, band)]
    there = np.isfinite(places).all(axis=0)
    at, low, high = (place[there] for place in places)
    corners = [*zip(at, high, strict=True), *zip(at[::-1], low[::-1], strict=True)]
    points = " ".join(f"{right:.1f},{down:.1f}" for right, down in corners)
    return f'<g class="s{i}"><polygon class="band" points="{points}"/></g>'


def _dots(of: Series, across: _Scale, up: _Scale, kind: str, x_label: str, y_label: str) -> str:
    """Draw points with their values as tooltips."""
    dots = []
    for x, y, at, down in zip(of.x, of.y, across(of.x), up(of.y), strict=True):
        if math.isfinite(at) and math.isfinite(down):
            told = f"{x_label} {x:.4g}, {y_label} {y:.4g}".strip()
            dots.append(
                f'<circle class="{kind}" cx="{at:.1f}" cy="{down:.1f}" r="2.6"><title>{escape(told)}</title></circle>'
            )
    return "".join(dots)


def _picture(title: str, parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'


def _figure(title: str, about: str, legend: Sequence[tuple[str, str]], picture: str) -> str:
    told = f'<span class="about">{escape(about)}</span>' if about else ""
    items = "".join(f'<li class="{kind}">{escape(label)}</li>' for kind, label in legend)
    return (
        f'<figure class="chart"><figcaption>{escape(title)}{told}</figcaption>'
        + (f"<ul>{items}</ul>" if items else "")
        + (picture or '<p class="about">Nothing measured yet.</p>')
        + "</figure>"
    )
