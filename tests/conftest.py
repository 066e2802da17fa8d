"""What all tests share: shapes in signatures are checked, torch has one thread, and there is a tiny study to train.

The import hook checks every jaxtyping annotation at every call. Modules with pydantic models (whose `Self` beartype
refuses) and the numba kernels (which must stay plain functions) are left out.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from jaxtyping import install_import_hook

PURE = [
    "propagate",
    "corruptions",
    "geometry",
    "masking",
    "augment",
    "draws",
    "schedule",
    "descriptors",
    "statistics",
    "standardise",
]
CHECKED = [
    *(f"ops.{name}" for name in PURE),
    "nets",
    "encoders._transformer",
    "encoders._hierarchical",
    "encoders._computed",
    "objectives",
    "seeds",
]
CHECKED += [f"train.{name}" for name in ("batches", "loop", "monitor", "segmentation", "heads", "objective")]
install_import_hook([f"jepa3d.{name}" for name in CHECKED], "beartype.beartype")

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
import yaml  # noqa: E402

from jepa3d import project  # noqa: E402
from jepa3d.layout import Layout  # noqa: E402
from jepa3d.params import Params  # noqa: E402
from jepa3d.results import store  # noqa: E402

torch.set_num_threads(1)

TINY: dict[str, Any] = {
    "study": "tiny",
    "studies": {"tiny": {"runs": ["jepa", "random_init"], "evals": ["linear", "knn"], "seeds": [0, 1]}},
    "datasets": {"toys": {"kind": "procedural", "train": 60, "test": 20, "points": 128}},
    "patches": {"flat": {"points": 128, "levels": [{"num": 16, "size": 8}]}},
    "models": {"tiny": {"width": 24, "depth": 1, "heads": 2, "tokenizer": {"widths": [8, 16, 16]}}},
    "runs": {
        "jepa": {
            "data": "toys",
            "patches": "flat",
            "model": "tiny",
            "objective": {"kind": "jepa", "predictor": {"depth": 1}},
            "augment": {"rotate": "upright"},
            "fit": {"steps": 20, "batch": 8, "lr": 0.001},
            "monitor": {"shapes": 32},
        },
        "random_init": {"base": "jepa", "objective": {"kind": "random_init", "clouds": 32}, "fit": {"steps": 0}},
    },
    "execution": {"checkpoint_every": 7, "log_every": 5, "monitor_every": 10},
    "evals": {
        "linear": {"dataset": "toys", "task": {"kind": "linear_probe", "grid": [1.0]}},
        "knn": {"dataset": "toys", "task": {"kind": "knn"}},
    },
}


@pytest.fixture(scope="session")
def script() -> Callable[[str], ModuleType]:
    """A script of the repository as a module of its own: `script("docs/draw.py")`."""

    def _script(name: str) -> ModuleType:
        path = Path(__file__).parent.parent / name
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module  # where pickles and dataclasses look for it
        spec.loader.exec_module(module)
        return module

    return _script


@pytest.fixture
def tiny() -> dict[str, Any]:
    """params.yaml of a tiny study as a mapping, to be changed and written."""
    return yaml.safe_load(yaml.safe_dump(TINY))


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Any], Path]:
    """Write a params.yaml, from a mapping or from text, and return its path."""

    def _write(content: Any) -> Path:
        path = tmp_path / "params.yaml"
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
        return path

    return _write


class RuleJob(NamedTuple):
    """A job of the workflow, as Snakemake would do it."""

    rule: str
    input: list[str]
    output: list[str]
    params: dict[str, Any]
    wildcards: dict[str, str]


# What a dry run does for each job, in its process: it writes down all of it, which the screen does not show.
DRY = """
import json, sys
from snakemake.cli import main
from snakemake.jobs import Job

def log_info(job, *_, **__):
    found = [job.rule.name, *([str(path) for path in paths] for paths in (job.input, job.output))]
    found += [dict(job.params.items()), dict(job.wildcards_dict)]
    with open(sys.argv[1], "a") as file:
        file.write(json.dumps(found) + "\\n")

Job.log_info = log_info
main(sys.argv[2:])
"""


@pytest.fixture(scope="session")
def dry_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[RuleJob]]:
    """dry_run(params.yaml, "--config", ...): every job that Snakemake would do in an empty folder."""

    def _dry_run(params: Path, *arguments: str) -> list[RuleJob]:
        folder, snakefile = tmp_path_factory.mktemp("dry"), Path(__file__).parent.parent / "Snakefile"
        (folder / "params.yaml").write_bytes(params.read_bytes())
        words = [sys.executable, "-c", DRY, str(folder / "jobs"), "--snakefile", str(snakefile)]
        words += ["--directory", str(folder), "-n", "--cores", "1", *arguments]
        environment = os.environ | {"XDG_CACHE_HOME": str(folder / "cache")}
        done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
        return [RuleJob(*json.loads(line)) for line in (folder / "jobs").read_text().splitlines()]

    return _dry_run


@pytest.fixture
def params(tiny: dict[str, Any], write: Callable[[Any], Path]) -> Params:
    return project.load(write(tiny))


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "results")


@pytest.fixture
def toys(layout: Layout) -> Path:
    """A canonical file of 60 train and 20 test shapes in three classes that differ in proportion."""
    return _write_canonical(layout.canonical("toys"))


@pytest.fixture
def write_canonical() -> Callable[..., Path]:
    """write_canonical(path, train, test, points, **other arrays)"""
    return _write_canonical


def _write_canonical(path: Path, train: int = 60, test: int = 20, points: int = 128, **changes: Any) -> Path:
    """A canonical file of noisy boxes in three proportions, train and test mixed."""
    random = np.random.default_rng(7)
    count = train + test
    label = np.arange(count) % 3
    size = np.array([[1.0, 1.0, 1.0], [1.0, 0.2, 0.2], [1.0, 1.0, 0.1]])[label]
    cloud = random.uniform(-1, 1, (count, points, 3)) * size[:, None]
    split = np.array(["train"] * train + ["test"] * test)[random.permutation(count)]
    arrays = {
        "points": cloud.astype(np.float32),
        "label": label.astype(np.int64),
        "part": np.full((count, points), -1, np.int16),
        "split": split,
        "id": [f"toy-{i}" for i in range(count)],
    }
    store.write_h5(path, arrays | changes, store.stamp("convert", {}), classes=["cube", "rod", "plate"], parts=[])
    return path
