"""What a run trains: one file each, found by its name.

`objectives/<kind>.py` is one when it has these two; what else it may have is in `Plugin`, with its default:

    class Config(FrozenModel)                                    its `objective:` entry in params.yaml; has `kind`
    class Objective(train.objective.Base)                        __init__(config, setup: train.objective.Setup)

`train/objective.py` says what the base class may be asked: the loss of a batch at a share of the training, what follows
a step, what does not decay, the encoders that are saved.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

from jepa3d.params import FrozenModel, Model

if TYPE_CHECKING:
    from jepa3d.train.objective import Base, Setup

C = TypeVar("C", bound=FrozenModel, contravariant=True)


class Plugin(Protocol[C]):
    """Everything that the module of an objective may have. What is abstract here, it must have."""

    @property
    @abstractmethod
    def Config(self) -> type[FrozenModel]:  # noqa: N802 (a class)
        """The run's `objective:` entry in params.yaml."""

    @property
    @abstractmethod
    def Objective(self) -> Callable[[C, Setup], Base]:  # noqa: N802 (a class)
        """The objective of a Config for what a run is set up with; a subclass of `train.objective.Base`."""

    @property
    def ENCODER(self) -> bool:  # noqa: N802 (a constant)
        """Whether it trains an encoder, which is saved, evaluated, and can be another run's `init`. Default: True.

        One that trains none is a first stage: all of it is saved, and read by `train.first_stage.read`.
        """
        return True

    @property
    def LABELS(self) -> bool:  # noqa: N802 (a constant)
        """Whether it trains with the labels of the run's data. Default: False."""
        return False

    @property
    def READS(self) -> str | None:  # noqa: N802 (a constant)
        """The kind of the objective whose run `objective.reads` names: `Setup.reads` is its file. Default: None."""
        return None

    def unfit(self, config: C, model: Model, /) -> str | None:
        """Why a model cannot be trained so. Default: None, it can."""
        return None

    def unfit_batch(self, config: C, batch: int, /) -> str | None:
        """Why batches of so many shapes, over all ranks, cannot be used at once. Default: None, they can."""
        return None
