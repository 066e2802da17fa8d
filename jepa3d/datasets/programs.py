"""Shapes by random programs, without classes: as many as are asked for, made from a seed. Nothing is downloaded.

The grammar is in `jepa3d.datasets._shared.programs`: parts of nine kinds (superquadrics, boxes, surfaces of revolution,
extrusions, tori, tubes, sheets, height fields, wireframes) that are joined, repeated, mirrored, deformed and cut. The
part labels are these kinds. Some shapes may be seen as one depth camera sees them: one side, denser where near, noisy.

Shape number i depends on the seed, i and the settings, and on nothing else: a larger set begins with a smaller one.

    datasets: {programs: {kind: programs, train: 50000, points: 2048, seed: 0}}
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, NonNegativeInt, model_validator

from jepa3d.datasets import Shape, Split
from jepa3d.datasets._shared import programs
from jepa3d.datasets._shared.catalogue.draw import Draw
from jepa3d.ops.primitives import Sample, unit_sphere
from jepa3d.ops.scan import choose, density, incidence, visible
from jepa3d.parallel import imap
from jepa3d.params import DatasetConfig, Fraction
from jepa3d.seeds import derive

OVERSAMPLE = 4  # surface samples for each point of a shape that is seen from one side
NEAREST, FARTHEST = 1.6, 4.0  # of the camera from the shape's centre, in its radii


class Config(DatasetConfig):
    """`depth` is how deep bodies are nested, `parts` the greatest number of parts of one body.

    `scans` is the share of the shapes that one camera sees; `noise` the greatest standard deviation of their
    coordinates, in radii of the shape.
    """

    kind: Literal["programs"] = "programs"
    train: Annotated[int, Field(ge=1, le=100_000_000)] = 50_000
    test: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    points: Annotated[int, Field(ge=64, le=65535)] = 2048
    seed: NonNegativeInt = 0
    depth: Annotated[int, Field(ge=0, le=3)] = 2
    parts: Annotated[int, Field(ge=2, le=8)] = 4
    scans: Fraction = 0.0
    noise: Annotated[float, Field(ge=0.0, le=0.2)] = 0.02

    @model_validator(mode="after")
    def _made(self) -> Self:
        if self.root is not None:
            raise ValueError("these shapes are made, not read: remove root")
        return self


def classes(raw: Path, config: Config) -> tuple[str, ...]:
    """None: a program has no meaning."""
    return ()


def parts(raw: Path, config: Config) -> tuple[str, ...]:
    """The kinds of parts, in label order."""
    return programs.KINDS


def count(raw: Path, config: Config) -> int:
    return config.train + config.test


def read(raw: Path, config: Config) -> Iterator[Shape]:
    """Every shape, train before test. `raw` is not looked at: the configuration is all there is."""
    sizes: dict[Split, int] = {"train": config.train, "test": config.test}
    items = [(config, split, index) for split, size in sizes.items() for index in range(size)]
    return imap(make, items, "making shapes by programs")


def forge(raw: Path) -> None:
    """The raw folder of generated data is empty."""
    raw.mkdir(parents=True, exist_ok=True)


def make(item: tuple[Config, Split, int]) -> Shape:
    """Shape number `index` of a split: a pure function of the configuration."""
    config, split, index = item
    surface = surface_of(config, split, index)
    return Shape(unit_sphere(surface.points), -1, surface.label.astype(np.int16), split, f"{split}-{index:08d}")


def surface_of(config: Config, split: Split, index: int) -> Sample:
    """Points, normals (either side) and part labels of one shape, in random order."""
    random = np.random.Generator(np.random.SFC64(derive(config.seed, "programs", split, index)))
    draw = Draw(random)
    body = programs.program(draw, config.depth, config.parts)
    if not draw.chance(config.scans):
        return programs.samples(body, config.points, random)
    return seen(programs.samples(body, OVERSAMPLE * config.points, random), config, draw)


def seen(surface: Sample, config: Config, draw: Draw) -> Sample:
    """What one camera sees of a surface, with its density and noise."""
    points = surface.points - surface.points.mean(0)
    points = points / np.sqrt((points**2).sum(1).max())
    height, azimuth = np.arcsin(draw(-0.95, 0.95)), draw(0, 2 * np.pi)
    way = np.array([np.cos(height) * np.cos(azimuth), np.sin(height), np.cos(height) * np.sin(azimuth)])
    camera = draw(NEAREST, FARTHEST) * way
    facing = incidence(points, surface.normals, camera)
    shown = visible(points, facing, camera, int(np.sqrt(len(points) / 2)))
    kept = np.flatnonzero(shown) if shown.any() else np.arange(len(points))
    weight = density(points[kept], facing[kept], camera, draw(0.0, 1.0))
    chosen = kept[choose(weight, config.points, draw.random)]
    noise = draw(0.0, config.noise) * draw.random.standard_normal((config.points, 3))
    return Sample(points[chosen] + noise, surface.normals[chosen], surface.label[chosen])
