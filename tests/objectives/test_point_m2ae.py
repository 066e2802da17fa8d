"""Point-M2AE: which patches are visible at each level, the decoder and the loss shape by shape, where gradients go."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from forged import losses
from torch import Tensor, nn
from torch.nn import functional as F

from jepa3d.encoders import hierarchical, transformer
from jepa3d.nets.patches import Patches
from jepa3d.nets.pyramid_decoder import Propagation
from jepa3d.objectives import point_m2ae
from jepa3d.ops.draws import shape_keys
from jepa3d.params import Level, Scheme, Tokenizer
from jepa3d.train.batches import Batch
from jepa3d.train.objective import Setup

TOKENIZER = Tokenizer(widths=(6, 8, 8), init="trunc_normal")
MODEL = hierarchical.Config(widths=(6, 8, 12), blocks=(1, 1, 1), heads=2, qkv_bias=False, tokenizer=TOKENIZER)
LEVELS = (Level(num=40, size=6), Level(num=20, size=4), Level(num=10, size=3))
FIELD = (Level(num=512, size=16), Level(num=256, size=8), Level(num=64, size=8))  # the authors'


def batch(count: int = 4, points: int = 80, levels: tuple[Level, ...] = LEVELS) -> Batch:
    cloud = F.normalize(torch.randn(count, points, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    nothing = torch.zeros(count, 0, dtype=torch.long)
    keys = shape_keys(0, torch.zeros(count, dtype=torch.long), torch.arange(count))
    return Batch(cloud, nothing, nothing[..., None], torch.zeros(count, dtype=torch.long), keys, live=levels)


def m2ae(**options: Any) -> point_m2ae.Objective:
    """With weights large enough that every part of it shows in the loss."""
    torch.manual_seed(0)
    settings = point_m2ae.Config.model_validate({"mask": {"kind": "random", "ratio": 0.7}} | options)
    net = point_m2ae.Objective(settings, Setup(MODEL, Scheme(points=80, levels=LEVELS)))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return net.eval()


def one_of(patches: Patches, shape: int) -> Patches:
    """A batch of one of its shapes."""
    above = tuple(type(level)(*(array[shape : shape + 1] for array in level)) for level in patches.above)
    return Patches(*(array[shape : shape + 1] for array in patches[:3]), above)


# ---- masks


def test_51_of_64_coarse_patches_are_masked_and_finer_ones_follow_from_them():
    given = batch(8, 2048, FIELD)
    net = point_m2ae.Objective(point_m2ae.Config(), Setup(MODEL, Scheme(points=2048, levels=FIELD)))
    patches = given.patches()
    seen = net.draw_seen(patches, given)
    assert [tuple(level.shape) for level in seen] == [(8, 512), (8, 256), (8, 64)]
    assert (seen[2].sum(1) == 13).all()
    assert len({tuple(row.tolist()) for row in seen[2]}) == 8  # each shape draws its own
    for below, level, above in zip(seen, patches.above, seen[1:], strict=False):
        for shape in range(8):
            parents = level.neighbour[shape][above[shape]].flatten()
            assert set(below[shape].nonzero()[:, 0].tolist()) == set(parents.tolist())
    # measured with the authors' code on real shapes: 57, 35 and 20 %
    assert [level.float().mean().item() for level in seen] == pytest.approx([0.57, 0.35, 0.20], abs=0.06)


def test_token_0_of_the_first_shape_is_visible_only_where_a_parent_is():
    """The authors' code always shows it: masked groups write to index 0."""
    given = batch(1)
    patches = given.patches()
    net, rows = m2ae(), torch.arange(400)
    keys = shape_keys(0, torch.zeros(400, dtype=torch.long), rows)
    many = Patches(*(array.expand(400, *array.shape[1:]) for array in patches[:3]), tuple(
        type(level)(*(array.expand(400, *array.shape[1:]) for array in level)) for level in patches.above))  # fmt: skip
    seen = net.draw_seen(
        many,
        replace(
            given,
            points=many.points,
            centre=given.centre.expand(400, 0),
            neighbour=given.neighbour.expand(400, 0, 1),
            label=rows,
            keys=keys,
        ),
    )
    parents = (patches.above[0].neighbour[0] == 0).any(1)
    assert torch.equal(seen[0][:, 0], (seen[1] & parents).any(1))
    assert not seen[0][:, 0].all()


# ---- the decoder


@torch.no_grad()
def test_propagation_is_that_of_the_three_nearest_centres_written_out():
    torch.manual_seed(0)
    net = Propagation(5, 3, residual=2).eval()
    for norm in (layer for layer in net.modules() if isinstance(layer, nn.BatchNorm1d)):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2.0)
    own, above = torch.randn(2, 7, 3), torch.randn(2, 4, 5)
    at, coarse = torch.randn(2, 7, 3), torch.randn(2, 4, 3)
    got = net(own, at, above, coarse)

    def normed(norm: nn.BatchNorm1d, x: Tensor) -> Tensor:
        return (x - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias

    for shape in range(2):
        for n in range(7):
            apart = [math.dist(at[shape, n].tolist(), centre.tolist()) ** 2 for centre in coarse[shape]]
            near = sorted(range(4), key=apart.__getitem__)[:3]
            weight = torch.tensor([1 / (apart[m] + 1e-8) for m in near])
            mixed = sum(w * above[shape, m] for w, m in zip(weight / weight.sum(), near, strict=True))
            x = F.gelu(normed(net.fuse[1], net.fuse[0].weight @ torch.cat([own[shape, n], mixed])))
            for block in net.residual:
                inner = F.gelu(normed(block[1], block[0].weight @ x))
                x = F.gelu(x + normed(block[4], block[3].weight @ inner))
            assert torch.allclose(got[shape, n], x, atol=1e-5)


# ---- the loss


def nearest(a: Tensor, b: Tensor) -> Tensor:
    """The distance of every point of a to the nearest of b, by brute force."""
    return torch.stack([(b - point).square().sum(-1).min().sqrt() for point in a])


def apart(a: Tensor, b: Tensor, squared: bool) -> Tensor:
    there, back = nearest(a, b), nearest(b, a)
    return there.square().mean() + back.square().mean() if squared else (there.mean() + back.mean()) / 2


def written_out(net: point_m2ae.Objective, patches: Patches, seen: list[Tensor]) -> list[Tensor]:
    """The distance of every masked patch of one shape: visible and masked tokens in one sequence, without padding."""
    made = net.encoder.visible(patches, seen)
    decoder, (_, middle, coarse) = net.decoder, seen
    visible, hidden = (places.nonzero()[:, 1] for places in (coarse, ~coarse))
    centres = patches.above[1].centres
    order = torch.cat([visible, hidden])
    x = torch.cat([made[2].tokens, decoder.mask_token.expand(1, len(hidden), -1)], 1)
    x = decoder.stacks[0][0](x + decoder.positions[0](centres[:, order]))
    own = torch.zeros(1, LEVELS[1].num, 8)
    for token, place in zip(made[1].tokens[0], middle.nonzero()[:, 1], strict=True):
        own[0, place] = token
    at = patches.above[0].centres
    x = decoder.between[0](own, at, x, centres[:, order])
    x = decoder.norm(decoder.stacks[1][0](x + decoder.positions[1](at)))
    found = []
    for n in (~middle).nonzero()[:, 1].tolist():
        rebuilt = net.head(x[0, n]).view(LEVELS[0].size, 3)
        members = [patches.centres[0, m] - at[0, n] for m in patches.above[0].neighbour[0, n].tolist()]
        found.append(apart(rebuilt, torch.stack(members), net.settings.loss == "cdl2"))
    return found


@pytest.mark.parametrize("loss", ["cdl2", "cdl1"])
@pytest.mark.parametrize("mask", [{"kind": "random", "ratio": 0.7}, {"kind": "multiblock", "blocks": 2}])
@torch.no_grad()
def test_the_loss_is_the_mean_over_masked_patches_of_shapes_taken_one_by_one(mask: dict[str, Any], loss: str):
    """So what pads the shorter sequences of a batch changes nothing; 6 points are predicted, 4 are there."""
    net, given = m2ae(mask=mask, loss=loss), batch()
    patches = given.patches()
    seen = net.draw_seen(patches, given)
    assert len({int(level.sum()) for level in seen[0]}) > 1  # there is padding
    distances = [
        distance
        for shape in range(4)
        for distance in written_out(net, one_of(patches, shape), [level[shape : shape + 1] for level in seen])
    ]
    assert net.head.out_features == 3 * 6
    assert net(given).total.item() == pytest.approx(torch.stack(distances).mean().item(), rel=1e-4)


def test_the_loss_of_a_prediction_of_zero_is_known():
    net, given = m2ae(), batch()
    for parameter in net.head.parameters():
        nn.init.zeros_(parameter)
    patches = given.patches()
    norm = point_m2ae.members(patches)[~net.draw_seen(patches, given)[1]].square().sum(-1)
    assert net(given).total.item() == pytest.approx((norm.mean(-1) + norm.amin(-1)).mean().item(), rel=1e-5)


def test_masked_patches_reach_the_loss_as_targets_only():
    """A hidden fine patch may look as it likes. In training BatchNorm sees it, as the authors' does."""
    net, given = m2ae(), batch()
    patches = given.patches()
    before = net(given).total
    hidden = ~net.draw_seen(patches, given)[0]
    changed = patches._replace(groups=torch.where(hidden[..., None, None], 9.0, patches.groups))
    given.patches = lambda: changed  # type: ignore[method-assign]
    assert torch.equal(net(given).total, before)


# ---- training


def test_gradients_go_to_every_parameter_but_the_norm_that_nobody_reads():
    net = m2ae().train()
    net(batch()).total.backward()
    frozen = {name for name, parameter in net.named_parameters() if not parameter.requires_grad}
    assert frozen == {"encoder.norms.0.weight", "encoder.norms.0.bias"}
    for name, parameter in net.named_parameters():
        if name in frozen:
            assert parameter.grad is None, name
        else:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


def test_it_learns_eight_shapes():
    torch.manual_seed(0)
    settings = point_m2ae.Config.model_validate(
        {"decoder": {"drop_path": 0.0}, "mask": {"kind": "random", "ratio": 0.7}}
    )
    net = point_m2ae.Objective(settings, Setup(MODEL, Scheme(points=80, levels=LEVELS))).train()
    given = batch(8)
    patches = given.patches()
    given.patches = lambda: patches  # type: ignore[method-assign]
    first, *_, last = losses(net, given, 10, 1e-2)
    assert last < 0.6 * first


def test_a_batch_in_which_every_patch_above_the_finest_is_visible_has_no_loss():
    """One mask of ten is hidden, and its members are members of others too: nothing is left to rebuild."""
    net, given = m2ae(mask={"kind": "random", "ratio": 0.1}), batch(1)
    patches = given.patches()
    everything = patches._replace(above=(patches.above[0], patches.above[1]._replace(
        neighbour=torch.arange(20).expand(1, 10, -1))))  # fmt: skip
    given.patches = lambda: everything  # type: ignore[method-assign]
    loss = net(given)
    assert loss.total.item() == 0.0
    loss.total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters() if p.requires_grad)


def test_encoders_of_one_level_are_refused():
    assert "several levels" in (point_m2ae.unfit(point_m2ae.Config(), transformer.Config()) or "")
    flat = hierarchical.Config(widths=(6,), blocks=(1,), heads=2)
    assert "several levels" in (point_m2ae.unfit(point_m2ae.Config(), flat) or "")
    assert point_m2ae.unfit(point_m2ae.Config(), MODEL) is None


def test_local_attention_is_of_fine_tuning_only():
    tuned = MODEL.model_copy(update={"tuned_radius": (0.3, 0.6, 1.2)}).tuned(0.1)
    assert MODEL.radius is None
    assert tuned.radius == (0.3, 0.6, 1.2)
