"""What of params.yaml stands for what was published: which runs, which evaluations, which of their metrics.

A number of ours gets a verdict only where the whole entry of the run and of the evaluation is the one of recipes.yaml,
but for the keys of `entries.FREE`. On other data, with another network, learning rate, mask, augmentation or number of
epochs nothing matches, and the tables say "not run".
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jepa3d import project
from jepa3d.params import Params
from jepa3d.report.entries import changed, eval_entry, run_entry
from jepa3d.report.published import ABSTRACT, DOCUMENT, OURS, SCRATCH

FILE = Path(__file__).with_suffix(".yaml")


@cache
def ours() -> Params:
    """recipes.yaml, read as any params.yaml is."""
    return project.load(FILE)


@cache
def required(run: str) -> Mapping[str, Any]:
    """The whole entry of a run of recipes.yaml."""
    return run_entry(ours(), run)


class Recipe(NamedTuple):
    """What a run of params.yaml must be to stand for a published row. One that differs in a value is no reproduction,
    however it is called."""

    title: str
    method: str  # of Published
    sources: tuple[str, ...]  # whose numbers it can reproduce; () for every source
    run: str  # of recipes.yaml
    changes: Mapping[str, Any] = {}  # of its entry, by dotted keys: a row of an ablation

    @property
    def requires(self) -> Mapping[str, Any]:
        """The whole entry that a run must have."""
        return changed(required(self.run), self.changes)


DOCUMENTED = f"{OURS}, as the document has it"
M2AE = "Point-M2AE"
RECIPES: tuple[Recipe, ...] = (
    Recipe(SCRATCH, SCRATCH, (), "scratch"),
    Recipe("Point-BERT", "Point-BERT", (), "point_bert"),
    Recipe("Point-MAE", "Point-MAE", (), "point_mae"),
    Recipe(M2AE, M2AE, (), "point_m2ae"),
    Recipe("Point-JEPA", "Point-JEPA", (), "point_jepa"),
    Recipe(DOCUMENTED, OURS, (DOCUMENT,), "document"),
    Recipe(f"{OURS}, as the paper seems to have it", OURS, (ABSTRACT,), "paper"),
)
COORDINATES = Recipe("coordinates in place of representations", OURS, (), "coordinates")  # nothing else differs


class Reading(NamedTuple):
    """One of our metrics that may stand beside a published number, and what its choice of the epoch makes of it."""

    metric: str
    title: str


class Measure(NamedTuple):
    """An evaluation of recipes.yaml that measures a benchmark, and which of its metrics count for which methods."""

    evaluation: str
    readings: tuple[Reading, ...]
    methods: tuple[str, ...]

    def requires(self, recipe: Recipe) -> Mapping[str, Any]:
        """The whole entry that an evaluation must have; without patches of its own, those of the recipe's run."""
        return eval_entry(ours(), recipe.run, self.evaluation)


HONEST, AS_PUBLISHED = "honest", "as published: all of train, the best test epoch"
FLAT = (SCRATCH, "Point-BERT", "Point-MAE", "Point-JEPA", OURS)  # read one level of patches
OF_MAE = ("Point-MAE", OURS)  # that of Point-MAE, and of 3D-JEPA, whose own is not known
OF_BERT = ("Point-BERT", SCRATCH)  # the scratch row is Point-BERT's too
_BEST = (Reading("accuracy_community", AS_PUBLISHED),)
_SHOTS = ("5w10s", "5w20s", "10w10s", "10w20s")


def _both(name: str, *readings: Reading) -> tuple[Measure, ...]:
    """The honest measure of encoders that read one level of patches, and of Point-M2AE's."""
    return Measure(name, readings, FLAT), Measure(f"pyramid_{name}", readings, (M2AE,))


def _tuned(name: str) -> tuple[Measure, ...]:
    honest = _both(name, Reading("accuracy", HONEST))
    return (*honest, Measure(f"mae_{name}", _BEST, OF_MAE), Measure(f"bert_{name}", _BEST, OF_BERT))


def _few(shots: str) -> tuple[Measure, ...]:
    """With drawn folds, or the published ones. No epoch is chosen in either."""
    authors = (Reading("accuracy", "the authors' settings, the last epoch"),)
    return (
        *_both(f"few_{shots}", Reading("accuracy", HONEST)),
        *_both(f"stored_{shots}", Reading("accuracy", HONEST)),
        Measure(f"mae_few_{shots}", authors, OF_MAE),
        Measure(f"mae_stored_{shots}", authors, OF_MAE),
    )


def _parts(metric: str) -> tuple[Measure, ...]:
    apart = Reading(f"{metric}_without_leaked", "honest, without the test shapes that train has too")
    best = (Reading(f"{metric}_community", AS_PUBLISHED),)
    return (*_both("parts", Reading(metric, HONEST), apart), Measure("mae_parts", best, OF_MAE))


MEASURES: dict[str, tuple[Measure, ...]] = {
    "modelnet40": _tuned("modelnet40"),
    "modelnet40_vote": _both("modelnet40", Reading("accuracy_vote", "10 passes, once")),
    **{name: _tuned(name) for name in ("obj_bg", "obj_only", "pb_t50_rs")},
    **{f"few_{shots}": _few(shots) for shots in _SHOTS},
    "part_category": _parts("class_miou"),
    "part_instance": _parts("instance_miou"),
    **{
        name: (Measure(name, (Reading("accuracy_cv", HONEST),), (*FLAT, M2AE)),)
        for name in ("svm_modelnet40", "svm_obj_bg")
    },
}
SVM_PRESETS = {("Point-MAE", "svm_modelnet40"): "default", (M2AE, "svm_modelnet40"): "m2ae",
               (M2AE, "svm_obj_bg"): "m2ae_scan", ("Point-JEPA", "svm_modelnet40"): "pointjepa"}  # fmt: skip


def measures(benchmark: str, method: str) -> list[Measure]:
    """The evaluations whose metrics may stand beside this method's number of this benchmark, the honest one first."""
    found = [one for one in MEASURES[benchmark] if method in one.methods]
    preset = SVM_PRESETS.get((method, benchmark))
    if preset is None:
        return found
    own = Reading(f"accuracy_{preset}", f"preset {preset}, C tuned on test by its authors")
    return [one._replace(readings=(*one.readings, own)) for one in found]


class Table(NamedTuple):
    """One of the tables of results: which benchmarks, and which rows even where nothing of them was run."""

    name: str
    title: str
    about: str
    benchmarks: tuple[str, ...]
    methods: tuple[str, ...]


_DOCUMENTED = (SCRATCH, "Point-BERT", "Point-MAE", "Point-M2AE", "Point-JEPA", OURS)
TABLES: tuple[Table, ...] = (
    Table("classification", "Classification, fine-tuned",
          "Section 9 of the document. Its column 'OA (vote)' of ModelNet40 mixes protocols and is taken apart here.",
          ("modelnet40", "modelnet40_vote", "obj_bg", "obj_only", "pb_t50_rs"), _DOCUMENTED),
    Table("few_shot", "Few-shot classification, fine-tuned",
          "The document has no such table; the numbers are the peers'.",
          ("few_5w10s", "few_5w20s", "few_10w10s", "few_10w20s"), _DOCUMENTED),
    Table("parts", "Part segmentation, fine-tuned",
          "Section 9 of the document, which leaves out Point-M2AE, the best of its peers.",
          ("part_category", "part_instance"), _DOCUMENTED),
    Table("frozen", "Linear SVM on frozen features",
          "Not in the document. Every published number has a classifier, a pooling and a C of its own.",
          ("svm_modelnet40", "svm_obj_bg"), _DOCUMENTED),
)  # fmt: skip
