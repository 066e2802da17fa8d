"""Readers of our own files: one file of a results folder is the mutant, and what reads it is what the commands use."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from fuzz import Reader
from numpy.typing import NDArray

from jepa3d.encoders import build, transformer
from jepa3d.layout import Layout
from jepa3d.params import Level, Scheme, Tokenizer
from jepa3d.pretrained import load, save
from jepa3d.problem import Problem
from jepa3d.report import page, study
from jepa3d.results import account, finding, opened, store, trace
from jepa3d.results.finding import Details, Folds, PerShape, share
from jepa3d.stages.patchify import levels
from jepa3d.tools import interchange
from jepa3d.train import batches, checkpoint, part_labels

SCHEME = Scheme(points=24, levels=(Level(num=6, size=4), Level(num=3, size=2)))
MODEL = transformer.Config(width=12, depth=1, heads=1, tokenizer=Tokenizer(widths=(4, 4, 4)))
COUNT = 8
LAYOUT = Layout(Path("results"))


class Net(NamedTuple):
    """What a checkpoint is of."""

    objective: torch.nn.Module
    optimiser: torch.optim.Optimizer


def net() -> Net:
    torch.manual_seed(0)
    made = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    optimiser = torch.optim.AdamW(made.parameters())
    made(torch.randn(5, 4)).square().sum().backward()
    optimiser.step()
    return Net(made, optimiser)


def forge(layout: Layout) -> None:
    """A little of everything, whole."""
    random = np.random.default_rng(0)
    points = random.normal(size=(COUNT, 24, 3)).astype(np.float32)
    label, split = np.arange(COUNT) % 2, np.array(["train", "train", "test", "test"] * (COUNT // 4))
    ids = [f"shape {number}" for number in range(COUNT)]
    described = {"label": label, "split": split, "id": ids}
    part = (np.arange(24) % 3 - 1).astype(np.int16)[None].repeat(COUNT, 0)
    stamp = {"verb": "none", "settings": {}, "inputs": {}, "code": "0", "jepa3d": "0"}
    names: dict[str, Any] = {"classes": ["cup", "dog"]}
    store.write_h5(layout.canonical("toys"), {"points": points, "part": part} | described, stamp, **names,
                   parts=["cup: body", "dog: leg"], config={"kind": "folder", "normalise": "none"})  # fmt: skip
    store.write_h5(layout.patches("two", "toys"), levels(points, SCHEME), stamp)
    features = {which: random.normal(size=(COUNT, 6)).astype(np.float32) for which in ("context", "target")}
    store.write_h5(layout.features("run", 0, "toys"), features | described, stamp, **names, pool="max", kind="made up")
    torch.manual_seed(0)
    save(layout.encoder("run", 0), {"context": build(MODEL), "target": build(MODEL)}, SCHEME.model_copy(
        update={"levels": SCHEME.levels[:1]}), stamp)  # fmt: skip
    both = {"train": 2, "test": 2}
    audit = {
        "dataset": "toys", "shapes": COUNT, "points": 24, "splits": {"train": 4, "test": 4},
        "classes": {"cup": both, "dog": both}, "unlabelled": 0, "bounds": {"low": [-1.0] * 3, "high": [1.0] * 3},
        "set_aside": [{"id": "a", "why": "is empty"}], "split_from": "lists", "passed_over": {"*.png": 2},
        "findings": {"in_both_splits": {"contents": 1, "shapes": 2, "first": [["a", "b"]]}}, "provenance": stamp,
    }  # fmt: skip
    store.write_json(layout.audit("toys"), audit)
    lines: list[dict[str, Any]] = [{"step": step, "loss": 1 / step, "knn": 0.5} for step in (10, 20)]
    store.write_jsonl(layout.curve("run", 0), [*lines, {"step": 20, "cost": {"seconds": 3.5, "device": "cpu"}}])
    spread = {"accuracy": {"mean": 0.5, "std": 0.1, "n": 2, "values": [0.4, 0.6]}}
    store.write_json(layout.metrics, {"run": {"linear": spread}})
    shapes = ("a", "b", "c", "d")
    details = Details(
        folds=Folds(scores={"accuracy": [0.25, 0.75]}, classes=[["cup"], ["dog"]]),
        per_shape=PerShape(ids=shapes, classes=("cup", "dog", "cup", "dog"), scores={"iou": [0.5, 0.25, 1.0, 0.25]}),
    )
    metrics = {"accuracy": share(0.5, shapes=4), "miou": share(0.5, per_shape="iou")}
    whole = finding.made("here", provenance=stamp, run="run", seed=0, eval="linear", dataset="toys", task={"kind": "x"},
                         protocol="none", headline="accuracy", metrics=metrics, notes=("a note",), details=details,
                         predicted=(0, 1, 1, 0), truth=(0, 1, 0, 1), ids=shapes, classes=("cup", "dog"))  # fmt: skip
    finding.write(layout.evaluation("run", 0, "linear"), whole)
    made = net()
    state = {"step": 7, "fingerprint": "f" * 64, "objective": made.objective.state_dict(),
             "optimiser": made.optimiser.state_dict()}  # fmt: skip
    store.save_state(state_of(layout), state)


def state_of(layout: Layout) -> Path:
    return layout.state("run", 0) / "step000000007.pt"


@cache
def whole() -> Layout:
    """Files that nothing is done to; one folder for a process and its children."""
    layout = Layout(Path(tempfile.mkdtemp(prefix="jepa3d-own-")) / "results")
    forge(layout)
    return layout


# ---- what reads them


def every_shape(layout: Layout, canonical: Path, patches: Path) -> Iterator[NDArray[Any]]:
    source = batches.open_shapes([batches.Subset(canonical, patches, batches.split_rows(canonical, None))], 1e9)
    arrays = source.rows(np.arange(len(source)))
    keys = torch.zeros(len(source), dtype=torch.long)
    made = batches.to_device(arrays, "cpu", keys).patches()
    yield from (made.points.numpy(), made.centres.numpy(), made.groups.numpy())
    yield part_labels.load(canonical, patches).arrays.points


def of_canonical(layout: Layout, path: Path) -> Iterator[NDArray[Any]]:
    read = interchange.to_numpy(path)
    assert -1 <= read.label.min() <= read.label.max() < len(read.classes)
    yield read.points
    yield from every_shape(layout, path, layout.patches("two", "toys"))


def of_patches(layout: Layout, path: Path) -> Iterator[NDArray[Any]]:
    yield from every_shape(layout, layout.canonical("toys"), path)


def of_features(layout: Layout, path: Path) -> Iterator[NDArray[Any]]:
    read = opened.features(path)
    yield from (one for one in (read.context, read.target) if one is not None)
    yield study.embedding(Layout(path.parents[3]), "run", 0, "toys").features


def of_encoder(layout: Layout, path: Path) -> Iterator[NDArray[Any]]:
    clouds = np.random.default_rng(1).normal(size=(3, 40, 3))
    for which in load(path).metadata["which"]:
        yield from (part.numpy() for part in load(path, which).encode(clouds))


def of_audit(layout: Layout, path: Path) -> Iterator[NDArray[Any]]:
    audit = opened.audit(path)
    account.page(audit)
    page.audited(audit)
    yield np.array(audit["bounds"]["low"])


def of_curve(layout: Layout, path: Path) -> Iterator[NDArray[Any]]:
    read = study.training(Layout(path.parents[3]), "run", 0)
    yield np.array([row["step"] for row in read.rows])


def of_metrics(layout: Layout, path: Path) -> Iterator[NDArray[Any]]:
    with contextlib.redirect_stdout(io.StringIO()):
        trace.trace(path, "run", "linear")
    yield np.array([0])


def of_evaluation(layout: Layout, path: Path) -> Iterator[NDArray[Any]]:
    read = finding.read(path, "jepa3d evaluate run linear --seed 0")
    for name, metric in read.metrics.items():
        yield np.array(metric.value)
        scores = read.scores(name)
        yield np.zeros(1) if scores is None else scores
    if read.classes:
        assert all(-1 <= label < len(read.classes) for label in (*read.truth, *(read.predicted or ())))


def of_checkpoint(layout: Layout, path: Path) -> Iterator[NDArray[Any]]:
    made = net()
    state = checkpoint.read(path, "f" * 64, made.objective, made.optimiser)
    if state["fingerprint"] != "f" * 64:
        raise Problem(f"{path}: is set aside", "it is of another training")
    made.objective.load_state_dict(state["objective"])
    made.optimiser.load_state_dict(state["optimiser"])
    made.objective(torch.randn(5, 4)).square().sum().backward()
    made.optimiser.step()
    yield from (parameter.detach().numpy() for parameter in made.objective.parameters())


def of(place: Callable[[Layout], Path], read: Callable[[Layout, Path], Iterable[NDArray[Any]]]) -> Reader:
    """The file at a place of the results; the mutant lies at the same place of another folder."""

    def files() -> dict[str, bytes]:
        path = place(whole())
        return {path.name: path.read_bytes()}

    def mutant(path: Path) -> Iterator[NDArray[Any]]:
        at = place(Layout(path.parent / ".own" / "results"))
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_bytes(path.read_bytes())
        yield from read(whole(), at)

    return Reader(files, mutant)


OWN = {
    "canonical": of(lambda layout: layout.canonical("toys"), of_canonical),
    "patches": of(lambda layout: layout.patches("two", "toys"), of_patches),
    "features": of(lambda layout: layout.features("run", 0, "toys"), of_features),
    "encoder": of(lambda layout: layout.encoder("run", 0), of_encoder),
    "audit": of(lambda layout: layout.audit("toys"), of_audit),
    "curve": of(lambda layout: layout.curve("run", 0), of_curve),
    "metrics": of(lambda layout: layout.metrics, of_metrics),
    "eval": of(lambda layout: layout.evaluation("run", 0, "linear"), of_evaluation),
    "state": of(state_of, of_checkpoint),
}
