"""One rank among several: its share of the draws and of the work. What several do together: test_several_ranks."""

from __future__ import annotations

import signal

import pytest
import torch
from torch import Tensor, nn

from jepa3d.encoders import build, transformer
from jepa3d.nets.dropout import Dropout
from jepa3d.params import Tokenizer
from jepa3d.train import distributed
from jepa3d.train.distributed import ALONE, World
from jepa3d.train.heads import Classifier


def test_dropout_is_drawn_for_the_rows_of_all_ranks():
    drop, x = Dropout(0.4), torch.randn(12, 3, 5)

    def drawn(rows: slice, share: tuple[int, int]) -> Tensor:
        torch.manual_seed(5)
        drop.share = share
        return drop(x[rows])

    whole = drawn(slice(None), (0, 1))
    torch.manual_seed(5)
    assert torch.equal(whole, nn.functional.dropout(x, 0.4))
    assert torch.equal(torch.cat([drawn(slice(3 * rank, 3 * rank + 3), (rank, 4)) for rank in range(4)]), whole)
    assert torch.equal(drop.eval()(x), x)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [0, 1, 5, 12])
def test_work_is_shared_whole_and_evenly(count: int, size: int):
    shares = [list(range(count))[World(rank, size).share(count)] for rank in range(size)]
    assert [number for share in shares for number in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_outside_the_block_layers_are_as_they_were():
    model = transformer.Config(width=24, depth=2, heads=2, tokenizer=Tokenizer(widths=(8, 16, 16)))
    net = Classifier(build(model), (8,), 3, 0.5)
    with distributed.layers_synchronised(net, World(1, 2)):
        assert "forward" in vars(net.encoder.tokenizer.point_norm)
        assert net.encoder.blocks[0].share == net.head[3].share == (1, 2)
    assert "forward" not in vars(net.encoder.tokenizer.point_norm)
    assert net.encoder.blocks[0].share == net.head[3].share == (0, 1)


def test_alone_without_an_environment(monkeypatch: pytest.MonkeyPatch):
    for key, value in {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "elsewhere", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(key, value)  # of another launcher, in whose shell we are called
    with distributed.joined() as world:
        assert world == ALONE
        assert (world.max(3), world.broadcast(4)) == (3, 4)
        assert world.mean(torch.tensor([2.0])).tolist() == world.sum(torch.tensor([2.0])).tolist() == [2.0]
        assert world.all_gather_rows(torch.tensor([[2.0]], requires_grad=True)).requires_grad is False
        assert world.all_gather([1, 2]) == [1, 2]  # type: ignore[list-item]
    monkeypatch.setenv("JEPA3D_JOB", "slurm")
    with distributed.joined() as world:
        assert world.save_on == (signal.SIGTERM,)


def test_a_rank_without_the_gpu_it_was_promised_is_a_problem(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JEPA3D_GPU", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(Exception, match="sees no GPU"), distributed.joined():
        pass
