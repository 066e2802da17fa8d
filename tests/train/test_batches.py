"""Shapes -> batches: every shape once an epoch, and every batch known without those before it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jepa3d.nets.patches import patchify
from jepa3d.ops.augment import augment
from jepa3d.ops.draws import uniform
from jepa3d.ops.geometry import farthest_point_sample, unit_sphere
from jepa3d.params import Augment, Execution, Fit, Level, Scheme
from jepa3d.problem import Problem
from jepa3d.results import store
from jepa3d.stages.patchify import levels
from jepa3d.train.batches import (
    BLOCK,
    Arrays,
    Batching,
    InMemory,
    Lanes,
    OnDisk,
    Stream,
    Streamed,
    Subset,
    class_names,
    open_shapes,
    open_training,
    split_rows,
    to_device,
)
from jepa3d.train.distributed import ALONE, World

SHAPE_BYTES = 16 * 3 * 4 + 4 * 2 + 4 * 3 * 2 + 8  # what one shape of `numbered` takes


def numbered(count: int) -> Arrays:
    """Shapes whose label is their number."""
    points = np.random.default_rng(0).normal(size=(count, 16, 3)).astype(np.float32)
    centre = np.tile(np.arange(4, dtype=np.uint16), (count, 1))
    return Arrays(points, centre, np.tile(np.arange(3, dtype=np.uint16), (count, 4, 1)), np.arange(count))


def write(canonical: Path, points: np.ndarray, label: np.ndarray) -> None:
    """A canonical file of train shapes."""
    names = [str(number) for number in range(len(label))]
    shapes = {"points": points, "label": label, "split": ["train"] * len(label), "id": names}
    store.write_h5(canonical, shapes, {}, classes=names, parts=[])


def stored(folder: Path, count: int, name: str = "a", test_every: int = 0) -> Subset:
    """The same shapes in two files, with a test shape after each `test_every` train shapes."""
    arrays = numbered(count)
    split = ["test" if test_every and i % test_every == 0 else "train" for i in range(count)]
    canonical, patches = folder / f"{name}.h5", folder / f"{name}.patches.h5"
    names = [str(number) for number in range(count)]
    shapes = {"points": arrays.points, "label": arrays.label, "split": split, "id": names}
    store.write_h5(canonical, shapes, {}, classes=names, parts=[])
    store.write_h5(patches, {"centre": arrays.centre, "neighbour": arrays.neighbour}, {})
    return Subset(canonical, patches, split_rows(canonical, "train"))


def streamed(folder: Path, count: int, blocks: int, lanes: int = 1, run: int = 8, **options: int) -> Streamed:
    """A source whose windows have so many blocks of 64; each lane gives `run` shapes to a batch."""
    return Streamed([stored(folder, count, **options)], Lanes(lanes, run, blocks))


def labels(stream: Stream, step: int) -> list[int]:
    return torch.cat([batch.label for batch in stream.at(step)]).tolist()


def plain(source: InMemory | Streamed, batch: int, accumulate: int = 1, world: World = ALONE) -> Stream:
    return Stream(source, Batching(batch, Augment(), accumulate=accumulate), 3, world=world)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 30), st.integers(1, 40))
def test_every_shape_comes_once_an_epoch(count: int, batch: int):
    stream = plain(InMemory(numbered(count)), batch)
    seen = [label for step in range(count) for label in labels(stream, step)]  # batch epochs exactly
    for epoch in range(batch):
        assert sorted(seen[epoch * count : (epoch + 1) * count]) == list(range(count))


@settings(deadline=None, max_examples=12)
@given(
    count=st.integers(65, 400), run=st.integers(1, 12), lanes=st.sampled_from([1, 2, 3, 8]), blocks=st.integers(1, 3)
)
def test_streamed_from_disk_every_shape_comes_once_an_epoch(
    tmp_path_factory: pytest.TempPathFactory, count: int, run: int, lanes: int, blocks: int
):
    source, batch = streamed(tmp_path_factory.mktemp("h5"), count, blocks, lanes, run), run * lanes
    starts = range(0, 3 * count, batch)
    seen = np.concatenate([source.rows(source.members(0, at, at + batch)[1]).label for at in starts])
    for epoch in range(3):
        assert sorted(seen[epoch * count : (epoch + 1) * count]) == list(range(count))


@settings(deadline=None, max_examples=8)
@given(halves=st.integers(20, 60), run=st.integers(1, 4), lanes=st.sampled_from([2, 4, 8]), data=st.data())
def test_ranks_share_a_streamed_batch_and_the_reading(
    tmp_path_factory: pytest.TempPathFactory, halves: int, run: int, lanes: int, data: st.DataObject
):
    folder, batch = tmp_path_factory.mktemp("h5"), run * lanes
    count = halves * batch // 2  # so the second epoch may begin inside of a batch, and ends where one ends
    ranks = data.draw(st.sampled_from([n for n in (1, 2, 4, 8) if lanes % n == 0]))
    single = streamed(folder, count, 1, lanes, run)
    sources = [streamed(folder, count, 1, lanes, run) for _ in range(ranks)]
    read, share = [counted(source) for source in sources], batch // ranks
    for start in range(0, 2 * count, batch):
        given = single.members(0, start, start + batch)[1]
        for rank, source in enumerate(sources):
            index = source.members(0, start + rank * share, start + (rank + 1) * share)[1]
            assert index.tolist() == given[rank * share : (rank + 1) * share].tolist()
            assert source.rows(index).label.tolist() == index.tolist()
    assert sum(map(len, read)) == 2 * count  # from the disk, too, every shape came once an epoch
    assert max(map(len, read)) <= 2 * (count // ranks + batch)


def counted(source: Streamed) -> list[int]:
    """A list of the shapes that the source will have read from the disk."""
    read: list[int] = []
    for reader in source.readers:

        def note(start: int, stop: int, plainly: Callable[[int, int], Arrays] = reader.read) -> Arrays:
            arrays = plainly(start, stop)
            read.extend(arrays.label.tolist())
            return arrays

        reader.read = note  # type: ignore[method-assign]
    return read


def test_the_micro_batches_of_a_streamed_batch_are_shared_too(tmp_path: Path):
    single = plain(streamed(tmp_path, 300, 1, 4, 3), 24, accumulate=2)
    ranks = [plain(streamed(tmp_path, 300, 1, 4, 3), 24, accumulate=2, world=World(rank, 2)) for rank in range(2)]
    for step in range(30):
        seen = [[batch.label.tolist() for batch in stream.at(step)] for stream in (single, *ranks)]
        assert seen[0] == [first + second for first, second in zip(seen[1], seen[2], strict=True)]


@given(batch=st.integers(1, 5000))
def test_lanes_and_windows_follow_from_the_batch_alone(batch: int):
    lanes = Lanes.of(batch)
    assert lanes.number * lanes.run == batch
    assert lanes.shapes <= 65536
    assert not any(batch % more == 0 for more in range(lanes.number + 1, 17))


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 6, 8, 12, 24])
def test_a_streamed_batch_is_the_same_on_any_number_of_ranks_that_it_can_be_cut_for(tmp_path: Path, ranks: int):
    part, fit = stored(tmp_path, 500), Fit(steps=1, batch=24, stream=True)
    single = plain(open_training([part], fit, Execution(), "fit"), 24)
    others = [
        plain(open_training([part], fit, Execution(), "fit"), 24, world=World(rank, ranks)) for rank in range(ranks)
    ]
    for step in (0, 1, 20, 21, 43):
        assert labels(single, step) == [label for stream in others for label in labels(stream, step)]


@pytest.mark.parametrize("memory_gb", [1e-4, 8.0, 1e3])
def test_memory_never_changes_the_order(tmp_path: Path, memory_gb: float):
    part = stored(tmp_path, 200)
    for stream in (False, True):
        fit = Fit(steps=1, batch=20, stream=stream)
        one, other = (plain(open_training([part], fit, Execution(memory_gb=gb), "fit"), 20) for gb in (memory_gb, 16.0))
        assert [labels(one, step) for step in range(20)] == [labels(other, step) for step in range(20)]


def test_a_set_beyond_the_memory_is_a_problem_that_advises_to_stream(tmp_path: Path):
    part, little = stored(tmp_path, 200), Execution(memory_gb=1e-5)
    with pytest.raises(Problem) as caught:
        open_training([part], Fit(steps=1, batch=20), little, "runs.jepa.fit")
    assert caught.value.what == "runs.jepa.fit: 200 shapes take 4.6e-05 GB"
    assert caught.value.mend.endswith("or set runs.jepa.fit.stream: true")
    with pytest.raises(Problem, match="even when they are streamed") as caught:
        open_training([part], Fit(steps=1, batch=20, stream=True), little, "runs.jepa.fit")
    assert "stream: true" not in caught.value.mend


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = [
        labels(Stream(InMemory(numbered(50)), Batching(50, Augment()), seed), step)
        for seed in (0, 1)
        for step in (0, 1)
    ]
    assert len({tuple(order) for order in orders}) == 4


@pytest.mark.parametrize("kind", ["in memory", "streamed"])
def test_the_batch_of_a_step_does_not_depend_on_the_steps_before(tmp_path: Path, kind: str):
    def fresh() -> Stream:
        source = InMemory(numbered(300)) if kind == "in memory" else streamed(tmp_path, 300, 2, 2, 16)
        return Stream(source, Batching(32, Augment(rotate="upright", shift=0.1)), 3)

    through = fresh()
    visited = {step: through.at(step)[0] for step in range(40)}
    for step in (39, 0, 12, 9, 28):  # as after a resume, in any order; 9 spans two epochs
        alone = fresh().at(step)[0]
        assert alone.label.tolist() == visited[step].label.tolist()
        assert torch.equal(alone.points, visited[step].points)
        assert torch.equal(alone.keys, visited[step].keys)


def test_streamed_and_in_memory_give_the_same_shapes(tmp_path: Path):
    part = stored(tmp_path, 200, test_every=5)
    fit = Fit(steps=1, batch=20)
    held = open_training([part], fit, Execution(), "fit")
    from_disk = open_training([part], fit.model_copy(update={"stream": True}), Execution(), "fit")
    assert isinstance(held, InMemory)
    assert isinstance(from_disk, Streamed)
    assert len(held) == len(from_disk) == 160
    index = np.random.default_rng(0).permutation(160)
    by_number = open_shapes([part], 1.0)
    assert isinstance(by_number, OnDisk)
    for others in (from_disk, by_number):
        for a, b in zip(held.rows(index), others.rows(index), strict=True):
            assert np.array_equal(a, b)
    epochs = [Counter(label for step in range(8) for label in labels(plain(s, 20), step)) for s in (held, from_disk)]
    assert epochs[0] == epochs[1]
    assert not set(epochs[0]) & {i for i in range(200) if i % 5 == 0}  # no test shape


def test_the_micro_batches_of_ranks_are_the_single_batch_cut_in_pieces():
    source = InMemory(numbered(100))
    augmentation = Augment(rotate="so3", shift=0.2)
    single = Stream(source, Batching(24, augmentation), 3).at(5)[0]
    ranks = [
        Stream(source, Batching(24, augmentation, accumulate=2), 3, world=World(rank, 3)).at(5) for rank in range(3)
    ]
    pieces = [ranks[rank][number] for number in range(2) for rank in range(3)]
    assert all(len(piece) == 4 for piece in pieces)
    assert torch.equal(torch.cat([piece.label for piece in pieces]), single.label)
    assert torch.allclose(torch.cat([piece.points for piece in pieces]), single.points, atol=1e-6)
    drawn = torch.cat([piece.uniform("mask", 5) for piece in pieces])
    assert torch.equal(drawn, single.uniform("mask", 5))


def test_a_batch_that_cannot_be_cut_evenly_is_a_problem():
    with pytest.raises(Problem, match="cannot be cut into 4 ranks x 2"):
        Stream(InMemory(numbered(10)), Batching(12, Augment(), accumulate=2), 0, world=World(0, 4))


@pytest.mark.parametrize("ranks", [1, 4])
def test_memory_is_the_budget_shared_by_the_ranks(tmp_path: Path, ranks: int):
    source = streamed(tmp_path, 1000, 1, 4, 10)
    budget = source.lanes.shapes * SHAPE_BYTES
    stream, largest = plain(source, 40, world=World(0, ranks)), 0
    for step in range(50):  # two epochs
        stream.at(step)
        largest = max(largest, sum(array.nbytes for arrays in source._held.values() for array in arrays.every()))
    assert budget / 2 / ranks - 1 <= largest <= budget / ranks


def test_the_shapes_of_a_window_are_mixed(tmp_path: Path):
    _, order = streamed(tmp_path, 256, 4).members(0, 0, 256)
    assert sorted(order.tolist()) == list(range(256))
    assert len(set((order[:64] // BLOCK).tolist())) == 4
    assert (np.diff(order) == 1).mean() < 0.1


def test_every_lane_goes_through_other_shapes_in_the_next_epoch(tmp_path: Path):
    source = streamed(tmp_path, 1024, 1, 4, 256)
    of_lane = [set(source.members(0, epoch * 1024, (epoch + 1) * 1024)[1][:256].tolist()) for epoch in (0, 1)]
    assert of_lane[0] != of_lane[1]


def test_several_data_sets_are_one_source(tmp_path: Path):
    parts = [stored(tmp_path, 70, "a"), stored(tmp_path, 30, "b")]
    for memory in (float("inf"), 1.0):
        source = open_shapes(parts, memory)
        assert len(source) == 100
        assert source.rows(np.array([69, 70, 99])).label.tolist() == [69, 0, 29]


def test_sixteen_bit_indices_are_widened_without_a_sign():
    centre = np.array([[0, 1, 32767, 32768, 65535]], np.uint16)
    arrays = Arrays(np.zeros((1, 5, 3), np.float32), centre, centre[:, :, None].copy(), np.zeros(1, np.int64))
    batch = to_device(arrays, "cpu", torch.zeros(1, dtype=torch.long))
    assert batch.centre.tolist() == [[0, 1, 32767, 32768, 65535]]
    assert batch.neighbour.flatten().tolist() == [0, 1, 32767, 32768, 65535]
    assert batch.centre.dtype == torch.long


def test_cached_patches_are_gathered_from_the_augmented_points():
    batch = Stream(InMemory(numbered(8)), Batching(8, Augment(shift=0.5)), 0).at(0)[0]
    patches = batch.patches()
    assert torch.equal(patches.centres, batch.points[:, :4])
    assert torch.allclose(patches.groups, batch.points[:, None, :3] - batch.points[:, :4, None])


def test_live_patches_are_computed_after_augmentation():
    augmentation = Augment(scale=(0.5, 2.0), scale_per_axis=True)
    stream = Stream(InMemory(numbered(8)), Batching(8, augmentation, live=(Level(num=5, size=6),)), 0)
    batch = stream.at(0)[0]
    patches = batch.patches()
    index = farthest_point_sample(batch.points, 5)
    assert torch.equal(patches.centres, batch.points.gather(1, index[..., None].expand(-1, -1, 3)))
    assert patches.groups.shape == (8, 5, 6, 3)


PYRAMID = Scheme(points=16, levels=(Level(num=12, size=4), Level(num=6, size=3), Level(num=3, size=2)))


def pyramid(folder: Path, count: int, name: str = "a") -> Subset:
    """Shapes with the patches of three levels, as `jepa3d patchify` writes them."""
    arrays = numbered(count)
    canonical, patches = folder / f"{name}.h5", folder / f"{name}.patches.h5"
    write(canonical, arrays.points, arrays.label)
    store.write_h5(patches, levels(arrays.points, PYRAMID), {})
    return Subset(canonical, patches, np.arange(count))


@pytest.mark.parametrize("stream", [False, True], ids=["in memory", "streamed"])
def test_every_level_of_a_pyramid_travels_with_its_shape(tmp_path: Path, stream: bool):
    parts = [pyramid(tmp_path, 70), pyramid(tmp_path, 30, "b")]
    fit = Fit(steps=1, batch=8, stream=stream)
    batches = Stream(open_training(parts, fit, Execution(), "fit"), Batching(8, Augment(rotate="so3")), 3)
    for step in (0, 5):
        [batch] = batches.at(step)
        cached, anew = batch.patches(), patchify(batch.points, *PYRAMID.levels)
        assert [len(level.centres[0]) for level in cached.above] == [6, 3]
        below = cached.centres
        for level, wanted in zip(cached.above, anew.above, strict=True):
            assert torch.allclose(level.centres, wanted.centres)
            assert torch.equal(level.neighbour, wanted.neighbour)
            members = below[torch.arange(8)[:, None, None], level.neighbour]
            assert torch.allclose(members[:, :, 0], level.centres)  # a patch's nearest member is its centre
            below = level.centres


def test_live_patches_of_a_pyramid_are_computed_level_by_level(tmp_path: Path):
    scheme = PYRAMID.model_copy(update={"live": True})
    subset = pyramid(tmp_path, 8)
    changed = Augment(scale=(0.5, 2.0), scale_per_axis=True)
    source = InMemory(open_shapes([subset], float("inf")).rows(np.arange(8)))
    [batch] = Stream(source, Batching(8, changed, scheme.live_levels), 0).at(0)
    wanted = patchify(batch.points, *PYRAMID.levels)
    for mine, other in zip(batch.patches().above, wanted.above, strict=True):
        assert torch.equal(mine.centres, other.centres)
        assert torch.equal(mine.neighbour, other.neighbour)
    assert PYRAMID.live_levels == ()


RESAMPLED = Scheme(points=10, sample="resample", live=True, levels=(Level(num=4, size=3),))


def whole(folder: Path, count: int) -> list[Subset]:
    return [stored(folder, count)._replace(whole=True)]


@pytest.mark.parametrize("stream", [False, True], ids=["in memory", "streamed"])
def test_a_scheme_that_resamples_draws_other_points_for_every_epoch_and_shape(tmp_path: Path, stream: bool):
    """Against the steps one by one: draw, unit sphere, augmentation, FPS from the first drawn point, KNN."""
    fit, turned = Fit(steps=1, batch=8, stream=stream), Augment(rotate="so3", scale=(0.5, 2.0))
    source = open_training(whole(tmp_path, 24), fit, Execution(), "fit")
    made, clouds, views = Stream(source, Batching.of(fit, turned, RESAMPLED), 3), numbered(24).points, {}
    for step in range(6):  # two epochs
        [batch] = made.at(step)
        patches = batch.patches()
        for row, number in enumerate(batch.label.tolist()):
            key = batch.keys[row : row + 1]
            order = uniform(key, "points", 16)[0].argsort(stable=True)[:10]
            points = augment(unit_sphere(torch.from_numpy(clouds[number])[order][None]), key, turned)
            wanted = patchify(points, *RESAMPLED.levels)
            assert torch.allclose(batch.points[row], points[0], atol=1e-6)
            assert torch.allclose(patches.centres[row], wanted.centres[0], atol=1e-6)
            assert torch.equal(patches.centres[row, 0], batch.points[row, 0])
            assert torch.allclose(patches.groups[row], wanted.groups[0], atol=1e-6)
            views.setdefault(number, []).append(batch.points[row])
    assert all(len(pair) == 2 and not torch.allclose(*pair) for pair in views.values())


def test_resampled_points_are_the_same_on_any_number_of_ranks_and_after_a_resume(tmp_path: Path):
    fit = Fit(steps=1, batch=12, accumulate=2)
    source, batching = (
        open_training(whole(tmp_path, 50), fit, Execution(), "fit"),
        Batching.of(fit, Augment(), RESAMPLED),
    )
    single = [batch.points for batch in Stream(source, batching, 3).at(7)]
    ranks = [Stream(source, batching, 3, world=World(rank, 3)).at(7) for rank in range(3)]
    for number in range(2):
        assert torch.allclose(torch.cat([rank[number].points for rank in ranks]), single[number], atol=1e-6)


def test_whole_clouds_of_unequal_sizes_are_a_problem(tmp_path: Path):
    subsets = whole(tmp_path, 5)
    points = np.zeros((5, 12, 3), np.float32)
    write(tmp_path / "b.h5", points, np.zeros(5, np.int64))
    subsets.append(subsets[0]._replace(canonical=tmp_path / "b.h5"))
    with pytest.raises(Problem, match="clouds of 12 and 16 points in one training"):
        open_training(subsets, Fit(steps=1, batch=2), Execution(), "fit")


def test_a_chosen_subset_of_the_points_is_read_in_its_order(tmp_path: Path):
    arrays = numbered(3)
    chosen = np.array([[5, 2, 9, 1]] * 3, np.uint16)
    write(tmp_path / "a.h5", arrays.points, arrays.label)
    store.write_h5(tmp_path / "p.h5", {"centre": arrays.centre, "neighbour": arrays.neighbour, "point": chosen}, {})
    source = open_shapes([Subset(tmp_path / "a.h5", tmp_path / "p.h5", np.arange(3))], float("inf"))
    assert np.array_equal(source.rows(np.arange(3)).points, arrays.points[:, [5, 2, 9, 1]])


def test_patches_of_another_file_are_a_problem(tmp_path: Path):
    one, other = stored(tmp_path, 10, "a"), stored(tmp_path, 11, "b")
    with pytest.raises(Problem, match="does not belong to") as caught:
        open_shapes([Subset(one.canonical, other.patches, one.rows)], float("inf"))
    assert "11 shapes against 10" in caught.value.why


def test_splits_and_classes_come_from_the_canonical_file(toys: Path):
    train, test, both = (split_rows(toys, split) for split in ("train", "test", None))
    assert (len(train), len(test), len(both)) == (60, 20, 80)
    assert sorted([*train, *test]) == both.tolist()
    assert class_names(toys) == ["cube", "rod", "plate"]


def test_one_epoch_of_batches_sees_every_shape():
    stream = plain(InMemory(numbered(21)), 8)
    assert stream.steps_per_epoch == 21 / 8
    assert {int(label) for batch in stream.batches() for label in batch.label} == set(range(21))
