"""What an encoder is to everything that uses one: objectives, fine-tuning, segmentation, features, export."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from jepa3d.nets.patches import Patches
from jepa3d.params import Model
from jepa3d.problem import Problem


class Tokens(NamedTuple):
    """Tokens after some layer, and where in space their patches are."""

    centres: Float[Tensor, "B N 3"]
    tokens: Float[Tensor, "B N D"]


class Encoder(nn.Module, ABC):
    """Patches in, tokens out, one feature a shape. `config` says what can be known without building it.

    Every kind has `forward` and `pool`. One with `config.layers` also has `tokens_at` and `layer_names`, so that it can
    be trained on and predict points.
    """

    config: Model

    def __init__(self, config: Model) -> None:
        super().__init__()
        self.config = config

    @abstractmethod
    def forward(self, patches: Patches) -> Float[Tensor, "B L D"]:
        """All tokens of the last layer, none masked: inference (section 8). What `pool` takes."""

    @abstractmethod
    def pool(self, tokens: Float[Tensor, "B L D"]) -> Float[Tensor, "B F"]:
        """One feature a shape."""

    @property
    def features(self) -> int:
        """The width F of a pooled feature."""
        raise self._lacks("a feature of known width")

    @property
    def width(self) -> int:
        """The width D of a token of the last layer."""
        raise self._lacks("tokens of known width")

    def of_patches(self, patches: Patches, tokens: Float[Tensor, "B L D"]) -> Tokens:
        """The tokens of `forward` that stand for a patch each."""
        return Tokens(patches.centres, tokens)

    def tokens_at(self, patches: Patches, layers: Sequence[int]) -> list[Tokens]:
        """The tokens of patches after some of the layers (0-based, ascending), each normalised as the last ones are."""
        raise self._lacks("tokens at several depths")

    def layer_names(self) -> list[list[str]]:
        """The names of all parameters by layer: what comes before the first layer, each layer, what follows the last.

        Learning rates by layer and freezing go by these.
        """
        raise self._lacks("layers")

    def unread(self) -> list[nn.Parameter]:
        """Parameters that `forward` does not read: who trains on its output alone freezes them."""
        return []

    @torch.no_grad()
    def see(self, patches: Patches) -> None:
        """Let the layers with running statistics see a batch; they are in training mode."""
        self(patches)

    def _lacks(self, what: str) -> Problem:
        return Problem(
            f"an encoder of the kind '{self.config.kind}' has no {what}",
            "its features are computed, not learned",
            "leave this run out of what trains on an encoder or predicts points",
        )


class Separable(Encoder):
    """An encoder of one level whose tokenizer, position embedding and layers may be applied apart, to any tokens."""

    tokenizer: nn.Module  # groups [*B K 3] -> tokens [*B D]
    position: nn.Module  # centres [*B 3] -> positions [*B D]

    @property
    @abstractmethod
    def heads(self) -> int:
        """Attention heads of a layer."""

    @abstractmethod
    def trunk(
        self,
        tokens: Float[Tensor, "B L D"],
        positions: Float[Tensor, "B L D"],
        valid: Bool[Tensor, "B L"] | None = None,
        normed: bool = True,
    ) -> Float[Tensor, "B L D"]:
        """The layers over any subset of the tokens; padded ones are neither read nor meaningful.

        Not `normed`: what the last layer gives, before the last norm.
        """

    def with_cls(
        self, tokens: Float[Tensor, "B L D"], positions: Float[Tensor, "B L D"]
    ) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B L D"]]:
        """As `trunk`; before the tokens, what the layers made of the [CLS] token. For models that have `cls`."""
        raise NotImplementedError


class LevelTokens(NamedTuple):
    """What the layers of one level made of its visible tokens, passed through the level's norm."""

    tokens: Float[Tensor, "B L D"]
    at: Int[Tensor, "B L"]  # their places among the level's patches
    valid: Bool[Tensor, "B L"]  # which are no padding


class Pyramid(Encoder):
    """An encoder of several levels, which may be applied to visible tokens alone."""

    @property
    @abstractmethod
    def heads(self) -> int:
        """Attention heads of a layer."""

    @abstractmethod
    def visible(self, patches: Patches, seen: Sequence[Bool[Tensor, "B _"]]) -> list[LevelTokens]:
        """The encoder over visible tokens only, `seen` [B, N] for each level; what each level's layers made of them.

        From fine to coarse. A visible token of a coarser level has members that are visible, each visible one of a
        finer level is one of theirs: `ops.masking.visible_levels`.
        """

    @abstractmethod
    def norm_of(self, level: int) -> nn.Module:
        """The norm of a level's tokens: who reads them trains it."""


def pooled(tokens: Float[Tensor, "B N D"], how: str, cls: Float[Tensor, "B D"] | None = None) -> Float[Tensor, "B F"]:
    """One feature a shape: `sum` is max + mean, the others are concatenated in the order of their names."""
    if how == "sum":
        return tokens.amax(1) + tokens.mean(1)
    both = {"max": tokens.amax(1), "mean": tokens.mean(1), **({} if cls is None else {"cls": cls})}
    return torch.cat([both[part] for part in how.split("_")], -1)
