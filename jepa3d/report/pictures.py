"""The report's pictures, each drawn once: as SVG inside the page, in the page's colours, and as files in plots/.

A `Panel` is one picture: what it is called, how large it is on the page and how it is drawn. `svg` makes it part of
the page; `file` puts several of them side by side in a PNG. Equal inputs give equal bytes.
"""

from __future__ import annotations

import colorsys
import hashlib
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from textwrap import fill
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from jaxtyping import Float, Int
from markupsafe import Markup
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, NullLocator
from numpy.typing import NDArray

MOST_POINTS = 250  # of one line: more are averaged in equal bins
COLOURS = ("#3b6fd4", "#d9822b", "#2a9d6f", "#c2477f", "#8a63d2", "#b59b1b", "#2aa5b8", "#d1495b", "#6b7a8f", "#7d5a3c")
UNLABELLED = "#8796ab"
MARKERS = ("o", "^", "s", "D", "v", "P")  # of classes: ten colours of one shape, then the same ten of the next
SHAPES = ("circle", "triangle", "square", "diamond", "wedge", "cross")  # the same in the page's legends (style.css)
FAR = 0.45  # how much of the paper's white the farthest points of a cloud have
# the light colours of style.css; in the page each becomes its variable, so that pictures follow dark mode
INK, SOFT, FAINT, RULE, ACCENT, GOOD = "#1c2430", "#5b6675", "#8a94a3", "#e3e6ea", "#2f5fc4", "#1f7a55"
WRONG, PAPER = "#c8503c", "#fbfbf9"
VARIABLES = {INK: "ink", SOFT: "soft", FAINT: "faint", RULE: "rule", ACCENT: "accent", GOOD: "good", WRONG: "wrong",
             PAPER: "paper"}  # fmt: skip
STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same letters everywhere
    "font.size": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": RULE,
    "axes.axisbelow": True,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "grid.color": RULE,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "ytick.major.size": 0.0,
    "svg.hashsalt": "jepa3d",
}
Draw = Callable[[Any], None]  # on matplotlib axes


class Line(NamedTuple):
    """A curve; lines of one seed share the `colour` number."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    colour: int = 0
    dashed: bool = False


class Span(NamedTuple):
    """Means over the values of a setting, each with the ends of its interval."""

    label: str
    x: Sequence[float]
    mean: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    colour: int = 0
    dashed: bool = False


class Dots(NamedTuple):
    """One row of a dot plot: the seeds' values, their mean and standard deviation."""

    label: str
    values: Sequence[float]
    mean: float
    std: float
    best: bool


class Cloud(NamedTuple):
    """A coloured cloud: what one 3D view shows."""

    title: str
    points: Float[np.ndarray, "P 3"]
    colours: tuple[str, ...]  # [P], "#rrggbb"


class Panel(NamedTuple):
    """One picture. `size` and the axes' margins `room` (left, right, top, bottom) are pixels of the page."""

    title: str
    draw: Draw
    size: tuple[float, float] = (340, 190)
    room: tuple[float, float, float, float] = (46, 10, 10, 26)
    hover: tuple[str, ...] = ()  # what each point of a scatter says


def colour(index: int, count: int = 0) -> str:
    """The index-th of `count` colours: a fixed palette for up to ten, evenly spread hues beyond."""
    if max(count, index + 1) <= len(COLOURS):
        return COLOURS[index]
    return hex_colour(colorsys.hls_to_rgb(index / count, 0.46 + 0.06 * (index % 3), 0.55 + 0.2 * (index % 2)))


def class_look(index: int, count: int) -> tuple[str, str, str]:
    """A class's colour, its marker in matplotlib's words, and in the page's. Up to sixty classes all look different."""
    if count > len(COLOURS) * len(MARKERS):
        return colour(index, count), MARKERS[0], SHAPES[0]
    shape = index // len(COLOURS)
    return COLOURS[index % len(COLOURS)], MARKERS[shape], SHAPES[shape]


def hex_colour(rgb: Iterable[float]) -> str:
    """(red, green, blue) in 0..1 as "#rrggbb"."""
    return "#" + "".join(f"{round(255 * float(value)):02x}" for value in rgb)


def line_chart(title: str, lines: Sequence[Line], last: float, log: bool = False) -> Panel:
    """Lines over the steps 0..last; `log`: powers of two are equally far apart."""

    def draw(axes: Any) -> None:
        for line in map(thinned, lines):
            axes.plot(
                line.x, line.y, "--" if line.dashed else "-", marker="." if len(line.x) == 1 else "", lw=1.4,
                alpha=0.75 if line.dashed else 1, color=colour(line.colour, line.colour + 1), label=line.label,
                gid=_hover(f"{line.label}: ends at {line.y[-1]:.4g}"),
            )  # fmt: skip
        if log:
            axes.set_yscale("log", base=2)
            axes.yaxis.set_minor_locator(NullLocator())
            axes.set_ylim(*(2.0 ** bound(np.log2(axes.get_ylim()[at])) for at, bound in ((0, np.floor), (1, np.ceil))))
        axes.set_xlim(0, last)
        axes.xaxis.set_major_locator(MaxNLocator(int(last) if 1 <= last <= 6 else 4, integer=last >= 1))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, _: short(value))
        axes.grid(axis="y")

    return Panel(title, draw)


def span_chart(title: str, spans: Sequence[Span], doubling: bool = False) -> Panel:
    """Means with intervals over a setting's values; `doubling`: powers of two are equally far apart."""

    def draw(axes: Any) -> None:
        every = sorted({value for span in spans for value in span.x})
        for number, span in enumerate(spans):
            shade = colour(span.colour, span.colour + 1)
            beside = 0.02 * (number - (len(spans) - 1) / 2)  # so that no interval lies on another
            at = [
                value * (every[-1] / every[0]) ** beside if doubling else value + beside * (every[-1] - every[0])
                for value in span.x
            ]
            axes.plot(at, span.mean, "--" if span.dashed else "-", color=shade, lw=1.4, label=span.label)
            for x, value, mean, low, high in zip(at, span.x, span.mean, span.low, span.high, strict=True):
                words = f"{span.label}, {value:g}: {mean:.4g} [{low:.4g}, {high:.4g}]"
                said = {"color": shade, "gid": _hover(words)}
                axes.plot([x, x], [low, high], lw=1.2, alpha=0.6, **said)
                axes.plot([x], [mean], "o", ms=5, mew=0, **said)
        if doubling:
            axes.set_xscale("log", base=2)
            axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks(every, [f"{value:g}" for value in every])
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.grid(axis="y")

    return Panel(title, draw)


def dot_plot(title: str, rows: Sequence[Dots], unit: str, reference: Mapping[str, float] = {}) -> Panel:
    """One row per run: each seed a dot, the mean an upright, ± one std a line. `reference` values are dashed."""

    def draw(axes: Any) -> None:
        for name, value in reference.items():
            axes.axvline(value, color=FAINT, ls="--", lw=1, gid=_hover(f"{name}: {value:.4g}"))
        for y, row in enumerate(rows):
            shade, seeds = GOOD if row.best else ACCENT, ", ".join(f"{value:.4g}" for value in row.values)
            said = {"color": shade, "gid": _hover(f"{row.label}: {row.mean:.4g} ± {row.std:.2g} {unit}; {seeds}")}
            axes.plot([row.mean - row.std, row.mean + row.std], [y, y], lw=1.2, **said)
            axes.plot(row.values, [y] * len(row.values), "o", ms=6, mew=0, alpha=0.5, **said)
            axes.plot([row.mean], [y], "|", ms=13, mew=2.2, **said)
            beside = axes.get_yaxis_transform()
            axes.text(1.02, y, f"{row.mean:.1f}", transform=beside, va="center", color=INK)
        axes.set_yticks(range(len(rows)), [shortened(row.label, 20) for row in rows])
        for label, row in zip(axes.get_yticklabels(), rows, strict=True):
            label.set(color=INK, fontweight="bold" if row.best else "normal")
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel(unit, loc="right", color=SOFT)
        axes.grid(axis="x")

    return Panel(title, draw, (420, 26 * len(rows) + 44), (140, 44, 4, 40))


def scatter(
    title: str,
    points: Float[np.ndarray, "n 2"],
    group: Int[np.ndarray, " n"],
    names: Sequence[str],
    hover: Sequence[str],
) -> Panel:
    """Points of the plane, both axes to one scale, coloured by group (-1: none); `hover`: what each of them says."""

    def draw(axes: Any) -> None:
        for index in np.unique(group):
            shade, marker, _ = class_look(int(index), len(names)) if index >= 0 else (UNLABELLED, MARKERS[0], "")
            own, name = points[group == index], names[index] if index >= 0 else "unlabelled"
            axes.scatter(*own.T, s=26, color=shade, marker=marker, alpha=0.82, lw=0, label=name)
        axes.set(xticks=[], yticks=[], aspect="equal")
        axes.spines[:].set_visible(False)

    order = np.argsort(group, kind="stable")
    return Panel(title, draw, (340, 340), (8, 8, 8, 8), tuple(hover[row] for row in order))


def confusion(title: str, counts: Int[np.ndarray, "c c"], names: Sequence[str]) -> Panel:
    """Rows: the true class; columns: the predicted one; shade: the share of the row; blue is right, red is wrong."""
    cell = 34 if len(names) <= 20 else 18
    side = 12 + 7 * max(len(shortened(name, 18)) for name in names)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)

    def draw(axes: Any) -> None:
        for i, j in np.ndindex(counts.shape):
            of_row = float(share[i, j])
            said = f"{names[i]} taken for {names[j]}: {counts[i, j]} ({100 * of_row:.0f} % of {names[i]})"
            look: dict[str, Any] = {
                "facecolor": ACCENT if i == j else WRONG,
                "alpha": 0.06 + 0.9 * of_row,
                "gid": _hover(said),
            }
            axes.add_patch(Rectangle((j - 0.48, i - 0.48), 0.96, 0.96, lw=0, **look))
            if counts[i, j] and cell > 20:
                shade = PAPER if of_row > 0.55 else SOFT
                axes.text(j, i, str(counts[i, j]), ha="center", va="center", color=shade)
        short_names = [shortened(name, 18) for name in names]
        axes.set_xticks(range(len(names)), short_names, rotation=55, ha="left", rotation_mode="anchor", color=INK)
        axes.set_yticks(range(len(names)), short_names, color=INK)
        axes.tick_params(top=False, labeltop=True, bottom=False, labelbottom=False)
        axes.set(xlim=(-0.5, len(names) - 0.5), ylim=(len(names) - 0.5, -0.5), aspect="equal")
        axes.spines[:].set_visible(False)

    edge = side + cell * len(names)
    return Panel(title, draw, (edge + 60, edge + 4), (side, 60, side, 4))


def cloud(picture: Cloud, turn: float = 0.6, tilt: float = 0.35) -> Panel:
    """A coloured cloud from where the page's 3D views start: near points over far ones, which are paler."""

    def draw(axes: Any) -> None:
        x, y, depth = _turned(picture.points, turn, tilt).T
        order = np.argsort(depth, kind="stable")
        away = FAR * (depth.max() - depth) / max(float(np.ptp(depth)), 1e-9)
        rgb = np.array([to_rgb(one) for one in picture.colours])
        shades = rgb + (1 - rgb) * away[:, None]
        axes.scatter(x[order], y[order], s=16, c=shades[order], linewidths=0)
        reach = 1.04 * max(float(np.ptp(x)), float(np.ptp(y)), 1e-9) / 2  # the whole shape, and no more
        middle = (x.max() + x.min()) / 2, (y.max() + y.min()) / 2
        axes.set(xlim=(middle[0] - reach, middle[0] + reach), ylim=(middle[1] - reach, middle[1] + reach))
        axes.set_aspect("equal")
        axes.set_axis_off()

    return Panel(picture.title, draw, (220, 220))


def _turned(points: NDArray[Any], turn: float, tilt: float) -> NDArray[Any]:
    """Turned about y, then tilted about x."""
    x = points[:, 0] * np.cos(turn) + points[:, 2] * np.sin(turn)
    z = points[:, 2] * np.cos(turn) - points[:, 0] * np.sin(turn)
    y = points[:, 1] * np.cos(tilt) - z * np.sin(tilt)
    return np.stack([x, y, z * np.cos(tilt) + points[:, 1] * np.sin(tilt)], 1)


def thinned(line: Line, most: int = MOST_POINTS) -> Line:
    """At most `most` points: the means of equal bins."""
    if len(line.x) <= most:
        return line
    x, y = ([float(part.mean()) for part in np.array_split(np.asarray(v, float), most)] for v in (line.x, line.y))
    return line._replace(x=x, y=y)


def shortened(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def short(value: float) -> str:
    """A tick's text in about six characters: 20000 as 20k, 0.00015 as 1.5e-4."""
    if value and (abs(value) >= 1e6 or abs(value) < 1e-3):
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    return f"{value / 1000:g}k" if abs(value) >= 10_000 else f"{value:.4g}"


# --- as files and inside the page


def file(
    panels: Sequence[Panel],
    across: int,
    form: str = "png",
    legend: bool = False,
    title: str = "",
    key: Mapping[str, str] = {},
) -> bytes:
    """The panels side by side under their titles; without date and program.

    Below them all stands one legend: of the lines and markers (`legend`), or of what the colours mean (`key`).
    """
    across = min(across, len(panels))
    down = -(-len(panels) // across)
    width, height = max(panel.size[0] for panel in panels), max(panel.size[1] for panel in panels)
    with matplotlib.rc_context({**STYLE, "svg.fonttype": "path"}):
        figure = Figure(
            (across * width / 72, (down * (height + 24) + 40 * (legend or bool(key))) / 72), layout="constrained"
        )
        axes = list(figure.subplots(down, across, squeeze=False).flat)
        for place, panel in zip(axes, panels, strict=False):
            panel.draw(place)
            place.set_title(fill(panel.title, max(12, int(width / 6.5))))
        for place in axes[len(panels) :]:
            place.set_axis_off()
        known: dict[str, Any] = {name: Line2D([], [], marker="o", ls="", color=shade) for name, shade in key.items()}
        if legend:
            every = [zip(*place.get_legend_handles_labels(), strict=True) for place in axes]
            known |= {label: handle for each in every for handle, label in each}
        if known:
            where = {"loc": "outside lower center", "ncols": min(6, len(known)), "frameon": False}
            figure.legend(known.values(), known.keys(), **where)
        figure.suptitle(title, fontsize=10)
        buffer = io.BytesIO()
        figure.savefig(buffer, format=form, dpi=110, metadata={"svg": {"Date": None}}.get(form, {"Software": None}))
    return buffer.getvalue()


def svg(panel: Panel, fixed: bool = False) -> Markup:
    """The picture as a part of the page, as wide as its place there, or `fixed` in pixels."""
    (width, height), (left, right, top, bottom) = panel.size, panel.room
    inside = (left / width, bottom / height, 1 - (left + right) / width, 1 - (top + bottom) / height)
    buffer = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.fonttype": "none", "axes.facecolor": "none"}):
        figure = Figure((width / 72, height / 72), facecolor="none")
        FigureCanvasSVG(figure)
        panel.draw(figure.add_axes(inside))
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    size = f' width="{width:g}" height="{height:g}"' if fixed else ""
    head = f'<svg viewBox="0 0 {width:g} {height:g}"{size} role="img" aria-label="{escape(panel.title)}">'
    return Markup(head + _for_the_page(buffer.getvalue(), panel) + "</svg>")


def _hover(text: str) -> str:
    """The id of an artist that says `text` when the mouse is over it."""
    return f"hover:{text}"


def _for_the_page(drawn: str, panel: Panel) -> str:
    """What is inside of matplotlib's <svg>, in the page's fonts and colours, with texts for hovering.

    Its style sheet would apply to the whole page, and its ids would be there many times: only those that are referred
    to stay, with the picture's own name before them, for what is in a folded part of the page cannot be referred to.
    """
    body = drawn[drawn.index(">", drawn.index("<svg")) + 1 : drawn.rindex("</svg>")]
    body = re.sub(r"<style.*?</style>|<metadata.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"""<g id=(["'])hover:(.*?)\1>""", r"<g><title>\2</title>", body)
    named, own = set(re.findall(r"#([\w-]+)", body)), hashlib.sha256((panel.title + body).encode()).hexdigest()[:8]
    body = re.sub(r' id="([^"]*)"', lambda found: f' id="{own}{found[1]}"' if found[1] in named else "", body)
    body = re.sub(r'(url\(|href=")#', rf"\1#{own}", body)
    body = re.sub(r"<[^>]+>", lambda tag: re.sub(r"(\.\d\d)\d+", r"\1", tag[0]), body)
    body = re.sub(r"font-family: [^;\"]*(; )?", "", body)
    for light, name in VARIABLES.items():
        body = body.replace(light, f"var(--{name})")
    if panel.hover:
        said = iter(panel.hover)
        body = re.sub(r"(<use [^>]*)/>", lambda found: f"{found[1]}><title>{escape(next(said))}</title></use>", body)
    return re.sub(r"\s*\n\s*", " ", body)
