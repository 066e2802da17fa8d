"""A file that exists is finished; what cannot be read or written says so."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import jepa3d
from jepa3d.problem import Problem
from jepa3d.results import records, store


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fail_with(number: int):
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_the_codes_hash_covers_the_whole_package(tmp_path: Path):
    """A change in any folder of it is another version of the code."""
    copy = tmp_path / "jepa3d"
    shutil.copytree(Path(jepa3d.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-c", "from jepa3d.results import store; print(store.code_hash())"]

    def hashed() -> str:
        environment = os.environ | {"PYTHONPATH": str(tmp_path)}
        return subprocess.run(command, env=environment, cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    before = hashed()
    assert hashed() == before
    (copy / "ops" / "masking.py").write_text("# another")
    assert hashed() != before


# --- atomic


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path):
    target = tmp_path / "deep" / "file.txt"
    with store.replacing(target) as temporary:
        temporary.write_text("new")
        assert not target.exists()
        assert temporary.parent == target.parent  # a rename within one file system
    assert target.read_text() == "new"
    assert files(target.parent) == ["file.txt"]


def test_a_failure_keeps_what_was_there_and_leaves_nothing_else(tmp_path: Path):
    target = tmp_path / "file.txt"
    store.write_text(target, "old")

    def write_half(temporary: Path) -> None:
        temporary.write_text("half")
        raise RuntimeError("oops")

    with pytest.raises(RuntimeError, match="oops"), store.replacing(target) as temporary:
        write_half(temporary)
    assert target.read_text() == "old"
    assert files(tmp_path) == ["file.txt"]


def test_published_files_have_the_permissions_of_ordinary_files(tmp_path: Path):
    store.write_text(tmp_path / "ours", "")
    (tmp_path / "ordinary").touch()
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permission"),
        (errno.EIO, "nothing half-written"),
    ],
)
def test_a_disk_that_refuses_is_a_problem_and_leaves_no_partial_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
):
    target = tmp_path / "metrics.json"
    store.write_json(target, {"old": 1})
    monkeypatch.setattr(Path, "write_text", fail_with(number))
    with pytest.raises(Problem, match="cannot be written") as caught:
        store.write_json(target, {"new": 2})
    assert words in caught.value.mend
    assert str(target) in caught.value.what
    assert json.loads(target.read_bytes()) == {"old": 1}
    assert files(tmp_path) == ["metrics.json"]


def test_a_disk_that_is_full_at_the_last_flush_changes_neither_an_output_nor_its_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    target = tmp_path / "results" / "canonical" / "toys.h5"
    store.write_h5(target, {"points": np.zeros(3)}, store.stamp("convert", {}))
    before, record = target.read_bytes(), records.read(target)
    assert record is not None
    monkeypatch.setattr(store, "_sync", fail_with(errno.ENOSPC))
    with pytest.raises(Problem, match="cannot be written"):
        store.write_h5(target, {"points": np.ones(3)}, store.stamp("convert", {}))
    assert target.read_bytes() == before
    assert records.read(target) == record
    assert files(target.parent) == ["toys.h5"]


def test_a_folder_that_cannot_be_made_is_a_problem(tmp_path: Path):
    (tmp_path / "results").write_text("a file where the folder should be")
    with pytest.raises(Problem, match="cannot be written"):
        store.write_json(tmp_path / "results" / "metrics.json", {})
    with pytest.raises(Problem, match="cannot be written"):
        store.append_jsonl(tmp_path / "results" / "curve.jsonl", {})


FULL = """
import resource, signal, sys
from pathlib import Path
import numpy as np
import torch
from jepa3d.results import store
from jepa3d.problem import Problem
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))   # writes beyond this fail as on a full disk
big, target = np.zeros(1_000_000, np.float32), Path(sys.argv[1])
for write in (
    lambda: store.write_h5(target, {"big": big}, {}),
    lambda: store.write_tensors(target, {"big": torch.from_numpy(big)}, {}),
    lambda: store.save_state(target, {"big": torch.from_numpy(big)}),
    lambda: store.write_bytes(target, big.tobytes()),
):
    try:
        write()
    except Problem as problem:
        print(problem.what, "|", problem.why)
"""


def test_every_writer_survives_a_disk_that_is_full_in_the_middle(tmp_path: Path):
    (tmp_path / "file").write_text("old")
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path / "file")], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.count("cannot be written") == 4
    assert done.stdout.count("File too large") >= 3  # HDF5 has words of its own
    assert files(tmp_path) == ["file"]
    assert (tmp_path / "file").read_text() == "old"


def test_a_mistake_of_the_code_is_not_taken_for_a_full_disk(tmp_path: Path):
    with pytest.raises(ValueError, match="not ours"), store.create_h5(tmp_path / "file.h5", {}):
        raise ValueError("not ours")
    assert files(tmp_path) == []


# --- round trips


def test_arrays_text_and_attributes_come_back(tmp_path: Path):
    arrays = {"points": np.arange(12, dtype=np.float32).reshape(2, 2, 3), "id": ["Tür", "a/b"]}
    store.write_h5(tmp_path / "a.h5", arrays, {"verb": "convert"}, classes=["x", "y"])
    with store.open_h5(tmp_path / "a.h5") as file:
        assert np.array_equal(file["points"][:], arrays["points"])
        assert store.text(file["id"]).tolist() == ["Tür", "a/b"]
        assert store.attributes(file)["classes"] == ["x", "y"]
        assert file["points"].chunks is None
        assert file["points"].compression is None
    assert store.provenance(tmp_path / "a.h5") == {"verb": "convert"}


def test_weights_and_their_description_come_back(tmp_path: Path):
    tensors = {"a": torch.arange(6.0).view(2, 3).T, "n": torch.tensor(3)}
    store.write_tensors(tmp_path / "w.safetensors", tensors, {"provenance": {"verb": "pretrain"}})
    back, metadata = store.read_tensors(tmp_path / "w.safetensors")
    assert torch.equal(back["a"], tensors["a"])
    assert back["n"] == 3
    assert metadata["provenance"] == store.provenance(tmp_path / "w.safetensors") == {"verb": "pretrain"}


def test_a_training_state_comes_back_and_runs_no_code(tmp_path: Path):
    store.save_state(tmp_path / "s.pt", {"step": 3, "w": torch.ones(2)})
    assert store.load_state(tmp_path / "s.pt")["step"] == 3
    torch.save({"evil": os.system}, tmp_path / "evil.pt")
    with pytest.raises(Problem, match="cannot be read"):
        store.load_state(tmp_path / "evil.pt")


def test_a_curve_whose_last_line_was_cut_by_a_kill_keeps_the_lines_before(tmp_path: Path):
    curve = tmp_path / "curve.jsonl"
    for step in range(3):
        store.append_jsonl(curve, {"step": step})
    curve.write_bytes(curve.read_bytes() + b'{"step": 3')
    assert [row["step"] for row in store.read_jsonl(curve)] == [0, 1, 2]
    curve.write_bytes(curve.read_bytes()[:-10] + b'{"step": 3}')  # whole by chance, but its end is not certain
    assert [row["step"] for row in store.read_jsonl(curve)] == [0, 1, 2]


def test_json_has_no_nan(tmp_path: Path):
    with pytest.raises(ValueError, match="JSON"):
        store.write_json(tmp_path / "m.json", {"mean": float("nan")})
    assert files(tmp_path) == []


# --- damage


@pytest.mark.parametrize("content", [b"", b"not a file of ours", None])
def test_a_damaged_file_of_any_kind_is_a_problem_that_names_it(tmp_path: Path, content: bytes | None):
    readers = {"a.h5": lambda p: store.open_h5(p).__enter__(), "a.safetensors": store.read_tensors,
               "a.json": store.read_json, "a.pt": store.load_state}  # fmt: skip
    for name, read in readers.items():
        path = tmp_path / name
        if content is None:
            write_one_of_each(tmp_path)
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])  # truncated
        else:
            path.write_bytes(content)
        with pytest.raises(Problem, match="cannot be read") as caught:
            read(path)
        assert str(path) in caught.value.what


def write_one_of_each(folder: Path) -> None:
    store.write_h5(folder / "a.h5", {"x": np.zeros(1000)}, {})
    store.write_tensors(folder / "a.safetensors", {"x": torch.zeros(1000)}, dict.fromkeys("abcdefgh", 1))
    store.write_json(folder / "a.json", {"x": 1, "y": [1, 2]})
    store.save_state(folder / "a.pt", {"x": torch.zeros(1000)})


def test_a_missing_file_names_the_command_that_makes_it(tmp_path: Path):
    missing = tmp_path / "results" / "canonical" / "toys.h5"
    for read in (store.sha256, store.read_json, store.load_state, store.read_jsonl, store.read_tensors):
        with pytest.raises(Problem, match="no such file") as caught:
            read(missing)
        assert "jepa3d convert toys" in caught.value.mend
    with pytest.raises(Problem, match="no such file"), store.open_h5(missing):
        pass


# --- provenance


def test_a_stamp_says_what_code_settings_and_inputs_made_a_file_and_nothing_about_the_moment(tmp_path: Path):
    (tmp_path / "in").write_bytes(b"abc")
    stamp = store.stamp("embed", {"run": "jepa"}, [tmp_path / "in"])
    assert stamp["verb"] == "embed"
    assert stamp["settings"] == {"run": "jepa"}
    assert stamp["inputs"][str(tmp_path / "in")].startswith("ba7816bf8f01cfea")  # sha256 of abc
    assert stamp == store.stamp("embed", {"run": "jepa"}, [tmp_path / "in"])


def test_the_code_of_a_stamp_is_that_of_the_whole_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Not of the one folder in which the function happens to stand."""
    package = tmp_path / "jepa3d"
    (package / "results").mkdir(parents=True)
    (package / "results" / "store.py").write_text("")
    (package / "seeds.py").write_text("1")
    monkeypatch.setattr(store, "__file__", str(package / "results" / "store.py"))
    before = store.code_hash.__wrapped__()
    (package / ".#seeds.py").symlink_to("user@host.1234")  # an editor's, of a file that is not saved yet
    assert store.code_hash.__wrapped__() == before
    (package / "seeds.py").write_text("2")
    assert store.code_hash.__wrapped__() != before


def test_two_outputs_have_each_the_stamp_that_was_given_for_it(tmp_path: Path):
    """Nothing is remembered from one to the next: a stamp that was made and not given away is of no file."""
    results = tmp_path / "results"
    one, two = (store.stamp("convert", {"seed": seed}) for seed in (1, 2))
    store.write_h5(results / "canonical" / "two.h5", {}, two)
    store.write_h5(results / "canonical" / "one.h5", {}, one)
    store.write_json(results / "canonical" / "two.audit.json", {})
    found = [records.read(results / "canonical" / name) for name in ("one.h5", "two.h5", "two.audit.json")]
    assert [record and record["stamp"]["settings"]["seed"] for record in found] == [1, 2, None]


def test_the_same_content_gives_the_same_bytes(tmp_path: Path):
    seen = []
    for _ in range(4):
        write_one_of_each(tmp_path)
        seen.append(tuple((tmp_path / one).read_bytes() for one in ("a.h5", "a.safetensors", "a.json")))
    assert len(set(seen)) == 1


def test_our_files_open_read_only_without_locks(tmp_path: Path):
    store.write_h5(tmp_path / "a.h5", {"x": np.zeros(3)}, {})
    with (tmp_path / "a.h5").open("rb+") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with store.open_h5(tmp_path / "a.h5") as file:
            assert file["x"].shape == (3,)
