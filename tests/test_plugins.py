"""Plugins are found by their module's name; every one fulfils the contract of its package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from jepa3d import datasets, encoders, objectives, plugins, tasks
from jepa3d.params import FrozenModel
from jepa3d.problem import Problem


@pytest.mark.parametrize("package", [datasets, encoders, objectives, tasks])
def test_the_known_kinds_are_the_files(package: ModuleType):
    files = {path.stem for path in Path(package.__path__[0]).glob("*.py")} - {"__init__"}
    assert set(plugins.known(package)) == {name for name in files if not name.startswith("_")}
    assert plugins.known(package) == sorted(plugins.known(package))


@pytest.mark.parametrize("package", [datasets, encoders, objectives, tasks])
def test_every_plugin_has_a_frozen_config_whose_kind_is_its_name(package: ModuleType):
    for kind in plugins.known(package):
        module = plugins.find(package, kind)
        assert issubclass(module.Config, FrozenModel), kind
        assert "kind" in module.Config.model_fields, kind


def test_every_objective_is_an_objective_and_every_task_says_what_it_needs():
    from jepa3d.train.objective import Base

    assert all(issubclass(plugins.find(objectives, kind).Objective, Base) for kind in plugins.known(objectives))
    for kind in plugins.known(tasks):
        task = plugins.find(tasks, kind)
        assert task.NEEDS in ("features", "encoder"), kind
        assert callable(task.protocol), kind
        assert callable(task.evaluate), kind


def test_every_dataset_can_be_read_and_forged():
    for kind in plugins.known(datasets):
        module = plugins.find(datasets, kind)
        assert all(hasattr(module, name) for name in ("SOURCES", "classes", "parts", "read", "forge")), kind


def test_an_unknown_kind_lists_the_known_ones_and_the_nearest():
    with pytest.raises(Problem) as caught:
        plugins.find(tasks, "linear_prob")
    assert "linear_probe" in caught.value.why
    assert caught.value.mend == "did you mean 'linear_probe'?"
    with pytest.raises(Problem, match="write jepa3d/tasks/xyz"):
        plugins.find(tasks, "xyz")


def test_datasets_encoders_and_tasks_import_without_torch_and_scikit_learn():
    code = (
        "import sys; from jepa3d import datasets, encoders, plugins, project, tasks;"
        "[plugins.find(p, k) for p in (datasets, encoders, tasks) for k in plugins.known(p)];"
        "print([m for m in ('torch', 'sklearn', 'trimesh') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
