"""The campaign of mutants finds each kind of failure, is a function of its seed, and its files are good ones."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fuzz
import numpy as np
import pytest
import readers
from fuzz import Outcome, Reader, campaign, mutant

from jepa3d.problem import Problem

FILES = {"a.xyz": b"1 2 3\n4 5 6\n" * 30, "b.xyz": b"7 8 9\n" * 20}


def reader(read: Any) -> dict[str, Reader]:
    def files() -> dict[str, bytes]:
        return FILES

    return {"toy": Reader(files, read)}


def outcomes(read: Any, count: int = 3) -> list[Outcome]:
    return sorted(campaign(range(count), 7, reader(read)))


def hungry(path: Path) -> Iterator[np.ndarray[Any, Any]]:
    yield np.ones(100 << 20)


def sleepy(path: Path) -> Iterator[np.ndarray[Any, Any]]:
    time.sleep(30)
    yield np.ones(3)


@pytest.mark.parametrize(
    ("read", "found"),
    [
        (lambda path: [np.ones(3)], "read"),
        (lambda path: [np.array([1, np.nan])], "not finite"),
        (lambda path: [][0], "raised"),
        (lambda path: os._exit(3), "died"),
        (hungry, "memory"),
    ],
)
def test_each_failure_is_told_from_what_is_good(read: Any, found: str) -> None:
    assert [outcome.found for outcome in outcomes(read)] == [found] * 3


def test_a_problem_is_good_when_it_has_a_reason() -> None:
    def refuse(path: Path) -> Any:
        raise Problem(f"{path}: no", "because" if path.name == "a.xyz" else "")

    assert {(outcome.file, outcome.found) for outcome in outcomes(refuse, 12)} == {
        ("a.xyz", "refused"),
        ("b.xyz", "no reason"),
    }


def test_a_reader_that_hangs_is_stopped_and_the_next_mutant_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "TIME", 0.3)
    assert [outcome.found for outcome in outcomes(sleepy, 2)] == ["hang"] * 2


def test_a_mutant_is_a_function_of_its_seed_and_number() -> None:
    toys = reader(None)
    made = [mutant(number, 1, toys) for number in range(60)]
    assert made == [mutant(number, 1, toys) for number in range(60)]
    assert made != [mutant(number, 2, toys) for number in range(60)]
    assert len({data for _, _, data in made} - set(FILES.values())) > 50


@pytest.mark.parametrize("change", fuzz.MUTATIONS)
def test_every_change_takes_any_bytes(change: Any) -> None:
    rng = np.random.default_rng(0)
    for data in (b"\0", b"1", b"12 34\n5", bytes(range(256)) * 3):
        for other in (b"", b"9", b"abc" * 200):
            assert isinstance(change(data, other, rng), bytes)


def test_a_second_reader_that_reads_other_values_is_a_failure() -> None:
    for theirs, found in ((np.ones(3), "agreed"), (np.ones(2), "differs"), (np.array([1, 1, 1.001]), "differs")):
        one = Reader(lambda: FILES, lambda path: [np.ones(3)], lambda path, theirs=theirs: (np.ones(3), theirs))
        assert {outcome.found for outcome in campaign(range(2), 7, {"toy": one})} == {found}


def test_every_second_reader_reads_some_of_the_files(tmp_path: Path) -> None:
    for name, second in readers.SECOND.items():
        asked = 0
        for file, data in readers.READERS[name].files().items():
            (tmp_path / file).write_bytes(data)
            asked += second(tmp_path / file) is not None
        assert asked, name


@pytest.mark.parametrize("name", readers.READERS)
def test_the_files_of_every_reader_are_read_before_anything_is_changed(name: str, tmp_path: Path) -> None:
    one = readers.READERS[name]
    for file, data in one.files().items():
        (tmp_path / file).write_bytes(data)
        assert fuzz._taken(one, tmp_path / file) in (("read", ""), ("agreed", "")), file
        (tmp_path / file).unlink()


def test_a_few_mutants_of_every_reader_are_refused_or_read() -> None:
    found = list(campaign(range(10 * len(readers.READERS)), 20260131, readers.READERS))
    assert [outcome for outcome in found if not outcome.good] == []
    assert {outcome.reader for outcome in found} == set(readers.READERS)


def test_the_program_prints_its_seed_and_fails_where_a_mutant_does(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(readers, "READERS", reader(lambda path: [np.ones(3)]))
    assert fuzz.main(["--count", "5", "--seed", "3", "--workers", "1", "--keep", str(tmp_path)]) == 0
    assert "5 mutants" in (said := capsys.readouterr().out)
    assert "seed 3" in said
    monkeypatch.setattr(readers, "READERS", reader(lambda path: [np.array(np.inf)]))
    assert fuzz.main(["--count", "2", "--seed", "3", "--workers", "1", "--keep", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert "--seed 3 --only 1" in said
    assert len(list(tmp_path.iterdir())) == 2
