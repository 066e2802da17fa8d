"""The max over the points of a patch, with a backward pass that is cheap on the CPU."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable


def max_pool(x: Float[Tensor, "*B K D"]) -> Float[Tensor, "*B 1 D"]:
    """`x.amax(-2, keepdim=True)`, gradient included to the bit: equal maxima share it evenly.

    torch's own backward counts the ties as integers of 64 bits and multiplies by booleans, in several passes over the
    whole of x; on the CPU that is a good part of what a tokenizer costs.
    On other devices, and where the step is compiled, it is torch's own.
    """
    if x.requires_grad and x.device.type == "cpu" and not torch.compiler.is_compiling():
        result: Tensor = _Largest.apply(x)
        return result
    return x.amax(-2, keepdim=True)


class _Largest(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        top = x.amax(-2, keepdim=True)
        ctx.save_for_backward(x, top)
        return top

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        x, top = ctx.saved_tensors
        share = torch.empty_like(x)
        torch.eq(x, top, out=share)
        return share.mul_(gradient / share.sum(-2, keepdim=True))
