"""The terms of a comparison: operations by hand, parameters that are trained, which budgets are the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from jepa3d import project
from jepa3d.encoders import build
from jepa3d.nets.transformer import Attention
from jepa3d.params import Level, Scheme
from jepa3d.report import terms
from jepa3d.report.grid import plain
from jepa3d.report.terms import Terms
from jepa3d.train.batches import Batch
from jepa3d.train.compute import gflop
from jepa3d.train.objective import Loss, Trainable

POINTS, WIDTH = 40, 8
SCHEME = Scheme(points=POINTS, levels=(Level(num=4, size=2),))


class Attending(Trainable):
    """One linear layer over the points, then attention among them."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.attend = nn.Linear(3, WIDTH), Attention(WIDTH, 2)

    def forward(self, batch: Batch, progress: float = 0.0) -> Loss:
        x = self.embed(batch.points)
        return Loss(self.attend(x, x, None).sum(), {})


def test_the_operations_of_a_shape_are_those_counted_by_hand_with_attentions_products():
    embed = 2 * POINTS * 3 * WIDTH
    attention = 4 * 2 * POINTS * WIDTH * WIDTH + 2 * 2 * POINTS * POINTS * WIDTH
    # backward: of the first layer the weight's gradient alone, of all else both factors'
    assert gflop(Attending(), SCHEME) == pytest.approx((2 * embed + 3 * attention) / 1e9)


def test_counting_draws_nothing_from_the_generator_of_others():
    net = Attending()
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    gflop(net, SCHEME)
    assert torch.equal(torch.rand(2), wanted)


def test_a_run_trains_encoder_and_predictor_and_not_the_ema_copy(tiny: dict[str, Any], write: Callable[[Any], Path]):
    params = project.load(write(tiny))
    found = terms.of_run(params, "jepa", 30, [{"seconds": 60.0}, {"seconds": 30.0}], 0, None)
    encoder = sum(p.numel() for p in build(params.model(params.runs["jepa"].model)).parameters())
    assert found.encoder == encoder < found.trained < 2 * encoder
    assert found.shapes == 30 * params.runs["jepa"].fit.batch
    assert found.seconds == pytest.approx(1.5)
    assert found.pflop == pytest.approx(found.gflop * found.shapes / 1e6)
    assert terms.of_run(params, "jepa", 30, [{}], 0, None).seconds is None


def test_more_blocks_of_a_decoder_cost_more_and_are_trained(tiny: dict[str, Any], write: Callable[[Any], Path]):
    tiny["runs"]["one"] = {"base": "jepa", "objective": {"kind": "point_mae", "decoder": {"depth": 1}}}
    tiny["runs"]["two"] = {"base": "jepa", "objective": {"kind": "point_mae", "decoder": {"depth": 2}}}
    params = project.load(write(tiny))
    one, two = (terms.of_run(params, name, 1, [], 0, None) for name in ("one", "two"))
    assert two.gflop > one.gflop
    assert two.trained > one.trained
    assert two.encoder == one.encoder


FIRST = Terms(10, 5, 1.0, 1000, 0.1)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (FIRST, "same shapes and compute"),
        (FIRST._replace(gflop=2.0), "same shapes"),
        (FIRST._replace(gflop=2.0, shapes=510), "same compute"),
        (FIRST._replace(shapes=700), "its own"),
    ],
)
def test_budgets_are_the_same_where_shapes_or_operations_are(other: Terms, words: str):
    assert terms.budget(FIRST, other) == words
    table = terms.terms_grid({"a": FIRST, "b": other._replace(encoder=0, seconds=None)})
    cells = [plain(one) for one in table.rows[1].cells]
    assert (cells[0], cells[2], cells[4], cells[-1]) == ("b", "–", "–", words)


def test_a_study_without_trainings_has_no_table_of_terms():
    assert terms.terms_grid({}).rows == []
