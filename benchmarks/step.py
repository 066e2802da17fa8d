"""One pretraining step: ours against a plain reference, in samples/s; on a GPU also the share of the matrix rate.

python benchmarks/step.py [--batch 8] [--device cpu|cuda] [--rounds 3] [--out FILE]

The reference is what one writes first: Conv1d tokenizer over the concatenated maximum, tokens of every patch for
student and teacher, an EMA that loops over the parameters. Both do the same arithmetic of Algorithm 1 at the
document's size. Needs torch, numpy, h5py, numba, pydantic and jaxtyping only.
"""

from __future__ import annotations

import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import copy
from collections.abc import Callable

import numpy as np
import torch
from common import arguments, show
from torch import Tensor, nn
from torch.nn import functional as F

from jepa3d.encoders import transformer
from jepa3d.objectives import jepa
from jepa3d.ops.geometry import fps_numba, gather, knn_numba
from jepa3d.ops.masking import pack
from jepa3d.params import Augment, Execution, Fit
from jepa3d.train import loop
from jepa3d.train.batches import Arrays, Batch, Batching, InMemory, Stream
from jepa3d.train.objective import Setup

# multiply-adds of Algorithm 1 a sample, forward and backward, tokens for every patch: see docs/method.md
GFLOP_PER_SAMPLE = 17.3


class ConvTokenizer(nn.Module):
    """The two-stage mini-PointNet as the family writes it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv1d(3, 128, 1), nn.BatchNorm1d(128), nn.ReLU(), nn.Conv1d(128, 256, 1))
        self.second = nn.Sequential(nn.Conv1d(512, 512, 1), nn.BatchNorm1d(512), nn.ReLU(), nn.Conv1d(512, width, 1))

    def forward(self, patches: Tensor) -> Tensor:
        x = self.first(patches.flatten(0, 1).transpose(1, 2))
        top = x.max(2, keepdim=True).values
        x = self.second(torch.cat([top.expand_as(x), x], 1))
        return x.max(2).values.view(*patches.shape[:2], -1)


class Reference(jepa.Objective):
    """The same objective with the plain tokenizer and the plain EMA."""

    def __init__(self, model: transformer.Config) -> None:
        super().__init__(jepa.Config(), Setup(model))
        self.encoder.tokenizer = ConvTokenizer(model.width)
        self.target = copy.deepcopy(self.encoder).requires_grad_(False).eval()

    def forward(self, batch: Batch, progress: float = 0.0) -> jepa.Loss:
        patches = batch.patches()
        mask = self.draw_mask(patches.centres, batch)
        (c_at, c_valid), (t_at, t_valid) = pack(mask.context), pack(mask.target)
        tokens, positions = self.encoder.tokenizer(patches.groups), self.encoder.position(patches.centres)
        context = self.encoder.trunk(gather(tokens, c_at), gather(positions, c_at), c_valid)
        with torch.no_grad():
            own = self.target.tokenizer(patches.groups)
            z = self.target.trunk(gather(own, t_at), gather(self.target.position(patches.centres), t_at), t_valid)
            z = F.layer_norm(z, z.shape[-1:])
        predicted = self.predictor(context, gather(positions, c_at), c_valid, gather(positions, t_at), t_valid)
        return jepa.Loss(jepa.mean_over_targets(jepa.squared(predicted, z, 1.0), t_valid), {})

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        for average, own in zip(self.target.parameters(), self.encoder.parameters(), strict=True):
            average.mul_(0.996).add_(own, alpha=0.004)


def make_step(objective: jepa.Objective, stream: Stream, settings: Fit, fused: bool) -> Callable[[], None]:
    """One step as a call; on GPUs in bf16 and, for ours, compiled."""
    device = stream.device
    objective = objective.to(device).train()
    optimiser = loop.adamw(objective, settings) if fused else torch.optim.AdamW(objective.encoder.parameters())
    if not fused:
        optimiser.add_param_group({"params": list(objective.predictor.parameters())})
    module = loop._compiled(objective, Execution(), device) if fused else objective
    number = 0

    def step() -> None:
        nonlocal number
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = module(stream.at(number)[0])
        loss.total.backward()
        optimiser.step()
        objective.after_step(0.5)
        number += 1

    return step


def seconds_of(step: Callable[[], None], device: torch.device, count: int) -> float:
    """CPU seconds a step on the CPU, wall seconds on a GPU."""
    if device.type == "cpu":
        begin = time.process_time()
        for _ in range(count):
            step()
        return (time.process_time() - begin) / count
    torch.cuda.synchronize()
    begin = time.perf_counter()
    for _ in range(count):
        step()
    torch.cuda.synchronize()
    return (time.perf_counter() - begin) / count


def matrix_rate(device: torch.device) -> float:
    """TFLOP/s of a large bf16 product here and now: the ceiling that the step is compared with."""
    a = torch.randn(8192, 8192, device=device, dtype=torch.bfloat16)
    a @ a
    return 2 * 8192**3 / seconds_of(lambda: a @ a, device, 20) / 1e12


def main() -> None:
    options = arguments(
        __doc__ or "",
        batch=(8, "shapes a step"),
        device=("cpu", "cpu or cuda"),
        rounds=(3, "interleaved rounds"),
        steps=(2, "steps a round"),
    )
    device = torch.device(options.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    random = np.random.default_rng(0)
    points = random.standard_normal((max(64, options.batch), 1024, 3)).astype(np.float32)
    centre = fps_numba(points, 64)
    neighbour = knn_numba(points, np.take_along_axis(points, centre[:, :, None], 1), 32)
    arrays = Arrays(points, centre.astype(np.uint16), neighbour.astype(np.uint16), np.zeros(len(points), np.int64))
    settings = Fit(epochs=300, batch=options.batch, warmup_epochs=10)
    augmentation = Augment(scale=(2 / 3, 1.5), rotate="upright", shift=0.2)
    model = transformer.Config()
    assert model.width == 384

    def stream() -> Stream:
        return Stream(InMemory(arrays), Batching(options.batch, augmentation), 0, device)

    candidates = {
        "plain reference": make_step(Reference(model), stream(), settings, fused=False),
        "jepa3d, tokenize: all": make_step(jepa.Objective(jepa.Config(), Setup(model)), stream(), settings, fused=True),
        "jepa3d, tokenize: used": make_step(
            jepa.Objective(jepa.Config(tokenize="used"), Setup(model)), stream(), settings, fused=True
        ),
    }
    best = dict.fromkeys(candidates, float("inf"))
    for round_ in range(options.rounds + 1):  # the first one warms up and compiles
        for name, step in candidates.items():
            cost = seconds_of(step, device, options.steps)
            best[name] = min(best[name], cost) if round_ else float("inf")
    base = best["plain reference"]
    rows = [[name, options.batch / cost, cost / base] for name, cost in best.items()]
    columns = ["step", "samples/s", "time against the reference"]
    if device.type == "cuda":
        ceiling = matrix_rate(device)
        columns.append("share of the bf16 matrix rate")
        rows = [[*row, row[1] * GFLOP_PER_SAMPLE / 1000 / ceiling] for row in rows]
        print(f"{torch.cuda.get_device_name()}: {ceiling:.0f} TFLOP/s dense bf16, torch {torch.__version__}")
    show(f"Pretraining step at the document's size, batch {options.batch}", columns, rows, options.out)


if __name__ == "__main__":
    main()
