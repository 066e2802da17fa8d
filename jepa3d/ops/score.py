"""Scores of predictions: pure functions of labels. Accuracies and IoUs are fractions in 0..1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray


def accuracy(truth: Int[np.ndarray, "n"], predicted: Int[np.ndarray, "n"]) -> float:
    """The fraction of shapes whose class was found (the papers' OA)."""
    return float(np.mean(truth == predicted))


def mean_class_accuracy(truth: Int[np.ndarray, "n"], predicted: Int[np.ndarray, "n"]) -> float:
    """The mean over the classes that occur in `truth` of each class's accuracy (the papers' mAcc)."""
    return float(np.mean([np.mean(predicted[truth == label] == label) for label in np.unique(truth)]))


def confusion(
    truth: Int[np.ndarray, "n"], predicted: Int[np.ndarray, "n"], classes: int
) -> Int[np.ndarray, "classes classes"]:
    """How often class `row` was taken for class `column`."""
    return np.bincount(truth * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def majority(train: Int[np.ndarray, "n"], test: Int[np.ndarray, "m"]) -> float:
    """Chance: the accuracy on `test` of always predicting the most frequent class of `train` (ties: lowest label)."""
    return float(np.mean(test == np.bincount(train).argmax()))


def mean_std(values: Sequence[float] | Float[np.ndarray, "n"]) -> tuple[float, float]:
    """Mean and SAMPLE standard deviation (n - 1). One value has no spread to speak of: 0."""
    array = np.asarray(values, dtype=np.float64)
    return float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else 0.0


def restricted_argmax(logits: Float[np.ndarray, "P parts"], allowed: Sequence[int]) -> Int[np.ndarray, P]:
    """The best part of each point among those of the shape's category (ShapeNetPart's protocol).

    The category is given, not predicted: of 50 logits only the category's own 2 to 6 compete.
    """
    parts = np.asarray(allowed, dtype=np.int64)
    best: NDArray[np.int64] = parts[logits[:, parts].argmax(axis=1)]
    return best


def shape_iou(truth: Int[np.ndarray, P], predicted: Int[np.ndarray, P], parts: Sequence[int]) -> float:
    """Mean IoU over the parts of the shape's category; a part neither there nor predicted counts 1."""
    return float(np.mean([_iou(truth == part, predicted == part) for part in parts]))


def _iou(a: Bool[np.ndarray, P], b: Bool[np.ndarray, P]) -> float:
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 1.0


def part_miou(ious: Float[np.ndarray, "n"], category: Int[np.ndarray, "n"]) -> tuple[float, float]:
    """Instance mIoU (mean over shapes) and class mIoU (mean over the categories present of their shapes' mean)."""
    by_category = [ious[category == one].mean() for one in np.unique(category)]
    return float(ious.mean()), float(np.mean(by_category))


def shape_ious(
    truth: Int[np.ndarray, "n P"],
    predicted: Int[np.ndarray, "n P"],
    category: Int[np.ndarray, "n"],
    parts: Sequence[Sequence[int]],
) -> Float[np.ndarray, "n"]:
    """`shape_iou` of every shape over the parts of its category; points without a label (-1) are passed over."""
    pairs = zip(truth, predicted, category, strict=True)
    return np.array([shape_iou(t[t >= 0], p[t >= 0], parts[c]) for t, p, c in pairs])


def part_ious(
    truth: Int[np.ndarray, "n P"], predicted: Int[np.ndarray, "n P"], parts: Sequence[int]
) -> Float[np.ndarray, "parts"]:
    """Of the shapes of one category: each part's IoU, mean over the shapes, by the same convention."""
    labelled = [(t[t >= 0], p[t >= 0]) for t, p in zip(truth, predicted, strict=True)]
    return np.array([np.mean([_iou(t == part, p == part) for t, p in labelled]) for part in parts])


def majority_parts(
    part: Int[np.ndarray, "n P"], category: Int[np.ndarray, "n"], parts: Sequence[Sequence[int]]
) -> Int[np.ndarray, "classes"]:
    """Each category's most frequent part in `part` (ties: the first); -1 for a category that does not occur."""
    found = np.full(len(parts), -1)
    for one in np.unique(category):
        counts = [(part[category == one] == label).sum() for label in parts[one]]
        found[one] = parts[one][int(np.argmax(counts))]
    return found


def parts_of_categories(
    classes: Sequence[str],
    names: Sequence[str],
    category: Int[np.ndarray, "n"],
    part: Int[np.ndarray, "n P"],
) -> tuple[tuple[int, ...], ...]:
    """The parts that compete in each category: those named after it ('Chair/leg', 'Chair 0') and those of its shapes.

    The name counts where no shape here has the part: it is absent, not unknown.
    """
    found: list[set[int]] = [set() for _ in classes]
    for label, name in enumerate(names):
        owners = [one for one in classes if name.startswith((f"{one}/", f"{one} "))]
        if owners:
            found[list(classes).index(max(owners, key=len))].add(label)
    for one in np.unique(category):
        found[one] |= set(np.unique(part[category == one]).tolist()) - {-1}
    return tuple(tuple(sorted(parts)) for parts in found)
