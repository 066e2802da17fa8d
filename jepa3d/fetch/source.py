"""What `download` fetches, as data: addresses in order, size and hash, what is needed out of it, and whose terms."""

from __future__ import annotations

from typing import NamedTuple


class Source(NamedTuple):
    """One file on the network."""

    name: str  # the file's name, and what a mirror of params.yaml must serve
    urls: tuple[str, ...]  # tried in order; () where there is no stable address: then `by_hand` is all there is
    terms: str  # where the terms of use are
    by_hand: str  # how a person gets it
    size: int | None = None  # bytes
    sha256: str = ""
    md5: str = ""
    members: tuple[str, ...] = ()  # glob patterns of what is needed out of an archive; (): everything
    unpacked: int = 64 << 30  # an archive that declares more bytes than this is refused
