"""What the training loop asks of an objective."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from torch import Tensor, nn

from jepa3d.nets.encoder import Encoder
from jepa3d.problem import Problem
from jepa3d.train.batches import Batch


class Loss(NamedTuple):
    """What a step minimises, and numbers about it for the curve (0-d tensors; nothing waits for them)."""

    total: Tensor
    monitors: dict[str, Tensor]


class Base(nn.Module):
    """An objective: it holds the encoders, turns a batch into a loss, and may act after each step and at the end."""

    def forward(self, batch: Batch) -> Loss:
        kind = type(self).__module__.rpartition(".")[2]
        raise Problem(f"objective '{kind}' is a baseline", "nothing in it can be trained", "give the run fit.steps 0")

    def encoders(self) -> dict[str, Encoder]:
        """`context`, and `target` where there is an EMA copy: what is saved and evaluated."""
        raise NotImplementedError

    def after_step(self, progress: float) -> None:
        """Called after every optimiser step with the share of the training that is done."""

    def finish(self, batches: Iterable[Batch]) -> None:
        """Called once after the last step, with batches of the training data."""
