"""Small SVG charts for the page. Colours are CSS classes and variables, so they follow light and dark.

Line charts and maps are drawn for a width of 340 pixels, a phone's; the page lays them out side by side where there
is room. Every mark has a <title>, which browsers show on hovering.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from markupsafe import Markup

WIDTH, HEIGHT = 340, 190
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 26
MOST_POINTS = 250  # of one line: more are averaged in equal bins
COLOURS = ("#3b6fd4", "#d9822b", "#2a9d6f", "#c2477f", "#8a63d2", "#b59b1b", "#2aa5b8", "#d1495b", "#6b7a8f", "#7d5a3c")
UNLABELLED = "#8796ab"


class Line(NamedTuple):
    """A curve; lines of one seed share the `colour` number."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    colour: int = 0
    dashed: bool = False


class Dots(NamedTuple):
    """One row of a dot plot: the seeds' values, their mean and standard deviation."""

    label: str
    values: Sequence[float]
    mean: float
    std: float
    mark: str  # "best", "tied" or ""


def colour(index: int, count: int = 0) -> str:
    """The index-th of `count` colours: a fixed palette for up to ten, evenly spread hues beyond."""
    if max(count, index + 1) <= len(COLOURS):
        return COLOURS[index]
    return hex_colour(colorsys.hls_to_rgb(index / count, 0.46 + 0.06 * (index % 3), 0.55 + 0.2 * (index % 2)))


def hex_colour(rgb: Iterable[float]) -> str:
    """(red, green, blue) in 0..1 as "#rrggbb"."""
    return "#" + "".join(f"{round(255 * float(value)):02x}" for value in rgb)


def line_chart(lines: Sequence[Line], last: float, label: str, log: bool = False) -> Markup:
    """Lines over the training steps 0..last; `log`: powers of two are equally far apart."""
    lines = [thinned(line) for line in lines]
    ys = np.concatenate([line.y for line in lines])
    x_ticks = [tick for tick in ticks(0, last, int(last) if 1 <= last <= 6 else 4) if tick <= last]
    y_ticks = doublings(ys.min(), ys.max()) if log else ticks(ys.min(), ys.max(), 4)
    bend = math.log2 if log else float
    x_of = _scale(0, last, LEFT, WIDTH - RIGHT)
    straight = _scale(bend(y_ticks[0]), bend(y_ticks[-1]), HEIGHT - BOTTOM, TOP)

    def y_of(value: float) -> float:
        return straight(bend(value))

    body = [
        tag("line", class_="grid", x1=LEFT, x2=WIDTH - RIGHT, y1=y_of(tick), y2=y_of(tick))
        + tag("text", short(tick), class_="tick", text_anchor="end", x=LEFT - 6, y=y_of(tick) + 4)
        for tick in y_ticks
    ]
    body += [tag("text", short(t), class_="tick", text_anchor="middle", x=x_of(t), y=HEIGHT - 8) for t in x_ticks]
    for line in lines:
        points = " ".join(f"{x_of(x):.1f},{y_of(y):.1f}" for x, y in zip(line.x, line.y, strict=True))
        drawn = (
            tag("polyline", points=points)
            if len(line.x) > 1
            else tag("circle", cx=x_of(line.x[0]), cy=y_of(line.y[0]), r=3)
        )
        title = tag("title", escape(f"{line.label}: ends at {line.y[-1]:.4g}"))
        dashes = " dashed" if line.dashed else ""
        body.append(
            tag("g", drawn + title, class_=f"line{dashes}", style=f"--c:{colour(line.colour, line.colour + 1)}")
        )
    return svg(body, WIDTH, HEIGHT, label)


def thinned(line: Line, most: int = MOST_POINTS) -> Line:
    """At most `most` points: the means of equal bins."""
    if len(line.x) <= most:
        return line
    x, y = ([float(part.mean()) for part in np.array_split(np.asarray(v, float), most)] for v in (line.x, line.y))
    return line._replace(x=x, y=y)


def dot_plot(rows: Sequence[Dots], unit: str, label: str, reference: Mapping[str, float]) -> Markup:
    """One row per run: each seed a dot, the mean a bar, ± one std a line. `reference` values are dashed uprights."""
    step, names, width = 26, 140, 420
    values = [v for row in rows for v in (*row.values, row.mean - row.std, row.mean + row.std)] + [*reference.values()]
    marks = ticks(min(values), max(values), 5)
    bottom = step * len(rows) + 6
    x_of = _scale(marks[0], marks[-1], names, width - 18)
    body = []
    for mark in marks:
        body.append(tag("line", class_="grid", x1=x_of(mark), x2=x_of(mark), y1=4, y2=bottom))
        text = f"{mark:g}{unit if mark == marks[-1] else ''}"
        body.append(tag("text", text, class_="tick", text_anchor="middle", x=x_of(mark), y=bottom + 16))
    for name, value in reference.items():
        title = tag("title", escape(f"{name}: {value:.1f}"))
        body.append(tag("line", title, class_="reference", x1=x_of(value), x2=x_of(value), y1=4, y2=bottom))
    for index, row in enumerate(rows):
        y = 4 + step * (index + 0.5)
        seeds = ", ".join(f"{value:.2f}" for value in row.values)
        parts = [
            tag("title", escape(f"{row.label}: {row.mean:.2f} ± {row.std:.2f}{unit}; seeds {seeds}")),
            tag("text", escape(shortened(row.label, 20)), class_="name", x=4, y=y + 4),
            tag("line", class_="std", x1=x_of(row.mean - row.std), x2=x_of(row.mean + row.std), y1=y, y2=y),
            *(tag("circle", cx=x_of(value), cy=y, r=3.4) for value in row.values),
            tag("line", class_="mean", x1=x_of(row.mean), x2=x_of(row.mean), y1=y - 7, y2=y + 7),
        ]
        body.append(tag("g", "".join(parts), class_=f"dots {row.mark}".strip()))
    return svg(body, width, bottom + 22, label)


def scatter(
    points: Float[np.ndarray, "n 2"],
    group: Int[np.ndarray, " n"],
    groups: int,
    titles: Sequence[str],
    label: str,
) -> Markup:
    """Points of the plane, both axes to one scale, coloured by group (-1: none)."""
    size, edge = 340, 12
    low, high = points.min(0), points.max(0)
    scale = (size - 2 * edge) / max(float((high - low).max()), 1e-12)
    place = size / 2 + (points - (low + high) / 2) * scale * (1, -1)
    body = []
    for index in np.unique(group):
        marks = [
            tag("circle", tag("title", escape(titles[int(row)])), cx=place[row, 0], cy=place[row, 1], r=3)
            for row in np.flatnonzero(group == index)
        ]
        shade = colour(int(index), groups) if index >= 0 else UNLABELLED
        body.append(tag("g", "".join(marks), class_="points", style=f"--c:{shade}"))
    return svg(body, size, size, label)


def confusion_matrix(counts: Int[np.ndarray, "c c"], names: Sequence[str], label: str) -> Markup:
    """Rows: the true class; columns: the predicted one; shade: the share of the row."""
    cell = 34 if len(names) <= 20 else 18
    side = 12 + 7 * max(len(shortened(name, 18)) for name in names)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    body = []
    for i, truth in enumerate(names):
        middle = side + cell * (i + 0.5)
        name = escape(shortened(truth, 18))
        body.append(tag("text", name, class_="name", text_anchor="end", x=side - 6, y=middle + 4))
        body.append(tag("text", name, class_="name", transform=f"translate({middle + 3:.1f} {side - 6}) rotate(-55)"))
        for j, predicted in enumerate(names):
            title = f"{truth} taken for {predicted}: {counts[i, j]} ({100 * share[i, j]:.0f} % of {truth})"
            parts = tag("title", escape(title)) + tag(
                "rect", class_="right" if i == j else "wrong", x=side + cell * j, y=side + cell * i, width=cell - 1,
                height=cell - 1, rx=2, style=f"--s:{share[i, j]:.3f}",
            )  # fmt: skip
            if counts[i, j] and cell > 20:
                strong = "count strong" if share[i, j] > 0.55 else "count"
                centre = side + cell * (j + 0.5)
                parts += tag("text", str(counts[i, j]), class_=strong, text_anchor="middle", x=centre, y=middle + 4)
            body.append(tag("g", parts))
    edge = side + cell * len(names)
    return svg(body, edge + 60, edge + 4, label, fixed=True)


def ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers, the first not above `low`, the last not below `high`."""
    rough = float(high - low or abs(high) or 1.0) / count
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= rough * 0.999)
    start, stop = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{step * index:.10g}") for index in range(start, max(stop, start + 1) + 1)]


def doublings(low: float, high: float) -> list[float]:
    """Powers of two (or of four, sixteen, ... where there are many) around positive values."""
    start, stop = math.floor(math.log2(low)), math.ceil(math.log2(high))
    step = 2 ** max(0, math.ceil(math.log2(max(stop - start, 1) / 6)))
    return [2.0**power for power in range(start, max(stop, start + 1) + step, step)]


def tag(name: str, content: str = "", **attributes: str | float) -> str:
    """One SVG element; `class_` is `class`, `text_anchor` is `text-anchor`, numbers have at most one decimal."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{value if isinstance(value, str) else f"{round(float(value), 1):g}"}"'
        for key, value in attributes.items()
    )
    return f"<{name}{written}>{content}</{name}>" if content else f"<{name}{written}/>"


def svg(body: Sequence[str], width: float, height: float, label: str, fixed: bool = False) -> Markup:
    """A whole picture, as wide as its place on the page, or `fixed` in pixels."""
    size = {"width": width, "height": height} if fixed else {}
    box = f"0 0 {width:.0f} {height:.0f}"
    return Markup(tag("svg", "".join(body), viewBox=box, role="img", aria_label=escape(label), **size))


def shortened(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def short(value: float) -> str:
    """A tick's text in about six characters: 20000 as 20k, 0.00015 as 1.5e-4."""
    if value and (abs(value) >= 1e6 or abs(value) < 1e-3):
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    return f"{value / 1000:g}k" if abs(value) >= 10_000 else f"{value:.4g}"


def _scale(low: float, high: float, start: float, stop: float) -> Callable[[float], float]:
    span = float(high - low) or 1.0
    return lambda value: start + (float(value) - float(low)) / span * (stop - start)
