"""params.yaml -> `Params`, given the packages of plugins. Every cross-reference is checked; a mistake is a Problem."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from jepa3d import plugins, renamed
from jepa3d.params import bases, yaml_file
from jepa3d.params.expand import expand
from jepa3d.params.models import Eval, EvalFacts, Model, Run
from jepa3d.params.references import check_names, check_references, told_once
from jepa3d.params.seen import check_few_labels
from jepa3d.params.study import Params
from jepa3d.params.validation import plugin_config, validate
from jepa3d.problem import Mistakes, Problem


class Packages(NamedTuple):
    """The packages whose modules are the plugins."""

    datasets: ModuleType
    encoders: ModuleType
    loggers: ModuleType
    objectives: ModuleType
    tasks: ModuleType


def load(path: str | Path, packages: Packages) -> Params:
    """Read and check a params.yaml. Raises a Problem that names the key for every mistake.

    The entries of data sets, models and evaluations are checked against their plugins' own `Config`; those of
    objectives, whose modules import torch, by `check_objectives`.
    """
    path = Path(path)
    written, mistakes = bases.read(path), Mistakes()
    data = expand(written, path.name, mistakes)
    check_names({**written, **data}, mistakes)
    params = _checked(data, packages, path.name, mistakes)
    check_references(data, written, path.name, mistakes)
    mistakes.found = told_once(mistakes.found, written)
    mistakes.raise_any()
    assert params is not None
    _check_encoders(params, packages.tasks, mistakes)
    _check_loggers(params, packages.loggers, mistakes)
    _check_stages(params, mistakes)
    mistakes.raise_any()
    return params


def _checked(data: Mapping[str, Any], packages: Packages, source: str, mistakes: Mistakes) -> Params | None:
    """The entries by the plugins' own Configs, and the whole. None where a mistake was found."""

    def each(section: str, check: Callable[[str, Any], Any]) -> dict[str, Any]:
        settled = {}
        for name, entry in data[section].items() if isinstance(data.get(section), Mapping) else ():
            with mistakes.collected():
                settled[name] = check(name, entry)
        return settled

    def evaluated(name: str, entry: Any) -> Eval:
        checked: Eval = validate(Eval, entry, f"evals.{name}", source)
        return evaluation(packages.tasks, name, checked, source)

    def run(name: str, entry: Any) -> Run:
        if isinstance(objective := entry.get("objective"), Mapping) and isinstance(objective.get("kind"), str):
            _check_kind(packages, name, objective["kind"])
        checked: Run = validate(Run, entry, f"runs.{name}", source)
        return checked

    settled: dict[str, dict[str, Any]] = {
        "datasets": each("datasets", lambda n, entry: plugin_config(packages.datasets, entry, f"datasets.{n}", source)),
        "models": each("models", lambda n, entry: model(packages.encoders, n, entry, source)),
        "tasks": each("tasks", lambda n, entry: plugin_config(packages.tasks, entry, f"tasks.{n}", source)),
        "runs": each("runs", run),
        "evals": each("evals", evaluated),
    }
    with mistakes.collected():
        rest: dict[str, Any] = {
            section: {} for section in settled if isinstance(data.get(section), Mapping)
        }  # checked already
        params: Params = validate(Params, {**data, **rest, "source": source}, "", source)
        return params.model_copy(update=settled)
    return None


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
    if task.NEEDS == "features" and entry.patches is not None:
        raise Problem(
            f"evals.{name}.patches: a '{settings.kind}' reads features, which have the patches of their run",
            f"'{entry.patches}' would not be used",
            "remove it; give the run other patches to compare them",
        )
    return entry.settled(settings, EvalFacts(task.NEEDS, task.folds(settings), task.few_labels(settings)))


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
    """Check every run's objective against its plugin's Config, and that it can train the run's model. Imports torch.

    Also that nobody asks for the encoder of a run that has none: a first stage, such as a dVAE. And that no evaluation
    on few labels is asked of an encoder that was trained with all of them.
    """
    mistakes = Mistakes()
    for name, run in params.runs.items():
        with mistakes.collected():
            _check_objective(params, objectives, name, run)
        with mistakes.collected():
            _check_reads(params, objectives, name, run)
    asked = dict.fromkeys((cell.run, cell.evaluation) for one in params.studies.values() for cell in one.cells())
    for name, evaluation in asked:
        with mistakes.collected():
            _check_encoder(params, objectives, name, f"evals.{evaluation}")
        with mistakes.collected():
            check_few_labels(params, objectives, name, evaluation)
    mistakes.found = told_once(mistakes.found, {})
    mistakes.raise_any()


def _check_objective(params: Params, objectives: ModuleType, name: str, run: Run) -> None:
    where = f"runs.{name}.objective"
    settings = plugin_config(objectives, run.objective.options(), where, params.source)
    plugin = plugins.find(objectives, run.objective.kind)
    if (why := plugin.unfit(settings, params.model(run.model))) is not None:
        raise Problem(
            f"{where}: '{run.objective.kind}' cannot train models.{run.model}",
            why,
            "give the run another model, or another objective",
        )
    if run.fit.steps != 0 and (why := plugin.unfit_batch(settings, run.fit.batch // run.fit.accumulate)) is not None:
        raise Problem(
            f"runs.{name}.fit.batch: '{run.objective.kind}' cannot use its batches", why, "choose another batch"
        )


def _check_reads(params: Params, objectives: ModuleType, name: str, run: Run) -> None:
    """`objective.reads` is given where the objective reads a first stage, and names one of its kind; `init` has an
    encoder."""
    wanted, reads = plugins.find(objectives, run.objective.kind).READS, run.objective.reads
    given = None if reads is None else params.runs[reads].objective.kind
    if given != wanted:
        raise Problem(
            f"runs.{name}.objective.reads: " + (f"'{reads}' is a run of '{given}'" if reads else "missing"),
            f"'{run.objective.kind}' reads " + (f"a run of '{wanted}'" if wanted else "no other run"),
            f"name a run whose objective is '{wanted}'" if wanted else "remove it",
        )
    if run.init is not None and not plugins.find(objectives, run.objective.kind).ENCODER:
        raise Problem(
            f"runs.{name}.init: '{run.objective.kind}' has no encoder that could begin with another's weights",
            "it is a first stage, which other runs read",
            "remove it",
        )
    if run.init is not None and run.init_file is None:
        _check_encoder(params, objectives, run.init, f"runs.{name}.init")


def _check_encoder(params: Params, objectives: ModuleType, run: str, where: str) -> None:
    kind = params.runs[run].objective.kind
    if not plugins.find(objectives, kind).ENCODER:
        raise Problem(
            f"{where}: the run '{run}' has no encoder",
            f"its objective '{kind}' is a first stage, which other runs read",
            "name a run that reads it (objective.reads)",
        )


def _check_stages(params: Params, mistakes: Mistakes) -> None:
    """No run waits for itself, and an encoder that goes on from a run's is one of the same shape."""
    for name, run in params.runs.items():
        with mistakes.collected():
            _check_cycle(params, name)
        if run.init in params.runs and run.init_file is None:
            with mistakes.collected():
                own, other = params.model(run.model).shape(), params.model(params.runs[run.init].model).shape()
                for key in dict.fromkeys([*own, *other]):
                    if own.get(key) != other.get(key):
                        raise Problem(
                            f"runs.{name}.init: the encoder of the run '{run.init}' does not fit models.{run.model}",
                            f"its {key} is {other.get(key)}, that of the run '{name}' is {own.get(key)}",
                            "give both runs one model",
                        )


def _check_cycle(params: Params, name: str) -> None:
    trail = [name]

    def visit(run: str) -> None:
        for before in params.runs[run].stages_before:
            if before == name:
                raise Problem(
                    f"runs.{name}: waits for itself",
                    " -> ".join([*trail, name]) + ", by their 'init' and 'objective.reads'",
                    "let one of them begin without another run",
                )
            if before not in trail:
                trail.append(before)
                visit(before)
                trail.pop()

    visit(name)


def _check_loggers(params: Params, loggers: ModuleType, mistakes: Mistakes) -> None:
    """Every chosen logger is a plugin that has what its entry says; its own package is only imported by a training."""
    section = params.execution
    chosen = {"execution.loggers": section.loggers}
    chosen |= {f"execution.runs.{name}.loggers": entry.loggers for name, entry in section.runs.items()}
    chosen |= {f"execution.evals.{name}.loggers": entry.loggers for name, entry in section.evals.items()}
    for where, entries in chosen.items():
        for entry in entries or ():
            with mistakes.collected():
                plugin_config(loggers, entry.model_dump(), where, params.source)


def _check_encoders(params: Params, tasks: ModuleType, mistakes: Mistakes) -> None:
    """Every run's encoder reads the patches that it is given, in training and in each evaluation of a study."""
    for name, run in params.runs.items():
        with mistakes.collected():
            check_levels(params, name, run.patches, f"runs.{name}.patches")
    pairs = {(cell.run, cell.evaluation) for study in params.studies.values() for cell in study.cells()}
    for run_name, eval_name in sorted(pairs):
        with mistakes.collected():
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
