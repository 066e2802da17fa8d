"""The embedded data set: deterministic, balanced, one object behind three difficulties."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from jepa3d import datasets
from jepa3d.datasets import procedural
from jepa3d.datasets.procedural import BACKGROUND, CLASSES, PARTS, Config, Sensor, Variation, make, observe, the_object
from jepa3d.ops.primitives import sample
from jepa3d.params.validation import plugin_config
from jepa3d.problem import Problem

RAW = Path("nowhere")
DIFFICULTIES = ("clean", "scan", "scan_bg")
SMALL = {"train": 60, "test": 40, "points": 128}
QUIET = Sensor(noise=0.0)


def shapes(**settings):
    return list(procedural.read(RAW, Config(**{**SMALL, **settings})))


def distances(points, surface):
    """From every point to the nearest one of a dense sample of a surface, [P]."""
    return np.sqrt(((points[:, None] - surface[None]) ** 2).sum(-1)).min(1)


def dense(given, count=6000):
    return sample(given.mesh, given.part, count, np.random.default_rng(0)).points


def test_one_or_two_workers_make_the_same_shapes(monkeypatch):
    few = {"train": 24, "test": 20, "points": 64, "difficulty": "scan_bg"}
    monkeypatch.setenv("JEPA3D_THREADS", "1")
    alone = shapes(**few)
    monkeypatch.setenv("JEPA3D_THREADS", "2")
    together = shapes(**few)
    assert [(*shape[3:], shape.label) for shape in alone] == [(*shape[3:], shape.label) for shape in together]
    for one, other in zip(alone, together, strict=True):
        assert np.array_equal(one.points, other.points)
        assert np.array_equal(one.part, other.part)


def test_another_seed_makes_other_shapes():
    first, second = (make((Config(seed=seed), "train", 0)) for seed in (0, 1))
    assert not np.allclose(first.points, second.points, atol=0.05)


def test_train_and_test_are_different_objects_of_the_same_classes():
    config = Config()
    for index in range(len(CLASSES)):
        train, test = (the_object(config, split, index) for split in ("train", "test"))
        assert train.label == test.label
        assert train.mesh.vertices.shape != test.mesh.vertices.shape or not np.allclose(
            train.mesh.vertices, test.mesh.vertices, atol=1e-3
        )


def test_a_hundred_shapes_are_enough_and_every_class_has_as_many(monkeypatch):
    monkeypatch.setenv("JEPA3D_THREADS", "1")
    made = shapes(train=80, test=20, points=64)
    assert Counter(shape.split for shape in made) == {"train": 80, "test": 20}
    assert set(Counter(shape.label for shape in made if shape.split == "train").values()) == {4}
    assert set(Counter(shape.label for shape in made if shape.split == "test").values()) == {1}
    assert len({shape.id for shape in made}) == 100


def test_the_number_of_shapes_is_known_beforehand(tmp_path):
    given = Config(train=30, test=20, points=64)
    assert procedural.count(tmp_path, given) == len(list(procedural.read(tmp_path, given))) == 50


def test_more_shapes_begin_with_the_same_ones():
    few, many = Config(train=60), Config(train=100_000)
    assert np.array_equal(make((few, "train", 17)).points, make((many, "train", 17)).points)


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
@pytest.mark.parametrize("points", [64, 1000, 1024])
def test_a_shape_has_its_number_of_points_in_the_unit_sphere_centred(difficulty, points):
    for index in range(len(CLASSES)):
        shape = make((Config(difficulty=difficulty, points=points), "train", index))
        assert shape.points.shape == (points, 3)
        assert shape.points.dtype == np.float32
        assert shape.part.shape == (points,)
        assert shape.part.dtype == np.int16
        assert np.isfinite(shape.points).all()
        radius = np.linalg.norm(shape.points, axis=1).max()
        assert 1 - 1e-4 < radius <= 1
        assert np.abs(shape.points.mean(0)).max() < 1e-5


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_parts_belong_to_the_class_or_to_the_background(difficulty):
    config = Config(difficulty=difficulty, **SMALL)
    names = procedural.parts(RAW, config)
    for index in range(20):
        shape = make((config, "train", index))
        owners = {names[part].split("/")[0] for part in shape.part}
        extra = {"background"} if difficulty == "scan_bg" else set()
        assert owners == {CLASSES[shape.label]} | extra


def test_parts_are_named_by_class_and_the_background_comes_last():
    assert procedural.parts(RAW, Config()) == PARTS
    assert procedural.parts(RAW, Config(difficulty="scan_bg")) == (*PARTS, "background")
    assert "chair/leg" in PARTS
    assert procedural.classes(RAW, Config()) == CLASSES


def test_the_object_does_not_depend_on_the_difficulty_the_sensor_or_the_number_of_points():
    plain = the_object(Config(), "train", 3)
    for other in (
        Config(difficulty="scan", sensor=Sensor(noise=0.1)),
        Config(difficulty="scan_bg", points=64),
        Config(train=20, test=20),
    ):
        again = the_object(other, "train", 3)
        assert np.array_equal(plain.mesh.vertices, again.mesh.vertices)
        assert np.array_equal(plain.part, again.part)


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
@pytest.mark.parametrize("index", range(0, 20, 3))
def test_without_noise_every_point_of_the_object_lies_on_the_same_surface(difficulty, index):
    config = Config(difficulty=difficulty, sensor=QUIET, points=256)
    cloud = observe(config, "train", index)
    own = cloud.points[cloud.part != BACKGROUND]
    assert distances(own, dense(the_object(config, "train", index))).max() < 0.1


def test_a_scan_shows_one_side_and_a_clean_shape_all_of_them():
    def hidden_share(difficulty, index):
        """How much of the object's surface is farther than 0.1 from every point of the cloud."""
        config = Config(difficulty=difficulty, sensor=QUIET)
        cloud = observe(config, "train", index)
        return np.mean(distances(dense(the_object(config, "train", index), 300), cloud.points) > 0.1)

    bulky = [CLASSES.index(name) + 20 * k for name in ("mug", "bottle", "teapot", "sofa", "car") for k in range(2)]
    assert max(hidden_share("clean", index) for index in bulky) < 0.1
    assert np.mean([hidden_share("scan", index) for index in bulky]) > 0.35


def test_a_scan_is_unevenly_dense_and_a_clean_shape_is_even():
    def spread(difficulty, **settings):
        """Coefficient of variation of the distance to the eighth neighbour, averaged over the classes."""
        values = []
        for index in range(0, len(CLASSES), 2):
            points = make((Config(difficulty=difficulty, points=400, **settings), "train", index)).points
            eighth = np.sort(np.linalg.norm(points[:, None] - points[None], axis=-1), axis=1)[:, 8]
            values.append(eighth.std() / eighth.mean())
        return np.mean(values)

    assert spread("scan", sensor=QUIET) > 1.15 * spread("clean")


def test_noise_moves_the_points_of_a_scan_by_its_standard_deviation():
    quiet, noisy = (
        observe(Config(difficulty="scan", sensor=Sensor(noise=noise)), "train", 6).points for noise in (0.0, 0.05)
    )
    assert (noisy - quiet).std() == pytest.approx(0.05, rel=0.1)


def test_the_background_takes_between_a_fifth_and_two_fifths_of_the_points():
    config = Config(difficulty="scan_bg", points=200)
    shares = [np.mean(make((config, "train", index)).part == BACKGROUND) for index in range(30)]
    assert min(shares) >= 0.2
    assert max(shares) <= 0.4
    assert max(shares) - min(shares) > 0.1


def test_no_background_is_asked_for_with_a_share_of_nothing():
    config = Config(difficulty="scan_bg", clutter=procedural.Clutter(share=(0.0, 0.0)))
    assert not (make((config, "train", 0)).part == BACKGROUND).any()


def test_the_background_does_not_float_below_the_floor_that_the_object_stands_on():
    config = Config(difficulty="scan_bg", sensor=QUIET)
    for index in range(20):
        cloud = observe(config, "train", index)
        floor = the_object(config, "train", index).mesh.vertices[:, 1].min()
        assert cloud.points[cloud.part == BACKGROUND, 1].min() > floor - 0.3


def test_the_first_points_are_a_fair_sample_of_all():
    cloud = observe(Config(points=4000), "train", 0)
    first, rest = cloud.part[:1000], cloud.part[1000:]
    for part in set(rest.tolist()):
        assert np.mean(first == part) == pytest.approx(np.mean(rest == part), abs=0.05)


def test_without_variation_an_object_stands_as_its_recipe_has_it():
    still = Variation(bend=0, twist=0, taper=0, stretch=0, upright=False)
    given = the_object(Config(variation=still), "train", 4)  # a shelf: its boards are level
    boards = given.mesh.vertices[np.unique(given.mesh.faces[given.part == procedural.PART["shelf/board"]])]
    size = given.mesh.vertices.max(0) - given.mesh.vertices.min(0)
    assert len(np.unique(boards[:, 1].round(6))) < 40
    assert np.linalg.norm(given.mesh.vertices, axis=1).max() == pytest.approx(1)
    varied = the_object(Config(), "train", 4).mesh.vertices
    assert not np.allclose(varied.max(0) - varied.min(0), size, atol=0.02)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"train": 19}, "train"),
        ({"test": 3}, "test"),
        ({"points": 63}, "points"),
        ({"root": "somewhere"}, "root"),
        ({"difficulty": "hard"}, "difficulty"),
        ({"clutter": {"share": [0.5, 0.2]}}, "share"),
        ({"sensor": {"distance": [0.5, 2.0]}}, "distance"),
        ({"sensor": {"elevation": [50.0, 95.0]}}, "elevation"),
        ({"variation": {"bend": 3.0}}, "bend"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_setting_that_makes_no_sense_is_a_problem_that_names_it(settings, word):
    with pytest.raises(Problem, match=word):
        plugin_config(datasets, {"kind": "procedural", **settings}, "entry", "params.yaml")


def test_the_configuration_cannot_be_changed_afterwards():
    with pytest.raises(ValidationError):
        Config().seed = 3


def test_forging_leaves_an_empty_raw_folder(tmp_path):
    procedural.forge(tmp_path / "raw")
    assert list((tmp_path / "raw").iterdir()) == []
