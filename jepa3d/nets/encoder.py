"""The encoder f (sections 4.1, 4.2): patches -> tokens, and the finished encoder as a user loads it (section 8)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from jepa3d import config, store
from jepa3d.nets.plain import PLAIN
from jepa3d.nets.tokenizer import position, tokenizer
from jepa3d.nets.transformer import Block, initialise
from jepa3d.ops.geometry import farthest_point_sample, gather, group, knn
from jepa3d.problem import Problem

TRANSFORMER = "transformer"  # the kind of a file with an Encoder; the other kinds are those of `plain`


class Patches(NamedTuple):
    """A batch as the encoder sees it: the cloud, its patch centres, and each patch relative to its centre."""

    points: Float[Tensor, "B P 3"]
    centres: Float[Tensor, "B N 3"]
    groups: Float[Tensor, "B N K 3"]


class Encoder(nn.Module):
    """Tokenizer, position embedding and L Transformer layers."""

    def __init__(self, model: config.Model) -> None:
        super().__init__()
        self.model = model
        self.position = position(model)
        drops = torch.linspace(0, model.drop_path, model.depth).tolist()
        self.blocks = nn.ModuleList(Block(model.width, model.heads, model.mlp_ratio, drop) for drop in drops)
        self.norm = nn.LayerNorm(model.width)
        initialise(self)
        self.tokenizer = tokenizer(model)  # keeps torch's own initialisation, as its BatchNorms expect

    @property
    def features(self) -> int:
        """The width F of a pooled feature."""
        return self.model.width * (2 if self.model.pool == "max_mean" else 1)

    def trunk(
        self,
        tokens: Float[Tensor, "B L D"],
        positions: Float[Tensor, "B L D"],
        valid: Bool[Tensor, "B L"] | None = None,
    ) -> Float[Tensor, "B L D"]:
        """The Transformer over any subset of the tokens: h^(0) = t + p, then L layers (section 4.2)."""
        x = tokens + positions
        for depth, block in enumerate(self.blocks):
            x = block(x + positions if depth and self.model.position_at == "every_block" else x, valid)
        return self.norm(x)

    def forward(self, patches: Patches) -> Float[Tensor, "B N D"]:
        """All tokens, none masked: inference (section 8)."""
        return self.trunk(self.tokenizer(patches.groups), self.position(patches.centres))

    def pool(self, tokens: Float[Tensor, "B N D"]) -> Float[Tensor, "B F"]:
        """One feature a shape: concat(max, mean) over the patches by default (method.md 8: there is no [CLS])."""
        both = {"max": tokens.amax(1), "mean": tokens.mean(1)}
        return torch.cat([both[part] for part in self.model.pool.split("_")], -1)


def make_patches(
    points: Float[Tensor, "B P 3"], centre: Int[Tensor, "B N"], neighbour: Int[Tensor, "B N K"]
) -> Patches:
    """Patches from FPS and KNN indices: two gathers."""
    return Patches(points, gather(points, centre), group(points, centre, neighbour))


def patchify(points: Float[Tensor, "B P 3"], level: config.Level) -> Patches:
    """Patches of clouds without a cache: FPS and KNN now (section 4.1, steps 1 and 2)."""
    centre = farthest_point_sample(points, level.num)
    neighbour = knn(points, gather(points, centre), level.size)
    return make_patches(points, centre, neighbour)


class LoadedEncoder:
    """A finished encoder, frozen: `embed` gives one feature a shape, `tokens` one a patch."""

    def __init__(self, module: nn.Module, scheme: config.Scheme, metadata: dict[str, Any]) -> None:
        self.module = module.eval().requires_grad_(False)
        self.scheme = scheme
        self.metadata = metadata

    @torch.no_grad()
    def embed(self, points: Any) -> Float[Tensor, "B F"]:
        """Pooled features [B, F] of clouds [B, P, 3], any P of at least the scheme's size; y up, unit sphere.

        `points` is a tensor or an array of numbers; what cannot be embedded is a Problem.
        """
        patches = self._patches(points)
        features: Tensor = self.module.pool(self.module(patches))  # type: ignore[operator]
        return features

    @torch.no_grad()
    def tokens(self, points: Any) -> tuple[Float[Tensor, "B N 3"], Float[Tensor, "B N D"]]:
        """Patch centres and patch features of clouds [B, P, 3]."""
        patches = self._patches(points)
        return patches.centres, self.module(patches)

    def to(self, device: str | torch.device) -> LoadedEncoder:
        self.module.to(device)
        return self

    def _patches(self, points: Any) -> Patches:
        points = torch.as_tensor(points, dtype=torch.float32)
        wanted = self.scheme.points
        if points.ndim != 3 or points.shape[-1] != 3 or points.shape[1] < wanted:
            raise Problem(
                f"points have shape {tuple(points.shape)}",
                f"this encoder takes [shapes, at least {wanted} points, 3 coordinates]",
                "sample more points, or add the batch dimension",
            )
        if not bool(torch.isfinite(points).all()):
            raise Problem(
                "points have coordinates that are NaN or infinite",
                f"the first such shape is number {int((~torch.isfinite(points)).flatten(1).any(1).int().argmax())}",
                "remove those points, or the shape",
            )
        if points.shape[1] > wanted:
            points = choose_points(points, self.scheme)
        return patchify(points, self.scheme.levels[0])


def choose_points(points: Float[Tensor, "B P 3"], scheme: config.Scheme) -> Float[Tensor, "B Q 3"]:
    """The scheme's number of points for clouds at hand: by FPS, or the first ones (random clouds have no order)."""
    if scheme.sample == "fps":
        return gather(points, farthest_point_sample(points, scheme.points))
    return points[:, : scheme.points]


def save(
    path: Path,
    encoders: dict[str, nn.Module],
    kind: str,
    model: config.Model,
    scheme: config.Scheme,
    stamp: dict[str, Any],
) -> None:
    """`encoder.safetensors`: the weights of the context encoder and, where there is one, of its EMA copy."""
    tensors = {
        f"{which}.{name}": tensor for which, net in encoders.items() for name, tensor in net.state_dict().items()
    }
    metadata = {
        "format": "jepa3d.encoder/1",
        "kind": kind,
        "which": sorted(encoders),
        "model": config.slice_of(model),
        "scheme": config.slice_of(scheme),
        "provenance": stamp,
    }
    store.write_tensors(path, tensors, metadata)


def load(path: str | Path, which: Literal["context", "target"] = "context") -> LoadedEncoder:
    """Read `encoder.safetensors`. A file that is not ours, of another size or damaged is a Problem."""
    path = Path(path)
    tensors, metadata = store.read_tensors(path)
    try:
        if metadata["format"] != "jepa3d.encoder/1":
            raise ValueError(f"its format is {metadata['format']}")
        model = config.Model.model_validate_json(json.dumps(metadata["model"]), strict=True)
        scheme = config.Scheme.model_validate_json(json.dumps(metadata["scheme"]), strict=True)
        available = [which for which in ("context", "target") if which in metadata["which"]]
        kind = metadata["kind"]
        if kind != TRANSFORMER and kind not in PLAIN:
            raise ValueError(f"its kind is {kind}")
    except (KeyError, TypeError, ValueError) as error:  # pydantic's own is a ValueError
        raise Problem(
            f"{path}: not an encoder of jepa3d",
            f"its description is missing or wrong: {error}",
            "give an encoder.safetensors",
        ) from None
    if which not in available:
        raise Problem(f"{path}: has no '{which}' encoder", f"it has {', '.join(available)}", "ask for that one")
    module = build(kind, model)
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


def build(kind: str, model: config.Model) -> nn.Module:
    """An encoder by the kind that its file names: the Transformer, or features that need no training."""
    return PLAIN[kind]() if kind in PLAIN else Encoder(model)
