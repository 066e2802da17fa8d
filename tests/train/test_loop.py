"""The training loop: what a step does, what is kept, and that a killed training ends as one that never was."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import math
import os
import random
import signal
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from jepa3d import project
from jepa3d.layout import Layout
from jepa3d.ops.schedule import warmup_cosine
from jepa3d.params import Augment, Execution, Fit
from jepa3d.problem import Problem
from jepa3d.results import store
from jepa3d.stages.patchify import patchify
from jepa3d.stages.pretrain import pretrain
from jepa3d.train import loop
from jepa3d.train.batches import Arrays, Batch, Batching, InMemory, Stream
from jepa3d.train.objective import Base, Loss, Trainable


class Toy(Base):
    """Linear regression of a shape's points on their height: no BatchNorm, so parts of a batch do not interact."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
        self.progress: list[float] = []
        self.disturb: Callable[[int, Tensor], Tensor] = lambda step, loss: loss

    def forward(self, batch: Batch, progress: float = 0.0) -> Loss:
        loss = (self.net(batch.points)[..., 0] - batch.points[..., 1]).square().mean()
        loss = self.disturb(len(self.progress), loss)
        return Loss(loss, {"noise": torch.rand(()), "size": torch.tensor(float(len(batch)))})

    def after_step(self, progress: float) -> None:
        self.progress.append(progress)


def shapes() -> InMemory:
    points = np.random.default_rng(0).normal(size=(30, 16, 3)).astype(np.float32)
    indices = np.zeros((30, 2), np.uint16)
    return InMemory(Arrays(points, indices, indices[:, :, None].copy(), np.zeros(30, np.int64)))


def training(folder: Path, **options: Any) -> loop.Training:
    how = {"checkpoint_every": 6, "log_every": 5} | {k: options.pop(k) for k in Execution.model_fields if k in options}
    settings = Fit.model_validate({"steps": 20, "batch": 8, "lr": 0.01} | options)
    torch.manual_seed(0)
    stream = Stream(shapes(), Batching(settings.batch, Augment(rotate="upright"), accumulate=settings.accumulate), 1)
    job = loop.Job(folder / "state", "these settings", "toy", execution=Execution(**how))
    return loop.Training(Toy(), stream, settings, 2, job)


def weights(one: loop.Training) -> Tensor:
    return torch.cat([p.detach().flatten() for p in one.objective.parameters()])


def rows(curve: Path) -> list[dict[str, Any]]:
    """The curve without what a clock says."""
    timing = ("steps_per_second", "cost")
    return [{k: v for k, v in row.items() if k not in timing} for row in store.read_jsonl(curve)]


def steps(one: loop.Training) -> list[int]:
    return [int(path.stem[4:]) for path in sorted(one.job.state.glob("step*.pt"))]


# --- one step


def test_a_training_is_adamw_with_the_schedule_by_hand(tmp_path: Path):
    one, other = training(tmp_path / "a", warmup_steps=4), training(tmp_path / "b", warmup_steps=4)
    loop.run(one)
    parameters = list(other.objective.parameters())
    moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in parameters]
    for step in range(20):
        other.objective.zero_grad()
        other.objective(other.stream.at(step)[0]).total.backward()
        lr = warmup_cosine(step, 20, 0.01, 4)
        with torch.no_grad():
            for p, (first, second) in zip(parameters, moments, strict=True):
                first.lerp_(p.grad, 0.1)
                second.lerp_(p.grad.square(), 0.001)
                p.mul_(1 - lr * (0.05 if p.ndim > 1 else 0.0))
                unbiased = first / (1 - 0.9 ** (step + 1)), second / (1 - 0.999 ** (step + 1))
                p.sub_(lr * unbiased[0] / (unbiased[1].sqrt() + 1e-8))
    assert torch.allclose(weights(one), weights(other), atol=1e-5)
    assert one.objective.progress == [(step + 1) / 20 for step in range(20)]


def test_biases_norms_and_tokens_do_not_decay():
    net = Trainable()
    net.linear, net.norm = nn.Linear(3, 3), nn.LayerNorm(3)
    net.token = nn.Parameter(torch.zeros(5))
    net.frozen = nn.Parameter(torch.zeros(2, 2), requires_grad=False)
    decayed, kept = loop.adamw(net, Fit(steps=1, weight_decay=0.3)).param_groups
    assert decayed["weight_decay"] == 0.3
    assert kept["weight_decay"] == 0.0
    assert [p is net.linear.weight for p in decayed["params"]] == [True]
    assert {id(p) for p in kept["params"]} == {
        id(p) for p in (net.linear.bias, net.norm.weight, net.norm.bias, net.token)
    }


def test_what_the_objective_names_does_not_decay_and_everything_does_where_the_settings_say_so():
    net = Trainable()
    net.linear, net.codebook = nn.Linear(3, 3), nn.Embedding(4, 3)
    net.no_decay = lambda: {"codebook.weight"}
    decayed, kept = loop.adamw(net, Fit(steps=1)).param_groups
    assert [p is net.linear.weight for p in decayed["params"]] == [True]
    assert {id(p) for p in kept["params"]} == {id(net.linear.bias), id(net.codebook.weight)}
    [everything] = loop.adamw(net, Fit(steps=1, decay="all", weight_decay=0.3)).param_groups
    assert everything["weight_decay"] == 0.3
    assert len(everything["params"]) == 3


def test_a_name_that_no_parameter_has_is_the_objectives_mistake():
    net = Trainable()
    net.linear, net.no_decay = nn.Linear(3, 3), lambda: {"linear.wieght"}
    with pytest.raises(ValueError, match=r"no parameter 'linear.wieght'"):
        loop.adamw(net, Fit(steps=1))


def test_the_objective_knows_how_far_the_training_is_and_a_resumed_one_knows_it_too(tmp_path: Path):
    seen: list[tuple[str, float]] = []

    class Noting(Toy):
        def forward(self, batch: Batch, progress: float = 0.0) -> Loss:
            seen.append((life, progress))
            return super().forward(batch, progress)

    for life, failing in (("first", 13), ("second", None)):  # noqa: B007 (the objective notes it)
        one = training(tmp_path, accumulate=2)
        one.objective = Noting()
        one.objective.disturb = lambda step, loss: loss * (torch.nan if step == failing else 1.0)  # noqa: B023
        with contextlib.suppress(Problem):
            loop.run(one)
    of_second = [progress for life, progress in seen if life == "second"]
    assert [progress for life, progress in seen if life == "first"] == [step / 20 for step in range(14) for _ in "ab"]
    assert of_second == [step / 20 for step in range(12, 20) for _ in "ab"]


def test_a_compiled_objective_that_reads_the_progress_is_compiled_once():
    from torch._dynamo.testing import CompileCounter

    class Scheduled(Toy):
        def forward(self, batch: Batch, progress: float = 0.0) -> Loss:
            return Loss(self.net(batch.points).mean() * math.cos(math.pi * progress), {})

    compiler, net = CompileCounter(), Scheduled()
    compiled = torch.compile(net, dynamic=True, backend=compiler)
    batch = Stream(shapes(), Batching(8, Augment()), 1).at(0)[0]
    for step in range(5):
        assert compiled(batch, step / 5).total.item() == pytest.approx(net(batch, step / 5).total.item())
    assert compiler.frame_count == 1


@pytest.mark.parametrize("accumulate", [2, 4])
def test_micro_batches_are_one_batch(tmp_path: Path, accumulate: int):
    one, other = training(tmp_path / "a"), training(tmp_path / "b", accumulate=accumulate)
    loop.run(one)
    loop.run(other)
    assert torch.allclose(weights(one), weights(other), atol=1e-5)
    losses = [[row["loss"] for row in rows(t.job.curve)] for t in (one, other)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert {row["size"] for row in rows(other.job.curve)} == {
        8 / accumulate
    }  # monitors are means over the micro-batches


def test_gradients_are_clipped_to_their_norm(tmp_path: Path):
    one = training(tmp_path, clip=0.001, steps=1, batch=30)
    loop.run(one)
    norm = torch.cat([p.grad.flatten() for p in one.objective.parameters()]).norm()
    assert norm.item() == pytest.approx(0.001, rel=1e-3)
    assert rows(one.job.curve)[0]["gradient_norm"] > 0.01  # what it was before


def test_lengths_in_epochs_become_steps():
    schedule = loop.Schedule.of(Fit(epochs=10, batch=8, warmup_epochs=2), 30 / 8)
    assert (schedule.total, schedule.warmup) == (38, 8)  # 37.5 steps, so that every epoch is whole
    assert loop.Schedule.of(Fit(steps=5, warmup_steps=2), 30 / 8).total == 5


def test_a_horizon_cuts_the_cosine_short():
    """Point-M2AE: 300 epochs of a cosine of 400, which ends at 0.15 of the greatest rate."""
    cut, whole = (
        loop.Schedule.of(Fit(steps=steps, warmup_steps=30, horizon=horizon), 1.0)
        for steps, horizon in ((900, 4 / 3), (1200, 1.0))
    )
    assert cut.total == 900
    assert [cut.lr(step) for step in range(900)] == [whole.lr(step) for step in range(900)]
    assert cut.lr(899) / cut.fit.lr == pytest.approx(0.15, abs=0.005)


def test_no_steps_train_nothing_and_write_nothing(tmp_path: Path):
    one = training(tmp_path, steps=0)
    before = weights(one)
    loop.run(one)
    assert torch.equal(before, weights(one))
    assert not one.job.state.exists()


def test_the_curve_has_a_row_at_each_due_step_and_at_the_end(tmp_path: Path):
    one = training(tmp_path, steps=17)
    one.watch = loop.Watch(lambda: {"rank": 3.0}, 8)
    loop.run(one)
    logged = rows(one.job.curve)
    assert [row["step"] for row in logged if "loss" in row] == [5, 10, 15, 17]
    assert [row["step"] for row in logged if "rank" in row] == [8, 16, 17]
    assert logged[0]["lr"] == one.schedule.lr(4)
    assert all(row["steps_per_second"] > 0 for row in store.read_jsonl(one.job.curve) if "loss" in row)


# --- what goes wrong


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_loss_that_is_not_finite_stops_with_step_rate_and_advice_and_keeps_the_last_checkpoint(
    tmp_path: Path, value: float
):
    one = training(tmp_path)
    one.objective.disturb = lambda step, loss: loss * value if step == 13 else loss
    with pytest.raises(Problem, match="not finite at step 14") as caught:
        loop.run(one)
    assert f"{one.schedule.lr(13):.3g}" in caught.value.why
    assert "fit.lr" in caught.value.mend
    assert steps(one) == [6, 12]
    assert torch.isfinite(weights(one)).all()


def test_gradients_that_are_not_finite_never_reach_a_checkpoint(tmp_path: Path):
    one = training(tmp_path)
    first = next(one.objective.parameters())
    one.objective.disturb = lambda step, loss: loss + (first.flatten()[0] * 0).sqrt() if step == 11 else loss
    with pytest.raises(Problem, match=r"not finite"):
        loop.run(one)
    assert steps(one) == [6]


def test_a_signal_ends_the_step_saves_and_says_how_to_go_on(tmp_path: Path):
    one, undisturbed = training(tmp_path / "a"), training(tmp_path / "b")

    def stop(step: int, loss: Tensor) -> Tensor:
        if step == 9:
            os.kill(os.getpid(), signal.SIGUSR2)
        return loss

    one.objective.disturb = stop
    before = signal.getsignal(signal.SIGUSR2)
    with pytest.raises(loop.Stopped, match="stopped at step 10 by SIGUSR2; the same command resumes there") as caught:
        loop.run(one)
    assert signal.getsignal(signal.SIGUSR2) == before
    assert caught.value.signal == signal.SIGUSR2
    assert steps(one) == [6, 10]
    again = training(tmp_path / "a")
    loop.run(again)
    loop.run(undisturbed)
    assert torch.equal(weights(again), weights(undisturbed))
    assert rows(again.job.curve) == rows(undisturbed.job.curve)


def test_a_signal_that_was_held_back_while_a_job_started_stops_after_one_step(tmp_path: Path):
    one = training(tmp_path)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    signal.pthread_kill(threading.get_ident(), signal.SIGUSR2)  # this thread: others of the test's do not hold it back
    with pytest.raises(loop.Stopped, match="stopped at step 1 by SIGUSR2"):
        loop.run(one)
    assert steps(one) == [1]


# --- resume


def test_two_checkpoints_are_kept(tmp_path: Path):
    one = training(tmp_path)
    loop.run(one)
    assert steps(one) == [18, 20]


def interrupted(folder: Path, step: int) -> None:
    """A training that failed at a step, as after a power cut."""
    one = training(folder)

    def fail(at: int, loss: Tensor) -> Tensor:
        if at == step:
            raise ConnectionError("the power went off")
        return loss

    one.objective.disturb = fail
    with pytest.raises(ConnectionError):
        loop.run(one)


@pytest.mark.parametrize("step", [0, 3, 6, 11, 12, 16, 19])
def test_resumed_from_any_step_it_ends_in_the_same_bits(tmp_path: Path, step: int, capsys: pytest.CaptureFixture[str]):
    interrupted(tmp_path / "a", step)
    one, undisturbed = training(tmp_path / "a"), training(tmp_path / "b")
    loop.run(one)
    assert (f"resumed at step {step // 6 * 6}" in capsys.readouterr().err) == (step >= 6)
    loop.run(undisturbed)
    assert torch.equal(weights(one), weights(undisturbed))
    assert rows(one.job.curve) == rows(undisturbed.job.curve)


@pytest.mark.parametrize("damage", ["truncated", "empty", "garbage"])
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
):
    interrupted(tmp_path / "a", 14)
    one, undisturbed = training(tmp_path / "a"), training(tmp_path / "b")
    newest = one.job.state / "step000000012.pt"
    whole = newest.read_bytes()
    newest.write_bytes({"truncated": whole[: len(whole) // 2], "empty": b"", "garbage": b"x" * 500}[damage])
    (one.job.state / ".step000000012.pt.abc.tmp").write_bytes(
        whole[:100]
    )  # what a kill in the middle of writing leaves
    loop.run(one)
    said = capsys.readouterr().err
    assert "step000000012.pt: cannot be read" in said
    assert "resumed at step 6" in said
    loop.run(undisturbed)
    assert torch.equal(weights(one), weights(undisturbed))
    assert rows(one.job.curve) == rows(undisturbed.job.curve)


def test_when_every_checkpoint_is_damaged_it_starts_anew(tmp_path: Path):
    interrupted(tmp_path / "a", 14)
    one, undisturbed = training(tmp_path / "a"), training(tmp_path / "b")
    for path in one.job.state.glob("*.pt"):
        path.write_bytes(b"")
    loop.run(one)
    loop.run(undisturbed)
    assert len(list((one.job.state / "aside-1").glob("*.pt"))) == 2  # damaged, but perhaps not beyond repair
    assert torch.equal(weights(one), weights(undisturbed))
    assert rows(one.job.curve) == rows(undisturbed.job.curve)


def test_a_state_of_other_settings_is_not_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    interrupted(tmp_path / "a", 14)
    one, undisturbed = training(tmp_path / "a"), training(tmp_path / "b")
    one.job = dataclasses.replace(one.job, fingerprint="other settings")
    kept = {path.name: path.read_bytes() for path in one.job.state.iterdir()}
    loop.run(one)
    assert {path.name: path.read_bytes() for path in (one.job.state / "aside-1").iterdir()} == kept
    assert "of other settings or data" in capsys.readouterr().err
    loop.run(undisturbed)
    assert torch.equal(weights(one), weights(undisturbed))
    assert rows(one.job.curve) == rows(undisturbed.job.curve)


def test_a_finished_training_has_nothing_left_to_do(tmp_path: Path):
    loop.run(training(tmp_path))
    again = training(tmp_path)
    loop.run(again)
    assert again.objective.progress == []


# --- kill -9

PEEK = os.WEXITED | os.WNOHANG | os.WNOWAIT


def in_child(work: Callable[[], None]) -> int:
    """Do the work in a process of its own; its exit code is 0 when it ended well."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of forks where there are threads
        child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return child


def last_step(curve: Path) -> int:
    """How far a training has logged."""
    return max([0, *(row["step"] for row in store.read_jsonl(curve))]) if curve.exists() else 0


@pytest.mark.slow
def test_killed_at_random_moments_a_training_ends_in_the_same_bits(
    tiny: dict[str, Any], write: Callable[[Any], Path], layout: Layout, toys: Path
):
    tiny["runs"]["jepa"]["fit"]["steps"] = 60
    tiny["execution"]["log_every"] = 1
    params = project.load(write(tiny))
    patchify(params, layout, "flat", "toys")

    def train() -> None:
        torch.set_num_threads(1)
        jaxtyping.config.update("jaxtyping_disable", True)  # signatures are checked elsewhere; here it would take long
        pretrain(params, layout, "jepa", 0)

    importlib.import_module("torch._dynamo")  # once, here: the first step of every child would
    assert os.waitpid(in_child(train), 0)[1] == 0
    files = layout.encoder("jepa", 0), layout.run_config("jepa", 0)
    undisturbed, curve = [path.read_bytes() for path in files], rows(layout.curve("jepa", 0))
    state = layout.state("jepa", 0)
    assert not state.exists()
    for path in (*files, layout.curve("jepa", 0)):
        path.unlink()

    moments, status, kills = random.Random(0), -1, 0
    while status != 0:
        child = in_child(train)
        moment = last_step(state / "curve.jsonl") + moments.randint(-2, 14)
        while kills < 7 and last_step(state / "curve.jsonl") < moment and not os.waitid(os.P_PID, child, PEEK):
            time.sleep(0.002)
        if kills < 7:
            time.sleep(moments.uniform(0, 0.03))
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        assert status == 0 or os.WTERMSIG(status) == signal.SIGKILL
        kills += status != 0
        if kills == 4:  # as if the kill had come while a checkpoint was being written
            newest = max(state.glob("step*.pt"))
            newest.write_bytes(newest.read_bytes()[:1000])
            (state / ".step000000063.pt.x.tmp").write_bytes(b"half")
    assert kills >= 4
    assert [path.read_bytes() for path in files] == undisturbed
    assert rows(layout.curve("jepa", 0)) == curve
    assert not state.exists()
