"""The one training loop: AdamW, schedule, accumulation, clipping, log, checkpoints and exact resume.

A step is a pure function of the state before it and its number: its batch, its draws, its learning rate and its
momentum all follow from (seed, step). So the state is weights, optimiser and step, nothing has to be rewound, and a
training that was killed at any moment ends in the weights of one that was not (bit for bit on the CPU with the same
number of threads). With several ranks (`ranks`) each has its share of every batch; the first one logs, monitors
and saves, a stop signal to any rank stops all at the same step, and another number of ranks may go on from the state.
"""

from __future__ import annotations

import contextlib
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from jepa3d import loggers
from jepa3d.ops.schedule import warmup_cosine
from jepa3d.params import Execution, Fit
from jepa3d.problem import Problem
from jepa3d.progress import Steps
from jepa3d.results import resume, store
from jepa3d.seeds import derive
from jepa3d.train import checkpoint, distributed
from jepa3d.train.batches import Stream
from jepa3d.train.objective import Trainable

VISIBLE = 60.0  # seconds until a file of one node is seen by all, at the most
CURVE = "curve.jsonl"
KEEP = 2  # checkpoints: the newest and, should it be damaged, the one before
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)


class Stopped(Exception):
    """The training was asked to stop by a signal; its state is saved and the same command goes on."""

    def __init__(self, step: int, number: int) -> None:
        super().__init__(f"stopped at step {step} by {signal.Signals(number).name}; the same command resumes there")
        self.step, self.signal = step, number


@dataclass
class Schedule:
    """A Fit's lengths in steps, for a stream of known length."""

    total: int
    warmup: int
    fit: Fit

    @classmethod
    def of(cls, fit: Fit, steps_per_epoch: float) -> Schedule:
        total = fit.steps if fit.steps is not None else math.ceil((fit.epochs or 0) * steps_per_epoch)
        warmup = fit.warmup_steps if fit.warmup_steps is not None else round((fit.warmup_epochs or 0) * steps_per_epoch)
        return cls(total, warmup, fit)

    def lr(self, step: int) -> float:
        horizon = round(self.total * self.fit.horizon)
        return warmup_cosine(step, horizon, self.fit.lr, self.warmup, self.fit.lr_final)


class Watch(NamedTuple):
    """What is measured now and then, besides the loss: `look` gives numbers for the curve."""

    look: Callable[[], Mapping[str, float]]
    every: int  # steps
    on_all_ranks: bool = False  # the ranks share its work; else the first one does it


@dataclass(frozen=True)
class Job:
    """Who carries out a training, how, and where it leaves what: nothing that is computed depends on it.

    `fingerprint` is of settings and inputs: a state of another training is never resumed.
    """

    state: Path  # a folder for checkpoints and the curve
    fingerprint: str
    label: str
    world: distributed.World = distributed.ALONE
    execution: Execution = field(default_factory=Execution)
    about: loggers.About | None = None  # for the loggers; None: the curve is only written to its file

    @property
    def curve(self) -> Path:
        return self.state / CURVE


@dataclass
class Training:
    """One training: what is trained on what, how, and by which job."""

    objective: Trainable
    stream: Stream
    fit: Fit
    seed: int
    job: Job
    watch: Watch | None = None
    done: Callable[[], bool] = bool  # asked before each step; True ends the training early, the same on every rank
    schedule: Schedule = field(init=False)

    def __post_init__(self) -> None:
        self.schedule = Schedule.of(self.fit, self.stream.steps_per_epoch)


def run(training: Training) -> None:
    """Train to the end, from the last checkpoint if there is one. Raises Stopped on a signal."""
    objective, fit, total = training.objective, training.fit, training.schedule.total
    world, how = training.job.world, training.job.execution
    if not total:
        return
    device = training.stream.device
    optimiser = adamw(objective, fit)
    start = _resume(training, optimiser)
    module = distributed.parallel(_compiled(objective, how, device), world)
    trained = [p for p in objective.parameters() if p.requires_grad]
    objective.train()
    losses: list[Tensor] = []
    with (
        _stop_request(world.save_on) as request,
        distributed.layers_synchronised(objective, world),
        _Log(training, start) as log,
    ):
        for step in range(start, total):
            if training.done():
                break
            torch.manual_seed(derive(training.seed, "step", step))
            lr = training.schedule.lr(step)
            for entry in optimiser.param_groups:
                entry["lr"] = lr * entry.get("factor", 1.0)  # a state of before there were factors has none
            optimiser.zero_grad(set_to_none=True)
            loss, monitors = _accumulate(module, training, step)
            norm = nn.utils.clip_grad_norm_(trained, fit.clip) if fit.clip else None
            losses.append(loss)
            if device.type == "cpu" or _due(step, total, how.log_every, how.checkpoint_every):
                _check_finite(losses, step, lr, world)
            optimiser.step()
            objective.after_step((step + 1) / total)
            if _due(step, total, how.log_every):
                log.add(_row(step + 1, lr, loss, monitors, norm, world), timed=True)
            watch = training.watch
            if watch is not None and (world.first or watch.on_all_ranks) and _due(step, total, watch.every):
                log.add({"step": step + 1, **watch.look()})
            stop = world.max(request.number)
            if _due(step, total, how.checkpoint_every) or stop:
                _check_finite(losses, step, lr, world)
                _check_weights(trained, step, lr)
                if world.first:
                    save(training, optimiser, step + 1)
            request.heard(stop)
            if stop and stop not in world.save_on and step + 1 < total:
                world.barrier()  # nobody leaves before the state is saved
                raise Stopped(step + 1, stop)


def adamw(objective: Trainable, fit: Fit) -> torch.optim.AdamW:
    """AdamW without decay on biases, norms and tokens (section 7): on parameters of one dimension, and on those that
    the objective names. `fit.decay: all` decays every parameter.

    Each factor of the objective's `lr_factors` has groups of its own, the greatest first.
    """
    factors, kept = objective.lr_factors(), set(objective.no_decay())
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in objective.named_parameters():
        if parameter.requires_grad:
            decays = fit.decay == "all" or (parameter.ndim > 1 and name not in kept)
            groups.setdefault((factors.get(name, 1.0), decays), []).append(parameter)
    if unknown := (kept | set(factors)) - {name for name, _ in objective.named_parameters()}:
        raise ValueError(f"{type(objective).__name__} has no parameter {min(unknown)!r}")
    order = sorted(groups, reverse=True)  # of one factor, what decays comes first
    return torch.optim.AdamW(
        [
            {"params": groups[key], "factor": key[0], "weight_decay": fit.weight_decay if key[1] else 0.0}
            for key in order
        ],
        lr=fit.lr,
        betas=fit.betas,
        fused=True,
    )


def _accumulate(module: Any, training: Training, step: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Forward and backward of a step's micro-batches; the loss is their mean. The gradients stay in the parameters."""
    micro_batches, device = training.stream.at(step), training.stream.device
    precision, progress = training.fit.precision, step / training.schedule.total
    half = precision == "bf16" or (precision == "auto" and device.type == "cuda")
    count = len(micro_batches)
    total: Tensor | None = None
    monitors: dict[str, Tensor] = {}
    for number, batch in enumerate(micro_batches, 1):
        with distributed.no_sync(module) if number < count else contextlib.nullcontext():
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                loss = module(batch, progress)
            (loss.total / count).backward()
        share = loss.total.detach() / count
        total = share if total is None else total + share
        for name, value in loss.monitors.items():
            monitors[name] = monitors.get(name, torch.zeros_like(value)) + value.detach() / count
    assert total is not None
    return total, monitors


def _row(
    step: int, lr: float, loss: Tensor, monitors: Mapping[str, Tensor], norm: Tensor | None, world: distributed.World
) -> dict[str, Any]:
    """A row of the curve: the loss and the monitors are means over the micro-batches of all ranks."""
    values = torch.stack([value.detach().to(loss.device, torch.float32) for value in (loss, *monitors.values())])
    mean, *others = world.mean(values).tolist()
    row = {"step": step, "loss": mean, "lr": lr, **dict(zip(monitors, others, strict=True))}
    return row if norm is None else {**row, "gradient_norm": float(norm)}


def _compiled(objective: nn.Module, how: Execution, device: torch.device) -> Any:
    wanted = how.compile == "on" or (how.compile == "auto" and device.type == "cuda")
    return torch.compile(objective, dynamic=True) if wanted else objective


def _due(step: int, total: int, *every: int) -> bool:
    return step + 1 == total or any((step + 1) % period == 0 for period in every)


def _check_finite(losses: list[Tensor], step: int, lr: float, world: distributed.World) -> None:
    """Stop at the first loss that is no number, on all ranks; the steps since the last look are in `losses`."""
    if not losses:
        return
    finite = torch.isfinite(world.mean(torch.stack(losses))).tolist()
    first = step + 1 - len(losses)
    losses.clear()
    if not all(finite):
        raise _diverged(f"the loss is not finite at step {first + finite.index(False) + 1}", lr)


def _check_weights(weights: list[nn.Parameter], step: int, lr: float) -> None:
    """A finite loss can have gradients that are not: such weights never reach a checkpoint."""
    if not bool(torch.stack([torch.isfinite(weight).all() for weight in weights]).all()):
        raise _diverged(f"weights are not finite after step {step + 1}", lr)


def _diverged(what: str, lr: float) -> Problem:
    return Problem(
        what,
        f"learning rate {lr:.3g}; the last checkpoint is from before and is kept",
        "lower fit.lr, set fit.clip (1.0 is mild), or use fit.precision fp32",
    )


class _Log:
    """The first rank's curve as lines of JSON, the chosen loggers, and the progress that is shown."""

    def __init__(self, training: Training, start: int) -> None:
        job = training.job
        self.job, self.start, self.begin = job, start, time.monotonic()
        self.line = Steps(job.label, start, training.schedule.total) if job.world.first else None
        self.writers: dict[str, loggers.Writer] = {}

    def __enter__(self) -> _Log:
        if self.line is not None:
            if self.job.about is not None:
                self.writers = loggers.opened(self.job.execution.loggers, self.job.about, self.start)
            self.line.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self.line is not None:
            self.line.__exit__(*error)
        for kind in list(self.writers):
            self._tell(kind, lambda writer: writer.close(finished=error[0] is None))

    def add(self, row: dict[str, Any], timed: bool = False) -> None:
        """One row; a `timed` one also says how fast the training is, here and on the terminal."""
        if self.line is None:
            return
        if timed:
            self.line.show(row["step"], row["loss"])
            row = {**row, "steps_per_second": (row["step"] - self.start) / (time.monotonic() - self.begin)}
        store.append_jsonl(self.job.curve, row)
        values = {name: float(value) for name, value in row.items() if name != "step"}
        for kind in list(self.writers):
            self._tell(kind, lambda writer: writer.log(row["step"], values))

    def _tell(self, kind: str, call: Callable[[loggers.Writer], None]) -> None:
        """A logger that fails gets no more rows; the training goes on, and its curve has them all."""
        try:
            call(self.writers[kind])
        except Exception as error:
            del self.writers[kind]
            print(f"warning: {self.job.label}: the logger '{kind}' gets no more rows: {error}", file=sys.stderr)


def save(training: Training, optimiser: torch.optim.Optimizer, step: int) -> None:
    """A checkpoint, atomically; the oldest beyond two goes."""
    state = {
        "step": step,
        "fingerprint": training.job.fingerprint,
        "objective": training.objective.state_dict(),
        "optimiser": optimiser.state_dict(),
    }
    store.save_state(_state_file(training, step), state)
    for old in sorted(training.job.state.glob("step*.pt"))[:-KEEP]:
        old.unlink(missing_ok=True)


def _resume(training: Training, optimiser: torch.optim.Optimizer) -> int:
    """Load the newest whole checkpoint of this very training, which the first rank finds, and return its step."""
    world = training.job.world
    step = world.broadcast(_find_state(training, optimiser) if world.first else 0)
    if step and not world.first:
        path, end = _state_file(training, step), time.monotonic() + VISIBLE
        while not path.exists() and time.monotonic() < end:
            time.sleep(0.1)
        _load_state(training, optimiser, store.load_state(path))
    return step


def _find_state(training: Training, optimiser: torch.optim.Optimizer) -> int:
    """Load the newest whole checkpoint, cut the curve there, and return its step; 0 without one.

    A state that cannot be gone on from is set aside, never deleted: with the settings that it is of, it may be again.
    """
    job = training.job
    for path in sorted(job.state.glob("step*.pt"), reverse=True):
        try:
            state = checkpoint.read(path, job.fingerprint, training.objective, optimiser)
        except Problem as damaged:
            print(f"{damaged.what}: {damaged.why}; the checkpoint before it is used", file=sys.stderr)
            continue
        if state["fingerprint"] != job.fingerprint:
            print(f"{job.state}: the state is of other settings or data", file=sys.stderr)
            break
        _load_state(training, optimiser, state)
        _cut_curve(job.curve, state["step"])
        print(f"{job.label}: resumed at step {state['step']}", file=sys.stderr)
        return int(state["step"])
    if any(job.state.glob("step*.pt")):
        aside = resume.set_aside(job.state)
        print(f"{job.label}: starts anew; what was there is kept as {aside}", file=sys.stderr)
    _cut_curve(job.curve, 0)
    return 0


def _load_state(training: Training, optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    training.objective.load_state_dict(state["objective"])
    optimiser.load_state_dict(state["optimiser"])


def _state_file(training: Training, step: int) -> Path:
    return training.job.state / f"step{step:09d}.pt"


def _cut_curve(curve: Path, step: int) -> None:
    """Rows after the checkpoint will be written again."""
    if curve.exists():
        kept = [row for row in store.read_jsonl(curve) if row.get("step", step) <= step]
        store.write_jsonl(curve, kept)


@dataclass
class _Request:
    """The signal that this rank got, 0 for none. One of `save_on` never takes the place of one that stops."""

    save_on: tuple[int, ...]
    number: int = 0

    def note(self, number: int, frame: FrameType | None) -> None:
        if not (self.number and number in self.save_on):
            self.number = number

    def heard(self, number: int) -> None:
        """The ranks have saved their state for this signal; if that was all it asked for, it is done with."""
        if number == self.number and number in self.save_on:
            self.number = 0


@contextlib.contextmanager
def _stop_request(save_on: tuple[int, ...]) -> Iterator[_Request]:
    """Signals only leave a note while a step is under way; the loop reads it between two steps.

    One that came while a submitted job was starting was held back until here (`launch`), so that each life of the job
    trains at least one step.
    """
    request = _Request(save_on)
    try:
        before = {number: signal.signal(number, request.note) for number in STOP_SIGNALS}
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    except ValueError:  # not in the main thread, where Python allows no handlers
        before = {}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
