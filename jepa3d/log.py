"""`--log FILE`: what a command says on the screen also goes into a file, where it can be read later.

Progress is then told in lines, as it is wherever there is no terminal: several jobs share one screen.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from jepa3d.problem import Problem


class Screen:
    """A stream of text that says everything twice."""

    def __init__(self, screen: TextIO, file: TextIO) -> None:
        self.screen, self.file = screen, file

    def write(self, text: str) -> int:
        self.file.write(text)
        self.file.flush()
        return self.screen.write(text)

    def flush(self) -> None:
        self.screen.flush()

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return self.screen.fileno()

    @property
    def encoding(self) -> str:
        return self.screen.encoding

    @property
    def errors(self) -> str | None:
        return self.screen.errors


@contextlib.contextmanager
def kept(path: Path) -> Iterator[None]:
    """Both streams also go into this file; what an earlier command left there is gone."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w", encoding="utf-8", errors="replace")
    except OSError as error:
        raise Problem(f"{path}: cannot be written", error.strerror or str(error), "choose another --log") from None
    screens: Any = sys.stdout, sys.stderr
    with file:
        out, err = (Screen(screen, file) for screen in screens)
        sys.stdout, sys.stderr = out, err  # type: ignore[assignment]
        try:
            yield
        finally:
            sys.stdout, sys.stderr = screens
