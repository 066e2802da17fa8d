"""TensorBoard: `tensorboard --logdir results/tensorboard` shows a study while it trains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from jepa3d.loggers import About, Writer, missing
from jepa3d.params import FrozenModel


class Config(FrozenModel):
    kind: Literal["tensorboard"] = "tensorboard"


def begin(config: Config, about: About, step: int) -> Writer:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise missing("tensorboard", "tensorboard") from None
    folder = about.folder("tensorboard")
    if not step:
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
    return Board(SummaryWriter(str(folder), purge_step=step + 1))


class Board:
    def __init__(self, events: Any) -> None:
        self.events = events

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.events.add_scalar(name, value, step)
        self.events.flush()

    def close(self, finished: bool) -> None:
        self.events.close()
