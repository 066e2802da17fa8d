"""Point-MAE: which patches are masked, the loss by hand and by brute force, where gradients go; and jepa's twin."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from forged import forged, losses
from torch import Tensor

from jepa3d.encoders import transformer
from jepa3d.objectives import jepa, point_mae
from jepa3d.objectives._shared import masks
from jepa3d.objectives._shared.masks import MaskConfig
from jepa3d.ops.geometry import chamfer, gather
from jepa3d.ops.masking import pack
from jepa3d.params import Level, Scheme, Tokenizer
from jepa3d.train.batches import Batch
from jepa3d.train.objective import Setup

MODEL = transformer.Config(width=12, depth=2, heads=2, position_at="every_block", tokenizer=Tokenizer(widths=(6, 8, 8)))
SHAPES, POINTS, PATCHES, SIZE = 4, 60, 20, 6
SCHEME = Scheme(points=POINTS, levels=(Level(num=PATCHES, size=SIZE),))


def batch(count: int = SHAPES, patches: int = PATCHES) -> Batch:
    return forged(count, POINTS, patches, SIZE)


def mae(**options: Any) -> point_mae.Objective:
    torch.manual_seed(0)
    return point_mae.Objective(point_mae.Config.model_validate(options), Setup(MODEL, SCHEME)).eval()


def nearest(a: Tensor, b: Tensor) -> Tensor:
    """The distance of every point of a to the nearest of b, by brute force."""
    return torch.stack([(b - point).square().sum(-1).min().sqrt() for point in a])


def brute_force(a: Tensor, b: Tensor, squared: bool) -> Tensor:
    there, back = nearest(a, b), nearest(b, a)
    return there.square().mean() + back.square().mean() if squared else (there.mean() + back.mean()) / 2


# ---- masks


@pytest.mark.parametrize(("patches", "ratio", "masked"), [(64, 0.6, 38), (32, 0.6, 19), (20, 0.25, 5)])
@pytest.mark.parametrize("kind", ["random", "block"])
def test_exactly_the_floor_of_the_ratio_is_masked_in_every_shape(kind: Any, patches: int, ratio: float, masked: int):
    given = batch(50, min(patches, POINTS)) if patches <= POINTS else None
    centres = torch.randn(50, patches, 3) if given is None else given.patches().centres
    given = given or batch(50)
    mask = masks.draw(MaskConfig(kind=kind, ratio=ratio), centres, given)
    assert (mask.target.sum(1) == masked).all()
    assert torch.equal(mask.context, ~mask.target)
    assert len({tuple(row.tolist()) for row in mask.target}) > 25  # each shape draws its own


def test_every_patch_is_masked_equally_often_at_random():
    given = batch(2000)
    mask = masks.draw(MaskConfig(kind="random", ratio=0.5), given.patches().centres, given)
    often = mask.target.float().mean(0)
    assert often.min() > 0.44
    assert often.max() < 0.56


def test_a_block_is_the_nearest_patches_of_one():
    given = batch(30)
    centres = given.patches().centres
    mask = masks.draw(MaskConfig(kind="block", ratio=0.3), centres, given)
    for own, target in zip(centres, mask.target, strict=True):
        apart = torch.cdist(own, own)
        blocks = [set(row.argsort()[:6].tolist()) for row in apart]
        assert set(target.nonzero()[:, 0].tolist()) in blocks


def test_settings_of_algorithm_2_are_refused_with_another_kind_of_mask():
    with pytest.raises(ValueError, match="blocks belongs to kind: multiblock"):
        MaskConfig(kind="random", blocks=2)


@pytest.mark.parametrize("kind", ["random", "block", "multiblock"])
def test_an_entry_with_all_its_defaults_written_out_is_the_same_entry(kind: Any):
    entry = point_mae.Config(mask=MaskConfig(kind=kind))
    assert point_mae.Config.model_validate(entry.model_dump()) == entry
    coordinates = jepa.Config(target="coordinates")
    assert jepa.Config.model_validate(coordinates.model_dump()) == coordinates


# ---- the loss


def test_the_two_chamfer_distances_by_hand():
    a = torch.tensor([[[0.0, 0, 0], [1.0, 0, 0]]])
    b = torch.tensor([[[0.0, 0, 0], [3.0, 0, 0]]])
    # a to b: 0 and 1; b to a: 0 and 2
    assert chamfer(a, b).item() == pytest.approx((0 + 1) / 2 + (0 + 4) / 2)
    assert chamfer(a, b, squared=False).item() == pytest.approx(((0 + 1) / 2 + (0 + 2) / 2) / 2)


@pytest.mark.parametrize("loss", ["cdl2", "cdl1"])
@pytest.mark.parametrize("mask", [{"kind": "random"}, {"kind": "multiblock"}])
def test_the_loss_is_the_mean_over_masked_patches_by_brute_force(mask: dict[str, Any], loss: str):
    net, given = mae(mask=mask, loss=loss), batch()
    patches = given.patches()
    chosen = masks.draw(net.settings.mask, patches.centres, given)
    tokens, at = net.encoder.tokenizer(patches.groups), net.encoder.position(patches.centres)
    apart = []
    for b in range(SHAPES):  # one shape at a time, so without padding
        seen, hidden = chosen.context[b].nonzero()[:, 0], chosen.target[b].nonzero()[:, 0]
        visible = net.encoder.trunk(tokens[b : b + 1, seen], at[b : b + 1, seen])
        centres = patches.centres[b : b + 1]
        rebuilt = net.head(net.decoder(visible, centres[:, seen], centres[:, hidden]))[0].unflatten(-1, (SIZE, 3))
        apart += [brute_force(x, patches.groups[b, n], loss == "cdl2") for x, n in zip(rebuilt, hidden, strict=True)]
    assert net(given).total.item() == pytest.approx(torch.stack(apart).mean().item(), rel=1e-4)


def test_the_loss_of_a_prediction_of_zero_is_known():
    net, given = mae(), batch()
    for parameter in net.head.parameters():
        torch.nn.init.zeros_(parameter)
    patches = given.patches()
    hidden, _ = pack(masks.draw(net.settings.mask, patches.centres, given).target)
    norm = gather(patches.groups, hidden).square().sum(-1)
    assert net(given).total.item() == pytest.approx((norm.mean(-1) + norm.amin(-1)).mean().item(), rel=1e-5)


def test_masked_patches_reach_the_decoder_by_their_position_only():
    """But for BatchNorm, which in training sees all patches, as the authors' does."""
    net, given = mae(), batch()
    hidden = masks.draw(net.settings.mask, given.patches().centres, given).target
    before = net.encoder.tokenizer(given.patches().groups)
    seen = {}
    net.decoder.register_forward_hook(lambda module, inputs, output: seen.setdefault(len(seen), output))
    net(given)
    changed = given.patches()._replace(groups=torch.where(hidden[..., None, None], 9.0, given.patches().groups))
    given.patches = lambda: changed  # type: ignore[method-assign]
    net(given)
    assert before.isfinite().all()
    assert torch.equal(seen[0], seen[1])


def test_gradients_go_to_every_parameter_and_nowhere_else():
    net = mae().train()
    net(batch()).total.backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0 or name.endswith("key_value.bias"), name


def test_without_the_visible_tokens_nothing_of_the_encoder_is_used():
    net, given = mae(sees="positions"), batch()
    before = net(given).total
    with torch.no_grad():
        for parameter in net.encoder.parameters():
            parameter.mul_(1.5)
    assert torch.equal(net(given).total, before)


def test_it_learns_eight_shapes():
    net, given = mae(decoder={"depth": 1, "drop_path": 0.0}).train(), batch(8)
    first, *_, last = losses(net, given, 60, 3e-3)
    assert last < 0.8 * first


# ---- the twin of the document's run that predicts coordinates


def twin(**options: Any) -> jepa.Objective:
    torch.manual_seed(0)
    settings = jepa.Config.model_validate({"target": "coordinates", "predictor": {"depth": 2}} | options)
    return jepa.Objective(settings, Setup(MODEL, SCHEME)).eval()


def test_the_twin_starts_from_the_weights_of_the_run_itself_and_has_no_ema_encoder():
    net = twin()
    torch.manual_seed(0)
    own = jepa.Objective(jepa.Config.model_validate({"predictor": {"depth": 2}}), Setup(MODEL, SCHEME))
    ours, theirs = net.encoder.state_dict(), own.encoder.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert set(net.encoders()) == {"context"}


def test_the_twins_loss_is_the_mean_over_a_shapes_targets_then_over_shapes():
    net, given = twin(), batch()
    patches, mask = given.patches(), net.draw_mask(given.patches().centres, given)
    tokens, at = net.encoder.tokenizer(patches.groups), net.encoder.position(patches.centres)
    of_shapes = []
    for b in range(SHAPES):
        seen, hidden = mask.context[b].nonzero()[:, 0], mask.target[b].nonzero()[:, 0]
        context = net.encoder.trunk(tokens[b : b + 1, seen], at[b : b + 1, seen])
        valid = [torch.ones(1, len(rows), dtype=torch.bool) for rows in (seen, hidden)]
        guess = net.predictor(context, at[b : b + 1, seen], valid[0], at[b : b + 1, hidden], valid[1])[0]
        pairs = zip(guess.unflatten(-1, (SIZE, 3)), patches.groups[b, hidden], strict=True)
        of_shapes.append(torch.stack([brute_force(x, y, True) for x, y in pairs]).mean())
    assert net(given).total.item() == pytest.approx(torch.stack(of_shapes).mean().item(), rel=1e-4)


def test_settings_of_representations_are_refused_for_coordinates():
    with pytest.raises(ValueError, match="ema, target_norm belongs to target: representations"):
        jepa.Config.model_validate({"target": "coordinates", "target_norm": "none", "ema": {"start": 0.9}})
