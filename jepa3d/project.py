"""params.yaml, checked against every plugin that there is: `project.load(path)`. Nothing here imports torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jepa3d import datasets, encoders, loggers, objectives, tasks
from jepa3d.params import Params
from jepa3d.params import load as reading
from jepa3d.params import schema as describing

PACKAGES = reading.Packages(datasets, encoders, loggers, objectives, tasks)


def load(path: str | Path = "params.yaml", study: str | None = None) -> Params:
    """Read and check a params.yaml; `study` chooses another than the file does. Raises a Problem for a mistake."""
    params = reading.load(path, PACKAGES)
    return params.choosing(study) if study else params


def check_objectives(params: Params) -> None:
    """Check every run's objective against its plugin's Config. Imports torch, as the modules of objectives do."""
    reading.check_objectives(params, objectives)


def schema() -> dict[str, Any]:
    """The JSON schema of params.yaml, with every plugin's Config. Imports torch."""
    packages = {"datasets": datasets, "models": encoders, "tasks": tasks, "objective": objectives, "loggers": loggers}
    return describing.schema(packages)
