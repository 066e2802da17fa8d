"""download: the raw files of one data set, and results/raw/<dataset>/SOURCE.json that says where they are from.

A data set with `root:` is used where it is and never copied (an archive is read where it is, and what is needed of it
unpacked to results/raw/<dataset>); one without sources is generated later, by `convert`. What is fetched is fetched
once: addresses in order, broken transfers go on where they stopped (from <file>.part), size and hash are checked
before a file gets its name, and SOURCE.json is written last. `fetch` opens the network.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Any

from jepa3d import datasets, plugins
from jepa3d.fetch.addresses import FetchError, check_address, is_private
from jepa3d.fetch.remote_zip import members, ranges
from jepa3d.fetch.source import Source
from jepa3d.fetch.transfer import UNKNOWN, Window, discard, transfer
from jepa3d.formats import archives, roots
from jepa3d.graph import Graph
from jepa3d.layout import Layout
from jepa3d.params import DatasetConfig, Params, slice_of
from jepa3d.problem import Problem
from jepa3d.results import store


def download(params: Params, layout: Layout, dataset: str) -> None:
    """Make the raw files of one data set available, and write down where they come from."""
    settings = params.dataset(dataset)
    plugin: datasets.Plugin[Any] = plugins.find(datasets, settings.kind)
    where, folder = f"datasets.{dataset}", layout.raw(dataset)
    if settings.root is not None:
        source = in_place(plugin, settings, folder, f"{where}.root")
    elif not plugin.sources(settings):
        source = {"how": "generated"}
    else:
        source = already(layout.source(dataset), settings) or by_hand(plugin, settings, folder)
        source = source or fetch(plugin, settings, folder, where)
        source.update(located(plugin, settings, folder))
    job = Graph(params, layout).job("download", dataset)
    stamp = store.stamp(job.verb, job.settings, job.reads)
    store.write_json(layout.source(dataset), {"kind": settings.kind, **source, "provenance": stamp}, stamp)


def in_place(plugin: datasets.Plugin[Any], settings: DatasetConfig, made: Path, where: str) -> dict[str, Any]:
    """`root:` as it is: its absolute path, the layout found there, and the hashes of its list files."""
    assert settings.root is not None
    root = roots.existing(settings.root, where)
    source: dict[str, Any] = {"how": "in place", "given": settings.root, "root": str(root)}
    if root.is_file() and roots.is_archive(root):
        known = plugin.sources(settings)
        done = archives.unpack(root, made, known[0].members if known else (), known[0].unpacked if known else UNKNOWN)
        digest = store.sha256(root)
        source |= {"how": "unpacked", "sha256": digest, "files": done.files, "bytes": done.bytes}
        source["published"] = digest in {one.sha256 for one in known}
    return source | located(plugin, settings, roots.raw_folder(settings.root, made, where))


def located(plugin: datasets.Plugin[Any], settings: DatasetConfig, folder: Path) -> dict[str, Any]:
    """Which layout is in the folder, with size and hash of its list files."""
    copy = plugin.locate(folder, settings)
    files = {path.name: {"bytes": path.stat().st_size, "sha256": store.sha256(path)} for path in copy.lists}
    return {"folder": str(copy.folder.absolute()), "layout": copy.layout, "lists": files}


def already(source: Path, settings: DatasetConfig) -> dict[str, Any] | None:
    """What an earlier download left, where it is whole: nothing is fetched twice."""
    with contextlib.suppress(Problem, KeyError, TypeError, OSError):
        before = store.read_json(source)
        same = before["provenance"]["settings"] == slice_of(settings)
        present = all(
            (source.parent / name).stat().st_size == size for name, size in before["unpacked"].items()
        )  # fmt: skip
        if same and present:
            return {key: before[key] for key in ("how", "fetched", "terms", "accept_terms", "unpacked")}
    return None


def by_hand(plugin: datasets.Plugin[Any], settings: DatasetConfig, folder: Path) -> dict[str, Any]:
    """A complete layout that somebody put into results/raw/<dataset>: used as it is."""
    with contextlib.suppress(Problem):
        plugin.locate(folder, settings)
        if next(folder.rglob("*.part"), None) is None:
            return {"how": "put there by hand"}
    return {}


# ---- fetching one data set


def fetch(plugin: datasets.Plugin[Any], settings: DatasetConfig, folder: Path, where: str) -> dict[str, Any]:
    """Every source of the data set, by the first address that serves the right bytes."""
    if not isinstance(settings, datasets.Fetched):
        raise TypeError(f"datasets/{settings.kind}.py has SOURCES: its Config has to extend datasets.Fetched")
    sources = plugin.sources(settings)
    check_allowed(sources, settings, where)
    unfinished = folder / "download.part"  # until all is here: what is here is no layout put there by hand
    try:
        folder.mkdir(parents=True, exist_ok=True)
        unfinished.touch()
    except OSError as error:
        raise store.unwritable(folder, error) from None
    fetched = [one_of_its_addresses(source, settings, folder, where) for source in sources]
    unfinished.unlink()
    return {
        "how": "downloaded",
        "fetched": fetched,
        "terms": sorted({source.terms for source in sources}),
        "accept_terms": True,
        "unpacked": files_below(folder),
    }


def files_below(folder: Path) -> dict[str, int]:
    """Name and size of every finished file."""
    return {
        str(path.relative_to(folder)): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith((".part", ".part.json")) and path.name != "SOURCE.json"
    }


def check_allowed(sources: tuple[Source, ...], settings: datasets.Fetched, where: str) -> None:
    """Something to fetch from, the network allowed, and the terms accepted; else how to get the data by hand."""
    for source in sources:
        if not source.urls and not settings.mirrors:
            raise Problem(
                f"{where}: {source.name} has no address to fetch it from", f"terms: {source.terms}", source.by_hand
            )
    if settings.offline or os.environ.get("JEPA3D_OFFLINE", "") not in ("", "0"):
        raise Problem(f"{where}: offline, so nothing is fetched", f"needed: {sources[0].name}", sources[0].by_hand)
    if not settings.accept_terms:
        raise Problem(
            f"{where}: its terms of use have to be accepted before it is fetched",
            f"read them: {', '.join(sorted({source.terms for source in sources}))}",
            f"if you accept them, write 'accept_terms: true' under {where} in params.yaml; or name a copy with 'root:'",
        )


def one_of_its_addresses(source: Source, settings: datasets.Fetched, folder: Path, where: str) -> dict[str, Any]:
    """Try the mirrors of params.yaml, then the known addresses."""
    failed = []
    for url in (*(f"{mirror.rstrip('/')}/{source.name}" for mirror in settings.mirrors), *source.urls):
        try:
            return from_address(url, source, folder)
        except FetchError as error:
            failed.append(f"{url}: {error}")
        except OSError as error:
            raise store.unwritable(folder, error) from None
    raise Problem(f"{where}: {source.name} cannot be fetched", "; ".join(failed)[:1500], source.by_hand)


def from_address(url: str, source: Source, folder: Path) -> dict[str, Any]:
    """The file, whole or only the members that are needed, verified and unpacked."""
    check_address(url, source)
    if source.members and source.name.endswith(".zip"):
        total = ranges(url)
        if total is not None and is_private(url):
            return members(url, total, source, folder)
    part = folder / f"{source.name}.part"
    resumed = part.exists()
    for known in (bool(source.sha256 or source.md5), False):
        transfer(url, part, Window(0, source.size), known, label=source.name)
        try:
            digest = verify(part, source)
            break
        except FetchError:
            discard(part)
            if not resumed:  # else once more, from the beginning: what was here was not of this file
                raise
            resumed = False
    record = {"name": source.name, "url": url, "bytes": part.stat().st_size, "sha256": digest, "verified": how(source)}
    if roots.is_archive(Path(source.name)):
        try:
            archives.unpack(part, folder, source.members, source.unpacked)
        except Problem as problem:
            discard(part)
            raise FetchError(f"{problem.what.rsplit(': ', 1)[-1]}: {problem.why}") from None
        discard(part)
    else:
        part.replace(folder / source.name)
        discard(part)
    return record


def how(source: Source) -> str:
    return "sha256" if source.sha256 else "md5" if source.md5 else "size" if source.size else "nothing is published"


def verify(part: Path, source: Source) -> str:
    """The sha256 of a file whose size and hashes are the published ones."""
    size = part.stat().st_size
    if source.size is not None and size != source.size:
        raise FetchError(f"{size:,} bytes arrived, the file has {source.size:,}")
    digests = {"sha256": hashlib.sha256(), "md5": hashlib.md5(usedforsecurity=False)}
    with part.open("rb") as file:
        while block := file.read(1 << 20):
            for digest in digests.values():
                digest.update(block)
    for name, published in (("sha256", source.sha256), ("md5", source.md5)):
        if published and digests[name].hexdigest() != published:
            raise FetchError(f"wrong bytes: {name} {digests[name].hexdigest()}, expected {published}")
    return digests["sha256"].hexdigest()
