"""A few test shapes as the method sees them: their patches, their masks, and what the encoder made of the patches."""

from __future__ import annotations

import colorsys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray

import jepa3d
from jepa3d import objectives
from jepa3d.layout import Layout
from jepa3d.objectives._shared.masks import MaskConfig, multiblock
from jepa3d.ops.geometry import unit_sphere
from jepa3d.ops.masking import draws_needed
from jepa3d.params import Params
from jepa3d.params.validation import plugin_config
from jepa3d.report import study
from jepa3d.report.pictures import Cloud, hex_colour
from jepa3d.results import opened, store
from jepa3d.seeds import derive

SHOWN = 8  # shapes in the picture of patch features
CACHED = ("point", "centre")
CONTEXT = "#8796ab"
BLOCKS = ("#e69f00", "#009e73", "#d55e00", "#b06fc9", "#0a88c2", "#c9b400", "#e377c2", "#6b4a2b")


class Sample(NamedTuple):
    """Shapes of one data set, one of each of its first classes, and their patches."""

    dataset: str
    ids: tuple[str, ...]
    names: tuple[str, ...]  # of their classes
    points: Float[np.ndarray, "n P 3"]  # the points that the scheme uses
    centres: Float[np.ndarray, "n N 3"]


class Masking(NamedTuple):
    """One shape's patches, and its masks under Algorithm 2."""

    run: str
    shape: str
    patches: Cloud
    masks: tuple[Cloud, ...]  # several draws
    counts: tuple[tuple[int, int], ...]  # (target, context) patches of each draw
    num: int  # N
    blocks: int


class TokenColours(NamedTuple):
    """Patch features as colours."""

    run: str
    seed: int
    clouds: tuple[Cloud, ...]
    share: float  # of the variance of all tokens that the three components hold


def sample(params: Params, layout: Layout, dataset: str, run: str) -> Sample:
    """One test shape of each of the first classes, with the patches of the run's scheme."""
    scheme = params.runs[run].patches
    study.present(layout.canonical(dataset), f"jepa3d convert {dataset}")
    study.present(layout.patches(scheme, dataset), f"jepa3d patchify {scheme} {dataset}")
    with opened.canonical(layout.canonical(dataset)) as file:
        label, split, ids = file["label"][:], opened.splits(file["split"]), store.text(file["id"])
        classes = store.attributes(file)["classes"]
        rows = one_of_each(label, split)
        stored = np.stack([file["points"][row] for row in rows])
        opened.check_points(stored, layout.canonical(dataset))
    with opened.patches(layout.patches(scheme, dataset)) as file:
        cached = {key: np.stack([file[key][row] for row in rows]).astype(np.int64) for key in file if key in CACHED}
    used = cached["point"].shape[1] if "point" in cached else stored.shape[1]
    for key, index in cached.items():
        opened.check_indices(index, stored.shape[1] if key == "point" else used, layout.patches(scheme, dataset))
    if "point" in cached:  # absent: all stored points, in order
        stored = np.take_along_axis(stored, cached["point"][:, :, None], 1)
    points = unit_sphere(torch.from_numpy(stored)).numpy()
    return Sample(
        dataset,
        tuple(ids[rows]),
        tuple(classes[label[row]] if label[row] >= 0 else "unlabelled" for row in rows),
        points,
        np.take_along_axis(points, cached["centre"][:, :, None], 1),
    )


def one_of_each(label: Int[np.ndarray, " n"], split: NDArray[Any]) -> list[int]:
    """The first test shape of each class, for the first eight classes; the first shapes where there are no labels."""
    rows = np.flatnonzero(split == "test") if (split == "test").any() else np.arange(len(label))
    first = {int(label[row]): int(row) for row in rows[::-1]}
    if set(first) == {-1}:
        return [int(row) for row in rows[:SHOWN]]
    return [first[name] for name in sorted(first) if name >= 0][:SHOWN]


def masked(params: Params, found: Sample, run: str, draws: int = 3) -> Masking:
    """The first shape's patches, and `draws` independent masks of the run's own Algorithm 2."""
    entry = mask_entry(params, run)
    assert entry is not None  # `masking_run` chose it for that
    points, centres = found.points[0], found.centres[0]
    patch = nearest(points, centres, 1)[1][:, 0]
    generator = torch.Generator().manual_seed(derive(0, "report", "mask", run))
    uniform = torch.rand(draws, draws_needed(entry.blocks), generator=generator)
    mask = multiblock(entry, torch.from_numpy(centres).expand(draws, -1, -1), uniform)
    clouds, counts = [], []
    for target, context, block in zip(*(part.numpy() for part in mask), strict=True):
        colours = np.full(len(centres), CONTEXT)
        colours[target] = [BLOCKS[member.argmax() % len(BLOCKS)] for member in block.T[target]]
        counts.append((int(target.sum()), int(context.sum())))
        title = f"{counts[-1][0]} target patches, {counts[-1][1]} context patches"
        used = (target | context)[patch]  # with `context: block` a patch may be neither: it is left out
        clouds.append(Cloud(title, points[used], tuple(map(str, colours[patch][used]))))
    rainbow = [hue(index) for index in range(len(centres))]
    whole = Cloud(f"{len(centres)} patches", points, tuple(rainbow[index] for index in patch))
    return Masking(run, found.names[0], whole, tuple(clouds), tuple(counts), len(centres), entry.blocks)


def masking_run(params: Params) -> str | None:
    """The study's first run whose objective masks blocks of patches."""
    return next((run for run in params.chosen.run_names() if mask_entry(params, run)), None)


def mask_entry(params: Params, run: str) -> MaskConfig | None:
    """The `mask:` of a run's objective, the plugin's defaults included; None where nothing is masked in blocks."""
    objective = plugin_config(objectives, params.runs[run].objective.options(), f"runs.{run}.objective", params.source)
    entry = getattr(objective, "mask", None)
    return entry if isinstance(entry, MaskConfig) and entry.kind == "multiblock" else None


def token_run(params: Params) -> str | None:
    """The run whose patch features are drawn: the first that masks blocks, else the first trained one, else any
    with patch tokens; features that are computed have none."""
    learned = [run for run in params.chosen.run_names() if params.model(params.runs[run].model).layers]
    trained = [run for run in learned if params.runs[run].pretrained]
    first = masking_run(params)
    return next(iter([*([first] if first else []), *trained, *learned]), None)


def token_colours(found: Sample, encoder: Path, run: str, seed: int) -> TokenColours:
    """The first three principal components of all patch tokens as red, green and blue."""
    study.present(encoder, f"jepa3d pretrain {run} --seed {seed}")
    loaded = jepa3d.load_encoder(encoder).of_canonical()
    with torch.inference_mode():
        centres, tokens = (part.float().numpy() for part in loaded.tokens(torch.from_numpy(found.points)))
    colours, share = principal_colours(tokens)
    clouds = []
    for name, points, own, rgb in zip(found.names, found.points, centres, colours, strict=True):
        clouds.append(Cloud(name, points, tuple(hex_colour(value) for value in interpolate(points, own, rgb))))
    return TokenColours(run, seed, tuple(clouds), share)


def principal_colours(tokens: Float[np.ndarray, "n N D"]) -> tuple[Float[np.ndarray, "n N 3"], float]:
    """Three principal components over all tokens, each stretched from its 2nd to its 98th percentile to 0..1."""
    projected, share = principal(tokens.reshape(-1, tokens.shape[-1]), 3)
    low, high = np.percentile(projected, [2, 98], axis=0)
    stretched = np.clip((projected - low) / np.where(high > low, high - low, 1), 0, 1)
    return stretched.reshape(*tokens.shape[:2], 3), share


def principal(rows: Float[np.ndarray, "n D"], count: int) -> tuple[Float[np.ndarray, "n c"], float]:
    """The first principal components and their share of the variance. Signs: the largest loading is positive."""
    centred = np.asarray(rows, np.float64) - rows.mean(0, dtype=np.float64)
    _, values, axes = np.linalg.svd(centred, full_matrices=False)
    axes = axes[:count]
    axes *= np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(1)])[:, None]
    projected = np.zeros((len(rows), count))
    projected[:, : len(axes)] = centred @ axes.T
    total = float((values**2).sum())
    return projected, float((values[:count] ** 2).sum()) / total if total > 0 else 0.0


def interpolate(
    points: Float[np.ndarray, "P 3"], centres: Float[np.ndarray, "N 3"], values: Float[np.ndarray, "N c"]
) -> Float[np.ndarray, "P c"]:
    """Values at the centres carried to the points: mean of the three nearest, weighted by inverse distance."""
    distance, index = nearest(points, centres, min(3, len(centres)))
    weight = 1 / (distance + 1e-8)
    carried: NDArray[np.float64] = ((weight / weight.sum(1, keepdims=True))[:, :, None] * values[index]).sum(1)
    return carried


def nearest(
    points: Float[np.ndarray, "P 3"], centres: Float[np.ndarray, "N 3"], count: int
) -> tuple[Float[np.ndarray, "P c"], Int[np.ndarray, "P c"]]:
    """Distances and indices of the `count` centres nearest to each point."""
    distance = np.linalg.norm(points[:, None].astype(np.float64) - centres[None], axis=-1)
    index = np.argsort(distance, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(distance, index, 1), index


def hue(index: int) -> str:
    """Colours that stay apart for any count: hues a golden angle from each other."""
    return hex_colour(colorsys.hls_to_rgb((0.58 + index * 0.618034) % 1.0, 0.62 - 0.1 * (index % 2), 0.6))
