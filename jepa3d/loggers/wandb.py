"""Weights & Biases: a training is a run of a project, the seeds and evaluations of one of our runs are a group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal
from uuid import uuid4

from jepa3d.loggers import About, Writer, missing, remember, remembered
from jepa3d.params import FrozenModel


class Config(FrozenModel):
    """`mode: offline` writes to results/wandb/, from where `wandb sync` sends it later."""

    kind: Literal["wandb"] = "wandb"
    project: str = "jepa3d"
    entity: str | None = None
    mode: Literal["online", "offline"] = "online"


def begin(config: Config, about: About, step: int) -> Writer:
    try:
        import wandb
    except ImportError:
        raise missing("wandb", "wandb") from None
    folder = about.folder("wandb")
    name = remembered(folder, step) or uuid4().hex
    remember(folder, name)
    run = wandb.init(
        project=config.project,
        entity=config.entity,
        group=about.run,
        name=about.name,
        config=dict(about.settings),
        dir=str(folder),
        id=name,
        resume="allow",
        mode=config.mode,
        reinit="create_new",
    )
    return Run(run)


class Run:
    def __init__(self, run: Any) -> None:
        self.run = run

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.run.log(dict(values), step=step)

    def close(self, finished: bool) -> None:
        self.run.finish(exit_code=0 if finished else 1)
