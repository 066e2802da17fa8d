"""Random, supervised, and untrained baselines."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from jepa3d import encoders, objectives, plugins
from jepa3d.encoders import transformer
from jepa3d.nets.encoder import Encoder
from jepa3d.objectives import random_init, supervised
from jepa3d.ops.draws import shape_keys
from jepa3d.params import Tokenizer
from jepa3d.problem import Problem
from jepa3d.train.batches import Batch
from jepa3d.train.objective import Setup

MODEL = transformer.Config(width=12, depth=1, heads=2, tokenizer=Tokenizer(widths=(6, 8, 8)))


def batch(seed: int = 0, shapes: int = 8) -> Batch:
    random = torch.Generator().manual_seed(seed)
    return Batch(
        torch.randn(shapes, 40, 3, generator=random) * (1 + seed),
        torch.arange(5).expand(shapes, -1),
        torch.randint(0, 40, (shapes, 5, 6), generator=random),
        torch.arange(shapes) % 3,
        shape_keys(0, torch.zeros(shapes, dtype=torch.long), torch.arange(shapes)),
    )


def test_calibration_is_the_plain_average_of_the_batch_statistics():
    torch.manual_seed(0)
    net = random_init.Objective(random_init.Config(clouds=24), Setup(MODEL))
    weights = {name: value.clone() for name, value in net.named_parameters()}
    batches = [batch(seed) for seed in range(5)]
    net.finish(batches)
    seen = []
    for one in batches[:3]:  # 24 clouds: the fourth batch is not needed
        x = net.encoder.tokenizer.point(one.patches().groups.reshape(-1, 3))
        seen.append((x.mean(0), x.var(0)))
    norm = net.encoder.tokenizer.point_norm
    assert norm.num_batches_tracked == 3
    assert torch.allclose(norm.running_mean, torch.stack([mean for mean, _ in seen]).mean(0), atol=1e-6)
    assert torch.allclose(norm.running_var, torch.stack([var for _, var in seen]).mean(0), rtol=1e-5)
    assert all(torch.equal(value, weights[name]) for name, value in net.named_parameters())  # still random


def test_calibration_forgets_what_was_there_and_may_be_left_out():
    net = random_init.Objective(random_init.Config(clouds=0), Setup(MODEL))
    norm = net.encoder.tokenizer.point_norm
    norm.running_mean.fill_(7.0)
    net.finish([batch()])
    assert norm.running_mean.abs().max() == 0
    assert (norm.running_var == 1).all()


def test_runs_of_one_seed_start_from_the_same_encoder():
    """`random_init` is the random encoder that `jepa` starts from, so that the table compares training alone."""
    encoders = []
    for kind in ("jepa", "random_init", "supervised"):
        torch.manual_seed(5)
        module = plugins.find(objectives, kind)
        encoders.append(module.Objective(module.Config(), Setup(MODEL, classes=3)).encoder)
    for other in encoders[1:]:
        for (name, a), b in zip(encoders[0].named_parameters(), other.parameters(), strict=True):
            assert torch.equal(a, b), name


def test_supervised_is_cross_entropy_of_a_linear_head_on_the_pooled_feature():
    torch.manual_seed(0)
    net = supervised.Objective(supervised.Config(smoothing=0.1), Setup(MODEL, classes=3)).eval()
    loss = net(batch())
    logits = net.head(net.encoder.pool(net.encoder(batch().patches())))
    expected = F.cross_entropy(logits, batch().label, label_smoothing=0.1)
    assert torch.allclose(loss.total, expected)
    assert loss.monitors["train_accuracy"] == (logits.argmax(1) == batch().label).float().mean()
    assert isinstance(net.encoders()["context"], Encoder)


@pytest.mark.parametrize("classes", [0, 1])
def test_supervised_without_labels_of_two_classes_is_a_problem(classes: int):
    with pytest.raises(Problem, match="needs labelled data"):
        supervised.Objective(supervised.Config(), Setup(MODEL, classes=classes))


@pytest.mark.parametrize("kind", ["raw_centres", "handcrafted"])
def test_an_untrained_baseline_has_an_encoder_and_says_that_it_cannot_be_trained(kind: str):
    net = random_init.Objective(random_init.Config(), Setup(plugins.find(encoders, kind).Config()))
    encoder = net.encoders()["context"]
    assert encoder.pool(encoder(batch().patches())).shape[0] == 8
    net.finish([batch()])  # there is nothing to calibrate
    assert encoder.config.kind == kind
    with pytest.raises(Problem, match="is a baseline") as caught:
        net(batch())
    assert caught.value.mend == "give the run fit.steps 0"
