"""embed: canonical clouds + patches + encoder -> results/features/<run>/seed<n>/<dataset>.h5.

context    float32 [n, F]    pooled features of the context encoder
target     float32 [n, F]    of its EMA copy, where the run has one
label, split, id             as in the canonical file;  attributes: classes, pool, kind
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from jepa3d import pretrained
from jepa3d.graph import Graph
from jepa3d.layout import Layout
from jepa3d.params import Params
from jepa3d.progress import track
from jepa3d.results import opened, store
from jepa3d.train import batches


def embed(params: Params, layout: Layout, run: str, dataset: str, seed: int) -> None:
    """Features of every shape of one data set by one trained encoder; no augmentation, no masking (section 8)."""
    job = Graph(params, layout).job("embed", run, seed, dataset)
    weights, canonical, patches = job.reads
    stamp = store.stamp(job.verb, job.settings, job.reads)
    source = batches.open_shapes(
        [batches.Subset(canonical, patches, batches.split_rows(canonical, None))], params.execution.of_run(run).memory
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    first = pretrained.load(weights)
    arrays = {}
    for which in first.metadata["which"]:
        loaded = pretrained.load(weights, which).to(device)
        arrays[which] = features(loaded, source, device, f"embed {run} seed {seed} {dataset}")
    with opened.canonical(canonical) as file:
        described = {"label": file["label"][:], "split": opened.splits(file["split"]), "id": store.text(file["id"])}
        classes = store.attributes(file)["classes"]
    store.write_h5(
        layout.features(run, seed, dataset),
        arrays | described,
        stamp,
        classes=classes,
        pool=first.module.config.pooled,
        kind=first.module.config.kind,
    )


@torch.no_grad()
def features(
    loaded: pretrained.LoadedEncoder, source: batches.Shapes, device: torch.device, label: str
) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Pooled features [n, F] of every shape of a source, in its order, from the cached patches."""
    size = loaded.batch_size
    starts = range(0, len(source), size)

    def pooled(start: int) -> Tensor:
        index = np.arange(start, min(start + size, len(source)))
        keys = torch.zeros(len(index), dtype=torch.long)
        batch = batches.to_device(source.rows(index), device, keys)
        return loaded.pooled(batch.patches()).float()

    pieces = map(pooled, track(starts, len(starts), label))
    return pretrained.in_one(pieces, len(source), torch.device("cpu")).numpy()
