"""Where a training runs: submitted as a job of several ranks, followed to its end, found again, never submitted twice.

`--launch local` starts the ranks on this machine, `--launch slurm` through sbatch; submitit does both, and only this
module imports it. The launcher is a mere onlooker: it prints what rank 0 says and ends with the job's exit code. When
it is killed the job goes on, and the same command finds it again. `jepa3d cancel` ends a job.

What keeps a training from being submitted twice: the submission is the work of a helper in a session of its own, which
holds a file lock until the job's number is on record, so nothing that happens to the launcher comes between the two;
a job that is in the queue without being on record (the whole machine went down in that moment) is found by its name;
and a job that is not the one on record does nothing (on file systems without locks).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from jepa3d import config, queues, store
from jepa3d.cluster import Cluster, check_share
from jepa3d.follow import LOOK, SURE, follow, patiently, say
from jepa3d.job import Job, Place, Rank
from jepa3d.layout import Layout
from jepa3d.problem import Problem

Where = Literal["local", "slurm"]
FOREVER = 60 * 24 * 3650  # minutes: on this machine there is no time limit
RECORDED = ("where", "settings", "ranks", "host")
NO_LIMIT = 10**6  # time-outs that submitit lets pass: with limits of minutes it counts every signal as one


@dataclass(frozen=True)
class Work:
    """What a job is to do: a verb of `jepa3d`, the file that it makes last, and what the words about it need."""

    place: Place
    label: str
    source: Path  # params.yaml, of which the job keeps a copy for all its lives
    arguments: tuple[str, ...]  # from `--results` on
    settings: str  # a digest of what of params.yaml it depends on
    inputs: tuple[Path, ...]
    result: Path
    cancel: str  # the command that ends it


def launch(
    params: config.Params, source: Path, layout: Layout, run: str, seed: int, where: Where, cluster: Cluster
) -> int:
    """Submit a training, or find its running job; follow it to its end, and return its exit code.

    `source` is the params.yaml that `params` came from. Raises a Problem for what is known before a submission.
    """
    entry: config.Run = params.pick("runs", run)
    cluster = cluster if entry.fit.steps != 0 else cluster.single()
    check_share(cluster, entry.fit, run)
    work = Work(
        place=Place.of(layout, run, seed),
        label=f"{run} seed {seed}",
        source=source,
        arguments=(
            f"--results={layout.results}",
            f"--threads={cluster.cpus_per_rank}",
            "pretrain",
            run,
            f"--seed={seed}",
        ),
        settings=hashlib.sha256(json.dumps(config.run_slice(params, run), sort_keys=True).encode()).hexdigest(),
        inputs=tuple(
            path for data in entry.data for path in (layout.canonical(data), layout.patches(entry.patches, data))
        ),
        result=layout.encoder(run, seed),
        cancel=f"jepa3d cancel {run} --seed {seed}",
    )
    return attend(work, where, cluster)


def attend(work: Work, where: Where, cluster: Cluster) -> int:
    """The launcher proper: find the job or submit it, follow it, tidy up after a good end. Returns its exit code."""
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
                record = _submit(work, where, cluster, lock)
                words = f"({where}), {cluster.ranks} rank{'s'[: cluster.ranks > 1]}"
                words += f" on {cluster.nodes} nodes" if cluster.nodes > 1 else ""
            say(f"{work.label}: job {record['id']} {words}; its log: {place.log(record['id'], 0)}")
        onlooker.job, onlooker.where = record["id"], record["where"]
        code = follow(place, record, cluster, work.result)
    return _clear(place) if code == 0 and not _deserted() else code


def cancel(layout: Layout, run: str, seed: int) -> str:
    """End the job of a run and seed, and wait until it is gone. Returns what was done, in words."""
    place = Place.of(layout, run, seed)
    if not place.folder.exists():
        return f"{run} seed {seed}: no job is waiting or running"
    with _lock(place.folder):
        record = running(place)
        if record is None:
            return f"{run} seed {seed}: no job is waiting or running"
        queue = queues.QUEUES[record["where"]]
        queue.cancel(record["id"])
        while patiently(queue.look, record["id"]).phase != "ended":
            time.sleep(LOOK)
        place.record.unlink(missing_ok=True)
        place.wanted.unlink(missing_ok=True)
    return f"{run} seed {seed}: job {record['id']} is cancelled; 'jepa3d pretrain' goes on from its last checkpoint"


def refuse_beside(layout: Layout, run: str, seed: int) -> None:
    """A Problem where a job already trains what this process is about to train."""
    place = Place.of(layout, run, seed)
    if place.record.exists() and (record := running(place)) is not None:
        raise Problem(
            f"{run} seed {seed}: job {record['id']} trains it",
            "two trainings would overwrite each other's state",
            f"follow it with --launch {record['where']}, or end it: jepa3d cancel {run} --seed {seed}",
        )


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
    return leader != 0 and queues.identity(leader) is None  # 0: outside of this container


def _clear(place: Place) -> int:
    """The training is complete: its state and the job's logs have done their work."""
    end = time.monotonic() + SURE
    while place.folder.parent.exists() and time.monotonic() < end:  # its processes may still be ending, and write
        shutil.rmtree(place.folder.parent, ignore_errors=True)
        time.sleep(LOOK)
    return 0


# --- submitting


def _submit(work: Work, where: Where, cluster: Cluster, lock: int) -> dict[str, Any]:
    """Have the helper submit the job; it keeps the lock even if this process is killed. Returns the new record."""
    place = work.place
    for old in (*place.folder.glob("end*.json"), *place.folder.glob("meet-*"), place.record):
        old.unlink(missing_ok=True)
    store.write_text(place.params, work.source.read_text(encoding="utf-8"))
    wanted = {
        "where": where,
        "cluster": cluster.model_dump(mode="json"),
        "name": place.name,
        "command": [f"--params={place.params}", f"--threads={cluster.cpus_per_rank}", *work.arguments],
        "cwd": str(Path.cwd()),
        "settings": work.settings,
        "ranks": cluster.ranks,
        "host": os.uname().nodename,
    }
    store.write_json(place.wanted, wanted)
    code = "import sys; from jepa3d.launch import submit_wanted; submit_wanted(sys.argv[1])"
    with place.refused.open("w", encoding="utf-8") as told:  # a file: what is started here may keep it open for long
        helper = subprocess.Popen(
            [sys.executable, "-c", code, str(place.folder)],
            stdin=subprocess.DEVNULL,
            stdout=told,
            stderr=told,
            start_new_session=True,
            pass_fds=[lock] if lock >= 0 else [],
            env=_outside_of_jobs(),
        )
        helper.wait()
    if place.record.exists():
        record: dict[str, Any] = store.read_json(place.record)
        return record
    place.wanted.unlink()
    said = place.refused.read_text(encoding="utf-8").splitlines()
    with contextlib.suppress(ValueError, IndexError):
        raise Problem(*json.loads(said[-1]))
    raise Problem(f"{place.name}: could not be submitted", " ".join(said[-3:]), "mend that and give the command again")


def submit_wanted(folder: str) -> None:
    """The helper's work: submit what `wanted.json` says, and put the job on record."""
    place = Place.at(Path(folder))
    wanted = store.read_json(place.wanted)
    cluster = Cluster.model_validate_json(json.dumps(wanted["cluster"]))
    try:
        executor = EXECUTORS[wanted["where"]](place, cluster)
        work = Submitted(place, wanted["command"], wanted["cwd"], cluster.gpu, cluster.requeue, wanted["where"])
        number = executor.submit(work).job_id
    except Problem as problem:
        print(json.dumps(problem.args))
        return
    except Exception as error:  # submitit passes on what sbatch said
        print(json.dumps(_refused(str(error)).args))
        return
    job = number if wanted["where"] == "slurm" else queues.identity(int(number))
    store.write_json(place.record, {"id": job, **{key: wanted[key] for key in RECORDED}})


class Submitted(Job):
    """A job as submitit wants it: a call, and an answer to the question what the next life does."""

    def __call__(self) -> None:
        import submitit

        here = submitit.JobEnvironment()
        self.work(Rank(here.job_id, here.global_rank, here.num_tasks, here.local_rank))

    def checkpoint(self) -> Any:
        import submitit

        return submitit.helpers.DelayedSubmission(self) if self.requeue else None


def _python() -> str:
    """Python, with the signal that ends a life of the job held back until the training answers it (`fit`).

    A rank that is still importing would be killed by it; one that answered at once would have got no further.
    """
    code = "import os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2]); "
    code += "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    return shlex.join([sys.executable, "-S", "-c", code])


def _slurm_executor(place: Place, cluster: Cluster) -> Any:
    import submitit

    for tool in ("sbatch", "srun", "squeue", "scontrol", "scancel"):
        if shutil.which(tool) is None:
            raise queues.no_slurm(tool)
    executor = submitit.SlurmExecutor(place.jobs, max_num_timeout=NO_LIMIT, python=_python())
    gpus = f"{cluster.gpu_type}:{cluster.ranks_per_node}" if cluster.gpu_type else cluster.ranks_per_node
    options = {key: value for key, value in cluster.options.items() if value is not False}
    executor.update_parameters(
        job_name=place.name,
        nodes=cluster.nodes,
        ntasks_per_node=cluster.ranks_per_node,
        cpus_per_task=cluster.cpus_per_rank,
        gpus_per_node=gpus if cluster.gpu else None,
        mem=f"{round(1024 * cluster.memory_gb)}M" if cluster.memory_gb else None,
        time=cluster.minutes,
        signal_delay_s=cluster.notice,
        partition=cluster.partition,
        account=cluster.account,
        qos=cluster.qos,
        constraint=cluster.constraint,
        setup=list(cluster.setup),
        wckey=None,
        srun_args=["--kill-on-bad-exit=1", f"--cpus-per-task={cluster.cpus_per_rank}"],
        additional_parameters={"requeue" if cluster.requeue else "no-requeue": True} | options,
    )
    return executor


def _local_executor(place: Place, cluster: Cluster) -> Any:
    import submitit

    if not sys.platform.startswith("linux"):
        raise Problem("--launch local: needs Linux", "jobs are found again by /proc", "use --launch here")
    executor = submitit.LocalExecutor(place.jobs, max_num_timeout=NO_LIMIT, python=_python())
    visible = [int(number) for number in re.findall(r"\d+", os.environ.get("CUDA_VISIBLE_DEVICES", ""))]
    executor.update_parameters(
        tasks_per_node=cluster.ranks,
        gpus_per_node=cluster.ranks if cluster.gpu else 0,
        visible_gpus=tuple(visible) if cluster.gpu and visible else (),
        timeout_min=FOREVER,
    )
    return executor


EXECUTORS = {"slurm": _slurm_executor, "local": _local_executor}


def _refused(said: str) -> Problem:
    """What sbatch said, as a Problem that names the field to change."""
    words = " ".join(said.replace("sbatch: error:", "").split())
    fields = {
        "account": "account",
        "partition": "partition",
        "qos": "qos",
        "feature": "constraint",
        "time limit": "minutes",
        "node count": "nodes",
        "configuration is not available": "constraint', 'gpu_type', 'cpus_per_rank' or 'memory_gb",
        "memory": "memory_gb",
        "gres": "gpu_type",
    }
    field = next((name for clue, name in fields.items() if clue in words.lower()), None)
    mend = f"change '{field}' in the cluster file" if field else "change the cluster file, or ask the site"
    return Problem("the job was refused", words[:300], mend)


def _outside_of_jobs() -> dict[str, str]:
    """The environment without what Slurm told a job that this may be part of: a new job would inherit its size."""
    kept = ("SLURM_CONF", "SLURM_CLUSTERS")
    return {k: v for k, v in os.environ.items() if k in kept or not k.startswith(("SLURM_", "SRUN_", "PMI"))}


# --- the launcher itself


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
