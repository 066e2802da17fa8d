"""Multi-block spatial sampling in 3D (section 4.5, Algorithm 2) and its named deviations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from jepa3d.ops.geometry import squared_distance
from jepa3d.problem import Problem

Fill = Literal["literal", "exact"]
Seeds = Literal["random", "fps"]


class Mask(NamedTuple):
    """Which patches are targets and which are context; `block` tells the target blocks apart (they may overlap)."""

    target: Bool[Tensor, "B N"]
    context: Bool[Tensor, "B N"]
    block: Bool[Tensor, "B M N"]


def multiblock(
    centres: Float[Tensor, "B N 3"],
    blocks: int = 4,
    ratio: float = 0.6,
    fill: Fill = "literal",
    seeds: Seeds = "random",
    generator: torch.Generator | None = None,
) -> Bool[Tensor, "B N"]:
    """Target patches of Algorithm 2, True = target; each shape draws its own blocks from `generator`."""
    draws = torch.rand(len(centres), draws_needed(blocks), generator=generator, device=_device(generator))
    return sample(centres, draws.to(centres.device), blocks, ratio, fill, seeds).target


def draws_needed(blocks: int) -> int:
    """How many uniform numbers `sample` takes for a shape: a seed and a size for each block and for the context."""
    return 2 * blocks + 2


def sample(
    centres: Float[Tensor, "B N 3"],
    draws: Float[Tensor, "B R"],
    blocks: int = 4,
    ratio: float = 0.6,
    fill: Fill = "literal",
    seeds: Seeds = "random",
    block_scale: tuple[float, float] | None = None,
    context_scale: tuple[float, float] | None = None,
) -> Mask:
    """Algorithm 2 from given uniform draws.

    Each block is the `floor(N r / M)` patches nearest to a seed that is no target yet (line 2 to 9), the context the
    complement (line 11). Deviations: `fill="exact"` grows all blocks together until the union has round(N r) patches;
    `seeds="fps"` takes each seed farthest from those before; `block_scale` draws each shape's block size as a share
    of N instead of r / M; `context_scale` makes the context one block of that share of N, less the targets.
    """
    batch, num = centres.shape[:2]
    size = _block_sizes(draws[:, blocks : blocks + 1], num, blocks, ratio, block_scale)
    target = torch.zeros(batch, num, dtype=torch.bool, device=centres.device)
    nearest = torch.full((batch, num), torch.inf, device=centres.device)
    ranks, members = [], []
    for m in range(blocks):
        seed = _first_max(nearest) if seeds == "fps" and m > 0 else _pick(~target, draws[:, m])
        distance = squared_distance(centres, centres[torch.arange(batch, device=centres.device), seed][:, None])
        nearest = torch.minimum(nearest, distance)
        ranks.append(_rank(distance))
        members.append(ranks[-1] < size)
        target = target | members[-1]
    block = torch.stack(members, 1)
    if fill == "exact":
        target, block = _grow(torch.stack(ranks, 1), min(round(num * ratio), num - 1))
    context = ~target
    if context_scale is not None:
        context = context & _context_block(centres, draws[:, -2:], context_scale)
        context = torch.where(context.any(1, keepdim=True), context, ~target)  # never an empty context
    return Mask(target, context, block)


def random_mask(draws: Float[Tensor, "B N"], count: int) -> Mask:
    """`count` targets of each shape, every patch equally likely: those with the smallest of N uniform draws."""
    target = _rank(draws) < count
    return Mask(target, ~target, target[:, None])


def one_block(centres: Float[Tensor, "B N 3"], seed: Int[Tensor, " B"], count: int | Int[Tensor, "B 1"]) -> Mask:
    """The `count` patches nearest to one patch of each shape; every shape may have a count of its own."""
    middle = centres[torch.arange(len(centres), device=centres.device), seed][:, None]
    target = _rank(squared_distance(centres, middle)) < count
    return Mask(target, ~target, target[:, None])


def chain(centres: Float[Tensor, "B N 3"]) -> Int[Tensor, "B N"]:
    """The patches in the order of a greedy chain: from the centre with the least x + y + z, each time on to the nearest
    one that is left (Point-JEPA's sequencer). Ties go to the lower index."""
    batch, num = centres.shape[:2]
    shape = torch.arange(batch, device=centres.device)
    at = _first_max(-centres.sum(-1))
    order, free = [at], torch.ones(batch, num, dtype=torch.bool, device=centres.device)
    for _ in range(num - 1):
        free[shape, at] = False
        distance = squared_distance(centres, centres[shape, at][:, None]).masked_fill(~free, torch.inf)
        at = _first_max(-distance)
        order.append(at)
    return torch.stack(order, 1)


def chain_mask(
    order: Int[Tensor, "B N"],
    draws: Float[Tensor, "B R"],
    blocks: int,
    target_scale: tuple[float, float],
    context_scale: tuple[float, float],
) -> Mask:
    """Targets and context as runs of a chain (Point-JEPA), from blocks + 3 uniform draws a shape.

    Each target block is a run of floor(N u) consecutive places, u drawn for the shape; blocks may overlap. The context
    is a run of a drawn share of the places that are no target, consecutive in the list of those.
    """
    num = order.shape[1]
    place = torch.argsort(order, 1)  # of each patch in the chain
    size = (num * (target_scale[0] + (target_scale[1] - target_scale[0]) * draws[:, :1])).floor().long().clamp_min(1)
    first = torch.minimum((draws[:, 1 : blocks + 1] * (num - size + 1)).long(), num - size)
    block = (place[:, None] >= first[..., None]) & (place[:, None] < (first + size)[..., None])
    target = block.any(1)
    left = (~target).sum(1, keepdim=True)
    share = context_scale[0] + (context_scale[1] - context_scale[0]) * draws[:, blocks + 1 : blocks + 2]
    length = (left * share).floor().long().clamp_min(1)
    begin = torch.minimum((draws[:, blocks + 2 : blocks + 3] * (left - length + 1)).long(), left - length)
    in_chain = (~target).gather(1, order)
    rank = (in_chain.cumsum(1) - 1).gather(1, place)  # of each patch among those that are no target
    context = ~target & (rank >= begin) & (rank < begin + length)
    return Mask(target, context, block)


def pack(mask: Bool[Tensor, "B N"]) -> tuple[Int[Tensor, "B L"], Bool[Tensor, "B L"]]:
    """The chosen patches of each shape, in order, padded to the longest: (indices, which of them are valid)."""
    order = torch.argsort(~mask, dim=1, stable=True)
    count = mask.sum(1, keepdim=True)
    order = order[:, : int(count.max())]
    return order, torch.arange(order.shape[1], device=mask.device) < count


def visible_levels(
    coarsest: Bool[Tensor, "B M"], neighbours: Sequence[Int[Tensor, "B _ _"]], finest: int
) -> list[Bool[Tensor, "B _"]]:
    """Which tokens of each level of a pyramid are visible, from fine to coarse, given those of the coarsest level.

    A token is visible where a visible token of the level above has it among its members (Point-M2AE). `neighbours` are
    the members [B, M, K] of the levels' patches from fine to coarse, the finest level, of `finest` tokens, left out.
    """
    counts = [finest, *(near.shape[1] for near in neighbours[:-1])]
    found = [coarsest]
    for near, count in zip(reversed(neighbours), reversed(counts), strict=True):
        votes = torch.zeros(len(near), count, device=near.device)
        members = found[0][:, :, None].expand_as(near).flatten(1).float()
        found.insert(0, votes.scatter_add(1, near.flatten(1), members) > 0)
    return found


def _block_sizes(
    draw: Float[Tensor, "B 1"], num: int, blocks: int, ratio: float, scale: tuple[float, float] | None
) -> Int[Tensor, "B 1"]:
    if scale is None:
        size = torch.full_like(draw, int(num * ratio / blocks + 1e-9))  # the floor of line 2, safe against 0.1 * 3
    else:
        size = (num * (scale[0] + (scale[1] - scale[0]) * draw)).floor()
    if int(size.min()) < 1:
        raise Problem(
            f"{num} patches are too few for {blocks} blocks, each {scale or f'{ratio} of them / {blocks}'}",
            "a target block would have less than one patch",
            "take fewer blocks (mask.blocks), a larger share of the patches, or a scheme with more patches",
        )
    return size.long()


def _pick(free: Bool[Tensor, "B N"], draw: Float[Tensor, " B"]) -> Int[Tensor, " B"]:
    """RandomSample of line 4: one of the free patches, all equally likely (any patch where none is free)."""
    free = torch.where(free.any(1, keepdim=True), free, True)
    count = free.sum(1)
    nth = torch.minimum((draw * count).long(), count - 1)
    return ((free.cumsum(1) == nth[:, None] + 1) & free).int().argmax(1)


def _rank(distance: Float[Tensor, "B N"]) -> Int[Tensor, "B N"]:
    """The place of each patch in the order of distance; ties go to the lower index."""
    order = torch.argsort(distance, dim=1, stable=True)
    place = torch.arange(distance.shape[1], device=distance.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, place)


def _first_max(values: Float[Tensor, "B N"]) -> Int[Tensor, " B"]:
    return torch.argsort(values, dim=1, descending=True, stable=True)[:, 0]


def _grow(rank: Int[Tensor, "B M N"], count: int) -> tuple[Bool[Tensor, "B N"], Bool[Tensor, "B M N"]]:
    """The `count` patches that the blocks reach first when they all grow by one patch in turn."""
    blocks = rank.shape[1]
    turn = rank * blocks + torch.arange(blocks, device=rank.device)[:, None]  # block 0 adds first, then block 1, ...
    target = _rank(turn.amin(1).float()) < count
    last = torch.where(target, turn.amin(1), -1).amax(1)
    return target, (turn <= last[:, None, None]) & target[:, None]


def _context_block(
    centres: Float[Tensor, "B N 3"], draws: Float[Tensor, "B 2"], scale: tuple[float, float]
) -> Bool[Tensor, "B N"]:
    """One large block around a random seed (the paper's context, as secondary sources have it)."""
    batch, num = centres.shape[:2]
    seed = torch.clamp((draws[:, 0] * num).long(), max=num - 1)
    distance = squared_distance(centres, centres[torch.arange(batch, device=centres.device), seed][:, None])
    size = (num * (scale[0] + (scale[1] - scale[0]) * draws[:, 1:])).floor().long()
    return _rank(distance) < size


def _device(generator: torch.Generator | None) -> torch.device:
    return torch.device("cpu") if generator is None else generator.device
