"""Shapes by programs: a union is a union, a cut is a cut, and every shape is a function of its number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jepa3d.datasets import programs
from jepa3d.datasets._shared import programs as grammar
from jepa3d.datasets._shared.catalogue.draw import Draw
from jepa3d.ops import solids

SETTINGS = programs.Config(train=30, points=256)


def draw_of(seed: int) -> Draw:
    return Draw(np.random.Generator(np.random.SFC64(seed)))


def two_balls() -> grammar.Body:
    ball = solids.superquadric(1.0, 1.0)
    return [grammar.Piece(ball, 0), grammar.Piece(ball.moved(np.array([1.0, 0, 0])), 1)]


def test_no_point_of_a_union_lies_inside_a_part():
    surface = grammar.samples(two_balls(), 2000, np.random.default_rng(0))
    first, second = (np.linalg.norm(surface.points - (x, 0, 0), axis=1) for x in (0, 1))
    assert (np.minimum(first, second) > 0.97).all()  # facets lie a little below the sphere
    assert set(surface.label) == {0, 1}
    # two caps of height 1.5 of unit spheres: half of the points on each
    assert (surface.label == 0).mean() == pytest.approx(0.5, abs=0.05)


def test_a_cut_removes_what_is_beyond_it_and_closes_the_body():
    ball = grammar.Piece(solids.superquadric(1.0, 1.0), 0, (solids.half_space("y", 0.0, True),))
    whole = [grammar.Piece(solids.superquadric(1.0, 1.0), 0)]
    face = grammar.Piece(solids.sheet(np.zeros((4, 4))), 1, (), lambda points: grammar.inside_any(whole, points))
    surface = grammar.samples([ball, face], 3000, np.random.default_rng(0))
    assert surface.points[:, 1].max() <= 1e-9
    on_face = surface.label == 1
    assert np.linalg.norm(surface.points[on_face], axis=1).max() < 1.0
    assert on_face.mean() == pytest.approx(1 / 3, abs=0.04)  # a disc beside half a sphere: pi against 2 pi


@pytest.mark.parametrize("seed", range(12))
def test_every_part_of_a_program_touches_another(seed: int):
    body = grammar.program(draw_of(seed), 2, 4)
    surface = grammar.samples(body, 4000, np.random.default_rng(seed))
    points = surface.points
    reached = np.zeros(len(points), bool)
    reached[0] = True
    edge = np.array([0])
    while len(edge):  # how far one gets from point to near point
        near = np.linalg.norm(points[:, None] - points[None, edge[:200]], axis=2).min(1) < 0.3
        edge = np.concatenate([edge[200:], np.flatnonzero(near & ~reached)])
        reached |= near
    assert reached.mean() > 0.95


def test_a_shape_depends_on_its_number_and_the_seed_alone():
    one = programs.make((SETTINGS, "train", 7))
    more = programs.make((SETTINGS.model_copy(update={"train": 5000}), "train", 7))
    assert np.array_equal(one.points, more.points)
    assert np.array_equal(one.part, more.part)
    other = programs.make((SETTINGS.model_copy(update={"seed": 1}), "train", 7))
    assert not np.array_equal(one.points, other.points)
    assert not np.array_equal(one.points, programs.make((SETTINGS, "test", 7)).points)


def test_shapes_are_finite_fill_the_unit_sphere_and_have_kinds_as_parts(tmp_path: Path):
    shapes = list(programs.read(tmp_path, SETTINGS))
    assert len({shape.id for shape in shapes}) == 30
    for shape in shapes:
        assert shape.points.shape == (256, 3)
        assert np.isfinite(shape.points).all()
        assert np.linalg.norm(shape.points, axis=1).max() == pytest.approx(1, abs=1e-4)
        assert 0 <= shape.part.min() <= shape.part.max() < len(grammar.KINDS)
        assert shape.label == -1
    used = set(np.concatenate([shape.part for shape in shapes]).tolist())
    assert len(used) >= 7


def test_a_scan_shows_one_side():
    whole = [grammar.Piece(solids.superquadric(1.0, 1.0), 0)]
    surface = grammar.samples(whole, 4000, np.random.default_rng(0))
    config = programs.Config(train=1, points=1000, noise=0.0)
    seen = programs.seen(surface, config, draw_of(3))
    middle = seen.points.mean(0)
    assert np.linalg.norm(middle) > 0.3  # of half a sphere: 1/2; of a whole one: 0
    assert (seen.points @ (middle / np.linalg.norm(middle)) > -0.3).mean() > 0.95


def test_a_root_is_refused():
    with pytest.raises(ValueError, match="made, not read"):
        programs.Config(root="somewhere")
