"""ALL file I/O of our own formats: HDF5, safetensors, JSON and JSON lines. Atomic, and stamped with provenance.

A file that exists is finished: everything is written to a temporary neighbour, flushed to the disk and renamed. A
writer that is given the stamp of what it writes leaves a record beside it (`records`); other files have none.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from jepa3d import __version__
from jepa3d.layout import made_by
from jepa3d.problem import Problem
from jepa3d.results import heaps, records

CHUNK = 1 << 20
H5PYS = r"(?i)\b(unable|can't) "  # h5py's words for what it could not read or write
Stamp = Mapping[str, Any]  # what `stamp` says of an output


@contextlib.contextmanager
def replacing(path: Path, stamp: Stamp | None = None, draft: bool = False) -> Iterator[Path]:
    """A temporary neighbour that takes `path`'s place when the block ends well, and vanishes when it does not.

    With the stamp of an output its record is written too. A draft is not flushed: it is moved to its place later,
    through this same function.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise unwritable(path, error) from error
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        if not draft:
            with ThreadPoolExecutor(1) as thread:  # the disk is busy while the bytes are hashed
                flushed = thread.submit(_sync, temporary)
                record = records.of(path, temporary, stamp)
                flushed.result()
            records.note(path, record)
        temporary.replace(path)
        with contextlib.suppress(OSError):  # not every file system can, with a folder
            _sync(path.parent)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def unwritable(path: Path, error: OSError) -> Problem:
    """The Problem for a full disk, a missing permission or a quota: nothing half-written is left."""
    mend = {
        errno.ENOSPC: "free some space, or choose another folder with --results",
        errno.EDQUOT: "your quota is used up: free some space, or choose another folder with --results",
        errno.EACCES: "get write permission, or choose another folder with --results",
        errno.EROFS: "the file system is read-only: choose another folder with --results",
    }.get(error.errno or 0, "nothing half-written was left; mend the cause and give the same command again")
    return Problem(f"{path}: cannot be written", error.strerror or str(error), mend)


def sha256(path: Path) -> str:
    """The hash of a file's bytes, in hex."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(CHUNK):
                digest.update(block)
    except OSError as error:
        raise unreadable(path, error) from None
    return digest.hexdigest()


@cache
def code_hash() -> str:
    """A hash over the package's own sources: which code made a file."""
    digest = hashlib.sha256()
    root = Path(__file__).parents[1]
    for source in sorted(root.rglob("*.py")):
        if source.name.startswith(".") or not source.is_file():  # an editor's, of a file that is not saved yet
            continue
        digest.update(str(source.relative_to(root)).encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()[:16]


def recorded(path: Path) -> str:
    """The hash of an output's bytes by its record, where that fits its size: for files too large to be read often."""
    record = records.read(path)
    if record is not None and path.exists() and record["bytes"] == path.stat().st_size:
        return str(record["sha256"])
    return sha256(path)


def whole(path: Path) -> str:
    """The hash of an input's bytes. A Problem where they are others than those that were recorded."""
    digest, record = sha256(path), records.read(path)
    if record is not None and record["sha256"] != digest:
        raise damaged(path, f"its bytes have changed since {record['made']['at']}")
    return digest


def stamp(
    verb: str, settings: Mapping[str, Any], inputs: Sequence[Path] = (), hashed: Callable[[Path], str] | None = None
) -> dict[str, Any]:
    """Where a file comes from: the verb, its slice of params.yaml, the code, and the hash of each input.

    No time and no machine, which stand in the output's record: the same inputs give the same bytes.
    """
    return {
        "verb": verb,
        "settings": dict(settings),
        "jepa3d": __version__,
        "code": code_hash(),
        "inputs": {str(path): (hashed or whole)(path) for path in inputs},
    }


def write_json(path: Path, data: Any, stamp: Stamp | None = None) -> None:
    with replacing(path, stamp) as temporary:
        temporary.write_text(json.dumps(data, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """The content of one of our JSON files; a Problem when it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
    except (OSError, ValueError, RecursionError) as error:
        raise unreadable(path, error) from None


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number of a JSON file")


def append_jsonl(path: Path, row: Mapping[str, Any]) -> None:
    """One more line of a curve. Each line is written by one call, so a killed writer leaves whole lines."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write((json.dumps(row) + "\n").encode())
    except OSError as error:
        raise unwritable(path, error) from error


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The rows of a file that is still written: lines that a kill or a power cut damaged are passed over."""
    rows = []
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    except OSError as error:
        raise unreadable(path, error) from None
    for line in lines:
        with contextlib.suppress(ValueError, RecursionError):
            if line.endswith("\n") and isinstance(row := json.loads(line), dict):
                rows.append(row)
    return rows


def read_lines(path: Path) -> list[Any]:
    """The rows of a file that is finished; a Problem for any line that is damaged."""
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError, RecursionError) as error:
        raise unreadable(path, error) from None


def write_jsonl(path: Path, rows: Sequence[Mapping[str, Any]], stamp: Stamp | None = None) -> None:
    with replacing(path, stamp) as temporary:
        temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_text(path: Path, text: str, stamp: Stamp | None = None) -> None:
    with replacing(path, stamp) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: Path, data: bytes, stamp: Stamp | None = None) -> None:
    with replacing(path, stamp) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def create_h5(path: Path, stamp: Stamp, draft: bool = False) -> Iterator[h5py.File]:
    """A new HDF5 file, published when the block ends well."""
    with replacing(path, stamp, draft) as temporary:
        try:
            with h5py.File(temporary, "w") as file:
                file.attrs["provenance"] = json.dumps(stamp, sort_keys=True)
                yield file
        except (RuntimeError, ValueError) as error:
            if not re.search(H5PYS, str(error)):
                raise
            cause = error.__cause__ or error.__context__
            raise unwritable(path, cause if isinstance(cause, OSError) else OSError(0, str(error))) from error


def write_h5(path: Path, arrays: Mapping[str, Any], stamp: Stamp, **attrs: Any) -> None:
    """Whole arrays, contiguous and uncompressed (chunked reads are a hundred times slower). Lists of text are kept
    as UTF-8 datasets; `attrs` are JSON."""
    with create_h5(path, stamp) as file:
        for key, value in attrs.items():
            file.attrs[key] = json.dumps(value)
        for name, value in arrays.items():
            put(file, name, value)


def begin_flush(dataset: h5py.Dataset, start: int, end: int) -> None:
    """Let the system begin to write these rows of a contiguous dataset to the disk, without waiting for it: the flush
    before the file is published then has little left to do. Where the system has no such call, it does it all."""
    offset = dataset.id.get_offset()
    if offset is not None and hasattr(os, "posix_fadvise"):
        row = dataset.nbytes // len(dataset)
        with open(dataset.file.filename, "rb") as file:  # noqa: PTH123 (h5py gives text)
            os.posix_fadvise(file.fileno(), offset + start * row, (end - start) * row, os.POSIX_FADV_DONTNEED)


def put(file: h5py.File, name: str, value: Any) -> None:
    """One dataset of an open file; arrays and lists of text become variable-length UTF-8."""
    array = np.asarray(value)
    if array.dtype.kind in "US":
        file.create_dataset(name, data=array.astype(object), dtype=h5py.string_dtype())
    else:
        file.create_dataset(name, data=array)


@contextlib.contextmanager
def open_h5(path: Path) -> Iterator[h5py.File]:
    """One of our HDF5 files, read-only and without locks (read-only mounts refuse them)."""
    try:
        file = h5py.File(path, "r", locking=False)
    except OSError as error:
        raise unreadable(path, error) from None
    try:
        with file:
            heaps.check(file)
            for name in attributes(file).get("shards", []):  # HDF5 gives zeros in the place of one that is missing
                if not (path.parent / name).exists():
                    raise unreadable(path.parent / name, FileNotFoundError())
            yield file
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        if not (isinstance(error, heaps.Damaged) or re.search(H5PYS, str(error))):
            raise
        raise damaged(path, str(error)) from None


def join_h5(path: Path, shards: Sequence[Path], stamp: Stamp) -> None:
    """A file that has the arrays of several files one after the other, without a copy: it refers to them, by paths
    relative to its own, and is read like any other."""
    names = [str(shard.relative_to(path.parent)) for shard in shards]
    sizes: dict[str, list[tuple[int, ...]]] = {}
    types: dict[str, Any] = {}
    for shard in shards:
        with open_h5(shard) as file:
            for name, data in file.items():
                sizes.setdefault(name, []).append(data.shape)
                types[name] = data.dtype
    with create_h5(path, stamp) as file:
        file.attrs["shards"] = json.dumps(names)
        for name, shapes in sizes.items():
            total = (sum(shape[0] for shape in shapes), *shapes[0][1:])
            how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            how.set_obj_track_times(False)  # h5py's own call for this notes the time, and no two files are the same
            start = 0
            for shard_name, shape in zip(names, shapes, strict=True):
                part = h5py.h5s.create_simple(total)
                part.select_hyperslab((start, *(0 for _ in shape[1:])), shape)
                how.set_virtual(part, shard_name.encode(), name.encode(), h5py.h5s.create_simple(shape))
                start += shape[0]
            kind = h5py.h5t.py_create(np.dtype(types[name]), logical=True)
            h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create_simple(total), dcpl=how)


def text(dataset: Any, start: int = 0, stop: int | None = None) -> np.ndarray[Any, Any]:
    """A dataset of UTF-8, or some rows of it, as an array of str."""
    try:
        return np.asarray(dataset.asstr()[start:stop], dtype=str)
    except UnicodeDecodeError as error:
        raise damaged(Path(dataset.file.filename), f"'{dataset.name[1:]}': {error}") from None


def attributes(file: h5py.File) -> dict[str, Any]:
    try:
        return {key: json.loads(value) for key, value in file.attrs.items()}
    except (OSError, RuntimeError, ValueError, TypeError, KeyError) as error:  # RecursionError is a RuntimeError
        raise damaged(Path(file.filename), f"its attributes: {error}") from None


def provenance(path: Path) -> dict[str, Any]:
    """The stamp of any of our files."""
    if path.suffix == ".h5":
        with open_h5(path) as file:
            found: dict[str, Any] = json.loads(file.attrs["provenance"])
    elif path.suffix == ".safetensors":
        found = read_tensors(path)[1]["provenance"]
    else:
        found = read_json(path)["provenance"]
    return found


def write_tensors(
    path: Path, tensors: Mapping[str, Any], metadata: Mapping[str, Any], stamp: Stamp | None = None
) -> None:
    """Weights as safetensors. The metadata is one entry of JSON: several have no fixed order, and so no fixed bytes."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path, stamp) as temporary:
        try:
            save_file(plain, temporary, metadata={"jepa3d": json.dumps(metadata, sort_keys=True)})
        except SafetensorError as error:  # only its text says what the system refused
            number = re.search(r"os error (\d+)", str(error))
            raise OSError(int(number[1]), os.strerror(int(number[1]))) if number else error from None


def read_tensors(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Weights and our metadata ({} in a foreign file) of a safetensors file; a Problem for anything that is not one."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = json.loads((file.metadata() or {}).get("jepa3d", "{}"))
            if not isinstance(metadata, dict):
                raise ValueError("its description is no mapping")
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise unreadable(path, error) from None


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """A training state (tensors, numbers, text), atomically."""
    import torch

    with replacing(path) as temporary:
        try:
            with temporary.open("wb") as file:
                torch.save(dict(state), file)
        except RuntimeError as error:  # torch's own words, while it closes what could not be written
            raise error.__context__ if isinstance(error.__context__, OSError) else error from None


def load_state(path: Path) -> dict[str, Any]:
    """A training state, read without running any code from the file."""
    import torch

    try:
        with zipfile.ZipFile(path) as archive:
            if (name := archive.testzip()) is not None:
                raise ValueError(f"the bytes of {name} have changed")
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise ValueError("it has no names")
    except Exception as error:  # zipfile and torch raise many kinds for a damaged file
        raise unreadable(path, error) from None
    return state


def unreadable(
    path: Path, error: Exception, mend: str = "remove it and give the command again: it will be remade"
) -> Problem:
    if isinstance(error, FileNotFoundError) or not path.exists():
        command = made_by(path)
        return Problem(
            f"{path}: no such file",
            "an earlier stage writes it" if command else "",
            f"run '{command}', or 'snakemake --cores all all'" if command else "look for a slip in the path",
        )
    why = " ".join(str(error).split())[:300] or type(error).__name__
    return Problem(f"{path}: cannot be read", why, mend)


def damaged(path: Path, what: str) -> Problem:
    """The Problem for a file of ours that does not have what it was written with."""
    command = made_by(path)
    why = f"made by: {command}" if command else "it lies where no command of jepa3d writes"
    mend = "remove it and run that command again, or get a recorded one back: 'dvc checkout --force'"
    return Problem(f"{path}: damaged: {' '.join(what.split())[:300]}", why, mend if command else "get it again")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
