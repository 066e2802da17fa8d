"""The controls of an ablation: a predictor that sees positions only, a frozen random teacher, no EMA."""

from __future__ import annotations

from typing import Any

import torch
from forged import forged
from torch import nn

from jepa3d.encoders import transformer
from jepa3d.objectives import jepa
from jepa3d.params import Tokenizer
from jepa3d.train.batches import Batch
from jepa3d.train.objective import Setup

MODEL = transformer.Config(width=12, depth=2, heads=2, tokenizer=Tokenizer(widths=(6, 8, 8)))
SHAPES, POINTS, PATCHES, SIZE = 4, 60, 20, 6
FROZEN, OFF = {"start": 1.0, "end": 1.0}, {"start": 0.0, "end": 0.0}


def batch(seed: int = 0) -> Batch:
    return forged(SHAPES, POINTS, PATCHES, SIZE, seed)


def objective(**options: Any) -> jepa.Objective:
    torch.manual_seed(0)
    return jepa.Objective(jepa.Config.model_validate({"predictor": {"depth": 2}} | options), Setup(MODEL)).train()


def step(net: jepa.Objective, given: Batch) -> float:
    optimiser = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 0.01)
    loss = net(given).total
    loss.backward()
    optimiser.step()
    net.after_step(0.5)
    return loss.item()


def test_a_predictor_of_positions_depends_on_no_layer_of_the_context_encoder():
    net, given = objective(sees="positions").eval(), batch()
    before = net(given).total
    with torch.no_grad():
        for part in (net.encoder.tokenizer, net.encoder.blocks, net.encoder.norm):
            for parameter in part.parameters():
                parameter.mul_(1.5)
    assert torch.equal(net(given).total, before)


def test_a_predictor_of_positions_still_gives_every_parameter_a_gradient():
    net = objective(sees="positions")
    net(batch()).total.backward()
    for name, parameter in net.encoder.named_parameters():
        assert parameter.grad is not None, name  # several ranks wait for each
        assert bool(parameter.grad.abs().sum() > 0) == name.startswith("position."), name


def test_a_frozen_teacher_keeps_its_random_weights_and_has_statistics_of_its_own():
    net = objective(ema=FROZEN)
    first = {name: value.clone() for name, value in net.target.named_parameters()}
    seen: list[torch.Tensor] = []
    net.target.tokenizer.point_norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    for seed in range(3):
        step(net, batch(seed))
    assert all(torch.equal(value, first[name]) for name, value in net.target.named_parameters())
    norm = net.target.tokenizer.point_norm
    assert torch.allclose(norm.running_mean, torch.stack([rows.mean(0) for rows in seen]).mean(0), atol=1e-6)
    assert not torch.allclose(norm.running_mean, net.encoder.tokenizer.point_norm.running_mean, atol=1e-3)


def test_what_a_frozen_teacher_says_does_not_depend_on_the_student():
    net, given = objective(ema=FROZEN), batch()
    found: list[torch.Tensor] = []
    net.target.norm.register_forward_hook(lambda _, inputs, output: found.append(output))
    step(net, given)
    step(net, given)
    assert torch.equal(found[0], found[1])


def test_without_ema_the_teacher_is_the_student_after_every_step():
    net = objective(ema=OFF)
    for seed in range(2):
        step(net, batch(seed))
        theirs = net.target.state_dict()
        assert all(torch.equal(value, theirs[name]) for name, value in net.encoder.state_dict().items())
        assert not any(parameter.requires_grad for parameter in net.target.parameters())


def test_a_teacher_that_is_not_frozen_learns_no_statistics():
    net = objective()
    assert not any(layer.training for layer in net.target.modules() if isinstance(layer, nn.BatchNorm1d))
