"""Fine-tuning: the protocols and what each may look at, the shapes it uses, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given as examples
from hypothesis import strategies as st

from jepa3d.params import Augment, Execution, Jitter, Tune
from jepa3d.problem import Problem
from jepa3d.tasks import Encoded, Result
from jepa3d.tasks._shared.given import Labels, check_labels
from jepa3d.tasks._shared.splits import some_of_each
from jepa3d.tasks._shared.words import tuned_by
from jepa3d.tasks.finetune import Config, curve_of, evaluate, parts_of, protocol, protocols
from jepa3d.train import loop, tuning

Give = Callable[..., Encoded]
pytestmark = pytest.mark.usefixtures("unchecked")
LABEL = np.arange(80) % 3


def settings(**changes: Any) -> Config:
    tree = {
        "hidden": [16],
        "dropout": 0.0,
        "encoder_lr_scale": 1.0,
        "validation": 0.2,
        "vote": 2,
        "augment": {"rotate": "upright"},
        "fit": {"epochs": 4, "batch": 8, "lr": 5e-3},
    }
    return Config.model_validate_json(json.dumps(tree | changes))


def labels(label: np.ndarray, test: int = 20) -> Labels:
    split = np.array(["train"] * (len(label) - test) + ["test"] * test)
    return Labels(label, split, np.array([str(n) for n in range(len(label))]), tuple("abc"), "toys.h5")


# --- it learns, and not from nothing


def test_boxes_of_three_proportions_are_told_apart(give: Give):
    result = evaluate(give(), settings(), seed=0)
    assert result.values["accuracy"] > 0.8
    assert result.values["accuracy_vote"] > 0.8
    assert result.values["majority"] <= 0.5
    assert len(result.predicted) == 20


def test_shuffled_labels_give_chance(give: Give):
    shuffled = np.random.default_rng(0).integers(0, 3, 260)
    result = evaluate(give(train=60, test=200, label=shuffled), settings(vote=0), seed=0)
    assert 0.23 < result.values["accuracy"] < 0.44  # a third, plus or minus three standard deviations


# --- protocols


@examples(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=12), st.data())
def test_the_community_protocol_never_scores_below_the_honest_one_or_the_last(
    scores: list[tuple[int, int]], data: st.DataObject
):
    rows = [
        {"step": n, "epoch": n, "validation": held / 20, "test": test / 20} for n, (held, test) in enumerate(scores, 1)
    ]
    chosen = data.draw(st.integers(1, len(rows)))
    curve = curve_of(rows, chosen)
    metrics = protocols(curve, {})
    found = {name: metric.value for name, metric in metrics.items()}
    assert found["accuracy_community"] >= max(found["accuracy"], found["accuracy_last"])
    assert {metric.chosen for name, metric in metrics.items() if name.startswith("accuracy")} == {*curve.chosen}
    assert found["accuracy"] == rows[chosen - 1]["test"]
    assert found["accuracy_last"] == rows[-1]["test"]
    assert next(iter(found)) == "accuracy"


def test_each_protocol_is_read_off_the_curve(give: Give):
    result = evaluate(give(), settings(), seed=0)
    curve, found = result.details.curve, result.values
    assert [look.epoch for look in curve.looks] == [1, 2, 3, 4]
    assert set(curve.looks[0].more) == {"loss", "train", "validation_loss"}
    best = max(curve.looks, key=lambda look: (look.held_out, -look.more["validation_loss"]))
    assert (found["epoch"], found["accuracy"], curve.chosen["honest"]) == (best.epoch, best.test, best.step)
    assert found["accuracy_last"] == curve.looks[-1].test
    assert found["accuracy_community"] == max(look.test for look in curve.looks)


def test_the_predictions_are_those_of_the_honest_epoch(give: Give):
    given = give()
    found = evaluate(given, settings(), seed=0)
    truth = LABEL[split_of(given) == "test"]
    assert np.mean(found.predicted == truth) == found.values["accuracy"]


def test_nothing_but_the_community_protocol_depends_on_the_test_split(give: Give):
    plain = evaluate(give(), settings(), seed=0)
    given = give()
    split = split_of(given)
    lying = LABEL.copy()
    lying[split == "test"] = (lying[split == "test"] + 1) % 3
    other = evaluate(give(label=lying)._replace(fingerprint="other labels"), settings(), seed=0)
    assert other.predicted.tolist() == plain.predicted.tolist()
    assert other.values["epoch"] == plain.values["epoch"]
    assert other.values["accuracy"] != plain.values["accuracy"]
    for one, two in zip(plain.details.curve.looks, other.details.curve.looks, strict=True):
        assert one.model_copy(update={"test": 0.0}) == two.model_copy(update={"test": 0.0})


def test_a_vote_over_views_that_change_nothing_is_the_honest_accuracy(give: Give):
    found = evaluate(give(), settings(augment={"scale": [1.0, 1.0]}, fit={"epochs": 1, "batch": 8}), seed=0)
    assert found.values["accuracy_vote"] == found.values["accuracy"]


def test_without_augmentation_there_is_no_vote_and_it_is_said(give: Give):
    found = evaluate(give(), settings(augment={}, fit={"steps": 2, "batch": 8}), seed=0)
    assert "accuracy_vote" not in found.values
    assert any("accuracy_vote: left out" in note for note in found.notes)


def test_with_nothing_held_out_the_last_epoch_is_the_headline(give: Give):
    found = evaluate(give(), settings(validation=0.0, vote=0, fit={"epochs": 2, "batch": 8}), seed=0)
    assert found.values["accuracy"] == found.values["accuracy_last"]
    assert found.values["held_out_shapes"] == 0
    assert found.metrics["accuracy"].chosen == "last"
    assert found.details.curve.looks[0].held_out is None


def test_an_early_end_looks_at_the_held_out_shapes_only(give: Give, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tuning, "logits", lambda net, source, *rest, **world: np.zeros((len(source), 3), np.float32))
    found = evaluate(give(), settings(patience=2, vote=0, fit={"epochs": 9, "batch": 8}), seed=0)
    assert [look.epoch for look in found.details.curve.looks] == [1, 2, 3]  # the first is never bettered
    assert (found.values["epoch"], found.values["epoch_last"]) == (1, 3)


def test_an_early_end_needs_held_out_shapes():
    with pytest.raises(ValueError, match="patience looks at the held-out shapes"):
        settings(patience=2, validation=0.0)


def test_the_same_seed_gives_the_same_finding_and_another_seed_another(give: Give):
    short = settings(fit={"epochs": 1, "batch": 8})

    def run(seed: int) -> Result:
        return evaluate(give()._replace(fingerprint=str(seed)), short, seed)

    one, two, other = run(0), run(0), run(1)
    assert (one.values, one.details, one.predicted.tolist()) == (two.values, two.details, two.predicted.tolist())
    assert one.details != other.details


def test_a_stopped_training_goes_on_to_the_same_finding(give: Give, monkeypatch: pytest.MonkeyPatch):
    """A checkpoint falls between two looks, and one is beyond the best epoch."""
    often = settings(fit={"epochs": 4, "batch": 8, "lr": 5e-3})
    undisturbed = evaluate(give(), often, seed=0)
    given = give()._replace(state=give().state / "again", execution=Execution(checkpoint_every=5))

    def stop(when: int) -> None:
        calls = 0

        def fail(self: tuning.Tuned, progress: float) -> None:
            nonlocal calls
            calls += 1
            if calls == when:
                raise KeyboardInterrupt

        monkeypatch.setattr(tuning.Tuned, "after_step", fail)

    for when in (8, 9, 7):
        stop(when)
        with pytest.raises(KeyboardInterrupt):
            evaluate(given, often, seed=0)
    stop(-1)
    found = evaluate(given, often, seed=0)
    assert found.values == undisturbed.values
    assert found.details == undisturbed.details
    assert found.predicted.tolist() == undisturbed.predicted.tolist()


# --- which shapes


def test_a_share_of_the_labels_has_every_class_and_grows_by_adding():
    label = np.repeat([0, 1, 2], [10, 3, 1])
    few, more = some_of_each(label, 0.2, seed=0), some_of_each(label, 0.5, seed=0)
    assert [int(few[label == one].sum()) for one in range(3)] == [2, 1, 1]
    assert [int(more[label == one].sum()) for one in range(3)] == [5, 2, 1]
    assert not (few & ~more).any()
    assert some_of_each(label, 1.0, seed=0).all()
    assert some_of_each(label, 0.2, seed=1).tolist() != few.tolist()


def test_no_test_shape_is_trained_on_and_no_class_is_held_out_whole():
    label = np.concatenate([np.repeat([0, 1, 2], [30, 29, 1]), np.arange(20) % 3])
    for seed in range(20):
        fitted, held, test = parts_of(labels(label), settings(), seed)
        assert test.tolist() == list(range(60, 80))
        assert sorted([*fitted, *held]) == list(range(60))
        assert set(label[fitted]) == {0, 1, 2}
        assert 11 <= len(held) <= 12


def test_runs_with_one_seed_are_given_the_same_labels():
    low = settings(labels=0.1)
    one, two = parts_of(labels(LABEL), low, 3), parts_of(labels(LABEL), low, 3)
    assert [rows.tolist() for rows in one] == [rows.tolist() for rows in two]
    assert len(one[0]) + len(one[1]) == 6


# --- what pretraining changes


def test_nothing_pretrained_means_one_learning_rate_and_it_is_said(give: Give):
    quick = settings(encoder_lr_scale=0.1, fit={"steps": 1, "batch": 8}, vote=0)
    assert evaluate(give("jepa"), quick, seed=0).notes == ()
    [note] = evaluate(give("random_init"), quick, seed=0).notes
    assert "nothing was pretrained" in note


# --- refused before any work


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(training: loop.Training) -> None:
        raise AssertionError("a training was started")

    monkeypatch.setattr(loop, "run", refuse)


@pytest.mark.usefixtures("no_training")
def test_a_class_missing_from_train_is_a_problem(give: Give):
    given = give()
    label = np.where((split_of(given) == "train") & (LABEL == 2), 0, LABEL)
    with pytest.raises(Problem, match=r"(?s)toys.h5: class 'plate' is missing from the train split"):
        evaluate(give(label=label), settings(), seed=0)


@pytest.mark.usefixtures("no_training")
def test_a_data_set_without_labels_is_a_problem(give: Give):
    with pytest.raises(Problem, match="60 of 60 train shapes have no label"):
        evaluate(give(label=np.full(80, -1)), settings(), seed=0)


@pytest.mark.usefixtures("no_training")
def test_a_data_set_without_test_shapes_is_a_problem(give: Give):
    with pytest.raises(Problem, match="no test shapes"):
        evaluate(give(split=["train"] * 80), settings(), seed=0)


@pytest.mark.usefixtures("no_training")
def test_an_encoder_of_another_size_is_a_problem(give: Give):
    given = give()
    with pytest.raises(Problem, match="another size"):
        evaluate(given._replace(model=given.model.model_copy(update={"width": 48})), settings(), seed=0)


@pytest.mark.usefixtures("no_training")
def test_patches_of_other_shapes_are_a_problem(give: Give, write_canonical: Callable[..., Path]):
    given = give()
    write_canonical(given.canonical, 50, 20)
    with pytest.raises(Problem, match="does not belong to"):
        evaluate(given, settings(), seed=0)


def test_one_shape_a_class_leaves_nothing_to_hold_out():
    with pytest.raises(Problem, match="no shape can be held out of 3 train shapes"):
        parts_of(labels(LABEL), settings(labels=0.01), 0)
    check_labels(labels(LABEL))


# --- what is printed


def test_the_protocol_says_all_that_decides_the_number():
    line = protocol(settings(labels=0.1, patience=3, smoothing=0.2))
    for words in (
        "10% of the train labels", "AdamW 0.005", "pretrained parameters at 1 of it", "4 epochs of batch 8",
        "rotation about y", "label smoothing 0.2", "20% of the train shapes, held out", "3 looks", "ON TEST",
        "2 augmented passes", "head on max_mean", "drop path 0.1",
    ):  # fmt: skip
        assert words in line, words


def test_augmentations_are_named_in_the_protocol():
    everything = Augment(
        scale=(0.8, 1.25), scale_per_axis=True, rotate="so3", shift=0.1, jitter=Jitter(std=0.01, clip=0.05)
    )
    assert tuned_by(Tune(augment=everything)).endswith(
        "augmentation: scale 0.8 to 1.25 per axis, any rotation, shift 0.1, jitter 0.01"
    )
    assert tuned_by(Tune()).endswith("augmentation: none")


def split_of(given: Encoded) -> np.ndarray:
    from jepa3d.results import store

    with store.open_h5(given.canonical) as file:
        return store.text(file["split"])
