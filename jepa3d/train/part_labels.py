"""A data set with part labels, as a segmentation sees it, and the scores of what was predicted (protocols.md).

Class and instance mIoU follow the field: only the parts of a shape's category compete, a part that is neither there nor
predicted counts 1, instance mIoU is the mean over shapes and class mIoU the mean over categories.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from jepa3d.ops import score
from jepa3d.problem import Problem
from jepa3d.results import opened, store
from jepa3d.results.finding import ClassScore, Example, PerShape
from jepa3d.train.batches import Arrays, Subset, open_shapes

EXAMPLES = 6
Rows = NDArray[np.int64]


class Labelled(NamedTuple):
    """The shapes of both splits that have part labels, as the scheme's points show them."""

    arrays: Arrays  # points, patches; its `label` is the category
    part: NDArray[np.int16]  # [n, P], -1: not labelled
    test: NDArray[np.bool_]  # [n]
    id: NDArray[np.str_]  # [n]
    classes: tuple[str, ...]
    names: tuple[str, ...]  # of the parts
    parts: tuple[tuple[int, ...], ...]  # those of each category
    kind: str  # of the data set
    unlabelled: int  # shapes left out: none of their points has a part

    @property
    def category(self) -> NDArray[np.int64]:
        return self.arrays.label


def load(canonical: Path, patches: Path) -> Labelled:
    """Both splits in memory: ShapeNetPart is 0.5 GB. A Problem for data without part labels, before anything else."""
    with opened.canonical(canonical) as file:
        about = store.attributes(file)
        if "part" not in file or not about.get("parts"):
            raise _no_parts(canonical, "its data set labels shapes, not points")
        part = np.asarray(file["part"][:])
        test = opened.splits(file["split"]) == "test"
        ids = store.text(file["id"])
    if not -1 <= part.min() <= part.max() < len(about["parts"]):
        raise store.damaged(canonical, f"a part of {part.min()} or {part.max()} among {len(about['parts'])} parts")
    labelled = np.flatnonzero((part >= 0).any(1))
    if not len(labelled):
        raise _no_parts(canonical, f"all {len(part)} shapes are there, but none of their points has a part")
    part = part[labelled]
    with opened.patches(patches) as file:
        if "point" in file:
            part = np.take_along_axis(part, file["point"][:][labelled].astype(np.int64), 1)
    source = open_shapes([Subset(canonical, patches, labelled)], float("inf"))
    arrays = source.rows(np.arange(len(source)))
    classes, names = tuple(about["classes"]), tuple(about["parts"])
    own = score.parts_of_categories(classes, names, arrays.label, part) if (arrays.label >= 0).all() else ()
    kind = str(about.get("config", {}).get("kind", ""))
    return Labelled(arrays, part, test[labelled], ids[labelled], classes, names, own, kind, len(test) - len(labelled))


def _no_parts(path: Path, why: str) -> Problem:
    return Problem(
        f"{path}: has no part labels", why, "evaluate part segmentation on a data set with parts, such as shapenetpart"
    )


def check(data: Labelled, source: Path) -> None:
    """A Problem for what cannot be trained or scored: no split, no category, a category that train does not have."""
    for split, rows in (("train", ~data.test), ("test", data.test)):
        if not rows.any():
            raise Problem(
                f"{source}: no {split} shapes with part labels",
                "part segmentation trains on the train split and is scored on the test split",
                "choose a data set that has both",
            )
        if unlabelled := int((data.category[rows] < 0).sum()):
            raise Problem(
                f"{source}: {unlabelled} of {rows.sum()} {split} shapes with part labels have no class",
                "a shape's class says which parts compete for its points",
                "label the shapes' classes too",
            )
    absent = np.setdiff1d(data.category[data.test], data.category[~data.test])
    if len(absent):
        raise Problem(
            f"{source}: the class '{data.classes[absent[0]]}' is in test only",
            "no shape of it teaches its parts",
            f"add train shapes of '{data.classes[absent[0]]}', or remove the class",
        )


def leaked(data: Labelled) -> Bool[np.ndarray, "n"]:
    """The shapes whose other copy is in the other split: ShapeNetPart's ids are <split>/<synset>/<token>."""
    if data.kind != "shapenetpart":
        return np.zeros(len(data.test), bool)
    bare = np.array([id.partition("/")[2] for id in data.id])
    return np.isin(bare, np.intersect1d(bare[data.test], bare[~data.test]))


def scores(
    data: Labelled, rows: Rows, predicted: Int[np.ndarray, "m P"], name: str, leaks: NDArray[np.bool_] | None = None
) -> dict[str, float]:
    """Instance mIoU, class mIoU and point accuracy as `<name>_...`; with leaks, the mIoUs without them as well."""
    truth, category = data.part[rows], data.category[rows]
    ious = score.shape_ious(truth, predicted, category, data.parts)
    instance, by_class = score.part_miou(ious, category)
    accuracy = float((predicted == truth)[truth >= 0].mean())
    values = {"instance_miou": instance, "class_miou": by_class, "point_accuracy": accuracy}
    if leaks is not None and leaks[rows].any():
        clean = ~leaks[rows]
        without = score.part_miou(ious[clean], category[clean])
        values |= {"instance_miou_without_leaked": without[0], "class_miou_without_leaked": without[1]}
    return {f"{name}_{metric}": value for metric, value in values.items()}


def described(
    data: Labelled, rows: Rows, predicted: Int[np.ndarray, "m P"]
) -> tuple[PerShape, dict[str, ClassScore], list[Example]]:
    """For tables and pictures: each shape's IoU (`iou`), each category's and each part's, and a few shapes."""
    truth, category = data.part[rows], data.category[rows]
    ious = score.shape_ious(truth, predicted, category, data.parts)
    per_class = {}
    for one in np.unique(category):
        own = category == one
        of_parts = score.part_ious(truth[own], predicted[own], data.parts[one])
        per_class[data.classes[one]] = ClassScore(
            miou=float(ious[own].mean()),
            shapes=int(own.sum()),
            parts={data.names[part]: float(iou) for part, iou in zip(data.parts[one], of_parts, strict=True)},
        )
    per_shape = PerShape(
        ids=data.id[rows].tolist(),
        classes=[data.classes[one] for one in category],
        scores={"iou": np.round(ious, 5).tolist()},
    )
    return per_shape, per_class, _examples(data, rows, predicted, ious)


def _examples(
    data: Labelled, rows: Rows, predicted: Int[np.ndarray, "m P"], ious: Float[np.ndarray, "m"]
) -> list[Example]:
    """Of up to six categories, evenly over their list, the shape with the median IoU: not the best, not the worst."""
    category = data.category[rows]
    present = np.unique(category)
    shown = present[np.unique(np.linspace(0, len(present) - 1, EXAMPLES).round().astype(int))]
    examples = []
    for one in shown:
        own = np.flatnonzero(category == one)
        at = own[np.argsort(ious[own], kind="stable")[len(own) // 2]]
        examples.append(
            Example(
                id=str(data.id[rows[at]]),
                category=data.classes[one],
                iou=float(ious[at]),
                parts={int(part): data.names[part] for part in data.parts[one]},
                points=np.round(data.arrays.points[rows[at]].astype(float), 3).tolist(),
                truth=data.part[rows[at]].tolist(),
                predicted=predicted[at].tolist(),
            )
        )
    return examples
