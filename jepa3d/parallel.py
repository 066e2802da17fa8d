"""Work over many items: in several processes or threads, or here, in the order of the items, with progress shown."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from typing import TypeVar

from jepa3d.progress import track

Item = TypeVar("Item")
Out = TypeVar("Out")
CHUNK = 16  # items that a worker takes at once; four such chunks a worker are in flight
AHEAD = 64  # files that the system is told of at once, while as many are read
BEGINNING = 1 << 20  # bytes of each that it is told of; the rest of a larger file it fetches by itself
SLOW = 5e-4  # seconds to open a file, from which on waiting costs more than threads do


def workers() -> int:
    """How many processes or threads to use: JEPA3D_THREADS (the command line's --threads), else the cores at hand."""
    return int(os.environ.get("JEPA3D_THREADS", 0)) or len(os.sched_getaffinity(0))


def imap(function: Callable[[Item], Out], items: Sequence[Item], label: str = "") -> Iterator[Out]:
    """`map(function, items)` over processes, in order, with a bounded number in flight and, under a label, a
    progress bar."""
    found = _over(_processes, function, items)
    return track(found, len(items), label) if label else found


def tmap(function: Callable[[Item], Out], items: Sequence[Item], label: str = "") -> Iterator[Out]:
    """The same with threads: for work that waits, or lets go of the interpreter's lock for long."""
    found = _over(ThreadPoolExecutor, function, items)
    return track(found, len(items), label) if label else found


def read_ahead(
    function: Callable[[Item], Out], items: Sequence[Item], paths: Sequence[str], label: str = ""
) -> Iterator[Out]:
    """The same for work that is mostly reading one small file an item, `paths[i]` for `items[i]`.

    It is done here, by one thread, and the system is told in time which files come next, so that none is waited for:
    threads would spend more on handing each other the interpreter's lock, and processes on sending arrays. Where files
    are slow to open, as over a network, threads it is.
    """
    found = _read_ahead(function, items, paths)
    return track(found, len(items), label) if label else found


def _read_ahead(function: Callable[[Item], Out], items: Sequence[Item], paths: Sequence[str]) -> Iterator[Out]:
    begin = time.perf_counter()
    told = _tell(paths[:AHEAD])
    if not told or time.perf_counter() - begin > SLOW * told:
        yield from _over(ThreadPoolExecutor, function, items)
        return
    with ThreadPoolExecutor(1) as teller:
        for start in range(0, len(items), AHEAD):
            telling = teller.submit(_tell, paths[start + AHEAD : start + 2 * AHEAD])
            yield from map(function, items[start : start + AHEAD])
            telling.result()


def _tell(paths: Sequence[str]) -> int:
    """Let the system begin to fetch these files, and return how many there were to tell of: none where it has no such
    call. What is wrong with a file, its reader will find."""
    told = 0
    for path in paths if hasattr(os, "posix_fadvise") else ():
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            try:
                os.posix_fadvise(handle, 0, BEGINNING, os.POSIX_FADV_WILLNEED)
                told += 1
            finally:
                os.close(handle)
    return told


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
