"""Work over many items: in several processes, in the order of the items, with progress shown."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

Item = TypeVar("Item")
Out = TypeVar("Out")

PATIENCE = 10.0  # seconds between two lines where there is no terminal


def workers() -> int:
    """How many processes or threads to use: JEPA3D_THREADS (the command line's --threads), else the cores at hand."""
    return int(os.environ.get("JEPA3D_THREADS", 0)) or len(os.sched_getaffinity(0))


def imap(function: Callable[[Item], Out], items: Sequence[Item], label: str) -> Iterator[Out]:
    """`map(function, items)` over processes, in order, with a bounded number in flight and a progress bar."""
    return track(_imap(function, items), len(items), label)


def tmap(function: Callable[[Item], Out], items: Sequence[Item], label: str) -> Iterator[Out]:
    """The same with threads: for work that is mostly reading, where sending arrays between processes costs more."""
    return track(_over(ThreadPoolExecutor, function, items), len(items), label)


def _imap(function: Callable[[Item], Out], items: Sequence[Item]) -> Iterator[Out]:
    return _over(_processes, function, items)


def _processes(count: int) -> Executor:
    context = multiprocessing.get_context("forkserver" if sys.platform != "win32" else "spawn")
    return ProcessPoolExecutor(count, mp_context=context)


def _over(executor: Callable[[int], Executor], function: Callable[[Item], Out], items: Sequence[Item]) -> Iterator[Out]:
    count = min(workers(), len(items))
    if count <= 1:
        yield from map(function, items)
        return
    size = max(1, min(64, len(items) // (count * 4)))
    chunks = [items[start : start + size] for start in range(0, len(items), size)]
    with executor(count) as pool:
        ahead = count * 4
        pending = [pool.submit(_apply, function, chunk) for chunk in chunks[:ahead]]
        try:
            for position in range(len(chunks)):
                yield from pending[position].result()
                pending[position] = None  # type: ignore[call-overload]  # let the results go
                if position + ahead < len(chunks):
                    pending.append(pool.submit(_apply, function, chunks[position + ahead]))
        finally:  # whoever reads may stop early
            pool.shutdown(wait=False, cancel_futures=True)


def _apply(function: Callable[[Item], Out], chunk: Sequence[Item]) -> list[Out]:
    return [function(item) for item in chunk]


def track(items: Iterable[Out], total: int, label: str) -> Iterator[Out]:
    """Pass the items on and show how far it is: a bar on a terminal, a line every ten seconds in a log."""
    console = Console(stderr=True)
    if console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as progress:
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
            console.print(f"{label}: {done}/{total}, {left:.0f} s left", highlight=False)


@contextlib.contextmanager
def bytes_shown(label: str, total: int | None, have: int = 0) -> Iterator[Callable[[int], None]]:
    """Progress of a transfer, in the same two ways. `advance(count)` adds bytes; a negative count starts over."""
    console = Console(stderr=True)
    if console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
            task = progress.add_task(label, total=total, completed=have)
            yield lambda count: progress.reset(task) if count < 0 else progress.advance(task, count)
        return
    done, last = have, time.monotonic()

    def advance(count: int) -> None:
        nonlocal done, last
        done = 0 if count < 0 else done + count
        if time.monotonic() - last >= PATIENCE:
            last = time.monotonic()
            console.print(f"{label}: {done / 1e6:,.0f}{f' of {total / 1e6:,.0f}' if total else ''} MB", highlight=False)

    yield advance
