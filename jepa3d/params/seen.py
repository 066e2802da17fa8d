"""Which labels an encoder was trained with: an evaluation on few labels says nothing of one that saw them all."""

from __future__ import annotations

from types import ModuleType

from jepa3d import plugins
from jepa3d.params.study import Params
from jepa3d.problem import Problem


def labels_seen(params: Params, objectives: ModuleType, run: str) -> frozenset[str]:
    """The data sets whose labels the run's encoder was trained with, by itself or by a run that it goes on from.

    Imports torch, as the modules of objectives do.
    """
    entry = params.runs[run]
    own = entry.data if plugins.find(objectives, entry.objective.kind).LABELS else ()
    before = [labels_seen(params, objectives, other) for other in entry.stages_before]
    return frozenset(own).union(*before)


def no_few_labels(params: Params, objectives: ModuleType, run: str, name: str) -> bool:
    """Whether an evaluation on few labels is none of this run's encoder, which was trained with all of them."""
    entry = params.evaluation(name)
    return entry.few_labels and entry.dataset in labels_seen(params, objectives, run)


def check_few_labels(params: Params, objectives: ModuleType, run: str, name: str) -> None:
    """A Problem for an evaluation on few labels of an encoder that was trained with all of them."""
    if no_few_labels(params, objectives, run, name):
        raise Problem(
            f"evals.{name}: the encoder of the run '{run}' was trained with every label of "
            f"'{params.evaluation(name).dataset}'",
            "the evaluation measures what a few labels are enough for, and would be read as that",
            "leave this pair out of the study, or evaluate on another data set",
        )
