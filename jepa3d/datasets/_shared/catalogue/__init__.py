"""Parametric objects: every class a function of random draws that builds its named parts. y is up, x is forward.

A class is told by its parts and how they are arranged; the proportions vary as widely as the word allows.
"""

from __future__ import annotations

from jepa3d.datasets._shared.catalogue import furniture, things, vehicles, vessels
from jepa3d.datasets._shared.catalogue.draw import Draw, Pieces, Recipe

__all__ = ["RECIPES", "Draw", "Pieces", "Recipe"]

RECIPES: dict[str, Recipe] = {
    **furniture.RECIPES,
    **vessels.RECIPES,
    **vehicles.RECIPES,
    **things.RECIPES,
}
