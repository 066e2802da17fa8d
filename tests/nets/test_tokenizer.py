"""The mini-PointNet and the positional encodings."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from jepa3d.nets.tokenizer import Single, Sinusoidal, TwoStage, position, tokenizer
from jepa3d.params import Tokenizer


def groups(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, 3, generator=torch.Generator().manual_seed(0))


def pair(mode: bool) -> tuple[TwoStage, TwoStage]:
    torch.manual_seed(0)
    split, plain = TwoStage(20, (8, 12, 16), True), TwoStage(20, (8, 12, 16), False)
    plain.load_state_dict(split.state_dict())
    return split.train(mode), plain.train(mode)


@pytest.mark.parametrize("training", [True, False])
def test_the_split_layer_is_the_same_function_with_the_same_gradients(training: bool):
    split, plain = pair(training)
    one, other = split(groups(3, 5, 7)), plain(groups(3, 5, 7))
    assert torch.allclose(one, other, atol=1e-5)
    one.square().sum().backward()
    other.square().sum().backward()
    for a, b in zip(split.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, rtol=1e-3, atol=1e-4)
    for a, b in zip(split.buffers(), plain.buffers(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_two_stage_is_point_mlp_max_concat_point_mlp_max():
    net = TwoStage(4, (2, 3, 5), True).eval()
    patch = groups(1, 1, 6)
    p = {name: value.detach().double().numpy() for name, value in net.state_dict().items()}
    x = patch[0, 0].double().numpy() @ p["point.weight"].T / np.sqrt(1 + 1e-5)
    x = np.maximum(x, 0) @ p["lift.weight"].T + p["lift.bias"]
    x = np.concatenate([np.tile(x.max(0), (6, 1)), x], 1) @ p["join.weight"].T / np.sqrt(1 + 1e-5)
    x = np.maximum(x, 0) @ p["out.weight"].T + p["out.bias"]
    assert net(patch)[0, 0].tolist() == pytest.approx(x.max(0).tolist(), abs=1e-5)


def test_single_is_max_over_an_mlp_of_every_point():
    net = Single(4, (5, 6)).eval()
    patches = groups(2, 3, 7)
    by_point = torch.stack([net.mlp(patches[:, :, k].reshape(-1, 3)).view(2, 3, 4) for k in range(7)])
    assert torch.allclose(net(patches), by_point.amax(0), atol=1e-6)


@pytest.mark.parametrize("entry", [Tokenizer(widths=(8, 8, 8)), Tokenizer(kind="single", widths=(8, 16))])
def test_the_order_of_a_patchs_points_does_not_matter_and_each_patch_stands_alone(entry: Tokenizer):
    net = tokenizer(entry, 12).eval()
    patches = groups(2, 4, 9)
    tokens = net(patches)
    assert tokens.shape == (2, 4, 12)
    assert torch.allclose(net(patches[:, :, torch.randperm(9)]), tokens, atol=1e-6)
    assert torch.allclose(net(patches[1:, 2:3]), tokens[1:, 2:3], atol=1e-6)
    assert torch.allclose(net(patches.flatten(0, 1)), tokens.flatten(0, 1), atol=1e-6)  # any leading dimensions


@pytest.mark.parametrize("kind", ["mlp", "linear", "sinusoidal"])
@pytest.mark.parametrize("width", [12, 20])
def test_every_position_embedding_tells_positions_apart(kind: str, width: int):
    net = position(kind, width)
    embedded = net(groups(2, 5))
    assert embedded.shape == (2, 5, width)
    assert torch.unique(embedded.flatten(0, 1), dim=0).shape[0] == 10


def test_sines_and_cosines_have_the_promised_frequencies():
    net = Sinusoidal(14)  # two frequencies for each of x, y, z; two zeros at the end
    x = 0.3
    encoded = net(torch.tensor([x, 0.0, 0.0])).tolist()
    low, high = math.pi / 2, 16 * math.pi
    assert encoded == pytest.approx(
        [math.sin(low * x), math.sin(high * x), 0, 0, 0, 0, math.cos(low * x), math.cos(high * x), 1, 1, 1, 1, 0, 0],
        abs=1e-5,
    )
    assert not list(net.parameters())


@pytest.mark.parametrize("entry", [Tokenizer(widths=(8, 8, 8)), Tokenizer(kind="single", widths=(8, 16))])
def test_a_bridge_is_one_linear_layer_after_the_last_max(entry: Tokenizer):
    torch.manual_seed(0)
    bridged = tokenizer(entry.model_copy(update={"bridge": 5}), 12).eval()
    narrow = tokenizer(entry, 5).eval()
    narrow.load_state_dict({name: value for name, value in bridged.state_dict().items() if "bridge" not in name})
    patches = groups(2, 3, 7)
    assert torch.allclose(bridged(patches), narrow(patches) @ bridged.bridge.weight.T + bridged.bridge.bias, atol=1e-6)
    assert bridged(patches).shape == (2, 3, 12)


def test_the_family_starts_the_tokenizer_like_its_transformer():
    torch.manual_seed(0)
    entry = Tokenizer(bridge=64)
    own, family = tokenizer(entry, 384), tokenizer(entry.model_copy(update={"init": "trunc_normal"}), 384)
    for layer in (family.lift, family.join, family.out, family.bridge):
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.1)
        assert layer.bias is None or layer.bias.abs().max() == 0
    assert own.lift.weight.std().item() > 0.03
    assert own.lift.bias.abs().max() > 0


def test_tokens_are_merged_as_points_are():
    """The same mini-PointNet with as many inputs as a token has numbers."""
    torch.manual_seed(0)
    net = TwoStage(6, (4, 4, 6), split=True, inputs=4).eval()
    whole = TwoStage(6, (4, 4, 6), split=False, inputs=4).eval()
    whole.load_state_dict(net.state_dict())
    tokens = torch.randn(2, 3, 5, 4)
    assert net(tokens).shape == (2, 3, 6)
    assert torch.allclose(net(tokens), whole(tokens), atol=1e-6)
