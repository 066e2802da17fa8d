"""The recipes: every draw of every class is a whole object with the parts that its class names."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from jepa3d.datasets._shared.catalogue import RECIPES, Draw
from jepa3d.ops.primitives import areas, join

DRAWS = 30


@cache
def objects(name):
    return [RECIPES[name].build(Draw(np.random.default_rng(seed))) for seed in range(DRAWS)]


def test_there_are_at_least_sixteen_classes_with_two_to_six_parts_each():
    assert len(RECIPES) >= 16
    assert all(2 <= len(recipe.parts) <= 6 for recipe in RECIPES.values())
    assert all(len(set(recipe.parts)) == len(recipe.parts) for recipe in RECIPES.values())


@pytest.mark.parametrize("name", RECIPES)
def test_the_pieces_of_a_class_are_its_named_parts_and_every_part_occurs(name):
    found = [{part for part, _ in pieces} for pieces in objects(name)]
    assert set.union(*found) == set(RECIPES[name].parts)
    assert all(len(parts) >= 2 for parts in found)


@pytest.mark.parametrize("name", RECIPES)
def test_every_surface_is_finite_and_every_piece_has_an_area(name):
    for pieces in objects(name):
        for part, mesh in pieces:
            assert np.isfinite(mesh.vertices).all(), part
            assert areas(mesh)[0].sum() > 0, part
            assert mesh.faces.max() < len(mesh.vertices)


@pytest.mark.parametrize("name", RECIPES)
def test_the_proportions_of_a_class_vary_widely(name):
    boxes = []
    for pieces in objects(name):
        vertices = join([mesh for _, mesh in pieces]).vertices
        boxes.append(vertices.max(0) - vertices.min(0))
    aspect = np.array([size.max() / np.median(size) for size in boxes])
    assert np.quantile(aspect, 0.9) > 1.15 * np.quantile(aspect, 0.1)


def test_a_draw_repeats_itself_from_the_same_seed():
    first, second = (RECIPES["chair"].build(Draw(np.random.default_rng(5))) for _ in range(2))
    assert all(np.array_equal(a.vertices, b.vertices) for (_, a), (_, b) in zip(first, second, strict=True))


def test_draws_stay_within_their_bounds():
    draw = Draw(np.random.default_rng(0))
    assert all(1 <= draw(1, 2) <= 2 for _ in range(100))
    assert all(1 <= draw.log(1, 8) <= 8 for _ in range(100))
    assert {draw.whole(2, 4) for _ in range(100)} == {2, 3, 4}
    assert np.median([draw.log(1, 100) for _ in range(2000)]) == pytest.approx(10, rel=0.15)
