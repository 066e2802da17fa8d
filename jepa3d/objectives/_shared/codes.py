"""What the dVAE gives to Point-BERT: a code for every patch, and the mini-PointNet that its encoder begins with."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor, nn

from jepa3d.nets.graph import GROUPS, Dgcnn
from jepa3d.nets.tokenizer import tokenizer
from jepa3d.params import Model, Tokenizer


class Codes(nn.Module):
    """Scores of all codes for every patch: a mini-PointNet, and graph convolutions over the patches of a shape.

    The mini-PointNet is that of a model without its bridge, and starts as torch has it.
    """

    def __init__(self, model: Model, codes: int) -> None:
        super().__init__()
        width = token_width(model)
        self.tokenizer = tokenizer(mini_pointnet(model), width)
        self.graph = Dgcnn(width, codes)

    def forward(self, groups: Float[Tensor, "B N K 3"], neighbour: Int[Tensor, "B N k"]) -> Float[Tensor, "B N C"]:
        scores: Tensor = self.graph(self.tokenizer(groups), neighbour)
        return scores


def mini_pointnet(model: Model) -> Tokenizer:
    """A model's tokenizer without what follows the mini-PointNet."""
    entry: Tokenizer = model.tokenizer  # type: ignore[attr-defined]  # `unfit` has seen that there is one
    return entry.model_copy(update={"bridge": None, "init": "torch"})


def token_width(model: Model) -> int:
    """The width of what a model's mini-PointNet makes of a patch."""
    width: int = model.tokenizer.bridge or model.width  # type: ignore[attr-defined]
    return width


def unfit(model: Model) -> str | None:
    """Why no codes can be made with the mini-PointNet of a model. None: they can."""
    if not (model.separable and isinstance(getattr(model, "tokenizer", None), Tokenizer)):
        return "codes are of patches of one level, made by a mini-PointNet, such as a Transformer's"
    width = token_width(model)
    return f"its mini-PointNet is {width} wide, which is no multiple of {GROUPS}" if width % GROUPS else None
