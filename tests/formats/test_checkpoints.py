"""Files of torch.save: tensors come out as they went in, and nothing that a file names is imported or called."""

from __future__ import annotations

import io
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from jepa3d.formats import checkpoints
from jepa3d.problem import Problem


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("import sys; sys.trap = True",))


def weights() -> dict[str, Tensor]:
    torch.manual_seed(0)
    wide = torch.randn(4, 6)
    return OrderedDict(
        whole=torch.randn(3, 5),
        turned=wide.T,
        row=wide[2],
        half=torch.randn(4).half(),
        count=torch.tensor(7),
        none=torch.empty(0),
        flags=torch.tensor([True, False]),
    )


def saved(path: Path, **more: Any) -> Path:
    torch.save({"state_dict": weights(), "epoch": 3, **more}, path)
    return path


def same(found: dict[str, Tensor]) -> bool:
    wanted = weights()
    return list(found) == list(wanted) and all(
        found[name].dtype == one.dtype and torch.equal(found[name], one) for name, one in wanted.items()
    )


def test_a_plain_file_is_read(tmp_path: Path):
    assert same(checkpoints.read(saved(tmp_path / "plain.pt"), "state_dict"))


def test_tensors_beside_objects_of_another_program_are_read_and_its_program_is_not_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    module = types.ModuleType("their_program")
    exec(
        "class Settings(dict): pass\nclass Kind:\n    def __setstate__(self, state): raise SystemExit", module.__dict__
    )
    kind = module.Kind()
    kind.value = 3
    settings = module.Settings(depth=12, kind=kind)
    settings.note = "set by attribute"
    for name in ("Settings", "Kind"):
        getattr(module, name).__module__ = "their_program"
    monkeypatch.setitem(sys.modules, "their_program", module)
    path = saved(tmp_path / "lightning.ckpt", hyper_parameters=settings, callbacks=[kind], loops={"fit": {1: kind}})
    monkeypatch.delitem(sys.modules, "their_program")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    assert same(checkpoints.read(path, "state_dict"))


def test_parameters_are_read_as_their_numbers(tmp_path: Path):
    path = tmp_path / "parameters.pt"
    torch.save({"state_dict": {"weight": nn.Parameter(torch.ones(2))}, "trap": Trap()}, path)
    assert checkpoints.read(path, "state_dict")["weight"].tolist() == [1, 1]
    assert not hasattr(sys, "trap")


def test_what_a_file_would_call_is_not_called_and_no_part_that_is_asked_for_may_hold_it(tmp_path: Path):
    path = tmp_path / "trap.pt"
    torch.save({"state_dict": {"weight": torch.ones(2), "trap": Trap()}}, path)
    with pytest.raises(Problem, match="'state_dict' holds more than tensors") as caught:
        checkpoints.read(path, "state_dict")
    assert caught.value.why == "trap is a Left"
    assert not hasattr(sys, "trap")


def test_a_part_that_is_not_there_is_named_with_those_that_are(tmp_path: Path):
    with pytest.raises(Problem, match="has no 'base_model'") as caught:
        checkpoints.read(saved(tmp_path / "plain.pt"), "base_model")
    assert caught.value.why == "it has state_dict, epoch"
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(Problem, match="has no 'state_dict'"):
        checkpoints.read(tmp_path / "list.pt", "state_dict")


def rewritten(path: Path, changes: dict[str, bytes], compress: bool = False) -> Path:
    """The same archive with other bytes in some of its files."""
    out = path.with_name("rewritten.pt")
    how = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w", how) as new:
        for name in old.namelist():
            new.writestr(name, changes.get(name.partition("/")[2], old.read(name)))
    return out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data/0": b"\0" * 8}, "8 bytes instead of"),
        ({"data/0": b"\0" * 4000}, "has 4000 bytes, or is compressed"),
        ({"byteorder": b"big"}, "another processor's order"),
    ],
)
def test_archives_whose_parts_do_not_belong_together_are_a_problem(
    tmp_path: Path, change: dict[str, bytes], words: str
):
    path = rewritten(saved(tmp_path / "plain.pt", trap=Trap()), change)
    with pytest.raises(ValueError, match=words), zipfile.ZipFile(path) as archive:
        checkpoints._Reader(archive).load()
    if "byteorder" not in change:  # torch turns such numbers round where it reads the file itself
        with pytest.raises(Problem, match="not a checkpoint that can be read"):
            checkpoints.read(path, "state_dict")


def test_a_tensor_whose_place_is_no_tuple_is_a_problem(tmp_path: Path):
    """torch asserts that it is one: an AssertionError of a library is damage like any other."""
    path = rewritten(saved(tmp_path / "plain.pt"), {"data.pkl": b"\x80\x02K\x05Q."})
    with pytest.raises(AssertionError):
        torch.load(path, weights_only=True)
    with pytest.raises(Problem, match="not a checkpoint that can be read"):
        checkpoints.read(path, "state_dict")


def test_a_compressed_archive_is_a_problem(tmp_path: Path):
    path = rewritten(saved(tmp_path / "plain.pt", trap=Trap()), {}, compress=True)
    with pytest.raises(Problem, match="not a checkpoint"):
        checkpoints.read(path, "state_dict")


@pytest.mark.parametrize(
    ("offset", "size", "stride"), [(4, (4,), (1,)), (0, (1 << 40,), (0,)), (-1, (2,), (1,)), (0, (2, 3), (3, 4))]
)
def test_a_tensor_outside_of_its_numbers_is_a_problem(offset: int, size: tuple[int, ...], stride: tuple[int, ...]):
    storage = checkpoints._Storage(bytearray(4 * 6), torch.float32)
    assert checkpoints._tensor(storage, 2, (4,), (1,)).shape == (4,)
    with pytest.raises(ValueError, match="lies outside"):
        checkpoints._tensor(storage, offset, size, stride)


@pytest.mark.parametrize("content", [b"", b"nothing", b"PK\x03\x04 broken", pickle.dumps([1])])
def test_other_files_are_a_problem(tmp_path: Path, content: bytes):
    path = tmp_path / "other.pt"
    path.write_bytes(content)
    with pytest.raises(Problem):
        checkpoints.read(path, "state_dict")


def test_no_file_is_a_problem(tmp_path: Path):
    with pytest.raises(Problem, match="no such file"):
        checkpoints.read(tmp_path / "absent.pt", "state_dict")


@pytest.mark.parametrize("seed", range(40))
def test_damaged_files_are_read_or_a_problem(tmp_path: Path, seed: int):
    random = torch.Generator().manual_seed(seed)
    buffer = io.BytesIO()
    torch.save({"state_dict": weights(), **({"trap": Trap()} if seed % 2 else {})}, buffer)
    data = bytearray(buffer.getvalue())
    for at in torch.randint(0, len(data), (3,), generator=random).tolist():
        data[at] = int(torch.randint(0, 256, (1,), generator=random))
    path = tmp_path / "damaged.pt"
    path.write_bytes(data[: -100 if seed % 5 == 4 else None])
    try:
        found = checkpoints.read(path, "state_dict")
    except Problem:
        return
    assert all(isinstance(one, Tensor) for one in found.values())
