"""Progress of long work: a live bar on a terminal, a plain line every ten seconds in a log.

rich is imported only where there is a terminal: trainings on machines without it go on.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

Out = TypeVar("Out")

PATIENCE = 10.0  # seconds between two lines where there is no terminal


def track(items: Iterable[Out], total: int, label: str) -> Iterator[Out]:
    """Pass the items on and show how far it is: a bar on a terminal, a line every ten seconds in a log."""
    if sys.stderr.isatty():
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with _bar(*columns) as progress:
            task = progress.add_task(label, total=total)
            for item in items:
                yield item
                progress.advance(task)
        return
    start = last = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - last >= PATIENCE:
            last = now
            left = (now - start) / done * (total - done)
            _say(f"{label}: {done}/{total}, {left:.0f} s left")


@contextlib.contextmanager
def bytes_shown(label: str, total: int | None, have: int = 0) -> Iterator[Callable[[int], None]]:
    """Progress of a transfer, in the same two ways. `advance(count)` adds bytes; a negative count starts over."""
    if sys.stderr.isatty():
        from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with _bar(*columns, TimeRemainingColumn()) as progress:
            task = progress.add_task(label, total=total, completed=have)
            yield lambda count: progress.reset(task) if count < 0 else progress.advance(task, count)
        return
    done, last = have, time.monotonic()

    def advance(count: int) -> None:
        nonlocal done, last
        done = 0 if count < 0 else done + count
        if time.monotonic() - last >= PATIENCE:
            last = time.monotonic()
            _say(f"{label}: {done / 1e6:,.0f}{f' of {total / 1e6:,.0f}' if total else ''} MB")

    yield advance


class Steps:
    """A training's progress: a live line with loss, rate and time left on a terminal, plain lines elsewhere."""

    def __init__(self, label: str, start: int, total: int) -> None:
        self.label, self.start, self.total = label, start, total
        self.begin = self.last = time.monotonic()
        self.bar: Any = None
        self.task: Any = None

    def __enter__(self) -> Steps:
        if sys.stderr.isatty():
            from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            )
            words = TextColumn("loss {task.fields[loss]:.4g}  {task.fields[rate]:.1f} steps/s")
            self.bar = _bar(*columns, words, TimeRemainingColumn())
            self.bar.start()
            self.task = self.bar.add_task(self.label, total=self.total, completed=self.start, loss=math.nan, rate=0.0)
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def show(self, step: int, loss: float) -> None:
        now = time.monotonic()
        rate = (step - self.start) / max(1e-9, now - self.begin)
        if self.bar is not None:
            self.bar.update(self.task, completed=step, loss=loss, rate=rate)
        elif now - self.last >= PATIENCE or step == self.total:
            self.last = now
            left = (self.total - step) / max(1e-9, rate)
            _say(f"{self.label}: step {step}/{self.total}  loss {loss:.4g}  {rate:.1f} steps/s  {left:.0f} s left")


def _bar(*columns: Any) -> Any:
    from rich.console import Console
    from rich.progress import Progress

    return Progress(*columns, console=Console(stderr=True), transient=True)


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)
