"""The segmentation head: its depths, the layers that come before the repetition, and what its loss sees."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from jepa3d.encoders import build, transformer
from jepa3d.nets.patches import Patches, patchify
from jepa3d.ops import score
from jepa3d.ops.propagate import propagate
from jepa3d.params import Level, Tokenizer
from jepa3d.train.segmentation import PartObjective, Segmenter, best_allowed

MODEL = transformer.Config(width=24, depth=3, heads=2, tokenizer=Tokenizer(widths=(8, 16, 16)))
LEVEL = Level(num=6, size=4)


def segmenter(**options) -> Segmenter:
    torch.manual_seed(0)
    return Segmenter(build(MODEL), classes=3, parts=5, **options)


def cloud(shapes: int = 4, points: int = 30) -> Patches:
    return patchify(torch.randn(shapes, points, 3, generator=torch.Generator().manual_seed(1)), LEVEL)


@pytest.mark.parametrize(
    ("layers", "expected"), [(12, (3, 7, 11)), (3, (0, 1, 2)), (6, (1, 3, 5)), (4, (1, 2, 3)), (2, (0, 1)), (1, (0,))]
)
def test_depths_are_the_ends_of_the_thirds(layers: int, expected: tuple[int, ...]):
    assert transformer.Config(depth=layers).depths == expected


@pytest.mark.parametrize("position_at", ["input", "every_block"])
def test_the_last_depth_is_the_encoders_own_output(position_at: str):
    encoder = build(MODEL.model_copy(update={"position_at": position_at})).eval()
    patches = cloud()
    found = [tokens for _, tokens in encoder.tokens_at(patches, (0, 2))]
    assert len(found) == 2
    assert torch.equal(found[1], encoder(patches))
    assert not torch.allclose(found[0], found[1])


@pytest.mark.parametrize("merge", ["concat", "mean"])
@pytest.mark.parametrize("of_category", ["plain", "normed"])
def test_linear_layers_before_the_repetition_are_the_published_ones_after_it(merge: str, of_category: str):
    """The head written out as it is published: interpolate, put the point and the shape beside it, then the layers."""
    net = segmenter(merge=merge, of_category=of_category).eval()
    patches, category = cloud(), torch.tensor([0, 1, 2, 0])
    found = [tokens for _, tokens in net.encoder.tokens_at(patches, net.layers)]
    tokens = torch.cat(found, -1) if merge == "concat" else sum(found) / 3
    x = torch.cat([propagate(tokens, patches.centres, patches.points), patches.points], -1)
    x = x @ torch.cat([net.lift.weight, net.lift_xyz.weight], 1).T
    for norm, layer in ((net.lift_norm, net.deep), (net.deep_norm, None)):
        x = F.relu(norm(x.flatten(0, 1))).view(x.shape)
        x = x if layer is None else layer(x)
    embedded = net.category.weight[category]
    if of_category == "normed":
        norm = net.category_norm
        norm.running_mean.uniform_(-1, 1)
        embedded = (embedded - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias
        embedded = torch.where(embedded > 0, embedded, 0.2 * embedded)
    shape = torch.cat([tokens.amax(1), tokens.mean(1), embedded], -1)
    x = torch.cat([shape[:, None].expand(-1, x.shape[1], -1), x], -1)
    x = x @ torch.cat([net.of_shape.weight, net.of_point.weight], 1).T
    x = F.relu(net.first_norm(x.flatten(0, 1))).view(x.shape)
    x = net.second(x)
    expected = net.out(F.relu(net.second_norm(x.flatten(0, 1))).view(x.shape))
    assert torch.allclose(net(patches, category, patches.points), expected, atol=1e-5)


def test_widths_at_the_papers_size_are_the_published_ones():
    paper = Segmenter(build(transformer.Config()), classes=16, parts=50)
    assert paper.layers == (3, 7, 11)
    assert (paper.lift.in_features + paper.lift_xyz.in_features, paper.lift.out_features) == (1155, 1536)
    assert paper.deep.out_features == 1024
    assert paper.of_shape.in_features + paper.of_point.in_features == 3392
    assert (paper.first_norm.num_features, paper.second_norm.num_features, paper.out.out_features) == (512, 256, 50)


def test_the_order_of_the_points_does_not_matter_and_the_category_does():
    net, patches = segmenter().eval(), cloud(1)
    order = torch.randperm(30)
    logits = net(patches, torch.tensor([1]), patches.points)
    assert torch.allclose(net(patches, torch.tensor([1]), patches.points[:, order]), logits[:, order], atol=1e-5)
    assert not torch.allclose(net(patches, torch.tensor([2]), patches.points), logits)


def objective(**changes) -> tuple[PartObjective, SimpleNamespace]:
    """Four train shapes; the batch has shapes 3, 0, 1, 2."""
    part = torch.randint(0, 5, (4, 30), generator=torch.Generator().manual_seed(2)).to(torch.int16)
    category = torch.tensor([0, 1, 2, 0])
    options = {"allowed": torch.ones(3, 5, dtype=torch.bool), "points": None, "frozen": False} | changes
    made = PartObjective(segmenter(dropout=0.0), options.pop("part", part), category, **options)
    patches, label = cloud(), torch.tensor([3, 0, 1, 2])
    batch = SimpleNamespace(
        label=label,
        patches=lambda: patches,
        uniform=lambda purpose, *count: torch.rand(4, *count, generator=torch.Generator().manual_seed(3)),
    )
    return made, batch


def test_the_loss_is_the_negative_log_likelihood_of_each_points_part():
    made, batch = objective()
    patches, truth = batch.patches(), made.part[batch.label].long()
    logits = made.model(patches, made.category[batch.label], patches.points)
    expected = -logits.log_softmax(-1).gather(-1, truth[..., None]).mean()
    assert made(batch).total.item() == pytest.approx(expected.item(), rel=1e-5)


def test_points_without_a_label_have_no_loss():
    part = torch.full((4, 30), -1, dtype=torch.int16)
    made, batch = objective(part=part)
    assert made(batch).total.item() == 0.0
    part[:, 0] = 1
    made, batch = objective(part=part)
    patches = batch.patches()
    logits = made.model(patches, made.category[batch.label], patches.points)
    assert made(batch).total.item() == pytest.approx(-logits.log_softmax(-1)[:, 0, 1].mean().item(), rel=1e-5)


def test_parts_of_other_categories_do_not_compete_where_the_loss_says_so():
    allowed = torch.zeros(3, 5, dtype=torch.bool)
    allowed[:, 2] = True  # the only part there is: nothing is left to be learned
    made, batch = objective(allowed=allowed, part=torch.full((4, 30), 2, dtype=torch.int16))
    loss = made(batch)
    assert loss.total.item() == pytest.approx(0.0, abs=1e-6)
    assert loss.monitors["train_point_accuracy"].item() == 1.0


def test_with_fewer_points_the_loss_is_that_of_the_drawn_ones():
    made, batch = objective(points=7)
    seen = []
    made.model.lift_xyz.register_forward_hook(lambda layer, given, out: seen.append(given[0]))
    loss = made(batch)
    assert seen[0].shape == (4, 7, 3)
    assert torch.isfinite(loss.total)
    every, batch = objective(points=30)
    whole, _ = objective()
    assert every(batch).total.item() == pytest.approx(whole(batch).total.item(), rel=1e-4)


def test_a_frozen_encoder_gets_no_gradient_and_keeps_its_running_statistics():
    made, batch = objective(frozen=True)
    made.train()
    before = {name: tensor.clone() for name, tensor in made.model.encoder.state_dict().items()}
    made(batch).total.backward()
    assert all(weight.grad is None for weight in made.model.encoder.parameters())
    assert made.model.lift.weight.grad is not None
    assert all(torch.equal(tensor, before[name]) for name, tensor in made.model.encoder.state_dict().items())
    trained, batch = objective()
    trained.train()
    trained(batch).total.backward()
    assert trained.model.encoder.blocks[0].mlp[0].weight.grad.abs().sum() > 0


def test_the_training_labels_are_no_weights():
    made, _ = objective()
    assert not {"part", "category", "allowed"} & set(made.state_dict())


def test_the_best_allowed_part_of_a_batch_is_that_of_each_shape():
    logits = torch.randn(3, 8, 5)
    allowed = torch.tensor([[1, 1, 0, 0, 0], [0, 0, 1, 1, 1], [0, 1, 0, 0, 1]]).bool()
    found = best_allowed(logits, allowed)
    for one, parts in enumerate([(0, 1), (2, 3, 4), (1, 4)]):
        assert found[one].tolist() == score.restricted_argmax(np.asarray(logits[one]), parts).tolist()
