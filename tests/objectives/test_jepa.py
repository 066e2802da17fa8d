"""The loss against an oracle that takes one shape at a time, without padding; gradients; the EMA."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from forged import forged
from torch import Tensor, nn

from jepa3d.encoders import transformer
from jepa3d.objectives.jepa import Config, Objective, mean_over_targets, spread, squared
from jepa3d.ops.schedule import cosine
from jepa3d.params import Tokenizer
from jepa3d.train.batches import Batch
from jepa3d.train.objective import Setup

MODEL = transformer.Config(width=12, depth=2, heads=2, tokenizer=Tokenizer(widths=(6, 8, 8)))
SHAPES, POINTS, PATCHES, SIZE = 4, 60, 20, 6


def batch() -> Batch:
    return forged(SHAPES, POINTS, PATCHES, SIZE)


def objective(seed: int = 0, model: transformer.Config = MODEL, **options: Any) -> Objective:
    """An objective whose two encoders differ, with BatchNorm in evaluation mode."""
    torch.manual_seed(seed)
    made = Objective(Config.model_validate({"predictor": {"depth": 2}} | options), Setup(model))
    with torch.no_grad():
        for parameter in [*made.encoder.parameters(), *made.predictor.parameters()]:
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made.eval()


def everywhere(rows: Tensor) -> Tensor:
    return torch.ones(rows.shape[:2], dtype=torch.bool)


@torch.no_grad()
def oracle(net: Objective, given: Batch) -> float:
    """Algorithm 1, lines 4 to 20, one shape at a time."""
    settings, patches = net.settings, given.patches()
    mask = net.draw_mask(patches.centres, given)
    losses = []
    for b in range(SHAPES):
        groups, centres = patches.groups[b : b + 1], patches.centres[b : b + 1]
        context, target = mask.context[b].nonzero()[:, 0], mask.target[b].nonzero()[:, 0]
        tokens, at = net.encoder.tokenizer(groups), net.encoder.position(centres)
        h = net.encoder.trunk(tokens[:, context], at[:, context])
        theirs = tokens if settings.target_tokenizer == "shared" else net.target.tokenizer(groups)
        there = net.target.position(centres)
        if settings.target_sees == "all":
            z = net.target.trunk(theirs, there)
        else:
            z = torch.zeros(1, PATCHES, MODEL.width)
            z[:, target] = net.target.trunk(theirs[:, target], there[:, target])
        rows = [target] if settings.predict == "joint" else [block.nonzero()[:, 0] for block in mask.block[b]]
        of_shape = []
        for asked in rows:
            guess = net.predictor(h, at[:, context], everywhere(h), at[:, asked], everywhere(at[:, asked]))
            of_shape.append(np.mean([distance(g, t, settings) for g, t in zip(guess[0], z[0, asked], strict=True)]))
        losses.append(np.mean(of_shape))
    return float(np.mean(losses))


def distance(guess: Tensor, z: Tensor, settings: Config) -> float:
    """Of one predicted row from one target row, in numpy."""
    g, t = guess.double().numpy(), z.double().numpy()
    if settings.target_norm == "layer":
        t = (t - t.mean()) / np.sqrt(t.var() + 1e-5)
    if settings.target_norm == "l2":
        t = t / np.linalg.norm(t)
    if settings.loss == "mse":
        return float(((g - t) ** 2).sum())
    if settings.loss == "smooth_l1":
        away, beta = np.abs(g - t), settings.beta
        return float(np.where(away < beta, away**2 / (2 * beta), away - beta / 2).sum())
    return float(1 - g @ t / np.linalg.norm(g) / np.linalg.norm(t))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"loss": "smooth_l1", "beta": 0.5},
        {"loss": "cosine"},
        {"target_norm": "l2"},
        {"target_norm": "none"},
        {"target_sees": "all"},
        {"target_sees": "all", "target_tokenizer": "shared"},
        {"target_tokenizer": "shared"},
        {"predict": "per_block"},
        {"predict": "per_block", "target_sees": "all", "loss": "cosine"},
        {"tokenize": "used"},
        {"tokenize": "used", "target_tokenizer": "shared"},
        {"mask": {"fill": "exact"}},
        {"mask": {"fill": "exact"}, "predict": "per_block"},
        {"mask": {"seeds": "fps", "block_scale": [0.15, 0.2]}},
        {"mask": {"context": "block", "context_scale": [0.5, 0.9]}},
        {"predictor": {"kind": "cross", "depth": 2}},
        {"predictor": {"kind": "cross", "depth": 1, "width": 8, "heads": 2}, "predict": "per_block"},
    ],
    ids=str,
)
def test_the_loss_is_that_of_each_shape_by_itself(options: dict[str, Any]):
    net, given = objective(**options), batch()
    assert net(given).total.item() == pytest.approx(oracle(net, given), rel=1e-4)


def test_shapes_with_different_numbers_of_targets_are_in_the_batch_so_that_padding_is_tested():
    net, given = objective(), batch()
    assert len(net.draw_mask(given.patches().centres, given).target.sum(1).unique()) > 1


def test_the_formula_sums_over_the_dimensions():
    """A mean over D would be smaller by a factor of D, 384 at the paper's size."""
    rows, zeros = torch.ones(2, 3, 384), torch.zeros(2, 3, 384)
    assert squared(rows, zeros, 1.0).tolist() == [[384.0] * 3] * 2


def test_the_mean_goes_over_each_shapes_targets_and_then_over_shapes():
    distances = torch.tensor([[1.0, 3.0, 100.0], [4.0, 100.0, 100.0]])
    valid = torch.tensor([[True, True, False], [True, False, False]])
    assert mean_over_targets(distances, valid).item() == (2.0 + 4.0) / 2


def test_spread_is_the_standard_deviation_over_the_valid_rows():
    rows = torch.tensor([[[1.0, 0.0], [3.0, 0.0], [99.0, 99.0]]])
    assert spread(rows, torch.tensor([[True, True, False]])).item() == pytest.approx((1.0 + 0.0) / 2)


@pytest.mark.parametrize("target_tokenizer", ["ema", "shared"])
@pytest.mark.parametrize("target_sees", ["targets", "all"])
def test_no_gradient_reaches_the_target_encoder(target_tokenizer: str, target_sees: str):
    net = objective(target_tokenizer=target_tokenizer, target_sees=target_sees)
    net(batch()).total.backward()
    assert all(parameter.grad is None for parameter in net.target.parameters())
    assert not any(parameter.requires_grad for parameter in net.target.parameters())
    assert all(p.grad is not None for p in [*net.encoder.parameters(), *net.predictor.parameters()])


@pytest.mark.parametrize("target_tokenizer", ["ema", "shared"])
def test_the_student_learns_nothing_through_the_tokens_of_target_patches(target_tokenizer: str):
    net, given, kept = objective(target_tokenizer=target_tokenizer, target_sees="all"), batch(), []

    def keep(module: nn.Module, inputs: Any, tokens: Tensor) -> None:
        if tokens.requires_grad:
            tokens.retain_grad()
            kept.append(tokens)

    net.encoder.tokenizer.register_forward_hook(keep)
    net(given).total.backward()
    mask = net.draw_mask(given.patches().centres, given)
    (tokens,) = kept
    assert tokens.grad[mask.target].abs().max() == 0
    assert tokens.grad[mask.context].abs().amax(-1).min() > 0


def test_skipping_tokens_that_nobody_reads_changes_neither_loss_nor_gradients():
    every, used = objective(tokenize="all"), objective(tokenize="used")
    used.load_state_dict(every.state_dict())
    losses = [net(batch()).total for net in (every, used)]
    for loss in losses:
        loss.backward()
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-6)
    for (name, one), other in zip(every.named_parameters(), used.parameters(), strict=True):
        if one.requires_grad:
            assert torch.allclose(one.grad, other.grad, rtol=1e-4, atol=1e-5), name


def test_the_ema_after_n_steps_has_its_closed_form():
    net, total = objective(ema={"start": 0.9, "end": 1.0}), 7
    start = net.target.norm.weight.clone()
    students = []
    for step in range(total):
        with torch.no_grad():
            net.encoder.norm.weight.normal_()
        students.append(net.encoder.norm.weight.clone())
        net.after_step((step + 1) / total)
    momenta = [cosine((step + 1) / total, 0.9, 1.0) for step in range(total)]
    expected = np.prod(momenta) * start
    for step, student in enumerate(students):
        expected = expected + np.prod(momenta[step + 1 :]) * (1 - momenta[step]) * student
    assert torch.allclose(net.target.norm.weight, expected, atol=1e-5)
    assert momenta[-1] == 1.0  # at the end the target stands still


def test_the_ema_covers_tokenizer_position_and_transformer():
    net = objective(ema={"start": 0.5, "end": 0.5})
    before = {name: value.clone() for name, value in net.target.named_parameters()}
    net.after_step(0.3)
    for (name, after), student in zip(net.target.named_parameters(), net.encoder.parameters(), strict=True):
        assert torch.allclose(after, (before[name] + student) / 2, atol=1e-6), name
    assert {name.split(".")[0] for name in before} == {"tokenizer", "position", "blocks", "norm"}


def test_batch_norm_buffers_are_copied_and_not_averaged():
    net = objective(ema={"start": 0.999, "end": 1.0}).train()
    net(batch())
    assert not torch.equal(net.target.tokenizer.point_norm.running_mean, net.encoder.tokenizer.point_norm.running_mean)
    net.after_step(0.5)
    for copied, own in zip(net.target.buffers(), net.encoder.buffers(), strict=True):
        assert torch.equal(copied, own)


def test_the_target_encoder_starts_as_a_copy_and_stays_in_evaluation_mode():
    torch.manual_seed(0)
    net = Objective(Config(), Setup(MODEL))
    assert all(torch.equal(a, b) for a, b in zip(net.target.parameters(), net.encoder.parameters(), strict=True))
    assert net.train().encoder.training
    assert not any(module.training for module in net.target.modules())
    assert set(net.encoders()) == {"context", "target"}


def test_in_training_the_tokenizer_of_the_target_learns_no_statistics():
    net = objective().train()
    before = [buffer.clone() for buffer in net.target.buffers()]
    net(batch())
    assert all(torch.equal(a, b) for a, b in zip(before, net.target.buffers(), strict=True))


def test_the_monitors_say_what_was_masked():
    net, given = objective(mask={"fill": "exact", "ratio": 0.5}), batch()
    monitors = net(given).monitors
    assert monitors["mask_ratio"].item() == monitors["context_ratio"].item() == 0.5
    assert monitors["target_std"] > 0
    assert not monitors["predicted_std"].requires_grad


def test_the_loss_falls_when_it_is_minimised():
    net = objective()
    optimiser = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], 0.01)
    losses = []
    for _ in range(25):
        optimiser.zero_grad()
        loss = net(batch()).total
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
