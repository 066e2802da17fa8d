"""Seeds by name."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jepa3d.seeds import derive

Part = st.one_of(st.integers(), st.text(max_size=5))


def test_the_numbers_are_the_same_on_every_machine_and_in_every_version():
    assert derive(0, "mask", 3) == 4261018064460478814
    assert derive(1) == 4259241206155935355


@given(st.integers(0, 2**31), st.lists(Part, max_size=3))
def test_a_seed_is_a_non_negative_int64(seed: int, path: list[str | int]):
    assert 0 <= derive(seed, *path) < 2**63
    np.random.default_rng(derive(seed, *path))


def test_neighbouring_paths_give_unrelated_seeds():
    seeds = [derive(seed, purpose, step) for seed in range(10) for purpose in ("mask", "order") for step in range(500)]
    assert len(set(seeds)) == len(seeds)
    bits = (np.array(seeds, np.int64)[:, None] >> np.arange(63)) & 1
    assert abs(bits.mean(0) - 0.5).max() < 0.03


def test_the_parts_of_a_path_cannot_run_into_each_other():
    assert derive(0, "ab", "c") != derive(0, "a", "bc")
    assert derive(0, "1") != derive(0, 1)
    assert derive(0, 1, 2) != derive(0, 12)
    assert derive(0, "a") != derive(0, "a", "")
