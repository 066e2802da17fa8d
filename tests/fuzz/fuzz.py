"""Mutated files for every reader: python tests/fuzz/fuzz.py [--count 10000] [--seconds S] [--seed N] [--reader NAME]

Each mutant is read in a process of its own kind, with a limit on time and on memory. It must be refused with a Problem,
or give values that are finite. Whatever else happens (another exception, NaN in what comes out, a hang, more memory
than the file's size allows, a process that dies) is a failure: the mutant is kept, and printed with the command that
makes it again. Every mutant is a pure function of the seed and its number. Exit code 1 where there is a failure.

A reader is one entry of READERS, in `readers.py` beside this file: files to begin with, and how one is read.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

# Before torch is there: its threads are not in the forked workers, which would wait for them.
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
from numpy.typing import NDArray

from jepa3d.problem import Problem

TIME = 10.0  # seconds of one file
MEMORY = 500 << 20  # bytes beside TIMES the file's size
TIMES = 16
NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")
NUMBERS = (b"0", b"-1", b"1", b"2", b"3", b"255", b"65536", b"2147483647", b"4294967295", b"99999999999999", b"1e400",
           b"nan", b"-inf", b"-1.#IND", b"0.5", b"1,5", b"1,234.50", b"", b"0x1F", b"1_0")  # fmt: skip
INTEGERS = (0, 1, 2, 127, 128, 255, 256, 65535, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)


class Reader(NamedTuple):
    """Files by name, made when they are wanted, and what is done with one: it yields arrays that must be finite.

    `second`: points of a file as we read them and as an independent reader does; None where that reads nothing.
    """

    files: Callable[[], Mapping[str, bytes]]
    read: Callable[[Path], Iterable[NDArray[Any]]]
    second: Callable[[Path], tuple[NDArray[Any], NDArray[Any]] | None] | None = None


class Outcome(NamedTuple):
    """What became of one mutant: `refused`, `read`, `agreed` where a second reader was asked, or a failure."""

    number: int
    reader: str
    file: str
    found: str
    detail: str = ""

    @property
    def good(self) -> bool:
        return self.found in ("refused", "read", "agreed")


# ----------------------------------------------------------------------------------------------------- mutations


def mutated(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """One to four changes; `other` is a file of the same reader, pieces of which may come in."""
    for _ in range(int(rng.choice([1, 1, 1, 2, 3, 4]))):
        change = MUTATIONS[int(rng.integers(len(MUTATIONS)))]
        data = change(data, other, rng) if data else other[: int(rng.integers(len(other) + 1))]
    return data


def _at(data: bytes, rng: np.random.Generator) -> int:
    """Anywhere, the first 300 bytes as often as all others: formats say there what follows."""
    return int(rng.integers(min(len(data), 300) if rng.integers(2) else len(data)))


def _flipped(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    made = bytearray(data)
    for _ in range(int(rng.integers(1, 9))):
        made[_at(data, rng)] ^= 1 << int(rng.integers(8))
    return bytes(made)


def _replaced(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    at, size = _at(data, rng), int(rng.integers(1, 9))
    return data[:at] + rng.bytes(size) + data[at + size :]


def _cut(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    return data[: _at(data, rng)]


def _without(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    at = _at(data, rng)
    return data[:at] + data[at + int(rng.integers(1, 65)) :]


def _twice(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    at, size = _at(data, rng), int(rng.integers(1, 257))
    return data[: at + size] + data[at:]


def _joined(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    return data[: _at(data, rng)] + other[_at(other, rng) if other else 0 :]


def _longer(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    return data + (rng.bytes(int(rng.integers(1, 200))) if rng.integers(2) else other)


def _integer(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """A binary number becomes another one of the same width."""
    at, width = _at(data, rng), int(rng.choice([1, 2, 4, 8]))
    value = INTEGERS[int(rng.integers(len(INTEGERS)))] % (1 << 8 * width)
    return data[:at] + value.to_bytes(width, "little" if rng.integers(4) else "big") + data[at + width :]


def _digit(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """A digit becomes another one: no length changes, so that containers stay whole."""
    places = [found.start() + int(rng.integers(len(found[0]))) for found in NUMBER.finditer(data[: 1 << 16])]
    if not places:
        return _flipped(data, other, rng)
    at = places[int(rng.integers(len(places)))]
    return data[:at] + b"0123456789-"[int(rng.integers(11)) :][:1] + data[at + 1 :]


def _number(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """A number in text becomes one of those that are trouble."""
    found = list(NUMBER.finditer(data[: 1 << 16]))
    if not found:
        return _integer(data, other, rng)
    one = found[int(rng.integers(min(len(found), 30) if rng.integers(2) else len(found)))]
    return data[: one.start()] + NUMBERS[int(rng.integers(len(NUMBERS)))] + data[one.end() :]


def _line(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """A line goes, comes twice, or changes its place."""
    lines = data.split(b"\n")
    at, to = (int(rng.integers(len(lines))) for _ in range(2))
    way = int(rng.integers(3))
    line = lines[at] if way == 1 else lines.pop(at)
    if way:
        lines.insert(to, line)
    return b"\n".join(lines)


MUTATIONS = (_flipped, _replaced, _cut, _without, _twice, _joined, _longer, _integer, _digit, _number, _line)


def mutant(number: int, seed: int, readers: Mapping[str, Reader]) -> tuple[str, str, bytes]:
    """The reader, the name of the file and its bytes: the readers come in turn."""
    rng = np.random.default_rng([seed, number])
    name = list(readers)[number % len(readers)]
    files = _files(readers[name])
    file, other = (list(files)[int(rng.integers(len(files)))] for _ in range(2))
    return name, file, mutated(files[file], files[other], rng)


@cache
def _files(reader: Reader) -> Mapping[str, bytes]:
    return reader.files()


# ----------------------------------------------------------------------------------------------- one mutant, judged


def judged(number: int, seed: int, readers: Mapping[str, Reader], folder: Path) -> Outcome:
    name, file, data = mutant(number, seed, readers)
    path = folder / Path(file).name
    path.write_bytes(data)
    _forget()
    before, begin = _held("VmRSS"), time.monotonic()
    try:
        found, detail = _taken(readers[name], path)
    finally:
        path.unlink(missing_ok=True)
    grown, took = _held("VmHWM") - before, time.monotonic() - begin
    if grown > MEMORY + TIMES * len(data):
        found, detail = "memory", f"{grown >> 20} MiB for a file of {len(data):,} bytes; {found}"
    if took > TIME:
        found, detail = "slow", f"{took:.1f} s; {found}"
    return Outcome(number, name, file, found, detail)


def _taken(reader: Reader, path: Path) -> tuple[str, str]:
    try:
        for array in reader.read(path):
            if not np.isfinite(array).all():
                return "not finite", f"in {array.shape}"
    except Problem as problem:
        if problem.what and problem.why:
            return "refused", ""
        return "no reason", str(problem)
    except Exception as error:  # whatever it is, it is what we look for
        return "raised", f"{type(error).__name__}: {error}"[:300]
    pair = reader.second(path) if reader.second else None
    if pair is None:
        return "read", ""
    ours, theirs = pair
    if ours.shape != theirs.shape or not np.allclose(ours, theirs, rtol=1e-6, atol=0, equal_nan=True):
        return "differs", f"{ours.shape} from {theirs.shape} of the second reader"
    return "agreed", ""


def _held(which: str) -> int:
    """Bytes of memory that this process holds (VmRSS), or held at most since `_forget` (VmHWM)."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return int(status.partition(which)[2].split()[1]) << 10


def _forget() -> None:
    """Linux sets the most that was held to what is held now."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _work(pipe: Connection, seed: int, readers: Mapping[str, Reader]) -> None:
    """Mutants by their numbers, as the other end asks for them."""
    limit = _held("VmRSS") + 4 * MEMORY + (2 << 30)  # a guard for the machine; MEMORY is what is judged
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    with tempfile.TemporaryDirectory(prefix="jepa3d-fuzz-") as folder, open(os.devnull, "w") as nowhere:  # noqa: PTH123
        os.dup2(nowhere.fileno(), 2)  # libraries in C print what they find
        while True:
            pipe.send(judged(pipe.recv(), seed, readers, Path(folder)))


# ----------------------------------------------------------------------------------------------------- the campaign


class Worker:
    """A process that reads mutants one after the other."""

    def __init__(self, seed: int, readers: Mapping[str, Reader]) -> None:
        context = multiprocessing.get_context("fork")  # what is imported and made need not be so again
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, seed, readers), daemon=True)
        self.process.start()
        theirs.close()
        self.number, self.begin = -1, 0.0

    def ask(self, number: int) -> None:
        self.number, self.begin = number, time.monotonic()
        self.pipe.send(number)

    def close(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def campaign(numbers: Iterable[int], seed: int, readers: Mapping[str, Reader], workers: int = 1) -> Iterator[Outcome]:
    """The outcome of every mutant, in the order in which they end. A worker that hangs or dies is replaced."""
    for reader in readers.values():
        _files(reader)
    left = iter(numbers)
    busy: dict[Connection, Worker] = {}

    def go_on(one: Worker) -> None:
        number = next(left, None)
        if number is None:
            one.close()
        else:
            one.ask(number)
            busy[one.pipe] = one

    def lost(one: Worker, found: str, detail: str) -> Outcome:
        one.close()
        go_on(Worker(seed, readers))
        return Outcome(one.number, *mutant(one.number, seed, readers)[:2], found, detail)

    try:
        for _ in range(workers):
            go_on(Worker(seed, readers))
        while busy:
            for pipe in wait(list(busy), timeout=0.5):
                one = busy.pop(pipe)  # type: ignore[arg-type]
                try:
                    outcome = one.pipe.recv()
                except EOFError:
                    one.process.join()
                    yield lost(one, "died", f"exit code {one.process.exitcode}")
                else:
                    go_on(one)
                    yield outcome
            for pipe in [pipe for pipe, one in busy.items() if time.monotonic() - one.begin > 2 * TIME]:
                yield lost(busy.pop(pipe), "hang", f"over {2 * TIME:.0f} s")
    finally:
        for one in busy.values():
            one.close()


def until(count: int, seconds: float) -> Iterator[int]:
    end = time.monotonic() + seconds if seconds else float("inf")
    for number in range(count):
        if time.monotonic() > end:
            return
        yield number


def main(arguments: list[str] | None = None) -> int:
    from readers import READERS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="mutants")
    parser.add_argument("--seconds", type=float, default=0, help="stop after so many seconds (0: after the count)")
    parser.add_argument("--seed", type=int, help="default: the day, as 20260131")
    parser.add_argument("--reader", action="append", choices=READERS, help="only this one; may be repeated")
    parser.add_argument("--only", type=int, action="append", help="only the mutant of this number; may be repeated")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "jepa3d-fuzz-failures")
    given = parser.parse_args(arguments)
    readers = {name: READERS[name] for name in given.reader or READERS}
    seed = int(time.strftime("%Y%m%d", time.gmtime())) if given.seed is None else given.seed
    print(f"seed {seed}, readers: {', '.join(readers)}", flush=True)
    found: Counter[tuple[str, str]] = Counter()
    failures = []
    begin = time.monotonic()
    for outcome in campaign(given.only or until(given.count, given.seconds), seed, readers, given.workers):
        found[outcome.reader, outcome.found] += 1
        if not outcome.good:
            failures.append(outcome)
            given.keep.mkdir(parents=True, exist_ok=True)
            kept = given.keep / f"{seed}-{outcome.number}-{Path(outcome.file).name}"
            kept.write_bytes(mutant(outcome.number, seed, readers)[2])
            chosen = " ".join(f"--reader {name}" for name in given.reader or ())
            again = f"python tests/fuzz/fuzz.py --seed {seed} --only {outcome.number} {chosen}"
            print(f"{outcome.found}: {outcome.reader}, {kept}: {outcome.detail}\n  {again}", flush=True)
    for name in readers:
        print(f"{name:8}", ", ".join(f"{kind} {n:,}" for (reader, kind), n in sorted(found.items()) if reader == name))
    total = sum(found.values())
    print(f"{total:,} mutants in {time.monotonic() - begin:.0f} s, {len(failures)} failures, seed {seed}")
    return 1 if failures or not total else 0


if __name__ == "__main__":
    sys.exit(main())
