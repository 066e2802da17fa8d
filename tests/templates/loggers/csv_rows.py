"""A training's curve as comma-separated text: step, name, value."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from jepa3d.loggers import About, Writer
from jepa3d.params import FrozenModel
from jepa3d.results import store


class Config(FrozenModel):
    kind: Literal["csv_rows"] = "csv_rows"


def begin(config: Config, about: About, step: int) -> Writer:
    path = about.folder("csv_rows") / "curve.csv"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if step and path.exists() else []
    store.write_text(path, "".join(line for line in lines if int(line.split(",")[0]) <= step))
    return Rows(path)


class Rows:
    def __init__(self, path: Path) -> None:
        self.path = path

    def log(self, step: int, values: Mapping[str, float]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(f"{step},{name},{value}\n" for name, value in values.items())

    def close(self, finished: bool) -> None:
        """Every row is written already."""
