"""The patch cache: indices, the same as the geometry gives, whatever the block size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jepa3d import project
from jepa3d.layout import Layout
from jepa3d.ops.geometry import farthest_point_sample, gather, knn
from jepa3d.params import Params, slice_of
from jepa3d.problem import Problem
from jepa3d.results import store
from jepa3d.stages import patchify as stage


def cached(params: Params, layout: Layout, scheme: str = "flat") -> dict[str, np.ndarray]:
    stage.patchify(params, layout, scheme, "toys")
    with store.open_h5(layout.patches(scheme, "toys")) as file:
        return {name: file[name][:] for name in file}


def clouds(path: Path) -> torch.Tensor:
    with store.open_h5(path) as file:
        return torch.from_numpy(file["points"][:])


def test_the_cache_has_the_indices_of_fps_and_knn(params: Params, layout: Layout, toys: Path):
    arrays, points = cached(params, layout), clouds(toys)
    assert set(arrays) == {"centre", "neighbour"}
    assert all(array.dtype == np.uint16 for array in arrays.values())
    centre = farthest_point_sample(points, 16)
    assert np.array_equal(arrays["centre"], centre)
    assert np.array_equal(arrays["neighbour"], knn(points, gather(points, centre), 8))
    assert (arrays["neighbour"][:, :, 0] == arrays["centre"]).all()  # each centre is its own nearest point


def test_shapes_are_worked_on_in_blocks_that_do_not_show(
    params: Params, layout: Layout, toys: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = cached(params, layout)
    monkeypatch.setattr(stage, "BLOCK", 7)
    for name, array in cached(params, layout).items():
        assert np.array_equal(array, whole[name])


def test_the_cache_is_stamped_with_the_scheme_and_the_hash_of_the_points(params: Params, layout: Layout, toys: Path):
    cached(params, layout)
    stamp = store.provenance(layout.patches("flat", "toys"))
    assert stamp["verb"] == "patchify"
    assert stamp["settings"] == slice_of(params.patches["flat"])
    assert stamp["inputs"] == {str(toys): store.sha256(toys)}


@pytest.mark.parametrize("sample", ["first", "random", "fps", "resample"])
def test_a_scheme_with_fewer_points_chooses_among_those_stored(
    tiny: dict[str, Any], write: Callable[[Any], Path], layout: Layout, toys: Path, sample: str
):
    tiny["patches"]["few"] = {"points": 40, "sample": sample, "levels": [{"num": 10, "size": 5}]}
    tiny["patches"]["few"]["live"] = sample == "resample"
    params, points = project.load(write(tiny)), clouds(toys)
    arrays = cached(params, layout, "few")
    chosen = torch.from_numpy(arrays["point"].astype(np.int64))
    if sample in ("first", "resample"):
        assert (chosen == torch.arange(40)).all()
    elif sample == "fps":
        assert torch.equal(chosen, farthest_point_sample(points, 40))
    else:
        assert len({tuple(row.tolist()) for row in chosen}) == 80  # every shape its own
        assert all(len(set(row.tolist())) == 40 for row in chosen)
    few = gather(points, chosen)
    assert np.array_equal(arrays["centre"], farthest_point_sample(few, 10))
    again = cached(params, layout, "few")
    assert all(np.array_equal(array, again[name]) for name, array in arrays.items())


def test_a_pyramid_has_patches_of_the_centres_below(
    tiny: dict[str, Any], write: Callable[[Any], Path], layout: Layout, toys: Path
):
    tiny["patches"]["pyramid"] = {"points": 128, "levels": [{"num": 32, "size": 8}, {"num": 8, "size": 4}]}
    arrays, points = cached(project.load(write(tiny)), layout, "pyramid"), clouds(toys)
    lower = gather(points, torch.from_numpy(arrays["centre"].astype(np.int64)))
    upper = farthest_point_sample(lower, 8)
    assert np.array_equal(arrays["centre_1"], upper)
    assert np.array_equal(arrays["neighbour_1"], knn(lower, gather(lower, upper), 4))


def test_more_points_than_are_stored_is_a_problem(
    tiny: dict[str, Any], write: Callable[[Any], Path], layout: Layout, toys: Path
):
    tiny["patches"]["flat"]["points"] = 256
    with pytest.raises(Problem, match=r"patches.flat.points: 256, but the shapes of 'toys' have 128 points") as caught:
        cached(project.load(write(tiny)), layout)
    assert "at most 128" in caught.value.mend
    assert not layout.patches("flat", "toys").exists()


def test_without_the_canonical_file_the_command_that_makes_it_is_named(params: Params, layout: Layout):
    with pytest.raises(Problem, match="no such file") as caught:
        cached(params, layout)
    assert "jepa3d convert toys" in caught.value.mend


# --- shards


@pytest.fixture
def sharded(tiny: dict[str, Any], write: Callable[[Any], Path]) -> Params:
    """The same study, the patches of its 80 shapes to be made in three shards."""
    tiny["datasets"]["toys"]["shards"] = 3
    return project.load(write(tiny))


def test_shards_by_jobs_of_their_own_are_read_as_one_file(
    params: Params, sharded: Params, layout: Layout, toys: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = cached(params, layout)
    monkeypatch.setattr(stage, "BLOCK", 7)
    for shard in (2, 0, 1):
        stage.patchify(sharded, layout, "flat", "toys", shard)
    with store.open_h5(layout.shard("flat", "toys", 1)) as file:
        assert np.array_equal(file["centre"][:], whole["centre"][26:53])
    made = {path: path.stat().st_mtime_ns for path in layout.shard("flat", "toys", 0).parent.iterdir()}
    joined = cached(sharded, layout)
    assert all(np.array_equal(array, whole[name]) for name, array in joined.items())
    assert layout.patches("flat", "toys").stat().st_size < 20_000  # it refers to the shards
    assert {path: path.stat().st_mtime_ns for path in made} == made  # and they were not made again


def test_a_random_choice_of_points_is_the_same_in_shards(
    tiny: dict[str, Any], write: Callable[[Any], Path], layout: Layout, toys: Path
):
    tiny["patches"]["few"] = {"points": 40, "sample": "random", "levels": [{"num": 10, "size": 5}]}
    whole = cached(project.load(write(tiny)), layout, "few")
    tiny["datasets"]["toys"]["shards"] = 4
    joined = cached(project.load(write(tiny)), layout, "few")  # by hand: what is missing is made
    assert all(np.array_equal(array, whole[name]) for name, array in joined.items())


def test_a_shard_of_other_settings_is_made_again(
    tiny: dict[str, Any], write: Callable[[Any], Path], sharded: Params, layout: Layout, toys: Path
):
    cached(sharded, layout)
    tiny["patches"]["flat"]["levels"] = [{"num": 12, "size": 8}]
    assert cached(project.load(write(tiny)), layout)["centre"].shape == (80, 12)


def test_a_shard_that_was_removed_is_a_problem_and_not_zeros(sharded: Params, layout: Layout, toys: Path):
    cached(sharded, layout)
    layout.shard("flat", "toys", 1).unlink()
    with (
        pytest.raises(Problem, match=r"toys.shards/1.h5: no such file") as caught,
        store.open_h5(layout.patches("flat", "toys")),
    ):
        pass
    assert "jepa3d patchify flat toys --shard 1" in caught.value.mend


def test_shards_are_not_part_of_what_is_computed(params: Params, sharded: Params):
    assert slice_of(params.datasets["toys"]) == slice_of(sharded.datasets["toys"])


def test_a_shard_that_the_data_set_does_not_have_is_a_problem(
    tiny: dict[str, Any], write: Callable[[Any], Path], layout: Layout, toys: Path
):
    for shards, shard in ((1, 0), (3, 3)):
        tiny["datasets"]["toys"]["shards"] = shards
        with pytest.raises(Problem, match=f"--shard {shard}: the patches of 'toys' have {shards} shard"):
            stage.patchify(project.load(write(tiny)), layout, "flat", "toys", shard)


def test_more_shards_than_shapes_is_a_problem(
    tiny: dict[str, Any], write: Callable[[Any], Path], layout: Layout, toys: Path
):
    tiny["datasets"]["toys"]["shards"] = 81
    with pytest.raises(Problem, match=r"datasets.toys.shards: 81, but there are 80 shapes"):
        cached(project.load(write(tiny)), layout)
