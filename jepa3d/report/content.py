"""What the page, the text files and the terminal show alike, computed once."""

from __future__ import annotations

from typing import NamedTuple

from jepa3d.params import Params
from jepa3d.report import claims, details, paired, results, training
from jepa3d.report.ablations import Ablation, ablations
from jepa3d.report.maps import Map, maps
from jepa3d.report.study import Study
from jepa3d.report.sweeps import Sweep, sweeps
from jepa3d.report.tables import NearMiss, Table, near_misses, tables


class Content(NamedTuple):
    params: Params
    study: Study
    ledger: list[claims.Judged]  # the claims and what the study says about each
    groups: list[results.Group]  # the study's own result tables, one for each data set
    tables: list[Table]  # the document's
    ablations: list[Ablation]
    sweeps: list[Sweep]  # the ablations over M and r that this study has
    near: list[NearMiss]
    paired: dict[str, list[paired.Pair]]  # evaluation -> its best run against the others
    curves: dict[str, list[details.Curves]]  # run -> its training curves
    maps: list[Map]
    folds: dict[str, list[details.Curves]]
    robustness: dict[str, list[details.Curves]]
    tunings: dict[str, list[details.Curves]]
    segmentations: list[details.Segmentation]


def content(params: Params, study: Study) -> Content:
    pairs = paired.pairs(study)
    return Content(
        params,
        study,
        claims.ledger(params, study),
        results.groups(params, study, pairs),
        tables(params, study),
        ablations(params, study),
        sweeps(params, study),
        near_misses(params, study),
        {name: found for name, found in pairs.items() if found},
        training.curves(study),
        maps(study),
        details.few_shot_folds(study),
        details.robustness(study),
        details.tunings(study),
        details.segmentations(study),
    )
