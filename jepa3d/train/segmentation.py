"""Part segmentation on an encoder: features of three depths, the shape's own, its category's -> logits of points.

The head is the Point-MAE family's. Two of its layers act on vectors that were repeated first: the one after the
interpolation on features of 3 patches mixed for each point, the one after the concat on the shape's feature put beside
every point. A linear layer commutes with both, so here it comes first, on N patches and on 1 shape instead of P points:
the same function for a fraction of the products.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from jepa3d.nets.dropout import Dropout
from jepa3d.nets.encoder import Encoder, Tokens
from jepa3d.nets.patches import Patches
from jepa3d.ops.geometry import gather
from jepa3d.ops.propagate import inverse_distance
from jepa3d.train.objective import Loss, Trainable

CATEGORY = 64  # width of the category's embedding
SLOPE = 0.2  # of the category's LeakyReLU
Merge = Literal["concat", "mean"]
OfCategory = Literal["plain", "normed"]


def merged(found: list[Tokens], merge: Merge) -> list[Tokens]:
    """The tokens of all depths, those on the same centres as one: a pyramid's levels stay apart."""
    levels: dict[int, list[Tokens]] = {}
    for one in found:
        levels.setdefault(id(one.centres), []).append(one)
    joined = []
    for some in levels.values():
        tokens = [one.tokens for one in some]
        together = torch.cat(tokens, -1) if merge == "concat" else torch.stack(tokens).mean(0)
        joined.append(Tokens(some[0].centres, together))
    return joined


class Segmenter(nn.Module):
    """Encoder and head. The head's widths are the family's at D = 384 (1536, 1024, 512, 256) and scale with D.

    `merge`: the features of the depths are concatenated (Point-MAE) or averaged (Point-JEPA). Those of several levels
    of patches are concatenated, each interpolated from the centres of its own level. `of_category`: the category's
    embedding as it is, or through BatchNorm and LeakyReLU, as the family's.
    """

    def __init__(
        self,
        encoder: Encoder,
        classes: int,
        parts: int,
        merge: Merge = "concat",
        dropout: float = 0.5,
        of_category: OfCategory = "plain",
    ) -> None:
        super().__init__()
        width = encoder.width
        self.encoder, self.merge = encoder, merge
        self.layers = encoder.config.depths
        merged = sum(encoder.config.depth_widths) if merge == "concat" else width
        wide, deep, first, second = (width * 4, width * 8 // 3, width * 4 // 3, width * 2 // 3)
        self.category = nn.Embedding(classes, CATEGORY)  # a linear layer on the one-hot category
        self.category_norm = nn.BatchNorm1d(CATEGORY) if of_category == "normed" else None
        self.lift = nn.Linear(merged, wide, bias=False)  # with `lift_xyz`: one layer on [interpolated feature, point]
        self.lift_xyz = nn.Linear(3, wide, bias=False)
        self.lift_norm = nn.BatchNorm1d(wide)
        self.deep = nn.Linear(wide, deep, bias=False)
        self.deep_norm = nn.BatchNorm1d(deep)
        self.of_point = nn.Linear(deep, first, bias=False)  # with `of_shape`: one layer on [shape, category, point]
        self.of_shape = nn.Linear(2 * merged + CATEGORY, first, bias=False)
        self.first_norm = nn.BatchNorm1d(first)
        self.dropout = Dropout(dropout)
        self.second = nn.Linear(first, second, bias=False)
        self.second_norm = nn.BatchNorm1d(second)
        self.out = nn.Linear(second, parts)

    def forward(
        self, patches: Patches, category: Int[Tensor, " B"], points: Float[Tensor, "B Q 3"]
    ) -> Float[Tensor, "B Q parts"]:
        """Logits of every part at any points, such as the cloud's; the shape's category is given, as the field does."""
        levels = merged(self.encoder.tokens_at(patches, self.layers), self.merge)
        every = [tokens for _, tokens in levels]
        shape = torch.cat([*(x.amax(1) for x in every), *(x.mean(1) for x in every), self._of(category)], -1)
        lifts = self.lift.weight.split([tokens.shape[-1] for tokens in every], 1)
        interpolated = [
            inverse_distance(points, at) @ F.linear(tokens, lift)
            for (at, tokens), lift in zip(levels, lifts, strict=True)
        ]
        x = torch.stack(interpolated).sum(0) if len(interpolated) > 1 else interpolated[0]
        x = x + self.lift_xyz(points)
        x = self.deep(_normed(x, self.lift_norm))
        x = self.of_point(_normed(x, self.deep_norm)) + self.of_shape(shape)[:, None]
        x = self.second(self.dropout(_normed(x, self.first_norm)))
        return self.out(_normed(x, self.second_norm))

    def _of(self, category: Int[Tensor, " B"]) -> Float[Tensor, "B C"]:
        found: Tensor = self.category(category)
        return found if self.category_norm is None else F.leaky_relu(self.category_norm(found), SLOPE)


def _normed(x: Float[Tensor, "B P C"], norm: nn.BatchNorm1d) -> Float[Tensor, "B P C"]:
    return F.relu(norm(x.flatten(0, 1)), inplace=True).view(x.shape)


@runtime_checkable
class Numbered(Protocol):
    """A batch whose `label` says which shape of the training set each one is."""

    label: Tensor

    def patches(self) -> Patches: ...

    def uniform(self, purpose: str, *count: int) -> Tensor: ...


class PartObjective(Trainable):
    """Negative log-likelihood of the points' parts; the labels of the training set lie beside the model.

    `allowed` says which parts compete in each category; the loss is over all parts where it is all true, as the peers'
    is. `points`: how many of each shape's points, drawn anew for each step, the loss sees (None: all). `frozen`: the
    encoder gets no gradient and stays in evaluation mode. `mean` of a number over the ranks that share a batch.
    `factors`: those of the learning rate, by the encoder's parameters; none: all have one rate.
    """

    part: Tensor
    category: Tensor
    allowed: Tensor

    def __init__(
        self,
        model: Segmenter,
        part: Int[Tensor, "n P"],
        category: Int[Tensor, " n"],
        allowed: Bool[Tensor, "classes parts"],
        points: int | None,
        frozen: bool,
        mean: Callable[[Tensor], Tensor] = lambda number: number,
        factors: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        self.factors = {f"model.encoder.{name}": factor for name, factor in (factors or {}).items()}
        self.model, self.points, self.frozen, self.mean = model, points, frozen, mean
        for name, table in (("part", part), ("category", category), ("allowed", allowed)):
            self.register_buffer(name, table, persistent=False)
        model.encoder.requires_grad_(not frozen)

    def lr_factors(self) -> Mapping[str, float]:
        return self.factors

    def train(self, mode: bool = True) -> PartObjective:
        super().train(mode)
        if self.frozen:
            self.model.encoder.eval()
        return self

    def forward(self, batch: Numbered, progress: float = 0.0) -> Loss:
        patches, truth, category = batch.patches(), self.part[batch.label].long(), self.category[batch.label]
        points = patches.points
        if self.points is not None:
            drawn = batch.uniform("part points", points.shape[1]).topk(self.points, 1).indices
            points, truth = gather(points, drawn), truth.gather(1, drawn)
        logits = self.model(patches, category, points).float()
        logits = logits.masked_fill(~self.allowed[category][:, None], -torch.inf)
        labelled = self.mean((truth >= 0).sum().float()[None])[0].clamp_min(1.0)  # so that every point counts the same
        likelihood = F.cross_entropy(logits.flatten(0, 1), truth.flatten(), ignore_index=-1, reduction="sum")
        right = (logits.argmax(-1) == truth).sum() / labelled
        return Loss(likelihood / labelled, {"train_point_accuracy": right})


def best_allowed(logits: Float[Tensor, "B P parts"], allowed: Bool[Tensor, "B parts"]) -> Int[Tensor, "B P"]:
    """The best part of every point among those of its shape's category (ops.score.restricted_argmax, for a batch)."""
    return logits.masked_fill(~allowed[:, None], -torch.inf).argmax(-1)
