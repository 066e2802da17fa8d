"""Maps of the test features: the plane of their two largest principal components."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.linalg import orthogonal_procrustes

from jepa3d.ops.standardise import standardise
from jepa3d.report.pictures import Panel, scatter
from jepa3d.report.shapes import principal
from jepa3d.report.study import Embedding, Study

MOST_MAPPED = 600  # points of one map


class Map(NamedTuple):
    """One run's test features in the plane of their two largest principal components.

    Each feature is scaled to unit variance first, as the probes do: else one large feature decides the picture.
    """

    run: str
    share: float  # of the variance that the plane holds
    shown: int
    total: int  # shapes of the test split
    names: tuple[str, ...]  # of the classes
    panel: Panel


def maps(study: Study) -> list[Map]:
    """Every run's map of the mapped data set, thinned evenly to at most 600 shapes.

    The axes of a principal plane are arbitrary up to a rotation and a reflection: each map is turned so that it lies as
    near to the first as it can (orthogonal Procrustes), so that a class is in the same place wherever that is possible.
    """
    found: list[Map] = []
    first = None
    for run, embedding in study.embeddings.items():
        points, share = principal(standardise(embedding.features)[0], 2)
        points /= max(float(np.sqrt((points**2).sum(1).mean())), 1e-12)
        if first is not None and len(first) == len(points):
            points = points @ orthogonal_procrustes(points, first)[0]
        first = points if first is None else first
        found.append(plane(run, embedding, points, share))
    return found


def plane(run: str, found: Embedding, points: Float[np.ndarray, "n 2"], share: float) -> Map:
    rows = np.linspace(0, len(found.label) - 1, min(MOST_MAPPED, len(found.label))).astype(int)
    names = (*found.classes, "unlabelled")  # the last one is that of label -1
    hover = [f"{names[found.label[row]]}: {found.ids[row]}" for row in rows]
    panel = scatter(run, points[rows], found.label[rows], found.classes, hover)
    return Map(run, share, len(rows), len(found.label), found.classes, panel)
