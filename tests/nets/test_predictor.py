"""The predictor: what it may look at, and that padding changes nothing."""

from __future__ import annotations

import pytest
import torch

from jepa3d.nets.predictor import Predictor, PredictorConfig


def predictor(kind: str, width: int | None = None) -> Predictor:
    torch.manual_seed(0)
    return Predictor(PredictorConfig(kind=kind, depth=2, width=width, heads=2), 12, 2)


def rows(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def ones(*shape: int) -> torch.Tensor:
    return torch.ones(*shape, dtype=torch.bool)


@pytest.mark.parametrize("kind", ["joint", "cross"])
@pytest.mark.parametrize("width", [None, 8])
def test_padding_of_context_and_targets_changes_no_prediction(kind: str, width: int | None):
    net = predictor(kind, width)
    context, at, asked = rows(2, 5, 12), rows(2, 5, 12, seed=1), rows(2, 3, 12, seed=2)
    expected = net(context, at, ones(2, 5), asked, ones(2, 3))
    assert expected.shape == (2, 3, 12)
    for content in (0.0, 100.0):
        rest = torch.full((2, 4, 12), content)
        padded = net(
            torch.cat([context, rest], 1),
            torch.cat([at, rest], 1),
            torch.cat([ones(2, 5), ~ones(2, 4)], 1),
            torch.cat([asked, rest], 1),
            torch.cat([ones(2, 3), ~ones(2, 4)], 1),
        )
        assert torch.allclose(padded[:, :3], expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["joint", "cross"])
def test_the_order_of_the_context_does_not_matter_and_targets_follow_their_positions(kind: str):
    net = predictor(kind)
    context, at, asked = rows(1, 5, 12), rows(1, 5, 12, seed=1), rows(1, 4, 12, seed=2)
    expected = net(context, at, ones(1, 5), asked, ones(1, 4))
    order, targets = torch.randperm(5), torch.randperm(4)
    got = net(context[:, order], at[:, order], ones(1, 5), asked[:, targets], ones(1, 4))
    assert torch.allclose(got, expected[:, targets], atol=1e-5)


@pytest.mark.parametrize("kind", ["joint", "cross"])
def test_predictions_depend_on_the_context_its_positions_and_the_target_position(kind: str):
    net = predictor(kind)
    inputs = [rows(1, 5, 12, seed=s).requires_grad_() for s in (0, 1)] + [rows(1, 2, 12, seed=2).requires_grad_()]
    out = net(inputs[0], inputs[1], ones(1, 5), inputs[2], ones(1, 2))
    out.square().sum().backward()
    assert all(value.grad.abs().max() > 0 for value in inputs)
    assert net.mask_token.grad.abs().max() > 0


def test_all_mask_tokens_are_one_learnable_token():
    net = predictor("joint")
    assert net.mask_token.shape == (12,)
    assert 0 < net.mask_token.detach().std() < 0.05
    same = rows(1, 1, 12).expand(1, 3, 12)  # three targets at one position
    out = net(rows(1, 5, 12), rows(1, 5, 12, seed=1), ones(1, 5), same, ones(1, 3))
    assert torch.allclose(out[:, 0], out[:, 2], atol=1e-6)


def test_cross_attention_reads_the_context_anew_in_every_layer():
    assert all(block.cross for block in predictor("cross").blocks)
    assert not any(block.cross for block in predictor("joint").blocks)


def test_a_width_of_its_own_is_projected_to_and_from():
    assert predictor("joint", 8)(rows(1, 2, 12), rows(1, 2, 12), ones(1, 2), rows(1, 3, 12), ones(1, 3)).shape == (
        1,
        3,
        12,
    )
    assert {p.shape[0] for n, p in predictor("joint", 8).named_parameters() if n.startswith("into")} == {8}
