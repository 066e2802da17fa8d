"""What the page, the text files and the terminal show alike, computed once."""

from __future__ import annotations

from typing import Any, NamedTuple

from jepa3d.params import Params
from jepa3d.report import details, results
from jepa3d.report.ablations import Ablation, ablations
from jepa3d.report.study import Study
from jepa3d.report.tables import NearMiss, Table, near_misses, tables


class Content(NamedTuple):
    params: Params
    study: Study
    groups: list[dict[str, Any]]  # the study's own result tables, one for each data set
    tables: list[Table]  # the document's
    ablations: list[Ablation]
    near: list[NearMiss]
    paired: list[dict[str, Any]]
    folds: list[details.Folds]
    robustness: dict[str, list[details.Curves]]
    tunings: dict[str, list[details.Curves]]
    segmentations: list[details.Segmentation]


def content(params: Params, study: Study) -> Content:
    return Content(
        params,
        study,
        results.groups(params, study),
        tables(params, study),
        ablations(params, study),
        near_misses(params, study),
        results.paired(study),
        details.few_shot_folds(study),
        details.robustness(study),
        details.tunings(study),
        details.segmentations(study),
    )
