"""What every objective that is found promises, on a tiny encoder that it can train."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from jepa3d import objectives, plugins
from jepa3d.encoders import build, hierarchical, transformer
from jepa3d.nets.encoder import Encoder
from jepa3d.ops.draws import shape_keys
from jepa3d.params import Augment, Execution, Fit, FrozenModel, Level, Model, Scheme, Tokenizer, slice_of
from jepa3d.problem import Problem
from jepa3d.train import first_stage, loop
from jepa3d.train.batches import Arrays, Batch, Batching, InMemory, Stream
from jepa3d.train.objective import Base, Loss, Setup

TOKENIZER = Tokenizer(widths=(6, 8, 8))
MODELS: tuple[Model, ...] = (
    transformer.Config(width=12, depth=2, heads=2, tokenizer=TOKENIZER),
    transformer.Config(width=12, depth=2, heads=2, tokenizer=TOKENIZER, cls=True),
    hierarchical.Config(widths=(12, 24), blocks=(1, 1), heads=2, tokenizer=TOKENIZER),
)
LEVELS = (Level(num=20, size=6), Level(num=8, size=4))
SHAPES, POINTS = 4, 60
SOME = (0.0, 0.3, 0.6, 0.99)  # shares of a training, of which each stage of a method should have one


class Made(NamedTuple):
    plugin: objectives.Plugin[Any]
    config: FrozenModel
    model: Model
    reads: Path | None = None  # the file of a first stage, for an objective that reads one

    @property
    def setup(self) -> Setup:
        scheme = Scheme(points=POINTS, levels=LEVELS[: self.model.levels])
        return Setup(self.model, scheme, classes=3, reads=self.reads)

    def objective(self, seed: int = 0) -> Base:
        torch.manual_seed(seed)
        return self.plugin.Objective(self.config, self.setup)

    def batch(self) -> Batch:
        random = torch.Generator().manual_seed(0)
        fine, coarse = LEVELS
        above = (
            torch.arange(coarse.num).expand(SHAPES, -1),
            torch.randint(0, fine.num, (SHAPES, coarse.num, coarse.size), generator=random),
        )
        return Batch(
            torch.randn(SHAPES, POINTS, 3, generator=random),
            torch.arange(fine.num).expand(SHAPES, -1),
            torch.randint(0, POINTS, (SHAPES, fine.num, fine.size), generator=random),
            torch.arange(SHAPES) % 3,
            shape_keys(0, torch.zeros(SHAPES, dtype=torch.long), torch.arange(SHAPES)),
            above=above[: 2 * (self.model.levels == 2)],
        )


@pytest.fixture(params=plugins.known(objectives))
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Made:
    plugin: objectives.Plugin[Any] = plugins.find(objectives, request.param)
    config = plugin.Config(kind=request.param)
    fitting = [model for model in MODELS if plugin.unfit(config, model) is None]
    assert fitting, "none of the tiny encoders can be trained so"
    if plugin.READS is None:
        return Made(plugin, config, fitting[0])
    first: objectives.Plugin[Any] = plugins.find(objectives, plugin.READS)
    before = Made(first, first.Config(kind=plugin.READS), fitting[0])
    path = tmp_path / "first.safetensors"
    first_stage.save(path, before.objective(seed=9), before.config, before.setup, {})
    return Made(plugin, config, fitting[0], path)


@pytest.fixture
def encoding(made: Made) -> Made:
    """Only those that train an encoder; a first stage says that it trains none, and has none."""
    if not made.plugin.ENCODER:
        with pytest.raises(NotImplementedError):
            made.objective().encoders()
        pytest.skip("it is a first stage")
    return made


@pytest.fixture
def trained(made: Made) -> Made:
    """Only those that train; a baseline has the loss of the base class, which says so."""
    if type(made.objective()).forward is Base.forward:
        with pytest.raises(Problem, match="is a baseline"):
            made.objective()(made.batch())
        pytest.skip("it is a baseline")
    return made


def test_its_entry_is_frozen_and_plain_json(made: Made):
    with pytest.raises(ValidationError, match="frozen"):
        made.config.kind = "another"  # type: ignore[attr-defined]
    assert json.loads(json.dumps(slice_of(made.config)))["kind"] == type(made.plugin).__module__.rpartition(".")[2]


def test_it_is_an_objective_with_a_context_encoder(encoding: Made):
    net = encoding.objective()
    assert isinstance(net, Base)
    assert set(net.encoders()) in ({"context"}, {"context", "target"})
    assert all(isinstance(encoder, Encoder) for encoder in net.encoders().values())
    assert set(net.no_decay()) <= {name for name, _ in net.named_parameters()}


def test_runs_of_one_seed_start_from_one_encoder(encoding: Made):
    """But for what begins with a first stage's weights."""
    ours = encoding.objective(seed=0).encoders()["context"]
    torch.manual_seed(0)
    first = [] if encoding.reads is None else first_stage.read(encoding.reads, encoding.plugin.READS).weights.values()
    for one, plain in zip(ours.parameters(), build(encoding.model).parameters(), strict=True):
        assert any(torch.equal(one, other) for other in (plain, *first))


def test_its_loss_is_finite_and_reaches_the_encoder(trained: Made):
    net = trained.objective()
    for progress in SOME:
        loss = net(trained.batch(), progress)
        assert isinstance(loss, Loss)
        assert loss.total.ndim == 0
        assert torch.isfinite(loss.total)
        assert all(value.ndim == 0 and not value.requires_grad for value in loss.monitors.values())
        loss.total.backward()
        net.after_step(progress)
    gradients = {name: p.grad for name, p in net.named_parameters() if p.requires_grad}
    assert [name for name, gradient in gradients.items() if gradient is None] == []
    assert all(torch.isfinite(gradient).all() for gradient in gradients.values() if gradient is not None)
    trained_part = net.encoders()["context"] if trained.plugin.ENCODER else net
    assert any(p.grad.abs().sum() > 0 for p in trained_part.parameters() if p.grad is not None)


def test_a_step_is_the_same_for_the_same_state(trained: Made):
    """What a resumed training relies on: weights, buffers, the batch and the progress are all there is."""
    first = trained.objective(seed=0)
    optimiser = torch.optim.SGD([p for p in first.parameters() if p.requires_grad], 0.1)
    first(trained.batch(), 0.0).total.backward()
    optimiser.step()
    first.after_step(0.1)
    other = trained.objective(seed=1)
    other.load_state_dict(first.state_dict())
    losses = []
    for net in (first, other):
        torch.manual_seed(5)
        losses.append([float(net(trained.batch(), progress).total.detach()) for progress in SOME])
    assert losses[0] == losses[1]


def test_its_end_changes_no_shape_of_what_is_saved(made: Made):
    net = made.objective()
    before = {name: value.shape for name, value in net.state_dict().items()}
    net.finish([made.batch()])
    assert {name: value.shape for name, value in net.state_dict().items()} == before


def stream_of(batch: Batch) -> Stream:
    """An endless one of a batch's shapes."""
    index = [batch.centre, batch.neighbour, *batch.above]
    centre, neighbour, *above = (rows.numpy().astype(np.uint16) for rows in index)
    arrays = Arrays(batch.points.numpy(), centre, neighbour, batch.label.numpy(), tuple(above))
    return Stream(InMemory(arrays), Batching(SHAPES, Augment()), 0)


def test_a_training_that_was_stopped_goes_on_to_the_same_bits(trained: Made, tmp_path: Path):
    def training(name: str, seed: int) -> loop.Training:
        fit, how = Fit(steps=4, batch=SHAPES, lr=1e-3), Execution(checkpoint_every=2)
        job = loop.Job(tmp_path / name, "one", name, execution=how)
        return loop.Training(trained.objective(seed), stream_of(trained.batch()), fit, 1, job)

    whole, stopped, resumed = training("whole", 0), training("stopped", 0), training("stopped", 1)
    loop.run(whole)
    forward, calls = stopped.objective.forward, itertools.count()

    def fail(batch: Batch, progress: float = 0.0) -> Loss:
        if next(calls) == 3:
            raise ConnectionError("the power went off")
        return forward(batch, progress)

    stopped.objective.forward = fail  # type: ignore[method-assign]
    with pytest.raises(ConnectionError):
        loop.run(stopped)
    loop.run(resumed)
    wanted, found = whole.objective.state_dict(), resumed.objective.state_dict()
    assert [name for name in wanted if not torch.equal(wanted[name], found[name])] == []
