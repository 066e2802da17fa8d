"""download: the raw files of one data set, and results/raw/<dataset>/SOURCE.json that says where they are from.

The only module that opens the network. A data set with `root:` is used where it is and never copied (an archive is
read where it is, and what is needed of it unpacked to results/raw/<dataset>); one without sources is generated later,
by `convert`. What is fetched is fetched once: addresses in order, broken transfers go on where they stopped (from
<file>.part), size and hash are checked before a file gets its name, and SOURCE.json is written last.

TLS is never switched off. An address without TLS is used only for a file whose hash is known.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import io
import json
import os
import ssl
import struct
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from jepa3d import __version__, config, plugins, progress, store
from jepa3d.config import DatasetConfig
from jepa3d.foreign import archives, roots
from jepa3d.foreign.sources import Source
from jepa3d.layout import Layout
from jepa3d.problem import Problem

TIMEOUT = 30.0  # seconds without a byte
ATTEMPTS = 5  # in a row without progress, per address
PAUSE = 1.0  # seconds before the second attempt; doubled each time
LONGEST_PAUSE = 30.0
BLOCK = 1 << 18
PROGRESS = 1 << 20  # bytes that make a broken attempt worth while
UNKNOWN = 64 << 30  # bytes; what a file of unknown size may have at most
TEMPORARY = (408, 425, 429, 500, 502, 503, 504)
BROKEN = (http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError, urllib.error.URLError, OSError)


class FetchError(Exception):
    """One address failed; the next one may do."""


class BrokenError(FetchError):
    """The connection failed in a way that may pass; what has arrived is kept."""


def download(params: config.Params, layout: Layout, dataset: str) -> None:
    """Make the raw files of one data set available, and write down where they come from."""
    settings = params.dataset(dataset)
    module = plugins.find("datasets", settings.kind)
    where, folder = f"datasets.{dataset}", layout.raw(dataset)
    if settings.root is not None:
        source = in_place(module, settings, folder, f"{where}.root")
    elif not sources_of(module, settings):
        source = {"how": "generated"}
    else:
        source = already(layout.source(dataset), settings) or by_hand(module, settings, folder)
        source = source or fetch(module, settings, folder, where)
        source.update(found(module, settings, folder))
    stamp = store.stamp("download", config.slice_of(settings))
    store.write_json(layout.source(dataset), {"kind": settings.kind, **source, "provenance": stamp})


def sources_of(module: Any, settings: DatasetConfig) -> tuple[Source, ...]:
    found: tuple[Source, ...] = module.sources(settings) if hasattr(module, "sources") else module.SOURCES
    return found


def in_place(module: Any, settings: DatasetConfig, made: Path, where: str) -> dict[str, Any]:
    """`root:` as it is: its absolute path, the layout found there, and the hashes of its list files."""
    assert settings.root is not None
    root = roots.existing(settings.root, where)
    source: dict[str, Any] = {"how": "in place", "given": settings.root, "root": str(root)}
    if root.is_file() and roots.is_archive(root):
        known = sources_of(module, settings)
        done = archives.unpack(root, made, known[0].members if known else (), known[0].unpacked if known else UNKNOWN)
        digest = store.sha256(root)
        source |= {"how": "unpacked", "sha256": digest, "files": done.files, "bytes": done.bytes}
        source["published"] = digest in {one.sha256 for one in known}
    return source | found(module, settings, roots.raw_folder(settings.root, made, where))


def found(module: Any, settings: DatasetConfig, folder: Path) -> dict[str, Any]:
    """Which layout the plugin finds in the folder, with size and hash of its list files."""
    if not hasattr(module, "locate"):
        return {"folder": str(folder.absolute())}
    layout: roots.Found = module.locate(folder, settings)
    files = {path.name: {"bytes": path.stat().st_size, "sha256": store.sha256(path)} for path in layout.lists}
    return {"folder": str(layout.folder.absolute()), "layout": layout.layout, "lists": files}


def already(source: Path, settings: DatasetConfig) -> dict[str, Any] | None:
    """What an earlier download left, where it is whole: nothing is fetched twice."""
    with contextlib.suppress(Problem, KeyError, TypeError, OSError):
        before = store.read_json(source)
        same = before["provenance"]["settings"] == config.slice_of(settings)
        present = all(
            (source.parent / name).stat().st_size == size for name, size in before["unpacked"].items()
        )  # fmt: skip
        if same and present:
            return {key: before[key] for key in ("how", "fetched", "terms", "accept_terms", "unpacked")}
    return None


def by_hand(module: Any, settings: DatasetConfig, folder: Path) -> dict[str, Any]:
    """A complete layout that somebody put into results/raw/<dataset>: used as it is."""
    with contextlib.suppress(Problem):
        module.locate(folder, settings)
        if next(folder.rglob("*.part"), None) is None:
            return {"how": "put there by hand"}
    return {}


# ---- fetching one data set


def fetch(module: Any, settings: DatasetConfig, folder: Path, where: str) -> dict[str, Any]:
    """Every source of the data set, by the first address that serves the right bytes."""
    sources = sources_of(module, settings)
    check_allowed(sources, settings, where)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise store.unwritable(folder, error) from None
    fetched = [one_of_its_addresses(source, settings, folder, where) for source in sources]
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


def check_allowed(sources: tuple[Source, ...], settings: Any, where: str) -> None:
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


def one_of_its_addresses(source: Source, settings: Any, folder: Path, where: str) -> dict[str, Any]:
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


def discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    notes(part).unlink(missing_ok=True)


# ---- addresses


def is_secure(url: str) -> bool:
    return urllib.parse.urlsplit(url).scheme == "https"


def is_private(url: str) -> bool:
    """Nobody on the way can change the bytes: TLS, or this machine."""
    return is_secure(url) or urllib.parse.urlsplit(url).hostname in ("127.0.0.1", "::1", "localhost")


def check_address(url: str, source: Source) -> None:
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise FetchError("only http and https addresses are fetched; name a folder with 'root:'")
    if not (is_private(url) or source.sha256 or source.md5):
        raise FetchError("an address without TLS, and no hash is published for the file: refused")


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from TLS to an address without."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if urllib.parse.urlsplit(newurl).scheme not in ("http", "https"):
            fp.close()
            raise FetchError(f"redirects to {newurl[:100]}: refused")
        if is_private(req.full_url) and not is_private(newurl):
            fp.close()
            raise FetchError(f"redirects to an address without TLS, {newurl[:100]}: refused")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def ask(url: str, headers: dict[str, str]) -> Any:
    """The server's answer to one request; any failure is a FetchError, one that may pass a BrokenError."""
    opener = urllib.request.build_opener(Redirects())
    request = urllib.request.Request(url, headers={"User-Agent": f"jepa3d/{__version__}", **headers})
    try:
        return opener.open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:
            raise OutsideError("the server has fewer bytes than are here already") from None
        words = f"HTTP {error.code} {error.reason}"
        raise (BrokenError if error.code in TEMPORARY else FetchError)(words) from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise FetchError(f"its TLS certificate is not valid: {error.reason.verify_message}") from None
        raise BrokenError(str(error.reason)) from None
    except BROKEN as error:
        raise BrokenError(f"{type(error).__name__} {error}".strip()) from None
    except ValueError as error:
        raise FetchError(str(error)) from None


class OutsideError(FetchError):
    """HTTP 416: the range that was asked for is not there."""


# ---- one transfer


class Window(NamedTuple):
    """Which bytes of the remote file are wanted; `length` None: up to its end, wherever that is."""

    offset: int
    length: int | None


def size_of(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def notes(part: Path) -> Path:
    """Beside a part: whose bytes they are."""
    return part.with_name(part.name + ".json")


def transfer(url: str, part: Path, window: Window, known: bool, label: str) -> None:
    """Fill `part` with the window's bytes; what is in it already is kept when it is from the same file.

    `known`: the whole will be checked against a published hash, so that a beginning from another mirror may be used.
    """
    failures, pause = 0, PAUSE
    with progress.bytes_shown(label, window.length, size_of(part)) as advance:
        while True:
            before = size_of(part)
            if window.length is not None and before == window.length:
                return None
            try:
                return receive(url, part, window, known, advance)
            except OutsideError:
                discard(part)
                problem: FetchError = BrokenError("the part that was here is not of this file")
            except BrokenError as error:
                problem = error
            if size_of(part) - before >= min(PROGRESS, (window.length or PROGRESS) // 100 + 1):
                failures, pause = 0, PAUSE
            failures += 1
            if failures >= ATTEMPTS:
                raise FetchError(f"{problem} ({ATTEMPTS} attempts)")
            time.sleep(min(pause, LONGEST_PAUSE))
            pause *= 2


def receive(url: str, part: Path, window: Window, known: bool, advance: Callable[[int], None]) -> None:
    """One request: the rest of the window, appended to `part`."""
    have = resumable(url, part, window, known)
    headers = {}
    whole = window == Window(0, window.length) and have == 0
    if not whole or window.offset:
        last = "" if window.length is None else str(window.offset + window.length - 1)
        headers["Range"] = f"bytes={window.offset + have}-{last}"
        before = read_notes(part)
        if have and before.get("url") == url and before.get("validator"):
            headers["If-Range"] = before["validator"]
    with ask(url, headers) as answer:
        if answer.status == 206:
            check_range(answer, window.offset + have)
        elif window.offset:
            raise FetchError("the server does not honour ranges any more")
        else:
            have = 0  # the server sends all of it
        expected = check_answer(answer, window, have)
        note(url, part, answer)
        append(answer, part, have, expected, advance)


def resumable(url: str, part: Path, window: Window, known: bool) -> int:
    """How many bytes of `part` can be kept: all of them, when they can be told to be of the same file."""
    if not part.exists():
        return 0
    have = part.stat().st_size
    before = read_notes(part)
    same = before.get("url") == url and bool(before.get("validator"))
    if not (known or same) or (window.length is not None and have > window.length):
        part.unlink()
        return 0
    return have


def read_notes(part: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(notes(part).read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
    return {}


def note(url: str, part: Path, answer: Any) -> None:
    """Remember which version of which file the part is of."""
    etag = answer.headers.get("ETag") or ""
    validator = etag if etag and not etag.startswith("W/") else answer.headers.get("Last-Modified") or ""
    store.write_json(notes(part), {"url": url, "validator": validator})


def check_range(answer: Any, start: int) -> None:
    words = (answer.headers.get("Content-Range") or "").removeprefix("bytes ").partition("-")
    if words[0].strip() != str(start):
        raise FetchError(f"asked for bytes from {start}, got '{answer.headers.get('Content-Range')}'")


def check_answer(answer: Any, window: Window, have: int) -> int | None:
    """How many bytes the answer will have, checked against what is known; None where nobody says."""
    kind = answer.headers.get("Content-Type") or ""
    if kind.startswith("text/html"):
        raise FetchError("answers with a web page, not with the file")
    length = answer.headers.get("Content-Length")
    if length is None or not length.isdigit():
        return None if window.length is None else window.length - have
    if window.length is not None and int(length) != window.length - have:
        raise FetchError(f"the server's file has {int(length) + have:,} bytes, expected {window.length:,}")
    if int(length) > UNKNOWN:
        raise FetchError(f"the server announces {int(length):,} bytes")
    return int(length)


def append(answer: Any, part: Path, have: int, expected: int | None, advance: Callable[[int], None]) -> None:
    """Write what arrives behind the `have` bytes; every byte that arrived is kept when the connection breaks."""
    limit = UNKNOWN if expected is None else expected
    arrived = 0
    with part.open("r+b" if part.exists() else "wb") as file:
        file.truncate(have)
        file.seek(have)
        advance(-1 if have == 0 else 0)
        while True:
            try:
                block = answer.read1(BLOCK)
            except http.client.IncompleteRead as error:
                block = error.partial
                if not block:
                    raise BrokenError(f"the connection broke after {have + arrived:,} bytes") from None
            except BROKEN as error:
                raise BrokenError(f"the connection broke after {have + arrived:,} bytes: {error}") from None
            if not block:
                break
            arrived += len(block)
            if arrived > limit:
                raise FetchError("the server sends more bytes than the file has")
            file.write(block)
            advance(len(block))
    if expected is not None and arrived < expected:
        raise BrokenError(f"the connection broke after {have + arrived:,} bytes")


# ---- members of a remote zip


def ranges(url: str) -> int | None:
    """The size of a remote file whose server honours ranges; None where it does not."""
    failure: FetchError = FetchError("")
    for attempt in range(ATTEMPTS):
        try:
            with ask(url, {"Range": "bytes=0-0"}) as answer:
                total = (answer.headers.get("Content-Range") or "").rpartition("/")[2]
                return int(total) if answer.status == 206 and total.isdigit() else None
        except BrokenError as error:
            failure = error
            time.sleep(min(PAUSE * 2**attempt, LONGEST_PAUSE))
    raise FetchError(f"{failure} ({ATTEMPTS} attempts)")


class Remote(io.RawIOBase):
    """A remote file that can be read at any place: for the directory at the end of a zip."""

    def __init__(self, url: str, size: int) -> None:
        self.url, self.size, self.at = url, size, 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: self.size}[whence])
        return self.at

    def readinto(self, buffer: Any) -> int:
        data = self.fetch(self.at, min(len(buffer), self.size - self.at))
        buffer[: len(data)] = data
        self.at += len(data)
        return len(data)

    def fetch(self, start: int, count: int) -> bytes:
        """Exactly these bytes, with as many attempts as a transfer has."""
        if count <= 0:
            return b""
        failure: FetchError = FetchError("")
        for attempt in range(ATTEMPTS):
            try:
                with ask(self.url, {"Range": f"bytes={start}-{start + count - 1}"}) as answer:
                    check_range(answer, start)
                    data: bytes = answer.read(count)
                if len(data) == count:
                    return data
                failure = BrokenError(f"{len(data)} of {count} bytes arrived")
            except BrokenError as error:
                failure = error
            except BROKEN as error:
                failure = BrokenError(str(error))
            time.sleep(min(PAUSE * 2**attempt, LONGEST_PAUSE))
        raise FetchError(f"{failure} ({ATTEMPTS} attempts)")


def members(url: str, total: int, source: Source, folder: Path) -> dict[str, Any]:
    """Only the members that are needed: their packed bytes by ranges, unpacked here, checked by size and CRC."""
    if source.size is not None and total != source.size:
        raise FetchError(f"the server's file has {total:,} bytes, expected {source.size:,}")
    remote = Remote(url, total)
    shown_as = Path(source.name)
    try:
        with io.BufferedReader(remote, 1 << 16) as file, zipfile.ZipFile(file) as archive:
            infos = {info.filename: info for info in archive.infolist() if not info.is_dir()}
        listed = [archives.Member(info.filename, info.file_size) for info in infos.values()]
        wanted = archives.choose(shown_as, listed, source.members, source.unpacked)
        for member in wanted:
            archives.check_zip_member(shown_as, infos[member.name])
    except Problem as problem:
        raise FetchError(problem.why) from None
    except archives.DAMAGE as error:
        raise FetchError(f"its directory cannot be read: {error}") from None
    archives.room_for(folder, sum(2 * member.size for member in wanted), source.name)
    for member in wanted:
        fetch_member(remote, infos[member.name], folder)
    names = [member.name for member in wanted]
    return {"name": source.name, "url": url, "members": names, "verified": "size of the archive, CRC of each member"}


def fetch_member(remote: Remote, info: zipfile.ZipInfo, folder: Path) -> None:
    """One member: resumed where it stopped, published when its size and CRC are right."""
    target = folder / info.filename
    if target.exists() and target.stat().st_size == info.file_size and archives.crc(target) == info.CRC:
        return
    head = remote.fetch(info.header_offset, 30)
    signature, name, extra = struct.unpack("<4s22xHH", head)
    if signature != b"PK\3\4" or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise FetchError(f"{info.filename} is packed in an unknown way")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    window = Window(info.header_offset + 30 + name + extra, info.compress_size)
    for known in (True, False):  # a part that turns out wrong is fetched once more, from its beginning
        transfer(remote.url, part, window, known, label=target.name)
        try:
            archives.unpack_member(part, info, target)
            break
        except ValueError as error:
            discard(part)
            if not known:
                raise FetchError(f"{info.filename}: {error}") from None
    discard(part)
