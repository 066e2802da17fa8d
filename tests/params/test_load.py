"""params.yaml: what is accepted, and for every mistake the key, the reason and the way out."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from jepa3d import project
from jepa3d.params import Level, Params, bases, run_slice
from jepa3d.problem import Mistakes, Problem, Problems

REPOSITORY = Path(__file__).parents[2]
Write = Callable[[Any], Path]


def problem_of(path: Path) -> Problem:
    with pytest.raises(Problem) as caught:
        project.check_objectives(project.load(path))
    return caught.value


def put(tree: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """`put(tree, "runs.jepa.fit.lr", 1)`: the tree with one value changed."""
    *path, last = key.split(".")
    at = tree
    for step in path:
        at = at.setdefault(step, {})
    at[last] = value
    return tree


def test_the_projects_own_params_are_valid():
    params = project.load(REPOSITORY / "params.yaml")
    project.check_objectives(params)
    assert params.chosen.runs
    assert all(params.evaluation(name).needs in ("features", "encoder") for name in params.evals)


def test_a_value_is_what_the_file_says_and_cannot_be_changed(params: Params):
    assert params.runs["jepa"].fit.steps == 20
    assert params.runs["jepa"].data == ("toys",)  # one name stands for a list of one
    assert params.patches["flat"].levels == (Level(num=16, size=8),)
    with pytest.raises(ValidationError, match="frozen"):
        params.runs["jepa"].fit.steps = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("key", "value", "what", "mend"),
    [
        ("runs.jepa.fit.lrr", 0.1, "runs.jepa.fit.lrr: unknown key", "did you mean 'lr'?"),
        ("runs.jepa.augment.rotat", "so3", "runs.jepa.augment.rotat: unknown key", "did you mean 'rotate'?"),
        ("runs.jepa.objectiv", {}, "runs.jepa.objectiv: unknown key", "did you mean 'objective'?"),
        ("runs.jepa.objective.maks", {}, "runs.jepa.objective.maks: unknown key", "did you mean 'mask'?"),
        ("runs.jepa.objective.mask.block", 2, "runs.jepa.objective.mask.block: unknown key", "did you mean 'blocks'?"),
        ("datasets.toys.trian", 5, "datasets.toys.trian: unknown key", "did you mean 'train'?"),
        ("evals.linear.task.gird", [1.0], "evals.linear.task.gird: unknown key", "did you mean 'grid'?"),
        ("models.tiny.widht", 96, "models.tiny.widht: unknown key", "did you mean 'width'?"),
        ("run", {}, "run: unknown key", "did you mean 'runs'?"),
        ("studies.tiny.zzz", 1, "studies.tiny.zzz: unknown key", "remove it"),
    ],
)
def test_a_misspelt_key_is_named_with_its_path_and_the_nearest_valid_one(
    tiny: dict[str, Any], write: Write, key: str, value: Any, what: str, mend: str
):
    problem = problem_of(write(put(tiny, key, value)))
    assert (problem.what, problem.mend) == (what, mend)
    assert problem.why.startswith("known here: ")


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [
        ("study", "tinny", "study: there is no studies"),
        ("studies.tiny.runs", ["jeppa"], "studies.tiny.runs: there is no run called 'jeppa'"),
        ("studies.tiny.evals", ["linaer"], "studies.tiny.evals: there is no evaluation called 'linaer'"),
        ("runs.jepa.data", ["toys", "toyz"], "runs.jepa.data: there is no data set called 'toyz'"),
        ("runs.jepa.monitor.probe", "toyz", "runs.jepa.monitor.probe: there is no data set called 'toyz'"),
        ("runs.jepa.patches", "flatt", "runs.jepa.patches: there is no patch scheme called 'flatt'"),
        ("runs.jepa.model", "tinny", "runs.jepa.model: there is no model called 'tinny'"),
        ("runs.random_init.base", "jeppa", "runs.random_init.base: there is no run called 'jeppa'"),
        ("evals.knn.dataset", "toyz", "evals.knn.dataset: there is no data set called 'toyz'"),
        (
            "evals.tuned",
            {"dataset": "toys", "task": {"kind": "finetune"}, "patches": "flatt"},
            "evals.tuned.patches: there is no patch scheme called 'flatt'",
        ),
        ("evals.knn.task", "nearr", "evals.knn.task: there is no task called 'nearr'"),
        ("evals.knn.task", {"base": "nearr"}, "evals.knn.task.base: there is no task called 'nearr'"),
        ("datasets.toys.kind", "procedurel", "datasets.toys: there is no kind 'procedurel' in jepa3d/datasets"),
        ("evals.knn.task.kind", "knnn", "evals.knn.task: there is no kind 'knnn' in jepa3d/tasks"),
        ("runs.jepa.objective.kind", "jeppa", "runs.jepa.objective: there is no kind 'jeppa' in jepa3d/objectives"),
    ],
)
def test_an_unknown_name_lists_the_known_ones_and_the_nearest(
    tiny: dict[str, Any], write: Write, key: str, value: Any, what: str
):
    tiny["tasks"] = {"near": {"kind": "knn"}}
    problem = problem_of(write(put(tiny, key, value)))
    assert problem.what.startswith(what.replace("no studies", "no study called 'tinny'"))
    assert "did you mean" in problem.mend
    assert problem.why.startswith(("params.yaml defines ", "known: "))


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("runs.jepa.fit.steps", "many", "valid integer"),
        ("runs.jepa.fit.steps", 3.5, "integer"),
        ("runs.jepa.fit.steps", True, "integer"),
        ("runs.jepa.fit.lr", -1.0, "greater than 0"),
        ("runs.jepa.fit.lr", float("nan"), "finite"),
        ("runs.jepa.fit", [1], "mapping"),
        ("models.tiny.position", "mpl", "'mlp'"),
        ("patches.flat.levels", [], "at least 1 item"),
        ("studies.tiny.seeds", [], "at least 1 item"),
        ("studies.tiny.seeds", [-1], "greater than or equal to 0"),
        ("runs.jepa.data", 5, "list"),
    ],
)
def test_a_value_of_the_wrong_type_or_range_names_its_key(
    tiny: dict[str, Any], write: Write, key: str, value: Any, words: str
):
    problem = problem_of(write(put(tiny, key, value)))
    assert problem.what.startswith(key)
    assert words in problem.what + problem.why


@pytest.mark.parametrize(("text", "better"), [("1e-4", "0.0001"), ("15E-6", "1.5e-5"), ("1e6", "1000000.0")])
def test_an_exponent_that_yaml_reads_as_text_is_explained(write: Write, tiny: dict[str, Any], text: str, better: str):
    path = write(put(tiny, "runs.jepa.fit.lr", "HERE"))
    path.write_text(path.read_text().replace("HERE", text))
    problem = problem_of(path)
    assert problem.what == f"runs.jepa.fit.lr: '{text}' is text, not a number"
    assert better in problem.mend
    path.write_text(path.read_text().replace(text, better))
    assert project.load(path).runs["jepa"].fit.lr == float(text)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("runs.jepa.fit.epochs", 3, "exactly one of steps and epochs"),
        ("runs.jepa.fit.accumulate", 3, "no multiple of accumulate"),
        ("runs.jepa.fit", {"steps": 1, "warmup_steps": 1, "warmup_epochs": 1.0}, "at most one of"),
        ("models.tiny.heads", 5, "no multiple of heads"),
        ("patches.flat.sample", "resample", "live: true"),
        ("models.tiny.tokenizer.widths", [8, 8], "three widths"),
        ("patches.flat.levels", [{"num": 16, "size": 200}], "need more than the 128 available"),
        ("patches.flat.levels", [{"num": 16, "size": 8}, {"num": 8, "size": 17}], "need more than the 16 available"),
        ("patches.flat.points", 70000, "at most 65535"),
        ("runs.jepa.augment.scale", [2.0, 1.0], "[smallest, largest]"),
        ("runs.jepa.objective.mask", {"fill": "exact", "block_scale": [0.1, 0.2]}, "choose one"),
        ("runs.jepa.objective.mask", {"blocks": 4, "block_scale": [0.1, 0.25]}, "no context would be left"),
        ("runs.jepa.objective.mask", {"blocks": 2, "block_scale": [0.3, 0.2]}, "[smallest, largest]"),
    ],
)
def test_values_that_contradict_each_other_say_so(tiny: dict[str, Any], write: Write, key: str, value: Any, words: str):
    problem = problem_of(write(put(tiny, key, value)))
    assert words in problem.what
    assert problem.what.startswith(key.rsplit(".", 1)[0][:8])


def test_a_name_with_a_hyphen_stays_in_the_path_of_a_mistake(tiny: dict[str, Any], write: Write):
    tiny["runs"]["jepa-m2"] = {"base": "jepa", "fit": {"lrr": 1}}
    assert problem_of(write(tiny)).what == "runs.jepa-m2.fit.lrr: unknown key"


@pytest.mark.parametrize("section", ["studies", "datasets", "patches", "models", "tasks", "runs", "evals"])
@pytest.mark.parametrize("name", ["a/b", "a b", "..", "x.h5", "", "-rf", "a" * 101])
def test_a_name_that_is_no_file_name_is_refused(tiny: dict[str, Any], write: Write, section: str, name: str):
    tiny["tasks"] = {"near": {"kind": "knn"}}
    tiny[section][name] = next(iter(tiny[section].values()))
    problem = problem_of(write(tiny))
    assert problem.what == f"{section}.{name[:100]}: names become file names"


def test_a_missing_key_is_named(tiny: dict[str, Any], write: Write):
    del tiny["runs"]["jepa"]["model"]
    assert problem_of(write(tiny)).what.startswith("runs.jepa.model: missing")
    del tiny["evals"]
    assert "missing" in problem_of(write(tiny)).what


def test_an_entry_without_a_kind_lists_the_kinds(tiny: dict[str, Any], write: Write):
    problem = problem_of(write(put(tiny, "datasets.toys", {"train": 5})))
    assert problem.what == "datasets.toys: needs a 'kind'"
    assert "procedural" in problem.why


@pytest.mark.parametrize(("text", "mend"), [("2e1", "write 20"), ("08", "write 8"), ("2.5e0", "write a whole number")])
def test_a_whole_number_that_yaml_reads_as_text_is_to_be_written_in_digits(
    write: Write, tiny: dict[str, Any], text: str, mend: str
):
    path = write(put(tiny, "runs.jepa.fit.steps", "HERE"))
    path.write_text(path.read_text().replace("HERE", text))
    problem = problem_of(path)
    assert problem.what == f"runs.jepa.fit.steps: '{text}' is text, not a number"
    assert problem.mend == mend


def test_patches_of_an_evaluation_of_features_are_refused(tiny: dict[str, Any], write: Write):
    problem = problem_of(write(put(tiny, "evals.knn.patches", "flat")))
    assert problem.what.startswith("evals.knn.patches: a 'knn' reads features")
    tiny["evals"]["knn"]["task"] = {"kind": "finetune"}
    assert project.load(write(tiny)).evals["knn"].patches == "flat"


# --- all at once


def test_all_mistakes_of_a_file_are_shown_at_once_each_with_its_three_lines(tiny: dict[str, Any], write: Write):
    put(tiny, "datasets.toys.trian", 5)
    put(tiny, "models.tiny.heads", 5)
    put(tiny, "runs.jepa.fit.lrr", 1)
    put(tiny, "runs.jepa.fit.batch", "many")
    put(tiny, "runs.jepa.patches", "flatt")
    put(tiny, "runs.mine", {"base": "yours"})
    put(tiny, "evals.knn.task.k", "all")
    put(tiny, "studies.tiny.evals", ["linear", "kn"])
    put(tiny, "execution.lanes", 8)
    problem = problem_of(write(tiny))
    assert isinstance(problem, Problems)
    assert sorted(one.what.partition(":")[0] for one in problem.problems) == [
        "datasets.toys.trian", "evals.knn.task.k", "execution.lanes", "models.tiny", "runs.jepa.fit.batch",
        "runs.jepa.fit.lrr", "runs.jepa.patches", "runs.mine.base", "studies.tiny.evals",
    ]  # fmt: skip
    assert len(str(problem).splitlines()) == 3 * 9
    assert str(pickle.loads(pickle.dumps(problem))) == str(problem)


def test_a_mistake_that_others_take_over_is_told_where_it_is_written(tiny: dict[str, Any], write: Write):
    put(tiny, "runs.more", {"base": "random_init", "fit": {"batch": 4}})
    put(tiny, "runs.jepa.fit.lrr", 1)
    put(tiny, "runs.jepa.data", "toyz")
    problem = problem_of(write(tiny))
    assert isinstance(problem, Problems)
    assert [one.what.partition(":")[0] for one in problem.problems] == ["runs.jepa.fit.lrr", "runs.jepa.data"]


def test_many_mistakes_are_counted_after_the_twentieth(tiny: dict[str, Any], write: Write):
    for number in range(25):
        put(tiny, f"datasets.toys{number}", {"kind": "procedural", f"no{number}": 1})
    assert str(problem_of(write(tiny))).endswith("\nand 5 more mistakes")


# --- what had another name


@pytest.mark.parametrize(
    ("key", "value", "what", "mend"),
    [
        ("runs.jepa.fit.checkpoint_every", 7, "execution.checkpoint_every now", "{jepa: {checkpoint_every: 7}}}"),
        ("runs.jepa.fit.log_every", 7, "execution.log_every now", "{log_every: 7}"),
        ("runs.jepa.fit.memory_gb", 7.0, "execution.memory_gb now", "{memory_gb: 7.0}"),
        ("runs.jepa.fit.compile", "on", "execution.compile now", "{compile: on}"),
        ("runs.jepa.fit.lanes", 8, "is gone", "remove it"),
        ("runs.jepa.monitor.every", 7, "execution.monitor_every now", "{monitor_every: 7}"),
        ("evals.knn.task", {"kind": "finetune", "fit": {"epochs": 1, "log_every": 7}}, "execution.log_every now",
         "{evals: {knn: {log_every: 7}}}"),
        ("runs.jepa.objective.kind", "scratch", "'scratch' is called 'random_init' now", "write 'random_init'"),
        ("runs.jepa.objective.kind", "hand_made", "'handcrafted' is a kind of encoder", "{kind: handcrafted}"),
    ],
)  # fmt: skip
def test_an_old_name_is_refused_with_the_new_one(
    tiny: dict[str, Any], write: Write, key: str, value: Any, what: str, mend: str
):
    problem = problem_of(write(put(tiny, key, value)))
    assert problem.what.startswith(".".join(key.split(".")[:3]))
    assert what in problem.what
    assert mend in problem.mend


# --- execution


def test_execution_has_values_for_all_and_for_single_ones(tiny: dict[str, Any], write: Write):
    tiny["execution"] = {
        "checkpoint_every": 100, "memory_gb": 2.0, "loggers": ["tensorboard", {"kind": "wandb", "project": "x"}],
        "runs": {"jepa": {"checkpoint_every": 7, "log_every": 20}}, "evals": {"knn": {"memory_gb": 1.0}},
    }  # fmt: skip
    execution = project.load(write(tiny)).execution
    jepa, other = execution.of_run("jepa"), execution.of_run("random_init")
    assert (jepa.checkpoint_every, jepa.log_every, jepa.memory_gb) == (7, 20, 2.0)
    assert (other.checkpoint_every, other.log_every, other.memory_gb) == (100, 20, 2.0)
    assert (execution.of_evaluation("knn").memory, execution.of_evaluation("linear").memory) == (1e9, 2e9)
    assert [logger.kind for logger in jepa.loggers] == ["tensorboard", "wandb"]
    for section, name in (("runs", "jeppa"), ("evals", "kn")):
        problem = problem_of(write(put(tiny, f"execution.{section}", {name: {}})))
        assert problem.what.startswith(f"execution.{section}: there is no ")
        tiny["execution"][section] = {}


@pytest.mark.parametrize(
    ("entry", "where", "what"),
    [
        ({"loggers": ["wandbb"]}, "execution.loggers", "there is no kind 'wandbb'"),
        ({"loggers": [{"kind": "wandb", "projekt": "x"}]}, "execution.loggers.projekt", "unknown key"),
        ({"runs": {"jepa": {"loggers": ["mlflo"]}}}, "execution.runs.jepa.loggers", "there is no kind 'mlflo'"),
        ({"evals": {"knn": {"loggers": [{"kind": "mlflow", "uri": 1}]}}}, "execution.evals.knn.loggers.uri", "string"),
    ],
)
def test_a_logger_is_checked_when_the_parameters_are_read(
    tiny: dict[str, Any], write: Write, entry: dict[str, Any], where: str, what: str
):
    problem = problem_of(write(put(tiny, "execution", entry)))
    assert problem.what.startswith(f"{where}: ")
    assert what in problem.what


@pytest.mark.parametrize("word", ["on", "off", "auto"])
def test_on_and_off_are_words_although_yaml_reads_them_as_truth_values(tiny: dict[str, Any], write: Write, word: str):
    path = write(put(tiny, "execution.compile", "HERE"))
    path.write_text(path.read_text().replace("HERE", word))
    assert project.load(path).execution.compile == word


def test_nothing_of_execution_is_in_what_a_result_depends_on(tiny: dict[str, Any], write: Write):
    params = project.load(write(tiny))
    changed = {"checkpoint_every": 1, "log_every": 1, "monitor_every": 1, "memory_gb": 1.0, "compile": "off"}
    other = project.load(write(put(tiny, "execution", {**changed, "loggers": []})))
    assert other.execution != params.execution
    assert all(run_slice(other, name) == run_slice(params, name) for name in params.runs)
    assert other.evals == params.evals
    assert other.model_copy(update={"execution": params.execution}) == params


# --- base


def test_a_base_is_merged_key_by_key(params: Params):
    jepa, random_init = params.runs["jepa"], params.runs["random_init"]
    assert (random_init.patches, random_init.augment, random_init.fit.batch) == (
        jepa.patches,
        jepa.augment,
        jepa.fit.batch,
    )
    assert random_init.fit.steps == 0


def test_a_mapping_of_another_kind_replaces_the_one_below():
    runs = bases.resolve(
        {
            "a": {"objective": {"kind": "jepa", "loss": "mse", "mask": {"blocks": 4, "ratio": 0.5}}},
            "same": {"base": "a", "objective": {"mask": {"blocks": 2}}},
            "named": {"base": "a", "objective": {"kind": "jepa", "loss": "cosine"}},
            "other": {"base": "a", "objective": {"kind": "random_init"}},
        },
        "runs",
        "params.yaml",
        Mistakes(),
    )
    assert runs["same"]["objective"] == {"kind": "jepa", "loss": "mse", "mask": {"blocks": 2, "ratio": 0.5}}
    assert runs["named"]["objective"]["mask"] == {"blocks": 4, "ratio": 0.5}
    assert runs["other"]["objective"] == {"kind": "random_init"}
    assert all("base" not in run for run in runs.values())


def test_steps_and_epochs_exclude_each_other_across_bases():
    runs = bases.resolve(
        {
            "a": {"fit": {"steps": 5, "warmup_steps": 2, "lr": 1.0}},
            "b": {"base": "a", "fit": {"epochs": 3, "warmup_epochs": 1}},
            "c": {"base": "b", "fit": {"steps": 9}},
        },
        "runs",
        "params.yaml",
        Mistakes(),
    )
    assert runs["b"]["fit"] == {"epochs": 3, "warmup_epochs": 1, "lr": 1.0}
    assert runs["c"]["fit"] == {"steps": 9, "warmup_epochs": 1, "lr": 1.0}


@pytest.mark.parametrize("first", ["a", "b"])
def test_a_cycle_of_bases_shows_the_cycle(tiny: dict[str, Any], write: Write, first: str):
    tiny["runs"] |= {"a": {"base": "b"}, "b": {"base": first}}
    problem = problem_of(write(tiny))
    assert "the bases form a cycle" in problem.what
    assert problem.why in ("a -> b -> a", "b -> b")


@pytest.mark.parametrize(
    ("value", "words"), [([1], "must be one name"), ({}, "must be one name"), (None, "must be one name")]
)
def test_a_base_that_is_no_name_is_refused(tiny: dict[str, Any], write: Write, value: Any, words: str):
    problem = problem_of(write(put(tiny, "runs.random_init.base", value)))
    assert problem.what.startswith("runs.random_init.base")
    assert words in problem.what


def test_patches_of_more_levels_than_the_encoder_reads_are_refused(tiny: dict[str, Any], write: Write):
    tiny["patches"]["pyramid"] = {"points": 128, "levels": [{"num": 16, "size": 8}, {"num": 8, "size": 4}]}
    assert project.load(write(tiny)).patches["pyramid"].levels[1].num == 8  # it can be cached
    problem = problem_of(write(put(tiny, "runs.jepa.patches", "pyramid")))
    assert problem.what == "runs.jepa.patches: 'pyramid' has 2 levels of patches"
    assert "models.tiny of the kind 'transformer', reads 1" in problem.why


def test_points_that_are_drawn_anew_are_refused_where_points_have_labels(tiny: dict[str, Any], write: Write):
    tiny["patches"]["flat"] |= {"sample": "resample", "live": True}
    tiny["patches"]["fixed"] = {"points": 128}
    tiny["evals"]["parts"] = {"dataset": "toys", "task": {"kind": "part_seg"}}
    tiny["studies"]["tiny"]["evals"] = ["parts"]
    problem = problem_of(write(tiny))
    assert problem.what.startswith("evals.parts: 'flat', its patches with the run 'jepa'")
    tiny["evals"]["parts"]["patches"] = "fixed"
    project.load(write(tiny))


def test_patches_of_an_evaluation_are_held_to_the_encoders_that_read_them(tiny: dict[str, Any], write: Write):
    tiny["patches"]["pyramid"] = {"points": 128, "levels": [{"num": 16, "size": 8}, {"num": 8, "size": 4}]}
    tiny["evals"]["tuned"] = {"dataset": "toys", "patches": "pyramid", "task": {"kind": "finetune"}}
    assert project.load(write(tiny)).evals["tuned"].patches == "pyramid"  # nobody asks for it
    tiny["studies"]["tiny"]["evals"] = ["linear", "tuned"]
    assert problem_of(write(tiny)).what == "evals.tuned.patches: 'pyramid' has 2 levels of patches"


def with_computed(tiny: dict[str, Any], **task: Any) -> dict[str, Any]:
    """A study in which handcrafted features are to be evaluated by a task that reads the encoder."""
    tiny["models"]["hand"] = {"kind": "handcrafted"}
    tiny["runs"]["hand"] = {"base": "random_init", "model": "hand"}
    tiny["evals"]["asked"] = {"dataset": "toys", "task": task}
    tiny["studies"]["tiny"]["also"] = [{"runs": "hand", "evals": "asked", "seeds": [0]}]
    return tiny


@pytest.mark.parametrize(
    "task", [{"kind": "finetune"}, {"kind": "few_shot_finetune", "way": 2, "shot": 1}, {"kind": "part_seg"}], ids=str
)
def test_an_evaluation_that_trains_on_features_without_weights_is_refused(
    tiny: dict[str, Any], write: Write, task: dict[str, Any]
):
    problem = problem_of(write(with_computed(tiny, **task)))
    assert problem.what == "evals.asked: the encoder of the run 'hand' cannot be evaluated so"
    assert problem.why.startswith("its kind is 'handcrafted': its features are computed, not learned")


def test_an_evaluation_that_only_reads_features_takes_every_encoder(tiny: dict[str, Any], write: Write):
    project.load(write(with_computed(tiny, kind="robustness")))


@pytest.mark.parametrize("kind", ["jepa", "supervised"])
def test_an_objective_that_cannot_train_the_model_is_refused(tiny: dict[str, Any], write: Write, kind: str):
    tiny["models"]["hand"] = {"kind": "handcrafted"}
    tiny["runs"]["hand"] = {"base": "jepa", "model": "hand", "objective": {"kind": kind}}
    assert problem_of(write(tiny)).what == f"runs.hand.objective: '{kind}' cannot train models.hand"


def test_a_kind_of_encoder_as_an_objective_is_refused_with_the_way_to_say_it(tiny: dict[str, Any], write: Write):
    problem = problem_of(write(put(tiny, "runs.random_init.objective", {"kind": "handcrafted"})))
    assert problem.what == "runs.random_init.objective: 'handcrafted' is a kind of encoder, not an objective"
    assert "models: {NAME: {kind: handcrafted}}" in problem.mend


def test_a_model_without_a_kind_is_a_transformer_and_an_unknown_kind_is_refused(tiny: dict[str, Any], write: Write):
    assert project.load(write(tiny)).model("tiny").kind == "transformer"
    assert "did you mean 'transformer'?" in problem_of(write(put(tiny, "models.tiny.kind", "transformers"))).mend
    assert problem_of(write(put(tiny, "models.tiny", 5))).what == "models.tiny: must be a mapping"


def test_evaluations_have_bases_too(tiny: dict[str, Any], write: Write):
    tiny["evals"] = {
        "five": {"dataset": "toys", "task": {"kind": "few_shot", "way": 3, "shot": 5}},
        "ten": {"base": "five", "task": {"shot": 10}},
        "near": {"base": "five", "task": {"kind": "knn"}},
    }
    tiny["studies"] = {name: study | {"evals": ["ten"]} for name, study in tiny["studies"].items()}
    evals = project.load(write(tiny)).evals
    assert (evals["ten"].dataset, evals["ten"].task["way"], evals["ten"].task["shot"]) == ("toys", 3, 10)
    assert "way" not in evals["near"].task
    assert problem_of(write(put(tiny, "evals.ten.base", "fife"))).what.startswith(
        "evals.ten.base: there is no evaluation"
    )


def test_a_run_that_is_no_mapping_is_refused(tiny: dict[str, Any], write: Write):
    assert problem_of(write(put(tiny, "runs.jepa", 5))).what.startswith("runs.jepa")
    assert problem_of(write(put(tiny, "runs", [1]))).what == "runs: input should be a mapping"


# --- the file


def test_a_key_that_stands_twice_is_refused(write: Write):
    problem = problem_of(write("study: a\nruns: {}\nstudy: b\n"))
    assert "the key 'study' stands twice" in problem.why
    assert "line 3" in problem.why


def test_a_merge_key_of_yaml_may_stand_beside_others(tiny: dict[str, Any], write: Write):
    path = write(tiny)
    path.write_text(path.read_text() + "\n")
    text = path.read_text().replace(
        "  random_init:\n    base: jepa\n", "  random_init:\n    base: jepa\n    <<: {about: words}\n"
    )
    assert project.load(write(text)).runs["random_init"].about == "words"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [1", "not valid YAML"),
        ("\tstudy: x", "not valid YAML"),
        ("- 1\n- 2\n", "not a mapping"),
        ("", "not a mapping"),
        ("? [1, 2]\n: 3\n", "not valid YAML"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
)
def test_a_file_that_is_not_yaml_of_ours_says_so(write: Write, text: str, words: str):
    assert words in problem_of(write(text)).what


def test_a_missing_file_and_a_folder_and_a_binary_are_problems(tmp_path: Path):
    assert "no such file" in problem_of(tmp_path / "nowhere.yaml").what
    assert "cannot be read" in problem_of(tmp_path).what
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    assert "cannot be read" in problem_of(tmp_path / "binary").what


def test_a_date_is_no_value(write: Write, tiny: dict[str, Any]):
    path = write(put(tiny, "runs.jepa.about", "HERE"))
    path.write_text(path.read_text().replace("HERE", "2024-01-01"))
    assert "'2024-01-01' is a date in YAML" in problem_of(path).why


def test_numbers_as_names_are_names(tiny: dict[str, Any], write: Write):
    tiny["runs"][7] = {"base": "jepa"}
    tiny["studies"]["tiny"]["runs"] = ["7"]
    assert project.load(write(tiny)).chosen.runs == ("7",)


# --- the study's grids


def test_a_study_is_its_grid_and_the_others_each_cell_once(tiny: dict[str, Any], write: Write):
    tiny["studies"]["tiny"] = {
        "runs": ["jepa", "random_init"], "evals": "linear", "seeds": [0, 1],
        "also": [{"runs": "jepa", "evals": ["knn", "linear"], "seeds": [1, 2]}],
    }  # fmt: skip
    study = project.load(write(tiny)).chosen
    assert [tuple(cell) for cell in study.cells()] == [
        ("jepa", "linear", 0), ("jepa", "linear", 1), ("random_init", "linear", 0), ("random_init", "linear", 1),
        ("jepa", "knn", 1), ("jepa", "knn", 2), ("jepa", "linear", 2),
    ]  # fmt: skip
    assert study.trainings() == (("jepa", 0), ("jepa", 1), ("random_init", 0), ("random_init", 1), ("jepa", 2))
    assert study.run_names() == ("jepa", "random_init")
    assert study.eval_names() == ("linear", "knn")


def test_a_name_in_a_further_grid_is_checked(tiny: dict[str, Any], write: Write):
    tiny["studies"]["tiny"]["also"] = [{"runs": "jepa", "evals": "kn", "seeds": [0]}]
    with pytest.raises(Problem) as caught:
        project.load(write(tiny))
    assert caught.value.what.startswith("studies.tiny.also.0.evals: there is no evaluation called 'kn'")


# --- slices


def test_what_a_run_depends_on_leaves_out_the_words_about_it(tiny: dict[str, Any], write: Write):
    before = run_slice(project.load(write(tiny)), "jepa")
    assert run_slice(project.load(write(put(tiny, "runs.jepa.about", "other words"))), "jepa") == before
    for key, value in [("models.tiny.depth", 2), ("patches.flat.live", True), ("runs.jepa.objective.loss", "cosine")]:
        assert run_slice(project.load(write(put(tiny, key, value))), "jepa") != before


def test_loading_params_imports_neither_torch_nor_scikit_learn():
    code = (
        "import sys; from jepa3d import layout, project; project.load('params.yaml');"
        "print([m for m in ('torch', 'sklearn', 'numba', 'trimesh', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, env=os.environ)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
