"""A repository with the tiny study, in which both engines run for real and only `jepa3d` computes nothing."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).parent.parent.parent
FILES = ["Snakefile", "workflow", "profiles", "dvc.yaml", ".dvc/config", ".dvc/plots", ".dvc/.gitignore", ".dvcignore",
         ".gitignore", "results/.gitignore"]  # fmt: skip
STUDY: dict[str, Any] = {
    "study": "tiny",
    "studies": {
        "tiny": {"about": "two runs", "runs": ["jepa", "other"], "evals": ["knn"], "seeds": [0]},
        "small": {"runs": ["jepa"], "evals": ["knn"], "seeds": [0]},
    },
    "datasets": {
        "toys": {"kind": "procedural", "train": 60, "test": 20, "points": 128},
        "watched": {"kind": "procedural", "train": 20, "test": 20, "points": 128},
    },
    "patches": {"flat": {"points": 128, "levels": [{"num": 16, "size": 8}]}},
    "models": {
        "tiny": {"width": 24, "depth": 1, "heads": 2, "tokenizer": {"widths": [8, 16, 16]}},
        "wide": {"width": 48, "depth": 1, "heads": 2, "tokenizer": {"widths": [8, 16, 16]}},
    },
    "runs": {
        "jepa": {
            "about": "3D-JEPA",
            "data": "toys",
            "patches": "flat",
            "model": "tiny",
            "objective": {"kind": "jepa", "mask": {"blocks": 4}, "predictor": {"depth": 1}},
            "fit": {"steps": 20, "batch": 8, "lr": 0.001},
            "monitor": {"shapes": 32},
        },
        "other": {"base": "jepa", "model": "wide"},
    },
    "tasks": {},
    "execution": {"checkpoint_every": 7, "log_every": 5, "monitor_every": 10},
    "evals": {"knn": {"dataset": "toys", "task": {"kind": "knn"}}},
}


@dataclass
class Repository:
    """A folder with the workflow, and the commands a user gives in it."""

    folder: Path
    environment: dict[str, str]
    log: Path = field(init=False)  # every command of jepa3d that was given
    said: Path = field(init=False)  # what the last command said

    def __post_init__(self) -> None:
        self.log = self.folder.parent / f"{self.folder.name}.commands"
        self.said = self.folder.parent / f"{self.folder.name}.said"
        self.environment = {**self.environment, "HOLLOW_LOG": str(self.log)}

    def start(self, *command: str, **environment: str) -> subprocess.Popen[bytes]:
        """A command in a session of its own, so that it can be killed with all that it started; it speaks to a file."""
        with self.said.open("wb") as said:
            environment = self.environment | environment
            return subprocess.Popen(
                command, cwd=self.folder, env=environment, start_new_session=True, stdout=said, stderr=said
            )

    def run(self, *command: str, check: bool = True, **environment: str) -> str:
        """What a command says, on both channels."""
        process = self.start(*command, **environment)
        process.wait(timeout=900)
        said = self.said.read_text(errors="replace")
        assert not check or process.returncode == 0, f"{' '.join(command)}\n{said[-6000:]}"
        return said

    def dvc(self, *arguments: str, **environment: str) -> str:
        return self.run("dvc", *arguments, **environment)

    def versions(self, verb: str) -> str:
        return self.run("python", "workflow/versions.py", verb)

    def snakemake(self, *arguments: str) -> str:
        return self.run("snakemake", "--cores", "2", *arguments)

    def commit(self, words: str) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", words)

    @property
    def params(self) -> dict[str, Any]:
        found: dict[str, Any] = yaml.safe_load((self.folder / "params.yaml").read_text())
        return found

    def change(self, change: Callable[[dict[str, Any]], None]) -> None:
        params = self.params
        change(params)
        (self.folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))

    def would_run(self) -> list[str]:
        """The commands that `snakemake all` would give now."""
        return jobs(self.run("snakemake", "-n", "--printshellcmds", "all"))

    def has_run(self) -> list[str]:
        """The commands that were given since the last time this was asked."""
        done = self.log.read_text() if self.log.exists() else ""
        self.log.unlink(missing_ok=True)
        return jobs(done)

    def assert_nothing_to_do(self) -> None:
        """In either engine."""
        assert "Nothing to be done" in self.run("snakemake", "-n", "all")
        assert "up to date" in self.dvc("status")

    def kill(self, process: subprocess.Popen[bytes], everything: bool) -> None:
        """SIGKILL: of the command alone, as the system would when memory is short, or of all that it started."""
        os.killpg(process.pid, signal.SIGKILL) if everything else process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def wait_for_a_job(self, verb: str, seconds: float = 120) -> None:
        """Until a job of this verb has begun."""
        end = time.monotonic() + seconds
        while not (self.log.exists() and f" {verb} " in self.log.read_text()):
            assert time.monotonic() < end, f"no {verb} began"
            time.sleep(0.05)

    def corrupt(self) -> list[str]:
        """Objects of DVC's cache whose content is not what their name says."""
        objects = (self.folder / ".dvc" / "cache" / "files" / "md5").glob("??/*")
        named = {path: path.parent.name + path.name.removesuffix(".dir") for path in objects if path.is_file()}
        return [str(path) for path, name in named.items() if hashlib.md5(path.read_bytes()).hexdigest() != name]


def jobs(text: str) -> list[str]:
    """Every 'jepa3d VERB ...' of a log, without where it runs and on how many threads."""
    where = r"(?:--log \S+ )?(?:--study \S+ )?(?:--threads \d+ )?"
    command = rf"^(?:Shell command:)? *(?:\S+ -m )?jepa3d --params params.yaml --results results {where}(.*)$"
    found = re.findall(command, text, re.MULTILINE)
    return sorted(line.strip() for line in found if line.strip() != "check")


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """This Python's programs first on PATH, and a package `jepa3d` whose command computes nothing."""
    base = tmp_path_factory.mktemp("environment")
    package = base / "hollow" / "jepa3d"  # the real package, but for what `python -m jepa3d` does
    package.mkdir(parents=True)
    real = REPOSITORY / "jepa3d" / "__init__.py"
    stand_in = f"__file__ = {str(real)!r}\n__path__.append({str(real.parent)!r})\nexec(open(__file__).read())\n"
    (package / "__init__.py").write_text(f"from __future__ import annotations\n{stand_in}")
    log = 'open(os.environ["HOLLOW_LOG"], "a").write(f"jepa3d {shlex.join(sys.argv[1:])}\\n")'
    hollow = f'runpy.run_path({str(Path(__file__).parent / "hollow.py")!r}, run_name="__main__")'
    (package / "__main__.py").write_text(f"import os, runpy, shlex, sys\n\n{log}\n{hollow}\n")
    names = {"NAME": "a", "EMAIL": "a@b.c"}
    who = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in names.items()}
    return {
        **os.environ,
        **who,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(package.parent), str(REPOSITORY)]),
        "XDG_CACHE_HOME": str(base / "cache"),
        "DVC_SITE_CACHE_DIR": str(base / "site"),
        "DVC_GLOBAL_CONFIG_DIR": str(base / "global"),
        "DVC_SYSTEM_CONFIG_DIR": str(base / "system"),
        "OMP_NUM_THREADS": "1",
        "CORES": "2",
    }  # fmt: skip


def _plant(folder: Path, environment: dict[str, str], study: dict[str, Any]) -> Repository:
    for name in FILES:
        source, target = REPOSITORY / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink():
            target.symlink_to(source.readlink())
        elif source.is_dir():
            shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    (folder / "params.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    repository = Repository(folder, environment)
    repository.run("git", "init", "--quiet", "--initial-branch", "main")
    repository.commit("workflow")
    return repository


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Repository:
    """A study that was made by `snakemake all`, recorded, committed and pushed. Tests only clone it."""
    base = tmp_path_factory.mktemp("shared")
    repository = _plant(base / "origin", environment, STUDY)
    repository.dvc("remote", "add", "--default", "shared", str(base / "remote"))
    repository.snakemake("all")
    repository.versions("record")
    repository.assert_nothing_to_do()
    repository.commit("results")
    repository.dvc("push")
    return repository


@pytest.fixture
def clone(shared: Repository, tmp_path: Path) -> Callable[..., Repository]:
    """clone(cache type): a fresh clone in which nothing was pulled yet."""

    def _clone(cache: str = "") -> Repository:
        folder = tmp_path / f"clone{cache}"
        shared.run("git", "clone", "--quiet", ".", str(folder))
        found = Repository(folder, shared.environment)
        if cache:
            found.dvc("config", "--local", "cache.type", cache)
        return found

    return _clone


@pytest.fixture
def plant(environment: dict[str, str], tmp_path: Path) -> Callable[..., Repository]:
    """plant(study="tiny", real=False): the workflow's files in a new repository; `real`: with the real command."""

    def _new(study: str = "tiny", real: bool = False) -> Repository:
        path = environment["PYTHONPATH"].split(os.pathsep, 1)[1] if real else environment["PYTHONPATH"]
        return _plant(tmp_path / "planted", {**environment, "PYTHONPATH": path}, STUDY | {"study": study})

    return _new
