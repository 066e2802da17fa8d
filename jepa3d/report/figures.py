"""The report's pictures as PNG files, the result chart also as SVG: equal inputs give equal bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from jepa3d.report import charts
from jepa3d.report.details import Curves
from jepa3d.report.shapes import Cloud

STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same letters everywhere
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a94a6",
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "grid.color": "#e4e8ee",
    "xtick.color": "#4a5568",
    "ytick.color": "#4a5568",
    "svg.hashsalt": "jepa3d",
    "svg.fonttype": "path",
}


def encoded(figure: Figure, form: str = "png") -> bytes:
    """The picture's bytes, without date and program name."""
    buffer = io.BytesIO()
    metadata = {"Date": None} if form == "svg" else {"Software": None}
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format=form, dpi=130, metadata=metadata)
    return buffer.getvalue()


def results(columns: Mapping[str, Sequence[charts.Dots]], units: Mapping[str, str]) -> Figure:
    """One panel per evaluation: mean ± std of every run as a bar with its error bar, each seed a dot."""
    with matplotlib.rc_context(STYLE):
        rows = max(len(dots) for dots in columns.values())
        figure = _figure(8.0, len(columns) * (0.7 + 0.32 * rows))
        for axes, (name, dots) in zip(_panels(figure, len(columns), 1, len(columns)), columns.items(), strict=True):
            place = np.arange(len(dots))[::-1]
            axes.barh(place, [row.mean for row in dots], 0.62, color="#b9c8e8", zorder=2)
            means, stds = [row.mean for row in dots], [row.std for row in dots]
            axes.errorbar(means, place, xerr=stds, fmt="none", ecolor="#22304a", capsize=3, zorder=4)
            for y, row in zip(place, dots, strict=True):
                axes.plot(row.values, [y] * len(row.values), "o", ms=3.5, color="#3b6fd4", zorder=3)
            axes.set_yticks(place, [row.label for row in dots])
            axes.set_title(name)
            axes.set_xlabel(units[name])
            axes.grid(axis="x", zorder=0)
        return figure


def curves(panels: Mapping[str, Mapping[str, Sequence[charts.Line]]], titles: Mapping[str, str]) -> Figure:
    """Loss, monitors and learning rate of every run, four panels a row; one thin line per seed, dashed: EMA."""
    with matplotlib.rc_context(STYLE):
        flat = [(run, key, lines) for run, of_run in panels.items() for key, lines in of_run.items()]
        figure = _figure(11.0, 2.1 * -(-len(flat) // 4))
        for axes, (run, key, lines) in zip(_panels(figure, -(-len(flat) // 4), 4, len(flat)), flat, strict=True):
            for line in map(charts.thinned, lines):
                marker = "." if len(line.x) == 1 else ""
                dashes = "--" if line.dashed else "-"
                axes.plot(line.x, line.y, dashes, marker=marker, lw=0.9, color=charts.colour(line.colour))
            if key == "loss" and min(min(line.y) for line in lines) > 0:
                axes.set_yscale("log", base=2)
                axes.yaxis.set_major_formatter("{x:g}")
            axes.set_title(f"{run}: {titles.get(key, key)}")
            axes.set_xlim(0, max(line.x[-1] for of_key in panels[run].values() for line in of_key))
            axes.grid()
        return figure


def lines(panels: Sequence[tuple[str, Curves]], across: int, title: str) -> Figure:
    """Charts of several lines each, in percent; lines of one number have one colour, and one legend serves all."""
    with matplotlib.rc_context(STYLE):
        rows = -(-len(panels) // across)
        figure = _figure(2.9 * across, 2.2 * rows + 0.6)
        handles: dict[str, Any] = {}
        for axes, (heading, curves) in zip(_panels(figure, rows, across, len(panels)), panels, strict=True):
            for line in curves.lines:
                dashes = "--" if line.dashed else "-"
                [handles[line.label]] = axes.plot(line.x, line.y, dashes, lw=1.3, color=charts.colour(line.colour))
            axes.set_title(heading)
            axes.grid()
        figure.suptitle(title, fontsize=9)
        figure.legend(
            handles.values(), handles.keys(), loc="outside lower center", ncols=min(6, len(handles)), frameon=False
        )
        return figure


def confusion(counts: NDArray[np.int64], names: Sequence[str], title: str) -> Figure:
    """Rows: the true class; columns: the predicted one; shade: the share of the row."""
    with matplotlib.rc_context(STYLE):
        side = 2.2 + 0.34 * len(names)
        figure = _figure(side + 0.6, side)
        axes = figure.subplots()
        share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        axes.set_xticks(range(len(names)), names, rotation=60, ha="right")
        axes.set_yticks(range(len(names)), names)
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        axes.set_title(title)
        for i, j in np.argwhere(counts > 0) if len(names) <= 20 else ():
            axes.text(
                j,
                i,
                str(counts[i, j]),
                ha="center",
                va="center",
                size=7,
                color="w" if share[i, j] > 0.55 else "#22304a",
            )
        return figure


def maps(planes: Mapping[str, NDArray[Any]], groups: Mapping[str, NDArray[Any]], names: Sequence[str]) -> Figure:
    """One panel per run: test features in the plane of their two largest principal components, coloured by class."""
    with matplotlib.rc_context(STYLE):
        across = min(3, len(planes))
        figure = _figure(3.4 * across, 3.3 * -(-len(planes) // across) + 0.6)
        panels = _panels(figure, -(-len(planes) // across), across, len(planes))
        for axes, (run, plane) in zip(panels, planes.items(), strict=True):
            axes.plot(*plane[groups[run] < 0].T, "o", ms=3, color=charts.UNLABELLED)
            for index, name in enumerate(names):
                rows = groups[run] == index
                axes.plot(*plane[rows].T, "o", ms=3, color=charts.colour(index, len(names)), label=name)
            axes.set(xticks=[], yticks=[], aspect="equal")
            axes.spines[:].set_visible(False)
            axes.set_title(run)
        if len(names) <= 20:
            handles, labels = panels[0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside lower center", ncols=min(6, len(names)), frameon=False)
        return figure


def clouds(pictures: Sequence[Cloud], across: int = 4, turn: float = 0.6, tilt: float = 0.35) -> Figure:
    """Coloured clouds from one side, near points over far ones."""
    with matplotlib.rc_context(STYLE):
        across = min(across, len(pictures))
        figure = _figure(3.0 * across, 3.2 * -(-len(pictures) // across))
        for axes, cloud in zip(
            _panels(figure, -(-len(pictures) // across), across, len(pictures)), pictures, strict=True
        ):
            x, y, depth = _turned(cloud.points, turn, tilt).T
            order = np.argsort(depth, kind="stable")
            axes.scatter(x[order], y[order], s=9, c=[cloud.colours[index] for index in order], linewidths=0)
            axes.set(xlim=(-1.05, 1.05), ylim=(-1.05, 1.05), aspect="equal")
            axes.set_axis_off()
            axes.set_title(cloud.title, fontweight="normal", loc="center")
        return figure


def _turned(points: NDArray[Any], turn: float, tilt: float) -> NDArray[Any]:
    """Turned about y, then tilted about x: the same view as the page's 3D pictures start with."""
    x = points[:, 0] * np.cos(turn) + points[:, 2] * np.sin(turn)
    z = points[:, 2] * np.cos(turn) - points[:, 0] * np.sin(turn)
    y = points[:, 1] * np.cos(tilt) - z * np.sin(tilt)
    return np.stack([x, y, z * np.cos(tilt) + points[:, 1] * np.sin(tilt)], 1)


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _panels(figure: Figure, rows: int, across: int, used: int) -> list[Any]:
    """The first `used` panels of a grid in reading order; the others are left blank."""
    panels = list(figure.subplots(rows, across, squeeze=False).flat)
    for panel in panels[used:]:
        panel.set_axis_off()
    return panels[:used]
