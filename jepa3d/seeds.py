"""Seeds by name: every random draw is a pure function of what it is for.

`derive(seed, "mask", epoch, shape)` is the same number on one worker or eight, on one rank or four, and after a
resume, because nothing about the order of execution enters it.
"""

from __future__ import annotations

import hashlib


def derive(seed: int, *path: str | int) -> int:
    """A 63-bit seed for the draw that `path` names. Neighbouring paths give unrelated seeds."""
    text = "\x1f".join([str(seed), *(f"{type(part).__name__}:{part}" for part in path)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1
