"""params.yaml -> `Params`, given the packages of plugins. Every cross-reference is checked; a mistake is a Problem."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from jepa3d import plugins
from jepa3d.params import bases, yaml_file
from jepa3d.params.models import Eval, EvalFacts
from jepa3d.params.study import Grid, Params
from jepa3d.params.validation import pick, plugin_config, validate
from jepa3d.problem import Problem


class Packages(NamedTuple):
    """The packages whose modules are the plugins."""

    datasets: ModuleType
    objectives: ModuleType
    tasks: ModuleType


def load(path: str | Path, packages: Packages) -> Params:
    """Read and check a params.yaml. Raises a Problem that names the key for every mistake.

    The entries of data sets and evaluations are checked against their plugins' own `Config`; those of objectives,
    whose modules import torch, by `check_objectives`.
    """
    path = Path(path)
    data = yaml_file.read(path)
    for section in ("runs", "evals"):
        if isinstance(entries := data.get(section), dict):  # what else it may be, is refused below
            data[section] = bases.resolve(entries, section, path.name)
    params: Params = validate(Params, {**data, "source": path.name}, "", path.name)
    datasets = {
        name: plugin_config(packages.datasets, entry, f"datasets.{name}", path.name)
        for name, entry in params.datasets.items()
    }
    params = params.model_copy(update={"datasets": datasets})
    for name, run in params.runs.items():
        plugins.check(packages.objectives, run.objective.kind, f"runs.{name}.objective")
    evals = {name: evaluation(packages.tasks, name, entry, path.name) for name, entry in params.evals.items()}
    params = params.model_copy(update={"evals": evals})
    _check_references(params)
    return params


def load_file(model: type[Any], path: Path) -> Any:
    """A YAML file of one model, checked as strictly as params.yaml."""
    return validate(model, yaml_file.read(path), "", path.name)


def evaluation(tasks: ModuleType, name: str, entry: Eval, source: str) -> Eval:
    """An evaluation whose task has its defaults filled in, with what its plugin says of it."""
    settings = plugin_config(tasks, entry.task, f"evals.{name}.task", source)
    task = plugins.find(tasks, settings.kind)
    folds = int(task.parts(settings)) if hasattr(task, "parts") else 0
    return entry.settled(settings, EvalFacts(task.NEEDS, folds))


def check_objectives(params: Params, objectives: ModuleType) -> None:
    """Check every run's objective against its plugin's Config. Imports torch."""
    for name, run in params.runs.items():
        plugin_config(objectives, run.objective.options(), f"runs.{name}.objective", params.source)


def _check_references(params: Params) -> None:
    def check(section: str, name: str, where: str) -> None:
        pick(getattr(params, section), section, name, params.source, where)

    for section in ("studies", "datasets", "patches", "models", "runs", "evals"):
        for name in getattr(params, section):
            if not name.replace("_", "").replace("-", "").isalnum():
                raise Problem(
                    f"{section}.{name}: names become file names", "letters, digits, - and _ only", "rename it"
                )
    check("studies", params.study, "study")
    for name, run in params.runs.items():
        for data in run.data:
            check("datasets", data, f"runs.{name}.data")
        if run.monitor.probe is not None:
            check("datasets", run.monitor.probe, f"runs.{name}.monitor.probe")
        check("patches", run.patches, f"runs.{name}.patches")
        _check_levels(params, run.patches, f"runs.{name}.patches")
        check("models", run.model, f"runs.{name}.model")
    for name, evaluation in params.evals.items():
        check("datasets", evaluation.dataset, f"evals.{name}.dataset")
        if evaluation.patches:
            check("patches", evaluation.patches, f"evals.{name}.patches")
            _check_levels(params, evaluation.patches, f"evals.{name}.patches")
    for name, study in params.studies.items():
        grids: dict[str, Grid] = {"": study} | {f".also.{place}": grid for place, grid in enumerate(study.also)}
        for where, grid in grids.items():
            for run_name in grid.runs:
                check("runs", run_name, f"studies.{name}{where}.runs")
            for eval_name in grid.evals:
                check("evals", eval_name, f"studies.{name}{where}.evals")


def _check_levels(params: Params, scheme: str, where: str) -> None:
    """The encoder of section 4.2 has one level of tokens; others would be left unread without a word."""
    count = len(params.patches[scheme].levels)
    if count > 1:
        raise Problem(
            f"{where}: '{scheme}' has {count} levels of patches",
            "'jepa3d patchify' caches a pyramid for programs of your own, but the encoder reads one level",
            "choose a scheme with one level",
        )
