"""What of params.yaml stands for what was published, as data: which runs, which evaluations, which of their metrics.

A number of ours gets a verdict only where the run and the evaluation are what the published row says, key by key.
On other data, with another network or another number of epochs nothing matches, and the tables say "not run".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from jepa3d.report.published import ABSTRACT, DOCUMENT, OURS, SCRATCH


class Recipe(NamedTuple):
    """What a run of params.yaml must be to stand for a published row: dotted keys of its entry, and their values.

    What is not named is free. A run that differs in one of them is no reproduction, however it is called.
    """

    title: str
    method: str  # of Published
    sources: tuple[str, ...]  # whose numbers it can reproduce; () for every source
    requires: Mapping[str, Any]


_SIZE = {"model.width": 384, "model.depth": 12, "model.heads": 6}
_INPUT = {"data": ["shapenet55"], "patches.points": 1024, "patches.levels": [{"num": 64, "size": 32}]}
_OWN_WEIGHTS = {"init": None}  # a run that goes on from another encoder stands for no published one
_DESIGN = {  # what both variants of 3D-JEPA have, and what other methods' switches of the objective would change
    **_OWN_WEIGHTS, "model.kind": "transformer", "objective.kind": "jepa", "objective.target": "representations",
    "objective.mask.kind": "multiblock", "objective.mask.blocks": 4, "objective.average": "sum",
    "objective.target_from": "final_norm", "objective.target_position": "ema", "objective.target_tokenizer": "ema",
    "objective.ema.shape": "cosine", "objective.predictor.position": "shared", "objective.predictor.drop_path": 0.0,
    "objective.predictor.dropout": 0.0, "objective.predictor.attention_dropout": 0.0,
    "objective.predictor.mask_token": "trunc_normal", "objective.predict": "joint", "objective.sees": "tokens",
}  # fmt: skip
_ALGORITHM_2 = {
    "objective.mask.kind": "multiblock", "objective.mask.blocks": 4, "objective.mask.ratio": 0.6,
    "objective.mask.fill": "literal", "objective.mask.seeds": "random", "objective.mask.block_scale": None,
    "objective.mask.context": "complement",
}  # fmt: skip
DOCUMENT_RUN: dict[str, Any] = {
    **_DESIGN, **_SIZE, **_INPUT, **_ALGORITHM_2, "fit.epochs": 300, "objective.predictor.kind": "joint",
    "objective.predictor.depth": 6, "objective.loss": "mse", "objective.target_sees": "targets",
}  # fmt: skip
PAPER_RUN: dict[str, Any] = {
    **_DESIGN, **_SIZE, **_INPUT, "fit.epochs": 150, "objective.mask.seeds": "fps",
    "objective.mask.block_scale": [0.15, 0.2], "objective.mask.context": "block",
    "objective.mask.context_scale": [0.85, 1.0], "objective.predictor.kind": "cross", "objective.loss": "cosine",
    "objective.target_sees": "all",
}  # fmt: skip
COORDINATES_RUN: dict[str, Any] = {**DOCUMENT_RUN, "objective.target": "coordinates"}  # the twin: nothing else differs
_POINT_BERT = {  # and its first stage, which is the run that it reads
    "whole": [True], "model.cls": True, "model.tokenizer.bridge": 256, "fit.batch": 128, "fit.lr": 5e-4,
    "objective.mask_ratio": [0.25, 0.45], "objective.momentum": 0.999, "objective.width": 512,
    "objective.queue": 16384, "objective.temperature": 0.07, "reads.objective.kind": "dvae",
    "reads.objective.codes": 8192, "reads.objective.temperature.start": 1.0, "reads.objective.temperature.end": 0.0625,
    "reads.objective.temperature.until": 0.507, "reads.objective.kl.end": 0.1, "reads.objective.kl.since": 0.051,
    "reads.objective.kl.until": 0.558, "reads.data": ["shapenet55"], "reads.whole": [False], "reads.fit.epochs": 300,
    "reads.fit.batch": 64, "reads.fit.lr": 5e-4, "reads.fit.weight_decay": 5e-4,
}  # fmt: skip
_POINT_MAE = {
    "objective.mask.kind": "random", "objective.mask.ratio": 0.6, "objective.decoder.depth": 4,
    "objective.loss": "cdl2", "objective.sees": "tokens",
}  # fmt: skip
_POINT_JEPA = {
    "objective.target": "representations", "objective.sees": "tokens", "objective.mask.kind": "chain",
    "objective.mask.blocks": 4, "objective.mask.block_scale": [0.15, 0.2], "objective.mask.context_scale": [0.4, 0.75],
    "objective.predict": "per_block", "objective.loss": "smooth_l1", "objective.beta": 2.0, "objective.average": "mean",
    "objective.target_sees": "all", "objective.target_from": "last_block", "objective.target_tokenizer": "shared",
    "objective.target_position": "shared", "objective.ema.shape": "linear", "objective.predictor.position": "own",
    "objective.predictor.width": 192, "objective.predictor.depth": 6, "objective.predictor.mask_token": "zeros",
}  # fmt: skip
DOCUMENTED = f"{OURS}, as the document has it"


def _peer(method: str, kind: str, epochs: int, **more: Any) -> Recipe:
    return Recipe(method, method, (), {**_OWN_WEIGHTS, **_INPUT, "fit.epochs": epochs, "objective.kind": kind, **more})


RECIPES: tuple[Recipe, ...] = (
    Recipe(SCRATCH, SCRATCH, (), {**_OWN_WEIGHTS, **_SIZE, "objective.kind": "random_init"}),
    _peer("Point-BERT", "point_bert", 300, **_SIZE, **_POINT_BERT),
    _peer("Point-MAE", "point_mae", 300, **_SIZE, **_POINT_MAE),
    _peer("Point-M2AE", "point_m2ae", 300, **{"model.kind": "hierarchical", "model.widths": [96, 192, 384],
        "model.blocks": [5, 5, 5], "model.heads": 6, "patches.points": 2048, "patches.levels": [
        {"num": 512, "size": 16}, {"num": 256, "size": 8}, {"num": 64, "size": 8}]}),
    _peer("Point-JEPA", "jepa", 500, **_SIZE, **_POINT_JEPA),
    Recipe(DOCUMENTED, OURS, (DOCUMENT,), DOCUMENT_RUN),
    Recipe(f"{OURS}, as the paper seems to have it", OURS, (ABSTRACT,), PAPER_RUN),
)  # fmt: skip


class Reading(NamedTuple):
    """One of our metrics that may stand beside a published number, and what its choice of the epoch makes of it."""

    metric: str
    title: str


class Measure(NamedTuple):
    """How an evaluation of params.yaml measures a benchmark: what it must be, and which of its metrics count."""

    requires: Mapping[str, Any]  # dotted keys of {"task": ..., "patches": ...}
    readings: tuple[Reading, ...]  # the honest one first


HONEST, AS_PUBLISHED = "honest", "best test epoch, as published"
_CHOICES = (Reading("accuracy", HONEST), Reading("accuracy_community", AS_PUBLISHED))
_PATCHES_1K = {"patches.points": 1024, "patches.levels": [{"num": 64, "size": 32}]}
_PATCHES_2K = {"patches.points": 2048, "patches.levels": [{"num": 128, "size": 32}]}
_FINETUNE = {"task.kind": "finetune", "task.labels": 1.0, "task.fit.epochs": 300}
_PART_SEG = {"task.kind": "part_seg", "task.freeze": False, "task.fit.epochs": 300}
_FEW_SHOT = {"task.kind": "few_shot_finetune", "task.folds": 10, "task.fit.epochs": 150}
_SVM = {"task.kind": "svm"}

MEASURES: dict[str, Measure] = {
    "modelnet40": Measure(_FINETUNE | _PATCHES_1K, _CHOICES),
    "modelnet40_vote": Measure(_FINETUNE | _PATCHES_1K, (Reading("accuracy_vote", "10 passes, once"),)),
    **{name: Measure(_FINETUNE | _PATCHES_2K, _CHOICES) for name in ("obj_bg", "obj_only", "pb_t50_rs")},
    **{
        f"few_{way}w{shot}s": Measure(_FEW_SHOT | _PATCHES_1K | {"task.way": way, "task.shot": shot}, _CHOICES)
        for way in (5, 10)
        for shot in (10, 20)
    },
    **{
        name: Measure(
            _PART_SEG | _PATCHES_2K,
            (
                Reading(key, HONEST),
                Reading(f"{key}_community", AS_PUBLISHED),
                Reading(f"{key}_without_leaked", "honest, without the test shapes that train has too"),
            ),
        )
        for name, key in (("part_category", "class_miou"), ("part_instance", "instance_miou"))
    },
    **{
        name: Measure(_SVM | _PATCHES_1K, (Reading("accuracy_cv", HONEST),))
        for name in ("svm_modelnet40", "svm_obj_bg")
    },
}
SVM_PRESETS = {"Point-BERT": "default", "Point-MAE": "default", "Point-M2AE": "m2ae", "ReCon": "recon",
               "Point-JEPA": "pointjepa"}  # fmt: skip


def readings(benchmark: str, method: str) -> tuple[Reading, ...]:
    """Our metrics that may stand beside this method's number of this benchmark."""
    found = MEASURES[benchmark].readings
    if benchmark.startswith("svm_") and method in SVM_PRESETS:
        preset = SVM_PRESETS[method]
        return (*found, Reading(f"accuracy_{preset}", f"preset {preset}, C tuned on test by its authors"))
    return found


def differences(requires: Mapping[str, Any], entry: Mapping[str, Any]) -> list[str]:
    """Where an entry of params.yaml is not what a comparison requires, as `fit.epochs: 20 instead of 300`."""
    found = []
    for key, wanted in requires.items():
        value: Any = entry
        for step in key.split("."):
            value = value.get(step) if isinstance(value, Mapping) else None
        if value != wanted:
            found.append(f"{key}: {'none' if value is None else value} instead of {wanted}")
    return found


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
