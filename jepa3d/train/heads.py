"""What stands on an encoder when it is trained on for a task (section 8)."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from jepa3d.nets.dropout import Dropout
from jepa3d.nets.encoder import Encoder
from jepa3d.nets.patches import Patches


def head(features: int, hidden: Sequence[int], classes: int, dropout: float, norm: bool = True) -> nn.Sequential:
    """The community's head: hidden layers with BatchNorm, ReLU and dropout, if any, then a linear one.

    Point-BERT's has no `norm`.
    """
    layers: list[nn.Module] = []
    for width in hidden:
        between = [nn.BatchNorm1d(width)] if norm else []
        layers += [nn.Linear(features, width), *between, nn.ReLU(), Dropout(dropout)]
        features = width
    return nn.Sequential(*layers, nn.Linear(features, classes))


class Classifier(nn.Module):
    """The class of a shape, from the pooled tokens of all its patches."""

    def __init__(
        self, encoder: Encoder, hidden: Sequence[int], classes: int, dropout: float, norm: bool = True
    ) -> None:
        super().__init__()
        self.encoder = encoder
        for parameter in encoder.unread():
            parameter.requires_grad_(False)
        self.head = head(encoder.features, hidden, classes, dropout, norm)

    def forward(self, patches: Patches) -> Float[Tensor, "B classes"]:
        return self.head(self.encoder.pool(self.encoder(patches)))
