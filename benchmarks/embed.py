"""Embedding at the document's size, one core: the user's `embed`, the stage, and the exported encoders against the bare
forward of the encoder at its best batch size.

python benchmarks/embed.py [--shapes 32] [--exported no] [--out FILE]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("JEPA3D_THREADS", "1")

import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from common import arguments, rounds, show

from jepa3d.encoders import build, transformer
from jepa3d.nets.encoder import Encoder
from jepa3d.nets.patches import Patches, patchify
from jepa3d.ops.geometry import fps_numba, knn_numba
from jepa3d.params import Scheme
from jepa3d.pretrained import LoadedEncoder
from jepa3d.stages.embed import features
from jepa3d.tools.export import run_onnx, to_onnx, to_torchscript
from jepa3d.train.batches import Arrays, InMemory

SIZES = (1, 2, 4, 8, 16, 32)


def bare(net: Encoder, patches: Patches, size: int) -> Callable[[], None]:
    """Nothing but the forward, over patches that are there."""
    batches = [Patches(*(part[at : at + size] for part in patches)) for at in range(0, len(patches.points), size)]

    @torch.no_grad()
    def work() -> None:
        for batch in batches:
            net.pool(net(batch))

    return work


def exported(loaded: LoadedEncoder, points: torch.Tensor) -> dict[str, Callable[[], object]]:
    """The same encoder in onnxruntime and TorchScript, in batches of the same size."""
    batches = points.split(loaded.batch_size)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        to_onnx(loaded, Path(folder) / "model.onnx")
        to_torchscript(loaded, Path(folder) / "model.pt")
        session, script = run_onnx(Path(folder) / "model.onnx"), torch.jit.load(str(Path(folder) / "model.pt"))
    return {
        "onnxruntime, from points": lambda: [session(batch) for batch in batches],
        "TorchScript, from points": torch.no_grad()(lambda: [script(batch) for batch in batches]),
    }


def main() -> None:
    options = arguments(
        __doc__ or "",
        shapes=(32, "shapes a round"),
        rounds=(3, "interleaved rounds"),
        exported=("no", "yes: the exported encoders too, which takes some minutes"),
    )
    torch.set_num_threads(1)
    scheme, net = Scheme(), build(transformer.Config()).eval()
    loaded, level = LoadedEncoder(net, scheme, {}), scheme.levels[0]
    points = np.random.default_rng(0).standard_normal((options.shapes, scheme.points, 3)).astype(np.float32)
    centre = fps_numba(points, level.num)
    neighbour = knn_numba(points, np.take_along_axis(points, centre[:, :, None], 1), level.size)
    source = InMemory(
        Arrays(points, centre.astype(np.uint16), neighbour.astype(np.uint16), np.zeros(options.shapes, np.int64))
    )
    patches = patchify(torch.from_numpy(points), level)
    forwards: dict[str, Callable[[], object]] = {
        f"bare forward, batches of {size}": bare(net, patches, size) for size in SIZES if size <= options.shapes
    }
    candidates = forwards | {
        f"jepa3d embed (cached patches), batches of {loaded.batch_size}": lambda: features(
            loaded, source, torch.device("cpu"), ""
        ),
        "load_encoder(...).embed(points), FPS and KNN included": lambda: loaded.embed(points),
    }
    if options.exported == "yes":
        candidates |= exported(loaded, torch.from_numpy(points))
    seconds = rounds(candidates, options.rounds)
    best = min(seconds[name] for name in forwards)
    table = [[name, options.shapes / cost, best / cost] for name, cost in seconds.items()]
    columns = ["embedding", "shapes per CPU-second", "speed of the best bare forward = 1"]
    show("Embedding at the document's size, 1024 points, one core", columns, table, options.out)


if __name__ == "__main__":
    main()
