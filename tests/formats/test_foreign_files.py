"""Foreign files are data: damaged, hostile or absurd ones end in a Problem that names them, and in nothing else."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import resource
import struct
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from jepa3d import datasets, plugins
from jepa3d.datasets import SetAside, Shape
from jepa3d.formats import archives, arrays, hdf5, pickles, texts
from jepa3d.params.validation import plugin_config
from jepa3d.problem import Problem

CLOUDS = np.arange(24, dtype=np.float32).reshape(2, 4, 3)


# ---- pickles


def test_a_pickle_of_plain_data_is_read_as_pickle_reads_it(tmp_path: Path):
    data = {"train": [(CLOUDS[0], 3, np.int64(7)), (CLOUDS[1], 4, 2**70)], "name": "ü", "more": [None, True, -1.5, ()]}
    for protocol in range(6):
        path = tmp_path / f"{protocol}.pkl"
        path.write_bytes(pickle.dumps(data, protocol=protocol))
        found = pickles.load(path)
        assert found["name"] == "ü"
        assert found["more"] == [None, True, -1.5, ()]
        assert found["train"][1][2] == 2**70
        assert found["train"][0][2] == 7
        np.testing.assert_array_equal(found["train"][0][0], CLOUDS[0])
        assert found["train"][0][0].dtype == np.float32


def test_the_names_of_old_and_new_numpy_are_known(tmp_path: Path):
    for old, new in ((b"numpy._core.", b"numpy._core."), (b"numpy._core.", b"numpy.core.")):
        (tmp_path / "a.dat").write_bytes(
            pickle.dumps([[CLOUDS[0]], [np.array([3], np.int32)]], protocol=3).replace(old, new)
        )
        points, labels = pickles.load(tmp_path / "a.dat")
        np.testing.assert_array_equal(points[0], CLOUDS[0])
        assert labels[0].tolist() == [3]


def test_fortran_order_and_big_endian_numbers_are_understood(tmp_path: Path):
    arrays_ = [np.asfortranarray(CLOUDS[0]), CLOUDS[0].astype(">f4"), np.array(5.0), np.array([True, False])]
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(arrays_, protocol=4))
    for found, given in zip(pickles.load(tmp_path / "a.pkl"), arrays_, strict=True):
        np.testing.assert_array_equal(found, given)


class Hostile:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    ("hostile", "named"),
    [
        (Hostile(os.system, "touch escaped"), "posix.system"),
        (Hostile(eval, "1"), "builtins.eval"),
        (Hostile(__import__, "os"), "__import__"),
        (Hostile(np.load, "x.npy"), "load"),
        ([{"deep": [Hostile(os.system, "touch escaped")]}], "posix.system"),
        (np.array([Hostile(os.system, "touch escaped")], dtype=object), "O8"),
        ({1, 2}, "EMPTY_SET"),
        (Path("x"), "pathlib"),
    ],
)
def test_anything_else_in_a_pickle_is_refused_by_name(
    hostile: Any, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.pkl").write_bytes(pickle.dumps(hostile, protocol=4))
    with pytest.raises(Problem) as caught:
        pickles.load(tmp_path / "bad.pkl")
    assert "bad.pkl" in caught.value.what
    assert named in caught.value.what
    assert not (tmp_path / "escaped").exists()


HUGE = pickle.dumps(CLOUDS, protocol=3).replace(b"K\x02K\x04K\x03", b"J\xff\xff\xff\x3fK\x04K\x03")
BOMBS = {
    "a memo index of four thousand million": b"\x80\x03]r\xff\xff\xff\xff0.",
    "a string of an exabyte": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"x.",
    "a string longer than the file": b"\x80\x03B" + struct.pack("<I", 1 << 31) + b"x.",
    "a list in itself": b"\x80\x03]q\x00h\x00a.",
    "tuples of tuples, as a key": b"\x80\x03}(" + b")" + b"q\x00h\x00h\x00\x86" * 60 + b"K\x01u.",
    "lists of lists": b"\x80\x03" + b"]" + b"q\x00h\x00h\x00\x86" * 60 + b".",
    "nested": b"\x80\x03" + b"(" * 100_000 + b"l" * 100_000 + b".",
    "no end": b"\x80\x03]",
    "a text with an escape that there is not": b"S'\\q'\n.",
    "nothing": b"",
    "an array of a thousand million numbers": HUGE,
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_pickle_bomb_does_not_go_off(name: str, tmp_path: Path):
    (tmp_path / "bomb.pkl").write_bytes(BOMBS[name])
    start, before = time.process_time(), peak()
    with pytest.raises(Problem, match=r"bomb\.pkl"):
        pickles.load(tmp_path / "bomb.pkl")
    assert time.process_time() - start < 5
    assert peak() - before < 200e6


def peak() -> float:
    """The largest memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


# ---- HDF5


def h5(path: Path, **data: Any) -> Path:
    with h5py.File(path, "w") as file:
        for name, value in data.items():
            file[name] = value
    return path


def get(path: Path, key: str = "data", shape: tuple[int | None, ...] = (None, 4, 3)) -> Any:
    with hdf5.opened(path) as file:
        return hdf5.dataset(file, path, key, shape)[()]


def test_a_data_set_of_the_right_shape_is_read(tmp_path: Path):
    np.testing.assert_array_equal(get(h5(tmp_path / "a.h5", data=CLOUDS)), CLOUDS)


def test_a_read_only_folder_is_no_obstacle(tmp_path: Path):
    path = h5(tmp_path / "a.h5", data=CLOUDS)
    path.chmod(0o444)
    tmp_path.chmod(0o555)
    try:
        assert get(path).shape == (2, 4, 3)
    finally:
        tmp_path.chmod(0o755)


def external(path: Path) -> None:
    h5(path.with_name("other.h5"), data=CLOUDS)
    with h5py.File(path, "w") as file:
        file["data"] = h5py.ExternalLink("other.h5", "/data")


def stored_elsewhere(path: Path) -> None:
    path.with_name("secret").write_bytes(CLOUDS.tobytes())
    with h5py.File(path, "w") as file:
        file.create_dataset("data", CLOUDS.shape, "f4", external=[(str(path.with_name("secret")), 0, CLOUDS.nbytes)])


def virtual(path: Path) -> None:
    h5(path.with_name("other.h5"), data=CLOUDS)
    layout = h5py.VirtualLayout(CLOUDS.shape, "f4")
    layout[:] = h5py.VirtualSource(str(path.with_name("other.h5")), "data", CLOUDS.shape)
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("data", layout)


def unallocated(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("data", (1 << 40, 4, 3), "f4", chunks=(1, 4, 3))


def bomb(path: Path) -> None:
    with h5py.File(path, "w") as file:
        data = file.create_dataset("data", (1 << 30, 4, 3), "f4", chunks=(64, 4, 3), compression="gzip")
        data[:64] = 0


H5_BAD: dict[str, Callable[[Path], Any]] = {
    "a link to another file": external,
    "bytes in another file": stored_elsewhere,
    "a virtual data set": virtual,
    "an exabyte that is not there": unallocated,
    "a gzip bomb": bomb,
    "no such key": lambda path: h5(path, points=CLOUDS),
    "text": lambda path: h5(path, data="points"),
    "a group": lambda path: h5py.File(path, "w").create_group("data").file.close(),
    "another shape": lambda path: h5(path, data=CLOUDS[..., :2]),
    "complex numbers": lambda path: h5(path, data=CLOUDS.astype(complex)),
    "no HDF5": lambda path: path.write_bytes(b"\x89HDF nothing"),
    "nothing": lambda path: path.write_bytes(b""),
    "a folder": lambda path: path.mkdir(),
    "absent": lambda path: None,
}


@pytest.mark.parametrize("name", H5_BAD)
def test_a_bad_hdf5_file_is_named(name: str, tmp_path: Path):
    path = tmp_path / "bad.h5"
    H5_BAD[name](path)
    before = peak()
    with pytest.raises(Problem, match=r"bad\.h5"):
        get(path)
    assert peak() - before < 200e6


# ---- npy and text


def test_an_npy_file_is_read_as_numpy_reads_it(tmp_path: Path):
    for number, array in enumerate([CLOUDS, np.asfortranarray(CLOUDS[0]), CLOUDS.astype(">f8"), np.zeros((0, 3))]):
        np.save(tmp_path / f"{number}.npy", array)
        np.testing.assert_array_equal(arrays.load(tmp_path / f"{number}.npy"), array)


def header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


NPY_BAD = {
    "objects": header("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}\n") + pickle.dumps([1]),
    "absurd size": header("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 3)}\n") + bytes(12),
    "negative": header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 3)}\n"),
    "code": header("__import__('os').system('touch escaped')\n"),
    "deep": header("(" * 9000 + "\n"),
    "cut short": header("{'descr': '<f4', 'fortran_order': False, 'shape': (4, 3)}\n") + bytes(40),
    "no npy": b"PK\x03\x04 this is a zip",
    "nothing": b"",
}


@pytest.mark.parametrize("name", NPY_BAD)
def test_a_bad_npy_file_is_named(name: str, tmp_path: Path):
    (tmp_path / "bad.npy").write_bytes(NPY_BAD[name])
    with pytest.raises(Problem, match=r"bad\.npy"):
        arrays.load(tmp_path / "bad.npy")


def test_tables_with_commas_and_with_blanks_are_read(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(b"1,2,3,0.5\r\n4,5,6,0.25\r\n")
    (tmp_path / "b.txt").write_bytes(b"1 2 3  0.5\n4 5 6 2.5e-1")
    for name in ("a.txt", "b.txt"):
        assert texts.table(tmp_path / name, 4).tolist() == [[1, 2, 3, 0.5], [4, 5, 6, 0.25]]


@pytest.mark.parametrize(
    "content", [b"", b"1 2\n", b"a b c d\n", b"1 2 3 4\n1 2\n", b"\xff\xfe\x00", b"1,2,3,4\n1 2 3 4\n"]
)
def test_a_bad_table_is_named(content: bytes, tmp_path: Path):
    (tmp_path / "bad.txt").write_bytes(content)
    with pytest.raises(Problem, match=r"bad\.txt"):
        texts.table(tmp_path / "bad.txt", 4)


@pytest.mark.parametrize("content", ["{}", "[1]", "[", '"x"', "[" * 100_000])
def test_a_bad_json_list_is_named(content: str, tmp_path: Path):
    (tmp_path / "bad.json").write_text(content)
    with pytest.raises(Problem, match=r"bad\.json"):
        texts.json_list(tmp_path / "bad.json")


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x", "a\\..\\x", "C:x", ""])
def test_a_listed_name_cannot_leave_the_folder(name: str, tmp_path: Path):
    with pytest.raises(Problem, match=r"list\.txt"):
        texts.inside(tmp_path, name, tmp_path / "list.txt")


# ---- archives


def zip_of(*members: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", method) as file:
        for name, data in members:
            file.writestr(name, data)
    return memory.getvalue()


def tar_of(*members: tuple[tarfile.TarInfo | str, bytes], mode: str = "w") -> bytes:
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode=mode) as file:  # type: ignore[call-overload]
        for given, data in members:
            info = tarfile.TarInfo(given) if isinstance(given, str) else given
            info.size = len(data) if info.isreg() else 0
            file.addfile(info, io.BytesIO(data))
    return memory.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def symlink_in_zip() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("link")
    info.external_attr = 0o120777 << 16
    return info


def encrypted() -> bytes:
    data = bytearray(zip_of(("a.txt", b"text")))
    data[6] |= 1
    at = data.index(b"PK\x01\x02")
    data[at + 8] |= 1
    return bytes(data)


@pytest.mark.parametrize("mode", ["zip", "w", "w:gz", "w:bz2", "w:xz"])
def test_an_archive_is_unpacked(mode: str, tmp_path: Path):
    members = (("a/b.txt", b"one"), ("c.txt", b"two"), ("__MACOSX/x", b"junk"))
    (tmp_path / "archive").write_bytes(zip_of(*members) if mode == "zip" else tar_of(*members, mode=mode))
    done = archives.unpack(tmp_path / "archive", tmp_path / "out")
    assert (done.files, done.bytes) == (2, 6)
    assert (tmp_path / "out/a/b.txt").read_bytes() == b"one"
    assert sorted(p.name for p in (tmp_path / "out").rglob("*")) == ["a", "b.txt", "c.txt"]


def test_only_what_is_needed_is_unpacked(tmp_path: Path):
    (tmp_path / "a.zip").write_bytes(zip_of(("x/a.h5", b"1"), ("x/b.h5", b"2"), ("../../bad", b"3")))
    archives.unpack(tmp_path / "a.zip", tmp_path / "out", ("*a.h5",))
    assert [p.name for p in (tmp_path / "out").rglob("*.*")] == ["a.h5"]


UNSAFE = {
    "zip slip": zip_of(("good", b"1"), ("../escaped", b"2")),
    "zip, absolute": zip_of(("/tmp/escaped", b"2")),
    "zip, backslash": zip_of(("..\\escaped", b"2")),
    "zip, drive": zip_of(("C:escaped", b"2")),
    "zip, deep": zip_of(("a/b/../../../escaped", b"2")),
    "zip, a link": zip_of((symlink_in_zip(), b"/etc/passwd")),
    "zip, encrypted": encrypted(),
    "zip bomb": zip_of(("zeros", bytes(3_000_000))),
    "zip, truncated": zip_of(("a", bytes(range(256)) * 9))[:-40],
    "tar slip": tar_of(("../escaped", b"2")),
    "tar, absolute": tar_of(("/tmp/escaped", b"2")),
    "tar, a link": tar_of((special("link", tarfile.SYMTYPE, "/tmp"), b""), ("link/escaped", b"2")),
    "tar, a hard link": tar_of((special("link", tarfile.LNKTYPE, "/etc/passwd"), b"")),
    "tar, a device": tar_of((special("device", tarfile.CHRTYPE), b"")),
    "tar, a pipe": tar_of((special("pipe", tarfile.FIFOTYPE), b"")),
    "tar bomb": tar_of(("zeros", bytes(3_000_000)), mode="w:gz"),
    "tar, twice": tar_of(("a", b"1"), ("A", b"2")),
    "gzip that is no tar": gzip.compress(b"no tar"),
    "no archive": b"nothing of the kind",
    "nothing": b"",
}


@pytest.mark.parametrize("name", UNSAFE)
def test_an_unsafe_archive_writes_nothing(name: str, tmp_path: Path):
    (tmp_path / "bad.archive").write_bytes(UNSAFE[name])
    out = tmp_path / "in" / "out"
    out.mkdir(parents=True)
    (out / "old").write_text("stays")
    with pytest.raises(Problem, match=r"bad\.archive"):
        archives.unpack(tmp_path / "bad.archive", out, limit=1_000_000)
    assert [p.name for p in out.rglob("*")] == ["old"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.archive", "in"]


def test_a_member_that_unpacks_to_more_than_it_declares_is_refused(tmp_path: Path):
    data = bytearray(zip_of(("zeros", bytes(1_000_000))))
    at = data.index(b"PK\x01\x02")
    data[at + 24 : at + 28] = struct.pack("<I", 10)  # the directory says ten bytes
    (tmp_path / "bad.zip").write_bytes(data)
    with pytest.raises(Problem, match=r"bad\.zip"):
        archives.unpack(tmp_path / "bad.zip", tmp_path / "out", limit=1000)


# ---- every format, mutated


KINDS: dict[str, tuple[str, str | None, dict[str, Any]]] = {  # name: plugin, forged layout, entry
    "shapenet55": ("shapenet55", None, {}),
    "modelnet hdf5": ("modelnet40", "hdf5", {}),
    "modelnet dat": ("modelnet40", "dat", {"points": 64}),
    "modelnet txt": ("modelnet40", "txt", {"points": 64}),
    "modelnet off": ("modelnet40", "off", {"points": 64}),
    "scanobjectnn": ("scanobjectnn", None, {"variant": "obj_bg"}),
    "shapenetpart": ("shapenetpart", None, {"points": 64}),
    "shapenetpart hdf5": ("shapenetpart", "hdf5", {"points": 64}),
    "fewshot": ("fewshot", None, {"fold": 0, "points": 64}),
}


def forged(name: str, folder: Path) -> tuple[Any, Any]:
    kind, layout, entry = KINDS[name]
    module = plugins.find(datasets, kind)
    module.forge(folder, *([layout] if layout else []))
    return module, plugin_config(datasets, {"kind": kind, **entry}, "entry", "params.yaml")


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """Truncated, bits flipped, bytes repeated, a run replaced, numbers made huge, or everything replaced."""
    way = rng.integers(7)
    mutable = bytearray(data)
    at = int(rng.integers(max(1, len(data))))
    if way == 0:
        return data[:at]
    if way == 1:
        for position in rng.integers(max(1, len(data)), size=int(rng.integers(1, 40))):
            mutable[position] ^= 1 << int(rng.integers(8))
    elif way == 2:  # the first kilobyte: where formats declare what follows
        for position in rng.integers(min(1024, len(data)), size=int(rng.integers(1, 8))):
            mutable[position] = int(rng.integers(256))
    elif way == 3:
        mutable[at : at + 8] = b"\xff" * 8
    elif way == 4:
        mutable[at : at + int(rng.integers(1, 4096))] = b""
    elif way == 5:
        mutable[at:at] = mutable[at : at + int(rng.integers(1, 4096))]
    else:
        return rng.bytes(int(rng.integers(0, 3000)))
    return bytes(mutable)


def outcome(module: Any, config: Any, raw: Path) -> str:
    """Read everything: right shapes, shapes set aside, or one Problem; anything else is an error of ours."""
    try:
        for shape in module.read(raw, config):
            if isinstance(shape, SetAside):
                assert shape.why
                continue
            assert isinstance(shape, Shape)
            assert shape.points.dtype == np.float32
            assert shape.points.ndim == 2
            assert shape.points.shape[1] == 3
            assert np.isfinite(shape.points).all()
            assert shape.label < 55
    except Problem as problem:
        assert str(raw) in problem.what, str(problem)  # noqa: PT017
        return "problem"
    return "read"


def fuzz(name: str, rounds: int, tmp_path: Path) -> dict[str, int]:
    raw = tmp_path / "raw"
    module, config = forged(name, raw)
    files = sorted(path for path in raw.rglob("*") if path.is_file())
    if name == "scanobjectnn":
        files = [path for path in files if path.name.endswith("objectdataset.h5") and path.parent.name == "main_split"]
    if name == "fewshot":
        files = [path for path in files if path.name == "0.pkl"]
    rng = np.random.default_rng(sum(map(ord, name)))
    found = {"problem": 0, "read": 0}
    before = sorted(raw.rglob("*"))
    for number in range(rounds):
        path = files[number % len(files)]
        original = path.read_bytes()
        path.write_bytes(mutate(original, rng))
        start = time.process_time()
        found[outcome(module, config, raw)] += 1
        assert time.process_time() - start < 10
        path.write_bytes(original)
    assert before == sorted(raw.rglob("*"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["raw"]
    return found


@pytest.fixture
def _one_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("JEPA3D_THREADS", "1")
    before = peak()
    yield
    assert peak() - before < 1.5e9


@pytest.mark.usefixtures("_one_process")
@pytest.mark.parametrize("name", KINDS)
def test_a_mutated_file_ends_in_a_problem_or_a_right_read(name: str, tmp_path: Path):
    found = fuzz(name, 24, tmp_path)
    assert sum(found.values()) == 24


@pytest.mark.slow
@pytest.mark.usefixtures("_one_process")
@pytest.mark.parametrize("name", KINDS)
def test_many_mutated_files_end_in_a_problem_or_a_right_read(name: str, tmp_path: Path):
    found = fuzz(name, 150, tmp_path)
    assert found["problem"] + found["read"] == 150


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_mutated_archives_write_nothing_outside(kind: str, tmp_path: Path):
    members = tuple((f"folder/{k}.txt", bytes(range(256)) * k) for k in range(1, 6))
    whole = zip_of(*members) if kind == "zip" else tar_of(*members, mode="w:gz")
    rng = np.random.default_rng(len(kind))
    for _ in range(150):
        (tmp_path / "a.archive").write_bytes(mutate(whole, rng))
        try:
            archives.unpack(tmp_path / "a.archive", tmp_path / "in" / "out", limit=10_000_000)
        except Problem as problem:
            assert "a.archive" in problem.what  # noqa: PT017
        assert sorted(p.name for p in tmp_path.iterdir()) == ["a.archive", "in"]
        assert sorted(p.name for p in (tmp_path / "in").iterdir()) == ["out"]
