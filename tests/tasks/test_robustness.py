"""Robustness: the linear probe on clean shapes, scored on corrupted ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from jepa3d import encoders, plugins, pretrained
from jepa3d.encoders import build, transformer
from jepa3d.nets.patches import patchify
from jepa3d.ops.corruptions import LEVELS, corrupt
from jepa3d.ops.draws import shape_keys
from jepa3d.ops.geometry import fps_numba, knn_numba
from jepa3d.params import Fit, Level, Objective, Run, Scheme, Tokenizer
from jepa3d.problem import Problem
from jepa3d.results import store
from jepa3d.seeds import derive
from jepa3d.tasks import Encoded, Features, linear_probe, robustness
from jepa3d.tasks.robustness import CORRUPTIONS, Config, evaluate, subset

MODEL = transformer.Config(width=24, depth=1, heads=2, tokenizer=Tokenizer(widths=(8, 16, 16)))
SCHEME = Scheme(points=64, levels=(Level(num=8, size=8),))
RUN = Run(
    data=("toys",),
    patches="flat",
    model="tiny",
    objective=Objective(kind="random_init"),
    fit=Fit(steps=0),
)


def written(canonical: Path, kind: str = "transformer", scheme: Scheme = SCHEME) -> Encoded:
    """Patches and an encoder with random weights for a canonical file."""
    with store.open_h5(canonical) as file:
        points = file["points"][:, : scheme.points]
    centre = fps_numba(points, scheme.levels[0].num)
    near = knn_numba(points, np.take_along_axis(points, centre[..., None], 1), scheme.levels[0].size)
    patches, weights = canonical.with_name("patches.h5"), canonical.with_name("encoder.safetensors")
    store.write_h5(patches, {"centre": centre.astype(np.uint16), "neighbour": near.astype(np.uint16)}, {})
    torch.manual_seed(0)
    model = MODEL if kind == "transformer" else plugins.find(encoders, kind).Config()
    pretrained.save(weights, {"context": build(model)}, scheme, {})
    return Encoded(weights, canonical, patches, scheme, MODEL, RUN, canonical.with_name("state"), "one")


@pytest.fixture
def given(tmp_path: Path, write_canonical: Callable[..., Path]) -> Encoded:
    return written(write_canonical(tmp_path / "toys.h5", points=64))


def clouds(given: Encoded, split: str) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """Points, labels and row numbers of a split."""
    with store.open_h5(given.canonical) as file:
        rows = np.flatnonzero(store.text(file["split"]) == split)
        return torch.from_numpy(file["points"][:][rows]), file["label"][:][rows], rows


def test_clean_accuracy_and_predictions_are_the_linear_probes(given: Encoded):
    """At severity 0 the evaluation is the linear probe on the encoder's features, to the last prediction."""
    loaded = pretrained.load(given.encoder).of_canonical()
    sides = [
        (loaded.embed(points).numpy(), label) for points, label, _ in (clouds(given, s) for s in ("train", "test"))
    ]
    expected = linear_probe.evaluate(Features(*sides[0], *sides[1], ("a", "b", "c")), linear_probe.Config(), seed=4)
    found = evaluate(given, Config(corruptions=("jitter",)), seed=4)
    assert found.predicted.tolist() == expected.predicted.tolist()
    assert found.values["accuracy"] == expected.values["accuracy"]
    assert found.values["chosen_c"] == expected.values["chosen_c"]


def test_a_corrupted_accuracy_by_hand(given: Encoded):
    """Corrupt the test clouds, embed them as a user would, and ask the probe."""
    loaded, seed = pretrained.load(given.encoder).of_canonical(), 2
    train, y_train, _ = clouds(given, "train")
    test, y_test, rows = clouds(given, "test")
    keys = shape_keys(derive(seed, "robustness"), torch.zeros(len(rows), dtype=torch.long), torch.from_numpy(rows))
    broken = corrupt(test, keys, "occlusion", 5)
    patches = patchify(broken, SCHEME.levels[0])
    with torch.no_grad():
        x_test = loaded.module.pool(loaded.module(patches)).numpy()
    probe = linear_probe.Config(grid=(0.1,))
    expected = linear_probe.evaluate(Features(loaded.embed(train).numpy(), y_train, x_test, y_test, ()), probe, seed)
    found = evaluate(given, Config(corruptions=("occlusion",), grid=(0.1,)), seed).values
    assert found["occlusion_5"] == expected.values["accuracy"]


def test_every_corruption_has_its_figures_and_the_headline_is_their_mean(given: Encoded):
    result = evaluate(given, Config(grid=(0.1,)), seed=0)
    metrics = result.values
    assert list(metrics)[:2] == ["accuracy_corrupted", "accuracy"]
    for kind in CORRUPTIONS:
        assert metrics[kind] == pytest.approx(np.mean([metrics[f"{kind}_{severity}"] for severity in range(1, 6)]))
    assert metrics["accuracy_corrupted"] == pytest.approx(np.mean([metrics[kind] for kind in CORRUPTIONS]))
    curves = {one.kind: one for one in result.details.corruptions}
    assert set(curves) == set(LEVELS) == set(CORRUPTIONS)
    assert curves["clutter"].scores == [metrics["accuracy"], *(metrics[f"clutter_{s}"] for s in range(1, 6))]
    assert curves["dropout"].levels == LEVELS["dropout"]


def test_the_seed_decides_everything(given: Encoded):
    settings = Config(corruptions=("rotation", "clutter"), grid=(0.1,), shapes=12)
    assert evaluate(given, settings, 7) == evaluate(given, settings, 7)


@pytest.mark.parametrize("kind", ["handcrafted", "raw_centres"])
def test_features_that_need_no_training_are_evaluated_too(given: Encoded, kind: str):
    metrics = evaluate(
        written(given.canonical, kind), Config(corruptions=("dropout", "clutter"), grid=(0.1,)), 0
    ).values
    assert metrics["accuracy"] > metrics["majority"]
    assert 0 <= metrics["dropout_5"] <= 1


def test_hand_made_features_do_not_mind_a_turn_about_the_vertical_but_a_turn_in_space(given: Encoded):
    metrics = evaluate(written(given.canonical, "handcrafted"), Config(corruptions=("rotation",)), 0).values
    assert metrics["accuracy"] > 0.9
    assert metrics["rotation_4"] < metrics["accuracy"]


def test_a_largest_radius_of_one_does_not_decide_under_noise(tmp_path: Path, write_canonical: Callable[..., Path]):
    """In the unit sphere it is 1 on every clean shape, and a handcrafted feature; noise moves it."""
    canonical = write_canonical(tmp_path / "toys.h5", points=64)
    with h5py.File(canonical, "r+") as file:
        centred = file["points"][:] - file["points"][:].mean(1, keepdims=True)
        file["points"][:] = centred / np.linalg.norm(centred, axis=-1).max(1)[:, None, None]
    given = written(canonical, "handcrafted")
    metrics = evaluate(given, Config(corruptions=("jitter",)), 0).values
    assert metrics["jitter_1"] > metrics["accuracy"] - 0.2


def test_a_subset_is_even_over_the_classes_and_in_order():
    labels = np.array([0] * 50 + [1] * 30 + [2] * 2)
    chosen = subset(labels, 22, seed=0)
    assert np.bincount(labels[chosen]).tolist() == [10, 10, 2]
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert subset(labels, 22, seed=1).tolist() != chosen.tolist()
    assert subset(labels, None, 0).tolist() == subset(labels, 82, 0).tolist() == list(range(82))


def test_the_smaller_subset_is_part_of_the_larger():
    labels = np.arange(60) % 4
    assert set(subset(labels, 10, 3)) <= set(subset(labels, 25, 3))


def test_a_subset_has_no_predictions_for_every_test_shape(given: Encoded):
    settings = Config(corruptions=("jitter",), grid=(0.1,))
    assert evaluate(given, settings.model_copy(update={"shapes": 9}), 0).predicted is None
    assert len(evaluate(given, settings, 0).predicted) == 20


def test_too_few_points_are_a_problem_before_any_feature(given: Encoded, monkeypatch: pytest.MonkeyPatch):
    scheme = Scheme(points=64, levels=(Level(num=20, size=8),))
    scarce = written(given.canonical, scheme=scheme)
    monkeypatch.setattr(pretrained, "load", lambda *args: pytest.fail("work was done"))
    with pytest.raises(Problem, match="dropout at severity 5 leaves 16 of 64 points"):
        evaluate(scarce, Config(), seed=0)


def test_unlabelled_shapes_are_a_problem(tmp_path: Path, write_canonical: Callable[..., Path]):
    given = written(write_canonical(tmp_path / "toys.h5", points=64, label=np.full(80, -1)))
    with pytest.raises(Problem, match="have no label"):
        evaluate(given, Config(), seed=0)


def test_the_protocol_names_each_corruption_and_its_severities():
    line = robustness.protocol(Config(shapes=200))
    for kind in CORRUPTIONS:
        assert f"{kind} {', '.join(f'{level:g}' for level in LEVELS[kind][1:])}" in line
    assert "200 test shapes" in line
    assert "rotation" not in robustness.protocol(Config(corruptions=("jitter",)))
