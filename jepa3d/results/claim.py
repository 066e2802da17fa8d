"""One command at a time makes an output: a lock with its owner's name, which goes with the owner.

Two terminals, two lines of `srun -n 2`, or a Snakemake and somebody beside it would otherwise train into one state,
and each would publish what the other left. The lock is the kernel's (`lockf`, which NFS knows as well), so a killed
owner leaves none. Where a file system has no locks, or has them for each node only, the owner's sign of life counts:
it touches its claim every 20 seconds, and is taken for dead after two minutes of silence.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jepa3d.problem import Problem

PULSE, SILENT = 20.0, 120.0  # seconds between two signs of life, and until an owner elsewhere counts as dead
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}


@contextlib.contextmanager
def claimed(path: Path, what: str, patience: float = 0.0) -> Iterator[None]:
    """Own the claim `path` on `what` (a command, for the words) until the end of the context.

    Raises a Problem that names the owner where another process has it for longer than `patience` seconds.
    """
    end = time.monotonic() + patience
    while True:
        handle, locked = _opened(path)
        owner = _read(handle)
        free = locked is not False and not (owner and _alive(owner, path, locked is None))
        if free or time.monotonic() > end:
            break
        os.close(handle)
        time.sleep(0.5)
    try:
        if not free:
            raise Problem(
                f"{what}: is being done already",
                f"by process {owner.get('pid', '?')} on {owner.get('host', '?')} since {owner.get('since', '?')}; "
                f"its claim is {path}",
                "wait for it, or end it; a process that was killed on another machine counts as gone after two minutes",
            )
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(_self()).encode(), 0)
        ended = threading.Event()
        threading.Thread(target=_beat, args=(path, ended), daemon=True).start()
        try:
            yield
        finally:
            ended.set()
            path.unlink(missing_ok=True)
    finally:
        os.close(handle)


def identity(pid: int) -> str | None:
    """'PID:START' of a process that lives; None for one that is gone or only waits to be reaped."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if words[0] in "ZX" else f"{pid}:{words[19]}"


def _opened(path: Path) -> tuple[int, bool | None]:
    """The open claim, and whether its lock is ours now; None on a file system without locks."""
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            mend = "make the folder writable, or choose another --results"
            raise Problem(f"{path}: cannot be written", str(error.strerror), mend) from None
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            locked: bool | None = True
        except OSError as error:
            locked = None if error.errno in NO_LOCKS else False
        if path.exists() and path.stat().st_ino == os.fstat(handle).st_ino:
            return handle, locked
        os.close(handle)  # its owner has ended meanwhile, and taken it away


def _read(handle: int) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        found = json.loads(os.pread(handle, 4096, 0))
        return found if isinstance(found, dict) else {}
    return {}


def _self() -> dict[str, Any]:
    job = (os.environ.get("SLURM_JOB_ID"), int(os.environ.get("SLURM_RESTART_COUNT", 0)))
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    return {
        "pid": os.getpid(),
        "start": identity(os.getpid()),
        "host": socket.gethostname(),
        "job": job,
        "since": since,
    }


def _alive(owner: dict[str, Any], path: Path, unlocked: bool) -> bool:
    """Whether the owner that a claim names still works, where the kernel's lock does not say it."""
    if owner.get("host") == socket.gethostname():
        pid = owner.get("pid")
        return unlocked and pid != os.getpid() and isinstance(pid, int) and identity(pid) == owner.get("start")
    job, life = _self()["job"]
    if job is not None and isinstance(owner.get("job"), list) and owner["job"][0] == job and owner["job"][1] < life:
        return False  # an earlier life of this very job, which Slurm has queued again
    return time.time() - path.stat().st_mtime < SILENT


def _beat(path: Path, ended: threading.Event) -> None:
    while not ended.wait(PULSE):
        with contextlib.suppress(OSError):
            os.utime(path)
