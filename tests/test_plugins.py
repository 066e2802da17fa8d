"""Plugins are found by their module's name, and are what their package's contract says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from jepa3d import datasets, encoders, loggers, objectives, plugins, tasks
from jepa3d.datasets import Shape
from jepa3d.params import DatasetConfig, FrozenModel
from jepa3d.problem import Problem

PACKAGES = (datasets, encoders, loggers, objectives, tasks)
EVERY = [(package, kind) for package in PACKAGES for kind in plugins.known(package)]


def minimum(**more: Any) -> ModuleType:
    """A data set of one shape with what its contract asks for, and nothing else."""
    module = ModuleType("jepa3d.datasets.made")
    module.__file__ = "jepa3d/datasets/made.py"
    one = Shape(np.ones((4, 3), np.float32), 0, None, "train", "one")
    module.__dict__.update(
        Config=DatasetConfig,
        classes=lambda raw, config: ("cup",),
        read=lambda raw, config: iter([one, one._replace(id="two")]),
        forge=lambda raw: None,
    )
    module.__dict__.update(more)
    return module


@pytest.mark.parametrize("package", PACKAGES)
def test_the_known_kinds_are_the_files(package: ModuleType):
    files = {path.stem for path in Path(package.__path__[0]).glob("*.py")} - {"__init__"}
    assert set(plugins.known(package)) == {name for name in files if not name.startswith("_")}
    assert plugins.known(package) == sorted(plugins.known(package))


@pytest.mark.parametrize(("package", "kind"), EVERY)
def test_every_plugin_has_a_frozen_config_whose_kind_is_its_name(package: ModuleType, kind: str):
    config = plugins.find(package, kind).Config
    assert issubclass(config, FrozenModel)
    assert config.model_config["frozen"]
    assert config.model_config["extra"] == "forbid"
    assert config.model_fields["kind"].default == kind


@pytest.mark.parametrize(("package", "kind"), EVERY)
def test_every_plugin_says_what_it_is(package: ModuleType, kind: str):
    module = sys.modules[type(plugins.find(package, kind)).__module__]
    assert module.__doc__
    assert module.__doc__.splitlines()[0].endswith((".", ":", ","))


def test_a_module_with_the_minimum_has_the_defaults_of_its_contract(tmp_path: Path):
    plugin = plugins.fulfilled(datasets.Plugin, minimum())
    config = plugin.Config(kind="made")
    assert plugin.classes(tmp_path, config) == ("cup",)
    assert plugin.parts(tmp_path, config) == plugin.sources(config) == ()
    assert plugin.count(tmp_path, config) is None
    assert plugin.audit(tmp_path, config) == {}
    assert [shape.id for shape in plugin.peek(tmp_path, config, 1)] == ["one"]
    assert plugin.surveyed(tmp_path, config) is plugin


def test_what_a_module_has_is_used_before_the_default(tmp_path: Path):
    plugin = plugins.fulfilled(datasets.Plugin, minimum(count=lambda raw, config: 2, SOURCES=("a file",)))
    assert plugin.count(tmp_path, None) == 2
    assert plugin.sources(None) == ("a file",)


def test_a_module_that_lacks_what_it_must_have_is_a_problem_that_names_it():
    module = minimum()
    del module.read, module.forge
    with pytest.raises(Problem) as caught:
        plugins.fulfilled(datasets.Plugin, module)
    assert caught.value.what == "jepa3d/datasets/made.py: the plugin 'made' lacks forge, read"
    assert "jepa3d/datasets/__init__.py" in caught.value.why


def test_an_unknown_kind_lists_the_known_ones_and_the_nearest():
    with pytest.raises(Problem) as caught:
        plugins.find(tasks, "linear_prob")
    assert "linear_probe" in caught.value.why
    assert caught.value.mend == "did you mean 'linear_probe'?"
    with pytest.raises(Problem, match="write jepa3d/tasks/xyz"):
        plugins.find(tasks, "xyz")


def test_datasets_and_tasks_import_without_torch_and_scikit_learn():
    code = (
        "import sys; from jepa3d import datasets, plugins, project, tasks;"
        "[plugins.find(p, k) for p in (datasets, tasks) for k in plugins.known(p)];"
        "print([m for m in ('torch', 'sklearn', 'trimesh') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
