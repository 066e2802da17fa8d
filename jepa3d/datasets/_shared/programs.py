"""Shapes by random programs: a grammar of parts, how they are joined, repeated, deformed and cut.

A body is a list of pieces. A piece is a solid (`ops.solids`) with what was cut out of it. Bodies are joined where they
touch, copied in rings and rows, mirrored, bent, twisted, tapered and cut; a part of a body may be a body itself. The
surface that is sampled is that of the union: no point lies inside another piece, nor where something was cut away.

The idea of learning from shapes without meaning is that of Chen and Cheng, "Learning 3D Representations from Procedural
3D Programs" (arXiv 2411.17467); the grammar is our own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree

from jepa3d.datasets._shared.catalogue.draw import Draw
from jepa3d.ops import solids
from jepa3d.ops.primitives import Mesh, Points, Sample, areas, grid, join, sample
from jepa3d.ops.solids import Inside, Solid

SINK = 0.15  # how deep a part may reach into the one that it stands on, as a share of its own size
ROUNDS = 6  # times that the surface is sampled before too few points are drawn twice
SPARE = 1.6  # surface samples for each point that is wanted, in the first round
MOST_DRAWN = 20  # surface samples for each point in a later one, at the most
PIECES = 12  # a body with so many pieces gets no further ones
CLOSE = 0.05  # bodies with corners that near to each other touch


class Piece(NamedTuple):
    """One solid of a body: the number of its kind, and where its surface is not part of the body's."""

    solid: Solid
    kind: int  # index into KINDS
    cuts: tuple[Inside, ...] = ()  # cut out of it
    within: Inside | None = None  # of the surface of a cut: only where the body was

    def inside(self, points: Points) -> Bool[np.ndarray, "P"]:
        """Which points lie inside what is left of the solid; none inside a cut's surface, which has no volume."""
        if self.within is not None:
            return np.zeros(len(points), bool)
        low, high = self.solid.mesh.vertices.min(0), self.solid.mesh.vertices.max(0)
        near = np.flatnonzero(((points > low) & (points < high)).all(1))
        chosen = np.zeros(len(points), bool)
        if len(near):
            chosen[near] = self.solid.inside(points[near])
            for cut in self.cuts:
                chosen[near] &= ~cut(points[near])
        return chosen

    def mapped(self, change: Callable[[Solid], Solid]) -> Piece:
        """The piece after a change of space."""
        nothing = Mesh(np.zeros((1, 3)), np.zeros((0, 3), int))

        def follow(inside: Inside) -> Inside:
            return change(Solid(nothing, inside)).inside

        within = None if self.within is None else follow(self.within)
        return Piece(change(self.solid), self.kind, tuple(map(follow, self.cuts)), within)


Body = list[Piece]


def program(draw: Draw, depth: int, most: int) -> Body:
    """A random body in a box around the origin: one part, or several that are joined, and then changed as a whole.

    `depth` is how deep bodies may be nested, `most` the greatest number of parts of one body.
    """
    if depth == 0 or draw.chance(0.15):
        body = part(draw)
    else:
        body = fitted(program(draw, depth - 1 - draw.whole(0, 1) * (depth > 1), most))
        for _ in range(draw.whole(1, most - 1)):
            if len(body) >= PIECES:
                break
            child = fitted(program(draw, depth - 1, most) if draw.chance(0.3) else part(draw), draw.log(0.15, 0.9))
            child = attached(draw, body, child)
            body = body + child + [piece for copy in copies(draw, child) if touches(body, copy) for piece in copy]
        body = fitted(body)
    if draw.chance(0.35):
        body = cut(draw, fitted(body))
    return deformed(draw, fitted(body)) if draw.chance(0.5) else fitted(body)


# ---- parts


def part(draw: Draw, kinds: Sequence[str] | None = None) -> Body:
    """One part of a random kind, with random proportions."""
    kind = KINDS.index(draw.pick(kinds or KINDS))
    solid = MAKERS[kind](draw)
    stretch = np.exp([draw(-0.8, 0.8) for _ in "xyz"])
    return [Piece(solid.scaled(stretch), kind)]


def closed(draw: Draw) -> Body:
    """A part that can be cut out of another one."""
    return part(draw, ("superquadric", "cuboid", "lathe", "extrusion", "torus"))


def _superquadric(draw: Draw) -> Solid:
    return solids.superquadric(draw.log(0.15, 2.2), draw.log(0.15, 2.2))


def _cuboid(draw: Draw) -> Solid:
    return solids.cuboid()


def _lathe(draw: Draw) -> Solid:
    count = draw.whole(2, 7)
    heights = np.cumsum([draw(0.2, 1.0) for _ in range(count)])
    heights = 2 * (heights - heights[0]) / (heights[-1] - heights[0]) - 1
    return solids.revolved([(draw(0.08, 1.0), height) for height in heights])


def _extrusion(draw: Draw) -> Solid:
    if draw.chance(0.4):  # a regular polygon or a star
        corners, inner = draw.whole(3, 8), draw.pick((1.0, draw(0.35, 0.9)))
        radii = np.tile([1.0, inner], corners) if inner < 1 else np.ones(corners)
    else:
        radii = np.array([draw(0.35, 1.0) for _ in range(draw.whole(5, 14))])
    return solids.extruded(radii)


def _torus(draw: Draw) -> Solid:
    return solids.torus(draw(0.08, 0.45))


def _curve(draw: Draw) -> Points:
    """A random smooth curve of 12 points: a helix, an arc, or a Bezier curve."""
    share = np.linspace(0, 1, 12)
    style = draw.pick(("helix", "arc", "bezier"))
    if style == "helix":
        turn = 2 * np.pi * draw(0.5, 2.5) * share
        return np.stack([np.cos(turn), 2 * share - 1, np.sin(turn)], 1) * (draw(0.3, 1.0), 1.0, draw(0.3, 1.0))
    if style == "arc":
        turn = draw(0.8, 5.5) * (share - 0.5)
        return np.stack([np.cos(turn), np.sin(turn), np.zeros_like(turn)], 1)
    control = np.array([[draw(-1, 1) for _ in "xyz"] for _ in range(4)])
    weights = np.stack([(1 - share) ** 3, 3 * share * (1 - share) ** 2, 3 * share**2 * (1 - share), share**3], 1)
    path: Points = weights @ control
    return path


def _tube(draw: Draw) -> Solid:
    radius = draw.log(0.05, 0.25)
    girth = np.full(12, radius) if draw.chance(0.6) else radius * np.linspace(1.0, draw(0.2, 1.0), 12)
    return solids.tubular(_curve(draw), girth)


def _waves(draw: Draw, size: int) -> Float[np.ndarray, "size size"]:
    """Smooth random heights: a few sines."""
    u, v = np.meshgrid(*[np.linspace(-1, 1, size)] * 2)
    height = np.zeros_like(u)
    for _ in range(draw.whole(1, 4)):
        a, b, phase = draw(-4, 4), draw(-4, 4), draw(0, 2 * np.pi)
        height += draw(0.05, 0.4) * np.sin(a * u + b * v + phase)
    return height


def _sheet(draw: Draw) -> Solid:
    return solids.sheet(_waves(draw, 14))


def _field(draw: Draw) -> Solid:
    """A block whose upper side is a height field."""
    size = 14
    height = np.maximum(_waves(draw, size), -0.8)
    line = np.linspace(-1, 1, size)
    top = solids.sheet(height).mesh
    x, z = np.meshgrid(line, line)
    edge = np.concatenate([np.arange(size), size * np.arange(2, size + 1) - 1, size * size - 2 - np.arange(size - 1)])
    edge = np.concatenate([edge, size * np.arange(size - 2, 0, -1)])
    rim = np.stack([x.ravel()[edge], height.ravel()[edge], z.ravel()[edge]], 1)
    foot = rim * (1, 0, 1) - (0, 1, 0)
    centre = np.broadcast_to((0.0, -1.0, 0.0), rim.shape)
    body = join([top, grid(np.stack([rim, foot, centre]), closed=True)])

    def inside(points: Points) -> Bool[np.ndarray, "P"]:
        column, row = (np.clip((points[:, k] + 1) / 2 * (size - 1), 0, size - 1 - 1e-9) for k in (0, 2))
        i, j = row.astype(int), column.astype(int)
        s, t = row - i, column - j
        level = (1 - s) * ((1 - t) * height[i, j] + t * height[i, j + 1])
        level += s * ((1 - t) * height[i + 1, j] + t * height[i + 1, j + 1])
        across = (np.abs(points[:, [0, 2]]) < 1).all(1)
        within: Bool[np.ndarray, "P"] = across & (points[:, 1] > -1) & (points[:, 1] < level)
        return within

    return Solid(body, inside)


def _wireframe(draw: Draw) -> Solid:
    """The edges of a prism or a frustum."""
    corners, top = draw.whole(3, 6), draw.pick((1.0, draw(0.2, 0.8)))
    angle = np.arange(corners) * (2 * np.pi / corners)
    circle = np.stack([np.cos(angle), np.zeros_like(angle), np.sin(angle)], 1)
    points = np.concatenate([circle - (0, 1, 0), circle * top + (0, 1, 0)])
    low = [(i, (i + 1) % corners) for i in range(corners)]
    edges = [*low, *((i + corners, j + corners) for i, j in low), *((i, i + corners) for i in range(corners))]
    return solids.frame(points, edges, draw.log(0.03, 0.12))


MAKERS: tuple[Callable[[Draw], Solid], ...] = (
    _superquadric, _cuboid, _lathe, _extrusion, _torus, _tube, _sheet, _field, _wireframe,
)  # fmt: skip
KINDS = tuple(maker.__name__.removeprefix("_") for maker in MAKERS)


# ---- what bodies are made of


def mapped(body: Body, change: Callable[[Solid], Solid]) -> Body:
    return [piece.mapped(change) for piece in body]


def vertices(body: Body) -> Points:
    return np.concatenate([piece.solid.mesh.vertices for piece in body if piece.within is None])


def fitted(body: Body, size: float = 1.0) -> Body:
    """The bounding box's centre at the origin, the longest half edge `size`."""
    corners = vertices(body)
    low, high = corners.min(0), corners.max(0)
    centre, factor = (low + high) / 2, np.full(3, size / max((high - low).max() / 2, 1e-6))
    return mapped(body, lambda solid: solid.moved(-centre).scaled(factor))


def attached(draw: Draw, body: Body, child: Body) -> Body:
    """A body that stands on a point of another's surface, along the normal there or along an axis, and reaches in."""
    surface = samples(body, 8, draw.random)
    at, normal = surface.points[0], surface.normals[0]
    if normal @ at < 0:  # triangles do not say which side is out: away from the middle is a good guess
        normal = -normal
    if draw.chance(0.6):  # most things are joined at right angles
        axis = np.abs(normal).argmax()
        normal = np.eye(3)[axis] * np.sign(normal[axis])
    spin = solids.rotation("y", draw.pick((0.0, np.pi / 2, draw(0, 2 * np.pi))))
    turn = solids.onto(normal) @ spin
    child = mapped(child, lambda solid: solid.turned(turn))
    reach = vertices(child) @ normal
    offset = at - normal * (reach.min() + SINK * draw(0.2, 1.0) * np.ptp(reach))
    return mapped(child, lambda solid: solid.moved(offset))


def copies(draw: Draw, body: Body) -> list[Body]:
    """Copies of a body: none, its mirror image, a ring about an axis through the origin, or a row."""
    style = draw.pick(("none", "none", "mirror", "ring", "row"))
    axis = draw.pick("xyz")
    column = "xyz".index(axis)
    if style == "mirror":
        flip = np.where(np.arange(3) == column, -1.0, 1.0)
        return [mapped(body, lambda solid: solid.scaled(flip))]
    if style == "ring":
        count = draw.whole(3, 6)
        turns = [solids.rotation(axis, 2 * np.pi * number / count) for number in range(1, count)]
        return [mapped(body, partial(Solid.turned, matrix=turn)) for turn in turns]
    if style == "row":
        step = np.eye(3)[column] * (draw(0.5, 1.0) * np.ptp(vertices(body)[:, column]))
        return [mapped(body, partial(Solid.moved, offset=number * step)) for number in range(1, draw.whole(2, 4))]
    return []


def touches(body: Body, other: Body) -> bool:
    """Whether two bodies meet: a corner of one lies inside the other, or close to one of its corners."""
    ours, theirs = vertices(body), vertices(other)
    if inside_any(body, theirs).any() or inside_any(other, ours).any():
        return True
    return bool((cKDTree(ours).query(theirs, distance_upper_bound=CLOSE)[0] < CLOSE).any())


def deformed(draw: Draw, body: Body) -> Body:
    """Tapered, twisted or bent, or two of these, along an axis."""
    for _ in range(draw.whole(1, 2)):
        axis, style = draw.pick("xyz"), draw.pick(("taper", "twist", "bend"))
        change = {
            "taper": partial(Solid.tapered, axis=axis, amount=draw(-0.6, 0.6)),
            "twist": partial(Solid.twisted, axis=axis, angle=draw(-1.5, 1.5)),
            "bend": partial(Solid.bent, axis=axis, angle=draw(-1.4, 1.4)),
        }[style]
        body = mapped(body, change)
    return fitted(body)


def cut(draw: Draw, body: Body) -> Body:
    """The body without what lies beyond a plane, or inside a part; the cut is closed by the cutter's own surface."""
    if draw.chance(0.5):
        axis, at = draw.pick("xyz"), draw(0.1, 0.8) * draw.pick((-1, 1))
        turn = solids.onto(np.eye(3)["xyz".index(axis)])
        flat = solids.sheet(np.zeros((12, 12))).scaled(np.full(3, 1.05)).turned(turn)
        face = Piece(flat.moved(at * turn[:, 1]), KINDS.index("sheet"))
        away = solids.half_space(axis, at, at > 0)
    else:
        offset = np.array([draw(-0.8, 0.8) for _ in "xyz"])
        [face] = mapped(fitted(closed(draw), draw(0.2, 0.7)), partial(Solid.moved, offset=offset))
        away = solids.with_surface(face.solid, offset)
    left = [piece._replace(cuts=(*piece.cuts, away)) for piece in body]
    return [*left, face._replace(within=lambda points: inside_any(body, points))]


def inside_any(body: Body, points: Points) -> Bool[np.ndarray, "P"]:
    found = np.zeros(len(points), bool)
    for piece in body:
        out = np.flatnonzero(~found)
        found[out] = piece.inside(points[out])
    return found


# ---- the surface


def samples(body: Body, count: int, random: np.random.Generator) -> Sample:
    """`count` points of the body's surface, uniform over it, with normals (either side) and each point's kind, in
    random order.

    Where hardly anything of the surfaces is left, the points that there are come more than once.
    """
    mesh = join([piece.solid.mesh for piece in body])
    which = np.repeat(np.arange(len(body)), [len(piece.solid.mesh.faces) for piece in body])
    if not areas(mesh)[0].sum() > 0:
        raise ValueError("a body without a surface")
    rows: list[Sample] = []
    have, drawn = 0, 0
    for _ in range(ROUNDS):
        share = max(have / drawn, 1 / MOST_DRAWN) if drawn else 1 / SPARE
        surface = sample(mesh, which, int((count - have) / share * 1.1) + 16, random)
        kept = np.flatnonzero(outside(body, surface.points, surface.label))
        rows.append(Sample(*(field[kept] for field in surface)))
        have, drawn = have + len(kept), drawn + len(surface.points)
        if have >= count:
            break
    if not have:  # everything was cut away: what was there before the cuts
        rows, have = [surface], len(surface.points)
    merged = Sample(*(np.concatenate(field) for field in zip(*rows, strict=True)))
    order = random.permutation(have)[:count] if have >= count else random.integers(0, have, count)
    kinds = np.array([piece.kind for piece in body])
    return Sample(merged.points[order], merged.normals[order], kinds[merged.label[order]])


def outside(body: Body, points: Points, piece: Int[np.ndarray, "P"]) -> Bool[np.ndarray, "P"]:
    """Which points of the pieces' surfaces are on the body's: not cut away, and inside no other piece."""
    kept = np.ones(len(points), bool)
    for number, own in enumerate(body):
        mine = np.flatnonzero(piece == number)
        for cut_away in own.cuts:
            kept[mine] &= ~cut_away(points[mine])
        if own.within is not None:
            kept[mine] &= own.within(points[mine])
        others = np.flatnonzero((piece != number) & kept)
        kept[others] &= ~own.inside(points[others])
    return kept
