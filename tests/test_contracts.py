"""mypy holds every plugin that is found to the contract of its package: what is abstract is there, types fit."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

from jepa3d import datasets, encoders, loggers, objectives, plugins, tasks

ROOT = Path(__file__).parent.parent
TYPED = {
    datasets: "datasets.Plugin[{kind}.Config]",
    tasks: "tasks.Plugin[tasks.{given}, {kind}.Config]",
    objectives: "objectives.Plugin[{kind}.Config]",
    encoders: "encoders.Plugin[{kind}.Config]",
    loggers: "loggers.Plugin[{kind}.Config]",
}


def written(package: ModuleType, kind: str) -> Iterator[str]:
    """One plugin as a class of its contract: what `plugins.find` makes at run time, as text that mypy reads."""
    name = package.__name__.rpartition(".")[2]
    plugin = plugins.find(package, kind)
    given = getattr(plugin, "NEEDS", "").replace("features", "Features").replace("encoder", "Encoded")
    yield f"from {package.__name__} import {kind}"
    yield f"class {name}_{kind}({TYPED[package].format(kind=kind, given=given)}):"
    for member in plugins.members(package.Plugin):
        if member in vars(type(plugin)):
            function = isinstance(getattr(plugin, member), FunctionType)
            yield f"    {member} = " + (f"staticmethod({kind}.{member})" if function else f"{kind}.{member}")
    yield f"{name}_{kind}()"


def mypy(text: str, folder: Path) -> str:
    """What mypy says of a module with this text."""
    (folder / "plugins_as_typed.py").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), "plugins_as_typed.py"]
    environment = {**os.environ, "MYPYPATH": str(ROOT), "MYPY_CACHE_DIR": str(ROOT / ".mypy_cache")}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
    return done.stdout + done.stderr


@pytest.mark.slow
def test_every_plugin_fulfils_its_contract_as_mypy_reads_it(tmp_path: Path):
    imports = ["from jepa3d import datasets, encoders, loggers, objectives, tasks"]
    lines = [line for package in TYPED for kind in plugins.known(package) for line in written(package, kind)]
    assert sum(line.startswith("class ") for line in lines) == sum(len(plugins.known(package)) for package in TYPED)
    assert mypy("\n".join([*imports, *lines, ""]), tmp_path).startswith("Success")


@pytest.mark.slow
def test_mypy_sees_a_member_that_is_missing_and_a_type_that_does_not_fit(tmp_path: Path):
    text = "\n".join(["from jepa3d import datasets", *written(datasets, "folder")])
    assert "abstract" in mypy(text.replace("    read = staticmethod(folder.read)\n", ""), tmp_path)
    assert "Incompatible types" in mypy(
        text.replace("staticmethod(folder.parts)", "staticmethod(folder.count)"), tmp_path
    )
