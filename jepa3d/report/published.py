"""The numbers we compare with: published.yaml, each with its source and its protocol, as typed rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from jepa3d.params import FrozenModel

DOCUMENT = "design document"
ABSTRACT = "paper abstract"
OURS = "3D-JEPA"
SCRATCH = "Transformer, from scratch"


class Benchmark(FrozenModel):
    """A column of the comparison: on which data, which number, and how the peers arrive at it."""

    title: str
    metric: str
    protocol: str
    test_shapes: int | None = None  # behind an accuracy
    test_objects: int | None = None  # that the test shapes are crops of; None: each is an object of its own
    same_test: bool = True  # everybody is scored on the same test shapes
    training_std: float | None = None  # of one method's trainings, in points, where no spread is published
    training_std_from: str = ""  # the benchmark that it was measured on, where it is another one


class Published(NamedTuple):
    """One published number, in percent."""

    method: str
    benchmark: str  # a key of BENCHMARKS
    value: float
    spread: float | None  # as published, after the ±; whether of a sample or a population is unstated
    source: str
    note: str  # what one must know before comparing
    beats: tuple[str, ...]  # the methods that the row claims to beat


class Said(FrozenModel):
    """What the document says in words of a range of masking ratios."""

    low: float
    high: float
    said: str


class _Numbers(FrozenModel):
    """One method's numbers from one source."""

    method: str
    source: str
    note: str = ""
    beats: tuple[str, ...] = (SCRATCH,)
    values: dict[str, float | tuple[float, float]]

    def rows(self) -> tuple[Published, ...]:
        pairs = {name: value if isinstance(value, tuple) else (value, None) for name, value in self.values.items()}
        return tuple(
            Published(self.method, name, value, spread, self.source, self.note, self.beats)
            for name, (value, spread) in pairs.items()
        )


class _Ablations(FrozenModel):
    blocks: dict[int, dict[str, float]]
    ratio: tuple[Said, ...]
    reconstruction: tuple[float, float]

    def rows(self, blocks: int) -> tuple[Published, ...]:
        note = "the document's ablation of the number of target blocks"
        method = f"{OURS}, M = {blocks}"
        return _Numbers(method=method, source=DOCUMENT, note=note, values=dict(self.blocks[blocks])).rows()


class _File(FrozenModel):
    benchmarks: dict[str, Benchmark]
    numbers: tuple[_Numbers, ...]
    ablations: _Ablations


_FILE = _File.model_validate(yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8")))
BENCHMARKS: dict[str, Benchmark] = _FILE.benchmarks
ALL: tuple[Published, ...] = tuple(row for numbers in _FILE.numbers for row in numbers.rows())
ABLATION_BLOCKS: dict[int, tuple[Published, ...]] = {
    blocks: _FILE.ablations.rows(blocks) for blocks in _FILE.ablations.blocks
}
ABLATION_RATIO: tuple[Said, ...] = _FILE.ablations.ratio
RECONSTRUCTION: tuple[float, float] = _FILE.ablations.reconstruction  # points lost by predicting coordinates


class Plan(NamedTuple):
    """The standard deviation that a published number would show if it were made again, and how we know."""

    std: float  # in points of percent
    source: str


def spread_of(row: Published) -> Plan:
    """The published spread; where none is given, that of another method's trainings on the same benchmark.

    How the test shapes were sampled is no part of it: two numbers on the same test shapes do not differ by that. Raises
    ValueError for a benchmark that knows neither."""
    benchmark = BENCHMARKS[row.benchmark]
    if row.spread is not None and not benchmark.same_test:
        return Plan(row.spread / math.sqrt(10), f"published, ± {row.spread:g} over 10 folds, divided by sqrt(10)")
    if row.spread is not None:
        return Plan(row.spread, "published")
    if benchmark.training_std is None:
        raise ValueError(f"{row.method}, {row.benchmark}: neither a published spread nor one to plan with")
    where = f", {benchmark.training_std_from}" if benchmark.training_std_from else ""
    return Plan(benchmark.training_std, f"none published; that of Point-JEPA's ten runs{where}")


def rivals(row: Published) -> dict[str, float]:
    """The numbers that a published one claims to beat, from the same source where it has them, else the authors'."""
    found: dict[str, float] = {}
    for name in row.beats:
        others = [other for other in ALL if (other.benchmark, other.method) == (row.benchmark, name)]
        own = [other for other in others if other.source == row.source]
        theirs = [other for other in others if other.source not in (DOCUMENT, ABSTRACT)]
        found |= {other.method: other.value for other in (*own, *theirs)[:1]}
    return found


def of(benchmark: str) -> list[Published]:
    """Every number of one benchmark, lowest first; equal values in the order of the tables."""
    return sorted((row for row in ALL if row.benchmark == benchmark), key=lambda row: row.value)


def comparable(dataset: Mapping[str, Any], task: Mapping[str, Any]) -> tuple[str, ...]:
    """The benchmarks that an evaluation (its data set's and its task's entries) may be printed beside.

    () for data that nobody else has numbers on, such as procedural shapes, ModelNet10 or another division of
    ScanObjectNN, and for tasks that no peer reports. Protocols still differ: print both.
    """
    data, kind = benchmark_data(dataset), task.get("kind")
    names: tuple[str, ...] = ()
    if kind in ("linear_probe", "svm"):
        names = {"modelnet40": ("svm_modelnet40",), "obj_bg": ("svm_obj_bg",)}.get(data, ())
    elif kind in ("few_shot", "few_shot_finetune") and data in ("modelnet40", "fewshot"):
        entry = dataset if data == "fewshot" else task
        names = (f"few_{entry.get('way')}w{entry.get('shot')}s",)
    elif kind == "finetune":
        names = ("modelnet40", "modelnet40_vote") if data == "modelnet40" else (data,)
    elif kind == "part_seg" and data == "shapenetpart":
        names = ("part_category", "part_instance")
    return tuple(name for name in names if name in BENCHMARKS)


def benchmark_data(dataset: Mapping[str, Any]) -> str:
    """Which public data a data set's entry stands for, as the field uses it; "" for any other."""
    kind = str(dataset.get("kind"))
    if kind == "scanobjectnn":
        usual = dataset.get("split", "main_split") == "main_split" and dataset.get("background", True)
        return str(dataset.get("variant")) if usual else ""
    if kind == "modelnet40" and dataset.get("categories", 40) != 40:
        return ""
    return kind if kind in ("modelnet40", "fewshot", "shapenetpart") else ""
