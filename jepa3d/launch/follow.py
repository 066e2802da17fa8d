"""Following a submitted job: what rank 0 says is printed as it comes, and how the job ended is explained.

Nothing here changes the job, except that one that can never start is cancelled, and that ranks which do not notice
the failure of another are ended.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from jepa3d.launch import queues
from jepa3d.launch.cluster import Cluster
from jepa3d.launch.job import Place
from jepa3d.problem import Problem

LOOK = 0.3  # seconds between two looks at the log
SURE = 3.0  # seconds: a job that has ended without a note must still have ended then; it may be between two lives
GRACE = 45.0  # seconds that the other ranks have to end after one has failed
TAIL = 15  # lines of a log that are shown of a failed rank, and on coming back to a running job
Out = TypeVar("Out")


def follow(place: Place, record: dict[str, Any], cluster: Cluster, result: Path) -> int:
    """Print what rank 0 says until the job has ended; its exit code. Explains an end that is no success."""
    queue, job = queues.QUEUES[record["where"]], record["id"]
    tail, failed, said = _Tail(place.log(job, 0)), 0.0, ""
    begin, asked, ended = time.monotonic(), -cluster.poll, 0.0
    while True:
        tail.forward()
        ends, now = place.ends(), time.monotonic()
        if now >= asked + (min(SURE, cluster.poll) if ends or ended else cluster.poll):
            look, asked = patiently(queue.look, job), now
            ended = (ended or now) if look.phase == "ended" else 0.0
            if ended and (ends or record["where"] == "local" or now >= ended + SURE):
                break
            if look.phase == "waiting":
                _give_up(queue, job, look, (now - begin) / 60, cluster)
            words = " ".join(filter(None, (look.state, f"({look.reason})" * bool(look.reason), look.where)))
            if words != said and record["where"] == "slurm":
                say(f"job {job}: {words}")
                said = words
        failed = failed or (now if any(end["code"] for end in ends) else 0.0)
        if failed and now > failed + GRACE:
            queue.cancel(job)  # the other ranks have not noticed
        time.sleep(LOOK)
    tail.forward()
    return _conclude(place, record, result)


def patiently(ask: Callable[..., Out], *given: Any) -> Out:
    """Ask until there is an answer: a scheduler that is silent for a while says nothing about the job."""
    wait = 1.0
    while True:
        try:
            return ask(*given)
        except queues.Unreachable as error:
            say(f"the scheduler does not answer ({error}); asked again in {wait:.0f} s")
            time.sleep(wait)
            wait = min(60.0, 2 * wait)


def say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def _conclude(place: Place, record: dict[str, Any], result: Path) -> int:
    """The exit code of a job that has ended; what went wrong is said on stderr."""
    job, ends = record["id"], place.ends()
    if not place.folder.exists() and result.exists():  # another launcher has seen the end and tidied up
        return 0
    if any(end["rank"] == 0 and end["code"] == 0 for end in ends):
        return 0
    silent = sorted({*range(record["ranks"])} - {end["rank"] for end in ends})
    first = min((end for end in ends if end["code"]), key=lambda end: (end["peer"], end["time"]), default=None)
    if first is None or (first["peer"] and silent):  # nobody says what it was: a rank is missed by the others, or all
        rank = silent[0] if silent else 0
        if first is not None:
            say(f"rank {', '.join(map(str, silent))} ended without a word, and the others missed it")
        if rank:
            _show(place.log(job, rank))
        end = queues.QUEUES[record["where"]].ended(job)
        say(str(queues.explain(job, end, place.log(job, rank))))
        return end.code or (128 + end.signal if end.signal else 1)
    if first["rank"]:  # rank 0 was followed, and has said it
        say(f"rank {first['rank']} failed first:")
        _show(place.log(job, first["rank"]))
        say("\n  ".join(first["words"]))
    say(f"job {job} ended with code {first['code']}; its log: {place.log(job, first['rank'])}")
    return int(first["code"])


def _give_up(queue: queues.Queue, job: str, look: queues.Look, minutes: float, cluster: Cluster) -> None:
    """End a job that will never start, with a Problem that says why."""
    mend = queues.HOPELESS.get(look.reason)
    if mend is None and (cluster.pending_minutes is None or minutes < cluster.pending_minutes):
        return
    queue.cancel(job)
    raise Problem(
        f"job {job} has not started and is cancelled",
        f"Slurm gives as its reason {look.reason or look.state}" + ("" if mend else f", after {minutes:.0f} minutes"),
        mend or "ask for less or shorter, choose another partition, or raise 'pending_minutes'",
    )


class _Tail:
    """The new lines of a growing log; of one that is already long, the last few first."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.at = 0
        if path.exists():
            text = path.read_bytes()
            self.at = len(text) - sum(len(line) for line in text.splitlines(keepends=True)[-TAIL:])

    def forward(self) -> None:
        try:
            with self.path.open("rb") as file:
                file.seek(self.at)
                whole, newline, _ = file.read().rpartition(b"\n")
        except FileNotFoundError:
            return
        self.at += len(whole) + len(newline)
        for line in whole.decode(errors="replace").splitlines():
            if line and not line.startswith("submitit "):
                say(line)


def _show(log: Path) -> None:
    """The end of a log that was not followed."""
    with contextlib.suppress(OSError):
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL:]:
            say(f"  | {line}")
