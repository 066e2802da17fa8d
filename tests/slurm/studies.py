"""A small study in a folder of its own, as a fresh clone would hold it, and the commands that a user gives there."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from private_slurm import HOSTILE, Slurm, wait_until

from jepa3d.layout import Layout
from jepa3d.results import store

REPOSITORY = Path(__file__).resolve().parents[2]
STEPS = 400  # long enough that a cancelled training does not end within the seconds that it has left
PARAMS: dict[str, Any] = {
    "study": "small",
    "studies": {"small": {"runs": ["jepa"], "evals": ["linear", "knn", "finetune"], "seeds": [0]}},
    "datasets": {"toys": {"kind": "procedural", "train": 60, "test": 40, "points": 128}},
    "patches": {"flat": {"points": 128, "levels": [{"num": 16, "size": 8}]}},
    "models": {"tiny": {"width": 24, "depth": 1, "heads": 2, "tokenizer": {"widths": [8, 16, 16]}}},
    "runs": {
        "jepa": {
            "data": "toys",
            "patches": "flat",
            "model": "tiny",
            "objective": {"kind": "jepa", "predictor": {"depth": 1}},
            "augment": {"rotate": "upright"},
            "fit": {"steps": STEPS, "batch": 8, "lr": 0.001},
            "monitor": {"shapes": 32},
        },
    },
    "execution": {"checkpoint_every": 10, "log_every": 1, "monitor_every": 1000},
    "evals": {
        "linear": {"dataset": "toys", "task": {"kind": "linear_probe", "grid": [1.0]}},
        "knn": {"dataset": "toys", "task": {"kind": "knn"}},
        "finetune": {"dataset": "toys", "task": {"kind": "finetune", "fit": {"steps": 12, "batch": 8}}},
    },
}
CLUSTER = {
    "partition": "main",
    "nodes": 2,
    "ranks_per_node": 2,
    "gpu": False,
    "cpus_per_rank": 1,
    "minutes": 20,
    "notice": 30,
    "poll": 0.5,
}
PATIENCE = 3600.0  # seconds that anything may take on a busy machine


@dataclass
class Study:
    """A clone with its own params.yaml and cluster.yaml, on a private Slurm."""

    folder: Path
    slurm: Slurm

    @classmethod
    def clone(
        cls, folder: Path, slurm: Slurm, params: dict[str, Any] | None = None, cluster: dict[str, Any] | None = None
    ) -> Study:
        """What git would give (without what is not committed it would miss the changes under test)."""
        folder.mkdir(parents=True)
        shutil.copy(REPOSITORY / "Snakefile", folder)
        shutil.copytree(REPOSITORY / "workflow", folder / "workflow")
        for link in ("slurm", "profiles"):
            shutil.copy(REPOSITORY / link, folder, follow_symlinks=False)
        (folder / "params.yaml").write_text(yaml.safe_dump(params or PARAMS), encoding="utf-8")
        (folder / "slurm" / "cluster.yaml").write_text(yaml.safe_dump(cluster or CLUSTER), encoding="utf-8")
        return cls(folder, slurm)

    @property
    def layout(self) -> Layout:
        return Layout(self.folder / "results")

    @property
    def environment(self) -> dict[str, str]:
        own = {"OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(self.folder / "cache")}
        path = f"{Path(sys.executable).parent}{os.pathsep}{self.slurm.environment['PATH']}"
        return self.slurm.environment | HOSTILE | own | {"PATH": path}

    # ---- commands

    def start(self, *command: str) -> Command:
        """A command in a session of its own, as in a terminal of its own."""
        log = self.folder / f"command{len(list(self.folder.glob('command*')))}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                command, cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True,
            )  # fmt: skip
        return Command(process, log)

    def snakemake(self, *targets: str) -> Command:
        return self.start("snakemake", "--profile", "slurm", *targets)

    def pretrain(self) -> Command:
        """The line that Snakemake prints, given by hand."""
        return self.start("jepa3d", "pretrain", "jepa", "--seed", "0", "--cluster", "slurm/cluster.yaml")

    # ---- the training

    @property
    def job(self) -> int:
        """The number of the job on record; 0 without one."""
        record = self.layout.launched("jepa", 0) / "job.json"
        try:
            return int(json.loads(record.read_text(encoding="utf-8"))["id"])
        except FileNotFoundError:
            return 0

    @property
    def step(self) -> int:
        """The last step on the curve of the training that is under way; more than any when it is complete."""
        if self.layout.encoder("jepa", 0).exists():
            return sys.maxsize
        curve = self.layout.state("jepa", 0) / "curve.jsonl"
        try:
            rows = [json.loads(line) for line in curve.read_text(encoding="utf-8").splitlines(keepends=True)[-2:]]
        except (FileNotFoundError, json.JSONDecodeError):
            return 0
        return int(rows[-1]["step"]) if rows else 0

    @property
    def lives(self) -> list[int]:
        """The step at which each life of the training under way began."""
        path = self.layout.launched("jepa", 0) / "lives.jsonl"
        try:
            return [json.loads(line)["step"] for line in path.read_text(encoding="utf-8").splitlines()]
        except FileNotFoundError:
            return []

    def wait_for_step(self, step: int, command: Command) -> None:
        """Until a life has got so far, or the command has ended (which is for the caller to judge)."""
        state = self.layout.state("jepa", 0)

        def reached() -> bool:
            try:  # the curve is from this life
                own = (state / "curve.jsonl").stat().st_mtime_ns > (state / "launch/lives.jsonl").stat().st_mtime_ns
            except FileNotFoundError:
                own = False
            return (own and self.step >= step) or command.ended

        wait_until(reached, f"step {step} is reached\n{command.said}", PATIENCE)

    def weights(self) -> str:
        """A hash of the trained weights: equal means equal bit for bit."""
        tensors, _ = store.read_tensors(self.layout.encoder("jepa", 0))  # the rest says which code it was
        bits = b"".join(name.encode() + tensors[name].numpy().tobytes() for name in sorted(tensors))
        return hashlib.sha256(bits).hexdigest()

    def submitted(self) -> list[str]:
        """The names of all jobs that were ever submitted, in their order."""
        rows = self.slurm.run("squeue", "-h", "--states=all", "--sort=i", "--format=%A %j").splitlines()
        return [row.split()[1] for row in rows]

    def forget_training(self) -> None:
        """As if nothing had ever been trained here."""
        for path in (
            self.layout.pretrain("jepa", 0),
            self.layout.state("jepa", 0),
            self.layout.results / "tensorboard" / "jepa",
        ):
            shutil.rmtree(path, ignore_errors=True)

    # ---- its processes

    def processes(self) -> dict[int, dict[str, str]]:
        """The environment of every process that was started in this folder, or for a job from there; by number."""
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "environ").read_bytes().decode(errors="replace").split("\0")
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            values = dict(word.partition("=")[::2] for word in words)
            if values.get("XDG_CACHE_HOME") == self.environment["XDG_CACHE_HOME"] and state != "Z" and command:
                found[int(entry.name)] = values | {"command": command}
        return found

    def ranks(self) -> dict[int, int]:
        """The process of each rank of the training that runs, by rank."""
        return {
            int(values["SLURM_PROCID"]): pid
            for pid, values in self.processes().items()
            if "submitit" in values["command"] and "SLURM_PROCID" in values and values["command"].split()[0] != "srun"
            and "srun" not in values["command"].split()[0]
        }  # fmt: skip

    def launchers(self) -> list[int]:
        """The processes that follow the training."""
        return [
            pid
            for pid, values in self.processes().items()
            if "pretrain jepa" in values["command"] and "SLURM_JOB_ID" not in values and "/sh" not in values["command"]
            and "python" in values["command"].split()[0] and "snakemake" not in values["command"]
        ]  # fmt: skip

    def end(self) -> None:
        """End whatever a test that failed has left."""
        self.slurm.cancel_all()
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def kill(self, pid: int, number: signal.Signals = signal.SIGKILL) -> None:
        """A signal for one process of this study."""
        assert pid in self.processes(), pid
        os.kill(pid, number)


@dataclass
class Command:
    """A command that a user gave."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    @property
    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def wait(self, seconds: float = PATIENCE) -> int:
        """Its exit code."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {seconds:.0f} s:\n{self.said[-3000:]}") from None

    def succeed(self, seconds: float = PATIENCE) -> None:
        code = self.wait(seconds)
        assert code == 0, f"exit code {code}:\n{self.said[-4000:]}"

    def interrupt(self) -> None:
        """Ctrl-C: the terminal tells all processes of the command."""
        os.killpg(self.process.pid, signal.SIGINT)

    def hang_up(self) -> None:
        """The connection is lost."""
        os.killpg(self.process.pid, signal.SIGHUP)

    def kill(self) -> None:
        """Only the command's own process; what it started goes on."""
        self.process.kill()
        self.process.wait()


def changed(params: dict[str, Any], **fit: Any) -> dict[str, Any]:
    """The small study with another `fit`."""
    other = copy.deepcopy(params)
    other["runs"]["jepa"]["fit"] |= fit
    return other


def settle(true: Callable[[], bool], seconds: float = 20.0) -> bool:
    """Whether something becomes so within some seconds."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True
