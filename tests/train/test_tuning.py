"""Training an encoder on: learning rates, epochs, what is kept; which encoders are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from jepa3d import pretrained
from jepa3d.encoders import build, handcrafted, transformer
from jepa3d.params import Fit, Level, Scheme, Tokenizer, Tune, TuneFit
from jepa3d.problem import Problem
from jepa3d.results import store
from jepa3d.train import loop, tuning
from jepa3d.train.batches import Batch
from jepa3d.train.heads import Classifier

MODEL = transformer.Config(width=12, depth=2, heads=2, tokenizer=Tokenizer(widths=(4, 8, 8)))
SCHEME = Scheme(points=16, levels=(Level(num=4, size=4),))


def saved(path: Path, model: transformer.Config = MODEL) -> Path:
    torch.manual_seed(1)
    pretrained.save(path, {"context": build(model)}, SCHEME, {})
    return path


def small(**settings: object) -> Tune:
    return Tune.model_validate({"hidden": (), "fit": TuneFit(steps=1, batch=4), **settings})


# --- learning rates


def test_every_parameter_has_the_learning_rate_of_its_layer():
    factors = tuning.lr_factors(build(MODEL), scale=0.1, decay=0.5)
    by_layer = {"tokenizer": 0, "position": 0, "blocks.0": 1, "blocks.1": 2, "norm": 3}
    for name, factor in factors.items():
        [layer] = [number for start, number in by_layer.items() if name.startswith(start + ".")]
        assert factor == pytest.approx(0.1 * 0.5 ** (3 - layer)), name
    assert set(factors) == {name for name, _ in build(MODEL).named_parameters()}


def test_the_optimiser_has_the_groups_that_the_factors_say(tmp_path: Path):
    start = tuning.classifier(
        saved(tmp_path / "e.safetensors"), MODEL, small(encoder_lr_scale=0.1), 3, 0, pretrained=True
    )
    net, tuned = start.net, tuning.Tuned(start, 0.0, choose=True)
    groups = loop.adamw(tuned, Fit(steps=1, weight_decay=0.3)).param_groups
    assert [(group["factor"], group["weight_decay"]) for group in groups] == [(1, 0.3), (1, 0), (0.1, 0.3), (0.1, 0)]
    assert {id(p) for group in groups[:2] for p in group["params"]} == {id(p) for p in net.head.parameters()}
    assert {id(p) for group in groups[2:] for p in group["params"]} == {id(p) for p in net.encoder.parameters()}


def test_a_first_step_moves_the_encoder_by_its_share_of_the_learning_rate(tmp_path: Path):
    settings = small(encoder_lr_scale=0.01, drop_path=0.0, fit=TuneFit(steps=1, batch=4, lr=1e-3, weight_decay=0.0))
    start = tuning.classifier(saved(tmp_path / "e.safetensors"), MODEL, settings, 2, 0, pretrained=True)
    before = {name: value.clone() for name, value in start.net.state_dict().items()}
    train(start, settings, tmp_path)
    moved = {name: (value - before[name]).abs().max().item() for name, value in start.net.named_parameters()}
    assert moved["head.0.weight"] == pytest.approx(1e-3, rel=0.01)  # AdamW's first step is lr times the sign
    assert moved["encoder.blocks.1.mlp.0.weight"] == pytest.approx(1e-5, rel=0.02)


def test_a_run_that_was_not_trained_has_nothing_pretrained(tmp_path: Path):
    path = saved(tmp_path / "e.safetensors")
    assert tuning.classifier(path, MODEL, small(encoder_lr_scale=0.1), 3, 0, pretrained=False).factors == {}


# --- lengths


@pytest.mark.parametrize(
    ("shapes", "batch", "steps_an_epoch"), [(64, 32, 2), (100, 32, 3), (31, 32, 1), (50, 32, 1), (9843, 32, 307)]
)
def test_an_epoch_is_the_whole_batches_that_the_shapes_fill(shapes: int, batch: int, steps_an_epoch: int):
    settled, epoch = tuning.plan(TuneFit(epochs=10, warmup_epochs=2, batch=batch), shapes)
    assert epoch == steps_an_epoch
    assert (settled.steps, settled.warmup_steps) == (10 * epoch, 2 * epoch)
    assert settled.batch == min(shapes, batch)


# --- what is kept


def test_the_better_accuracy_is_kept_then_the_lower_loss_then_the_earlier_epoch():
    tuned = tuning.Tuned(tuning.Start(Classifier(build(MODEL), (), 2, 0.0), {}), 0.0, choose=True)
    for step, (accuracy, loss) in enumerate([(0.5, 1.0), (0.7, 0.9), (0.7, 0.8), (0.7, 0.8), (0.6, 0.1)], 1):
        with torch.no_grad():
            tuned.net.head[0].bias.fill_(step)
        tuned.offer(accuracy, loss, step)
    assert int(tuned.chosen[2]) == 3
    assert tuned.best.head[0].bias.tolist() == [3.0, 3.0]


def test_the_loss_is_the_smoothed_cross_entropy():
    torch.manual_seed(0)
    net = Classifier(build(MODEL), (), 4, 0.0)
    tuned = tuning.Tuned(tuning.Start(net, {}), 0.2, choose=False)
    batch = Batch(
        torch.randn(3, 16, 3), torch.arange(4).expand(3, 4), torch.arange(16).view(4, 4).expand(3, 4, 4),
        torch.tensor([0, 3, 1]), torch.arange(3),
    )  # fmt: skip
    log_p = net(batch.patches()).log_softmax(1)
    target = torch.full((3, 4), 0.05)
    target[torch.arange(3), batch.label] = 0.85
    assert float(tuned(batch).total.detach()) == pytest.approx(
        float(-(target * log_p).sum(1).mean().detach()), rel=1e-5
    )
    assert tuned.sums.tolist()[2] == 3


# --- which encoders are refused


def test_an_encoder_of_another_size_is_a_problem_that_names_both(tmp_path: Path):
    path = saved(tmp_path / "e.safetensors", MODEL.model_copy(update={"depth": 1}))
    with pytest.raises(Problem, match=r"(?s)another size.*its depth is 1, the run's model in params.yaml has 2"):
        tuning.classifier(path, MODEL, small(), 3, 0, pretrained=True)


def test_other_drop_path_and_pooling_are_no_other_size(tmp_path: Path):
    path = saved(tmp_path / "e.safetensors", MODEL.model_copy(update={"drop_path": 0.3, "pool": "max"}))
    net, _ = tuning.classifier(path, MODEL, small(drop_path=0.2, pool="max_mean"), 3, 0, pretrained=True)
    assert net.encoder.blocks[1].drop_path == pytest.approx(0.2)
    assert net.head[0].in_features == 24
    assert all(p.requires_grad for p in net.parameters())


def test_features_that_are_computed_cannot_be_trained_on(tmp_path: Path):
    path = tmp_path / "e.safetensors"
    pretrained.save(path, {"context": build(handcrafted.Config())}, SCHEME, {})
    with pytest.raises(Problem, match="'handcrafted' has nothing that could be trained on"):
        tuning.classifier(path, MODEL, small(), 3, 0, pretrained=False)


@pytest.mark.parametrize("damage", ["truncated", "foreign", "absent", "of a later format"])
def test_a_file_that_is_no_encoder_of_ours_is_a_problem(tmp_path: Path, damage: str):
    path = saved(tmp_path / "e.safetensors")
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "foreign":
        store.write_tensors(path, {"weight": torch.zeros(3)}, {})
    elif damage == "absent":
        path.unlink()
    else:
        tensors, metadata = store.read_tensors(path)
        store.write_tensors(path, tensors, metadata | {"format": "jepa3d.encoder/9"})
    with pytest.raises(Problem, match=str(path)):
        tuning.classifier(path, MODEL, small(), 3, 0, pretrained=True)


def test_an_encoder_without_an_ema_copy_has_none_to_train_on(tmp_path: Path):
    with pytest.raises(Problem, match="has no 'target' encoder"):
        tuning.classifier(saved(tmp_path / "e.safetensors"), MODEL, small(which="target"), 3, 0, pretrained=True)


def train(start: tuning.Start, settings: Tune, folder: Path) -> None:
    from jepa3d.train.batches import Arrays, InMemory

    random = np.random.default_rng(0)
    shapes = Arrays(
        random.normal(size=(4, 16, 3)).astype(np.float32),
        np.tile(np.arange(4, dtype=np.uint16), (4, 1)),
        np.tile(np.arange(16, dtype=np.uint16).reshape(4, 4), (4, 1, 1)),
        np.array([0, 1, 0, 1]),
    )
    tuning.train(start, settings, InMemory(shapes), SCHEME, 0, loop.Job(folder / "state", "", "test"))
