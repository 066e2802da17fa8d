"""The terms on which a study's runs are compared: what each trains, what a shape costs it, how many shapes it saw."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from jepa3d import objectives, plugins
from jepa3d.params import Params
from jepa3d.params.validation import plugin_config
from jepa3d.report.grid import Grid, grid
from jepa3d.train.compute import gflop
from jepa3d.train.objective import Base, Setup

CLOSE = 0.05  # two budgets that differ by less are the same


class Terms(NamedTuple):
    """Of one run that was trained."""

    trained: int  # parameters that its training changes: of the encoder, and of what is thrown away after it
    encoder: int  # of the encoder, which is evaluated; 0: a first stage, which has none
    gflop: float  # of a shape in a step, forward and backward
    shapes: int  # that its training saw, each as often as it was seen
    seconds: float | None  # of a step, mean over the seeds; None: not measured
    before: float = 0.0  # PFLOP of the first stage that it reads

    @property
    def pflop(self) -> float:
        """Of the whole training, the first stage's among them."""
        return self.gflop * self.shapes / 1e6 + self.before


def of_run(
    params: Params, name: str, steps: int, costs: list[Mapping[str, Any]], classes: int, reads: Path | None
) -> Terms:
    """The terms of a run that was trained for some steps; `costs` are those of its seeds."""
    run = params.runs[name]
    plugin: objectives.Plugin[Any] = plugins.find(objectives, run.objective.kind)
    config = plugin_config(objectives, run.objective.options(), f"runs.{name}.objective", params.source)
    scheme = params.patches[run.patches]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made: Base = plugin.Objective(config, Setup(params.model(run.model), scheme, classes, reads=reads))
    encoder = made.encoders()["context"].parameters() if plugin.ENCODER else ()
    seconds = [float(cost["seconds"]) for cost in costs if "seconds" in cost]
    return Terms(
        sum(p.numel() for p in made.parameters() if p.requires_grad),
        sum(p.numel() for p in encoder),
        gflop(made, scheme),
        steps * run.fit.batch,
        float(np.mean(seconds)) / steps if seconds and steps else None,
    )


def budget(first: Terms, other: Terms) -> str:
    """What a run has in common with the first of the study."""
    same = {"shapes": other.shapes / first.shapes, "compute": other.pflop / first.pflop}
    found = [name for name, ratio in same.items() if abs(ratio - 1) < CLOSE]
    return f"same {' and '.join(found)}" if found else "its own"


def terms_grid(terms: Mapping[str, Terms]) -> Grid:
    """A row for each run that was trained."""
    rows = []
    first = next(iter(terms.values()), None)
    for name, of in terms.items():
        assert first is not None
        rows.append([
            name,
            f"{of.trained:,}",
            f"{of.encoder:,}" if of.encoder else "–",
            f"{of.gflop:.3g}",
            "–" if of.seconds is None else f"{of.seconds:.3g}",
            f"{of.shapes:,}",
            f"{of.pflop:.3g}",
            f"{of.pflop / first.pflop:.2f}",
            budget(first, of),
        ])  # fmt: skip
    head = [
        "run", "parameters trained", "of the encoder", "GFLOP a shape", "seconds a step", "shapes seen", "PFLOP in all",
        "of the first", "budget",
    ]  # fmt: skip
    return grid(head, rows, " nnnnnnn ")
