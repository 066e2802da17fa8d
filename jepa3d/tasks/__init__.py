"""Evaluations: one file each, found by its name.

`tasks/<kind>.py` is one when it has these four (everything at the top must import without torch and scikit-learn,
which are imported inside the functions: the Snakefile reads the Configs):

    NEEDS: Needs = "features" or "encoder"
    class Config(FrozenModel)                                    its `task:` entry in params.yaml; has `kind`
    def protocol(config) -> str                                  one line: what was done, as the report prints it
    def evaluate(given, config, seed: int) -> Result             `given`: Features or Encoded, as NEEDS says

What else a task may have is in `Plugin`, with its default: which encoders it can evaluate, and, where it consists of
trainings of their own that a cluster may run at once, `folds`, `fold` and `gather`.

One that trains in one go may be given to several ranks: each calls `evaluate` with the ranks that it works with as
`given.world`, and what the first returns counts.

A Result's first metric is the headline. Each metric says what it is (`jepa3d.results.finding`): its unit, whether
higher is better, what a guess scores. The report has no other knowledge of it. What tasks share is in `_shared`.

Nothing is chosen on the test split. Where a protocol of the peers does choose on it, the metric says so
(`chosen="community"`) and the protocol's line does, and nothing else depends on it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from jepa3d.loggers import About
from jepa3d.params import Execution, FrozenModel, Model, Run, Scheme
from jepa3d.problem import Problem
from jepa3d.results.finding import Details, Metric, Result

__all__ = ["Details", "Encoded", "Features", "Metric", "Needs", "Plugin", "Result"]

if TYPE_CHECKING:
    from jepa3d.train.distributed import World
    from jepa3d.train.loop import Job

Needs = Literal["features", "encoder"]


class Features(NamedTuple):
    """Frozen features of one data set, for tasks with NEEDS = "features"."""

    x_train: NDArray[np.float32]  # [n, F]
    y_train: NDArray[np.int64]  # [n]
    x_test: NDArray[np.float32]
    y_test: NDArray[np.int64]
    classes: tuple[str, ...]
    source: str = "features"  # the file they are from, for messages
    pool: str = "max_mean"  # how tokens were pooled: "max_mean" is concat(max, mean), F = 2D
    id_train: NDArray[np.str_] | None = None  # [n]
    id_test: NDArray[np.str_] | None = None


class Encoded(NamedTuple):
    """A pretrained encoder and a labelled data set, for tasks with NEEDS = "encoder" (fine-tuning, segmentation).

    `predicted` of their Result, where there is one label per shape, is in the canonical file's order of test shapes.
    """

    encoder: Path  # encoder.safetensors of the run and seed
    canonical: Path  # the evaluation's data set: points, label, part, split, id
    patches: Path  # its patch indices
    scheme: Scheme  # of `patches`: the evaluation's own, else the run's
    model: Model  # the run's architecture
    run: Run  # the run's whole entry
    state: Path  # a folder for resume state; the stage removes it when the finding is written
    fingerprint: str = ""  # of the evaluation's settings, seed and inputs: a state of another one is never resumed
    world: World | None = None  # the ranks that share the work; None: there is only this one
    execution: Execution = Execution()  # how it is carried out: no result depends on it
    about: About | None = None  # which evaluation it is, for the loggers of its training

    def job(self, label: str) -> Job:
        """The job of a training that belongs to this evaluation; `label` names it in logs."""
        from jepa3d.train import distributed, loop

        world = self.world or distributed.ALONE
        return loop.Job(self.state, self.fingerprint, label, world, self.execution, self.about)


G = TypeVar("G", Features, Encoded, contravariant=True)
C = TypeVar("C", bound=FrozenModel, contravariant=True)


class Plugin(Protocol[G, C]):
    """Everything that a task may have. What is abstract here, its module must have."""

    @property
    @abstractmethod
    def NEEDS(self) -> Needs:  # noqa: N802 (a constant)
        """What `evaluate` is given: frozen features, or the encoder itself."""

    @property
    @abstractmethod
    def Config(self) -> type[FrozenModel]:  # noqa: N802 (a class)
        """The task's entry in params.yaml."""

    @abstractmethod
    def protocol(self, config: C, /) -> str:
        """One line: what was done, as the report prints it."""

    @abstractmethod
    def evaluate(self, given: G, config: C, seed: int, /) -> Result:
        """The finding, the same for the same seed. Raises a Problem for data that it cannot use."""

    @property
    def FIXED_POINTS(self) -> bool:  # noqa: N802 (a constant)
        """Whether it reads labels of single points, so that no scheme may draw others. Default: False."""
        return False

    def few_labels(self, config: C, /) -> bool:
        """Whether it measures what a few labels are enough for: no encoder may have seen the others. Default: False."""
        return False

    def unfit(self, config: C, model: Model, /) -> str | None:
        """Why an encoder cannot be evaluated so. Default: None, it can."""
        return None

    def folds(self, config: C, /) -> int:
        """How many trainings of their own the evaluation consists of. Default: 0, it is one job."""
        return 0

    def fold(self, given: G, config: C, seed: int, number: int, /) -> Result:
        """One of them, a job of its own."""
        raise Problem(f"there is no fold {number}", "this evaluation is computed in one go", "leave out --fold")

    def gather(self, results: Sequence[Result], config: C, /) -> Result:
        """The finding, from the results of all of them in their order. Default: there is one, of the only job."""
        return results[0]
