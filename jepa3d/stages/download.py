"""download: results/raw/<dataset>/SOURCE.json, and the raw files where there is something to fetch.

The only module that opens the network. A data set with `root:` is used where it is and never copied; one without
sources is generated later, by `convert`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jepa3d import config, plugins, store
from jepa3d.config import DatasetConfig
from jepa3d.foreign import roots
from jepa3d.layout import Layout
from jepa3d.problem import Problem


def download(params: config.Params, layout: Layout, dataset: str) -> None:
    """Make the raw files of one data set available, and write down where they come from."""
    settings = params.dataset(dataset)
    module = plugins.find("datasets", settings.kind)
    where = f"datasets.{dataset}"
    if settings.root is not None:
        source = in_place(module, settings, layout.raw(dataset), f"{where}.root")
    elif not module.SOURCES:
        source = {"how": "generated"}
    else:
        raise Problem(
            f"{where}: give its folder with 'root:'", "it is not fetched by itself yet", "see docs/datasets.md"
        )
    stamp = store.stamp("download", config.slice_of(settings))
    store.write_json(layout.source(dataset), {"kind": settings.kind, **source, "provenance": stamp})


def in_place(module: Any, settings: DatasetConfig, made: Path, where: str) -> dict[str, Any]:
    """`root:` as it is: its absolute path, the layout found there, and the hashes of its list files."""
    assert settings.root is not None
    root = roots.existing(settings.root, where)
    folder = roots.raw_folder(settings.root, made, where)
    return {"how": "in place", "given": settings.root, "root": str(root), **found(module, settings, folder)}


def found(module: Any, settings: DatasetConfig, folder: Path) -> dict[str, Any]:
    """Which layout the plugin finds in the folder, with size and hash of its list files."""
    if not hasattr(module, "locate"):
        return {"folder": str(folder)}
    layout: roots.Found = module.locate(folder, settings)
    files = {path.name: {"bytes": path.stat().st_size, "sha256": store.sha256(path)} for path in layout.lists}
    return {"folder": str(layout.folder), "layout": layout.layout, "lists": files}
