"""Several ranks of one training: how they meet, what they agree on, and what makes them compute what one rank would.

The same global batch on 1, 2 or 4 ranks gives the same loss curve and the same weights, to the order in which
floating-point numbers are summed:
- each rank has its own rows of every batch, and augmentation and masks are drawn by shape (`batches`, `ops.draws`);
- gradients are the mean over the ranks (DistributedDataParallel), and all ranks have equally many shapes; on CPUs
  summed from the first rank to the last, so that a resumed training has the very bits of one that was never stopped;
- BatchNorm's statistics are of all ranks' rows, forward and backward: torch's own SyncBatchNorm needs GPUs;
- dropout and stochastic depth are drawn for the rows of all ranks, of which each uses its own.
Checkpoints know nothing of ranks, so that a training may go on with another number of them.

Started by `jepa3d pretrain --launch` (or `evaluate`), a process finds the others by what the launcher put into its
environment; RANK and WORLD_SIZE of another launcher (torchrun, mpirun) do not count. NCCL between GPUs, Gloo between
CPUs. Small agreements (was any rank asked to stop?) always go by Gloo, which waits for no GPU, and which notices at
once that a process is gone.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.nn import functional as F

from jepa3d.nets.dropout import ALL, Dropout, TokenDropout
from jepa3d.nets.transformer import Block
from jepa3d.problem import Problem
from jepa3d.results import store

START = 600.0  # seconds that the ranks have to meet: nodes may load their software at very different speeds
STALL = timedelta(minutes=30)  # a rank that stands still so long (a stalled file system) is waited for; a dead one not


@dataclass(frozen=True)
class World:
    """This rank among all; without any others, every question is answered at once."""

    rank: int = 0
    size: int = 1
    control: Any = None  # the Gloo group of small agreements
    save_on: tuple[int, ...] = ()  # signals after which the state is saved and the training goes on

    @property
    def first(self) -> bool:
        """Whether this rank logs, monitors and writes."""
        return self.rank == 0

    def max(self, number: int) -> int:
        """The greatest of all ranks' numbers."""
        if self.size == 1:
            return number
        box = torch.tensor([number])
        dist.all_reduce(box, dist.ReduceOp.MAX, group=self.control)
        return int(box)

    def sum(self, values: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """The sum over the ranks of each number."""
        if self.size > 1:
            values = values.clone()
            torch.compiler.disable(dist.all_reduce)(values)  # a compiled training calls it as it is
        return values

    def mean(self, values: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """The mean over the ranks of each number."""
        return self.sum(values) / self.size if self.size > 1 else values

    def broadcast(self, number: int) -> int:
        """The first rank's number."""
        return self.max(number if self.first else -1)

    def share(self, count: int) -> slice:
        """Which of `count` pieces of work are this rank's: as many for each as can be, one after the other."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def all_gather(self, own: list[NDArray[Any]]) -> list[NDArray[Any]]:
        """What all ranks have made of their shares, in order."""
        if self.size == 1:
            return own
        gathered: list[Any] = [None] * self.size
        dist.all_gather_object(gathered, own, group=self.control)
        return [piece for pieces in gathered for piece in pieces]

    def all_gather_rows(self, own: Float[Tensor, "n *C"]) -> Float[Tensor, "all_n *C"]:
        """The rows of all ranks, of which each has as many, from the first rank's to the last's; without gradient.

        Of a micro-batch this is the order in which a single rank has its shapes, so that what an objective compares
        across the batch (keys of a contrast, a queue) is the same on any number of ranks.
        """
        own = own.detach().contiguous()
        if self.size == 1:
            return own
        gathered = [torch.empty_like(own) for _ in range(self.size)]
        torch.compiler.disable(dist.all_gather)(gathered, own)  # a compiled training calls it as it is
        return torch.cat(gathered)

    def barrier(self) -> None:
        """Go on when all ranks are here."""
        if self.size > 1:
            dist.barrier(group=self.control)


ALONE = World()


@contextlib.contextmanager
def joined() -> Iterator[World]:
    """The ranks of this training, as its launcher says (JEPA3D_RENDEZVOUS, RANK, WORLD_SIZE); alone without one."""
    meeting = os.environ.get("JEPA3D_RENDEZVOUS")
    if os.environ.get("JEPA3D_GPU") and not torch.cuda.is_available():
        raise Problem(
            f"rank {os.environ.get('RANK', 0)} sees no GPU",
            f"the cluster file says 'gpu: true'; torch {torch.__version__} was built for CUDA {torch.version.cuda}",
            "ask the site for a partition with GPUs, install torch for its CUDA, or set 'gpu: false'",
        )
    # Slurm sends SIGTERM ahead of a preemption and of a cancellation, and requeues or kills the job itself afterwards
    save_on = (signal.SIGTERM,) if os.environ.get("JEPA3D_JOB") == "slurm" else ()
    rank, size = (int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])) if meeting else (0, 1)
    if meeting is None or size == 1:
        yield World(save_on=save_on)
        return
    gpu = torch.cuda.is_available()
    if gpu and torch.cuda.device_count() > 1:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    found = _rendezvous(Path(meeting), rank, size)
    dist.init_process_group("nccl" if gpu else "gloo", rank=rank, world_size=size, timeout=STALL, store=found)
    control = dist.new_group(backend="gloo", timeout=STALL) if gpu else dist.group.WORLD
    if rank == 0:
        Path(meeting).unlink()  # everyone is here
    yield World(rank, size, control, save_on)
    dist.destroy_process_group()  # not after an error: other ranks may be gone, and NCCL would wait for them


def parallel(module: nn.Module, world: World) -> Any:
    """The module, whose gradients are averaged over the ranks in every backward pass that is not under `no_sync`."""
    if world.size == 1:
        return module
    make: Any = nn.parallel.DistributedDataParallel
    # tables of the data, which no checkpoint has either, are not sent to the other ranks at the start: they have them
    tables = {name for name, _ in module.named_buffers()} - set(module.state_dict())
    make._set_params_and_buffers_to_ignore_for_model(module, tables)
    # the buffers are equal by what is computed; newer versions of torch have another name for not sending them
    new = "forward_sync_buffers" in inspect.signature(make).parameters
    made = make(module, gradient_as_bucket_view=True, **{"forward_sync_buffers" if new else "broadcast_buffers": False})
    if dist.get_backend() == "gloo":
        made.register_comm_hook(None, lambda _, bucket: _mean_in_rank_order(bucket.buffer(), world.size))
    return made


def _mean_in_rank_order(own: Float[Tensor, " n"], size: int) -> torch.futures.Future[Tensor]:
    """The mean over the ranks of a bucket of gradients, summed from the first rank to the last.

    An all-reduce sums in an order that depends on where in its bucket a gradient stands, and each life of a training
    packs its buckets anew after its first step: with more than two ranks, a resumed one would have other roundings.
    """
    everyone = [torch.empty_like(own) for _ in range(size)]

    def mean(_: Any) -> Tensor:
        total = everyone[0]
        for other in everyone[1:]:
            total += other
        return total.div_(size)

    future: torch.futures.Future[Any] = dist.all_gather(everyone, own, async_op=True).get_future()
    return future.then(mean)


def no_sync(module: Any) -> contextlib.AbstractContextManager[None]:
    """A backward pass whose gradients are averaged together with those of the next: accumulation."""
    averaged: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    return module.no_sync() if isinstance(module, nn.parallel.DistributedDataParallel) else averaged


@contextlib.contextmanager
def layers_synchronised(module: nn.Module, world: World) -> Iterator[None]:
    """While the block runs, BatchNorm, dropout and stochastic depth of a module act on the rows of all ranks."""
    layers: list[Any] = list(module.modules()) if world.size > 1 else []
    norms: list[Any] = [layer for layer in layers if isinstance(layer, nn.BatchNorm1d)]
    drops: list[Any] = [layer for layer in layers if isinstance(layer, Block | Dropout | TokenDropout)]
    if norms:
        eager = torch.compiler.disable(sync_batch_norm)  # a compiled training calls it as it is
    for norm in norms:
        norm.forward = partial(eager, norm, world)
    for drop in drops:
        drop.share = (world.rank, world.size)
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward
        for drop in drops:
            drop.share = ALL


def sync_batch_norm(norm: nn.BatchNorm1d, world: World, x: Float[Tensor, "n C"]) -> Float[Tensor, "n C"]:
    """BatchNorm1d's forward with the statistics of all ranks' rows, whose numbers may differ."""
    if not norm.training:
        return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps)
    normed: Tensor
    normed, mean, variance, count = _SyncBatchNorm.apply(x, norm.weight, norm.bias, norm.eps, world)
    if norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None:
        with torch.no_grad():
            norm.num_batches_tracked += 1
            weight = 1.0 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
            norm.running_mean.lerp_(mean, weight)
            norm.running_var.lerp_(variance * (count / (count - 1)), weight)  # unbiased, as torch has it
    return normed


class _SyncBatchNorm(torch.autograd.Function):
    """(x - mean) / std over the rows of all ranks: two small messages a layer, one each way.

    Backward, with g = dL/dy and y = w (x - m) s + b:  dL/dx = w s (g - mean(g) - (x - m) s mean(g (x - m) s)),
    where the means are over all ranks' rows. The gradients of w and b stay each rank's own: they are averaged with
    those of all other parameters.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, world: World) -> Any:
        variance, mean = torch.var_mean(_wide(x), 0, correction=0)
        own = torch.cat([mean, variance, mean.new_full((1,), float(len(x)))]).double()
        everyone = own.new_zeros(world.size, len(own))
        everyone[world.rank] = own
        dist.all_reduce(everyone)
        width = len(mean)
        means, variances, counts = everyone[:, :width], everyone[:, width : 2 * width], everyone[:, -1:]
        count = counts.sum()
        total = (means * counts).sum(0) / count
        spread = ((variances + (means - total).square()) * counts).sum(0) / count
        mean, variance = total.to(mean.dtype), spread.to(mean.dtype)
        ctx.save_for_backward(x, weight, mean, variance, count)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, variance, count)
        return F.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps), mean, variance, count

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        x, weight, mean, variance, count = ctx.saved_tensors
        scale = (variance + ctx.eps).rsqrt()
        dx, dw, db = torch.ops.aten.native_batch_norm_backward(
            gradients[0].contiguous(), x, weight, mean, variance, None, None, False, ctx.eps, [True, True, True]
        )
        sums = torch.stack([db, dw]).to(mean.dtype)  # of g and of g (x - m) s, over the own rows
        dist.all_reduce(sums)
        of_g, of_gx = sums / count.to(sums.dtype)
        slope = weight * scale * scale * of_gx
        shift = slope * mean - weight * scale * of_g
        return torch.addcmul(_wide(dx), _wide(x), -slope).add_(shift).to(x.dtype), dw, db, None, None


def _wide(x: Tensor) -> Tensor:
    """At least float32: what is summed over many rows."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _rendezvous(path: Path, rank: int, size: int) -> Any:
    """The store through which the ranks find each other: the first opens a port, the others read in a file which.

    The file's name must be unique to each life of a job.
    """
    patience = timedelta(seconds=START)
    if rank == 0:
        host = socket.gethostname() if int(os.environ.get("SLURM_JOB_NUM_NODES", 1)) > 1 else "127.0.0.1"
        server = TCPStore(host, 0, size, is_master=True, timeout=patience, wait_for_workers=False)
        store.write_text(path, f"{host} {server.port}")
        return server
    end = time.monotonic() + START
    while not path.exists():
        if time.monotonic() > end:
            raise Problem(
                f"rank {rank} has not met the first rank in {START:.0f} seconds",
                f"that one writes its address to {path}",
                "look at the first rank's log; results must be on a file system that all nodes share",
            )
        time.sleep(0.1)
    host, port = path.read_text(encoding="utf-8").split()
    return TCPStore(host, int(port), size, is_master=False, timeout=patience)
