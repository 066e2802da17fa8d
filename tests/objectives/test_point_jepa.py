"""The switches of `jepa` that make it Point-JEPA: the chain, its runs, what the teacher gives, the predictor's own
positions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from forged import forged, losses
from torch.nn import functional as F

from jepa3d.encoders import transformer
from jepa3d.objectives import jepa
from jepa3d.objectives._shared.masks import MaskConfig
from jepa3d.ops.masking import chain, chain_mask
from jepa3d.params import Level, Scheme, Tokenizer
from jepa3d.train.batches import Batch
from jepa3d.train.objective import Setup

MODEL = transformer.Config(width=12, depth=2, heads=2, position_at="every_block", tokenizer=Tokenizer(widths=(6, 8, 8)))
SHAPES, POINTS, PATCHES, SIZE = 5, 80, 40, 6
SCHEME = Scheme(points=POINTS, levels=(Level(num=PATCHES, size=SIZE),))
POINT_JEPA: dict[str, Any] = {
    "mask": {"kind": "chain", "block_scale": [0.15, 0.2], "context_scale": [0.4, 0.75]},
    "predictor": {"width": 8, "depth": 2, "heads": 2, "position": "own", "mask_token": "zeros"},
    "predict": "per_block",
    "loss": "smooth_l1",
    "beta": 2.0,
    "average": "mean",
    "target_sees": "all",
    "target_from": "last_block",
    "target_tokenizer": "shared",
    "target_position": "shared",
    "ema": {"start": 0.9995, "end": 0.99999, "shape": "linear"},
}


def batch(count: int = SHAPES) -> Batch:
    return forged(count, POINTS, PATCHES, SIZE)


def objective(**options: Any) -> jepa.Objective:
    torch.manual_seed(0)
    made = jepa.Objective(jepa.Config.model_validate(POINT_JEPA | options), Setup(MODEL, SCHEME))
    with torch.no_grad():
        for parameter in made.encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def test_the_chain_begins_at_the_least_sum_and_goes_to_the_nearest_that_is_left():
    line = torch.tensor([[[3.0, 0, 0], [0.0, 0, 0], [1.0, 0, 0], [10.0, 0, 0], [-2.0, 5, 0]]])
    assert chain(line).tolist() == [[1, 2, 0, 3, 4]]  # 0, 1, 3, then 10 at 49 is nearer than (-2, 5) at 50


def test_the_chain_is_a_greedy_permutation():
    centres = torch.randn(6, 30, 3, generator=torch.Generator().manual_seed(1))
    for own, order in zip(centres, chain(centres), strict=True):
        assert sorted(order.tolist()) == list(range(30))
        assert order[0] == own.sum(-1).argmin()
        for place in range(1, 30):
            left = order[place:]
            assert left[torch.cdist(own[order[place - 1]][None], own[left])[0].argmin()] == order[place]


def test_blocks_and_context_are_runs_and_context_is_no_target():
    centres = torch.randn(200, PATCHES, 3, generator=torch.Generator().manual_seed(2))
    order = chain(centres)
    draws = torch.rand(200, 7, generator=torch.Generator().manual_seed(3))
    mask = chain_mask(order, draws, 4, (0.15, 0.2), (0.4, 0.75))
    sizes = set()
    for own, blocks, target, context in zip(order, mask.block, mask.target, mask.context, strict=True):
        assert torch.equal(blocks.any(0), target)
        for block in blocks:
            places = block[own].nonzero()[:, 0]
            assert places[-1] - places[0] + 1 == len(places)
            sizes.add(len(places))
        assert not (target & context).any()
        left = own[~target[own]]
        places = context[left].nonzero()[:, 0]
        assert places[-1] - places[0] + 1 == len(places)
        assert 0.4 * len(left) - 1 <= len(places) <= 0.75 * len(left)
    assert sizes == {6, 7}  # of 40: floor(40 u), u in [.15, .2); 8 has probability 0
    assert mask.context.float().mean() > 0.15


def test_targets_are_the_last_blocks_output_before_the_norm_with_a_plain_layer_norm():
    net, given = objective().eval(), batch()
    assert net.target is not None
    patches = given.patches()
    tokens, positions = net.encoder.tokenizer(patches.groups), net.encoder.position(patches.centres)
    x = tokens + positions
    for depth, block in enumerate(net.target.blocks):
        x = block(x + positions if depth else x)
    wanted = F.layer_norm(x, x.shape[-1:])
    everything = torch.arange(PATCHES).expand(SHAPES, -1)
    valid = torch.ones(SHAPES, PATCHES, dtype=torch.bool)
    found = net._targets(net.target, patches, tokens, everything, valid)
    assert torch.allclose(found, wanted, atol=1e-5)


def test_the_tokenizer_gets_no_gradient_through_the_targets():
    net = objective(predict="joint").train()
    for parameter in net.predictor.parameters():
        torch.nn.init.zeros_(parameter)
    net(batch()).total.backward()  # the prediction is constant: what is left could only come from the targets
    assert all(p.grad is None or p.grad.abs().max() == 0 for p in net.encoder.parameters())


def test_the_predictor_has_positions_of_its_own_and_reads_none_of_the_encoders():
    net, given = objective().eval(), batch()
    centres = given.patches().centres
    assert torch.equal(net.predictor.places(centres, net.encoder.position(centres)), centres)
    before = net.predictor.state_dict()
    assert before["into_position.0.weight"].shape == (128, 3)
    assert before["mask_token"].abs().max() == 0


def test_the_momentum_is_a_line():
    settings = jepa.Config.model_validate(POINT_JEPA)
    assert settings.ema.at(0.5) == pytest.approx((0.9995 + 0.99999) / 2)


def test_the_loss_falls_on_eight_shapes():
    net, given = objective(predictor={"depth": 1}).train(), batch(8)
    first, *_, last = losses(net, given, 60, 3e-3)
    assert last < 0.7 * first


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"kind": "chain"}, "a chain needs block_scale"),
        ({"kind": "chain", "block_scale": (0.1, 0.2), "ratio": 0.5}, "a chain has blocks, block_scale"),
        ({"kind": "chain", "block_scale": (0.1, 0.2), "seeds": "fps"}, "a chain has blocks, block_scale"),
    ],
)
def test_settings_that_a_chain_does_not_have_are_refused(entry: dict[str, Any], words: str):
    with pytest.raises(ValueError, match=words):
        MaskConfig(**entry)
