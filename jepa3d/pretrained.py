"""The finished encoder as a file and as a user loads it (section 8): clouds in, features out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from jepa3d import __version__, encoders, plugins, renamed
from jepa3d.nets.encoder import Encoder
from jepa3d.nets.patches import Patches, patchify
from jepa3d.ops.geometry import farthest_point_sample, gather
from jepa3d.params import Model, Scheme, slice_of
from jepa3d.problem import Problem
from jepa3d.results import store

FORMAT = "jepa3d.encoder/2"
FIRST = "jepa3d.encoder/1"  # the kind was beside the model, which was always a Transformer's
FIRST_STAGE = "jepa3d.objective/"  # begins the format of `train.first_stage`, which is no encoder
CACHED = 16 << 20  # bytes of one layer of the tokenizer that a core's caches hold (benchmarks/embed.py)
CPU_BATCH, GPU_BATCH = 32, 256  # shapes at once, at the most: of a CPU's core, of a GPU


class LoadedEncoder:
    """A finished encoder, frozen: `embed` gives one feature a shape, `tokens` one a patch.

    Both take clouds as a tensor or an array of numbers [B, P, 3], or as a list of [P, 3] that may differ in P; P is at
    least the scheme's size, y up, unit sphere. What cannot be embedded is a Problem. The work is done in batches of a
    size that is good for the device, so any number of clouds fits; the result is where the clouds are.
    """

    def __init__(self, module: Encoder, scheme: Scheme, metadata: dict[str, Any]) -> None:
        self.module = module.eval().requires_grad_(False)
        self.scheme = scheme
        self.metadata = metadata
        self.device = torch.device("cpu")

    @torch.no_grad()
    def embed(self, points: Any) -> Float[Tensor, "B F"]:
        """Pooled features [B, F] of clouds."""
        home = points.device if isinstance(points, Tensor) else torch.device("cpu")
        clouds = as_clouds(points, self.scheme.points)
        return in_one(map(self.pooled, self._patches(clouds)), len(clouds), home)

    @torch.no_grad()
    def tokens(self, points: Any) -> tuple[Float[Tensor, "B N 3"], Float[Tensor, "B N D"]]:
        """Patch centres and patch features of clouds."""
        home = points.device if isinstance(points, Tensor) else torch.device("cpu")
        clouds = as_clouds(points, self.scheme.points)
        pieces = [self.module.of_patches(patches, self.module(patches)) for patches in self._patches(clouds)]
        centres, tokens = (torch.cat([part.to(home) for part in parts]) for parts in zip(*pieces, strict=True))
        return centres, tokens

    @torch.no_grad()
    def both(self, points: Any) -> tuple[Float[Tensor, "B F"], Float[Tensor, "B N 3"], Float[Tensor, "B N D"]]:
        """Pooled features, patch centres and patch features of clouds, from one pass."""
        home = points.device if isinstance(points, Tensor) else torch.device("cpu")
        clouds = as_clouds(points, self.scheme.points)
        pieces = []
        for patches in self._patches(clouds):
            tokens = self.module(patches)
            pieces.append((self.module.pool(tokens), *self.module.of_patches(patches, tokens)))
        features, centres, of_patches = (
            torch.cat([part.to(home) for part in parts]) for parts in zip(*pieces, strict=True)
        )
        return features, centres, of_patches

    def to(self, device: str | torch.device) -> LoadedEncoder:
        self.device = torch.device(device)
        self.module.to(self.device)
        return self

    @property
    def batch_size(self) -> int:
        """Shapes that are best embedded at once: on a CPU what its caches hold, on a GPU what fills it."""
        if self.device.type != "cpu":
            return GPU_BATCH
        level = self.scheme.levels[0]
        a_core = max(1, min(CPU_BATCH, CACHED // (4 * level.num * level.size * self.module.config.widest)))
        return a_core * torch.get_num_threads()

    def pooled(self, patches: Patches) -> Float[Tensor, "B F"]:
        """Features [B, F] of one batch of patches, on the encoder's device."""
        return self.module.pool(self.module(patches))

    def _patches(self, clouds: Any) -> Iterator[Patches]:
        """The patches of all clouds, batch by batch."""
        size = self.batch_size
        for start in range(0, max(len(clouds), 1), size):
            part = clouds[start : start + size]
            alike = [cloud[None] for cloud in part] if isinstance(part, list) else [part]
            chosen = [torch.empty(0, self.scheme.points, 3, device=self.device)]
            for at, batch in enumerate(alike):
                chosen.append(choose_points(numbers(batch, start + at).to(self.device), self.scheme))
            yield patchify(torch.cat(chosen), *self.scheme.levels)


def in_one(pieces: Iterable[Float[Tensor, "b F"]], count: int, home: torch.device) -> Float[Tensor, "B F"]:
    """The rows of all pieces, `count` in all, filled in as they come: thousands of small pieces that are kept would
    keep the memory between them from being used again, gigabytes in the end."""
    found, start = torch.empty(0), 0
    for piece in pieces:
        if not start:
            found = torch.empty(count, piece.shape[1], dtype=piece.dtype, device=home)
        found[start : start + len(piece)] = piece
        start += len(piece)
    return found


def as_clouds(points: Any, least: int) -> Tensor | NDArray[Any] | list[Any]:
    """Clouds as they came, when their shapes are right: [B, P, 3], or a list of [P, 3]; P at least `least`."""
    if isinstance(points, list | tuple):
        listed: list[Any] = [cloud if isinstance(cloud, Tensor) else np.asarray(cloud) for cloud in points]
        for number, cloud in enumerate(listed):
            if cloud.ndim != 2 or cloud.shape[-1] != 3 or len(cloud) < least:
                what = f"cloud number {number} of the list has"
                raise wrong_shape(what, cloud.shape, f"lists of [at least {least} points, 3 coordinates]")
        return listed
    array: Tensor | NDArray[Any] = points if isinstance(points, Tensor) else np.asarray(points)
    if array.ndim != 3 or array.shape[-1] != 3 or array.shape[1] < least:
        raise wrong_shape("points have", array.shape, f"[shapes, at least {least} points, 3 coordinates]")
    return array


def wrong_shape(what: str, shape: Sequence[int], wanted: str) -> Problem:
    return Problem(
        f"{what} shape {tuple(shape)}", f"this encoder takes {wanted}", "sample more points, or add the batch dimension"
    )


def numbers(clouds: Tensor | NDArray[Any], first: int) -> Float[Tensor, "B P 3"]:
    """Clouds as float32, all finite; `first` is the number of the first one, for the message."""
    if isinstance(clouds, Tensor):
        found = clouds.detach().float()
    else:
        try:
            with np.errstate(all="ignore"):
                found = torch.from_numpy(np.array(clouds, np.float32))  # a copy: what is given may be read-only
        except (TypeError, ValueError) as error:
            raise Problem("points are no numbers", str(error), "give coordinates") from None
    if not bool(torch.isfinite(found).all()):
        bad = first + int((~torch.isfinite(found)).flatten(1).any(1).int().argmax())
        raise Problem(
            "points have coordinates that are NaN or infinite",
            f"the first such shape is number {bad}",
            "remove those points, or the shape",
        )
    return found


def choose_points(points: Float[Tensor, "B P 3"], scheme: Scheme) -> Float[Tensor, "B Q 3"]:
    """The scheme's number of points for clouds at hand: by FPS, or the first ones (random clouds have no order)."""
    if points.shape[1] == scheme.points:
        return points
    if scheme.sample == "fps":
        return gather(points, farthest_point_sample(points, scheme.points))
    return points[:, : scheme.points]


def save(
    path: Path,
    nets: dict[str, Encoder],
    scheme: Scheme,
    stamp: dict[str, Any],
) -> None:
    """`encoder.safetensors`: the weights of the context encoder and, where there is one, of its EMA copy."""
    tensors = {f"{which}.{name}": tensor for which, net in nets.items() for name, tensor in net.state_dict().items()}
    model = nets["context"].config
    metadata = {
        "format": FORMAT,
        "kind": model.kind,
        "which": sorted(nets),
        "model": slice_of(model),
        "scheme": slice_of(scheme),
        "provenance": stamp,
    }
    store.write_tensors(path, tensors, metadata, stamp)


def load(path: str | Path, which: Literal["context", "target"] = "context") -> LoadedEncoder:
    """Read `encoder.safetensors`. A file that is not ours, of another size or damaged is a Problem."""
    path = Path(path)
    try:
        tensors, metadata = store.read_tensors(path)
    except Problem as problem:
        if not path.exists():
            raise
        raise Problem(problem.what, problem.why, "get it again, or make it again with 'jepa3d pretrain'") from None
    metadata, model, scheme = described(path, metadata)
    available = [which for which in ("context", "target") if which in metadata["which"]]
    if which not in available:
        raise Problem(f"{path}: has no '{which}' encoder", f"it has {', '.join(available)}", "ask for that one")
    module = encoders.build(model)
    own = {name.removeprefix(which + "."): tensor for name, tensor in tensors.items() if name.startswith(which + ".")}
    expected = module.state_dict()
    wrong = sorted(
        (set(own) ^ set(expected))
        | {name for name in set(own) & set(expected) if own[name].shape != expected[name].shape}
    )
    if wrong:
        raise Problem(
            f"{path}: the weights do not fit the model that the file describes",
            f"{len(wrong)} of {len(expected)} tensors are missing, unknown or of another shape, such as {wrong[0]}",
            "the file is damaged or was edited: make it again with 'jepa3d pretrain'",
        )
    module.load_state_dict(own)
    return LoadedEncoder(module, scheme, metadata)


def described(path: Path, metadata: dict[str, Any]) -> tuple[dict[str, Any], Model, Scheme]:
    """A file's description as today's format has it, its model's entry and its scheme, checked."""
    found = metadata.get("format")
    if str(found).startswith(FIRST_STAGE):
        raise Problem(
            f"{path}: the first stage '{metadata.get('kind')}', which is no encoder",
            "runs of a second stage read it; nothing can be embedded with it",
            "give the encoder.safetensors of a run that reads it",
        )
    if found not in (FORMAT, FIRST) and str(found).startswith("jepa3d.encoder/"):
        raise Problem(
            f"{path}: an encoder of another version of jepa3d",
            f"its format is {found}, jepa3d {__version__} reads {FORMAT} and {FIRST}",
            "use the version that wrote it, or make it again with 'jepa3d pretrain'",
        )
    try:
        if found not in (FORMAT, FIRST):
            raise ValueError(f"its format is {found}")
        kind, entry = metadata["kind"], metadata["model"]
        if found == FIRST:
            entry = {"kind": kind, **(entry if kind == "transformer" else {})}
        renamed.refuse_kind(kind, str(path), "make it again with 'jepa3d pretrain'")
        if kind not in plugins.known(encoders) or entry["kind"] != kind:
            raise ValueError(f"its kind is {kind}")
        config = plugins.find(encoders, kind).Config
        model: Model = config.model_validate_json(json.dumps(entry), strict=True)
        scheme = Scheme.model_validate_json(json.dumps(metadata["scheme"]), strict=True)
        if "context" not in metadata["which"]:
            raise ValueError("it has no context encoder")
    except (KeyError, TypeError, ValueError) as error:  # pydantic's own is a ValueError
        raise Problem(
            f"{path}: not an encoder of jepa3d",
            f"its description is missing or wrong: {error}",
            "give an encoder.safetensors",
        ) from None
    return metadata | {"format": FORMAT, "model": slice_of(model)}, model, scheme


def check_shape(path: Path, loaded: LoadedEncoder, model: Model) -> None:
    """A Problem for weights that were made for an encoder of another size than a run's model."""
    saved, wanted = loaded.module.config.shape(), model.shape()
    for key in dict.fromkeys([*wanted, *saved]):
        if saved.get(key) != wanted.get(key):
            raise Problem(
                f"{path}: an encoder of another size",
                f"its {key} is {saved.get(key)}, the run's model in params.yaml has {wanted.get(key)}",
                "make it again with 'jepa3d pretrain', or set the run's model to what the file has",
            )


def for_training(loaded: LoadedEncoder, drop_path: float, pool: str | None = None) -> Encoder:
    """The same encoder, to be trained on for a task: its weights, and from torch's generator what they lack."""
    net = encoders.build(loaded.module.config.tuned(drop_path, pool))
    net.load_state_dict(net.state_dict() | loaded.module.state_dict())
    return net
