"""Foreign archives, unpacked safely: every name, kind and size is checked before the first byte is written.

A path that leaves the folder, a link, a device, an encrypted member, a name that occurs twice, or more declared bytes
than the data set can have: each is a Problem that names the archive and the member. While unpacking, no member may
give more bytes than it declared.
"""

from __future__ import annotations

import bz2
import fnmatch
import gzip
import lzma
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

from jepa3d.problem import Problem
from jepa3d.results import store

BLOCK = 1 << 20
MOST_MEMBERS = 1_000_000
LONGEST_NAME = 1024
IGNORED = ("__MACOSX/*", "*/.DS_Store", ".DS_Store")
DAMAGE = (
    OSError, EOFError, ValueError, RuntimeError, NotImplementedError, KeyError, IndexError, OverflowError, MemoryError,
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError,
)  # fmt: skip


PACKED: dict[bytes, Any] = {
    b"\x1f\x8b": lambda raw: gzip.GzipFile(fileobj=raw),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
}


class Member(NamedTuple):
    """A regular file of an archive."""

    name: str
    size: int


class Unpacked(NamedTuple):
    """What was written."""

    files: int
    bytes: int


def unpack(archive: Path, folder: Path, patterns: Sequence[str] = (), limit: int = 64 << 30) -> Unpacked:
    """Unpack the members that match one of the glob `patterns` (all where there are none) into `folder`.

    Everything is unpacked beside its place first; what was in `folder` before stays until all of it is there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unpacking.", dir=folder) as beside:
        made = Path(beside)
        try:
            unpack_into = _unpack_zip if zipfile.is_zipfile(archive) else _unpack_tar
            done = unpack_into(archive, made, patterns, limit)
        except DAMAGE as error:
            raise damaged(archive, f"{type(error).__name__}: {error}") from None
        publish(made, folder)
    return done


def publish(made: Path, folder: Path) -> None:
    """Move every file below `made` to the same place below `folder`."""
    for path in sorted(made.rglob("*")):
        target = folder / path.relative_to(made)
        if path.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        else:
            path.replace(target)


def damaged(archive: Path, why: str) -> Problem:
    return Problem(
        f"{archive}: a damaged or unsafe archive", " ".join(why.split())[:300], "get it again; nothing was unpacked"
    )


def choose(archive: Path, members: Iterable[Member], patterns: Sequence[str], limit: int) -> list[Member]:
    """The members that are wanted, after all their names and sizes were checked."""
    wanted = [member for member in members if is_wanted(member.name, patterns)]
    seen: set[str] = set()
    for member in wanted:
        check_name(archive, member.name)
        folded = str(PurePosixPath(member.name)).casefold()
        if folded in seen:
            raise damaged(archive, f"the name {member.name[:80]!r} occurs twice")
        seen.add(folded)
    total = sum(member.size for member in wanted)
    if any(member.size < 0 for member in wanted) or total > limit or len(wanted) > MOST_MEMBERS:
        raise damaged(archive, f"it declares {total:,} bytes in {len(wanted):,} files; at most {limit:,} are expected")
    absent = [pattern for pattern in patterns if not any(fnmatch.fnmatchcase(m.name, pattern) for m in wanted)]
    if absent or not wanted:
        raise damaged(archive, f"it has no {', '.join(absent) or 'files'}")
    return wanted


def is_wanted(name: str, patterns: Sequence[str]) -> bool:
    if any(fnmatch.fnmatchcase(name, pattern) for pattern in IGNORED):
        return False
    return not patterns or any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def check_name(archive: Path, name: str) -> None:
    """A relative path of plain parts; anything that could lead out of the folder is refused."""
    parts = name.split("/")
    unsafe = (
        name.startswith("/") or "\\" in name or ":" in name or ".." in parts or "" in parts or "." in parts[1:]
        or any(ord(sign) < 32 for sign in name) or len(name) > LONGEST_NAME
    )  # fmt: skip
    if unsafe:
        raise damaged(archive, f"the name {name[:80]!r} leads out of the folder or is no plain path")


def room_for(folder: Path, size: int, what: str) -> None:
    """A Problem before the work where the disk has not the room."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise Problem(
            f"{folder}: no room for {what}", f"{size:,} bytes needed, {free:,} free", "free some, or --results"
        )


def _unpack_zip(archive: Path, folder: Path, patterns: Sequence[str], limit: int) -> Unpacked:
    with zipfile.ZipFile(archive) as file:
        infos = {info.filename: info for info in file.infolist() if not info.is_dir()}
        listed = [Member(info.filename, info.file_size) for info in file.infolist() if not info.is_dir()]
        wanted = choose(archive, listed, patterns, limit)
        for member in wanted:
            check_zip_member(archive, infos[member.name])
        room_for(folder, sum(member.size for member in wanted), f"the content of {archive.name}")
        for member in wanted:
            with file.open(infos[member.name]) as source:
                write(source, folder / member.name, member.size)
    return Unpacked(len(wanted), sum(member.size for member in wanted))


def check_zip_member(archive: Path, info: zipfile.ZipInfo) -> None:
    kind = info.external_attr >> 28
    if kind not in (0, 8):
        raise damaged(archive, f"{info.filename[:80]!r} is a link or a device, no file")
    if info.flag_bits & 1:
        raise damaged(archive, f"{info.filename[:80]!r} is encrypted")


def _unpack_tar(archive: Path, folder: Path, patterns: Sequence[str], limit: int) -> Unpacked:
    """Two passes: the first reads only the headers, and never more than `limit` bytes of a packed stream."""
    listed, links = [], []
    for info, _ in _tar_members(archive, limit):
        if info.isdir():
            continue
        if info.isreg():
            listed.append(Member(info.name, info.size))
        elif is_wanted(info.name, patterns):
            links.append(info.name)
    if links:
        raise damaged(archive, f"{links[0][:80]!r} is a link or a device, no file")
    wanted = {member.name: member for member in choose(archive, listed, patterns, limit)}
    total = sum(member.size for member in wanted.values())
    room_for(folder, total, f"the content of {archive.name}")
    for info, file in _tar_members(archive, limit):
        if info.isreg() and info.name in wanted:
            source = file.extractfile(info)
            assert source is not None
            write(source, folder / info.name, info.size)
    return Unpacked(len(wanted), total)


def _tar_members(archive: Path, limit: int) -> Iterator[tuple[tarfile.TarInfo, tarfile.TarFile]]:
    with archive.open("rb") as raw:
        start = raw.read(6)
        raw.seek(0)
        packed = next((kind for magic, kind in PACKED.items() if start.startswith(magic)), None)
        stream = packed(raw) if packed else raw
        bounded = _Bounded(stream, limit + (limit >> 3) + (64 << 20))
        with tarfile.open(fileobj=bounded, mode="r|") as file:  # type: ignore[call-overload]
            for number, info in enumerate(file):
                if number > MOST_MEMBERS:
                    raise ValueError(f"more than {MOST_MEMBERS:,} members")
                yield info, file
                file.members.clear()  # tarfile keeps every header otherwise


class _Bounded:
    """A stream that ends with an error after so many bytes: what a bomb unpacks to is never read."""

    def __init__(self, stream: IO[bytes], limit: int) -> None:
        self.stream, self.left = stream, limit

    def read(self, count: int) -> bytes:
        data = self.stream.read(count)
        self.left -= len(data)
        if self.left < 0:
            raise ValueError("it unpacks to more bytes than the data set can have")
        return data


def write(source: IO[bytes], target: Path, size: int) -> None:
    """Copy exactly `size` bytes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    left = size
    with target.open("xb") as file:
        while block := source.read(min(BLOCK, left + 1)):
            left -= len(block)
            if left < 0:
                raise ValueError(f"{target.name} is larger than declared")
            file.write(block)
    if left:
        raise ValueError(f"{target.name} is cut short: {left:,} of {size:,} bytes are missing")


def unpack_member(packed: Path, info: zipfile.ZipInfo, target: Path) -> None:
    """The packed bytes of one zip member -> the file, published when it has the declared size and CRC."""
    unpacker = None if info.compress_type == zipfile.ZIP_STORED else zlib.decompressobj(-zlib.MAX_WBITS)
    size, check = 0, 0
    with store.replacing(target) as temporary, packed.open("rb") as source, temporary.open("wb") as file:
        for plain in _plain(source, unpacker):
            size, check = size + len(plain), zlib.crc32(plain, check)
            if size > info.file_size:
                raise ValueError("it is larger than declared")
            file.write(plain)
        if size != info.file_size or check != info.CRC:
            raise ValueError("wrong bytes: its size or CRC is not the declared one")


def _plain(source: IO[bytes], unpacker: Any) -> Iterator[bytes]:
    """The unpacked bytes, at most a block at a time."""
    while block := source.read(BLOCK):
        while block:
            try:
                yield block if unpacker is None else unpacker.decompress(block, BLOCK)
            except zlib.error as error:
                raise ValueError(str(error)) from None
            block = b"" if unpacker is None else unpacker.unconsumed_tail
    if unpacker is not None:
        yield unpacker.flush()


def crc(path: Path) -> int:
    check = 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            check = zlib.crc32(block, check)
    return check
