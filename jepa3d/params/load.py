"""params.yaml -> `Params`, given the packages of plugins. Every cross-reference is checked; a mistake is a Problem."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from jepa3d import plugins, renamed
from jepa3d.params import bases, yaml_file
from jepa3d.params.models import Eval, EvalFacts, Model
from jepa3d.params.study import Grid, Params
from jepa3d.params.validation import pick, plugin_config, validate
from jepa3d.problem import Problem


class Packages(NamedTuple):
    """The packages whose modules are the plugins."""

    datasets: ModuleType
    encoders: ModuleType
    objectives: ModuleType
    tasks: ModuleType


def load(path: str | Path, packages: Packages) -> Params:
    """Read and check a params.yaml. Raises a Problem that names the key for every mistake.

    The entries of data sets, models and evaluations are checked against their plugins' own `Config`; those of
    objectives, whose modules import torch, by `check_objectives`.
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
    models = {name: model(packages.encoders, name, entry, path.name) for name, entry in params.models.items()}
    params = params.model_copy(update={"datasets": datasets, "models": models})
    for name, run in params.runs.items():
        _check_kind(packages, name, run.objective.kind)
    evals = {name: evaluation(packages.tasks, name, entry, path.name) for name, entry in params.evals.items()}
    params = params.model_copy(update={"evals": evals})
    _check_references(params)
    _check_encoders(params, packages.tasks)
    return params


def load_file(model: type[Any], path: Path) -> Any:
    """A YAML file of one model, checked as strictly as params.yaml."""
    return validate(model, yaml_file.read(path), "", path.name)


def model(encoders: ModuleType, name: str, entry: Any, source: str) -> Model:
    """An encoder's entry; one without a kind is a Transformer's."""
    if isinstance(entry, Mapping):
        entry = {"kind": "transformer", **entry}
    checked: Model = plugin_config(encoders, entry, f"models.{name}", source)
    return checked


def evaluation(tasks: ModuleType, name: str, entry: Eval, source: str) -> Eval:
    """An evaluation whose task has its defaults filled in, with what its plugin says of it."""
    settings = plugin_config(tasks, entry.task, f"evals.{name}.task", source)
    task = plugins.find(tasks, settings.kind)
    return entry.settled(settings, EvalFacts(task.NEEDS, task.parts(settings)))


def _check_kind(packages: Packages, run: str, kind: str) -> None:
    new = renamed.KINDS.get(kind, kind)
    if new in plugins.known(packages.encoders) and new not in plugins.known(packages.objectives):
        raise Problem(
            f"runs.{run}.objective: '{new}' is a kind of encoder, not an objective",
            "what a run trains says its objective, what its features are its model",
            f"give the run objective: {{kind: random_init}} and a model of models: {{NAME: {{kind: {new}}}}}",
        )
    plugins.check(packages.objectives, kind, f"runs.{run}.objective")


def check_objectives(params: Params, objectives: ModuleType) -> None:
    """Check every run's objective against its plugin's Config, and that it can train the run's model. Imports torch."""
    for name, run in params.runs.items():
        where = f"runs.{name}.objective"
        settings = plugin_config(objectives, run.objective.options(), where, params.source)
        why = plugins.find(objectives, run.objective.kind).unfit(settings, params.model(run.model))
        if why is not None:
            raise Problem(
                f"{where}: '{run.objective.kind}' cannot train models.{run.model}",
                why,
                "give the run another model, or another objective",
            )


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
        check("models", run.model, f"runs.{name}.model")
    for name, evaluation in params.evals.items():
        check("datasets", evaluation.dataset, f"evals.{name}.dataset")
        if evaluation.patches:
            check("patches", evaluation.patches, f"evals.{name}.patches")
    for section in ("runs", "evals"):
        for name in getattr(params.execution, section):
            check(section, name, f"execution.{section}")
    for name, study in params.studies.items():
        grids: dict[str, Grid] = {"": study} | {f".also.{place}": grid for place, grid in enumerate(study.also)}
        for where, grid in grids.items():
            for run_name in grid.runs:
                check("runs", run_name, f"studies.{name}{where}.runs")
            for eval_name in grid.evals:
                check("evals", eval_name, f"studies.{name}{where}.evals")


def _check_encoders(params: Params, tasks: ModuleType) -> None:
    """Every run's encoder reads the patches that it is given, in training and in each evaluation of a study."""
    for name, run in params.runs.items():
        check_levels(params, name, run.patches, f"runs.{name}.patches")
    pairs = {(cell.run, cell.evaluation) for study in params.studies.values() for cell in study.cells()}
    for run_name, eval_name in sorted(pairs):
        check_pair(params, tasks, run_name, eval_name)


def check_pair(params: Params, tasks: ModuleType, run: str, name: str) -> None:
    """A Problem for an evaluation that reads the encoder, and that the encoder of a run cannot have."""
    entry = params.evaluation(name)
    if entry.needs == "features":
        return
    model = params.model(params.pick("runs", run).model)
    if entry.patches is not None:
        check_levels(params, run, entry.patches, f"evals.{name}.patches")
    task = plugins.find(tasks, entry.settings.kind)
    scheme = entry.patches or params.pick("runs", run).patches
    if task.FIXED_POINTS and params.pick("patches", scheme).resampled:
        raise Problem(
            f"evals.{name}: '{scheme}', its patches with the run '{run}', draw other points for each batch",
            f"a '{entry.settings.kind}' needs those that it has labels of",
            f"give evals.{name} a scheme of its own as 'patches', with another 'sample'",
        )
    why = task.unfit(entry.settings, model)
    if why is not None:
        raise Problem(
            f"evals.{name}: the encoder of the run '{run}' cannot be evaluated so",
            f"its kind is '{model.kind}': {why}",
            "leave this pair out of the study",
        )


def check_levels(params: Params, run: str, scheme: str, where: str) -> None:
    """A Problem for patches of more or fewer levels than the encoder of a run reads."""
    count, name = len(params.pick("patches", scheme).levels), params.pick("runs", run).model
    model = params.model(name)
    if model.levels not in (None, count):
        raise Problem(
            f"{where}: '{scheme}' has {count} level{'s' * (count != 1)} of patches",
            f"the encoder of the run '{run}', models.{name} of the kind '{model.kind}', reads {model.levels}",
            "choose a scheme with as many levels, or another model",
        )
