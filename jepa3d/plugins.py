"""Plugins are modules found by their name: no registry, no decorator, no list to edit.

A caller gives the package that it imported itself, so every arrow of the import graph is visible to a linter. This is
the only module that imports by name.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from jepa3d import renamed
from jepa3d.problem import Problem, did_you_mean


def known(package: ModuleType) -> list[str]:
    """The kinds of a package of plugins, sorted; nothing is imported. A module with a leading underscore is none."""
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_"))


def check(package: ModuleType, kind: str, where: str = "") -> None:
    """Raise a Problem when `package` has no plugin called `kind`."""
    kinds = known(package)
    if kind not in kinds:
        renamed.refuse_kind(kind, where or "kind")
        folder = package.__name__.replace(".", "/")
        raise Problem(
            f"{where + ': ' if where else ''}there is no kind '{kind}' in {folder}",
            f"known: {', '.join(kinds)}",
            did_you_mean(kind, kinds, f"write {folder}/{kind}.py, or use one of these"),
        )


def find(package: ModuleType, kind: str) -> ModuleType:
    """The plugin module `<package>.<kind>`; an unknown kind lists the known ones."""
    check(package, kind)
    return importlib.import_module(f"{package.__name__}.{kind}")
