"""The training curves as charts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jepa3d.report.details import Curves
from jepa3d.report.pictures import Line, line_chart
from jepa3d.report.study import Study

NOT_MONITORS = ("step", "epoch", "seconds", "steps_per_second")
TWIN = "_target"  # the suffix of a monitor of the EMA (target) encoder: drawn dashed beside the context encoder's
MONITORS: dict[str, tuple[str, str]] = {
    "loss": ("Loss", "Objectives and targets differ: compare the seeds of one run, never two runs."),
    "knn": ("Online k-NN", "Accuracy of a nearest-neighbour probe on labelled training shapes: the sign of learning."),
    "feature_std": (
        "Std of the features",
        "How much each feature varies from shape to shape. Near 0: collapse.",
    ),
    "rank": ("Effective rank", "How many directions the features use (RankMe). A steady fall is a partial collapse."),
    "cosine": ("Cosine between shapes", "Mean similarity of different shapes. Near 1: all shapes look the same."),
    "student_teacher": ("Student–teacher distance", "1 − cosine between the features of the two encoders."),
    "target_std": ("Std of the targets", "Spread of what is to be predicted. Near 0: nothing is left to predict."),
    "predicted_std": ("Std of the predictions", "Follows the targets' spread when the predictor tells patches apart."),
    "mask_ratio": ("Masked share", "Share of the patches that are targets, as drawn."),
    "context_ratio": ("Context share", "Share of the patches that the context encoder sees."),
    "lr": ("Learning rate", "The schedule: warm-up, then cosine."),
    "gradient_norm": ("Gradient norm", "Before clipping. Spikes announce an unstable training."),
}


def curves(study: Study) -> dict[str, list[Curves]]:
    """Run -> a chart of each monitor over the same steps: one line per seed, and a dashed one for its EMA encoder."""
    found: dict[str, list[Curves]] = {}
    for run in study.runs:
        for key in monitor_keys([training.rows for training in study.trainings[run].values()]):
            lines = _lines(study, run, key, False) + _lines(study, run, key + TWIN, True)
            found.setdefault(run, []).append(_curve(run, key, lines, study.steps(run)))
    return found


def _curve(run: str, key: str, lines: list[Line], last: int) -> Curves:
    title, about = MONITORS.get(key, (key.replace("_", " "), "A number that the objective logs."))
    log = key == "loss" and min(min(line.y) for line in lines) > 0
    ends = ", ".join(f"{line.y[-1]:.3g}" for line in lines if not line.dashed)
    ema = ", ".join(f"{line.y[-1]:.3g}" for line in lines if line.dashed)
    said = f"{about}{' Logarithmic.' * log} Ends at {ends}{f' (EMA, dashed: {ema})' * bool(ema)}."
    return Curves(title, said, lines, line_chart(f"{run}: {title}", lines, last, log))


def _lines(study: Study, run: str, key: str, ema: bool) -> list[Line]:
    lines = []
    for number, (seed, training) in enumerate(study.trainings[run].items()):
        found = [(row["step"], row[key]) for row in training.rows if _is_number(row.get(key))]
        if found:
            x, y = zip(*found, strict=True)
            lines.append(Line(f"seed {seed}{', EMA' if ema else ''}", x, y, number, ema))
    return lines


def monitor_keys(curves: Sequence[Sequence[dict[str, Any]]]) -> list[str]:
    """The numeric keys of the curves, without the EMA twins: the known ones in the order of MONITORS, then others."""
    found = {key for rows in curves for row in rows for key, value in row.items() if _is_number(value)}
    found -= {*NOT_MONITORS, *(key + TWIN for key in found)}
    return [key for key in MONITORS if key in found] + sorted(found - set(MONITORS))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))
