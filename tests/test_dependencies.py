"""A GPU machine that only trains has torch, numpy, h5py, numba, pydantic and jaxtyping: more must not be asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import sys

class Absent:
    names = {"yaml", "rich", "typer", "snakemake", "dvc", "submitit", "trimesh", "matplotlib", "jinja2", "tensorboard",
             "safetensors", "sklearn", "scipy", "beartype", "mapbox_earcut"}

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ImportError(f"{name} is not there")

sys.meta_path.insert(0, Absent())
sys.path.insert(0, "benchmarks")
import step
from jepa3d.stages import embed, patchify, pretrain

Absent.names.remove("safetensors")  # the seventh: encoders are kept in its format
from pathlib import Path
import torch
from jepa3d import load_encoder
from jepa3d.params import Level, Scheme, Tokenizer
from jepa3d.encoders import build, transformer
from jepa3d.pretrained import save
model = transformer.Config(width=24, depth=1, heads=2, tokenizer=Tokenizer(widths=(8, 8, 8)))
scheme = Scheme(points=64, levels=(Level(num=10, size=8),))
save(Path(sys.argv[1]), {"context": build(model)}, scheme, {})
assert load_encoder(sys.argv[1]).embed(torch.randn(2, 64, 3)).shape == (2, 48)
"""


@pytest.mark.slow
def test_training_and_its_benchmark_import_with_six_libraries_and_encoders_are_used_with_a_seventh(tmp_path: Path):
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path / "e.safetensors")],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
