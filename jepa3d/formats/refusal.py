"""A file that is whole, but of a kind or with a doubt that we do not read: why, and what the user can do."""

from __future__ import annotations


class NotReadError(ValueError):
    """Raised by a reader that has only the bytes; who knows the path makes a Problem of it."""

    def __init__(self, why: str, mend: str) -> None:
        super().__init__(why)
        self.mend = mend
