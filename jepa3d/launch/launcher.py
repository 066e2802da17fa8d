"""The launcher: a training is submitted, followed to its end, found again after an accident, and never submitted twice.

What keeps a training from being submitted twice: the submission is the work of a helper in a session of its own, which
holds a file lock until the job's number is on record, so nothing that happens to the launcher comes between the two;
a job that is in the queue without being on record (the whole machine went down in that moment) is found by its name;
and a job that is not the one on record does nothing (on file systems without locks).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from jepa3d.launch import queues
from jepa3d.launch.cluster import Cluster
from jepa3d.launch.follow import LOOK, SURE, follow, patiently, say
from jepa3d.launch.job import Place, Where, Work
from jepa3d.launch.submit import RECORDED, submit
from jepa3d.problem import Problem
from jepa3d.results import resume, store
from jepa3d.results.claim import identity


def attend(work: Work, where: Where, cluster: Cluster) -> int:
    """Find the job or submit it, follow it to its end, and tidy up after a good one. Returns its exit code."""
    place = work.place
    with _onlooker(work) as onlooker:
        with _lock(place.folder) as lock:
            record = running(place)
            if record is not None and record["settings"] != work.settings:
                raise Problem(
                    f"{work.label}: job {record['id']} trains it with other settings",
                    "params.yaml was changed while it ran",
                    f"wait for it, or end it: {work.cancel}",
                )
            if record is None and _completed(work):
                say(f"{work.label}: job {store.read_json(place.record)['id']} has trained it to the end meanwhile")
                return _clear(place)
            words = "is under way"
            if record is None:
                record = submit(work, where, cluster, lock)
                words = f"({where}), {cluster.ranks} rank{'s'[: cluster.ranks > 1]}"
                words += f" on {cluster.nodes} nodes" if cluster.nodes > 1 else ""
            say(f"{work.label}: job {record['id']} {words}; its log: {place.log(record['id'], 0)}")
        onlooker.job, onlooker.where = record["id"], record["where"]
        code = follow(place, record, cluster, work.result)
    return _clear(place) if code == 0 and not _deserted() else code


def cancel(place: Place) -> str | None:
    """End a job, and wait until it is gone. Returns its number; None where none waits or runs."""
    if not place.folder.exists():
        return None
    with _lock(place.folder):
        record = running(place)
        if record is None:
            return None
        queue = queues.QUEUES[record["where"]]
        queue.cancel(record["id"])
        while patiently(queue.look, record["id"]).phase != "ended":
            time.sleep(LOOK)
        place.record.unlink(missing_ok=True)
        place.wanted.unlink(missing_ok=True)
    return str(record["id"])


def running(place: Place) -> dict[str, Any] | None:
    """The job on record, or one that the queue knows by name, while it waits or runs; with the lock held."""
    record: dict[str, Any] | None = store.read_json(place.record) if place.record.exists() else None
    if record is not None:
        if record["where"] == "local" and record["host"] != os.uname().nodename:
            raise Problem(
                f"{place.record}: job {record['id']} was started on {record['host']}",
                f"this is {os.uname().nodename}, which cannot see whether it still runs",
                "give the command there, or remove the file when that machine is gone",
            )
        return record if patiently(queues.QUEUES[record["where"]].look, record["id"]).phase != "ended" else None
    wanted = store.read_json(place.wanted) if place.wanted.exists() else None
    if wanted is None:  # nothing was ever submitted from here
        return None
    job = patiently(queues.QUEUES[wanted["where"]].find, place.name, place.jobs)
    if job is None:
        return None
    if not (place.jobs / f"{job.split(':')[0]}_submitted.pkl").exists():  # it waits for what was never written
        say(f"job {job} was submitted, but its submission was cut off: it is cancelled and submitted anew")
        queues.QUEUES[wanted["where"]].cancel(job)
        return None
    record = {"id": job, **{key: wanted[key] for key in RECORDED}}
    store.write_json(place.record, record)
    return record


def _completed(work: Work) -> bool:
    """Whether the job on record did this very work to the end while nobody looked, and its result is still there."""
    place = work.place
    if not (place.record.exists() and place.end(0).exists() and work.result.exists()):
        return False
    ended = place.end(0).stat().st_mtime
    return bool(
        store.read_json(place.record)["settings"] == work.settings
        and store.read_json(place.end(0))["code"] == 0
        and all(path.exists() and path.stat().st_mtime < ended for path in work.inputs)
    )


def _deserted() -> bool:
    """Whether the command that this process is a part of was killed, as a Snakemake whose launcher lives on.

    Then nobody has seen the good end, and the next Snakemake takes the results away as those of a job that was cut
    off. The state stays: from it they are published again in seconds.
    """
    leader = os.getpgrp()
    return leader != 0 and identity(leader) is None  # 0: outside of this container


def _clear(place: Place) -> int:
    """The training is complete: its state and the job's logs have done their work."""
    end = time.monotonic() + SURE
    while resume.files(place.folder.parent) and time.monotonic() < end:  # its processes may still be ending, and write
        resume.drop(place.folder.parent)
        time.sleep(LOOK)
    return 0


@dataclass
class _Onlooker:
    job: str = ""
    where: str = ""


class _Detached(BaseException):
    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextlib.contextmanager
def _onlooker(work: Work) -> Iterator[_Onlooker]:
    """A launcher that is told to end says what becomes of the job, and ends at once: the job goes on."""
    onlooker = _Onlooker()

    def detach(number: int, frame: FrameType | None) -> None:
        raise _Detached(number)

    before = {number: signal.signal(number, detach) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield onlooker
    except _Detached as detached:
        for number in before:
            signal.signal(number, signal.SIG_IGN)
        what = f"job {onlooker.job} goes on" if onlooker.job else "a job may have been submitted, and goes on"
        scancel = f" (or: scancel {onlooker.job})" if onlooker.where == "slurm" else ""
        with contextlib.suppress(OSError):  # the terminal may be gone
            say(f"\n{work.label}: {what}; the same command follows it again\n  to end it: {work.cancel}{scancel}")
        raise SystemExit(128 + detached.number) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[int]:
    """Only one launcher at a time looks for a job and submits one. Gives the lock, or -1 where there are none."""
    path = folder / "lock"
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        locked = _flock(handle, path)
        if not locked or (path.exists() and path.stat().st_ino == os.fstat(handle).st_ino):
            break
        os.close(handle)  # whoever held it has tidied up the folder
    try:
        yield handle if locked else -1
    finally:
        os.close(handle)


def _flock(handle: int, path: Path) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:
        say(f"{path}: no locks here ({error.strerror}); a job that is not the one on record will do nothing")
        return False
    return True
