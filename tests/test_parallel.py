"""What `parallel` promises: the order of the items, few of them in flight, and files told of before they are read."""

from __future__ import annotations

import os
import threading
from itertools import islice
from pathlib import Path

import pytest

from jepa3d import parallel
from jepa3d.parallel import AHEAD, CHUNK, read_ahead, tmap


@pytest.mark.parametrize("threads", ["1", "2", "3"])
def test_the_order_is_that_of_the_items(threads: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JEPA3D_THREADS", threads)
    assert list(tmap(lambda item: item * item, range(500), "squares")) == [item * item for item in range(500)]


def test_a_slow_reader_keeps_few_items_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JEPA3D_THREADS", "2")
    begun: list[int] = []
    assert list(islice(tmap(begun.append, range(10_000), "items"), 3)) == [None] * 3
    assert len(begun) <= CHUNK * 4 * 2 + CHUNK


def length(path: str) -> int:
    return Path(path).stat().st_size if Path(path).is_file() else -1


@pytest.mark.parametrize("slow", [0.0, 1e9])
def test_files_are_read_in_order_by_one_thread_or_by_several(
    slow: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a file is slow to open, threads wait for several at once; else one reads, in the caller's thread."""
    monkeypatch.setattr(parallel, "SLOW", slow)
    monkeypatch.setenv("JEPA3D_THREADS", "3")
    paths = [str(tmp_path / f"{number}.bin") for number in range(300)]
    for number, path in enumerate(paths):
        if number != 7:  # one that is missing is for its reader to find
            Path(path).write_bytes(b"." * number)
    os.mkfifo(tmp_path / "pipe")
    paths.append(str(tmp_path / "pipe"))  # nobody writes to it: opening it would wait for ever
    seen: set[int] = set()

    def read(path: str) -> int:
        seen.add(threading.get_ident())
        return length(path)

    assert list(read_ahead(read, paths, paths, "files")) == [*range(7), -1, *range(8, 300), -1]
    assert (seen == {threading.get_ident()}) is (slow > 0)


def test_the_system_is_told_of_few_files_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "SLOW", 1e9)
    told: list[str] = []
    monkeypatch.setattr(parallel, "_tell", lambda paths: told.extend(paths) or len(paths))
    paths = [str(number) for number in range(10_000)]
    begun: list[str] = []
    assert list(islice(read_ahead(begun.append, paths, paths), AHEAD + 1)) == [None] * (AHEAD + 1)
    assert told == paths[: 3 * AHEAD]
    assert len(begun) == AHEAD + 1
