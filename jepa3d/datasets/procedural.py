"""The embedded data set: parametric, CAD-like objects with labelled parts, made from a seed. Nothing is downloaded.

The recipes are in `jepa3d.datasets._shared.catalogue`. Shape i of a split is an object of class i mod 20, so every
prefix of a split is balanced. The same object comes in three difficulties:

    clean     uniform samples of the whole surface
    scan      what one depth camera sees: one side, denser where near and face on, noisy
    scan_bg   the same with background: the floor, perhaps a wall, and fragments of other objects

    datasets: {toys: {kind: procedural, difficulty: scan, train: 4000, test: 1000, points: 1024, seed: 0}}
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

import numpy as np
from jaxtyping import Bool, Float, Int
from pydantic import Field, NonNegativeFloat, NonNegativeInt, model_validator

from jepa3d.datasets import Shape, Split
from jepa3d.datasets._shared.catalogue import RECIPES, Draw
from jepa3d.ops.deform import bend, taper, twist
from jepa3d.ops.primitives import Mesh, Points, Sample, box, join, rotate, sample, unit_sphere
from jepa3d.ops.scan import choose, density, incidence, visible
from jepa3d.parallel import imap
from jepa3d.params import DatasetConfig, Fraction, FrozenModel
from jepa3d.seeds import derive

CLASSES = tuple(RECIPES)
PARTS = tuple(f"{name}/{part}" for name, recipe in RECIPES.items() for part in recipe.parts)
PART = {name: index for index, name in enumerate(PARTS)}
BACKGROUND = len(PARTS)  # the part label of clutter, after all others
OVERSAMPLE = 6  # surface samples for each point of a scan
CROP = 1.25  # background is kept within this many radii of the object's centre

Angle = Annotated[float, Field(ge=0.0, le=2.0)]


class Variation(FrozenModel):
    """Changes that keep the class, drawn for every object; each amount is uniform between minus and plus these."""

    bend: Angle = 0.7  # radians between the two ends of the object
    twist: Angle = 0.6  # radians between the two ends
    taper: Annotated[float, Field(ge=0.0, le=0.8)] = 0.3  # cross-sections grow by this share towards one end
    stretch: Annotated[float, Field(ge=0.0, le=1.0)] = 0.3  # each axis is scaled by exp(amount)
    upright: bool = True  # turned about the vertical by any angle


class Sensor(FrozenModel):
    """The depth camera of `scan` and `scan_bg`. Lengths are in radii of the object."""

    noise: Annotated[float, Field(ge=0.0, le=0.2)] = 0.015  # standard deviation of every coordinate
    density: NonNegativeFloat = 1.0  # 0: even over what is seen; 1: even over the image
    distance: tuple[float, float] = (1.6, 4.0)  # nearest and farthest, from the object's centre
    elevation: tuple[float, float] = (10.0, 55.0)  # degrees above the horizon

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        if not 1.5 <= self.distance[0] <= self.distance[1] <= 100:
            raise ValueError("distance is [nearest, farthest], at least 1.5: the camera stands outside the object")
        if not 0 <= self.elevation[0] <= self.elevation[1] <= 85:
            raise ValueError("elevation is [lowest, highest] in degrees, within 0 and 85")
        return self


class Clutter(FrozenModel):
    """The background of `scan_bg`."""

    share: tuple[Fraction, Fraction] = (0.2, 0.4)  # least and greatest share of the points
    wall: Fraction = 0.4  # how often there is a wall behind the object
    fragments: Annotated[int, Field(ge=0, le=8)] = 2  # greatest number of other objects that reach into the view

    @model_validator(mode="after")
    def _range(self) -> Self:
        if not self.share[0] <= self.share[1] <= 0.9:
            raise ValueError("share is [least, greatest], and at most 0.9")
        return self


class Config(DatasetConfig):
    """`train` and `test` are numbers of shapes, shared evenly among the 20 classes."""

    kind: Literal["procedural"] = "procedural"
    difficulty: Literal["clean", "scan", "scan_bg"] = "clean"
    train: Annotated[int, Field(ge=1, le=1_000_000)] = 4000
    test: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    points: Annotated[int, Field(ge=64, le=65535)] = 1024
    seed: NonNegativeInt = 0
    variation: Variation = Variation()
    sensor: Sensor = Sensor()
    clutter: Clutter = Clutter()

    @model_validator(mode="after")
    def _enough(self) -> Self:
        for split in ("train", "test"):
            if getattr(self, split) < len(CLASSES):
                raise ValueError(f"{split} must have at least one shape of each of the {len(CLASSES)} classes")
        if self.root is not None:
            raise ValueError("these shapes are made, not read: remove root")
        return self


class Object(NamedTuple):
    """The object behind a shape: its surface within the unit sphere, and the part of every triangle."""

    mesh: Mesh
    part: Int[np.ndarray, "F"]
    label: int


class Cloud(NamedTuple):
    """Points in the object's frame, before they are centred and scaled."""

    points: Points
    part: Int[np.ndarray, "P"]


def classes(raw: Path, config: Config) -> tuple[str, ...]:
    """The 20 classes, in label order."""
    return CLASSES


def parts(raw: Path, config: Config) -> tuple[str, ...]:
    """The parts as class/part; in `scan_bg` the last one is the background."""
    return (*PARTS, "background") if config.difficulty == "scan_bg" else PARTS


def count(raw: Path, config: Config) -> int:
    return config.train + config.test


def read(raw: Path, config: Config) -> Iterator[Shape]:
    """Every shape, train before test. `raw` is not looked at: the configuration is all there is."""
    sizes: dict[Split, int] = {"train": config.train, "test": config.test}
    items = [(config, split, index) for split, size in sizes.items() for index in range(size)]
    return imap(make, items, f"making {config.difficulty} shapes")


def forge(raw: Path) -> None:
    """The raw folder of generated data is empty."""
    raw.mkdir(parents=True, exist_ok=True)


def make(item: tuple[Config, Split, int]) -> Shape:
    """Shape number `index` of a split: a pure function of the configuration."""
    config, split, index = item
    cloud = observe(config, split, index)
    shape_id = f"{split}-{index:06d}"
    return Shape(unit_sphere(cloud.points), index % len(CLASSES), cloud.part.astype(np.int16), split, shape_id)


def generator(config: Config, purpose: str, split: Split, index: int) -> np.random.Generator:
    return np.random.Generator(np.random.SFC64(derive(config.seed, "procedural", purpose, split, index)))


def the_object(config: Config, split: Split, index: int) -> Object:
    """The object of a shape. The difficulty, the sensor, the clutter and the number of points play no part in it."""
    draw = Draw(generator(config, "object", split, index))
    label = index % len(CLASSES)
    return varied(build(label, draw), config.variation, draw)


def build(label: int, draw: Draw) -> Object:
    """An object of a class as its recipe has it, in a box centred at the origin, within the unit sphere."""
    name = CLASSES[label]
    pieces = RECIPES[name].build(draw)
    mesh = join([mesh for _, mesh in pieces])
    part = np.repeat([PART[f"{name}/{part}"] for part, _ in pieces], [len(mesh.faces) for _, mesh in pieces])
    return Object(Mesh(_fitted(mesh.vertices), mesh.faces), part, label)


def _fitted(points: Points) -> Points:
    """The bounding box's centre at the origin, the farthest point at distance 1."""
    centred = points - (points.min(0) + points.max(0)) / 2
    unit: Points = centred / np.sqrt((centred**2).sum(1).max())
    return unit


def varied(given: Object, variation: Variation, draw: Draw) -> Object:
    """Stretched, tapered, twisted, bent and turned. The axis is mostly the longest one."""
    points = given.mesh.vertices
    extent = points.max(0) - points.min(0)
    axis = "xyz"[int(extent.argmax())] if draw.chance(0.6) else draw.pick("xyz")
    stretch = np.exp([draw(-variation.stretch, variation.stretch) for _ in "xyz"])
    points = taper(points * stretch, axis, draw(-variation.taper, variation.taper))
    points = twist(points, axis, draw(-variation.twist, variation.twist))
    points = bend(points, axis, draw(-variation.bend, variation.bend))
    turn = draw(0, 2 * np.pi) * variation.upright
    return given._replace(mesh=Mesh(_fitted(rotate(points, "y", turn)), given.mesh.faces))


def observe(config: Config, split: Split, index: int) -> Cloud:
    """`points` points of the object (and of its surroundings in `scan_bg`), in random order, in the object's frame."""
    given = the_object(config, split, index)
    random = generator(config, config.difficulty, split, index)
    if config.difficulty == "clean":
        surface = sample(given.mesh, given.part, config.points, random)
        order = random.permutation(config.points)
        return Cloud(surface.points[order], surface.label[order])
    camera = stand(config.sensor, Draw(generator(config, "camera", split, index)))  # scan_bg sees what scan sees
    draw = Draw(random)
    views = [look(given.mesh, given.part, camera, config, random)]
    behind = 0
    if config.difficulty == "scan_bg":
        behind = round(draw(*config.clutter.share) * config.points)
    if behind:
        room = surroundings(given, camera, config.clutter, draw)
        views.append(look(room, np.full(len(room.faces), BACKGROUND), camera, config, random, hidden_by=views[0]))
    chosen = [
        _pixels(view, camera, number, config.sensor.density, random)
        for view, number in zip(views, (config.points - behind, behind), strict=False)
    ]
    order = random.permutation(config.points)
    noise = config.sensor.noise * random.standard_normal((config.points, 3))
    points, part = (np.concatenate([getattr(view, field) for view in chosen])[order] for field in ("points", "label"))
    return Cloud(points + noise, part)


def stand(sensor: Sensor, draw: Draw) -> Float[np.ndarray, "3"]:
    """Where the camera is."""
    distance, azimuth, height = draw(*sensor.distance), draw(0, 2 * np.pi), np.radians(draw(*sensor.elevation))
    return distance * np.array([np.cos(height) * np.cos(azimuth), np.sin(height), np.cos(height) * np.sin(azimuth)])


def look(
    mesh: Mesh,
    label: Int[np.ndarray, "F"],
    camera: Float[np.ndarray, "3"],
    config: Config,
    random: np.random.Generator,
    hidden_by: Sample | None = None,
) -> Sample:
    """The samples of a surface that the camera sees past the surface itself, and past `hidden_by`.

    The background never hides the object: it stands below, beside and behind it, and an object that nobody could see
    would be mislabelled.
    """
    count = max(OVERSAMPLE * config.points, 4096)
    surface = sample(mesh, label, count, random)
    if hidden_by is not None:
        surface = _where(surface, np.einsum("pk,pk->p", surface.points, surface.points) < CROP**2)
    front = surface if hidden_by is None else Sample(*map(np.concatenate, zip(surface, hidden_by, strict=True)))
    extent = 1.0 if hidden_by is None else CROP
    seen = visible(front.points, incidence(*front[:2], camera), camera, int(np.sqrt(count / 2)), extent)
    seen = seen[: len(surface.points)]
    return _where(surface, seen if seen.any() else ~seen)


def _where(surface: Sample, mask: Bool[np.ndarray, "P"]) -> Sample:
    return Sample(*(field[mask] for field in surface))


def _pixels(
    view: Sample, camera: Float[np.ndarray, "3"], count: int, strength: float, random: np.random.Generator
) -> Sample:
    """`count` of the samples that are seen, as dense as the camera's pixels are on the surface."""
    weight = density(view.points, incidence(view.points, view.normals, camera), camera, strength)
    index = choose(weight, count, random)
    return Sample(*(field[index] for field in view))


def surroundings(given: Object, camera: Float[np.ndarray, "3"], clutter: Clutter, draw: Draw) -> Mesh:
    """The floor that the object stands on, perhaps a wall behind it, and other objects beside it."""
    low = given.mesh.vertices[:, 1].min()
    away = np.arctan2(-camera[2], -camera[0])  # the azimuth that is behind the object
    floor = box(draw(1.2, 2.5), 0.01, draw(1.2, 2.5)).turned("y", draw(0, np.pi))
    pieces = [floor.moved(draw(-0.4, 0.4), low, draw(-0.4, 0.4))]
    if draw.chance(clutter.wall):
        turn, gap = away + draw(-0.7, 0.7), draw(0.8, 1.05)
        wall = box(0.01, draw(0.6, 2.0), 2.0).turned("y", -turn)
        pieces.append(wall.moved(gap * np.cos(turn), low + 0.5, gap * np.sin(turn)))
    for _ in range(draw.whole(0, clutter.fragments)):
        other = build(draw.whole(0, len(CLASSES) - 1), draw).mesh
        size, turn, gap = draw(0.4, 1.0), away + draw(-2.2, 2.2), draw(1.0, 1.35)
        placed = other.scaled(size, size, size).turned("y", draw(0, 2 * np.pi))
        rise = low - placed.vertices[:, 1].min()
        pieces.append(placed.moved(gap * np.cos(turn), rise, gap * np.sin(turn)))
    return join(pieces)
