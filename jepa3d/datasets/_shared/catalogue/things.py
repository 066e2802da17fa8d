"""Hammers, wrenches, guitars, umbrellas: built upright along y, then stood, hung or laid down."""

from __future__ import annotations

import numpy as np

from jepa3d.datasets._shared.catalogue.draw import Draw, Pieces, Recipe
from jepa3d.ops.primitives import ball, box, cylinder, grid, lathe, plate, ring, tube


def rest(draw: Draw, pieces: Pieces) -> Pieces:
    """Stood upright, upside down, or laid down on one of two sides."""
    axis, angle = draw.pick((("x", 0.0), ("x", np.pi), ("x", np.pi / 2), ("z", np.pi / 2)))
    return [(part, mesh.turned(axis, angle)) for part, mesh in pieces]


def hammer(draw: Draw) -> Pieces:
    length, thick, flat = draw.log(0.55, 1.4), draw(0.035, 0.08), draw(0.6, 1.4)
    t = np.linspace(0, 1, 8)
    girth = thick * (1 + draw(-0.2, 0.35) * np.sin(2.2 * np.pi * t) * (1 - t))
    pieces = [("handle", lathe([(0, 0), *np.stack([girth, length * t], 1), (0, length)], 14).scaled(1, 1, flat))]
    if draw.chance(0.5):
        pieces.append(("handle", lathe([(thick * 1.2, 0.02), (thick * 1.35, length * 0.35)]).scaled(1, 1, flat)))
    head, tall = draw.log(0.14, 0.4), draw(0.07, 0.16)
    style = draw.pick(("mallet", "sledge", "claw", "claw", "pick"))
    if style == "mallet":
        pieces.append(("head", cylinder(tall, 2 * head).moved(0, -head, 0).turned("z", np.pi / 2).moved(0, length, 0)))
    elif style == "sledge":
        pieces.append(("head", box(2 * head, tall * 1.6, tall * 1.5).moved(0, length, 0)))
    else:
        pieces.append(("head", box(head, tall, tall).moved(0, length, 0)))
        face = cylinder(tall * 0.75, head * 0.5).turned("z", -np.pi / 2)
        pieces.append(("head", face.moved(head * 0.5, length, 0)))
        a, reach = np.linspace(0, 1, 7), draw(0.7, 1.3) * head
        line = np.stack([-head * 0.4 - reach * a, length + tall * 0.2 - draw(0.2, 0.6) * reach * a**2], 1)
        if style == "claw":
            taper = tall * (0.4 - 0.3 * a)
            for s in (-1, 1):
                prong = plate(line + np.stack([0 * a, taper], 1), line - np.stack([0 * a, taper], 1), tall * 0.4)
                pieces.append(("peen", prong.moved(0, 0, s * tall * 0.35)))
        else:
            path = np.concatenate([line, 0 * line[:, :1]], 1)
            pieces.append(("peen", tube(path, tall * (0.5 - 0.42 * a))))
    return rest(draw, pieces)


def wrench(draw: Draw) -> Pieces:
    length, wide, thick = draw.log(0.55, 1.5), draw(0.045, 0.1), draw(0.035, 0.08)
    waist = draw(0.6, 1.0)
    edge = np.array([(wide, 0), (wide * waist, length / 2), (wide, length)])
    pieces = [("shaft", plate(edge, edge * (-1, 1), thick))]

    def jaw(size: float, turn: float) -> Pieces:
        a = np.linspace(0.45, 2 * np.pi - 0.45, 15) + np.pi / 2
        inner, outer = size * draw(0.4, 0.55), size * (1 - 0.15 * np.cos(3 * a))
        spread = np.stack([np.cos(a), np.sin(a)], 1)
        spoon = plate(spread * outer[:, None], spread * inner, thick * 1.5)
        return [("jaw", spoon.turned("z", turn).moved(0, size * 0.85, 0))]

    def eye(size: float) -> Pieces:
        loop = ring(size * 0.75, size * 0.27, width=thick / size * 2.6).turned("x", np.pi / 2)
        return [("ring", loop.moved(0, size * 0.85, 0))]

    first, second = draw(0.13, 0.26), draw(0.12, 0.24)
    pieces += [(part, mesh.moved(0, length, 0)) for part, mesh in jaw(first, draw(-0.35, 0.35))]
    other = draw.pick(("ring", "ring", "jaw", "hole"))
    end = eye(second) if other == "ring" else jaw(second, draw(-0.35, 0.35)) if other == "jaw" else eye(wide * 1.1)
    pieces += [(part, mesh.scaled(1, -1, 1)) for part, mesh in end]
    return rest(draw, pieces)


def guitar(draw: Draw) -> Pieces:
    body, wide, deep = draw(0.75, 1.15), draw.log(0.27, 0.48), draw.log(0.06, 0.24)
    neck, slim, waist = draw.log(0.5, 1.2), draw(0.035, 0.06), draw(0.55, 0.8)
    t = np.linspace(0, 1, 15)
    upper = draw(0.65, 0.9)
    outline = np.interp(t, [0, 0.25, 0.55, 0.8, 1], [0.55, 1.0, waist, upper, 0.35]) * np.sqrt(
        np.sin(np.pi * (0.04 + 0.92 * t))
    )
    outline = wide * np.convolve(np.pad(outline, 1, mode="edge"), (0.25, 0.5, 0.25), "valid")
    left, right = np.stack([-outline, body * t], 1), np.stack([outline, body * t], 1)
    if draw.chance(0.35):  # the horns of an electric guitar
        left[11:13, 1] += 0.14
        right[11:13, 1] += 0.1
        deep = min(deep, 0.1)
    pieces = [
        ("body", plate(left, right, deep)),
        ("neck", box(2 * slim, neck + 0.2, 0.05).moved(0, body + neck / 2 - 0.1, deep / 2)),
    ]
    peg, flare = draw(0.14, 0.26), draw(1.2, 2.0)
    angle = draw(0.0, 0.35)
    board = plate([(-slim, 0), (-slim * flare, peg)], [(slim, 0), (slim * flare, peg)], 0.04)
    head = [board]
    for y in np.linspace(0.2, 0.85, 3) * peg:
        head += [box(0.07, 0.03, 0.03).moved(s * (slim * flare + 0.02), y, 0) for s in (-1, 1)]
    pieces += [("head", mesh.turned("x", -angle).moved(0, body + neck, deep / 2)) for mesh in head]
    pieces.append(("bridge", box(wide * 0.6, 0.05, 0.04).moved(0, body * 0.25, deep / 2 + 0.02)))
    if draw.chance(0.6):
        pieces.append(("bridge", ring(wide * 0.3, 0.015).turned("x", np.pi / 2).moved(0, body * 0.58, deep / 2)))
    return rest(draw, pieces)


def umbrella(draw: Draw) -> Pieces:
    radius, dome, length = draw.log(0.45, 0.9), draw(0.35, 1.25), draw.log(0.6, 1.4)
    ribs, dip = draw.whole(6, 10), draw(0.0, 0.18)
    polar, around = np.meshgrid(np.linspace(0, dome, 8), np.linspace(0, 2 * np.pi, 49), indexing="ij")
    edge = 1 - dip * np.abs(np.sin(around * ribs / 2)) * (polar / dome) ** 2
    out, up = np.sin(polar) / np.sin(min(dome, 1.57)), (np.cos(polar) - 1) / np.sin(min(dome, 1.57))
    sheet = np.stack([out * np.cos(around), up, out * np.sin(around)], -1) * (radius * edge)[..., None]
    pieces = [("canopy", grid(sheet).moved(0, length, 0))]
    slim = draw(0.018, 0.035)
    pieces.append(("shaft", cylinder(slim, length + draw(0.03, 0.12))))
    if draw.chance(0.65):
        a, hook = np.linspace(0, -np.pi * draw(0.8, 1.1), 9), draw(0.07, 0.14)
        crook = np.stack([hook - hook * np.cos(a), hook * np.sin(a), 0 * a], 1)
        pieces.append(("handle", tube(crook, slim * 1.6)))
    else:
        pieces.append(("handle", cylinder(slim * 2.2, draw(0.12, 0.22)).moved(0, -0.05, 0)))
        pieces.append(("handle", ball(slim * 2.4, slim * 2.4, slim * 2.4).moved(0, -0.05, 0)))
    for a in 2 * np.pi * np.arange(ribs) / ribs:
        tip = radius * 0.55
        low = -radius * 0.3 * dome
        pieces.append(
            ("shaft", tube([(0, length * 0.72, 0), (tip * np.cos(a), length + low, tip * np.sin(a))], 0.01, segments=4))
        )
    return rest(draw, pieces)


RECIPES = {
    "hammer": Recipe(("handle", "head", "peen"), hammer),
    "wrench": Recipe(("shaft", "jaw", "ring"), wrench),
    "guitar": Recipe(("body", "neck", "head", "bridge"), guitar),
    "umbrella": Recipe(("canopy", "shaft", "handle"), umbrella),
}
