"""Plugins are modules found by their name: no registry, no decorator, no list to edit."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from types import ModuleType

from jepa3d.problem import Problem, did_you_mean


def known(package: str) -> list[str]:
    """The kinds of one package (`datasets`, `objectives`, `tasks`), sorted; nothing is imported."""
    folder = Path(__file__).parent / package
    return sorted(module.name for module in pkgutil.iter_modules([str(folder)]) if not module.name.startswith("_"))


def check(package: str, kind: str, where: str = "") -> None:
    """Raise a Problem when `package` has no plugin called `kind`."""
    kinds = known(package)
    if kind not in kinds:
        raise Problem(
            f"{where + ': ' if where else ''}there is no kind '{kind}' in jepa3d/{package}",
            f"known: {', '.join(kinds)}",
            did_you_mean(kind, kinds, f"write jepa3d/{package}/{kind}.py, or use one of these"),
        )


def find(package: str, kind: str) -> ModuleType:
    """The plugin module `jepa3d.<package>.<kind>`; an unknown kind lists the known ones."""
    check(package, kind)
    return importlib.import_module(f"jepa3d.{package}.{kind}")
