"""Features that need no training, in the shape of an encoder: the baselines that every method has to beat."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from jepa3d.nets.encoder import Encoder
from jepa3d.nets.patches import Patches
from jepa3d.ops.descriptors import handcrafted


class RawCentres(Encoder):
    """A patch's token is its centre, a shape's feature all of them."""

    def forward(self, patches: Patches) -> Float[Tensor, "B N 3"]:
        return patches.centres

    def pool(self, tokens: Float[Tensor, "B N 3"]) -> Float[Tensor, "B F"]:
        return tokens.flatten(1)


class Handcrafted(Encoder):
    """1 token of 129 numbers for the whole cloud."""

    def forward(self, patches: Patches) -> Float[Tensor, "B 1 F"]:
        return handcrafted(patches.points)[:, None]

    def pool(self, tokens: Float[Tensor, "B 1 F"]) -> Float[Tensor, "B F"]:
        return tokens[:, 0]
