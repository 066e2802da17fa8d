"""One private Slurm for all tests of this folder, and one study on it."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from private_slurm import Slurm, missing
from studies import Study


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    """Two nodes. The folder's name is short, because sockets are in it."""
    if absent := missing():
        pytest.skip(f"not installed: {', '.join(absent)} (apt-get install slurm-wlm)")
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder, Slurm(Path(folder)) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def study(slurm: Slurm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    clone = Study.clone(tmp_path_factory.mktemp("study") / "clone", slurm)
    yield clone
    clone.end()
