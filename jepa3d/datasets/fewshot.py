"""Few-shot folds of ModelNet40: Point-BERT's pickles, or the same protocol drawn with a recorded seed.

`ModelNetFewshot/5way_10shot/3.pkl` (peers' documents draw `5way10shot/`, their code opens `5way_10shot/`: both are
found) is {'train', 'test'}: lists of (float32 [8192, 6], label 0..way-1, class of ModelNet40), way * shot and way * 20
of them. The pickles' own draw is unseeded. Where they are absent and ModelNet40 is under `root`, the folds are drawn:
classes without repetition, then `shot` train shapes and 20 test shapes of each.

One entry is one fold, or all of a setting: the shape `5way_10shot/3/train/0007` says which. Labels are ModelNet40's.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import Field, PositiveInt

from jepa3d.datasets import Fetched, SetAside, Shape, Split
from jepa3d.datasets._shared import audits, canonical, modelnet
from jepa3d.datasets._shared.modelnet import FORTY, ModelNet
from jepa3d.fetch.source import Source
from jepa3d.formats import pickles, roots
from jepa3d.problem import Problem
from jepa3d.seeds import derive

FOLDS = 10
BY_HAND = (
    "get ModelNetFewshot from https://drive.google.com/drive/folders/1gqvidcQsvdxP_3MdUr424Vkyjb_gt7TW, or let 'root:' "
    "name a folder with ModelNet40: then the folds are drawn with a recorded seed"
)
SOURCES = (Source("ModelNetFewshot", (), "https://modelnet.cs.princeton.edu", BY_HAND),)
FOLDERS = ("ModelNetFewshot", "data/ModelNetFewshot")
SPLITS: tuple[Split, ...] = ("train", "test")


class Config(ModelNet, Fetched):
    """`fold: null` takes all ten folds. `source: auto` prefers the pickles and draws the folds where they are absent.

    `seed` is the seed of drawn folds, and of the points where `sample` draws them; `layout` is ModelNet40's.
    """

    kind: Literal["fewshot"] = "fewshot"
    way: PositiveInt = Field(default=5, le=40)
    shot: PositiveInt = 10
    queries: PositiveInt = 20
    fold: int | None = Field(default=None, ge=0, lt=FOLDS)
    source: Literal["auto", "pickles", "drawn"] = "auto"


class Entry(NamedTuple):
    """One shape of one fold: its place there, and the cloud it is."""

    split: Split
    id: str
    item: modelnet.Item


def classes(raw: Path, config: Config) -> tuple[str, ...]:
    return FORTY


def folds(config: Config) -> range:
    return range(FOLDS) if config.fold is None else range(config.fold, config.fold + 1)


def setting(config: Config) -> str:
    return f"{config.way}way_{config.shot}shot"


def layouts(config: Config) -> dict[str, tuple[str, ...]]:
    """The two spellings of the setting's folder."""
    spelt = (setting(config), f"{config.way}way{config.shot}shot")
    return {name: tuple(f"{name}/{fold}.pkl" for fold in folds(config)) for name in spelt}


def locate(raw: Path, config: Config) -> roots.Located:
    """The folder of pickles, or ModelNet40 to draw from."""
    wanted = layouts(config)
    found = roots.find_layout(raw, wanted, FOLDERS) if config.source != "drawn" else None
    if found is not None:
        return roots.Located("pickles", found[1] / found[0])
    if config.source == "auto":
        check_none(raw, wanted)
    if config.source == "pickles":
        raise roots.not_found(raw, wanted, FOLDERS, BY_HAND)
    try:
        whole = modelnet.locate(raw, config.layout)
    except Problem as problem:
        pickled = {} if config.source == "drawn" else wanted
        raise Problem(f"{raw}: no few-shot folds", f"{', '.join(pickled)} or {problem.why}"[:1500], BY_HAND) from None
    return roots.Located(f"drawn from {whole.layout}", whole.folder, whole.lists)


def check_none(raw: Path, wanted: dict[str, tuple[str, ...]]) -> None:
    """Some of the folds are no reason to draw all of them anew."""
    for place in (raw, *(raw / folder for folder in FOLDERS)):
        for names in wanted.values():
            present = [name for name in names if (place / name).exists()]
            if present:
                missing = [name for name in names if name not in present]
                raise Problem(
                    f"{place / missing[0]}: no such file, and {len(present)} of the {len(names)} folds are there",
                    "the copy is not complete",
                    "complete it, take one with 'fold:', or say 'source: drawn'",
                )


def read(raw: Path, config: Config) -> Iterator[Shape | SetAside]:
    found = locate(raw, config)
    if found.layout == "pickles":
        for fold in folds(config):
            yield from _pickled(found.folder / f"{fold}.pkl", fold, config)
        return
    whole = modelnet.locate(raw, config.layout)
    entries = [entry for fold in folds(config) for entry in draw(modelnet.items(whole, FORTY), fold, config)]
    clouds = modelnet.clouds(whole, [entry.item for entry in entries], config)
    for entry, (item, points, why) in zip(entries, clouds, strict=True):
        yield SetAside(entry.id, why) if points is None else Shape(points, item.label, None, entry.split, entry.id)


def count(raw: Path, config: Config) -> int:
    """How many shapes there are if none is damaged."""
    return len(folds(config)) * config.way * (config.shot + config.queries)


def draw(items: list[modelnet.Item], fold: int, config: Config) -> list[Entry]:
    """One fold, a pure function of the seed, the setting and the shapes' ids."""
    pools: dict[tuple[int, str], list[modelnet.Item]] = {}
    for item in sorted(items, key=lambda item: item.id):
        pools.setdefault((item.label, item.split), []).append(item)
    sizes = {"train": config.shot, "test": config.queries}
    able = [k for k in range(len(FORTY)) if all(len(pools.get((k, s), ())) >= n for s, n in sizes.items())]
    if len(able) < config.way:
        raise Problem(
            f"{setting(config)}: only {len(able)} classes have {config.shot} train and {config.queries} test shapes",
            f"{config.way} are needed",
            "lower way, shot or queries, or complete ModelNet40",
        )
    rng = np.random.default_rng(derive(config.seed, "few-shot", config.way, config.shot, fold))
    chosen = rng.permutation(able)[: config.way]
    entries = []
    for split in SPLITS:
        drawn = [pools[int(k), split][j] for k in chosen
                 for j in rng.permutation(len(pools[int(k), split]))[: sizes[split]]]  # fmt: skip
        entries += [Entry(split, _id(config, fold, split, n), item) for n, item in enumerate(drawn)]
    return entries


def _id(config: Config, fold: int, split: str, number: int) -> str:
    return f"{setting(config)}/{fold}/{split}/{number:04d}"


def _pickled(path: Path, fold: int, config: Config) -> Iterator[Shape | SetAside]:
    settled = modelnet.settled(config, "dat")
    for split, rows in _content(path, config).items():
        for number, row in enumerate(rows):
            id = _id(config, fold, split, number)
            label = _class_of(row)
            if isinstance(label, str):
                yield SetAside(id, f"{path}: {label}")
                continue
            try:
                points = canonical.points_of(row[0], settled, id, "y")
            except Problem as problem:
                yield SetAside(id, f"{path}: {problem.what}: {problem.why}")
                continue
            yield Shape(points, label, None, split, id)


def _class_of(row: Any) -> int | str:
    """The class of ModelNet40 of one row of a pickle, or why there is none."""
    if not (isinstance(row, tuple | list) and len(row) == 3 and isinstance(row[0], np.ndarray)):
        return f"{roots.describe(row)} is no (cloud, label, class)"
    if not isinstance(row[2], int | np.integer | np.ndarray) or isinstance(row[2], bool):
        return f"class {roots.describe(row[2])}, expected 0 to 39"
    label = np.asarray(row[2]).reshape(-1)
    if label.size != 1 or label.dtype.kind not in "iu" or not 0 <= int(label[0]) < len(FORTY):
        return f"class {roots.describe(row[2])}, expected 0 to 39"
    return int(label[0])


def _content(path: Path, config: Config) -> dict[Split, list[Any]]:
    """The two lists of a fold, of the sizes that the setting says."""
    content = pickles.load(path)
    found: dict[Split, list[Any]] = {}
    for split, size in zip(SPLITS, (config.way * config.shot, config.way * config.queries), strict=True):
        rows = content.get(split) if isinstance(content, dict) else None
        if not isinstance(rows, list) or len(rows) != size:
            have = f"{len(rows)} shapes" if isinstance(rows, list) else "no list"
            raise Problem(
                f"{path}: {have} under '{split}', expected {size}", f"{setting(config)}", "get the file again"
            )
        found[split] = rows
    return found


def audit(raw: Path, config: Config) -> dict[str, Any]:
    """Per fold the classes; how many shapes its train and test share (none may)."""
    found = locate(raw, config)
    drawn = found.layout != "pickles"
    listed = modelnet.items(modelnet.locate(raw, config.layout), FORTY) if drawn else []
    drawn_classes = {}
    for fold in folds(config):
        if drawn:
            labels = {item.label for _, _, item in draw(listed, fold, config)}
        else:
            rows = _content(found.folder / f"{fold}.pkl", config)["train"]
            labels = {label for row in rows if isinstance(label := _class_of(row), int)}
        drawn_classes[str(fold)] = [FORTY[label] for label in sorted(labels)]
    size = config.way * len(drawn_classes)
    files = [found.folder / f"{fold}.pkl" for fold in folds(config)] if not drawn else []
    return {
        "layout": found.layout,
        "split_from": f"drawn, seed {config.seed}" if drawn else "the lists 'train' and 'test' of each pickle",
        "official": {"train": size * config.shot, "test": size * config.queries},
        "counts": {"train": size * config.shot, "test": size * config.queries},
        "fold_classes": drawn_classes,
        "hashes": audits.hashes(files, {}),
        "notes": [f"folds drawn with seed {config.seed}"] if drawn else [],
    }


def forge(raw: Path) -> None:
    """The default setting, ten folds of two different clouds each, in the bytes of Point-BERT's pickles."""
    import pickle  # for writing only: what is read goes through formats/pickles.py

    folder = raw / "ModelNetFewshot" / "5way_10shot"
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    cloud = np.hstack([rng.normal(size=(8192, 3)), np.zeros((8192, 3))]).astype(np.float32)
    for fold in range(FOLDS):
        chosen = [(fold + 7 * k) % 40 for k in range(5)]
        content = {
            split: [(cloud, new, old) for new, old in enumerate(chosen) for _ in range(count)]
            for split, count in (("train", 10), ("test", 20))
        }
        data = pickle.dumps(content, protocol=3).replace(b"numpy._core.", b"numpy.core.")
        (folder / f"{fold}.pkl").write_bytes(data)
