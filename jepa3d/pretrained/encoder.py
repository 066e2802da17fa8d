"""An encoder that is trained and loaded: clouds in, features out, in batches of a size that is good for the device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from jepa3d import encoders
from jepa3d.nets.encoder import Encoder
from jepa3d.nets.patches import Patches, patchify
from jepa3d.ops.geometry import farthest_point_sample, gather
from jepa3d.ops.upright import Up
from jepa3d.params import Scheme
from jepa3d.pretrained.clouds import as_clouds, numbers
from jepa3d.pretrained.preparation import Preparation, check_radius, ready, turned

CACHED = 16 << 20  # bytes of one layer of the tokenizer that a core's caches hold (benchmarks/embed.py)
CPU_BATCH, GPU_BATCH = 32, 256  # shapes at once, at the most: of a CPU's core, of a GPU


class LoadedEncoder:
    """A finished encoder, frozen: `embed` gives one feature a shape, `tokens` one a patch.

    Both take clouds as a tensor or an array of numbers [B, P, 3], or as a list of [P, 3] that may differ in P; P is at
    least the scheme's size. By default the file's own preparation is applied: the points may come in any order, any
    unit and any place, with the axis `up` upward. With `prepare=False` clouds are taken as they are (y up, in the unit
    sphere or as the training's shapes were, points in no order), and one of another size is refused.

    What cannot be embedded is a Problem. Any number of clouds fits; the result is where the clouds are.
    """

    def __init__(
        self, module: Encoder, scheme: Scheme, metadata: dict[str, Any], preparation: Preparation | None = None
    ) -> None:
        self.module = module.eval().requires_grad_(False)
        self.scheme = scheme
        self.metadata = metadata
        self.preparation = preparation
        self.device = torch.device("cpu")

    @torch.no_grad()
    def embed(self, points: Any, prepare: bool = True, up: Up = "y") -> Float[Tensor, "B F"]:
        """Pooled features [B, F] of clouds."""
        home, clouds = place(points), as_clouds(points, self.scheme.points)
        return in_one(map(self.pooled, self._patches(clouds, prepare, up)), len(clouds), home)

    @torch.no_grad()
    def tokens(
        self, points: Any, prepare: bool = True, up: Up = "y"
    ) -> tuple[Float[Tensor, "B N 3"], Float[Tensor, "B N D"]]:
        """Patch centres, in the prepared cloud, and patch features of clouds."""
        _, centres, of_patches = self.encode(points, prepare, up)
        return centres, of_patches

    @torch.no_grad()
    def encode(
        self, points: Any, prepare: bool = True, up: Up = "y"
    ) -> tuple[Float[Tensor, "B F"], Float[Tensor, "B N 3"], Float[Tensor, "B N D"]]:
        """Pooled features, patch centres and patch features of clouds, from one pass."""
        home, clouds = place(points), as_clouds(points, self.scheme.points)
        pieces = []
        for patches in self._patches(clouds, prepare, up):
            tokens = self.module(patches)
            pieces.append((self.module.pool(tokens), *self.module.of_patches(patches, tokens)))
        features, centres, of_patches = (
            torch.cat([part.to(home) for part in parts]) for parts in zip(*pieces, strict=True)
        )
        return features, centres, of_patches

    def of_canonical(self) -> LoadedEncoder:
        """The same encoder for clouds of our canonical files: they are as the training's, nothing is prepared."""
        return LoadedEncoder(self.module, self.scheme, self.metadata).to(self.device)

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

    def _patches(self, clouds: Any, prepare: bool, up: Up) -> Iterator[Patches]:
        """The patches of all clouds, batch by batch."""
        size = self.batch_size
        for start in range(0, max(len(clouds), 1), size):
            part = clouds[start : start + size]
            alike = [cloud[None] for cloud in part] if isinstance(part, list) else [part]
            chosen = [torch.empty(0, self.scheme.points, 3, device=self.device)]
            for at, batch in enumerate(alike):
                if len(batch):
                    chosen.append(self._ready(numbers(batch, start + at), prepare, up, start + at))
            yield patchify(torch.cat(chosen), *self.scheme.levels)

    def _ready(self, points: Float64[Tensor, "B P 3"], prepare: bool, up: Up, first: int) -> Float[Tensor, "B Q 3"]:
        """As many points as the scheme has, on the device; `first` is the number of the first shape."""
        how = self.preparation
        if how is not None and prepare:
            found = ready(points, how, up, first)
        else:
            if how is not None:
                check_radius(points, how, first)
            found = turned(points, up).float()
        return choose_points(found.to(self.device), self.scheme)


def place(points: Any) -> torch.device:
    """Where the results go."""
    return points.device if isinstance(points, Tensor) else torch.device("cpu")


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


def choose_points(points: Float[Tensor, "B P 3"], scheme: Scheme) -> Float[Tensor, "B Q 3"]:
    """The scheme's number of points, of clouds in no order: by FPS, or the first ones."""
    if points.shape[1] == scheme.points:
        return points
    if scheme.sample == "fps":
        return gather(points, farthest_point_sample(points, scheme.points))
    return points[:, : scheme.points]


def for_training(loaded: LoadedEncoder, drop_path: float, pool: str | None = None) -> Encoder:
    """The same encoder, to be trained on for a task: its weights, and from torch's generator what they lack."""
    net = encoders.build(loaded.module.config.tuned(drop_path, pool))
    net.load_state_dict(net.state_dict() | loaded.module.state_dict())
    return net
