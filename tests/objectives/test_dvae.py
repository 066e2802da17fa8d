"""The dVAE of Point-BERT: its layers against plain convolutions, its loss by hand, its schedules, its draws."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from forged import forged
from torch import Tensor, nn
from torch.nn import functional as F

from jepa3d.encoders import transformer
from jepa3d.nets.folding import Folding
from jepa3d.nets.graph import Dgcnn, EdgeConvolution, neighbours
from jepa3d.objectives import dvae
from jepa3d.objectives._shared import codes
from jepa3d.params import Level, Scheme, Tokenizer
from jepa3d.train.batches import Batch
from jepa3d.train.objective import Setup

MODEL = transformer.Config(width=12, depth=1, heads=2, tokenizer=Tokenizer(widths=(6, 8, 8), bridge=8))
SHAPES, POINTS, PATCHES, SIZE, CODES = 4, 60, 20, 8, 16
SCHEME = Scheme(points=POINTS, levels=(Level(num=PATCHES, size=SIZE),))
STEPS = 197_155  # of the authors: 301 epochs of 655 batches


def batch(count: int = SHAPES) -> Batch:
    return forged(count, POINTS, PATCHES, SIZE)


def objective(**options: Any) -> dvae.Objective:
    torch.manual_seed(0)
    return dvae.Objective(dvae.Config.model_validate({"codes": CODES} | options), Setup(MODEL, SCHEME))


# ---- the layers


def test_the_graph_has_the_four_nearest_patches_itself_first():
    line = torch.tensor([[[0.0, 0, 0], [1.0, 0, 0], [3.0, 0, 0], [6.0, 0, 0], [10.0, 0, 0]]])
    assert neighbours(line)[0].tolist() == [[0, 1, 2, 3], [1, 0, 2, 3], [2, 1, 0, 3], [3, 2, 4, 1], [4, 3, 2, 1]]


def plain_edges(layer: EdgeConvolution, x: Tensor, near: Tensor) -> Tensor:
    """As one writes it first: every edge's [neighbour - own, own], a 1 x 1 convolution, GroupNorm, LeakyReLU, max."""
    edges = torch.stack(
        [
            torch.stack([torch.cat([cloud[n] - cloud[i], cloud[i]]) for i, row in enumerate(rows) for n in row])
            for cloud, rows in zip(x, near, strict=True)
        ]
    )
    square = edges.unflatten(1, near.shape[1:]).permute(0, 3, 1, 2)  # [B, 2C, N, k]
    out = F.conv2d(square, layer.edge.weight[:, :, None, None])
    out = F.leaky_relu(F.group_norm(out, 4, layer.norm.weight, layer.norm.bias), 0.2)
    return out.amax(3).transpose(1, 2)


def test_an_edge_convolution_is_the_plain_one():
    torch.manual_seed(0)
    layer, x, near = EdgeConvolution(6, 8), torch.randn(2, 9, 6), neighbours(torch.randn(2, 9, 3))
    nn.init.normal_(layer.norm.weight)
    assert torch.allclose(layer(x, near), plain_edges(layer, x, near), atol=1e-5)


def test_the_widths_are_the_authors_at_their_width():
    net, fold = Dgcnn(256, 64), Folding(256, 32)
    edges = [(edge.edge.in_features, edge.edge.out_features) for edge in net.edges]
    assert net.into.out_features == 128
    assert edges == [(256, 256), (512, 512), (1024, 512), (1024, 1024)]
    assert (net.out.in_features, net.out.out_features, net.out.bias) == (2304, 64, None)
    assert [layer.out_features for layer in fold.coarse if isinstance(layer, nn.Linear)] == [1024, 1024, 24]
    assert [fold.first.in_features, fold.first.out_features, fold.second.out_features] == [261, 512, 512]


def test_the_layers_of_the_graph_network_follow_each_other_and_the_last_sees_all():
    torch.manual_seed(0)
    net, tokens, near = Dgcnn(8, 12), torch.randn(2, 9, 8), neighbours(torch.randn(2, 9, 3))
    x, found = F.linear(tokens, net.into.weight, net.into.bias), []
    for layer in net.edges:
        x = plain_edges(layer, x, near)
        found.append(x)
    x = F.conv1d(torch.cat(found, -1).transpose(1, 2), net.out.weight[:, :, None])
    wanted = F.leaky_relu(F.group_norm(x, 4, net.norm.weight, net.norm.bias), 0.2).transpose(1, 2)
    assert torch.allclose(net(tokens, near), wanted, atol=1e-5)


def test_folding_is_the_plain_one_four_fine_points_about_each_coarse_one():
    torch.manual_seed(0)
    net, features = Folding(8, 8).eval(), torch.randn(5, 8)
    coarse, fine = net(features)
    assert (coarse.shape, fine.shape) == ((5, 2, 3), (5, 8, 3))
    grid = [(-0.05, -0.05), (0.05, -0.05), (-0.05, 0.05), (0.05, 0.05)]
    for patch in range(5):
        for number in range(8):
            about, seed = coarse[patch, number // 4], torch.tensor(grid[number % 4])
            x = net.first(torch.cat([features[patch], seed, about]))[None]
            x = F.relu(net.second_norm(net.second(F.relu(net.first_norm(x)))))
            assert torch.allclose(fine[patch, number], about + net.move(x)[0], atol=1e-5)


def test_a_patch_whose_points_are_no_multiple_of_four_gets_one_coarse_point_more():
    coarse, fine = Folding(8, 6)(torch.randn(5, 8))
    assert (coarse.shape[1], fine.shape[1]) == (2, 8)


# ---- the loss


def test_the_divergence_is_of_the_even_use_from_the_codes_use():
    """A use of (3/4, 1/4): KL(U || q) = 1/2 log(1/2 / 3/4) + 1/2 log(1/2 / 1/4) = .1438; KL(q || U) would be .1308."""
    q = torch.tensor([[0.75, 0.25]])
    by_hand = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert by_hand == pytest.approx(0.1438, abs=1e-4)
    assert dvae.kl_from_even(q.log()).item() == pytest.approx(by_hand)
    assert dvae.kl_from_even(torch.full((1, 7), 1 / 7).log()).item() == pytest.approx(0.0, abs=1e-6)


def test_the_use_is_a_mean_over_a_shapes_patches_so_that_hard_codes_used_evenly_cost_nothing():
    hard = 50.0 * torch.eye(6)[None]  # six patches, each surely another one of six codes
    assert dvae.kl_from_even(dvae.usage(hard)).item() == pytest.approx(0.0, abs=1e-5)
    assert dvae.perplexity(dvae.usage(hard)).item() == pytest.approx(6.0, rel=1e-4)
    same = 50.0 * torch.eye(6)[:1].expand(1, 6, 6)
    assert dvae.kl_from_even(dvae.usage(same)).item() > 10
    assert dvae.perplexity(dvae.usage(same)).item() == pytest.approx(1.0, rel=1e-4)


def test_the_loss_is_cdl1_of_coarse_and_fine_points_and_the_weighted_divergence():
    net, given = objective().eval(), batch()
    patches = given.patches()
    near = neighbours(patches.centres)
    logits = net.codes(patches.groups, near)
    noise = -torch.log(-torch.log(given.uniform("gumbel", PATCHES, CODES).clamp_min(1e-8)))
    soft = ((logits + noise) / net.settings.temperature.at(0.4)).softmax(-1)
    assert torch.allclose(soft.sum(-1), torch.ones(SHAPES, PATCHES), atol=1e-5)
    rebuilt = net.folding(net.graph(torch.einsum("bnc,cd->bnd", soft, net.codebook), near).flatten(0, 1))
    total = torch.tensor(0.0)
    for points in rebuilt:
        for ours, true in zip(points, patches.groups.flatten(0, 1), strict=True):
            apart = (ours[:, None] - true[None]).norm(dim=-1)
            total = total + (apart.amin(0).mean() + apart.amin(1).mean()) / 2 / (SHAPES * PATCHES)
    use = logits.softmax(-1).mean(1)
    even = torch.full_like(use, 1 / CODES)
    divergence = (even * (even.log() - use.log())).sum(1).mean()
    wanted = total + net.settings.kl.at(0.4) * divergence
    assert net(given, 0.4).total.item() == pytest.approx(wanted.item(), rel=1e-4)


# ---- the schedules


@pytest.mark.parametrize(
    ("step", "temperature", "weight"),
    [
        (0, 1.0, 0.0),
        (10_000, 0.0625 + 0.9375 * (1 + math.cos(math.pi / 10)) / 2, 0.0),
        (60_000, 0.0625 + 0.9375 * (1 + math.cos(0.6 * math.pi)) / 2, 0.05),
        (100_000, 0.0625, 0.1 * (1 - math.cos(0.9 * math.pi)) / 2),
        (200_000, 0.0625, 0.1),
    ],
)
def test_temperature_and_weight_are_the_authors_in_shares_of_their_steps(step: int, temperature: float, weight: float):
    settings = dvae.Config()
    assert settings.temperature.at(step / STEPS) == pytest.approx(temperature, abs=2e-3)
    assert settings.kl.at(step / STEPS) == pytest.approx(weight, abs=2e-4)


def test_a_schedule_that_ends_before_it_begins_is_refused():
    with pytest.raises(ValueError, match="since comes before until"):
        dvae.Config.model_validate({"kl": {"since": 0.6}})


# ---- the draws, the gradients, the training


def test_the_noise_is_gumbels_and_a_shapes_own():
    given = batch(1000)
    noise = dvae.gumbel(given.uniform("gumbel", 50))
    assert noise.isfinite().all()
    assert noise.mean().item() == pytest.approx(0.5772, abs=0.02)  # Euler's constant
    assert noise.var().item() == pytest.approx(math.pi**2 / 6, abs=0.05)
    assert dvae.gumbel(torch.tensor([0.0, 1 - 2.0**-24])).isfinite().all()


def test_a_colder_code_is_harder():
    net, given = objective().eval(), batch()
    seen: list[Tensor] = []
    net.graph.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    for progress in (0.0, 0.99):
        net(given, progress)
    nearest = [torch.cdist(codes.flatten(0, 1), net.codebook).amin(1).mean() for codes in seen]
    assert nearest[1] < 0.2 * nearest[0]


def test_gradients_go_to_every_parameter():
    net = objective().train()
    net(batch(), 0.9).total.backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        if not name.endswith(("first.bias", "second.bias", "lift.bias")):  # no effect, before a BatchNorm
            assert parameter.grad.abs().sum() > 1e-6, name


@pytest.mark.slow
def test_it_learns_eight_shapes():
    net, given = objective().train(), batch(8)
    optimiser = torch.optim.AdamW(net.parameters(), 6e-3)
    losses = []
    for step in range(40):
        optimiser.zero_grad()
        loss = net(given, step / 40)
        loss.total.backward()
        optimiser.step()
        losses.append(float(loss.monitors["coarse"] + loss.monitors["fine"]))
    assert losses[-1] < 0.75 * losses[0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"width": 10, "tokenizer": Tokenizer()}, "10 wide, which is no multiple of 4"), ({"width": 12}, None)],
)
def test_a_model_whose_mini_pointnet_has_no_four_groups_is_refused(changes: dict[str, Any], words: str | None):
    why = codes.unfit(transformer.Config(**({"depth": 1, "heads": 2} | changes)))
    assert why is None if words is None else words in str(why)
