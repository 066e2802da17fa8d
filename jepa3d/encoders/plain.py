"""Features that need no training, in the shape of an encoder: the baselines that every method has to beat."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from jepa3d.nets.patches import Patches
from jepa3d.ops.descriptors import handcrafted


class RawCentres(nn.Module):
    """The coordinates of the patch centres, in the order of farthest point sampling."""

    def forward(self, patches: Patches) -> Float[Tensor, "B N 3"]:
        return patches.centres

    def pool(self, tokens: Float[Tensor, "B N 3"]) -> Float[Tensor, "B F"]:
        return tokens.flatten(1)


class Handcrafted(nn.Module):
    """Quantiles of distances, radii and heights of the whole cloud: 1 token of 129 numbers."""

    def forward(self, patches: Patches) -> Float[Tensor, "B 1 F"]:
        return handcrafted(patches.points)[:, None]

    def pool(self, tokens: Float[Tensor, "B 1 F"]) -> Float[Tensor, "B F"]:
        return tokens[:, 0]


PLAIN: dict[str, type[nn.Module]] = {"raw_centres": RawCentres, "handcrafted": Handcrafted}
