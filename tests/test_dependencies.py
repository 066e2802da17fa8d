"""A GPU machine that only trains has torch, numpy, h5py, numba, pydantic and jaxtyping: more must not be asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CODE = """
import sys

class Absent:
    names = {"yaml", "rich", "typer", "snakemake", "dvc", "submitit", "trimesh", "matplotlib", "jinja2", "tensorboard",
             "safetensors", "sklearn", "scipy", "beartype"}

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ImportError(f"{name} is not there")

sys.meta_path.insert(0, Absent())
sys.path.insert(0, "benchmarks")
import step
from jepa3d.stages import embed, patchify, pretrain
"""


def test_training_and_its_benchmark_import_with_six_libraries():
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", CODE], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
