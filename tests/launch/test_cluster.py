"""The file that says where a training runs: every mistake in it is a Problem that names the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from jepa3d.launch import cluster
from jepa3d.launch.cluster import Cluster
from jepa3d.params import Fit
from jepa3d.problem import Problem


def read(tmp_path: Path, text: str) -> Cluster:
    path = tmp_path / "cluster.yaml"
    path.write_text(text)
    return cluster.load(path)


def test_what_is_not_said_is_one_rank_of_the_default_partition(tmp_path: Path):
    assert read(tmp_path, "{}") == Cluster()
    assert Cluster().ranks == 1
    assert Cluster().requeue


def test_ranks_are_those_of_all_nodes(tmp_path: Path):
    found = read(
        tmp_path, "nodes: 2\nranks_per_node: 4\ngpu: true\ngpu_type: a100\noptions: {reservation: x, hold: true}"
    )
    assert found.ranks == 8
    assert found.options == {"reservation": "x", "hold": True}
    assert (found.single().ranks, found.single().gpu_type) == (1, "a100")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("nods: 2", "nods: unknown key"),
        ("nodes: 0", "nodes: input should be greater than 0"),
        ("nodes: two", "nodes: input should be a valid integer"),
        ("minutes: 1\nnotice: 90", "notice is 90 seconds, but a life of the job only 60"),
        ("notice: 5", "notice: input should be greater than or equal to 30"),
        ("gpu_type: a100", "gpu_type is set, but gpu is false"),
        ("setup: module load cuda", "setup"),
        ("- nodes", "not a mapping"),
    ],
)
def test_a_mistake_names_the_key(tmp_path: Path, text: str, what: str):
    with pytest.raises(Problem, match=what):
        read(tmp_path, text)


def test_a_file_that_is_not_there_is_a_problem(tmp_path: Path):
    with pytest.raises(Problem, match=r"no\.yaml: no such file"):
        cluster.load(tmp_path / "no.yaml")


def test_every_rank_must_get_as_many_shapes():
    fit = Fit(steps=1, batch=24, accumulate=2)
    cluster.check_share(Cluster(nodes=2, ranks_per_node=3), fit, "runs.jepa.fit")
    with pytest.raises(Problem, match=r"runs\.jepa\.fit\.batch: 24 shapes cannot be shared by 8 ranks") as caught:
        cluster.check_share(Cluster(nodes=2, ranks_per_node=4), fit, "runs.jepa.fit")
    assert "divides 12" in caught.value.mend
