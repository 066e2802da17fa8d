"""The hierarchical encoder against a forward that is written out shape by shape and token by token."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from jepa3d.encoders import build, hierarchical
from jepa3d.encoders._hierarchical import Hierarchical
from jepa3d.nets.patches import Patches, patchify
from jepa3d.ops.masking import visible_levels
from jepa3d.params import Level, Tokenizer

LEVELS = (Level(num=20, size=8), Level(num=10, size=4), Level(num=5, size=3))
CONFIG = hierarchical.Config(widths=(6, 8, 12), blocks=(1, 2, 1), heads=2, tokenizer=Tokenizer(widths=(8, 8, 8)))


def encoder(**changes: object) -> Hierarchical:
    """In evaluation mode, its BatchNorms with statistics of their own."""
    torch.manual_seed(0)
    net = build(CONFIG.model_copy(update=changes)).eval()
    assert isinstance(net, Hierarchical)
    for norm in (layer for layer in net.modules() if isinstance(layer, nn.BatchNorm1d)):
        norm.running_mean.normal_(std=0.3)
        norm.running_var.uniform_(0.5, 1.5)
    for weight in net.parameters():  # so that no bias is zero
        weight.data.add_(torch.randn_like(weight), alpha=0.1)
    return net


def patches_of(shapes: int = 3) -> Patches:
    return patchify(torch.randn(shapes, 64, 3, generator=torch.Generator().manual_seed(0)), *LEVELS)


def seen_of(patches: Patches, coarsest: list[list[int]]) -> list[Tensor]:
    chosen = torch.zeros(len(coarsest), 5, dtype=torch.bool)
    for shape, places in enumerate(coarsest):
        chosen[shape, places] = True
    return visible_levels(chosen, [level.neighbour for level in patches.above], 20)


# --- the oracle


def mini_pointnet(net: nn.Module, members: Tensor) -> Tensor:
    """conv, BN, ReLU, conv, max beside each, conv, BN, ReLU, conv, max: members [K, C] -> [D]."""

    def normed(norm: nn.BatchNorm1d, x: Tensor) -> Tensor:
        return (x - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias

    x = normed(net.point_norm, members @ net.point.weight.T).clamp_min(0)
    x = x @ net.lift.weight.T + net.lift.bias
    x = torch.cat([x.max(0).values.expand_as(x), x], 1) @ net.join.weight.T
    x = normed(net.join_norm, x).clamp_min(0) @ net.out.weight.T + net.out.bias
    return x.max(0).values


def attended(net: nn.Module, x: list[Tensor], at: list[Tensor], radius: float) -> list[Tensor]:
    """Attention of every token over those within the radius, head by head."""
    query = [net.query(one) for one in x]
    both = [net.key_value(one).chunk(2) for one in x]
    found = []
    for i, own in enumerate(query):
        near = [j for j in range(len(x)) if math.dist(at[i].tolist(), at[j].tolist()) < radius]
        heads = []
        for q, head in zip(own.chunk(2), range(2), strict=True):
            weight = torch.stack([q @ both[j][0].chunk(2)[head] for j in near]) / math.sqrt(len(q))
            heads.append(sum(w * both[j][1].chunk(2)[head] for w, j in zip(weight.softmax(0), near, strict=True)))
        found.append(net.out(torch.cat(heads)))
    return found


def written_out(
    net: Hierarchical, patches: Patches, shape: int, seen: list[Tensor], radius: tuple[float, ...]
) -> list[dict[int, Tensor]]:
    """The visible tokens of each level after its blocks and its norm, by their places."""
    levels = [[int(place) for place in mask[shape].nonzero().flatten()] for mask in seen]
    centres = [patches.centres[shape], *(level.centres[shape] for level in patches.above)]
    found, grid = [], {}
    for level, visible in enumerate(levels):
        if level == 0:
            tokens = {n: mini_pointnet(net.tokenizer, patches.groups[shape, n]) for n in visible}
        else:
            members = patches.above[level - 1].neighbour[shape].tolist()
            merge = net.mergers[level - 1]
            tokens = {n: mini_pointnet(merge, torch.stack([grid[m] for m in members[n]])) for n in visible}
        at = [centres[level][n] for n in visible]
        x = [tokens[n] for n in visible]
        for block in net.stacks[level]:
            x = [one + net.positions[level](place) for one, place in zip(x, at, strict=True)]
            mixed = attended(block.attend_self, [block.norm_self(one) for one in x], at, radius[level])
            x = [one + more for one, more in zip(x, mixed, strict=True)]
            x = [one + block.mlp(block.norm_mlp(one)) for one in x]
        grid = dict(zip(visible, x, strict=True))
        found.append({n: net.norms[level](one) for n, one in grid.items()})
    return found


FAR = (math.inf,) * 3
NEAR = (0.9, 1.2, 2.0)


@pytest.mark.parametrize("radius", [None, NEAR])
@pytest.mark.parametrize("qkv_bias", [True, False])
@torch.no_grad()
def test_all_tokens_are_those_of_the_forward_written_out(radius: tuple[float, ...] | None, qkv_bias: bool):
    net, patches = encoder(radius=radius, qkv_bias=qkv_bias), patches_of()
    everything = [torch.ones(3, level.num, dtype=torch.bool) for level in LEVELS]
    depths = net.tokens_at(patches, net.config.depths)
    for shape in range(3):
        wanted = written_out(net, patches, shape, everything, radius or FAR)
        for got, level in zip(depths, wanted, strict=True):
            assert torch.allclose(got.tokens[shape], torch.stack(list(level.values())), atol=2e-5)
    assert torch.equal(net(patches), depths[-1].tokens)


@pytest.mark.parametrize("radius", [None, NEAR])
@torch.no_grad()
def test_visible_tokens_are_those_of_a_forward_that_knows_no_padding(radius: tuple[float, ...] | None):
    """Shapes with 1, 2 and 4 visible coarse tokens in one batch: the shorter sequences are padded."""
    net, patches = encoder(radius=radius), patches_of()
    seen = seen_of(patches, [[3], [0, 4], [0, 1, 2, 3]])
    got = net.visible(patches, seen)
    for shape in range(3):
        for level, wanted in zip(got, written_out(net, patches, shape, seen, radius or FAR), strict=True):
            places = level.at[shape][level.valid[shape]].tolist()
            assert places == list(wanted)
            assert torch.allclose(
                level.tokens[shape][level.valid[shape]], torch.stack(list(wanted.values())), atol=2e-5
            )


@torch.no_grad()
def test_what_is_not_visible_changes_nothing():
    net, patches = encoder(), patches_of()
    seen = seen_of(patches, [[3], [0, 4], [0, 1, 2, 3]])
    hidden = ~seen[0]
    groups = patches.groups + 5.0 * hidden[:, :, None, None]
    for mine, other in zip(net.visible(patches, seen), net.visible(patches._replace(groups=groups), seen), strict=True):
        assert torch.equal(mine.tokens[mine.valid], other.tokens[other.valid])
        assert torch.isfinite(mine.tokens).all()


def test_gradients_reach_what_is_visible_and_nothing_else():
    net, patches = encoder(), patches_of()
    groups = patches.groups.clone().requires_grad_()
    seen = seen_of(patches, [[3], [0, 4], [0, 1, 2, 3]])
    last = net.visible(patches._replace(groups=groups), seen)[-1]
    last.tokens[last.valid].square().sum().backward()
    reached = groups.grad.abs().sum((2, 3)) > 0
    assert (reached & ~seen[0]).sum() == 0
    assert (reached & seen[0]).sum() > 0.8 * seen[0].sum()


# --- which tokens are visible


def test_a_token_is_visible_where_a_visible_parent_has_it():
    """Two coarse tokens of three members each among five, the finest level of six under those five."""
    members = torch.tensor([[[0, 1, 4], [2, 3, 4]]])
    finest = torch.tensor([[[0, 5], [1, 5], [2, 3], [3, 4], [4, 0]]])
    levels = visible_levels(torch.tensor([[False, True]]), [finest, members], 6)
    assert [level.tolist() for level in levels] == [
        [[True, False, True, True, True, False]],
        [[False, False, True, True, True]],
        [[False, True]],
    ]


def test_token_0_is_not_special_and_shapes_do_not_mix():
    """In the authors' code, token 0 of the first shape of a batch is always visible."""
    patches = patches_of()
    seen = seen_of(patches, [[3], [0, 4], [0, 1, 2, 3]])
    for shape in range(3):
        alone = visible_levels(seen[2][shape : shape + 1], [n.neighbour[shape : shape + 1] for n in patches.above], 20)
        assert all(torch.equal(a[0], b[shape]) for a, b in zip(alone, seen, strict=True))
    some = [seen_of(patches, [[place]] * 3)[0][0, 0] for place in range(5)]
    assert not all(some)


# --- its entry


def test_the_default_is_point_m2aes():
    config = hierarchical.Config()
    assert (config.widths, config.blocks, config.heads) == ((96, 192, 384), (5, 5, 5), 6)
    assert (config.levels, config.layers, config.depths) == (3, 15, (4, 9, 14))
    net = build(config.model_copy(update={"drop_path": 0.14}))
    assert [block.drop_path for stack in net.stacks for block in stack] == pytest.approx(
        [0.01 * number for number in range(15)]
    )
    first, second = net.mergers  # c-c, then 2c-c'
    shapes = [tuple(layer.weight.shape) for layer in (first.point, first.lift, first.join, first.out)]
    assert shapes == [(96, 96), (96, 96), (192, 192), (192, 192)]
    assert tuple(second.join.weight.shape) == (384, 384)
    assert [tuple(p[0].weight.shape) + tuple(p[2].weight.shape) for p in net.positions] == [
        (width, 3, width, width) for width in (96, 192, 384)
    ]


def test_local_attention_is_for_training_on_only_where_the_entry_says_so():
    config = hierarchical.Config(tuned_radius=(0.32, 0.64, 1.28))
    assert config.radius is None
    assert config.tuned(0.1, "max_mean").radius == (0.32, 0.64, 1.28)
    assert hierarchical.Config(radius=(1.0, 1.0, 1.0)).tuned(0.1).radius == (1.0, 1.0, 1.0)
    assert config.shape() == hierarchical.Config().shape()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"blocks": (5, 5)}, "blocks has 2 levels, widths has 3"),
        ({"radius": (0.1,)}, "radius has 1 levels, widths has 3"),
        ({"heads": 5}, "width 96 is no multiple of heads 5"),
    ],
)
def test_an_entry_whose_levels_do_not_agree_is_refused(changes: dict[str, object], words: str):
    with pytest.raises(ValueError, match=words):
        hierarchical.Config(**changes)
