"""FPS, KNN and what is built on them, against examples by hand and a slow oracle that has no cleverness."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from beartype.roar import BeartypeCallHintViolation
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from jepa3d.ops import geometry
from jepa3d.ops.geometry import (
    chamfer,
    count_pairs,
    farthest_point_sample,
    fps_numba,
    fps_torch,
    gather,
    group,
    knn,
    knn_numba,
    knn_torch,
    pairs_torch,
    unit_sphere,
)

LINE = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 0, 0], [10, 0, 0]]])


def distances(points: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Squared distances in float32, in the order of summation that the module promises."""
    dx, dy, dz = (points.astype(np.float32) - query.astype(np.float32)).T
    return dx * dx + dy * dy + dz * dz


def fps_oracle(points: np.ndarray, num: int) -> list[int]:
    chosen, nearest = [0], np.full(len(points), np.inf, np.float32)
    while len(chosen) < num:
        nearest = np.minimum(nearest, distances(points, points[chosen[-1]]))
        chosen.append(int(nearest.argmax()))  # numpy takes the first of equals
    return chosen


def knn_oracle(points: np.ndarray, queries: np.ndarray, k: int) -> list[list[int]]:
    return [np.argsort(distances(points, query), kind="stable")[:k].tolist() for query in queries]


@st.composite
def clouds(draw: st.DrawFn) -> np.ndarray:
    """Random clouds, grids full of ties, clouds with duplicates, and clouds of one point; at the origin or far off."""
    count = draw(st.integers(1, 40))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    kind = draw(st.sampled_from(["random", "grid", "duplicates", "one point"]))
    cloud = {
        "random": random.normal(size=(count, 3)),
        "grid": random.integers(0, 3, (count, 3)).astype(float),
        "duplicates": random.normal(size=(max(1, count // 4), 3))[random.integers(0, max(1, count // 4), count)],
        "one point": np.ones((count, 3)),
    }[kind]
    return (cloud + draw(st.sampled_from([0.0, 1e3, 1e4]))).astype(np.float32)


def test_fps_takes_the_farthest_point_next():
    assert farthest_point_sample(LINE, 3).tolist() == [[0, 4, 3]]


def test_fps_begins_at_index_zero_and_breaks_ties_by_the_lowest_index():
    square = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [1, 1, 0]]])
    assert farthest_point_sample(square, 5).tolist() == [[0, 3, 1, 2, 0]]


def test_knn_lists_the_nearest_first_and_breaks_ties_by_the_lowest_index():
    query = torch.tensor([[[2.0, 0, 0]]])
    assert knn(LINE, query, 5).tolist() == [[[2, 1, 3, 0, 4]]]


def test_every_shape_of_a_batch_is_sampled_by_itself():
    batch = torch.cat([LINE, LINE.flip(1)])
    assert farthest_point_sample(batch, 2).tolist() == [[0, 4], [0, 4]]
    assert knn(batch, batch[:, :1], 2).tolist() == [[[0, 1]], [[0, 1]]]


@settings(deadline=None, max_examples=50)
@given(clouds(), st.data())
def test_both_implementations_of_fps_are_the_oracle_whatever_the_cloud(cloud: np.ndarray, data: st.DataObject):
    num = data.draw(st.integers(1, len(cloud)))
    expected = fps_oracle(cloud, num)
    assert fps_numba(cloud[None], num)[0].tolist() == expected
    assert fps_torch(torch.from_numpy(cloud)[None], num)[0].tolist() == expected
    assert farthest_point_sample(torch.from_numpy(cloud)[None], num)[0].tolist() == expected


@settings(deadline=None, max_examples=50)
@given(clouds(), st.data())
def test_both_implementations_of_knn_are_the_oracle_whatever_the_cloud(cloud: np.ndarray, data: st.DataObject):
    k = data.draw(st.integers(1, len(cloud)))  # k == P included
    queries = cloud[data.draw(st.lists(st.integers(0, len(cloud) - 1), min_size=1, max_size=5))]
    expected = knn_oracle(cloud, queries, k)
    assert knn_numba(cloud[None], queries[None], k)[0].tolist() == expected
    assert knn_torch(torch.from_numpy(cloud)[None], torch.from_numpy(queries)[None], k)[0].tolist() == expected


def test_knn_is_exact_at_the_sizes_of_the_paper():
    cloud = np.random.default_rng(0).normal(size=(1024, 3)).astype(np.float32)
    queries = cloud[fps_oracle(cloud, 64)]
    assert knn_numba(cloud[None], queries[None], 32)[0].tolist() == knn_oracle(cloud, queries, 32)
    by_tree = cKDTree(cloud).query(queries, 32)[1]
    assert (np.sort(by_tree) == np.sort(knn_numba(cloud[None], queries[None], 32)[0])).mean() > 0.999


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32), st.sampled_from([0.25, 1.0, 8.0, 64.0]), st.sampled_from([0.5, 2.0, 4.0]))
def test_indices_do_not_change_under_translation_and_uniform_scale(seed: int, shift: float, scale: float):
    cloud = np.random.default_rng(seed).integers(-512, 512, (60, 3)).astype(np.float32) / 512  # exact in float32
    moved = cloud * scale + np.float32(shift)
    assert (fps_numba(moved[None], 12) == fps_numba(cloud[None], 12)).all()
    assert (knn_numba(moved[None], moved[None, :5], 9) == knn_numba(cloud[None], cloud[None, :5], 9)).all()


def test_indices_do_not_change_under_rotation():
    random = np.random.default_rng(1)
    clouds = random.normal(size=(50, 256, 3)).astype(np.float32)
    turned = np.stack([c @ r.as_matrix().T for c, r in zip(clouds, Rotation.random(50, rng=2), strict=True)])
    turned = turned.astype(np.float32)
    same = [(fps_numba(a[None], 32) == fps_numba(b[None], 32)).all() for a, b in zip(clouds, turned, strict=True)]
    assert np.mean(same) > 0.9  # a near-tie may fall the other way after rounding
    centres, moved = clouds[:, :32], turned[:, :32]
    assert (knn_numba(clouds, centres, 16) == knn_numba(turned, moved, 16)).mean() > 0.999


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32))
def test_the_order_of_the_stored_points_changes_neither_the_samples_nor_the_neighbours(seed: int):
    random = np.random.default_rng(seed)
    cloud = random.normal(size=(50, 3)).astype(np.float32)
    order = np.concatenate([[0], 1 + random.permutation(49)])  # the first point stays: FPS begins there
    shuffled = cloud[order]
    assert (shuffled[fps_numba(shuffled[None], 10)[0]] == cloud[fps_numba(cloud[None], 10)[0]]).all()
    near, after = knn_numba(cloud[None], cloud[None, :4], 7)[0], knn_numba(shuffled[None], cloud[None, :4], 7)[0]
    assert (shuffled[after] == cloud[near]).all()


def test_far_from_the_origin_neighbours_are_still_found_exactly():
    cloud = (np.random.default_rng(3).integers(0, 64, (300, 3)) / 64 + 8192).astype(np.float32)
    assert knn_numba(cloud[None], cloud[None, :20], 10)[0].tolist() == knn_oracle(cloud, cloud[:20], 10)


def test_double_precision_clouds_give_the_indices_of_their_float32_values():
    cloud = torch.rand(1, 100, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(farthest_point_sample(cloud, 10), farthest_point_sample(cloud.float(), 10))
    assert torch.equal(knn(cloud, cloud[:, :3], 10), knn(cloud.float(), cloud[:, :3].float(), 10))


@pytest.mark.parametrize("num", [0, 6])
def test_a_number_of_samples_that_cannot_be_had_is_refused(num: int):
    with pytest.raises(ValueError, match="among 5"):
        farthest_point_sample(LINE, num)
    with pytest.raises(ValueError, match="among 5"):
        knn(LINE, LINE, num)


def test_nan_coordinates_give_indices_within_the_cloud_and_no_crash():
    cloud = torch.full((2, 30, 3), torch.nan)
    assert 0 <= int(farthest_point_sample(cloud, 7).min()) <= int(farthest_point_sample(cloud, 7).max()) < 30
    assert 0 <= int(knn(cloud, cloud, 7).min()) <= int(knn(cloud, cloud, 7).max()) < 30


def test_the_signature_is_checked_while_the_tests_run():
    with pytest.raises((TypeCheckError, BeartypeCallHintViolation)):
        farthest_point_sample(torch.zeros(4, 3), 2)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32), st.integers(2, 40), st.integers(1, 300))
def test_both_implementations_count_every_pair_as_the_oracle_does(seed: int, count: int, held: int):
    """Coordinates with few digits, many of them equal: nothing is rounded but the root."""
    random = np.random.default_rng(seed)
    points, scale, bins = random.integers(-4, 5, (2, count, 3)) / 4, np.array([3.0, 1.5]), 8
    apart = np.sqrt(((points[:, :, None] - points[:, None]) ** 2).sum(-1))
    others = ~np.eye(count, dtype=bool)
    for shape in range(2):
        own = np.minimum(apart[shape] * scale[shape], bins - 1).astype(int)
        expected = np.bincount(own[others], minlength=bins)
        nearest = np.where(others, apart[shape], np.inf).min(1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(geometry, "PAIRS_HELD", held)
            for counts, near in (
                count_pairs(torch.from_numpy(points), torch.from_numpy(scale), bins),
                pairs_torch(torch.from_numpy(points), torch.from_numpy(scale), bins),
            ):
                assert counts[shape].tolist() == expected.tolist()
                assert near[shape].tolist() == nearest.tolist()


def test_gather_takes_rows_of_each_shape():
    rows = torch.arange(12.0).view(2, 3, 2)
    assert gather(rows, torch.tensor([[2, 0], [1, 1]])).tolist() == [[[4, 5], [0, 1]], [[8, 9], [8, 9]]]
    assert gather(rows, torch.tensor([[[2], [0]], [[1], [1]]])).shape == (2, 2, 1, 2)


def test_a_patch_is_given_relative_to_its_centre():
    patch = group(LINE, torch.tensor([[4, 1]]), torch.tensor([[[4, 3], [1, 0]]]))
    assert patch[0, :, :, 0].tolist() == [[0, -7], [0, -1]]


def test_unit_sphere_centres_the_centroid_and_puts_the_farthest_point_at_one():
    cloud = unit_sphere(torch.tensor([[0.0, 0, 0], [4, 0, 0], [2, 0, 0]]))
    assert cloud.tolist() == [[-1, 0, 0], [1, 0, 0], [0, 0, 0]]
    assert unit_sphere(torch.full((2, 5, 3), 7.0)).abs().max() == 0  # one point: no division by zero


def test_chamfer_is_the_sum_of_both_mean_nearest_squared_distances():
    a, b = torch.tensor([[[0.0, 0, 0], [1, 0, 0]]]), torch.tensor([[[0.0, 0, 0], [0, 0, 0], [3, 0, 0]]])
    assert chamfer(a, b).item() == pytest.approx((0 + 1) / 2 + (0 + 0 + 4) / 3)
    random = np.random.default_rng(0)
    x, y = random.normal(size=(2, 40, 3)).astype(np.float32)
    by_tree = (cKDTree(y).query(x)[0] ** 2).mean() + (cKDTree(x).query(y)[0] ** 2).mean()
    assert chamfer(torch.from_numpy(x)[None], torch.from_numpy(y)[None]).item() == pytest.approx(by_tree, rel=1e-5)
