"""What an evaluation found, with types: tasks make it, the stage `evaluate` writes it, the report reads it.

A number never stands alone: a `Metric` says its unit, its direction, what guessing scores, and what it was measured on.
The JSON files of findings, and of the folds that some are gathered from, are written and read here only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from jepa3d.problem import Problem
from jepa3d.results import store

FORMAT: Final = 2
SHARE = "share"
PREDICTED = "predicted"  # `per_shape` of a share of right predictions
ROUNDING = 2e-5  # per-shape scores are stored with five digits
Choice = Literal["honest", "last", "community", "vote"]


class _Frozen(BaseModel):
    """Immutable, complete and finite; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class Metric:
    """One number and what it is. What is not said is not known: then nothing is marked, compared or converted.

    `unit`: "share" is a fraction in 0..1 that is printed in percent; any other text stands beside the number.
    `of`: the metric of the same finding that this is a variant of: another encoder, another choice of the epoch.
    `chosen`: how the epoch was chosen: `honest` on held-out train shapes, `last` not at all, `community` on the test
    split as the peers do, `vote` as `honest` with the mean of augmented passes.
    `encoder`: whose features were measured; "none" where no encoder has a part in the number.
    `shapes`: the metric is the share of right ones among so many test shapes.
    `per_shape`: the values whose mean it is: "predicted" (right or wrong), or a name in `Details.per_shape`.
    """

    value: float
    unit: str = ""
    higher_is_better: bool | None = None
    chance: float | None = None  # what a guess scores
    of: str = ""
    chosen: Choice | None = None
    encoder: Literal["context", "target", "none"] = "context"
    shapes: int | None = None
    per_shape: str | None = None

    def __post_init__(self) -> None:
        if self.unit == SHARE and not 0 <= self.value <= 1:
            raise ValueError(f"a share is in 0..1, not {self.value}")


def share(value: float, **more: Any) -> Metric:
    """An accuracy, an IoU: a fraction in 0..1, higher is better."""
    return Metric(float(value), SHARE, True, **more)


class Look(_Frozen):
    """One moment of a training at which shapes were scored."""

    step: int
    epoch: float | None = None
    held_out: float | None = None
    test: float
    more: dict[str, float] = {}  # the loss and other numbers of this moment, by name


class Curve(_Frozen):
    """A training, look by look."""

    metric: str  # the finding's metric that `held_out` and `test` are values of
    looks: Sequence[Look]
    chosen: dict[Choice, int]  # the step that each choice of the epoch took


class Folds(_Frozen):
    """Few-shot folds in their order."""

    scores: Mapping[str, Sequence[float]]  # metric -> one value a fold; the metric is their mean
    classes: Sequence[Sequence[str]] = ()  # of each fold


class PerShape(_Frozen):
    """Scores of single test shapes, where there are other ones than right and wrong."""

    ids: Sequence[str]
    classes: Sequence[str]
    scores: Mapping[str, Sequence[float]]  # name -> one value a shape


class ClassScore(_Frozen):
    """A segmentation's mean IoU over the test shapes of one class, and that of each of its parts."""

    miou: float
    shapes: int
    parts: dict[str, float]


class Example(_Frozen):
    """One segmented test shape."""

    id: str
    category: str
    iou: float
    parts: dict[int, str]  # the parts of the category
    points: Sequence[tuple[float, float, float]]
    truth: Sequence[int]  # part of each point; -1: not labelled
    predicted: Sequence[int]


class Corruption(_Frozen):
    """Accuracy under one corruption; the first of `levels` and of `scores` is that of clean shapes."""

    kind: str
    unit: str  # of the levels
    levels: Sequence[float]
    scores: Sequence[float]


class Details(_Frozen):
    """What an evaluation says beyond its metrics; it fills in what it has."""

    curve: Curve | None = None
    folds: Folds | None = None
    per_shape: PerShape | None = None
    per_class: dict[str, ClassScore] = {}
    examples: Sequence[Example] = ()
    corruptions: Sequence[Corruption] = ()


class Result(NamedTuple):
    """What a task returns: its metrics, and the test predictions where there is one per shape."""

    metrics: dict[str, Metric]  # the first one is the headline
    predicted: NDArray[np.int64] | None = None  # [n_test], in the order of the data set's test shapes
    notes: tuple[str, ...] = ()  # what a reader of the numbers must know, such as a metric that could not be had
    details: Details = Details()

    @property
    def values(self) -> dict[str, float]:
        """The bare numbers."""
        return {name: metric.value for name, metric in self.metrics.items()}


class Fold(_Frozen):
    """One of the trainings that a finding is gathered from, by a job of its own."""

    format: Literal[2]
    provenance: dict[str, Any]
    seed: int
    fold: int
    metrics: dict[str, Metric]
    notes: tuple[str, ...]
    details: Details

    @property
    def result(self) -> Result:
        """As the task returned it."""
        return Result(dict(self.metrics), None, self.notes, self.details)


class Finding(_Frozen):
    """One evaluation of one run with one seed: the content of results/evals/{run}/seed{n}/{eval}.json."""

    format: Literal[2]
    provenance: dict[str, Any]
    run: str
    seed: int
    eval: str
    dataset: str
    task: dict[str, Any]  # the task's settings
    protocol: str  # one line: how it was measured
    headline: str  # the metric that tables show
    metrics: dict[str, Metric]
    notes: tuple[str, ...]
    details: Details
    predicted: tuple[int, ...] | None  # [n]; None where the task makes no prediction for each shape
    truth: tuple[int, ...]  # [n] labels of the test shapes
    ids: tuple[str, ...]  # [n]
    classes: tuple[str, ...]
    objects: tuple[str, ...] = ()  # [n] which object each test shape is of; () where each is one of its own

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        """Every reference leads somewhere, and what a metric is said to be the mean of has this mean."""
        if self.headline not in self.metrics:
            raise ValueError(f"the headline '{self.headline}' is none of its metrics")
        if self.main.higher_is_better is None:
            raise ValueError(f"the headline '{self.headline}' does not say whether higher is better")
        if len(self.truth) != len(self.ids) or (self.predicted and len(self.predicted) != len(self.ids)):
            raise ValueError("predictions, labels and ids of the test shapes differ in number")
        if self.objects and len(self.objects) != len(self.ids):
            raise ValueError(f"{len(self.objects)} objects for {len(self.ids)} test shapes")
        labels = (*self.truth, *(self.predicted or ()))
        if self.classes and not all(-1 <= label < len(self.classes) for label in labels):
            raise ValueError(f"a label among truth and predicted has none of its {len(self.classes)} classes")
        for name, metric in self.metrics.items():
            if metric.of and metric.of not in self.metrics:
                raise ValueError(f"metrics.{name}: there is no '{metric.of}' that it could be a variant of")
            if metric.per_shape is not None:
                _check_mean(name, metric.value, self.scores(name))
        for name, values in self.folds.items():
            if name not in self.metrics:
                raise ValueError(f"details.folds: there is no metric '{name}'")
            _check_mean(name, self.metrics[name].value, np.asarray(values))
        return self

    @property
    def main(self) -> Metric:
        """The headline metric."""
        return self.metrics[self.headline]

    @property
    def folds(self) -> Mapping[str, Sequence[float]]:
        """The values of each few-shot fold, for each metric that is a mean over them."""
        return self.details.folds.scores if self.details.folds else {}

    @cached_property
    def correct(self) -> NDArray[np.float64] | None:
        """1 where the prediction is right, 0 where it is wrong."""
        return None if self.predicted is None else (np.array(self.predicted) == np.array(self.truth)).astype(np.float64)

    def scores(self, name: str) -> NDArray[np.float64] | None:
        """One value a test shape whose mean the metric is; None where it is no such mean."""
        key = self.metrics[name].per_shape
        if key == PREDICTED:
            return self.correct
        of_shapes = self.details.per_shape.scores.get(key) if self.details.per_shape and key else None
        return None if of_shapes is None else np.array(of_shapes, np.float64)

    def scored_ids(self, name: str) -> tuple[str, ...]:
        """The test shapes of `scores`, in its order."""
        own = self.details.per_shape
        return tuple(own.ids) if own is not None and self.metrics[name].per_shape not in (None, PREDICTED) else self.ids

    def scored_objects(self, name: str) -> NDArray[np.str_] | None:
        """The object of each of these shapes; None where each is an object of its own."""
        if not self.objects:
            return None
        of = dict(zip(self.ids, self.objects, strict=True))
        return np.array([of[one] for one in self.scored_ids(name)])

    def variant(self, name: str, encoder: str | None = None, chosen: Choice | None = None) -> str | None:
        """The metric that is `name` on another encoder, or with another choice of the epoch; None: there is none."""
        base = self.metrics[name]
        wanted = (encoder or base.encoder, chosen or base.chosen)
        variants = (key for key, one in self.metrics.items() if one.of == name and (one.encoder, one.chosen) == wanted)
        return next(variants, None)


def _check_mean(name: str, value: float, scores: NDArray[np.float64] | None) -> None:
    if scores is None:
        raise ValueError(f"metrics.{name}: the values that it is the mean of are not there")
    if abs(scores.mean() - value) > ROUNDING:
        raise ValueError(f"metrics.{name}: {value} is not the mean {scores.mean():.6g} of its {len(scores)} values")


def made(source: str, **fields: Any) -> Finding:
    """The finding that a task's result makes. Raises a Problem that names `source`, the task's file, where the result
    contradicts itself."""
    try:
        return Finding(format=FORMAT, **fields)
    except ValidationError as error:
        raise Problem(f"{source}: its result contradicts itself", _first(error), "mend what evaluate returns") from None


def write(path: Path, found: Finding | Fold) -> None:
    """As JSON; what has its default value is left out, so that a metric lists just what is known of it."""
    store.write_json(path, found.model_dump(mode="json", exclude_defaults=True), found.provenance)


def read(path: Path, command: str) -> Finding:
    """The finding of a file. A Problem that names `command`, which makes it again, for an older or edited file."""
    return _read(Finding, path, f"remove it and run: {command}")


def read_fold(path: Path) -> Fold:
    """One fold of a finding; a Problem for a file that is missing, damaged or older."""
    return _read(Fold, path, "remove it and evaluate again")


File = TypeVar("File", Finding, Fold)


def _read(kind: type[File], path: Path, mend: str) -> File:
    data = store.read_json(path)
    version = data.get("format") if isinstance(data, Mapping) else None
    if version != FORMAT:
        why = "it was written by an older version" if version is None else f"its format is {version}, not {FORMAT}"
        raise Problem(f"{path}: not an evaluation of this version", why, mend)
    try:
        return kind.model_validate_json(path.read_bytes(), strict=True)
    except ValidationError as error:
        raise Problem(f"{path}: is not as it was written", _first(error), mend) from None


def _first(error: ValidationError) -> str:
    """Where and what the first mistake is."""
    first = error.errors(include_url=False)[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place + ': ' if place else ''}{first['msg'].removeprefix('Value error, ')}"
