"""A finished encoder as one file for other programs: ONNX, or TorchScript for libtorch.

    points float64 [B, P, 3] -> features [B, F], centres [B, N, 3], tokens [B, N, D], all float32

The encoder's own preparation is inside: clouds in any unit and place and in any order of their points are turned,
centred, scaled, and the points that it takes are drawn from all. TorchScript takes float32 as well; ONNX has one type,
and float32 has too few digits far from the origin. Patches are made inside, too: farthest point sampling unrolled,
nearest neighbours exact, ties to the lowest index as everywhere. A graph cannot refuse, so what cannot be inside is
the user's: all clouds of a batch have the same P, which is at least the scheme's (and exactly that where FPS chooses
them, `sample: fps`: unrolled, that is thousands of steps); every coordinate is finite; where the training's shapes
were not normalised, these have their size and place. The upward axis is that of `--up`. `description` says it in the
file. Before a file is published it is run beside the encoder that it came from, at another batch size and another P.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor, nn

from jepa3d.nets.patches import Coarser, Patches
from jepa3d.ops.geometry import squared_distance
from jepa3d.ops.upright import Up
from jepa3d.params import Level
from jepa3d.pretrained import LoadedEncoder, Preparation
from jepa3d.pretrained.preparation import prepared
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

    def __init__(self, loaded: LoadedEncoder, nearest: Nearest, up: Up = "y") -> None:
        super().__init__()
        self.encoder = loaded.module
        self.how, self.up = preparation(loaded), up
        self.levels = loaded.scheme.levels
        self.nearest = nearest

    def forward(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        points = prepared(points, self.how, self.up)
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


def preparation(loaded: LoadedEncoder) -> Preparation:
    """What is done inside; the points that the scheme takes are drawn at random, or were chosen by FPS before."""
    own = loaded.preparation or Preparation(normalise="none", points=loaded.scheme.points)
    return own.model_copy(update={"points": loaded.scheme.points})


def to_onnx(loaded: LoadedEncoder, path: Path, up: Up = "y") -> float:
    """Write `path`; the largest difference from the encoder. Needs the packages of the extra `onnx`."""
    check(loaded)
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise Problem(
            f"{path}: .onnx needs {' and '.join(missing)}", "an extra of jepa3d", "pip install 'jepa3d[onnx]'"
        )
    points = sample(loaded, TRACED)
    program = onnx_program(Graph(loaded, nearest_by_topk, up), points, free_points(loaded))
    for part in (program.model.graph, *program.model.graph.all_nodes()):
        part.metadata_props.clear()  # the exporter's notes: paths of this machine, addresses of this process
    program.model.metadata_props["jepa3d"] = description(loaded, up)
    with store.replacing(path) as temporary:
        program.save(str(temporary), external_data=False)
        return verified(loaded, run_onnx(temporary), path, up)


def to_torchscript(loaded: LoadedEncoder, path: Path, up: Up = "y") -> float:
    """Write `path`, for `torch.jit.load`; the largest difference from the encoder."""
    check(loaded)
    with store.replacing(path) as temporary, quiet():  # torch calls it deprecated; programs with libtorch need it
        traced = torch.jit.trace(Graph(loaded, nearest_by_sort, up), (sample(loaded, TRACED),), check_trace=False)
        content = io.BytesIO()  # a file's name would be in every path inside the archive
        torch.jit.save(traced, content, _extra_files={"jepa3d.json": description(loaded, up)})
        temporary.write_bytes(content.getvalue())
        return verified(loaded, torch.jit.load(str(temporary)), path, up)


FORMATS = {".onnx": to_onnx, ".pt": to_torchscript}


def export(loaded: LoadedEncoder, path: Path, up: Up = "y") -> float:
    """The format that the file's ending names, for clouds with the axis `up` upward."""
    if path.suffix.lower() not in FORMATS:
        raise Problem(
            f"{path}: no format that an encoder is exported to", f"known endings: {' '.join(FORMATS)}", "choose one"
        )
    return FORMATS[path.suffix.lower()](loaded, path, up)


def check(loaded: LoadedEncoder) -> None:
    """Features that need no training have no weights to be exported."""
    config = loaded.module.config
    if not config.layers:
        raise Problem(
            f"an encoder of the kind '{config.kind}' is not exported",
            "its features are computed, not learned",
            "export a run that trains one",
        )


def description(loaded: LoadedEncoder, up: Up) -> str:
    """What the file says of itself, as JSON: where the weights come from, what it does with clouds, and what must be
    done before."""
    return json.dumps({**loaded.metadata, "input": takes(loaded, up)}, sort_keys=True)


def takes(loaded: LoadedEncoder, up: Up) -> dict[str, Any]:
    """What clouds are like that the graph gives right features for."""
    own, scheme = preparation(loaded), loaded.scheme
    normalised = own.normalise == "unit_sphere"
    return {
        "points": f"at least {scheme.points}, in any order" if free_points(loaded) else f"{scheme.points}, by FPS",
        "place and size": "any" if normalised else f"farthest point {own.radius[0]:g} to {own.radius[1]:g} from 0",
        "up": up,
        "finite": "every coordinate",
    }


def free_points(loaded: LoadedEncoder) -> bool:
    """Whether the graph takes more points than the scheme."""
    return loaded.scheme.sample != "fps"


def sample(loaded: LoadedEncoder, count: int) -> Float64[Tensor, "B P 3"]:
    """Random clouds, of more points than the encoder takes where it may have more."""
    random = np.random.default_rng(count)
    points = loaded.scheme.points + (7 * count if free_points(loaded) else 0)
    own = preparation(loaded)
    size = 1000.0 if own.normalise == "unit_sphere" else own.radius[1] / 2
    return torch.from_numpy(random.uniform(-size, size, (count, points, 3)))


def onnx_program(graph: Graph, points: Float64[Tensor, "B P 3"], free: bool) -> Any:
    sizes = {0: torch.export.Dim("batch", min=1)}
    if free:
        sizes[1] = torch.export.Dim("points", min=graph.how.points)
    with quiet():
        return torch.onnx.export(
            graph.eval(),
            (points,),
            input_names=["points"],
            output_names=list(OUTPUTS),
            dynamic_shapes={"points": sizes},
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


def verified(loaded: LoadedEncoder, run: Callable[[Tensor], Any], path: Path, up: Up) -> float:
    """The largest difference of the exported features from the encoder's own, on other clouds and batches."""
    worst = 0.0
    for count in (1, TRACED + 1):
        points = sample(loaded, count)
        for name, ours, theirs in zip(OUTPUTS, loaded.encode(points, up=up), run(points), strict=True):
            difference = float((ours - theirs).abs().max())
            worst = max(worst, difference)
            if theirs.shape != ours.shape or not difference <= CLOSE * max(1.0, float(ours.abs().max())):
                raise Problem(
                    f"{path}: the exported {name} differ from the encoder's by {difference:.2g}",
                    f"on {count} random clouds, with torch {torch.__version__}",
                    "nothing was written; another version of torch or onnxruntime may do better",
                )
    return worst
