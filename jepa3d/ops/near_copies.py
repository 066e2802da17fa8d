"""Near copies: a test shape that another set of shapes holds, too, sampled as other points. Pure functions.

Two clouds of one surface are as far from each other as two halves of either. So: the symmetric Chamfer distance between
a half of one and a half of the other, divided by that between the two halves of each (the mean of both). Measured on
two collections of real meshes, 2,048 points each: five tools that both hold lie at 1.00 to 1.09, and the next pair,
which is not one shape, at 1.41. Simple shapes of equal proportions (keyboards, books) lie below 1.25, too: their points
do not tell them apart.

Which pairs are looked at is chosen by the handcrafted features, which another draw of the points hardly changes: for
each test shape the few nearest of the others. Size and place do not matter; a copy in another orientation is not found.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import cKDTree

from jepa3d.ops.descriptors import handcrafted
from jepa3d.seeds import derive

CANDIDATES = 3  # others that each test shape is compared with
RATIO = 1.25  # up to which a pair counts as copies
DESCRIBED = 512  # points of a shape that its features are computed from
GLANCE = 128  # points of a half that a pair is looked at first
FAR = 2.0  # of their distances, in units of the halves': no copy
FLOOR = 1e-3  # of a feature's standard deviation: what hardly varies says nothing
ROWS = 256  # test shapes at once


def scaled(points: Float[np.ndarray, "B P 3"]) -> Float[np.ndarray, "B P 3"]:
    """Centred, divided by the root mean square radius, and shuffled: any part of the rows is a draw of its own."""
    order = np.random.default_rng(derive(0, "near copies")).permutation(points.shape[1])
    centred = points[:, order] - points.mean(1, keepdims=True)
    radius = np.sqrt((centred**2).sum(-1).mean(1)).clip(1e-12)
    return np.asarray(centred / radius[:, None, None], np.float32)


def features(points: Float[np.ndarray, "B P 3"]) -> Float[np.ndarray, "B 129"]:
    """The handcrafted features of scaled clouds."""
    return handcrafted(torch.from_numpy(points[:, :DESCRIBED])).numpy()


def candidates(
    test: Float[np.ndarray, "n F"], others: Float[np.ndarray, "m F"], count: int = CANDIDATES
) -> Int[np.ndarray, "n c"]:
    """The rows of the nearest `others` of each test shape, by features in units of their spread."""
    scale = np.maximum(others.std(0), FLOOR)
    a, b = (torch.from_numpy((one / scale).astype(np.float32)) for one in (test, others))
    nearest = [torch.cdist(part, b).topk(min(count, len(b)), largest=False).indices for part in a.split(ROWS)]
    return torch.cat(nearest).numpy()


class Halves:
    """A scaled cloud as two halves, and how far they are apart."""

    def __init__(self, points: Float[np.ndarray, "P 3"]) -> None:
        self.first, self.second = points[::2], points[1::2]
        self.trees = cKDTree(self.first), cKDTree(self.second)
        self.apart = chamfer(self.first, self.trees[0], self.second, self.trees[1])


def chamfer(a: Float[np.ndarray, "P 3"], of_a: cKDTree, b: Float[np.ndarray, "Q 3"], of_b: cKDTree) -> float:
    """Half the sum of the mean distances to the nearest point, in either direction (the community's CDL1)."""
    return float(of_b.query(a)[0].mean() + of_a.query(b)[0].mean()) / 2


def ratio(a: Halves, b: Halves) -> float:
    """How far two shapes are apart in units of how far their own halves are; inf where a glance says that it is far.

    The centroid of other points is another one, by about as much as points are apart. So the mean way to the nearest
    points, in either direction, is taken away first."""
    noise = max((a.apart + b.apart) / 2, 1e-12)
    if b.trees[1].query(a.first[:GLANCE])[0].mean() > FAR * noise:
        return float("inf")
    there, back = b.trees[1].query(a.first)[1], a.trees[0].query(b.second)[1]
    shift = ((b.second[there] - a.first).mean(0) - (a.first[back] - b.second).mean(0)) / 2
    moved = b.second - shift
    return chamfer(a.first, a.trees[0], moved, cKDTree(moved)) / noise
