"""Chairs, tables, beds, sofas, shelves, lamps. Metres."""

from __future__ import annotations

import numpy as np

from jepa3d.datasets._shared.catalogue.draw import Draw, Pieces, Recipe
from jepa3d.ops.primitives import Mesh, ball, box, cylinder, lathe, ring, tube


def legs(draw: Draw, x: float, z: float, height: float, thick: float) -> list[Mesh]:
    """What carries a rectangle 2x by 2z at this height: four legs, two frames, or a column with feet."""
    style = draw.pick(("square", "round", "splayed", "frames", "column"))
    corners = [(-x, -z), (-x, z), (x, -z), (x, z)]
    if style == "square":
        return [box(thick, height, thick).moved(a, height / 2, b) for a, b in corners]
    if style == "round":
        return [cylinder(thick * draw(0.3, 0.6), height, thick * 0.6).moved(a, 0, b) for a, b in corners]
    if style == "splayed":
        out = draw(1.1, 1.4)
        return [tube([(a * out, 0, b * out), (a * 0.8, height, b * 0.8)], thick / 2) for a, b in corners]
    if style == "frames":
        return [
            tube([(-x, height, b), (-x, thick / 2, b), (x, thick / 2, b), (x, height, b)], thick / 2) for b in (-z, z)
        ]
    feet, reach = draw.whole(3, 5), draw(0.8, 1.1) * min(x, z)
    star = [
        tube([(0, thick, 0), (reach * np.cos(a), thick / 2, reach * np.sin(a))], thick / 2)
        for a in 2 * np.pi * np.arange(feet) / feet
    ]
    return (
        [cylinder(thick * 0.7, height), *star]
        if draw.chance(0.6)
        else [
            cylinder(thick * 0.7, height),
            cylinder(reach, thick / 2, reach * 0.8),
        ]
    )


def chair(draw: Draw) -> Pieces:
    width, depth, height = draw.log(0.34, 0.75), draw.log(0.34, 0.65), draw.log(0.25, 0.85)
    back, thick = draw.log(0.22, 0.85), draw(0.03, 0.1)
    leg, lean = draw(0.03, 0.07), draw(0.0, 0.35)
    seat = box(depth, thick, width) if draw.chance(0.65) else cylinder(0.5, thick).scaled(depth, 1, width)
    pieces = [("seat", seat.moved(0, height, 0))]
    pieces += [("leg", mesh) for mesh in legs(draw, depth / 2 - leg, width / 2 - leg, height, leg)]
    style, slim = draw.pick(("panel", "slats", "ladder", "hoop")), draw(0.02, 0.05)
    if style == "panel":
        gap = draw(0.0, 0.3) * back
        rest = [box(slim, back - gap, width * draw(0.7, 1)).moved(0, (back + gap) / 2, 0)]
        rest += [box(slim, back, slim).moved(0, back / 2, s * width * 0.3) for s in (-1, 1)]
    elif style == "slats":
        rest = [
            box(slim, back, slim).moved(0, back / 2, z) for z in np.linspace(-1, 1, draw.whole(4, 7)) * width * 0.46
        ]
        rest.append(box(slim, slim * 2, width).moved(0, back, 0))
    elif style == "ladder":
        rest = [box(slim, back, slim).moved(0, back / 2, s * (width - slim) / 2) for s in (-1, 1)]
        rest += [box(slim, back * 0.14, width).moved(0, y * back, 0) for y in np.linspace(0.3, 0.95, draw.whole(2, 4))]
    else:
        a = np.linspace(0, np.pi, 9)
        arch = np.stack([0 * a, back * np.sin(a) ** 0.6, -width / 2 * np.cos(a)], 1)
        rest = [tube(arch, slim)]
        rest += [tube([(0, 0, z), (0, back * 0.85, z)], slim / 2) for z in (-width / 5, 0, width / 5)]
    pieces += [("back", mesh.turned("z", lean).moved(-depth / 2 + slim, height, 0)) for mesh in rest]
    if draw.chance(0.4):
        up = draw(0.15, 0.28)
        for s in (-1, 1):
            path = [(depth * 0.35, 0, 0), (depth * 0.35, up, 0), (-depth / 2, up, 0)]
            pieces.append(("arm", tube(path, slim, flat=1.3).moved(0, height, s * width / 2)))
    return pieces


def table(draw: Draw) -> Pieces:
    length, width, height = draw.log(0.45, 1.8), draw.log(0.45, 1.0), draw.log(0.3, 1.1)
    thick, leg = draw(0.03, 0.09), draw(0.04, 0.11)
    round_ = draw.chance(0.35)
    top = cylinder(0.5, thick, segments=24).scaled(length, 1, width) if round_ else box(length, thick, width)
    inset = 0.68 if round_ else 1.0
    x, z = length / 2 * inset - leg / 2, width / 2 * inset - leg / 2
    pieces = [("top", top.moved(0, height, 0))]
    if draw.chance(0.2):
        pieces += [("leg", box(leg, height, width * inset * 0.95).moved(s * x, height / 2, 0)) for s in (-1, 1)]
    else:
        pieces += [("leg", mesh) for mesh in legs(draw, x, z, height, leg)]
    extra = draw.pick(("none", "none", "board", "drawers", "apron"))
    if extra == "board":
        pieces.append(("storage", box(2 * x, thick / 2, 2 * z).moved(0, height * draw(0.15, 0.5), 0)))
    elif extra == "drawers":
        pieces.append(("storage", box(length * 0.3, height * 0.6, 2 * z).moved(x - length * 0.15, height * 0.68, 0)))
    elif extra == "apron":
        pieces.append(("storage", box(2 * x, height * 0.15, 2 * z).moved(0, height * 0.92, 0)))
    return pieces


def bed(draw: Draw) -> Pieces:
    length, width, height = draw.log(1.4, 2.3), draw.log(0.7, 2.1), draw.log(0.2, 0.6)
    soft, head, post = draw(0.12, 0.35), draw.log(0.35, 1.2), draw(0.05, 0.1)
    decks = [height, height + draw(0.8, 1.2)] if draw.chance(0.2) and width < 1.4 else [height]
    top, pieces = decks[-1], []
    for y in decks:
        pieces.append(("mattress", box(length, soft, width).moved(0, y + soft / 2, 0)))
        pieces.append(("frame", box(length * 1.03, soft * 0.4, width * 1.04).moved(0, y - soft * 0.2, 0)))
        count = 2 if width > 1.2 else 1
        for z in (np.arange(count) - (count - 1) / 2) * width / 2:
            pillow = ball(0.2, draw(0.07, 0.12), width / count * 0.38)
            pieces.append(("pillow", pillow.moved(-length / 2 + 0.28, y + soft + 0.04, z)))
    posts = head if len(decks) > 1 else draw.pick((0.0, 0.0, draw(0.9, 1.9)))  # a canopy's posts reach above
    for a in (-1, 1):
        for b in (-1, 1):
            leg = box(post, top + posts, post).moved(0, (top + posts) / 2, 0)
            pieces.append(("frame", leg.moved(a * length / 2, 0, b * width / 2)))
    if posts and len(decks) == 1:
        for b in (-1, 1):
            pieces.append(("frame", box(length, post, post).moved(0, top + posts, b * width / 2)))
            pieces.append(("frame", box(post, post, width).moved(b * length / 2, top + posts, 0)))
    board = (
        box(post, head + soft, width)
        if draw.chance(0.6)
        else cylinder(0.5, post).turned("z", np.pi / 2).scaled(1, (head + soft) * 1.5, width)
    )
    pieces.append(("headboard", board.moved(-length / 2, top + (head + soft) / 2, 0)))
    if draw.chance(0.5):
        pieces.append(("headboard", box(post, (head + soft) * 0.5, width).moved(length / 2, top + soft / 2, 0)))
    return pieces


def sofa(draw: Draw) -> Pieces:
    width, depth, height = draw.log(0.75, 2.6), draw.log(0.55, 0.95), draw(0.25, 0.5)
    back, thick, arm = draw(0.28, 0.75), draw(0.14, 0.26), draw(0.1, 0.28)
    seats, lean, foot = max(1, round(width / 0.7)), draw(0, 0.25), draw(0.03, 0.2)
    pieces = [("seat", box(depth, height - foot, width).moved(0, (height + foot) / 2, 0))]
    for z in (np.arange(seats) - (seats - 1) / 2) * width / seats:
        cushion = ball(0.5, 0.5, 0.5) if draw.chance(0.2) else box(1, 1, 1)
        puff = cushion.scaled(depth * 0.8, thick * 0.6, width / seats * 0.92)
        pieces.append(("seat", puff.moved(depth * 0.08, height + thick * 0.25, z)))
        rest = box(thick, back, width / seats * 0.94).moved(0, back / 2, 0).turned("z", lean)
        pieces.append(("back", rest.moved(-depth / 2 + thick / 2, height, z)))
    rise = draw(0.4, 0.8) * back
    round_arm = draw.chance(0.4)
    for s in (-1, 1):
        side = s * (width + arm) / 2
        pieces.append(("arm", box(depth, height + rise - foot, arm).moved(0, (height + rise + foot) / 2, side)))
        if round_arm:
            roll = cylinder(arm * 0.7, depth).turned("z", np.pi / 2).moved(depth / 2, height + rise, side)
            pieces.append(("arm", roll))
        for x in (-0.42, 0.42):
            pieces.append(("leg", cylinder(0.035, foot, 0.05).moved(x * depth, 0, s * width * 0.46)))
    if width > 1.4 and draw.chance(0.3):  # a chaise longue
        s, reach = draw.pick((-1, 1)), draw(0.5, 0.9)
        chaise = box(reach, height - foot + thick * 0.5, width / seats)
        pieces.append(("seat", chaise.moved((depth + reach) / 2, (height + foot) / 2, s * (width - width / seats) / 2)))
    return pieces


def shelf(draw: Draw) -> Pieces:
    width, height, depth = draw.log(0.4, 1.9), draw.log(0.6, 2.2), draw.log(0.2, 0.5)
    thick, boards = draw(0.02, 0.06), draw.whole(3, 7)
    levels = np.linspace(draw(0.02, 0.12), 1, boards) * height
    pieces = [("board", box(width, thick, depth).moved(0, y, 0)) for y in levels]
    if draw.chance(0.6):
        uprights = [box(thick, height, depth).moved(x * width / 2, height / 2, 0) for x in (-1, 1)]
        if draw.chance(0.35):
            uprights.append(box(thick, height, depth).moved(draw(-0.2, 0.2) * width, height / 2, 0))
    else:
        uprights = [
            cylinder(thick * 0.7, height).moved(x * width / 2, 0, z * depth / 2) for x in (-1, 1) for z in (-1, 1)
        ]
    pieces += [("upright", mesh) for mesh in uprights]
    if draw.chance(0.45):
        pieces.append(("back", box(width, height, 0.012).moved(0, height / 2, -depth / 2)))
    return pieces


def lamp(draw: Draw) -> Pieces:
    height, foot, pole = draw.log(0.35, 1.7), draw(0.09, 0.24), draw(0.012, 0.035)
    wide, tall, open_ = draw.log(0.1, 0.34), draw(0.12, 0.35), draw(0.25, 0.95)
    pieces: Pieces = []
    if draw.chance(0.6):
        pieces.append(("base", cylinder(foot, draw(0.02, 0.06), foot * draw(0.5, 1))))
    else:
        spread = foot * draw(1.0, 1.8)
        for a in 2 * np.pi * np.arange(3) / 3:
            tip = (spread * np.cos(a), 0, spread * np.sin(a))
            pieces.append(("base", tube([(0, height * 0.3, 0), tip], pole)))
    kind = draw.pick(("straight", "body", "arch", "desk"))
    tilt, x, y = 0.0, 0.0, height
    if kind == "straight":
        pieces.append(("pole", cylinder(pole, height)))
    elif kind == "body":
        a = np.linspace(0, np.pi, 7)
        belly = draw(0.06, 0.16)
        profile = np.stack([pole + belly * np.sin(a) ** draw(0.8, 2), np.linspace(0.02, 0.75, 7) * height], 1)
        pieces += [("pole", lathe(profile)), ("pole", cylinder(pole, height))]
    elif kind == "arch":
        a, reach = np.linspace(0, np.pi * draw(0.7, 0.9), 9), draw(0.2, 0.5)
        path = [(0, 0, 0), *((reach * (1 - np.cos(t)), height * (0.7 + 0.3 * np.sin(t)), 0) for t in a)]
        x, y = path[-1][0], path[-1][1]
        pieces.append(("pole", tube(path, pole)))
    else:
        elbow, x = (draw(-0.3, -0.1) * height, height * 0.65, 0), draw(0.1, 0.4) * height
        pieces += [
            ("pole", tube([(0, 0, 0), elbow, (x, height, 0)], pole)),
            ("pole", ball(0.03, 0.03, 0.03).moved(*elbow)),
        ]
        tilt = draw(0.2, 0.8)
    style = draw.pick(("cone", "cone", "dome", "drum", "globe"))
    if style == "globe":
        shade = ball(wide, wide, wide)
    elif style == "dome":
        a = np.linspace(0, np.pi / 2, 7)
        shade = lathe(np.stack([wide * np.sin(a), tall * (np.cos(a) - 0.6)], 1))
    else:
        top = wide * (open_ if style == "cone" else 1)
        shade = lathe([(0.01, tall / 2), (top, tall / 2), (wide, -tall / 2)])
    pieces.append(("shade", shade.turned("z", tilt).moved(x, y, 0)))
    if draw.chance(0.2):
        pieces.append(("base", ring(foot * 0.6, 0.015).moved(0, 0.03, 0)))
    return pieces


RECIPES = {
    "chair": Recipe(("seat", "back", "leg", "arm"), chair),
    "table": Recipe(("top", "leg", "storage"), table),
    "bed": Recipe(("mattress", "headboard", "frame", "pillow"), bed),
    "sofa": Recipe(("seat", "back", "arm", "leg"), sofa),
    "shelf": Recipe(("board", "upright", "back"), shelf),
    "lamp": Recipe(("base", "pole", "shade"), lamp),
}
