"""Runs that begin with what another run has left: `init`, and an objective of two stages, written here.

The first stage learns a codebook of patches; the second predicts the frozen codes from an encoder's tokens.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from jepa3d import load_encoder, objectives, project
from jepa3d.graph import Graph
from jepa3d.layout import Layout
from jepa3d.params import Params
from jepa3d.problem import Problem
from jepa3d.results import provenance, store
from jepa3d.stages import pretrain as stage
from jepa3d.stages.convert import convert
from jepa3d.stages.download import download
from jepa3d.stages.embed import embed
from jepa3d.stages.patchify import patchify
from jepa3d.train import first_stage, loop

CODES = '''
"""A codebook of patches, soft at first."""

from typing import Literal

import torch
from torch import nn

from jepa3d.ops.schedule import cosine
from jepa3d.params import FrozenModel
from jepa3d.train.objective import Base, Loss

ENCODER = False


class Config(FrozenModel):
    kind: Literal["codes"] = "codes"
    codes: int = 5


class Objective(Base):
    def __init__(self, settings, setup):
        super().__init__()
        self.values = 3 * setup.scheme.levels[0].size
        self.scores, self.codebook = nn.Linear(self.values, settings.codes), nn.Embedding(settings.codes, self.values)

    def codes(self, patches):
        return self.scores(patches.groups.flatten(2))

    def forward(self, batch, progress=0.0):
        patches = batch.patches()
        soft = (self.codes(patches) / cosine(progress, 1.0, 0.1)).softmax(-1)
        return Loss((soft @ self.codebook.weight - patches.groups.flatten(2)).square().mean(), {})

    def no_decay(self):
        return {"codebook.weight"}
'''
PREDICTED = '''
"""The codes of a first stage, predicted from the tokens of all patches."""

from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from jepa3d.encoders import build
from jepa3d.objectives.codes import Config as First, Objective as Codes
from jepa3d.params import FrozenModel
from jepa3d.train import first_stage
from jepa3d.train.objective import Base, Loss

READS = "codes"


class Config(FrozenModel):
    kind: Literal["predicted_codes"] = "predicted_codes"


class Objective(Base):
    def __init__(self, settings, setup):
        super().__init__()
        first = first_stage.read(setup.reads, "codes")
        self.first = Codes(First(**first.settings), setup._replace(scheme=first.scheme)).requires_grad_(False)
        self.first.load_state_dict(first.weights)
        self.encoder = build(setup.model)
        self.head = nn.Linear(setup.model.width, first.settings["codes"])

    def encoders(self):
        return {"context": self.encoder}

    def forward(self, batch, progress=0.0):
        patches = batch.patches()
        labels = self.first.codes(patches).argmax(-1)
        return Loss(F.cross_entropy(self.head(self.encoder(patches)).flatten(0, 1), labels.flatten()), {})
'''


@pytest.fixture
def two_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The two objectives, found in a folder of their own."""
    folder = tmp_path / "more_objectives"
    folder.mkdir()
    for name, text in (("codes", CODES), ("predicted_codes", PREDICTED)):
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    monkeypatch.setattr(objectives, "__path__", [*objectives.__path__, str(folder)])
    yield
    for name in ("codes", "predicted_codes"):
        sys.modules.pop(f"jepa3d.objectives.{name}", None)


@pytest.fixture
def tree(tiny: dict[str, Any]) -> dict[str, Any]:
    tiny["studies"]["tiny"] |= {"runs": ["jepa", "random_init"]}
    tiny["runs"]["codes"] = {"base": "jepa", "objective": {"kind": "codes"}}
    tiny["runs"]["predicted"] = {"base": "jepa", "objective": {"kind": "predicted_codes", "reads": "codes"}}
    return tiny


Load = Callable[[dict[str, Any]], Params]


@pytest.fixture
def load(write: Callable[[Any], Path]) -> Load:
    return lambda tree: project.load(write(tree))


def weights(path: Path, which: str = "context") -> dict[str, Tensor]:
    return load_encoder(path, which).module.state_dict()


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# --- two stages


def test_a_second_stage_reads_the_first_one_which_stays_as_it_was(
    tree: dict[str, Any], load: Load, layout: Layout, toys: Path, two_stages: None
):
    params = load(tree)
    project.check_objectives(params)
    patchify(params, layout, "flat", "toys")
    stage.pretrain(params, layout, "codes", 0)
    assert not any("rank" in row for row in store.read_jsonl(layout.curve("codes", 0)))  # no encoder to monitor
    first = first_stage.read(layout.encoder("codes", 0), "codes")
    stage.pretrain(params, layout, "predicted", 0)
    assert str(layout.encoder("codes", 0)) in store.provenance(layout.encoder("predicted", 0))["inputs"]
    assert load_encoder(layout.encoder("predicted", 0)).metadata["which"] == ["context"]
    again = first_stage.read(layout.encoder("codes", 0), "codes")
    assert equal(first.weights, again.weights)
    embed(params, layout, "predicted", "toys", 0)


def test_another_first_stage_makes_the_second_begin_anew(
    tree: dict[str, Any],
    load: Load,
    layout: Layout,
    toys: Path,
    two_stages: None,
    monkeypatch: pytest.MonkeyPatch,
):
    params, seen = load(tree), []
    patchify(params, layout, "flat", "toys")

    def noted(training: loop.Training) -> None:
        seen.append(training.job.fingerprint)
        run(training)

    run = loop.run
    monkeypatch.setattr(loop, "run", noted)
    for steps in (5, 5, 6):
        tree["runs"]["codes"]["fit"] = {"steps": steps}
        stage.pretrain(load(tree), layout, "codes", 0)
        stage.pretrain(load(tree), layout, "predicted", 0)
    assert seen[1] == seen[3] != seen[5]


def test_a_first_stage_is_no_encoder_when_it_is_checked_and_when_it_is_read(
    tree: dict[str, Any], load: Load, layout: Layout, toys: Path, two_stages: None
):
    params = load(tree)
    patchify(params, layout, "flat", "toys")
    stage.pretrain(params, layout, "codes", 0)
    with pytest.raises(Problem, match="the first stage 'codes', which is no encoder"):
        load_encoder(layout.encoder("codes", 0))
    with pytest.raises(Problem, match="which is no encoder"):
        embed(params, layout, "codes", "toys", 0)
    stage.pretrain(params, layout, "random_init", 0)
    with pytest.raises(Problem, match="not the objective 'codes' of a run"):
        first_stage.read(layout.encoder("random_init", 0), "codes")
    tree["studies"]["tiny"]["runs"] = ["codes"]
    with pytest.raises(Problem, match=r"evals.linear: the run 'codes' has no encoder"):
        project.check_objectives(load(tree))


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"predicted": {"reads": None}}, "runs.predicted.objective.reads: missing"),
        ({"predicted": {"reads": "jepa"}}, "runs.predicted.objective.reads: 'jepa' is a run of 'jepa'"),
        ({"jepa": {"reads": "codes"}}, "runs.jepa.objective.reads: 'codes' is a run of 'codes'"),
    ],
)
def test_what_a_run_reads_has_the_kind_that_its_objective_wants(
    tree: dict[str, Any], load: Load, two_stages: None, changes: dict[str, Any], what: str
):
    for run, change in changes.items():
        tree["runs"][run]["objective"] |= change
    tree["runs"]["random_init"]["objective"] = {"kind": "random_init", "reads": None}
    with pytest.raises(Problem) as caught:
        project.check_objectives(load(tree))
    assert what in str(caught.value)


def test_a_first_stage_has_no_encoder_to_begin_with(tree: dict[str, Any], load: Load, two_stages: None):
    tree["runs"]["jepa"]["init"] = "codes"
    tree["runs"]["codes"] |= {"init": None}
    tree["runs"]["predicted"] |= {"init": None}
    with pytest.raises(Problem, match=r"runs.jepa.init: the run 'codes' has no encoder"):
        project.check_objectives(load(tree))


@pytest.mark.parametrize(
    ("runs", "study", "what"),
    [
        ({}, ["dvae"], "evals.linear: the run 'dvae' has no encoder"),
        (
            {"dvae": {"init": "./one.safetensors"}},
            ["bert"],
            "runs.dvae.init: 'dvae' has no encoder that could begin with",
        ),
        ({"bert": {"model": "tiny"}}, ["bert"], "runs.bert.objective: 'point_bert' cannot train models.tiny"),
        ({"bert": {"fit": {"batch": 6}}}, ["bert"], "runs.bert.fit.batch: 'point_bert' cannot use its batches"),
        ({"bert": {"objective": {"reads": None}}}, ["bert"], "runs.bert.objective.reads: missing"),
        ({}, ["bert"], None),
    ],
    ids=str,
)
def test_a_dvae_and_what_reads_it_are_checked_before_anything_runs(
    tiny: dict[str, Any], load: Load, runs: dict[str, Any], study: list[str], what: str | None
):
    tiny["models"]["tiny_cls"] = {"base": "tiny", "cls": True}
    tiny["runs"]["dvae"] = {"base": "jepa", "model": "tiny_cls", "objective": {"kind": "dvae", "codes": 16}}
    tiny["runs"]["bert"] = {"base": "dvae", "objective": {"kind": "point_bert", "reads": "dvae", "queue": 16}}
    for name, change in runs.items():
        for key, value in change.items():
            entry = tiny["runs"][name]
            entry[key] = {**entry.get(key, {}), **value} if isinstance(value, dict) else value
    tiny["studies"]["tiny"]["runs"] = study
    if what is None:
        project.check_objectives(load(tiny))
        return
    with pytest.raises(Problem) as caught:
        project.check_objectives(load(tiny))
    assert what in str(caught.value)


def test_the_first_stage_is_trained_before_the_second_whose_study_alone_is_asked_for(
    tree: dict[str, Any], load: Load, layout: Layout, two_stages: None
):
    tree["runs"]["third"] = {"base": "jepa", "init": "predicted"}
    tree["studies"]["tiny"] |= {"runs": ["third"], "seeds": [4]}
    graph = Graph(load(tree), layout)
    trained = [job.names for job in graph.jobs() if job.verb == "pretrain"]
    assert trained == [("codes", "4"), ("predicted", "4"), ("third", "4")]
    assert layout.encoder("codes", 4) in graph.job("pretrain", "predicted", 4).reads


# --- init


def test_a_run_begins_with_the_encoder_of_another_run_or_of_a_file(
    tiny: dict[str, Any], load: Load, layout: Layout, toys: Path
):
    tiny["runs"]["first"] = {"base": "jepa", "fit": {"steps": 5}}
    for name, init in (("second", "first"), ("third", str(layout.encoder("first", 0)))):
        tiny["runs"][name] = {"base": "jepa", "init": init, "fit": {"steps": 0}}
        tiny["runs"][f"{name}_trained"] = {"base": "jepa", "init": init, "fit": {"steps": 3}}
    params = load(tiny)
    patchify(params, layout, "flat", "toys")
    for run in ("first", "second", "third", "second_trained", "third_trained"):
        stage.pretrain(params, layout, run, 0)
    first = weights(layout.encoder("first", 0))
    for run in ("second", "third"):
        assert equal(weights(layout.encoder(run, 0)), first)
        assert equal(weights(layout.encoder(run, 0), "target"), first)  # the EMA copy begins with them too
        inputs = store.provenance(layout.encoder(run, 0))["inputs"]
        assert inputs[str(layout.encoder("first", 0))] == store.sha256(layout.encoder("first", 0))
    assert equal(weights(layout.encoder("second_trained", 0)), weights(layout.encoder("third_trained", 0)))
    assert not equal(weights(layout.encoder("second_trained", 0)), first)
    assert params.runs["second"].pretrained
    assert not params.runs["random_init"].pretrained


def test_a_training_that_began_with_a_users_file_is_current_until_that_file_is_another(
    tiny: dict[str, Any], load: Load, layout: Layout, tmp_path: Path
):
    theirs = Layout(tmp_path / "other" / "results").encoder("jepa", 0)  # another study's, with a run of the same name
    params = load(tiny)
    download(params, layout, "toys")
    convert(params, layout, "toys")
    patchify(params, layout, "flat", "toys")
    stage.pretrain(params, layout, "random_init", 0)
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(layout.encoder("random_init", 0).read_bytes())
    tiny["runs"]["jepa"] |= {"init": str(theirs), "fit": {"steps": 2}}
    tiny["runs"]["random_init"]["init"] = None
    tiny["studies"]["tiny"] |= {"runs": ["jepa"], "seeds": [0]}
    params = load(tiny)
    assert theirs in Graph(params, layout).job("pretrain", "jepa", 0).reads
    assert [job.names for job in Graph(params, layout).jobs() if job.verb == "pretrain"] == [("jepa", "0")]
    stage.pretrain(params, layout, "jepa", 0)
    encoder = layout.encoder("jepa", 0)
    files = provenance.read(layout)
    assert theirs in files.inputs(encoder)
    assert encoder in provenance.judge(params, files).current
    theirs.write_bytes(theirs.read_bytes() + b" ")
    assert encoder in provenance.judge(params, provenance.read(layout)).stale


def test_an_encoder_of_another_shape_is_refused_when_the_parameters_are_read_and_from_a_file(
    tiny: dict[str, Any], load: Load, layout: Layout, toys: Path
):
    tiny["models"]["wide"] = {**tiny["models"]["tiny"], "width": 48}
    tiny["runs"]["wide"] = {"base": "jepa", "model": "wide", "fit": {"steps": 1}}
    tiny["runs"]["second"] = {"base": "jepa", "init": "wide"}
    with pytest.raises(Problem) as caught:
        load(tiny)
    assert caught.value.what == "runs.second.init: the encoder of the run 'wide' does not fit models.tiny"
    assert caught.value.why == "its width is 48, that of the run 'second' is 24"
    tiny["runs"]["second"]["init"] = str(layout.encoder("wide", 0))
    params = load(tiny)
    patchify(params, layout, "flat", "toys")
    stage.pretrain(params, layout, "wide", 0)
    with pytest.raises(Problem, match="an encoder of another size"):
        stage.pretrain(params, layout, "second", 0)


def test_other_drop_path_and_pooling_are_no_other_shape(tiny: dict[str, Any], load: Load):
    tiny["models"]["dropping"] = {**tiny["models"]["tiny"], "drop_path": 0.1, "pool": "max"}
    tiny["runs"]["second"] = {"base": "jepa", "init": "jepa", "model": "dropping"}
    load(tiny)


@pytest.mark.parametrize(
    ("inits", "cycle"),
    [
        ({"jepa": "jepa"}, "jepa -> jepa"),
        ({"jepa": "second", "second": "jepa"}, "jepa -> second -> jepa"),
        ({"jepa": "second", "second": "third", "third": "jepa"}, "jepa -> second -> third -> jepa"),
    ],
)
def test_runs_that_wait_for_each_other_are_a_problem(
    tiny: dict[str, Any], load: Load, inits: dict[str, str], cycle: str
):
    for name in ("second", "third"):
        tiny["runs"][name] = {"base": "random_init", "init": None}
    tiny["runs"]["random_init"]["init"] = None
    for name, init in inits.items():
        tiny["runs"][name]["init"] = init
    with pytest.raises(Problem) as caught:
        load(tiny)
    assert "waits for itself" in caught.value.what
    assert cycle in str(caught.value)


def test_an_init_that_is_no_run_is_told_the_nearest_one(tiny: dict[str, Any], load: Load):
    tiny["runs"]["second"] = {"base": "jepa", "init": "jeppa"}
    with pytest.raises(Problem) as caught:
        load(tiny)
    assert caught.value.what == "runs.second.init: there is no run called 'jeppa'"
    assert caught.value.mend == "did you mean 'jepa'?"


def test_a_file_of_an_init_may_be_named_by_a_variable(
    tiny: dict[str, Any], load: Load, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ENCODERS", "/somewhere")
    tiny["runs"]["jepa"]["init"] = "$ENCODERS/one.safetensors"
    assert load(tiny).runs["jepa"].init_file == Path("/somewhere/one.safetensors")
    assert load(tiny).runs["jepa"].stages_before == ()
