"""Part segmentation from files to figures: what it learns, how it chooses, what it refuses."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jepa3d import pretrained
from jepa3d.datasets import procedural, shapenetpart
from jepa3d.encoders import build, handcrafted, hierarchical, transformer
from jepa3d.params import Execution, Fit, Level, Model, Objective, Run, Scheme, Tokenizer
from jepa3d.problem import Problem
from jepa3d.results import store
from jepa3d.stages.patchify import levels
from jepa3d.tasks import Encoded, Result, part_seg
from jepa3d.tasks._shared.splits import holdout
from jepa3d.tasks.part_seg import Config
from jepa3d.train import distributed, loop, part_labels

MODEL = transformer.Config(width=24, depth=1, heads=2, tokenizer=Tokenizer(widths=(8, 16, 16)))
SCHEME = Scheme(points=64, levels=(Level(num=8, size=8),))
RUN = Run(data=("toys",), patches="flat", model="tiny", objective=Objective(kind="random_init"),
                 fit=Fit(steps=0))  # fmt: skip
NAMES = ("cube/low", "cube/high", "rod/left", "rod/right", "plate/left", "plate/right", "plate/handle")

HOW = Execution(log_every=12, checkpoint_every=14)


def quick(steps: int = 24, **options: Any) -> Config:
    fit_ = Fit(steps=steps, batch=8, lr=5e-3, warmup_steps=5)
    return Config(**{"fit": fit_, "looks": 4, "validation": 0.2, "dropout": 0.0, "drop_path": 0.0, **options})


def toys(train: int = 48, test: int = 18) -> dict[str, Any]:
    """Boxes in three proportions, cut in two along y or x; a plate's handle is on no shape."""
    random = np.random.default_rng(0)
    label = np.arange(train + test) % 3
    size = np.array([[1.0, 1.0, 1.0], [1.0, 0.2, 0.2], [1.0, 1.0, 0.1]])[label]
    points = random.uniform(-1, 1, (train + test, 64, 3)) * size[:, None]
    along = np.where(label[:, None] == 0, points[..., 1], points[..., 0])
    return {
        "points": points.astype(np.float32),
        "label": label.astype(np.int64),
        "part": (2 * label[:, None] + (along > 0)).astype(np.int16),
        "split": ["train"] * train + ["test"] * test,
        "id": [f"toy-{i}" for i in range(train + test)],
    }


def written(
    folder: Path, arrays: dict[str, Any], scheme: Scheme = SCHEME, model: Model = MODEL, **about: Any
) -> Encoded:
    """The files of an evaluation: canonical clouds, patches, and an encoder with random weights."""
    about = {"classes": ["cube", "rod", "plate"], "parts": list(NAMES), "config": {"kind": "folder"}} | about
    canonical, patches, weights = folder / "toys.h5", folder / "patches.h5", folder / "encoder.safetensors"
    store.write_h5(canonical, arrays, {}, **about)
    points = arrays["points"][:, : scheme.points]
    chosen = levels(points, scheme)
    if arrays["points"].shape[1] > scheme.points:
        chosen["point"] = np.tile(np.arange(scheme.points), (len(points), 1)).astype(np.uint16)
    store.write_h5(patches, chosen, {})
    torch.manual_seed(0)
    pretrained.save(weights, {"context": build(model)}, scheme, {})
    return Encoded(weights, canonical, patches, scheme, model, RUN, folder / "state", "one", None, HOW)


@pytest.fixture
def given(tmp_path: Path) -> Encoded:
    return written(tmp_path, toys())


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """One training, of which several tests read the finding."""
    return part_seg.evaluate(written(tmp_path_factory.mktemp("finished"), toys()), quick(), seed=3)


def test_it_learns_the_parts_and_the_majority_part_does_not(result: Result):
    assert next(iter(result.values)) == "instance_miou"
    assert result.values["instance_miou"] > 0.8
    # of a cube or rod: IoU about 1/2 of one part and 0 of the other; of a plate, whose handle counts 1: 1/2, 0 and 1
    assert result.values["majority_instance_miou"] == pytest.approx((1 / 4 + 1 / 4 + 1 / 2) / 3, abs=0.05)
    assert result.values["majority"] == result.values["majority_instance_miou"]
    assert result.values["point_accuracy"] > 0.9


@pytest.mark.slow
def test_procedural_shapes_are_far_above_the_majority_part(tmp_path: Path):
    settings = procedural.Config(difficulty="clean", train=300, test=100, points=64)
    numbers = [("train", i) for i in range(300) if i % 20 < 4] + [("test", i) for i in range(100) if i % 20 < 4]
    made = [procedural.make((settings, split, i)) for split, i in numbers]
    arrays = {name: np.stack([getattr(shape, name) for shape in made]) for name in ("points", "label", "part")}
    arrays |= {"split": [shape.split for shape in made], "id": [shape.id for shape in made]}
    about = {"classes": list(procedural.CLASSES), "parts": list(procedural.PARTS)}
    metrics = part_seg.evaluate(written(tmp_path, arrays, **about), quick(96, compete="category"), seed=0).values
    assert metrics["instance_miou"] > metrics["majority_instance_miou"] + 0.2
    assert metrics["point_accuracy"] > metrics["majority_point_accuracy"] + 0.1


PYRAMID = hierarchical.Config(
    widths=(8, 24), blocks=(1, 1), heads=2, tuned_radius=(0.8, 2.0), tokenizer=Tokenizer(widths=(8, 16, 16))
)
TWO_LEVELS = Scheme(points=64, levels=(Level(num=16, size=8), Level(num=8, size=4)))


def test_a_hierarchical_encoder_learns_the_parts_from_all_its_levels(tmp_path: Path):
    given = written(tmp_path, toys(), TWO_LEVELS, PYRAMID)
    metrics = part_seg.evaluate(given, quick(), seed=3).values
    assert metrics["instance_miou"] > 0.8


def test_the_mean_of_several_levels_is_refused(tmp_path: Path):
    given = written(tmp_path, toys(), TWO_LEVELS, PYRAMID)
    with pytest.raises(Problem, match=r"(?s)'hierarchical': its tokens are of several levels.*merge: concat"):
        part_seg.evaluate(given, quick(merge="mean"), seed=0)


def test_shuffled_part_labels_give_chance(tmp_path: Path):
    arrays = toys()
    random = np.random.default_rng(1)
    arrays["part"] = np.stack([random.permutation(row) for row in arrays["part"]])
    metrics = part_seg.evaluate(written(tmp_path, arrays), quick(12), seed=0).values
    assert metrics["point_accuracy"] == pytest.approx(0.5, abs=0.05)
    assert metrics["instance_miou"] < 0.5


def test_one_optimiser_step_a_batch(given: Encoded, monkeypatch: pytest.MonkeyPatch):
    steps, backwards = [], []
    step, backward = torch.optim.AdamW.step, torch.Tensor.backward
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda *args: (steps.append(1), step(*args))[1])
    monkeypatch.setattr(torch.Tensor, "backward", lambda *args: (backwards.append(1), backward(*args))[1])
    part_seg.evaluate(given, quick(11), seed=0)
    assert len(steps) == len(backwards) == 11


def test_a_training_that_was_stopped_ends_in_the_same_figures(
    given: Encoded, result: Result, monkeypatch: pytest.MonkeyPatch
):
    save = loop.save

    def stop(training: Any, optimiser: Any, step: int, *rest: Any) -> None:
        save(training, optimiser, step, *rest)
        if step == 14:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            part_seg.evaluate(given, quick(), seed=3)
    assert [path.name for path in given.state.glob("step*.pt")] == ["step000000014.pt"]
    resumed = part_seg.evaluate(given, quick(), seed=3)
    assert resumed.values == result.values
    assert resumed.details == result.details


def test_the_epoch_is_chosen_on_the_held_out_part_and_the_community_chooses_on_test(result: Result):
    curve, metrics = result.details.curve, result.values
    assert [look.step for look in curve.looks] == [6, 12, 18, 24]
    honest = max(curve.looks, key=lambda look: look.held_out)
    assert curve.chosen["honest"] == honest.step
    assert metrics["instance_miou"] == honest.test
    assert metrics["instance_miou_last"] == curve.looks[-1].test
    assert metrics["instance_miou_community"] == max(look.test for look in curve.looks)
    assert curve.looks[-1].more["test_class_miou"] == metrics["class_miou_last"]


def test_with_nothing_held_out_all_of_train_is_trained_on_and_the_last_epoch_counts(given: Encoded):
    result = part_seg.evaluate(given, quick(8, validation=0.0), seed=3)
    curve, metrics = result.details.curve, result.values
    assert (curve.chosen["last"], "honest" in curve.chosen) == (8, False)
    assert [look.held_out for look in curve.looks] == [None] * 4
    assert metrics["instance_miou"] == curve.looks[-1].test
    assert metrics["instance_miou_community"] == max(look.test for look in curve.looks)
    assert metrics["instance_miou"] == pytest.approx(np.mean(result.details.per_shape.scores["iou"]), abs=1e-4)
    assert "held_out_instance_miou" not in metrics
    assert "all of train, the last epoch counts" in part_seg.protocol(quick(validation=0.0))


def test_pretrained_parameters_have_a_lower_rate_and_an_untrained_encoders_the_heads(given: Encoded):
    """Section 8. An encoder at a rate of nearly nothing hardly moves."""
    trained = given._replace(run=RUN.model_copy(update={"fit": Fit(steps=5)}))
    data = part_labels.load(given.canonical, given.patches)
    fitted = np.flatnonzero(~data.test)
    rates = {}
    for name, one in (("trained", trained), ("random", given)):
        made = part_seg._objective(one, quick(encoder_lr_scale=0.25), data, fitted, distributed.ALONE)
        rates[name] = made.lr_factors()
        assert rates[name].keys() <= dict(made.named_parameters()).keys()
    assert set(rates["trained"].values()) == {0.25}
    assert {name.split(".")[1] for name in rates["trained"]} == {"encoder"}
    assert rates["random"] == {}
    assert "pretrained parameters at 0.25 of it" in part_seg.protocol(quick(encoder_lr_scale=0.25))


@pytest.mark.parametrize("seed", range(2))
def test_the_community_protocol_never_scores_below_the_honest_one(given: Encoded, seed: int):
    metrics = part_seg.evaluate(given, quick(8), seed).values
    assert metrics["instance_miou_community"] >= max(metrics["instance_miou"], metrics["instance_miou_last"])


def test_test_labels_change_no_prediction(tmp_path: Path):
    """Neither the weights nor the chosen epoch know the test labels."""
    arrays, other = toys(), toys()
    other["part"][48:] = other["part"][48:] // 2 * 2 + 1 - other["part"][48:] % 2
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    one = part_seg.evaluate(written(tmp_path / "a", arrays), quick(12), seed=0)
    two = part_seg.evaluate(written(tmp_path / "b", other), quick(12), seed=0)
    kept = [store.load_state(tmp_path / name / "state" / "honest.pt")["predicted"] for name in ("a", "b")]
    assert torch.equal(*kept)
    assert one.values["held_out_instance_miou"] == two.values["held_out_instance_miou"]


def test_a_frozen_encoder_trains_only_the_head(given: Encoded):
    frozen = part_seg.evaluate(given, quick(16, freeze=True), seed=0).values
    assert frozen["instance_miou"] > frozen["majority_instance_miou"] + 0.2


def test_details_are_what_tables_and_pictures_need(result: Result):
    details = result.details
    assert details.examples[0].parts == {0: "cube/low", 1: "cube/high"}
    assert set(details.per_class) == {"cube", "rod", "plate"}
    assert details.per_class["plate"].parts["plate/handle"] == 1.0
    mean = np.mean([entry.miou for entry in details.per_class.values()])
    assert result.values["class_miou"] == pytest.approx(mean)
    per_shape = details.per_shape
    assert result.values["instance_miou"] == pytest.approx(np.mean(per_shape.scores["iou"]), abs=1e-5)
    assert result.metrics["instance_miou"].per_shape == "iou"
    assert per_shape.ids == [f"toy-{i}" for i in range(48, 66)]
    example = details.examples[0]
    assert np.shape(example.points) == (64, 3)
    assert len(example.truth) == len(example.predicted) == 64
    assert example.points[0] == tuple(round(value, 3) for value in example.points[0])


def test_only_the_schemes_points_are_segmented(tmp_path: Path):
    arrays = toys()
    double = {name: np.concatenate([arrays[name], arrays[name][:, ::-1]], 1) for name in ("points", "part")}
    found = part_labels.load(*written(tmp_path, arrays | double)[1:3])
    assert found.arrays.points.shape == (66, 64, 3)
    assert (found.part == arrays["part"]).all()


def test_shapes_without_part_labels_are_left_out_and_said(tmp_path: Path):
    arrays = toys()
    arrays["part"][[0, 1, 50]] = -1
    given = written(tmp_path, arrays)
    found = part_labels.load(given.canonical, given.patches)
    assert (len(found.part), found.unlabelled) == (63, 3)
    assert "toy-50" not in found.id
    result = part_seg.evaluate(given, quick(5), seed=0)
    assert "3 shapes without part labels are left out" in result.notes


def test_every_class_keeps_a_shape_to_train_on(tmp_path: Path):
    arrays = toys()
    kept = [i for i in range(66) if i >= 48 or arrays["label"][i] != 1 or i == 1]  # a single rod in train
    given = written(tmp_path, {name: np.asarray(array)[kept] for name, array in arrays.items()})
    data = part_labels.load(given.canonical, given.patches)
    for seed in range(10):
        held = part_seg._held_out(data, 0.5, seed)
        assert set(data.category[~data.test & ~held]) == {0, 1, 2}
        assert not (held & data.test).any()
    train = data.category[~data.test]
    expected = holdout(train, 0.5, 1) & (train != 1)
    assert (part_seg._held_out(data, 0.5, 1)[~data.test] == expected).all()


# ---- problems


def refused(folder: Path, match: str, arrays: dict[str, Any], **about: Any) -> None:
    given = written(folder, arrays, **about)
    with pytest.raises(Problem, match=match):
        part_seg.evaluate(given, quick(), seed=0)
    assert not given.state.exists()  # no work was done


def test_a_data_set_without_part_labels_is_a_problem(tmp_path: Path):
    arrays = toys()
    del arrays["part"]
    refused(tmp_path, "has no part labels", arrays, parts=[])


def test_a_data_set_whose_parts_are_all_missing_is_a_problem(tmp_path: Path):
    arrays = toys()
    arrays["part"][:] = -1
    refused(tmp_path, "has no part labels\n.*none of their points", arrays)


def test_a_class_that_train_does_not_have_is_a_problem(tmp_path: Path):
    arrays = toys()
    arrays["label"][:48] = arrays["label"][:48] % 2
    arrays["part"][:48] = 2 * arrays["label"][:48, None] + arrays["part"][:48] % 2
    refused(tmp_path, "class 'plate' is in test only", arrays)


def test_a_shape_without_a_class_is_a_problem(tmp_path: Path):
    arrays = toys()
    arrays["label"][60] = -1
    refused(tmp_path, "1 of 18 test shapes with part labels have no class", arrays)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_split_without_shapes_is_a_problem(tmp_path: Path, split: str):
    other = "test" if split == "train" else "train"
    refused(tmp_path, f"no {split} shapes with part labels", toys() | {"split": [other] * 66})


def test_features_without_tokens_at_three_depths_are_a_problem(given: Encoded):
    pretrained.save(given.encoder, {"context": build(handcrafted.Config())}, SCHEME, {})
    with pytest.raises(Problem, match="'handcrafted': its features are computed, not learned"):
        part_seg.evaluate(given, quick(), seed=0)


def test_a_training_of_no_steps_is_refused_by_its_config():
    with pytest.raises(ValueError, match="at least 1"):
        Config(fit=Fit(steps=0))


# ---- leaked shapes


def leaky() -> dict[str, Any]:
    arrays = toys()
    ids = [f"train/0{i % 3}/{i}" for i in range(48)] + [f"test/0{i % 3}/{i}" for i in range(48, 66)]
    ids[48], ids[50] = "test/00/0", "test/02/5"  # 00/0 and 02/5 are train shapes as well
    ids[49] = "test/01/0"  # the token of another category
    return arrays | {"id": ids}


def test_leaked_shapes_are_left_out_of_a_second_figure(tmp_path: Path):
    given = written(tmp_path, leaky(), config={"kind": "shapenetpart"})
    data = part_labels.load(given.canonical, given.patches)
    assert data.id[part_labels.leaked(data)].tolist() == ["train/00/0", "train/02/5", "test/00/0", "test/02/5"]
    result = part_seg.evaluate(given, quick(8), seed=0)
    ious = dict(zip(result.details.per_shape.ids, result.details.per_shape.scores["iou"], strict=True))
    clean = [iou for name, iou in ious.items() if name not in ("test/00/0", "test/02/5")]
    assert result.values["instance_miou_without_leaked"] == pytest.approx(np.mean(clean), abs=1e-5)
    assert {"class_miou_without_leaked_last", "instance_miou_without_leaked_community"} <= set(result.values)
    assert "2 of 18 test shapes are train shapes too" in result.notes[0]


def test_other_data_sets_have_no_leaked_shapes(tmp_path: Path):
    given = written(tmp_path, leaky())
    assert not part_labels.leaked(part_labels.load(given.canonical, given.patches)).any()
    assert not any("leaked" in name for name in part_seg.evaluate(given, quick(5), seed=0).values)


def test_leaked_shapes_are_those_that_the_data_sets_audit_finds():
    root = Path(os.environ.get("JEPA3D_REAL_DATA", "")) / "shapenetpart_sample"
    if not (root / "train_test_split").is_dir():
        pytest.skip("JEPA3D_REAL_DATA has no shapenetpart_sample")
    settings = shapenetpart.Config(root=str(root))
    items = shapenetpart.items(shapenetpart.locate(root, settings), settings)
    ids, test = np.array([item.id for item in items]), np.array([item.split == "test" for item in items])
    data = part_labels.Labelled(np.empty(0), np.empty(0), test, ids, (), (), (), "shapenetpart", 0)
    found = {name.removeprefix("test/") for name in ids[part_labels.leaked(data) & test]}
    assert found == set(shapenetpart.audit(root, settings)["leaked_test_shapes"]) != set()


# ---- the protocol's line


def test_the_protocol_says_what_was_done():
    line = part_seg.protocol(Config())
    done = ["end to end", "three depths (concat)", "all points and all parts", "AdamW 0.0002", "300 epochs"]
    done += ["one optimiser step a batch", "scale 0.8 to 1.25, shift 0.1", "held-out 10%", "_community"]
    assert [words for words in done if words not in line] == []
    short = part_seg.protocol(quick(freeze=True, points=16, compete="category"))
    assert "frozen encoder" in short
    assert "loss over 16 points a shape and the parts of the category" in short


def test_the_seed_decides_everything(given: Encoded):
    one, two, other = (
        part_seg.evaluate(given._replace(state=given.state / str(number)), quick(4), seed)
        for number, seed in enumerate((5, 5, 6))
    )
    assert (one.values, one.details) == (two.values, two.details)
    assert one.details.curve != other.details.curve
