"""DVC over Snakemake: a stage of dvc.yaml, and the Makefile's `record`, `push` and `pull`.

    python workflow/versions.py stage RULE... all_VERB     run these rules for this target, and no others
    python workflow/versions.py record                     after `snakemake all`: let DVC know
    python workflow/versions.py push                       share the files that dvc.lock names
    python workflow/versions.py pull                       get the results of this commit, and let Snakemake know

DVC decides by hashes. Snakemake decides by times and by notes in .snakemake/, which a clone does not have and which
DVC upsets whenever it links or checks out a file. What holds the two together is the record of every output: it says
by content whether the output is what params.yaml asks for. What is current is touched, so that Snakemake leaves it
alone; what is not is forced. Nothing here decides what a file is made of: that is the Snakefile's.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

from jepa3d import project
from jepa3d.layout import Layout, place_of
from jepa3d.problem import Problem
from jepa3d.results import provenance

LOCK = Path(".snakemake/versions.lock")
LAYOUT = Layout(Path("results"))


def main() -> int:
    match sys.argv[1:]:
        case ["stage", *rules] if rules:
            return stage(rules)
        case ["record"]:
            return record()
        case ["push"]:
            return push()
        case ["pull"]:
            return pull()
    print(__doc__, file=sys.stderr)
    return 2


def stage(rules: list[str]) -> int:
    """The jobs of one verb that params.yaml or their inputs have made stale. The last rule is the target."""
    verb = rules[-1].removeprefix("all_")
    make_folders(verb)
    with alone():
        files, judged = judge()
        current, stale = (declared(paths, verb) for paths in judged)
        if current:
            touch(files, current, "--allowed-rules", *rules)
        forced = ["--forcerun", *map(str, stale)] if stale else []
        work = ("--rerun-incomplete", *forced, "--allowed-rules", *rules, "--", rules[-1])
        return snakemake(*work, check=verb == "download")  # the first stage, and every change of a run runs it


def record() -> int:
    """`dvc commit`, but only of results that are complete and belong to today's params.yaml."""
    with alone():
        files, judged = judge()
        if LAYOUT.metrics not in judged.current:
            raise Problem(
                f"{LAYOUT.metrics}: is not there, or not made with today's params.yaml and the files that lie there",
                "to record it would be to say that it is",
                "make it with 'make all', or see 'jepa3d verify'",
            )
        for verb in stages():
            make_folders(verb)
        if code := run("dvc", "commit", "--force", "--quiet"):
            return code
        adopt(files, judged)
    print("recorded in dvc.lock: commit it with git, and 'make push' shares the files")
    return 0


def push() -> int:
    """Copy to the remote what it lacks of the files that dvc.lock names."""
    forget()
    return run("dvc", "push")


def pull() -> int:
    """The results that dvc.lock names, from the remote or, where there is none, from DVC's own cache."""
    remotes = subprocess.run(["dvc", "remote", "list"], capture_output=True, text=True, check=False).stdout.split()
    forget()
    if code := run("dvc", "pull" if remotes else "checkout"):
        return code
    with alone():
        files, judged = judge()
        adopt(files, judged)
    if LAYOUT.metrics in judged.current:
        print("everything is here and current: 'dvc repro' and 'snakemake all' have nothing to do")
    else:
        print("not everything is here, or params.yaml is another: 'snakemake -n all' says what would be made")
    return 0


def forget() -> None:
    """Drop DVC's lists of the files to transfer and of those that a remote has, so that they are made anew.

    DVC keeps these lists outside the folder, writes them output by output, and takes each for whole as soon as it is
    there. After a killed push or pull the first may lack outputs and the second may name files that never arrived:
    the next command would neither transfer nor miss them.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    with contextlib.suppress(DvcException), Repo() as repo, repo.lock:  # what is wrong, the command itself will say
        repo.drop_data_index()
        for folder in Path(repo.site_cache_dir, "index").glob("*"):
            if folder.name != "data":
                shutil.rmtree(folder, ignore_errors=True)


# ---- what is current


def judge() -> tuple[provenance.Files, provenance.Judged]:
    params, files = project.load(), provenance.read(LAYOUT)
    if params.extends is not None:
        raise Problem(
            f"params.yaml: extends {params.extends}, whose changes DVC would not see",
            "DVC compares the sections of params.yaml itself",
            "write them all into params.yaml, or give the file to Snakemake alone: --config params=FILE",
        )
    return files, provenance.judge(params, files)


def adopt(files: provenance.Files, judged: provenance.Judged) -> None:
    """Tell Snakemake that these files are current, and what they were made with."""
    if paths := declared(judged.current):
        touch(files, paths)


def touch(files: provenance.Files, paths: list[Path], *arguments: str) -> None:
    """Let Snakemake note that these outputs are of today's params.yaml and newer than their inputs.

    Those that were newer get their time back, or whatever is made of them would look old to Snakemake in its turn.
    """
    before = {path: path.stat().st_mtime_ns for path in paths}
    how = ("--touch", "--forceall", "--ignore-incomplete", *arguments)
    if code := snakemake("--quiet", "all", *how, "--", *map(str, paths), check=False):
        raise SystemExit(code)
    for path in paths:
        inputs = [of.stat().st_mtime_ns for of in files.inputs(path)]
        if not path.is_symlink() and before[path] >= max(inputs, default=0):
            os.utime(path, ns=(before[path], before[path]))


def declared(paths: list[Path], verb: str = "") -> list[Path]:
    """Those that are outputs of a rule by name, of one verb or of all. The pictures are part of the report's."""
    places = {path: place_of(path) for path in paths}
    return [
        path
        for path, place in places.items()
        if place and verb in ("", place.verb) and (place.verb != "report" or path == LAYOUT.metrics)
    ]


def stages() -> dict[str, dict[str, list[object]]]:
    found: dict[str, dict[str, list[object]]] = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"]
    return found


def make_folders(verb: str) -> None:
    """DVC insists on every declared folder; a study without frozen features has none of them, for one."""
    for out in stages()[verb]["outs"]:
        path = Path(next(iter(out)) if isinstance(out, dict) else str(out))
        if not path.suffix:
            path.mkdir(parents=True, exist_ok=True)


# ---- running Snakemake


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """One at a time in this folder. A killed `dvc repro` leaves its Snakemake at work, which is waited for."""
    LOCK.parent.mkdir(exist_ok=True)
    with LOCK.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for the jobs of an earlier command in this folder", file=sys.stderr, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        os.set_inheritable(lock.fileno(), True)  # held for as long as Snakemake lives, whatever becomes of this process
        yield


def snakemake(*arguments: str, check: bool) -> int:
    """Snakemake in this folder; `check`: with the check of params.yaml that needs torch."""
    environment = {} if check else {"JEPA3D_CHECKED": "1"}
    return run(sys.executable, "-m", "snakemake", "--cores", os.environ.get("CORES", "all"), *arguments, **environment)


def run(*command: str, **environment: str) -> int:
    """A command in the foreground: Ctrl-C is for it, SIGTERM is passed on, and its exit code is ours."""
    process = subprocess.Popen(command, close_fds=False, env=os.environ | environment)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    handler = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        return process.wait()
    finally:
        signal.signal(signal.SIGINT, before)
        signal.signal(signal.SIGTERM, handler)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Problem as problem:
        print(problem, file=sys.stderr)
        sys.exit(2)
