"""What the training loop asks of what it trains, and what an objective of `jepa3d/objectives` is given and gives."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from jepa3d.nets.encoder import Encoder
from jepa3d.params import Model, Scheme
from jepa3d.problem import Problem
from jepa3d.train.batches import Batch
from jepa3d.train.distributed import ALONE, World


class Loss(NamedTuple):
    """What a step minimises, and numbers about it for the curve (0-d tensors; nothing waits for them)."""

    total: Tensor
    monitors: dict[str, Tensor]


class Trainable(nn.Module):
    """What `loop.run` trains: pretraining's objectives, and the models of fine-tuning and segmentation."""

    def forward(self, batch: Batch, progress: float = 0.0) -> Loss:
        """The loss of one (micro-)batch.

        `progress` is the share of the training that is done before this step: step / steps, in [0, 1). It follows from
        the step alone, so a resumed training has the same. Outside of a training it is 0.
        """
        raise NotImplementedError

    def after_step(self, progress: float) -> None:
        """Called after every optimiser step with the share of the training that is then done, in (0, 1]."""

    def no_decay(self) -> Collection[str]:
        """Names of parameters of two or more dimensions without weight decay: tokens, embeddings, a codebook.

        Parameters of one dimension never have it, unless the training has `fit.decay: all`.
        """
        return ()

    def lr_factors(self) -> Mapping[str, float]:
        """Factors of the learning rate by the parameters' names; 1 for a parameter that is not named."""
        return {}


class Setup(NamedTuple):
    """What a run gives to its objective, beside the objective's own settings."""

    model: Model
    scheme: Scheme = Scheme()  # of the patches in its batches
    classes: int = 0  # of the run's data; 0: no labels, or several data sets, whose labels differ
    world: World = ALONE  # the ranks that share each batch
    reads: Path | None = None  # what the run of a first stage has left, where the run's objective names one


class Base(Trainable):
    """An objective: it holds the encoders, turns a batch into a loss, and may act after each step and at the end.

    A plugin's `Objective(config, setup)` is built from its own Config and a `Setup`.
    """

    def forward(self, batch: Batch, progress: float = 0.0) -> Loss:
        kind = type(self).__module__.rpartition(".")[2]
        raise Problem(f"objective '{kind}' is a baseline", "nothing in it can be trained", "give the run fit.steps 0")

    def encoders(self) -> dict[str, Encoder]:
        """`context`, and `target` where there is an EMA copy: what is saved and evaluated; none without `ENCODER`."""
        raise NotImplementedError

    def begin_with(self, encoder: Encoder) -> None:
        """Called before the training when the run has an `init`: an encoder of the run's model, whose weights it takes.

        The EMA copy begins with them too, as it begins with the drawn ones otherwise.
        """
        for own in self.encoders().values():
            own.load_state_dict(encoder.state_dict())

    def finish(self, batches: Iterable[Batch]) -> None:
        """Called once after the last step, with batches of the training data."""
