"""Maps of the test features: the plane of their two largest principal components."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jepa3d.report import charts
from jepa3d.report.shapes import principal
from jepa3d.report.study import Embedding, Study

MOST_MAPPED = 600  # points of one map


class Plane(NamedTuple):
    """One run's map: test features in the plane of their two largest principal components.

    Each feature is scaled to unit variance first, as the probes do: else one large feature decides the picture.
    """

    points: NDArray[np.float64]  # [n, 2]
    label: NDArray[np.int64]
    ids: tuple[str, ...]
    share: float  # of the variance that the plane holds
    total: int  # shapes of the test split


def planes(study: Study) -> dict[str, Plane]:
    """Every run's map of the mapped data set, thinned evenly to at most 600 shapes."""
    return {run: plane(found) for run, found in study.embeddings.items()}


def plane(found: Embedding) -> Plane:
    rows = np.linspace(0, len(found.label) - 1, min(MOST_MAPPED, len(found.label))).astype(int)
    deviation = found.features.std(0)
    points, share = principal(found.features / np.where(deviation > 0, deviation, 1), 2)
    return Plane(points[rows], found.label[rows], tuple(found.ids[row] for row in rows), share, len(found.label))


def map_names(study: Study) -> tuple[str, ...]:
    return next(iter(study.embeddings.values())).classes if study.embeddings else ()


def maps(study: Study) -> list[dict[str, Any]]:
    """The maps as charts, with what they show."""
    names = map_names(study)
    return [
        {
            "run": run,
            "share": f"{100 * found.share:.0f}",
            "shown": len(found.ids),
            "total": found.total,
            "chart": charts.scatter(
                found.points,
                found.label,
                len(names),
                [f"{name_of(k, names)}: {shape}" for k, shape in zip(found.label, found.ids, strict=True)],
                f"map of the test features of {run}",
            ),
        }
        for run, found in planes(study).items()
    ]


def name_of(label: int, names: Sequence[str]) -> str:
    return names[label] if label >= 0 else "unlabelled"
