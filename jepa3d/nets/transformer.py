"""The standard pre-norm Transformer (section 4.2), with key masks for sequences of different lengths."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from jepa3d.nets.dropout import ALL, kept

Valid = Bool[Tensor, "B L"] | None


class Attention(nn.Module):
    """Multi-head attention of `x` over `memory` (itself by default). Padded keys are masked out, never attended."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "B L D"], memory: Float[Tensor, "B S D"], valid: Bool[Tensor, "B S"] | None
    ) -> Float[Tensor, "B L D"]:
        def split(t: Tensor) -> Tensor:
            return t.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        key, value = self.key_value(memory).chunk(2, -1)
        mask = None if valid is None else valid[:, None, None, :]
        mixed = F.scaled_dot_product_attention(split(self.query(x)), split(key), split(value), attn_mask=mask)
        return self.out(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """x + attention(norm x), then, where `cross`, x + attention over a memory, then x + MLP(norm x)."""

    def __init__(self, width: int, heads: int, mlp_ratio: float, drop_path: float = 0.0, cross: bool = False) -> None:
        super().__init__()
        hidden = int(width * mlp_ratio)
        self.norm_self, self.attend_self = nn.LayerNorm(width), Attention(width, heads)
        self.cross = cross
        if cross:
            self.norm_cross, self.attend_cross = nn.LayerNorm(width), Attention(width, heads)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.drop_path = drop_path
        self.share = ALL

    def forward(
        self,
        x: Float[Tensor, "B L D"],
        valid: Valid = None,
        memory: Float[Tensor, "B S D"] | None = None,
        memory_valid: Bool[Tensor, "B S"] | None = None,
    ) -> Float[Tensor, "B L D"]:
        normed = self.norm_self(x)
        x = x + self._drop(self.attend_self(normed, normed, valid))
        if self.cross and memory is not None:
            x = x + self._drop(self.attend_cross(self.norm_cross(x), memory, memory_valid))
        return x + self._drop(self.mlp(self.norm_mlp(x)))

    def _drop(self, branch: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        """Stochastic depth: the whole branch of a shape is left out with probability `drop_path`."""
        if not self.training or self.drop_path == 0.0:
            return branch
        return branch * kept(branch, self.drop_path, self.share, 1, 1)


def initialise(module: nn.Module) -> None:
    """Truncated normal weights (std 0.02) and zero biases for Transformer layers, as ViTs of this family start."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
