"""Clouds as comma-separated text, a folder a class: cup/0001.csv. Every fifth of a class is for testing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from jepa3d.datasets import SetAside, Shape
from jepa3d.params import DatasetConfig


class Config(DatasetConfig):
    kind: Literal["csv_folders"] = "csv_folders"
    root: str


def classes(raw: Path, config: Config) -> tuple[str, ...]:
    return tuple(sorted(path.name for path in raw.iterdir() if path.is_dir()))


def read(raw: Path, config: Config) -> Iterator[Shape | SetAside]:
    for label, name in enumerate(classes(raw, config)):
        for number, path in enumerate(sorted((raw / name).glob("*.csv"))):
            try:
                points = np.loadtxt(path, np.float32, delimiter=",", ndmin=2)
            except ValueError as error:
                yield SetAside(f"{name}/{path.stem}", str(error))
                continue
            yield Shape(points, label, None, "test" if number % 5 == 4 else "train", f"{name}/{path.stem}")


def forge(raw: Path) -> None:
    random = np.random.default_rng(0)
    for name, size in (("cube", (1, 1, 1)), ("plate", (1, 1, 0.1)), ("rod", (1, 0.1, 0.1))):
        (raw / name).mkdir(parents=True)
        for number in range(15):
            np.savetxt(raw / name / f"{number:04d}.csv", random.uniform(-1, 1, (128, 3)) * size, delimiter=",")
