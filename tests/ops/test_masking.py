"""Algorithm 2, line by line, and its named deviations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from jepa3d.ops.geometry import farthest_point_sample, gather
from jepa3d.ops.masking import Mask, draws_needed, multiblock, pack, sample
from jepa3d.problem import Problem


def some_centres(batch: int, num: int, seed: int = 0) -> Tensor:
    return torch.randn(batch, num, 3, generator=torch.Generator().manual_seed(seed))


def some_draws(batch: int, blocks: int, seed: int = 0) -> Tensor:
    return torch.rand(batch, draws_needed(blocks), generator=torch.Generator().manual_seed(seed))


def algorithm_2(centres: np.ndarray, draws: np.ndarray, blocks: int, ratio: float) -> tuple[list[set[int]], list[int]]:
    """Lines 1 to 12 for one shape, the RandomSample of line 4 being the draw-th of the free patches."""
    size, target, chosen, seeds = int(len(centres) * ratio / blocks + 1e-9), set(), [], []
    for m in range(blocks):
        free = [i for i in range(len(centres)) if i not in target]
        seed = free[min(int(np.float32(draws[m]) * np.float32(len(free))), len(free) - 1)]
        dx, dy, dz = (centres - centres[seed]).T
        block = np.argsort(dx * dx + dy * dy + dz * dz, kind="stable")[:size]
        chosen.append(set(block.tolist()))
        seeds.append(seed)
        target |= chosen[-1]
    return chosen, seeds


def blocks_of(mask: Mask, shape: int) -> list[set[int]]:
    return [set(row.nonzero().flatten().tolist()) for row in mask.block[shape]]


def test_one_block_on_a_line_is_the_seed_and_its_nearest_patches():
    line = torch.tensor([[[float(x), 0, 0] for x in range(8)]])
    draws = torch.tensor([[0.5, 0, 0, 0]])  # the seed is the free patch number floor(0.5 * 8) = 4
    mask = sample(line, draws, blocks=1, ratio=0.4)  # floor(8 * 0.4) = 3 patches: 4 and its two neighbours
    assert mask.target[0].nonzero().flatten().tolist() == [3, 4, 5]
    assert mask.context[0].nonzero().flatten().tolist() == [0, 1, 2, 6, 7]


def test_the_second_seed_is_no_target_yet_but_its_block_may_overlap():
    line = torch.tensor([[[float(x), 0, 0] for x in range(8)]])
    draws = torch.tensor([[0.0, 0.0, 0, 0, 0, 0]])  # each time the first free patch
    mask = sample(line, draws, blocks=2, ratio=0.75)  # 3 each: 0 1 2, then around 3 the patches 2 3 4 (tie: 2 first)
    assert blocks_of(mask, 0) == [{0, 1, 2}, {2, 3, 4}]
    assert mask.target[0].sum() == 5


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 8), st.floats(0.3, 0.95), st.sampled_from(["random", "grid", "one point"]))
def test_the_literal_mask_is_algorithm_2(seed: int, blocks: int, ratio: float, kind: str):
    num, centres = 32, some_centres(3, 32, seed)
    if kind == "grid":
        centres = (centres * 1.5).round()  # full of ties
    if kind == "one point":
        centres = torch.zeros_like(centres)
    draws = some_draws(3, blocks, seed)
    mask = sample(centres, draws, blocks, ratio)
    size = int(num * ratio / blocks + 1e-9)
    for shape in range(3):
        expected, seeds = algorithm_2(centres[shape].numpy(), draws[shape].numpy(), blocks, ratio)
        assert blocks_of(mask, shape) == expected
        before: set[int] = set()
        for block, first in zip(expected, seeds, strict=True):
            assert first not in before  # line 4
            assert len(block) == size  # line 8
            before |= block
        assert set(mask.target[shape].nonzero().flatten().tolist()) == before  # line 9: a union, so once each
    assert torch.equal(mask.context, ~mask.target)  # line 11
    assert size <= int(mask.target.sum(1).min()) <= int(mask.target.sum(1).max()) <= blocks * size


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 8), st.floats(0.3, 0.99))
def test_the_exact_fill_grows_the_literal_blocks_to_the_asked_number_of_patches(seed: int, blocks: int, ratio: float):
    centres, draws = some_centres(4, 40, seed), some_draws(4, blocks, seed)
    literal, exact = sample(centres, draws, blocks, ratio), sample(centres, draws, blocks, ratio, fill="exact")
    assert (exact.target.sum(1) == min(round(40 * ratio), 39)).all()
    assert (exact.target | ~literal.target).all()
    assert (exact.block | ~literal.block).all()
    assert torch.equal(exact.block.any(1), exact.target)
    for shape in range(4):  # every grown block is still the set of patches nearest to its seed
        for block, seed_of in zip(
            exact.block[shape], algorithm_2(centres[shape].numpy(), draws[shape].numpy(), blocks, ratio)[1], strict=True
        ):
            away = (centres[shape] - centres[shape, seed_of]).square().sum(-1)
            assert away[block].max() <= away[~block].min()


def test_even_at_the_highest_ratio_a_context_patch_is_left():
    mask = sample(some_centres(8, 64), some_draws(8, 1), 1, 0.999, fill="exact")
    assert mask.context.any(1).all()


def test_shapes_of_a_batch_draw_differently():
    same = some_centres(1, 64).expand(16, 64, 3)
    masks = multiblock(same, generator=torch.Generator().manual_seed(0))
    assert len({tuple(row.tolist()) for row in masks}) > 12


def test_a_shape_has_the_same_mask_in_any_batch():
    centres, draws = some_centres(12, 64), some_draws(12, 4)
    whole = sample(centres, draws)
    part = sample(centres[4:7], draws[4:7])
    assert all(torch.equal(a[4:7], b) for a, b in zip(whole, part, strict=True))


def test_the_same_generator_gives_the_same_masks():
    centres = some_centres(3, 64)
    first, second = (multiblock(centres, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, second)


def test_fps_seeds_are_each_farthest_from_those_before():
    line = torch.tensor([[[float(x), 0, 0] for x in range(11)]])
    mask = sample(line, torch.zeros(1, draws_needed(3)), blocks=3, ratio=0.3, seeds="fps")  # one patch a block
    assert blocks_of(mask, 0) == [{0}, {10}, {5}]


def test_a_block_scale_draws_each_shapes_own_block_size():
    mask = sample(some_centres(200, 64), some_draws(200, 4), blocks=4, block_scale=(0.15, 0.2))
    sizes = mask.block.sum(2)
    assert (sizes == sizes[:, :1]).all()
    assert set(sizes.flatten().tolist()) == {9, 10, 11, 12}  # floor of 9.6 .. 12.8


def test_a_context_block_is_one_large_block_less_the_targets():
    centres, draws = some_centres(100, 64), some_draws(100, 4)
    mask = sample(centres, draws, blocks=4, context_scale=(0.5, 0.5))
    assert not (mask.context & mask.target).any()
    assert (mask.context.sum(1) <= 32).all()
    assert mask.context.any(1).all()
    seeds = (draws[:, -2] * 64).long()
    away = (centres - centres[torch.arange(100), seeds][:, None]).square().sum(-1)
    inside = away.argsort(dim=1).argsort(dim=1) < 32
    assert torch.equal(mask.context, inside & ~mask.target)


def test_a_context_block_that_the_targets_cover_falls_back_to_the_complement():
    line = torch.tensor([[[float(x), 0, 0] for x in range(10)]])
    draws = torch.zeros(1, draws_needed(1))  # target block and context block both begin at patch 0
    mask = sample(line, draws, blocks=1, ratio=0.5, context_scale=(0.3, 0.3))
    assert mask.context[0].nonzero().flatten().tolist() == [5, 6, 7, 8, 9]


@pytest.mark.parametrize(("blocks", "mean"), [(1, 38.0), (2, 35.1), (4, 32.9), (8, 29.1)])
def test_the_literal_ratio_falls_with_the_number_of_blocks_because_blocks_overlap(blocks: int, mean: float):
    """docs/method.md: 38 targets cannot come out of Algorithm 2; these means can (64 FPS centres, ratio 0.6)."""
    cloud = torch.nn.functional.normalize(some_centres(600, 256, 1), dim=-1)
    centres = gather(cloud, farthest_point_sample(cloud, 64))
    targets = sample(centres, some_draws(600, blocks), blocks, 0.6).target.sum(1).float()
    assert targets.mean().item() == pytest.approx(mean, abs=1.5)
    assert targets.max() <= 64 * 0.6


def test_every_free_patch_is_equally_likely_to_be_a_seed():
    line = torch.zeros(8000, 5, 3)
    line[:, :, 0] = torch.arange(5.0)
    mask = sample(line, some_draws(8000, 1), blocks=1, ratio=0.2)
    counts = mask.target.sum(0).numpy()
    assert abs(counts - 1600).max() < 5 * np.sqrt(1600)


def test_a_block_without_a_patch_is_a_problem_that_says_what_to_change():
    with pytest.raises(Problem, match="too few for 8 blocks") as problem:
        sample(some_centres(1, 8), some_draws(1, 8), blocks=8, ratio=0.6)
    assert "mask.blocks" in problem.value.mend


def test_pack_lists_the_chosen_patches_in_order_and_marks_the_padding():
    mask = torch.tensor([[False, True, False, True], [True, True, False, True]])
    at, valid = pack(mask)
    assert at[0, :2].tolist() == [1, 3]
    assert at[1].tolist() == [0, 1, 3]
    assert valid.tolist() == [[True, True, False], [True, True, True]]


@given(st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=5))
def test_packing_loses_and_invents_nothing(rows: list[list[bool]]):
    mask = torch.tensor(rows)
    at, valid = pack(mask)
    back = torch.zeros_like(mask).scatter(1, at, valid)
    assert torch.equal(back, mask)
    assert at.shape[1] == int(mask.sum(1).max())
