"""Data sets: one file each, found by its name. A plugin turns the raw files of one real format into shapes.

The contract of `datasets/<kind>.py` (everything at the top must import without torch):

    SOURCES: tuple[Source, ...]                                  what `download` fetches; () where nothing is
    class Config(DatasetConfig)                                  its entry in params.yaml
    def classes(raw: Path, config) -> tuple[str, ...]            names in label order; () for unlabelled data
    def parts(raw: Path, config) -> tuple[str, ...]              names in part order; () where there are none
    def read(raw: Path, config) -> Iterator[Shape | SetAside]    in a fixed order, the same for any worker count
    def forge(raw: Path) -> None                                 a few shapes in the TRUE raw format, for the tests
    def audit(raw: Path, config) -> dict                         may be absent; `split_from`: where the split came from,
                                                                 in words; `passed_over`: counts of files that are no
                                                                 shapes; `expected`: what `read` should give

`raw` is the folder with the raw files: the data set's `root:` where params.yaml names one, else
results/raw/<dataset>. Canonical shapes have y up.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Split = Literal["train", "test"]


class Shape(NamedTuple):
    """One shape of a data set. Every shape of one data set has the same number of points."""

    points: NDArray[np.float32]  # [P, 3], finite, y up
    label: int  # index into classes(); -1: unlabelled
    part: NDArray[np.int16] | None  # [P], index into parts()
    split: Split
    id: str  # unique within the data set
    missing: int = 0  # points of its file without coordinates, which were left out


class SetAside(NamedTuple):
    """A damaged shape: left out, and listed in the data set's audit (with `strict: true` it stops the work)."""

    id: str
    why: str
    meant: bool = False  # a rule leaves it out, such as one of a validation split: no reason to stop

    def record(self) -> dict[str, str]:
        """As it stands in the audit."""
        return {"id": self.id, "why": self.why}
