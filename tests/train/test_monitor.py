"""Collapse diagnostics, each on features whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from jepa3d.train.monitor import COLLAPSED_COSINE, COLLAPSED_STD, leave_one_out_knn, mean_cosine, rank_me, warning


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_rank_me_of_equal_singular_values_is_their_number(rank: int):
    features = torch.zeros(20, 8)
    features[:rank, :rank] = 5.0 * torch.eye(rank)
    assert rank_me(features) == pytest.approx(rank, rel=1e-3)


def test_rank_me_is_exp_of_the_entropy_of_the_singular_values():
    features = torch.diag(torch.tensor([4.0, 2.0, 2.0]))
    assert rank_me(features) == pytest.approx(math.exp(0.5 * math.log(2) + 2 * 0.25 * math.log(4)), rel=1e-4)


def test_cosine_between_shapes_is_the_mean_over_pairs():
    features = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0], [-1.0, 0.0]])
    pairs = [1, 0, -1, 0, -1, 0]  # 01 02 03 12 13 23
    assert mean_cosine(features) == pytest.approx(np.mean(pairs), abs=1e-6)
    assert mean_cosine(torch.ones(5, 3)) == pytest.approx(1.0)


def test_features_that_are_all_zero_have_rank_one_and_no_angle():
    assert rank_me(torch.zeros(6, 4)) == pytest.approx(1.0, abs=1e-3)
    assert mean_cosine(torch.zeros(6, 4)) == 0.0


def test_leave_one_out_knn_by_hand():
    angle = torch.deg2rad(torch.tensor([0.0, 10.0, 40.0, 180.0, 190.0, 220.0]))
    features = torch.stack([angle.cos(), angle.sin()], 1)
    assert leave_one_out_knn(features, torch.tensor([0, 0, 0, 1, 1, 1]), k=2) == 1.0
    assert leave_one_out_knn(features, torch.tensor([0, 0, 0, 1, 1, 0]), k=1) == pytest.approx(5 / 6)  # not the last


def test_a_shape_never_votes_for_itself():
    features = torch.eye(4).repeat_interleave(2, 0)  # pairs of equal features with unequal labels
    assert leave_one_out_knn(features, torch.tensor([0, 1] * 4), k=1) == 0.0


def test_a_feature_without_spread_has_no_vote():
    random = torch.Generator().manual_seed(0)
    labels, features = torch.arange(200) % 4, torch.randn(200, 4, generator=random)
    rounding = 1 + 2e-8 * torch.randn(200, 60, generator=random)
    assert rounding.std() > 0
    assert leave_one_out_knn(torch.cat([features, rounding], 1), labels) == leave_one_out_knn(features, labels)


def test_k_may_exceed_the_number_of_shapes():
    assert 0 <= leave_one_out_knn(torch.randn(3, 4), torch.tensor([0, 1, 1]), k=5) <= 1


@pytest.mark.parametrize(("std", "cosine", "warned"), [(0.2, 0.3, False), (0.009, 0.3, True), (0.2, 0.996, True)])
def test_collapse_is_warned_of_with_numbers_thresholds_and_what_to_change(std: float, cosine: float, warned: bool):
    words = warning({"feature_std": std, "cosine": cosine})
    assert (words is not None) == warned
    if words:
        assert all(part in words for part in (f"{std:.4f}", f"{cosine:.4f}", str(COLLAPSED_STD), str(COLLAPSED_COSINE)))
        assert all(key in words for key in ("fit.lr", "objective.ema.start", "objective.mask.ratio"))
