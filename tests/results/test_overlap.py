"""Test shapes that a train split holds, too: of made shapes another draw of points is a copy, and another shape of the
class is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jepa3d.ops import near_copies
from jepa3d.ops.near_copies import Halves
from jepa3d.results import overlap as module
from jepa3d.results import store
from jepa3d.results.overlap import overlap

POINTS = 1024


def table(legs: float, width: float, seed: int, points: int = POINTS) -> np.ndarray:
    """A table's surface: a board, and four square legs of this length; points drawn evenly from it."""
    random = np.random.default_rng(seed)
    board, side = 4 * width, 4 * 4 * 0.3 * legs  # areas
    on_board = random.random(points) < board / (board + side)
    flat = np.stack([random.uniform(-width, width, points), np.full(points, legs), random.uniform(-1, 1, points)], 1)
    along, turned = random.uniform(-0.15, 0.15, points), random.random(points) < 0.5
    across = random.choice([-0.15, 0.15], points)
    x, z = np.where(turned, along, across), np.where(turned, across, along)
    corner = random.choice([-1.0, 1.0], (points, 2)) * [width - 0.15, 0.85]
    leg = np.stack([corner[:, 0] + x, random.uniform(0, legs, points), corner[:, 1] + z], 1)
    return np.where(on_board[:, None], flat, leg).astype(np.float32)


def written(path: Path, clouds: list[np.ndarray], split: list[str]) -> Path:
    ids = [f"{path.stem}{number}" for number in range(len(clouds))]
    store.write_h5(path, {"points": np.stack(clouds), "split": np.array(split), "id": ids}, {}, classes=["table"])
    return path


def others(count: int) -> list[np.ndarray]:
    """Tables of other proportions."""
    return [table(0.5 + 0.1 * number, 1.5 - 0.08 * number, 100 + number) for number in range(count)]


def test_another_draw_of_the_points_is_found_and_another_table_is_not(tmp_path: Path):
    train = written(tmp_path / "train.h5", [table(1.0, 0.7, 1), *others(8)], ["train"] * 9)
    test = written(
        tmp_path / "test.h5", [table(1.0, 0.7, 2), table(0.35, 1.0, 3), table(1.0, 0.7, 4)], ["test"] * 2 + ["train"]
    )
    found = overlap(test, train)
    assert (found["test"], found["train"], found["exact"], found["near"]) == (2, 9, 0, 1)
    [copy] = found["copies"]
    assert (copy["test"], copy["train"]) == ("test0", "train0")
    assert 0.8 < copy["ratio"] < 1.2


def test_a_copy_that_is_moved_and_scaled_is_found(tmp_path: Path):
    train = written(tmp_path / "train.h5", [table(1.0, 0.7, 1), *others(4)], ["train"] * 5)
    test = written(tmp_path / "test.h5", [3 * table(1.0, 0.7, 2) + [5, -1, 2]], ["test"])
    assert overlap(test, train)["near"] == 1


def test_the_same_points_in_another_order_are_an_exact_copy(tmp_path: Path):
    one = table(1.0, 0.7, 1)
    train = written(tmp_path / "train.h5", [*others(4), one], ["train"] * 5)
    test = written(tmp_path / "test.h5", [one[::-1]], ["test"])
    found = overlap(test, train)
    assert (found["exact"], found["near"]) == (1, 1)
    assert found["copies"] == [{"test": "test0", "train": "train4", "ratio": 0.0}]


def test_the_splits_of_one_file_are_held_against_each_other(tmp_path: Path):
    clouds, split = [table(1.0, 0.7, 1), *others(5), table(1.0, 0.7, 2)], ["train"] * 6 + ["test"]
    path = written(tmp_path / "both.h5", clouds, split)
    assert [copy["train"] for copy in overlap(path, path)["copies"]] == ["both0"]


def test_without_a_test_split_nothing_was_seen(tmp_path: Path):
    path = written(tmp_path / "none.h5", others(3), ["train"] * 3)
    assert overlap(path, path) == {"test": 0, "train": 3, "exact": 0, "near": 0, "ratio": 1.25, "copies": []}


def test_blocks_are_all_rows_once_in_their_order(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "ROWS", 4)
    stored, rows = np.arange(11), np.array([0, 3, 4, 8, 10])
    assert np.concatenate(list(module.blocks(stored, rows))).tolist() == rows.tolist()


def test_two_draws_of_one_surface_are_as_far_as_its_halves():
    """On average over ten tables: 1, within 5 %."""
    ratios = []
    for number in range(10):
        clouds = np.stack([table(0.4 + 0.1 * number, 1.0, 2 * number + draw) for draw in (0, 1)])
        ratios.append(near_copies.ratio(*map(Halves, near_copies.scaled(clouds))))
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.05)


def test_a_glance_never_changes_what_counts_as_a_copy(monkeypatch: pytest.MonkeyPatch):
    clouds = [
        Halves(near_copies.scaled(cloud[None])[0]) for cloud in (table(1.0, 0.7, 1), table(1.0, 0.7, 2), *others(6))
    ]
    quick = [near_copies.ratio(clouds[0], other) <= near_copies.RATIO for other in clouds[1:]]
    monkeypatch.setattr(near_copies, "FAR", np.inf)
    assert quick == [near_copies.ratio(clouds[0], other) <= near_copies.RATIO for other in clouds[1:]]
    assert quick == [True] + [False] * 6
