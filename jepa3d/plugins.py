"""Plugins are modules found by their name: no registry, no decorator, no list to edit.

A caller gives the package that it imported itself, so every arrow of the import graph is visible to a linter. This is
the only module that imports by name. The package's `Plugin` is the contract: a Protocol whose abstract members a
module must have, and whose other members are the defaults of what it may have.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from types import FunctionType, ModuleType
from typing import Any

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


def find(package: ModuleType, kind: str) -> Any:
    """The plugin `<package>.<kind>` as a `Plugin` of the package; an unknown kind lists the known ones."""
    check(package, kind)
    return fulfilled(package.Plugin, importlib.import_module(f"{package.__name__}.{kind}"))


def fulfilled(contract: type, module: ModuleType) -> Any:
    """The module with the contract's defaults for what it leaves out. A Problem names what it may not leave out."""
    own = {name: getattr(module, name) for name in members(contract) if hasattr(module, name)}
    if missing := sorted(contract.__abstractmethods__ - own.keys()):  # type: ignore[attr-defined]
        package, _, kind = module.__name__.rpartition(".")
        raise Problem(
            f"{module.__file__}: the plugin '{kind}' lacks {', '.join(missing)}",
            f"the contract is `Plugin` in {package.replace('.', '/')}/__init__.py",
            f"define {missing[0]} there",
        )
    made = {name: staticmethod(value) if isinstance(value, FunctionType) else value for name, value in own.items()}
    return type(module.__name__, (contract,), {**made, "__module__": module.__name__})()


def members(contract: type) -> list[str]:
    """The public names of a contract."""
    return [name for name, _ in inspect.getmembers_static(contract) if not name.startswith("_")]
