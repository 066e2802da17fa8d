"""The Transformer block: an oracle by loops, padding that changes nothing, and stochastic depth."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from jepa3d.nets.transformer import Attention, Block, initialise


def rows(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_attention_is_softmax_of_scaled_products_over_the_valid_keys():
    torch.manual_seed(0)
    net = Attention(8, 2)
    x, memory, valid = rows(1, 3, 8), rows(1, 5, 8, seed=1), torch.tensor([[True, True, False, True, False]])
    query, (key, value) = net.query(x)[0], net.key_value(memory)[0].chunk(2, -1)
    mixed = []
    for head in (slice(0, 4), slice(4, 8)):
        weight = query[:, head] @ key[[0, 1, 3], head].T / math.sqrt(4)
        mixed.append(weight.softmax(-1) @ value[[0, 1, 3], head])
    assert torch.allclose(net(x, memory, valid)[0], net.out(torch.cat(mixed, -1)), atol=1e-6)


def test_a_block_is_pre_norm_with_residuals():
    torch.manual_seed(0)
    block, x = Block(8, 2, 2.0), rows(2, 4, 8)
    normed = block.norm_self(x)
    y = x + block.attend_self(normed, normed, None)
    assert torch.allclose(block(x), y + block.mlp(block.norm_mlp(y)), atol=1e-6)


@pytest.mark.parametrize("cross", [False, True])
def test_padding_changes_nothing_whatever_it_contains(cross: bool):
    torch.manual_seed(0)
    block = Block(12, 3, 2.0, cross=cross)
    x, memory = rows(2, 5, 12), rows(2, 4, 12, seed=1)
    expected = block(x, None, memory if cross else None)
    for content in (0.0, 1e4, -3.0):
        padded = torch.cat([x, torch.full((2, 3, 12), content)], 1)
        padded_memory = torch.cat([memory, torch.full((2, 2, 12), content)], 1)
        valid = torch.tensor([[True] * 5 + [False] * 3] * 2)
        memory_valid = torch.tensor([[True] * 4 + [False] * 2] * 2)
        got = block(padded, valid, padded_memory if cross else None, memory_valid if cross else None)
        assert torch.allclose(got[:, :5], expected, atol=1e-6)


def test_stochastic_depth_drops_whole_branches_of_a_shape_and_keeps_the_mean():
    torch.manual_seed(0)
    block = Block(6, 1, 2.0, drop_path=0.25)
    branch = torch.ones(20_000, 2, 6)
    dropped = block.train()._drop(branch)
    assert dropped.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert (dropped == dropped[:, :1, :1]).all()
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.02)
    assert torch.equal(block.eval()._drop(branch), branch)


def test_linear_layers_start_small_and_without_bias():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(200, 200), nn.LayerNorm(200))
    initialise(net)
    assert net[0].weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert net[0].bias.abs().max() == 0
    assert (net[1].weight == 1).all()


def test_a_mask_of_pairs_says_it_for_each_query():
    torch.manual_seed(0)
    net, x = Attention(8, 2), rows(2, 5, 8)
    pairs = torch.rand(2, 5, 5, generator=torch.Generator().manual_seed(1)) < 0.5
    pairs |= torch.eye(5, dtype=torch.bool)
    together = net(x, x, pairs)
    for query in range(5):  # each query alone, with the keys that it may attend
        alone = net(x[:, query : query + 1], x, pairs[:, query])
        assert torch.allclose(together[:, query : query + 1], alone, atol=1e-6)
    of_all = torch.tensor([[True, True, False, True, True]] * 2)
    assert torch.allclose(net(x, x, of_all[:, None].expand(-1, 5, -1)), net(x, x, of_all), atol=1e-6)


def test_without_biases_query_key_and_value_are_linear_and_the_output_keeps_its_own():
    assert {name for name, _ in Attention(8, 2, qkv_bias=False).named_parameters()} == {
        "query.weight", "key_value.weight", "out.weight", "out.bias",
    }  # fmt: skip


def dropping(**rates: float) -> Block:
    torch.manual_seed(0)
    return Block(12, 3, 2.0, **rates).train()


@pytest.mark.parametrize("rates", [{"dropout": 0.3}, {"attention_dropout": 0.3}], ids=str)
def test_dropout_is_for_training_only_and_keeps_the_mean(rates: dict[str, float]):
    block, x = dropping(**rates), rows(1, 6, 12)
    plain = Block(12, 3, 2.0)
    plain.load_state_dict(block.state_dict())  # the same names
    assert torch.equal(block.eval()(x), plain(x))
    block.train()
    torch.manual_seed(1)
    many = block(x.expand(4000, -1, -1))
    assert not torch.allclose(many[0], many[1])
    if "attention_dropout" in rates:  # the branch is linear in the attention's weights
        mean = torch.stack([block.attend_self(y, y, None) for y in block.norm_self(x.expand(4000, -1, -1))[None]])
        assert torch.allclose(mean.mean(1), plain.attend_self(plain.norm_self(x), plain.norm_self(x), None), atol=0.02)


@pytest.mark.parametrize("rates", [{"dropout": 0.3}, {"attention_dropout": 0.3}], ids=str)
def test_the_draws_of_a_shape_depend_neither_on_the_ranks_nor_on_the_padding(rates: dict[str, float]):
    block, x = dropping(**rates), rows(4, 6, 12)
    valid = torch.tensor([[True] * 4 + [False] * 2] * 2 + [[True] * 6] * 2)
    torch.manual_seed(7)
    whole = block(x, valid)
    for rank in range(2):
        for layer in block.modules():
            layer.share = (rank, 2)
        torch.manual_seed(7)
        length = (4, 6)[rank]  # a rank pads to its own longest shape
        own = block(x[2 * rank :][:2, :length], valid[2 * rank :][:2, :length])
        assert torch.allclose(own[:, :4], whole[2 * rank :][:2, :4], atol=1e-6)
