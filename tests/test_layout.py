"""Paths, and the command that makes each."""

from __future__ import annotations

from pathlib import Path

import pytest

from jepa3d.layout import Layout, made_by

LAYOUT = Layout(Path("/some/where/results"))


@pytest.mark.parametrize(
    ("path", "command"),
    [
        (LAYOUT.source("toys"), "jepa3d download toys"),
        (LAYOUT.canonical("toys"), "jepa3d convert toys"),
        (LAYOUT.audit("toys"), "jepa3d convert toys"),
        (LAYOUT.overlap("toys", "other"), "jepa3d convert toys --overlap other"),
        (LAYOUT.patches("flat", "toys"), "jepa3d patchify flat toys"),
        (LAYOUT.encoder("jepa", 3), "jepa3d pretrain jepa --seed 3"),
        (LAYOUT.run_config("jepa", 3), "jepa3d pretrain jepa --seed 3"),
        (LAYOUT.curve("jepa", 3), "jepa3d pretrain jepa --seed 3"),
        (LAYOUT.features("jepa", 3, "toys"), "jepa3d embed jepa toys --seed 3"),
        (LAYOUT.evaluation("jepa", 3, "knn"), "jepa3d evaluate jepa knn --seed 3"),
        (LAYOUT.fold("jepa", 3, "folds", 7), "jepa3d evaluate jepa folds --seed 3 --fold 7"),
        (LAYOUT.shard("flat", "toys", 2), "jepa3d patchify flat toys --shard 2"),
        (LAYOUT.metrics, "jepa3d report"),
        (LAYOUT.chosen.card, "jepa3d report"),
        (LAYOUT.study("frozen").metrics, "jepa3d --study frozen report"),
        (LAYOUT.study("frozen").page, "jepa3d --study frozen report"),
        (LAYOUT.study("frozen").plots / "map.png", "jepa3d --study frozen report"),
        (Layout(Path("results")).canonical("toys"), "jepa3d convert toys"),
        (Path("somewhere/else.h5"), ""),
    ],
)
def test_every_file_knows_the_command_that_makes_it(path: Path, command: str):
    assert made_by(path) == command


def test_no_two_things_share_a_path_and_all_are_inside_the_results():
    paths = [
        LAYOUT.source("a"), LAYOUT.canonical("a"), LAYOUT.audit("a"), LAYOUT.patches("a", "a"), LAYOUT.encoder("a", 0),
        LAYOUT.run_config("a", 0), LAYOUT.curve("a", 0), LAYOUT.state("a", 0), LAYOUT.features("a", 0, "a"),
        LAYOUT.evaluation("a", 0, "a"), LAYOUT.fold("a", 0, "a", 0), *LAYOUT.study("a"), *LAYOUT.chosen,
        LAYOUT.overlap("a", "a"),
    ]  # fmt: skip
    assert len(set(paths)) == len(paths)
    assert all(path.is_relative_to(LAYOUT.results) for path in paths)


def test_resume_state_lies_outside_of_what_a_rule_declares():
    """Snakemake removes the declared outputs of a job that failed."""
    assert not LAYOUT.state("jepa", 0).is_relative_to(LAYOUT.pretrain("jepa", 0))


def test_names_may_be_wildcards():
    assert Layout(Path("results")).features("{run}", "{seed}", "{dataset}") == Path(
        "results/features/{run}/seed{seed}/{dataset}.h5"
    )
