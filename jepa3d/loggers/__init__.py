"""Where a training's curve goes beside its own file: one file a service, found by its name.

The curve itself, JSON lines beside the checkpoints, is always written, by the loop. `loggers/<kind>.py` is a logger
when it has these two:

    class Config(FrozenModel)                                    its entry in `execution.loggers`; has `kind`
    def begin(config, about, step: int) -> Writer                for a training that begins, or goes on, after `step`

The service's own package is imported by `begin`, so that nobody needs it who does not choose it; where it is missing,
`begin` raises `missing(...)`. Rows up to `step` were logged by an earlier life of the training: a writer goes on with
them. Rows after `step` may come a second time, with the same values.
"""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from jepa3d import plugins
from jepa3d.params import FrozenModel, Logger
from jepa3d.problem import Problem
from jepa3d.results import store

C = TypeVar("C", bound=FrozenModel, contravariant=True)


class About(NamedTuple):
    """Which training it is: a run's, or one of an evaluation of it."""

    results: Path
    run: str
    seed: int
    settings: Mapping[str, Any]  # what the training depends on, as it is stamped
    work: tuple[str, ...] = ()  # the evaluation, and the number of the training among its own

    @property
    def name(self) -> str:
        return " ".join([self.run, f"seed {self.seed}", *self.work])

    def folder(self, kind: str) -> Path:
        """A folder of this training's own for the files of a logger: `results/<kind>/<run>/seed<n>/...`."""
        return self.results.joinpath(kind, self.run, f"seed{self.seed}", *self.work)

    def flat(self) -> dict[str, str | int | float | bool]:
        """The settings as pairs, `run.fit.lr: 0.001`, for services whose parameters have no structure."""
        pairs: dict[str, str | int | float | bool] = {}

        def walk(value: Any, path: str) -> None:
            if isinstance(value, Mapping) and value:
                for key, inner in value.items():
                    walk(inner, f"{path}.{key}" if path else str(key))
            else:
                pairs[path] = value if isinstance(value, (int, float, bool)) else str(value)

        walk(self.settings, "")
        return pairs


class Writer(Protocol):
    """One training's rows, on their way to one service."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """The numbers of a row of the curve, after `step` optimiser steps."""

    def close(self, finished: bool) -> None:
        """No more rows come: the training is complete, or it was stopped and may go on later."""


class Plugin(Protocol[C]):
    """What the module of a logger must have."""

    @property
    @abstractmethod
    def Config(self) -> type[FrozenModel]:  # noqa: N802 (a class)
        """Its entry in `execution.loggers`."""

    @abstractmethod
    def begin(self, config: C, about: About, step: int, /) -> Writer:
        """A writer for a training that begins (step 0) or goes on. Raises a Problem where the package is missing."""


def opened(chosen: Sequence[Logger] | None, about: About, step: int) -> dict[str, Writer]:
    """The writers of the chosen loggers by their kinds. Nothing chosen (None): TensorBoard, where it is installed."""
    if chosen is None:
        with suppress(Missing):
            return opened([Logger(kind="tensorboard")], about, step)
        return {}
    writers: dict[str, Writer] = {}
    for entry in chosen:
        plugin: Plugin[FrozenModel] = plugins.find(sys.modules[__name__], entry.kind)
        writers[entry.kind] = plugin.begin(plugin.Config.model_validate(entry.model_dump()), about, step)
    return writers


class Missing(Problem):
    """The package of a logger is not installed."""


def missing(kind: str, package: str) -> Missing:
    return Missing(
        f"execution.loggers: '{kind}' needs the package {package}, which is not installed",
        "the packages of loggers are installed by those who use them",
        f"pip install {package}, or take '{kind}' out of execution.loggers",
    )


def remembered(folder: Path, step: int) -> str | None:
    """The name under which the service knows a training that goes on; None for one that begins."""
    path = folder / "id"
    return path.read_text(encoding="utf-8").strip() if step and path.exists() else None


def remember(folder: Path, name: str) -> None:
    store.write_text(folder / "id", name + "\n")
