"""What the jobs of a study cost, by Snakemake's own files."""

from __future__ import annotations

from pathlib import Path

import pytest

from jepa3d.graph import Graph
from jepa3d.layout import Layout
from jepa3d.params import Params
from jepa3d.results import costs
from jepa3d.results.costs import Cost

HEAD = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"


def measured(path: Path, row: str, head: str = HEAD) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(head + row)


def test_seconds_are_added_and_of_memory_the_greatest_counts(params: Params, layout: Layout):
    measured(layout.benchmark("embed", "jepa", "0", "toys"), "2.5\t0:00:02\t300.0\t1\t1\t1\t1\t1\t90.0\t2.0\n")
    measured(layout.benchmark("embed", "jepa", "1", "toys"), "1.5\t0:00:01\t400.0\t1\t1\t1\t1\t1\t90.0\t1.0\n")
    measured(layout.benchmark("convert", "toys"), "0.3\t0:00:00\tNA\tNA\tNA\tNA\tNA\tNA\tNA\tNA\n")
    found = {spent.verb: spent for spent in costs.by_verb(layout, Graph(params, layout).jobs())}
    assert found["embed"] == ("embed", 4, 2, Cost(4.0, 3.0, 400.0))
    assert found["convert"] == ("convert", 2, 1, Cost(0.3, None, None))  # the second one looks for near copies
    assert found["report"] == ("report", 1, 0, Cost(0, None, None))


@pytest.mark.parametrize("text", ["", HEAD, "nothing of the kind", HEAD + "soon\n", HEAD + "\n"])
def test_a_file_that_says_nothing_is_passed_over(tmp_path: Path, text: str):
    (tmp_path / "job.tsv").write_text(text)
    assert costs.read(tmp_path / "job.tsv") is None
    assert costs.read(tmp_path / "none.tsv") is None
