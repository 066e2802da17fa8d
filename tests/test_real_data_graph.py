"""The real data sets through the whole graph: forged raw files -> snakemake -> features."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import pytest

from jepa3d import datasets, plugins

ENTRIES = {
    "shapenet55": "kind: shapenet55",
    "modelnet40": "kind: modelnet40",
    "scanobjectnn": "kind: scanobjectnn, variant: pb_t50_rs",
    "shapenetpart": "kind: shapenetpart",
    "fewshot": "kind: fewshot, fold: 0",
}
PARAMS = """
study: s
studies: {s: {runs: [r], evals: [], seeds: [0]}}
patches: {p: {points: 256, levels: [{num: 16, size: 16}]}}
models: {m: {width: 24, depth: 1, heads: 2, tokenizer: {widths: [8, 16, 32]}}}
runs: {r: {data: shapenet55, patches: p, model: m, objective: {kind: random_init}, fit: {steps: 0, batch: 4}}}
evals: {}
datasets:
"""


@pytest.mark.slow
def test_every_real_data_set_goes_from_raw_files_to_features(tmp_path: Path):
    snakefile = Path(__file__).parents[1] / "Snakefile"
    snakemake = shutil.which("snakemake", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if not (snakefile.exists() and snakemake):
        pytest.skip("runs from a checkout with Snakemake")
    text = PARAMS
    for name, entry in ENTRIES.items():
        plugins.find(datasets, name).forge(tmp_path / "raw" / name)
        text += f"  {name}: {{{entry}, root: '{tmp_path / 'raw' / name}'}}\n"
    (tmp_path / "params.yaml").write_text(text)
    results = tmp_path / "results"
    wanted = {name: results / "features" / "r" / "seed0" / f"{name}.h5" for name in ENTRIES}
    where = ["--config", f"params={tmp_path / 'params.yaml'}", f"results={results}"]
    done = subprocess.run(
        [snakemake, *map(str, wanted.values()), "--cores", "2", "-s", str(snakefile), "-d", str(tmp_path), *where],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for name, path in wanted.items():
        with h5py.File(results / "canonical" / f"{name}.h5") as canonical, h5py.File(path) as features:
            (rows,) = {len(features[key]) for key in features if features[key].ndim == 2}
            assert rows == len(canonical["points"])
