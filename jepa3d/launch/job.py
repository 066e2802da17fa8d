"""What one rank of a submitted job does: it joins the others and works off a command line of `jepa3d`.

The job is the same for every life: a requeued one loads it again and the training goes on from its last checkpoint.
A stop signal first ends the training between two steps with its state saved (`fit`); only then it is handed to
submitit, which queues the job again. A rank that fails leaves a note of what it was, for the launcher.
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from jepa3d.layout import Layout
from jepa3d.problem import Problem
from jepa3d.results import store

Where = Literal["local", "slurm"]
RECORDED = 90.0  # seconds until a job's number is on record and every node sees it
LIVES = 10  # a job that began so often in a row at the same step gets no further
# what a rank says that only misses another one
PEER = re.compile(r"(?i)connection (was )?(closed|reset)|gloo|nccl|tcpstore|timed out|broken pipe")


@dataclass(frozen=True)
class Place:
    """The job of a run and seed, or of an evaluation of it: its folder, and the name under which the queue knows it."""

    folder: Path
    name: str = ""

    @classmethod
    def of(cls, layout: Layout, run: str, seed: int, evaluation: str | None = None) -> Place:
        folder = layout.launched(run, seed, evaluation).resolve()
        words = ["jepa3d", run, *([evaluation] if evaluation else []), f"seed{seed}"]
        return cls(folder, "-".join([*words, hashlib.sha256(str(folder).encode()).hexdigest()[:8]]))

    @classmethod
    def at(cls, folder: Path) -> Place:
        return cls(folder, store.read_json(folder / "wanted.json")["name"])

    @property
    def record(self) -> Path:
        """The job on record: {id, where, settings, ranks, host}."""
        return self.folder / "job.json"

    @property
    def wanted(self) -> Path:
        """What is to be submitted."""
        return self.folder / "wanted.json"

    @property
    def params(self) -> Path:
        """params.yaml as it was at the submission."""
        return self.folder / "params.yaml"

    @property
    def jobs(self) -> Path:
        """submitit's folder: pickles and logs."""
        return self.folder / "jobs"

    @property
    def lives(self) -> Path:
        """The step at which each life of the job began."""
        return self.folder / "lives.jsonl"

    @property
    def refused(self) -> Path:
        """What was said about a submission that failed."""
        return self.folder / "submission.log"

    def log(self, job: str, rank: int) -> Path:
        return self.jobs / f"{job.split(':')[0]}_{rank}_log.err"

    def end(self, rank: int) -> Path:
        """How a rank ended, by itself."""
        return self.folder / f"end{rank}.json"

    def ends(self) -> list[dict[str, Any]]:
        """The notes that ranks of the newest life have left."""
        try:
            notes = [store.read_json(path) for path in sorted(self.folder.glob("end*.json"))]
        except Problem:  # just being tidied up
            return []
        newest = max((note["life"] for note in notes), default=0)
        return [note for note in notes if note["life"] == newest]


@dataclass(frozen=True)
class Work:
    """What a job is to do: a verb of `jepa3d`, the file that it makes last, and what the words about it need."""

    place: Place
    label: str
    source: Path  # params.yaml, of which the job keeps a copy for all its lives
    arguments: tuple[str, ...]  # of `jepa3d`, besides --params and --threads
    settings: str  # a digest of what of params.yaml it depends on
    inputs: tuple[Path, ...]
    result: Path
    cancel: str  # the command that ends it
    helper: tuple[str, ...]  # the command that submits what a folder describes; it calls `submit_wanted`


class Rank(NamedTuple):
    """One process of a job."""

    job: str
    number: int
    size: int
    local: int  # its number on its node


@dataclass
class Job:
    """What every rank of a job does; it is pickled, `run` as a reference."""

    place: Place
    run: Callable[[list[str]], int]  # works off a command line; its exit code
    command: list[str]
    cwd: str
    gpu: bool
    requeue: bool
    where: str

    def work(self, rank: Rank) -> None:
        """Join the other ranks and work off the command. A failure ends the process, with a note for the launcher."""
        life = int(os.environ.get("SLURM_RESTART_COUNT", 0))
        os.chdir(self.cwd)
        self._await_record(rank.job)
        os.environ |= {
            "RANK": str(rank.number),
            "WORLD_SIZE": str(rank.size),
            "LOCAL_RANK": str(rank.local),
            "JEPA3D_RENDEZVOUS": str(self.place.folder / f"rendezvous-{rank.job}-{life}"),
            "JEPA3D_JOB": self.where,
        }
        if self.gpu:
            os.environ["JEPA3D_GPU"] = "1"
            if len(visible := os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")) > 1:
                os.environ["CUDA_VISIBLE_DEVICES"] = visible[rank.local]
        code = 0
        try:
            if rank.number == 0:
                self._note_life()
            code = self.run(self.command)
        except Problem as problem:
            self._leave(rank.number, life, 2, problem.args)
        except Exception as error:
            words = f"{type(error).__name__}: {' '.join(str(error).split())}"[:500], f"on rank {rank.number}"
            peer = bool(PEER.search(words[0]))
            if not peer:  # where another rank is missed, the place in the code says nothing
                traceback.print_exc()
            self._leave(rank.number, life, 1, words, peer)
        if code > 128:
            self._stopped(rank.number, life, code)
        elif rank.number == 0:
            self._write(0, life, 0, ())

    def _stopped(self, rank: int, life: int, code: int) -> None:
        """A signal ended the training with its state saved. Hand it to submitit, which queues the job again."""
        why = "the job is not requeued: the cluster file says 'requeue: false'"
        if code - 128 == signal.SIGUSR2 and self.requeue:
            if rank:
                return  # rank 0 does it
            try:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR2])
                os.kill(os.getpid(), signal.SIGUSR2)
                time.sleep(60)  # the handler comes first
            except Exception as error:
                if isinstance(error, subprocess.CalledProcessError) and error.returncode < 0:
                    time.sleep(60)  # Slurm has begun to requeue: it ends this step, and scontrol within it first
                why = f"Slurm did not requeue it: {error}"
        words = (f"stopped by {signal.Signals(code - 128).name}, its state is saved", why, "the same command goes on")
        self._leave(rank, life, code, words)

    def _await_record(self, job: str) -> None:
        """Go on only as the job on record, so that no training ever runs twice at once."""
        end = time.monotonic() + RECORDED
        while True:
            record = store.read_json(self.place.record) if self.place.record.exists() else {"id": ""}
            if record["id"].split(":")[0] == job:
                return
            if time.monotonic() > end:
                sys.exit(f"job {job} is not the one on record ('{record['id']}'): it does nothing")
            time.sleep(0.5)

    def _note_life(self) -> None:
        """Refuse a life that would be one of many without progress."""
        found = sorted(self.place.folder.parent.glob("step*.pt"))
        step = int(found[-1].stem[4:]) if found else 0
        before = [row["step"] for row in store.read_jsonl(self.place.lives)] if self.place.lives.exists() else []
        if before[-LIVES:] == [step] * LIVES:
            raise Problem(
                f"the job has begun {LIVES} times at step {step} and got no further",
                "each life ended before it could save its state",
                "raise 'minutes' in the cluster file, or lower execution.checkpoint_every",
            )
        store.append_jsonl(self.place.lives, {"step": step})

    def _write(self, rank: int, life: int, code: int, words: tuple[Any, ...], peer: bool = False) -> None:
        note = {"rank": rank, "life": life, "code": code, "words": [w for w in words if w], "peer": peer}
        store.write_json(self.place.end(rank), note | {"time": time.time()})

    def _leave(self, rank: int, life: int, code: int, words: tuple[Any, ...], peer: bool = False) -> None:
        """Leave a note and end at once: the communication with the other ranks is not to be waited for."""
        self._write(rank, life, code, words, peer)
        print("\n  ".join(str(word) for word in words if word), file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
