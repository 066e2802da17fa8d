"""The one training loop: AdamW, schedule, accumulation, clipping, log, checkpoints and exact resume.

A step is a pure function of the state before it and its number: its batch, its draws, its learning rate and its
momentum all follow from (seed, step). So the state is weights, optimiser and step, nothing has to be rewound, and a
training that was killed at any moment ends in the weights of one that was not (bit for bit on the CPU with the same
number of threads).
"""

from __future__ import annotations

import contextlib
import math
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from jepa3d import config, store
from jepa3d.batches import Stream
from jepa3d.ops.schedule import warmup_cosine
from jepa3d.problem import Problem
from jepa3d.progress import Steps
from jepa3d.seeds import derive

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
    fit: config.Fit

    @classmethod
    def of(cls, fit: config.Fit, steps_per_epoch: float) -> Schedule:
        total = fit.steps if fit.steps is not None else math.ceil((fit.epochs or 0) * steps_per_epoch)
        warmup = fit.warmup_steps if fit.warmup_steps is not None else round((fit.warmup_epochs or 0) * steps_per_epoch)
        return cls(total, warmup, fit)

    def lr(self, step: int) -> float:
        return warmup_cosine(step, self.total, self.fit.lr, self.warmup, self.fit.lr_final)


@dataclass
class Training:
    """One training: what is trained on what, and where its state and its curve are kept."""

    objective: Any  # an objectives.Base: forward(batch) -> Loss, after_step(progress)
    stream: Stream
    fit: config.Fit
    seed: int
    state: Path  # a folder for checkpoints
    label: str
    fingerprint: str  # of settings and inputs: a state of another training is never resumed
    watch: Callable[[], Mapping[str, float]] | None = None
    watch_every: int = 200
    board: Path | None = None  # a folder for TensorBoard, where that is installed
    done: Callable[[], bool] = bool  # asked before each step; True ends the training early, the same on every rank
    schedule: Schedule = field(init=False)

    def __post_init__(self) -> None:
        self.schedule = Schedule.of(self.fit, self.stream.steps_per_epoch)

    @property
    def curve(self) -> Path:
        return self.state / "curve.jsonl"


def run(training: Training) -> None:
    """Train to the end, from the last checkpoint if there is one. Raises Stopped on a signal."""
    objective, fit, total = training.objective, training.fit, training.schedule.total
    if not total:
        return
    device = training.stream.device
    module = _compiled(objective, fit, device)
    optimiser = adamw(objective, fit)
    start = _resume(training, optimiser)
    trained = [p for p in objective.parameters() if p.requires_grad]
    objective.train()
    losses: list[Tensor] = []
    log = _Log(training, start)
    begin = time.monotonic()
    with _stop_request() as request, Steps(training.label, start, total) as line:
        for step in range(start, total):
            if training.done():
                break
            torch.manual_seed(derive(training.seed, "step", step))
            lr = training.schedule.lr(step)
            for entry in optimiser.param_groups:
                entry["lr"] = lr * entry.get("factor", 1.0)  # a state of before there were factors has none
            optimiser.zero_grad(set_to_none=True)
            loss, monitors = _accumulate(module, training.stream, step, fit, device)
            norm = nn.utils.clip_grad_norm_(trained, fit.clip) if fit.clip else None
            losses.append(loss)
            if device.type == "cpu" or _due(step, total, fit.log_every, fit.checkpoint_every):
                _check_finite(losses, step, lr)
            optimiser.step()
            objective.after_step((step + 1) / total)
            if _due(step, total, fit.log_every):
                row = {"step": step + 1, "loss": float(loss), "lr": lr}
                row |= {name: float(value) for name, value in monitors.items()}
                row |= {} if norm is None else {"gradient_norm": float(norm)}
                line.show(step + 1, row["loss"])
                log.add({**row, "steps_per_second": (step + 1 - start) / (time.monotonic() - begin)})
            if training.watch is not None and _due(step, total, training.watch_every):
                log.add({"step": step + 1, **training.watch()})
            if _due(step, total, fit.checkpoint_every) or request.number is not None:
                _check_finite(losses, step, lr)
                _check_weights(trained, step, lr)
                save(training, optimiser, step + 1)
            if request.number is not None and step + 1 < total:
                raise Stopped(step + 1, request.number)


def adamw(objective: nn.Module, fit: config.Fit) -> torch.optim.AdamW:
    """AdamW without decay on biases, norms and tokens, that is on parameters of one dimension (section 7).

    An objective with `lr_factors` (a factor for each parameter's name; 1 where it says nothing) has groups of their own
    learning rate, the greatest factor first.
    """
    factors: Mapping[str, float] = getattr(objective, "lr_factors", dict)()
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in objective.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((factors.get(name, 1.0), parameter.ndim > 1), []).append(parameter)
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


def _accumulate(
    module: Any, stream: Stream, step: int, fit: config.Fit, device: torch.device
) -> tuple[Tensor, dict[str, Tensor]]:
    """Forward and backward of one step's parts; the loss is their mean. The gradients stay in the parameters."""
    parts = stream.at(step)
    half = fit.precision == "bf16" or (fit.precision == "auto" and device.type == "cuda")
    total: Tensor | None = None
    monitors: dict[str, Tensor] = {}
    for batch in parts:
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            loss = module(batch)
        (loss.total / len(parts)).backward()
        share = loss.total.detach() / len(parts)
        total = share if total is None else total + share
        for name, value in loss.monitors.items():
            monitors[name] = monitors.get(name, torch.zeros_like(value)) + value.detach() / len(parts)
    assert total is not None
    return total, monitors


def _compiled(objective: nn.Module, fit: config.Fit, device: torch.device) -> Any:
    wanted = fit.compile == "on" or (fit.compile == "auto" and device.type == "cuda")
    return torch.compile(objective, dynamic=True) if wanted else objective


def _due(step: int, total: int, *every: int) -> bool:
    return step + 1 == total or any((step + 1) % period == 0 for period in every)


def _check_finite(losses: list[Tensor], step: int, lr: float) -> None:
    """Stop at the first loss that is no number; the steps since the last look are in `losses`."""
    if not losses:
        return
    finite = torch.isfinite(torch.stack(losses)).tolist()
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
    """The curve, as lines of JSON and, where TensorBoard is installed, for it too."""

    def __init__(self, training: Training, start: int) -> None:
        self.curve = training.curve
        self.writer: Any = None
        if training.board is not None:
            if not start:
                shutil.rmtree(training.board, ignore_errors=True)
            with contextlib.suppress(ImportError):
                from torch.utils.tensorboard import SummaryWriter

                self.writer = SummaryWriter(str(training.board), purge_step=start + 1)

    def add(self, row: dict[str, Any]) -> None:
        store.append_jsonl(self.curve, row)
        if self.writer is not None:
            for name, value in row.items():
                self.writer.add_scalar(name, value, row["step"])
            self.writer.flush()


def save(training: Training, optimiser: torch.optim.Optimizer, step: int) -> None:
    """A checkpoint, atomically; the oldest beyond two goes."""
    state = {
        "step": step,
        "fingerprint": training.fingerprint,
        "objective": training.objective.state_dict(),
        "optimiser": optimiser.state_dict(),
    }
    store.save_state(training.state / f"step{step:09d}.pt", state)
    for old in sorted(training.state.glob("step*.pt"))[:-KEEP]:
        old.unlink(missing_ok=True)


def _resume(training: Training, optimiser: torch.optim.Optimizer) -> int:
    """Load the newest whole checkpoint of this very training, cut the curve there, and return its step."""
    for path in sorted(training.state.glob("step*.pt"), reverse=True):
        try:
            state = store.load_state(path)
        except Problem as damaged:
            print(f"{damaged.what}: {damaged.why}; the checkpoint before it is used", file=sys.stderr)
            continue
        if state["fingerprint"] != training.fingerprint:
            print(f"{path}: of other settings or data; this training starts anew", file=sys.stderr)
            break
        training.objective.load_state_dict(state["objective"])
        optimiser.load_state_dict(state["optimiser"])
        _cut_curve(training.curve, state["step"])
        print(f"{training.label}: resumed at step {state['step']}", file=sys.stderr)
        return int(state["step"])
    for left in training.state.glob("step*.pt"):
        left.unlink(missing_ok=True)
    _cut_curve(training.curve, 0)
    return 0


def _cut_curve(curve: Path, step: int) -> None:
    """Rows after the checkpoint will be written again."""
    if curve.exists():
        kept = [row for row in store.read_jsonl(curve) if row["step"] <= step]
        store.write_jsonl(curve, kept)


@dataclass
class _Request:
    number: int | None = None


@contextlib.contextmanager
def _stop_request() -> Iterator[_Request]:
    """Signals only leave a note while a step is under way; the loop reads it between two steps."""
    request = _Request()

    def note(number: int, frame: FrameType | None) -> None:
        request.number = number

    try:
        before = {number: signal.signal(number, note) for number in STOP_SIGNALS}
    except ValueError:  # not in the main thread, where Python allows no handlers
        before = {}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
