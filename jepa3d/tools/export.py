"""A finished encoder as one file for other programs: ONNX, or TorchScript for libtorch.

    points float32 [B, P, 3] -> features [B, F], centres [B, N, 3], tokens [B, N, D]

B is free; P is the scheme's number of points; y up, unit sphere, as `jepa3d encode` prepares them. Patches are made
inside: farthest point sampling unrolled, nearest neighbours exact, ties to the lowest index as everywhere.
Before a file is published it is run beside the encoder that it came from, at another batch size than it was made with.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from jepa3d.nets.patches import Coarser, Patches
from jepa3d.ops.geometry import squared_distance
from jepa3d.params import Level
from jepa3d.pretrained import LoadedEncoder
from jepa3d.problem import Problem
from jepa3d.results import store

OUTPUTS = ("features", "centres", "tokens")
NEEDED = ("onnx", "onnxscript", "onnxruntime")
TRACED = 2  # shapes that the graph is made with
OPSET = 18
CLOSE = 1e-3  # largest difference from the encoder itself, as a share of its largest output
Nearest = Callable[[Tensor, Tensor, int], Tensor]


class Graph(nn.Module):
    """Points to features in operations that both formats have."""

    def __init__(self, loaded: LoadedEncoder, nearest: Nearest) -> None:
        super().__init__()
        self.encoder = loaded.module
        self.levels = loaded.scheme.levels
        self.nearest = nearest

    def forward(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        first, *others = self.levels
        centres, near = self.level(points, first)
        groups = rows(points, near.flatten(1)).unflatten(1, (first.num, first.size)) - centres[:, :, None]
        above, below = [], centres
        for level in others:
            below, near = self.level(below, level)
            above.append(Coarser(below, near))
        patches = Patches(points, centres, groups, tuple(above))
        tokens = self.encoder(patches)
        return self.encoder.pool(tokens), *self.encoder.of_patches(patches, tokens)

    def level(self, points: Tensor, level: Level) -> tuple[Tensor, Tensor]:
        """The centres of a level among its points, and the points next to each."""
        centres = rows(points, farthest(points, level.num))
        return centres, self.nearest(points, centres, level.size)


def rows(points: Float[Tensor, "B P 3"], index: Int[Tensor, "B I"]) -> Float[Tensor, "B I 3"]:
    return points.gather(1, index[:, :, None].expand(-1, -1, 3))


def farthest(points: Float[Tensor, "B P 3"], num: int) -> Int[Tensor, "B num"]:
    """Farthest point sampling, one step after the other: `geometry.fps_torch` without a write into a tensor."""
    position = torch.arange(points.shape[1], device=points.device)[None]
    last = torch.zeros_like(points[:, :1, 0], dtype=torch.long)
    nearest, chosen = squared_distance(points, points[:, :1]), [last]
    for _ in range(num - 1):
        top = nearest.amax(1, keepdim=True)
        last = torch.where(nearest == top, position, points.shape[1]).amin(1, keepdim=True)
        nearest = torch.minimum(nearest, squared_distance(points, rows(points, last)))
        chosen.append(last)
    return torch.cat(chosen, 1)


def nearest_by_topk(points: Float[Tensor, "B P 3"], queries: Float[Tensor, "B N 3"], k: int) -> Int[Tensor, "B N k"]:
    """Nearest neighbours for ONNX, whose TopK puts equal values in the order of their indices. torch's own does not."""
    return squared_distance(queries[:, :, None], points[:, None]).topk(k, largest=False, sorted=True).indices


def nearest_by_sort(points: Float[Tensor, "B P 3"], queries: Float[Tensor, "B N 3"], k: int) -> Int[Tensor, "B N k"]:
    """Nearest neighbours for TorchScript: a stable sort keeps the order of the indices."""
    return squared_distance(queries[:, :, None], points[:, None]).sort(dim=-1, stable=True).indices[..., :k]


def to_onnx(loaded: LoadedEncoder, path: Path) -> float:
    """Write `path`; the largest difference from the encoder. Needs the packages of the extra `onnx`."""
    check(loaded)
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise Problem(
            f"{path}: .onnx needs {' and '.join(missing)}", "an extra of jepa3d", "pip install 'jepa3d[onnx]'"
        )
    program = onnx_program(Graph(loaded, nearest_by_topk), sample(loaded, TRACED))
    program.model.metadata_props["jepa3d"] = description(loaded)
    with store.replacing(path) as temporary:
        program.save(str(temporary), external_data=False)
        return verified(loaded, run_onnx(temporary), path)


def to_torchscript(loaded: LoadedEncoder, path: Path) -> float:
    """Write `path`, for `torch.jit.load`; the largest difference from the encoder."""
    check(loaded)
    with store.replacing(path) as temporary, quiet():  # torch calls it deprecated; programs with libtorch need it
        traced = torch.jit.trace(Graph(loaded, nearest_by_sort), (sample(loaded, TRACED),), check_trace=False)
        torch.jit.save(traced, str(temporary), _extra_files={"jepa3d.json": description(loaded)})
        return verified(loaded, torch.jit.load(str(temporary)), path)


FORMATS = {".onnx": to_onnx, ".pt": to_torchscript}


def export(loaded: LoadedEncoder, path: Path) -> float:
    """The format that the file's ending names."""
    if path.suffix.lower() not in FORMATS:
        raise Problem(
            f"{path}: no format that an encoder is exported to", f"known endings: {' '.join(FORMATS)}", "choose one"
        )
    return FORMATS[path.suffix.lower()](loaded, path)


def check(loaded: LoadedEncoder) -> None:
    """Features that need no training have no weights to be exported."""
    config = loaded.module.config
    if not config.layers:
        raise Problem(
            f"an encoder of the kind '{config.kind}' is not exported",
            "its features are computed, not learned",
            "export a run that trains one",
        )


def description(loaded: LoadedEncoder) -> str:
    """What the file says of itself, as JSON: where the weights come from, and how clouds are to be prepared."""
    return json.dumps({key: value for key, value in loaded.metadata.items() if key != "which"}, sort_keys=True)


def sample(loaded: LoadedEncoder, count: int) -> Float[Tensor, "B P 3"]:
    """Random clouds of the size that the encoder takes."""
    random = np.random.default_rng(count)
    return torch.from_numpy(random.uniform(-0.5, 0.5, (count, loaded.scheme.points, 3)).astype(np.float32))


def onnx_program(graph: Graph, points: Float[Tensor, "B P 3"]) -> Any:
    with quiet():
        return torch.onnx.export(
            graph.eval(),
            (points,),
            input_names=["points"],
            output_names=list(OUTPUTS),
            dynamic_shapes={"points": {0: torch.export.Dim("batch", min=1)}},
            opset_version=OPSET,
            dynamo=True,
            optimize=True,
            verbose=False,
        )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what the exporters say about themselves and about packages that are not needed."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def run_onnx(path: Path) -> Callable[[Tensor], list[Tensor]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda points: [torch.from_numpy(found) for found in session.run(None, {"points": points.numpy()})]


def verified(loaded: LoadedEncoder, run: Callable[[Tensor], Any], path: Path) -> float:
    """The largest difference of the exported features from the encoder's own, on other clouds and batches."""
    worst = 0.0
    for count in (1, TRACED + 1):
        points = sample(loaded, count)
        for name, ours, theirs in zip(
            OUTPUTS, (loaded.embed(points), *loaded.tokens(points)), run(points), strict=True
        ):
            difference = float((ours - theirs).abs().max())
            worst = max(worst, difference)
            if theirs.shape != ours.shape or not difference <= CLOSE * max(1.0, float(ours.abs().max())):
                raise Problem(
                    f"{path}: the exported {name} differ from the encoder's by {difference:.2g}",
                    f"on {count} random clouds, with torch {torch.__version__}",
                    "nothing was written; another version of torch or onnxruntime may do better",
                )
    return worst
