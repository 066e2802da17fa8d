"""Cars, trucks, airplanes, helicopters, boats, bicycles. x is forward; about 1 to 5 long."""

from __future__ import annotations

import numpy as np

from jepa3d.datasets._shared.catalogue.draw import Draw, Pieces, Recipe
from jepa3d.ops.primitives import Mesh, ball, box, cylinder, grid, lathe, loft, plate, ring, tube


def wheel(radius: float, width: float) -> Mesh:
    """A solid wheel about z, centred."""
    return cylinder(radius, width, segments=20).moved(0, -width / 2, 0).turned("x", np.pi / 2)


def car(draw: Draw) -> Pieces:
    length, width, height = draw.log(2.6, 5.0), draw.log(1.3, 2.1), draw(0.45, 0.85)
    clear, radius, power = draw(0.15, 0.4), draw(0.27, 0.45), draw(3, 6)
    nose, half = draw(0.55, 0.95), width / 2
    stations = [
        (-length / 2, half * 0.85, clear, clear + height * draw(0.6, 0.95)),
        (-length * 0.4, half, clear, clear + height),
        (length * 0.2, half, clear, clear + height),
        (length * 0.42, half * 0.95, clear, clear + height * nose),
        (length / 2, half * 0.8, clear, clear + height * nose * 0.8),
    ]
    top, roof = clear + height * 0.9, draw(0.4, 0.85)
    style = draw.pick(("sedan", "hatch", "van", "pickup", "open"))
    rear, front = {"sedan": (-0.36, 0.24), "hatch": (-0.49, 0.22), "van": (-0.49, 0.38), "pickup": (-0.12, 0.25)}.get(
        style, (-0.2, 0.15)
    )
    slant, slope = draw(0.05, 0.12), draw(0.12, 0.2)
    pieces = [("body", loft(stations, power))]
    if style == "open":
        pieces.append(("cabin", plate([(0, 0), (-0.25, roof * 0.6)], [(0.04, 0), (-0.2, roof * 0.6)], width * 0.8)))
        pieces[-1] = ("cabin", pieces[-1][1].moved(front * length, top, 0))
        for z in (-0.22, 0.22):
            for x in (-0.15, 0.02):
                pieces.append(
                    ("cabin", box(0.12, roof * 0.7, width * 0.3).moved(x * length, top + roof * 0.2, z * width))
                )
    else:
        cabin = [
            (rear * length, half * 0.85, top - 0.1, top + 0.02),
            ((rear + slant) * length, half * 0.78, top - 0.1, top + roof),
            ((front - slope) * length, half * 0.78, top - 0.1, top + roof),
            (front * length, half * 0.85, top - 0.1, top + 0.02),
        ]
        pieces.append(("cabin", loft(cabin, power)))
    base, tread = draw(0.28, 0.36), draw(0.18, 0.3)
    for x in (-base, base):
        for s in (-1, 1):
            pieces.append(("wheel", wheel(radius, tread).moved(x * length, radius, s * half * 0.95)))
    return pieces


def truck(draw: Draw) -> Pieces:
    width, cab, gap = draw.log(1.7, 2.6), draw(1.1, 2.2), draw(0.1, 0.6)
    load, tall, radius = draw.log(2.0, 6.5), draw.log(1.0, 2.8), draw(0.38, 0.6)
    floor, front = radius * draw(1.4, 2.0), draw(1.3, 2.3)
    start = load + gap
    pieces = [("chassis", box(start + cab, 0.2, width * 0.5).moved((start + cab) / 2, floor - 0.1, 0))]
    if draw.chance(0.5):  # cab over engine
        pieces.append(
            (
                "cab",
                loft(
                    [(0, width / 2, 0, front), (cab * 0.8, width / 2, 0, front), (cab, width * 0.45, 0, front * 0.7)], 8
                ),
            )
        )
    else:
        hood = [(0, width / 2, 0, front), (cab * 0.5, width / 2, 0, front), (cab * 0.65, width / 2, 0, front * 0.5)]
        pieces.append(("cab", loft([*hood, (cab * 1.2, width * 0.42, 0, front * 0.42)], 8)))
    pieces[-1] = ("cab", pieces[-1][1].moved(start, floor, 0))
    style = draw.pick(("box", "tank", "flat", "tipper"))
    if style == "box":
        pieces.append(("cargo", box(load, tall, width).moved(load / 2, floor + tall / 2, 0)))
    elif style == "tank":
        r = min(tall, width) / 2
        stations = [
            (0, r * 0.8, 0.1 * r, 1.9 * r),
            (0.1, r, 0, 2 * r),
            (load - 0.1, r, 0, 2 * r),
            (load, r * 0.8, 0.1 * r, 1.9 * r),
        ]
        pieces.append(("cargo", loft(stations).moved(0, floor, 0)))
    elif style == "flat":
        pieces.append(("cargo", box(load, 0.15, width).moved(load / 2, floor, 0)))
        count = draw.whole(2, 4)
        for x in (np.arange(count) + 0.5) * load / count:
            log = box(load / count * 0.7, tall * draw(0.3, 0.7), width * 0.8)
            pieces.append(("cargo", log.moved(x, floor + tall * 0.2, 0)))
    else:
        side, lean = tall * 0.6, draw(0.1, 0.4)
        pieces.append(("cargo", box(load, 0.1, width).moved(load / 2, floor, 0)))
        pieces += [("cargo", box(load, side, 0.08).moved(load / 2, floor + side / 2, s * width / 2)) for s in (-1, 1)]
        pieces.append(("cargo", box(0.08, side, width).turned("z", lean).moved(0, floor + side / 2, 0)))
        pieces.append(("cargo", box(0.08, side * 1.2, width).turned("z", -lean).moved(load, floor + side / 2, 0)))
    axles = [
        start + cab * 0.55,
        radius * 1.2,
        *([radius * 3.4] if load > 3 else []),
        *([load * 0.8] if load > 4.5 else []),
    ]
    for x in axles:
        for s in (-1, 1):
            pieces.append(("wheel", wheel(radius, 0.3).moved(x, radius, s * (width / 2 - 0.12))))
    return pieces


def wing(root: float, tip: float, span: float, sweep: float, thick: float) -> Mesh:
    """A flat wing in the x-z plane: its leading edge at the root is at x = 0, and it reaches to z = span."""
    lead, trail = [(0, 0), (-sweep, span)], [(-root, 0), (-sweep - tip, span)]
    return plate(lead, trail, thick).turned("x", np.pi / 2)


def airplane(draw: Draw) -> Pieces:
    length, radius = draw.log(2.2, 5.0), draw.log(0.17, 0.42)
    t = np.array([0, 0.05, 0.15, 0.3, 0.65, 0.85, 1.0])
    girth = radius * np.array([0.12, 0.6, 0.92, 1, 1, 0.6, 0.15])
    lift = radius * np.array([0, 0, 0, 0, 0, 0.3, 0.6])
    stations = np.stack([length * (0.5 - t), girth, lift - girth, lift + girth], 1)
    pieces = [("fuselage", loft(stations))]
    span, root = draw.log(1.0, 2.8), draw(0.45, 1.1)
    tip, sweep, rise = root * draw(0.3, 0.95), draw(0.0, 0.8) * span, draw(-0.05, 0.2)
    x, y, thick = draw(0.0, 0.16) * length, draw.pick((-0.6, 0.0, 0.95)) * radius, draw(0.05, 0.1)
    decks = (y, y + draw(0.7, 1.0)) if sweep < 0.25 * span and draw.chance(0.25) else (y,)  # a biplane
    for deck in decks:
        for s in (1, -1):
            half = wing(root, tip, span, sweep, thick).turned("x", -rise).scaled(1, 1, s)
            pieces.append(("wing", half.moved(x, deck, 0)))
    if len(decks) > 1:
        struts = [
            tube([(x - root / 2, decks[0], z), (x - root / 2, decks[1], z)], 0.03) for z in (-0.6 * span, 0.6 * span)
        ]
        pieces += [("wing", strut) for strut in struts]
    back, fin = -length * draw(0.4, 0.46), draw(0.4, 0.95)
    high = draw.chance(0.3)  # a T-tail
    stabiliser = wing(root * 0.5, root * 0.3, span * draw(0.25, 0.45), sweep * 0.35, thick)
    for s in (1, -1):
        pieces.append(("tail", stabiliser.scaled(1, 1, s).moved(back + 0.15, radius * 0.5 + fin * high, 0)))
    rudder = plate([(0, 0), (-fin * 0.6, fin)], [(-root * 0.7, 0), (-fin * 0.6 - root * 0.4, fin)], thick)
    pieces.append(("tail", rudder.moved(back + root * 0.35, radius * 0.5, 0)))
    if len(decks) == 1 and draw.chance(0.7):
        pod = cylinder(draw(0.1, 0.18), draw(0.35, 0.6), draw(0.08, 0.12)).turned("z", np.pi / 2)
        for z in np.linspace(0.3, 0.6, draw.whole(1, 2)) * span:
            drop = y - 0.15 - z * np.tan(rise) * -1
            pieces += [("engine", pod.moved(x - sweep * z / span + 0.15, drop, s * z)) for s in (1, -1)]
    else:
        blades = [box(0.03, draw(0.6, 1.0), 0.1).turned("x", a) for a in np.pi / 3 * np.arange(3)]
        pieces += [("engine", mesh.moved(length / 2 + 0.02, 0, 0)) for mesh in blades]
    return pieces


def helicopter(draw: Draw) -> Pieces:
    long, wide, tall = draw.log(0.6, 1.3), draw.log(0.35, 0.75), draw.log(0.4, 0.8)
    boom, slim = draw.log(1.0, 2.4), draw(0.06, 0.14)
    t = np.linspace(-1, 1, 9)
    girth = (1 - np.abs(t) ** draw(2, 4)) ** 0.5
    pieces = [("cabin", loft(np.stack([long * t, wide * girth, -tall * girth, tall * girth], 1), draw(2, 4)))]
    end = (-long * 0.7 - boom, tall * draw(0.1, 0.6), 0)
    pieces.append(("boom", tube([(-long * 0.7, tall * 0.25, 0), end], [slim * 1.8, slim], segments=12)))
    fin = draw(0.3, 0.7)
    rudder = plate([(0, -fin * 0.3), (-fin * 0.4, fin)], [(-0.25, -fin * 0.3), (-fin * 0.4 - 0.2, fin)], 0.05)
    pieces.append(("boom", rudder.moved(*end)))
    mast, blades, reach, phase = draw(0.15, 0.4), draw.whole(2, 5), draw.log(1.1, 2.6), draw(0, 2 * np.pi)
    pieces.append(("rotor", cylinder(0.06, mast + 0.05).moved(0, tall, 0)))
    pitch, chord = draw(0.0, 0.2), draw(0.12, 0.24)
    for a in phase + 2 * np.pi * np.arange(blades) / blades:
        blade = box(reach, 0.03, chord).turned("x", pitch).moved(reach / 2, 0, 0).turned("y", a)
        pieces.append(("rotor", blade.moved(0, tall + mast, 0)))
    small = draw(0.2, 0.4)
    for a in phase + np.pi / 2 * np.arange(2):
        pieces.append(("rotor", box(2 * small, 0.08, 0.03).turned("z", a).moved(end[0] - 0.1, end[1] + fin * 0.4, 0.1)))
    gear = draw(0.2, 0.45)
    for s in (-1, 1):
        if draw.chance(0.75):
            rail = [(-long * 0.9, -tall - gear, 0), (long * 0.8, -tall - gear, 0), (long * 1.05, -tall - gear * 0.6, 0)]
            pieces.append(("gear", tube(rail, 0.05).moved(0, 0, s * wide)))
        pieces += [
            ("gear", tube([(x * long, -tall * 0.6, s * wide * 0.4), (x * long, -tall - gear, s * wide)], 0.04))
            for x in (-0.5, 0.5)
        ]
    return pieces


def boat(draw: Draw) -> Pieces:
    length, half, deep = draw.log(1.6, 4.0), draw.log(0.3, 0.75), draw(0.3, 0.8)
    t = np.linspace(0, 1, 9)
    stern = draw(0.4, 0.9)
    beam = half * np.minimum(1, stern + (1 - stern) * t * 2.5) * np.sqrt(np.maximum(1 - t ** draw(2, 4), 0.0))
    sheer, keel = deep * (1 + draw(0.0, 0.5) * t**2), deep * 0.7 * t**3
    x, v = length * (t - 0.5), draw(0.2, 0.7)
    # a hull is one strip around the section: gunwale, chine, keel, chine, gunwale
    section = [(1.0, 1.0), (v, 0.25), (0.0, 0.0), (-v, 0.25), (-1.0, 1.0)]
    hull = np.stack([np.stack([x, keel + (sheer - keel) * h, beam * w], -1) for w, h in section], 1)
    pieces = [("hull", grid(hull))]
    transom = np.stack([hull[0], np.broadcast_to(hull[0].mean(0), hull[0].shape)])
    pieces.append(("hull", grid(transom)))
    style = draw.pick(("sail", "sail", "cabin", "rowing"))
    if style != "rowing":
        level = np.stack([np.stack([x, sheer * 0.9, beam * w * 0.95], -1) for w in (-1, 0, 1)], 1)
        pieces.append(("deck", grid(level)))
    if style == "sail":
        mast, foot = draw.log(1.4, 3.6), draw(0.0, 0.15) * length
        boom, swing = draw(0.3, 0.5) * length, draw(-0.5, 0.5)
        pieces.append(("mast", cylinder(0.04, mast).moved(foot, deep * 0.8, 0)))
        main = plate([(0, 0.25), (0, mast * 0.95)], [(-boom, 0.25), (-0.05, mast * 0.97)], 0.02).turned("y", swing)
        pieces.append(("sail", main.moved(foot, deep, 0)))
        if draw.chance(0.6):
            jib = plate([(0.05, mast * 0.8), (length * 0.4 - foot, 0.1)], [(0.05, mast * 0.8), (0.1, 0.15)], 0.02)
            pieces.append(("sail", jib.moved(foot, deep, 0)))
    elif style == "cabin":
        tall, where = draw(0.3, 0.9), draw(-0.25, 0.05) * length
        size = draw(0.2, 0.4) * length
        pieces.append(("deck", box(size, tall, half * 1.2).moved(where, deep * 0.9 + tall / 2, 0)))
        if draw.chance(0.6):
            pieces.append(("deck", box(size * 0.5, tall * 0.7, half * 0.9).moved(where, deep * 0.9 + tall * 1.35, 0)))
        if draw.chance(0.6):
            pieces.append(("mast", cylinder(0.1, draw(0.4, 0.9)).moved(where - size * 0.2, deep + tall, 0)))
    else:
        for k in (2, 4, 5):
            pieces.append(("deck", box(0.2, 0.05, beam[k] * 1.9).moved(x[k], deep * 0.8, 0)))
        for s in (-1, 1):
            oar = tube([(0, deep * 1.2, s * half * 0.4), (-0.3, 0.1, s * half * draw(2.2, 3.2))], 0.035)
            pieces.append(("mast", oar))
    return pieces


def bicycle(draw: Draw) -> Pieces:
    radius, base, slim = draw(0.28, 0.42), draw.log(0.85, 1.35), draw(0.018, 0.035)
    tyre, high = draw(0.02, 0.045), draw(0.75, 1.05)
    rear, front = (-base / 2, radius, 0), (base / 2, radius, 0)
    pieces: Pieces = []
    spokes = draw.whole(3, 6)
    for hub in (rear, front):
        pieces.append(("wheel", ring(radius, tyre).turned("x", np.pi / 2).moved(*hub)))
        for a in np.pi * np.arange(spokes) / spokes:
            pieces.append(("wheel", box(2 * radius, 0.012, 0.012).turned("z", a).moved(*hub)))
    crank = (-base * draw(0.02, 0.14), radius * draw(0.8, 1.0), 0)
    seat = (-base * draw(0.16, 0.28), high * draw(0.8, 0.95), 0)
    head = (base * draw(0.26, 0.36), high, 0)
    low = tuple(np.array(head) * 0.8 + np.array(front) * 0.2)
    top = seat if draw.chance(0.65) else crank  # a step-through frame has no high tube
    for a, b in ((crank, seat), (crank, low), (top, head), (crank, rear), (seat, rear), (head, front)):
        pieces.append(("frame", tube([a, b], slim)))
    post, wide = draw(0.05, 0.2), draw(0.2, 0.36)
    stem = (head[0] - 0.03, head[1] + post, 0)
    pull = draw(-0.2, 0.2)
    bar = [(stem[0] + pull, stem[1] + draw(-0.12, 0.1), -wide), (*stem[:2], -wide * 0.5), stem, (*stem[:2], wide * 0.5)]
    bar.append((bar[0][0], bar[0][1], wide))
    pieces += [("handlebar", tube([head, stem], slim)), ("handlebar", tube(bar, slim))]
    rise = draw(0.05, 0.2)
    pieces.append(("saddle", tube([seat, (seat[0] - 0.03, seat[1] + rise, 0)], slim)))
    pieces.append(("saddle", ball(0.15, 0.04, draw(0.06, 0.11)).moved(seat[0] - 0.03, seat[1] + rise, 0)))
    if draw.chance(0.7):
        pieces.append(
            (
                "pedal",
                lathe([(0.0, -0.01), (0.09, -0.01), (0.09, 0.01), (0, 0.01)]).turned("x", np.pi / 2).moved(*crank),
            )
        )
        for s in (-1, 1):
            pieces.append(("pedal", box(0.1, 0.02, 0.08).moved(crank[0] + s * 0.14, crank[1], s * 0.1)))
    return pieces


RECIPES = {
    "car": Recipe(("body", "cabin", "wheel"), car),
    "truck": Recipe(("cab", "cargo", "chassis", "wheel"), truck),
    "airplane": Recipe(("fuselage", "wing", "tail", "engine"), airplane),
    "helicopter": Recipe(("cabin", "boom", "rotor", "gear"), helicopter),
    "boat": Recipe(("hull", "deck", "mast", "sail"), boat),
    "bicycle": Recipe(("wheel", "frame", "handlebar", "saddle", "pedal"), bicycle),
}
