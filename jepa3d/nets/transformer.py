"""The standard pre-norm Transformer (section 4.2), with key masks for sequences of different lengths."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from jepa3d.nets.dropout import ALL, TokenDropout, kept

Keys = Bool[Tensor, "B S"] | Bool[Tensor, "B L S"] | None  # those that may be attended, of all queries or of each
Mask = Bool[Tensor, "B L"] | Bool[Tensor, "B L L"] | None  # the same of a sequence that attends to itself


class Attention(nn.Module):
    """Multi-head attention of `x` over `memory` (itself by default). Padded keys are masked out, never attended.

    A mask of pairs [B, L, S] says it for each query; every query needs one key that it may attend, padded ones too.
    """

    def __init__(self, width: int, heads: int, qkv_bias: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=qkv_bias)
        self.key_value = nn.Linear(width, 2 * width, bias=qkv_bias)
        self.out = nn.Linear(width, width)
        self.dropout = TokenDropout(dropout)

    def forward(self, x: Float[Tensor, "B L D"], memory: Float[Tensor, "B S D"], valid: Keys) -> Float[Tensor, "B L D"]:
        def split(t: Tensor) -> Tensor:
            return t.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        key, value = self.key_value(memory).chunk(2, -1)
        mask = None if valid is None else valid[:, None, None, :] if valid.ndim == 2 else valid[:, None]
        mixed = self._mix(split(self.query(x)), split(key), split(value), mask)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def _mix(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        if not self.training or self.dropout.drop == 0.0:
            return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        score = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
        if mask is not None:
            score = score.masked_fill(~mask, -torch.inf)
        return self.dropout(score.softmax(-1)) @ value


class Block(nn.Module):
    """x + attention(norm x), then, where `cross`, x + attention over a memory, then x + MLP(norm x).

    `dropout` follows both layers of the MLP and the attention's last, `attention_dropout` its softmax.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_ratio: float,
        drop_path: float = 0.0,
        cross: bool = False,
        qkv_bias: bool = True,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        hidden = int(width * mlp_ratio)
        self.norm_self, self.attend_self = nn.LayerNorm(width), Attention(width, heads, qkv_bias, attention_dropout)
        self.cross = cross
        if cross:
            self.norm_cross = nn.LayerNorm(width)
            self.attend_cross = Attention(width, heads, qkv_bias, attention_dropout)
        self.norm_mlp = nn.LayerNorm(width)
        active = nn.Sequential(nn.GELU(), TokenDropout(dropout))
        self.mlp = nn.Sequential(nn.Linear(width, hidden), active, nn.Linear(hidden, width))
        self.dropout = TokenDropout(dropout)
        self.drop_path = drop_path
        self.share = ALL

    def forward(
        self,
        x: Float[Tensor, "B L D"],
        valid: Mask = None,
        memory: Float[Tensor, "B S D"] | None = None,
        memory_valid: Bool[Tensor, "B S"] | None = None,
    ) -> Float[Tensor, "B L D"]:
        normed = self.norm_self(x)
        x = x + self._drop(self.attend_self(normed, normed, valid))
        if self.cross and memory is not None:
            x = x + self._drop(self.attend_cross(self.norm_cross(x), memory, memory_valid))
        return x + self._drop(self.mlp(self.norm_mlp(x)))

    def _drop(self, branch: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        """Dropout, then stochastic depth: the whole branch of a shape is left out with probability `drop_path`."""
        branch = self.dropout(branch)
        if not self.training or self.drop_path == 0.0:
            return branch
        return branch * kept(branch, self.drop_path, self.share, 1, 1)


def initialise_xavier(module: nn.Module) -> None:
    """Xavier-uniform weights and zero biases, as the decoders of Point-MAE and Point-M2AE start."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def initialise(module: nn.Module) -> None:
    """Truncated normal weights (std 0.02) and zero biases for Transformer layers, as ViTs of this family start."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
