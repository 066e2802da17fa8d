"""Data sets: one file each, found by its name. A plugin turns the raw files of one real format into shapes.

`datasets/<kind>.py` is a data set when it has these four (everything at the top must import without torch):

    class Config(DatasetConfig)                                  its entry in params.yaml
    def classes(raw: Path, config) -> tuple[str, ...]            names in label order; () for unlabelled data
    def read(raw: Path, config) -> Iterator[Shape | SetAside]    in a fixed order, the same for any worker count
    def forge(raw: Path) -> None                                 a few shapes in the TRUE raw format, for the tests

`raw` is the folder with the raw files: the data set's `root:` where params.yaml names one, else
results/raw/<dataset>. Canonical shapes have y up. What else a data set may have is in `Plugin`, with the default that
it has where it says nothing; `plugins.find(datasets, kind)` gives the module with these defaults.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Generator, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from jepa3d.fetch.source import Source
from jepa3d.formats.roots import Located, has_files
from jepa3d.params import DatasetConfig
from jepa3d.problem import Problem

Split = Literal["train", "test"]
C = TypeVar("C", bound=DatasetConfig, contravariant=True)


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


class Fetched(DatasetConfig):
    """The base of the `Config` of a data set with sources: the consent to their terms, and where to fetch them."""

    accept_terms: bool = False  # true: you have read the terms at the address that is shown, and accept them
    offline: bool = False  # true: never open the network for it (JEPA3D_OFFLINE=1 says so for all)
    mirrors: tuple[str, ...] = ()  # folders on the network that hold the files; tried first


class Reader(Protocol[C]):
    """What is asked about one raw folder when it is converted."""

    @abstractmethod
    def classes(self, raw: Path, config: C, /) -> tuple[str, ...]:
        """Names in label order; () for unlabelled data."""

    @abstractmethod
    def read(self, raw: Path, config: C, /) -> Iterator[Shape | SetAside]:
        """Every shape in a fixed order, the same for any worker count."""

    def parts(self, raw: Path, config: C, /) -> tuple[str, ...]:
        """Names in the order of part labels. Default: no shape has parts."""
        return ()

    def count(self, raw: Path, config: C, /) -> int | None:
        """How many shapes `read` gives if none is damaged. Default: not known, which costs `convert` a copy."""
        return None

    def audit(self, raw: Path, config: C, /) -> dict[str, Any]:
        """What lists and files say about themselves, as plain JSON, asked after `read`. Default: nothing.

        `split_from` says where the split came from, in words; `passed_over` counts the files that are no shapes;
        `expected` is what `read` should give. `doctor` judges official, counts, hashes, overlaps, repeats,
        leaked_test_shapes, listed_without_file and notes; others are kept as they are.
        """
        return {}


class Plugin(Reader[C], Protocol[C]):
    """Everything that a data set may have. What is abstract here, its module must have."""

    SOURCES: tuple[Source, ...] = ()  # what `download` fetches; with any, Config extends `Fetched`

    @property
    @abstractmethod
    def Config(self) -> type[DatasetConfig]:  # noqa: N802 (a class)
        """The data set's entry in params.yaml."""

    @abstractmethod
    def forge(self, raw: Path, /) -> None:
        """Write a few shapes in the true raw format, for the tests."""

    def sources(self, config: C, /) -> tuple[Source, ...]:
        """Those of SOURCES that these settings need. Default: all."""
        return self.SOURCES

    def locate(self, raw: Path, config: C, /) -> Located:
        """Which layout is in the folder. Raises a Problem where none is complete. Default: any file will do."""
        if not has_files(raw):
            raise Problem(f"{raw}: no file in it", "the data set's raw files are read from there", "put them there")
        return Located("files", raw)

    def peek(self, raw: Path, config: C, count: int, /) -> Iterator[Shape | SetAside]:
        """About `count` shapes, evenly from the whole where that is quick. Default: the first ones."""
        shapes = self.read(raw, config)
        yield from islice(shapes, count)
        if isinstance(shapes, Generator):
            shapes.close()

    def surveyed(self, raw: Path, config: C, /) -> Reader[C]:
        """The same functions about one folder, for a plugin that has to look at it first. Default: itself."""
        return self
