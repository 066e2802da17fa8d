"""Where a training runs when it is submitted: nodes, ranks, time, partition. Read from the YAML file of `--cluster`.

None of it is science: the same global batch on 1, 2 or 4 ranks gives the same loss curve (see `ranks`), so a result
does not depend on this file and no output is stamped with it. On floor 0, so that the Snakefile can read it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from jepa3d.params import Fit, FrozenModel
from jepa3d.params.load import load_file
from jepa3d.problem import Problem

CHECKPOINT = 30  # seconds within which a training that is asked to stop has finished its step and saved its state


class Cluster(FrozenModel):
    """One training job. Every field has a default, and `{}` is one rank on one CPU node of the default partition.

    `nodes` x `ranks_per_node` processes share each batch. With `gpu: true` each has a GPU of its own (NCCL), without
    it works on `cpus_per_rank` cores (Gloo). `minutes` is the limit of one life of the job: `notice` seconds before
    it, the job is told, saves its state and, with `requeue: true`, queues again and goes on where it was; so a short
    limit is no hindrance to a long training.
    """

    nodes: PositiveInt = 1
    ranks_per_node: PositiveInt = 1
    gpu: bool = False
    gpu_type: str | None = None  # as in `--gpus-per-node=a100:4`; None: any
    cpus_per_rank: PositiveInt = 4
    memory_gb: PositiveFloat | None = None  # of a node; None: the partition's default
    minutes: PositiveInt = 240
    notice: Annotated[int, Field(ge=CHECKPOINT)] = 90  # Slurm may be up to a minute early or late
    requeue: bool = True  # after the time limit; after a preemption or a lost node Slurm does it itself, if it may

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    options: dict[str, str | int | bool] = Field(default_factory=dict)  # others of sbatch: {reservation: x}
    setup: tuple[str, ...] = ()  # shell lines before the training, as `module load cuda`

    pending_minutes: PositiveInt | None = None  # cancel a job that has not started by then; None: wait
    poll: PositiveFloat = 10.0  # seconds between two questions to the scheduler

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.gpu_type is not None and not self.gpu:
            raise ValueError("gpu_type is set, but gpu is false")
        if self.notice >= 60 * self.minutes:
            raise ValueError(f"notice is {self.notice} seconds, but a life of the job only {60 * self.minutes}")
        return self

    @property
    def ranks(self) -> int:
        return self.nodes * self.ranks_per_node

    def single(self) -> Cluster:
        """The same place with one rank: for runs without training steps."""
        return self.model_copy(update={"nodes": 1, "ranks_per_node": 1})


def load(path: Path) -> Cluster:
    """The Cluster of a YAML file; every mistake in it is a Problem that names the key."""
    if not path.exists():
        raise Problem(
            f"{path}: no such file",
            "--cluster names the file that says where to run",
            "look for a slip in the path; the README shows such a file",
        )
    cluster: Cluster = load_file(Cluster, path)
    return cluster


def check_share(cluster: Cluster, fit: Fit, where: str) -> None:
    """Each rank and accumulated part must get the same number of shapes, or the mean over ranks is not the batch's."""
    parts = cluster.ranks * fit.accumulate
    if fit.batch % parts:
        raise Problem(
            f"{where}.batch: {fit.batch} shapes cannot be shared by {cluster.ranks} ranks",
            f"with accumulate {fit.accumulate}, each batch is cut into {parts} equal parts",
            f"choose nodes x ranks_per_node so that it divides {fit.batch // fit.accumulate}",
        )
