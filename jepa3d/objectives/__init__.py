"""What a run trains: one file each, found by its name.

`objectives/<kind>.py` is one when it has what `Plugin` says:

    class Config(FrozenModel)                                    its `objective:` entry in params.yaml; has `kind`
    class Objective(train.objective.Base)                        __init__(config, setup: train.objective.Setup)
    def unfit(config, model: params.Model) -> str | None         may be left out: why a model cannot be trained so

`train/objective.py` says what the base class may be asked: the loss of a batch at a share of the training, what follows
a step, what does not decay, the encoders that are saved.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from jepa3d.params import FrozenModel, Model

if TYPE_CHECKING:
    from jepa3d.train.objective import Base


class Plugin(Protocol):
    """What the module of an objective must have."""

    @property
    @abstractmethod
    def Config(self) -> type[FrozenModel]:  # noqa: N802 (a class)
        """The run's `objective:` entry in params.yaml."""

    @property
    @abstractmethod
    def Objective(self) -> Callable[[Any, Model, int], Base]:  # noqa: N802 (a class)
        """The objective of a Config, for a model and a number of classes; a subclass of `train.objective.Base`."""
