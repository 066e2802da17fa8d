"""The max over the points of a patch: torch's own amax, gradient included, to the bit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jepa3d.ops.max_pool import max_pool

DTYPES = [torch.float32, torch.float64, torch.bfloat16]


def with_ties(levels: int, shape: tuple[int, ...], seed: int, dtype: torch.dtype) -> torch.Tensor:
    """Values of which many are equal, as those of padded and degenerate patches are."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(levels, shape, generator=generator).to(dtype).div(3).requires_grad_()


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=60, deadline=None)
@given(levels=st.integers(1, 50), patches=st.integers(1, 4), points=st.integers(1, 33), seed=st.integers(0, 99))
def test_value_and_gradient_are_those_of_amax_to_the_bit(dtype, levels, patches, points, seed):
    x = with_ties(levels, (patches, points, 5), seed, dtype)
    weight = torch.randn(patches, 1, 5, generator=torch.Generator().manual_seed(seed)).to(dtype)
    ours, torchs = max_pool(x), x.amax(-2, keepdim=True)
    assert ours.dtype == torchs.dtype
    assert torch.equal(ours, torchs)
    (a,), (b,) = torch.autograd.grad(ours, x, weight), torch.autograd.grad(torchs, x, weight)
    assert a.dtype == b.dtype
    assert torch.equal(a, b)


def test_equal_maxima_share_the_gradient_evenly():
    x = torch.tensor([[1.0, 2.0], [1.0, 0.0], [0.0, 2.0], [1.0, 2.0]], requires_grad=True)
    max_pool(x).sum().backward()
    third = pytest.approx(1 / 3)
    assert x.grad.T.tolist() == [[third, third, 0, third], [third, 0, third, third]]


def test_it_has_a_backward_pass_of_its_own_where_gradients_are_asked_for_on_the_cpu():
    x = torch.randn(2, 3, 4)
    assert max_pool(x).grad_fn is None
    assert "Amax" not in type(max_pool(x.requires_grad_()).grad_fn).__name__


def test_second_derivatives_are_refused_rather_than_wrong():
    x = torch.randn(3, 4, requires_grad=True)
    (first,) = torch.autograd.grad(max_pool(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_a_compiled_step_has_the_same_gradient():
    x = with_ties(4, (3, 8, 5), 0, torch.float32)
    compiled = torch.compile(lambda y: max_pool(y).square().sum(), backend="eager")
    (a,) = torch.autograd.grad(compiled(x), x)
    (b,) = torch.autograd.grad(x.amax(-2).square().sum(), x)
    assert torch.equal(a, b)
