"""What the recipes are written in: random draws, and the pieces that they return."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from jepa3d.ops.primitives import Mesh, Number

Pieces = list[tuple[str, Mesh]]  # (name of the part, its surface); a part may have several pieces
Choice = TypeVar("Choice")


class Draw:
    """Random draws of one object, in the order of the recipe."""

    def __init__(self, random: np.random.Generator) -> None:
        self.random = random

    def __call__(self, low: Number, high: Number) -> float:
        """Uniform between the two."""
        return low + (high - low) * self.random.random()

    def log(self, low: Number, high: Number) -> float:
        """Log-uniform: as often below the geometric middle as above."""
        return float(low * (high / low) ** self.random.random())

    def whole(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        return low + int(self.random.random() * (high - low + 1))

    def chance(self, probability: Number) -> bool:
        return bool(self.random.random() < probability)

    def pick(self, choices: Sequence[Choice]) -> Choice:
        return choices[self.whole(0, len(choices) - 1)]


class Recipe(NamedTuple):
    """One class: its parts in label order, and what builds an object of it."""

    parts: tuple[str, ...]
    build: Callable[[Draw], Pieces]
