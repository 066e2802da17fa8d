"""Some members of a zip that is elsewhere: its directory and their bytes are read by ranges, nothing else of it."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path
from typing import Any

from jepa3d.fetch.addresses import BROKEN, BrokenError, FetchError, ask, patiently
from jepa3d.fetch.source import Source
from jepa3d.fetch.transfer import Window, check_range, discard, transfer
from jepa3d.formats import archives
from jepa3d.problem import Problem

# ---- members of a remote zip


def ranges(url: str) -> int | None:
    """The size of a remote file whose server honours ranges; None where it does not."""

    def look() -> int | None:
        with ask(url, {"Range": "bytes=0-0"}) as answer:
            total = (answer.headers.get("Content-Range") or "").rpartition("/")[2]
            return int(total) if answer.status == 206 and total.isdigit() else None

    return patiently(look)


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

        def read() -> bytes:
            with ask(self.url, {"Range": f"bytes={start}-{start + count - 1}"}) as answer:
                check_range(answer, start)
                try:
                    data: bytes = answer.read(count)
                except BROKEN as error:
                    raise BrokenError(str(error)) from None
            if len(data) != count:
                raise BrokenError(f"{len(data)} of {count} bytes arrived")
            return data

        return patiently(read)


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
