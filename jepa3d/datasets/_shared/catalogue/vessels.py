"""Mugs, bottles, vases, teapots. Their heights are about 1."""

from __future__ import annotations

import numpy as np

from jepa3d.datasets._shared.catalogue.draw import Draw, Pieces, Recipe
from jepa3d.ops.primitives import Mesh, ball, cylinder, lathe, tube


def ear(draw: Draw, inner: float, low: float, high: float, reach: float, thick: float) -> Mesh:
    """A handle in the x-y plane, from height `low` to `high` at x = inner, and `reach` out."""
    a = np.linspace(-np.pi / 2, np.pi / 2, 9)
    bulge = np.sign(np.cos(a)) * np.abs(np.cos(a)) ** draw(0.4, 1.2)
    path = np.stack([inner + reach * bulge, (low + high) / 2 + (high - low) / 2 * np.sin(a), 0 * a], 1)
    return tube(path, thick, flat=draw(0.8, 1.6))


def mug(draw: Draw) -> Pieces:
    height, low, high = draw.log(0.45, 1.5), draw.log(0.28, 0.55), draw.log(0.3, 0.6)
    wall, belly = draw(0.03, 0.07), draw(-0.05, 0.14)
    t = np.linspace(0, 1, 6)
    outer = np.stack([low + (high - low) * t + belly * np.sin(np.pi * t), height * t], 1)
    inner = np.stack([outer[::-1, 0] - wall, np.maximum(outer[::-1, 1], 0.08)], 1)
    pieces = [("body", lathe([(0, 0), *outer, *inner, (0, 0.08)], 24))]
    reach, thick = draw(0.2, 0.42), draw(0.035, 0.075)
    where = min(low, high) + max(belly, 0) * 0.5 - wall / 2
    pieces.append(("handle", ear(draw, where, height * draw(0.1, 0.3), height * draw(0.7, 0.95), reach, thick)))
    return pieces


def bottle(draw: Draw) -> Pieces:
    wide, body, neck = draw.log(0.14, 0.45), draw.log(0.35, 0.9), draw.log(0.12, 0.5)
    slim, shoulder, flat = wide * draw(0.2, 0.5), draw(0.06, 0.35), draw.pick((1.0, 1.0, draw(0.45, 0.8)))
    t = np.linspace(0, 1, 7)
    ease = (1 - np.cos(np.pi * t ** draw(0.7, 1.6))) / 2
    slope = np.stack([wide + (slim - wide) * ease, body + shoulder * t], 1)
    waist = 1 - draw(0, 0.25)
    pieces = [
        ("body", lathe([(0, 0), (wide, 0.02), (wide * waist, body * draw(0.3, 0.7)), *slope], 20).scaled(1, 1, flat))
    ]
    top = body + shoulder
    pieces.append(("neck", lathe([(slim, top), (slim * draw(0.75, 1.1), top + neck)])))
    cap = slim * draw(1.1, 1.5)
    if draw.chance(0.7):
        pieces.append(("cap", cylinder(cap, draw(0.05, 0.12)).moved(0, top + neck * 0.95, 0)))
    else:
        pieces.append(("cap", cylinder(slim, draw(0.05, 0.1), slim * 1.2).moved(0, top + neck * 0.95, 0)))
    return pieces


def vase(draw: Draw) -> Pieces:
    height, belly, where = draw.log(0.45, 1.1), draw.log(0.16, 0.5), draw(0.3, 0.7)
    foot, mouth = belly * draw(0.4, 0.8), belly * draw(0.4, 1.15)
    knots = [foot, (foot + belly) / 2 * 1.08, belly, belly * draw(0.5, 0.8), mouth * 0.8, mouth]
    t = np.linspace(0, 1, 14)
    radius = np.interp(t, [0, where / 2, where, (1 + 2 * where) / 3, 0.92, 1], knots)
    radius[1:-1] = (radius[:-2] + 2 * radius[1:-1] + radius[2:]) / 4
    outer = np.stack([radius, 0.05 + (height - 0.05) * t], 1)
    inner = outer[:3:-1] * (0.9, 1)
    pieces = [("body", lathe([(0, 0.05), *outer, *inner], 24)), ("foot", cylinder(foot * draw(1, 1.5), 0.05))]
    style = draw.pick(("flowers", "flowers", "amphora", "plain"))
    if style == "amphora":
        for s in (-1, 1):
            handle = ear(draw, mouth * 0.7, height * where, height * 0.93, draw(0.7, 1.1) * belly, 0.035)
            pieces.append(("handle", handle.scaled(s, 1, 1)))
    elif style == "flowers":
        for _ in range(draw.whole(3, 6)):
            lean, angle, size = draw(0.05, 0.45), draw(0, 2 * np.pi), draw(0.05, 0.11)
            stem = draw(0.3, 0.7)
            tip = (lean * np.cos(angle), height + stem, lean * np.sin(angle))
            pieces.append(("flower", tube([(0, height * 0.5, 0), (tip[0] * 0.4, height, tip[2] * 0.4), tip], 0.012)))
            pieces.append(("flower", ball(size, size * draw(0.5, 1), size).moved(*tip)))
    return pieces


def teapot(draw: Draw) -> Pieces:
    wide, height = draw.log(0.32, 0.6), draw.log(0.4, 1.1)
    a = np.linspace(-np.pi / 2, np.pi / 2, 11)
    power, low = draw(0.4, 1.0), draw(0.5, 1.0)
    side = wide * np.cos(a) ** power * np.where(a < 0, 1, 1 - (1 - low) * np.sin(np.maximum(a, 0)))
    body = lathe(np.stack([side, height / 2 * (1 + np.sin(a))], 1), 24)
    pieces = [("body", body)]
    rim, up = wide * draw(0.3, 0.55), draw(0.04, 0.12)
    pieces.append(("lid", cylinder(rim, up, rim * 0.6).moved(0, height * 0.96, 0)))
    pieces.append(("lid", ball(0.06, 0.06, 0.06).moved(0, height * 0.96 + up + 0.03, 0)))
    out, rise, thick = draw(0.3, 0.6), draw(0.3, 0.7) * height, draw(0.06, 0.1)
    start, curve = height * draw(0.25, 0.45), draw(0.5, 0.75)
    path = [
        (wide * 0.7, start, 0),
        (wide + out * 0.4, start + rise * 0.2, 0),
        (wide + out * curve, start + rise * 0.6, 0),
    ]
    path.append((wide + out, start + rise, 0))
    pieces.append(("spout", tube(path, thick * np.array([1.6, 1.1, 0.8, 0.6]), segments=12)))
    grip, reach = draw(0.03, 0.055), draw(0.25, 0.45)
    if draw.chance(0.6):
        handle = ear(draw, wide * 0.8, height * 0.2, height * 0.85, reach, grip).scaled(-1, 1, 1)
    else:
        b = np.linspace(0, np.pi, 11)
        handle = tube(
            np.stack([wide * 0.8 * np.cos(b), height * 0.75 + (height * 0.3 + reach) * np.sin(b), 0 * b], 1), grip
        )
    pieces.append(("handle", handle))
    return pieces


RECIPES = {
    "mug": Recipe(("body", "handle"), mug),
    "bottle": Recipe(("body", "neck", "cap"), bottle),
    "vase": Recipe(("body", "foot", "handle", "flower"), vase),
    "teapot": Recipe(("body", "spout", "handle", "lid"), teapot),
}
