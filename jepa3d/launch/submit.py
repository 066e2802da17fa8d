"""Submitting a job, to Slurm or as processes of this machine: submitit does both, and only this module imports it.

The submission is the work of a helper in a session of its own, which holds the launcher's lock until the job's number
is on record.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jepa3d.launch import environment, queues
from jepa3d.launch.cluster import Cluster
from jepa3d.launch.job import Job, Place, Rank, Where, Work
from jepa3d.problem import Problem
from jepa3d.results import store
from jepa3d.results.claim import identity

FOREVER = 60 * 24 * 3650  # minutes: on this machine there is no time limit
RECORDED = ("where", "settings", "ranks", "host")
NO_LIMIT = 10**6  # time-outs that submitit lets pass: with limits of minutes it counts every signal as one


def submit(work: Work, where: Where, cluster: Cluster, lock: int) -> dict[str, Any]:
    """Have the helper submit the job; it keeps the lock even if this process is killed. Returns the new record."""
    place = work.place
    for old in (*place.folder.glob("end*.json"), *place.folder.glob("rendezvous-*"), place.record):
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
    with place.refused.open("w", encoding="utf-8") as told:  # a file: what is started here may keep it open for long
        helper = subprocess.Popen(
            [*work.helper, str(place.folder)],
            stdin=subprocess.DEVNULL,
            stdout=told,
            stderr=told,
            start_new_session=True,
            pass_fds=[lock] if lock >= 0 else [],
            env=environment.cleaned(),
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


def submit_wanted(folder: Path, run: Callable[[list[str]], int]) -> None:
    """The helper's work: submit what `wanted.json` says, for ranks that `run` it, and put the job on record."""
    place = Place.at(folder)
    wanted = store.read_json(place.wanted)
    cluster = Cluster.model_validate_json(json.dumps(wanted["cluster"]))
    try:
        executor = EXECUTORS[wanted["where"]](place, cluster)
        work = Submitted(place, run, wanted["command"], wanted["cwd"], cluster.gpu, cluster.requeue, wanted["where"])
        number = executor.submit(work).job_id
        if wanted["where"] == "slurm":
            queues.Slurm().check_taken(number, _asked(cluster))
    except Problem as problem:
        print(json.dumps(problem.args))
        return
    except Exception as error:  # submitit passes on what sbatch said
        print(json.dumps(_refused(str(error)).args))
        return
    job = number if wanted["where"] == "slurm" else identity(int(number))
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
    return shlex.join([sys.executable, "-S", str(Path(__file__).with_name("held_back.py"))])


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


def _asked(cluster: Cluster) -> dict[str, str]:
    """What `_slurm_executor` asks for, in the words of `scontrol show job`; fields that are not set are the site's."""
    asked = {
        "TimeLimit": f"{cluster.minutes // 60:02}:{cluster.minutes % 60:02}:00",
        "Requeue": str(int(cluster.requeue)),
        "Partition": cluster.partition,
        "Account": cluster.account,
        "QOS": cluster.qos,
        "Features": cluster.constraint,
    }
    overridden = {"time": "TimeLimit", "partition": "Partition", "account": "Account", "qos": "QOS"}
    overridden |= {"constraint": "Features"}
    also = {overridden.get(key.replace("_", "-")) for key in cluster.options}
    return {key: value for key, value in asked.items() if value is not None and key not in also}


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
