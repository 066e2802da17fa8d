"""Many rows without writing them: params.yaml as if every run and every evaluation stood in it by itself.

`sweep:` of a run is a run for each of its values, evaluations are the product of tasks and data sets, and a study or
`execution:` that names a whole group means all of its members. Snakemake, DVC's jobs and provenance see what comes out.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from jepa3d.params import bases
from jepa3d.params.validation import pick
from jepa3d.problem import Mistakes, Problem

Entries = dict[str, Any]
Groups = dict[str, tuple[str, ...]]  # the name of a group -> those of its members


def expand(data: Mapping[str, Any], source: str, mistakes: Mistakes) -> dict[str, Any]:
    """A params.yaml as it is read -> all its entries in full. What is no mapping is left for others to refuse."""
    whole = dict(data)
    for section in bases.SECTIONS:
        if isinstance(entries := data.get(section), Mapping):
            whole[section] = bases.resolve(entries, section, source, mistakes)
    groups: dict[str, Groups] = {"runs": {}, "evals": {}}
    tasks = whole["tasks"] if isinstance(whole.get("tasks"), Mapping) else {}
    if isinstance(runs := whole.get("runs"), Mapping):
        whole["runs"] = _members(runs, "runs", groups["runs"], mistakes, _swept)
    if isinstance(evals := whole.get("evals"), Mapping):
        crossed = partial(_crossed, tasks=tasks, source=source)
        whole["evals"] = _members(evals, "evals", groups["evals"], mistakes, crossed)
    if isinstance(studies := whole.get("studies"), Mapping):
        whole["studies"] = {name: _of_groups(study, groups) for name, study in studies.items()}
    if isinstance(execution := whole.get("execution"), Mapping):
        whole["execution"] = {
            key: _own_or_group(value, groups[key]) if key in groups and isinstance(value, Mapping) else value
            for key, value in execution.items()
        }
    return whole


def _members(
    entries: Mapping[str, Any],
    section: str,
    groups: Groups,
    mistakes: Mistakes,
    members: Callable[[str, Entries], Entries],
) -> Entries:
    """The entries with each group's members in its place. A name that is there twice is a mistake."""
    found: Entries = {}
    owner: dict[str, str] = {}
    for name, entry in entries.items():
        made: Entries = {name: entry}
        with mistakes.collected():
            made = members(name, entry)
        if list(made) != [name]:
            groups[name] = tuple(made)
        for member, row in made.items():
            if member in owner or (member in entries and member != name):
                other = owner.get(member, member)
                mistakes.add(
                    Problem(
                        f"{section}.{name}: makes '{member}', which is there already",
                        f"{section}.{other} is or makes it too",
                        "give one of them another name",
                    )
                )
                continue
            owner[member] = name
            found[member] = row
    return found


def _swept(name: str, entry: Entries) -> Entries:
    """The runs of `sweep: {KEY: [values]}`, several keys as their product: NAME_<last of KEY><value> and so on."""
    if "sweep" not in entry:
        return {name: entry}
    sweep = entry["sweep"]
    rest = {key: value for key, value in entry.items() if key != "sweep"}
    if not isinstance(sweep, Mapping) or not sweep:
        raise Problem(
            f"runs.{name}.sweep: must be a mapping of keys to values",
            f"found {sweep!r}"[:200],
            "as in sweep: {objective.mask.blocks: [1, 2, 4]}",
        )
    axes = [[(key, *choice) for choice in _choices(f"runs.{name}.sweep.{key}", str(key), sweep[key])] for key in sweep]
    found: Entries = {}
    for row in itertools.product(*axes):
        made: Entries = dict(rest)
        for key, _, value in row:
            made = bases.merge(made, _nested(str(key).split("."), value))
        said = ", ".join(f"{key} {label}" for key, label, _ in row)
        made["about"] = f"{rest['about']}; {said}" if rest.get("about") else said
        label = "_".join([name, *(label for _, label, _ in row)])
        if label in found:
            raise Problem(f"runs.{name}.sweep: two runs are called '{label}'", said, "give values other labels")
        found[label] = made
    return found


def _choices(where: str, key: str, values: Any) -> list[tuple[str, Any]]:
    """The values of one key with what they add to a name: labels of a mapping, else made of key and value."""
    if isinstance(values, Mapping) and values:
        return [(str(label), value) for label, value in values.items()]
    if not isinstance(values, list) or not values:
        raise Problem(
            f"{where}: must be a list of values, or a mapping of labels to values",
            f"found {values!r}"[:200],
            "as in [1, 2, 4]",
        )
    last = key.rpartition(".")[2]
    if any(isinstance(value, Mapping) for value in values):
        raise Problem(
            f"{where}: a value that is a mapping needs a label",
            "the label becomes part of the run's name",
            f"write {{{last}_a: ..., {last}_b: ...}} instead of a list",
        )
    return [(_label(last, value), value) for value in values]


def _label(key: str, value: Any) -> str:
    """How a value is named: blocks4, ratio0p6, loss_cosine, block_scale0p15-0p2."""
    if isinstance(value, list):
        return key + "-".join(map(_word, value))
    numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
    return f"{key}{_word(value)}" if numeric else f"{key}_{_word(value)}"


def _word(value: Any) -> str:
    text = "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return text.replace(".", "p").replace("+", "")


def _nested(path: Sequence[str], value: Any) -> Entries:
    first, *rest = path
    return {first: _nested(rest, value) if rest else value}


def _crossed(name: str, entry: Entries, tasks: Mapping[str, Any], source: str) -> Entries:
    """The evaluations of `{task: [...], dataset: [...]}`: every task on every data set, or the one that it is."""
    where = f"evals.{name}"
    task, dataset = entry.get("task"), entry.get("dataset")
    if not isinstance(task, list) and not isinstance(dataset, (list, Mapping)):
        return {name: entry | {"task": _settled(task, tasks, where, source)} if "task" in entry else entry}
    of = _labelled({name: task} if isinstance(task, Mapping) else task, f"{where}.task")
    on = _labelled(dataset, f"{where}.dataset")
    pattern = entry.get("name", "{task}_{dataset}")
    if not isinstance(pattern, str) or not re.fullmatch(r"([\w-]|\{task\}|\{dataset\})+", pattern):
        raise Problem(
            f"{where}.name: {pattern!r} is no pattern of names",
            "letters, digits, - and _, with {task} and {dataset} for the two",
            "leave it away for {task}_{dataset}",
        )
    rest = {key: value for key, value in entry.items() if key not in ("task", "dataset", "name")}
    found: Entries = {}
    for (label, one), (place, data) in itertools.product(of.items(), on.items()):
        member = pattern.replace("{task}", label).replace("{dataset}", place)
        if member in found:
            raise Problem(
                f"{where}: two evaluations are called '{member}'",
                f"its pattern of names is {pattern!r}",
                "use {task} and {dataset} in its 'name'",
            )
        found[member] = rest | {"task": _settled(one, tasks, where, source), "dataset": data}
    return found


def _settled(task: Any, tasks: Mapping[str, Any], where: str, source: str) -> Any:
    """A task by its name, one that changes another (`base:`), or the one that stands there."""
    if isinstance(task, str):
        return pick(tasks, "tasks", task, source, f"{where}.task")
    if isinstance(task, Mapping) and isinstance(base := task.get("base"), str):
        below = pick(tasks, "tasks", base, source, f"{where}.task.base")
        return bases.merge(below, {key: value for key, value in task.items() if key != "base"})
    return task


def _labelled(value: Any, where: str) -> Mapping[str, Any]:
    """Names of what is crossed, by the label that each has in the names of what comes out."""
    if isinstance(value, Mapping) and value:
        return {str(label): one for label, one in value.items()}
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not names or not all(isinstance(one, str) for one in names):
        raise Problem(
            f"{where}: must be a name or a list of names",
            f"found {value!r}"[:200],
            "as in {task: [linear, knn], dataset: [modelnet40, scan_obj_bg]}",
        )
    return {one: one for one in names}


def _of_groups(study: Any, groups: Mapping[str, Groups]) -> Any:
    """A study, or one of its further grids, with every group's members in the group's place."""
    if not isinstance(study, Mapping):
        return study
    changed = dict(study)
    for section in groups:
        named = [study[section]] if isinstance(study.get(section), str) else study.get(section)
        if isinstance(named, list) and all(isinstance(one, str) for one in named):
            members = [member for one in named for member in groups[section].get(one, (one,))]
            changed[section] = list(dict.fromkeys(members))
    if isinstance(also := study.get("also"), list):
        changed["also"] = [_of_groups(grid, groups) for grid in also]
    return changed


def _own_or_group(entries: Mapping[str, Any], groups: Groups) -> Entries:
    """What a group has for all its members, under what a member has for itself."""
    shared = {member: entries[group] for group in entries if group in groups for member in groups[group]}
    own = {name: entry for name, entry in entries.items() if name not in groups}
    return shared | {name: bases.merge(shared[name], entry) if name in shared else entry for name, entry in own.items()}
