"""Work over many items: in several processes, in the order of the items, with progress shown."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from typing import TypeVar

from jepa3d.progress import track

Item = TypeVar("Item")
Out = TypeVar("Out")
CHUNK = 16  # items that a worker takes at once; four such chunks a worker are in flight


def workers() -> int:
    """How many processes or threads to use: JEPA3D_THREADS (the command line's --threads), else the cores at hand."""
    return int(os.environ.get("JEPA3D_THREADS", 0)) or len(os.sched_getaffinity(0))


def imap(function: Callable[[Item], Out], items: Sequence[Item], label: str = "") -> Iterator[Out]:
    """`map(function, items)` over processes, in order, with a bounded number in flight and, under a label, a
    progress bar."""
    found = _over(_processes, function, items)
    return track(found, len(items), label) if label else found


def tmap(function: Callable[[Item], Out], items: Sequence[Item], label: str = "") -> Iterator[Out]:
    """The same with threads: for work that is mostly reading, where sending arrays between processes costs more."""
    found = _over(ThreadPoolExecutor, function, items)
    return track(found, len(items), label) if label else found


def _processes(count: int) -> Executor:
    context = multiprocessing.get_context("forkserver" if sys.platform != "win32" else "spawn")
    return ProcessPoolExecutor(count, mp_context=context)


def _over(executor: Callable[[int], Executor], function: Callable[[Item], Out], items: Sequence[Item]) -> Iterator[Out]:
    count = min(workers(), len(items))
    if count <= 1:
        yield from map(function, items)
        return
    size = max(1, min(CHUNK, len(items) // (count * 4)))
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
