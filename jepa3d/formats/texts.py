"""Foreign text files: lists, JSON and tables of numbers, with a limit on the size of each."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from jepa3d.problem import Problem

LARGEST = 64 << 20


def text(path: Path, mend: str = "see docs/datasets.md for how to get it") -> str:
    """The UTF-8 text of a small file, without a byte-order mark."""
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise ValueError(f"{size:,} bytes; a text of this kind has at most {LARGEST:,}")
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise Problem(f"{path}: no such file", "the data set's layout has it", mend) from None
    except (OSError, ValueError) as error:
        raise Problem(f"{path}: cannot be read as text", str(error)[:200], "get the file again") from None


def lines(path: Path, mend: str = "see docs/datasets.md for how to get it") -> list[str]:
    """The lines that are not empty, stripped (both kinds of line end)."""
    found = [line.strip() for line in text(path, mend).splitlines()]
    return [line for line in found if line]


def json_lists(path: Path) -> dict[str, list[str]]:
    """A JSON object with lists of text."""
    found = _json(path)
    if not (isinstance(found, dict) and all(_is_list(value) for value in found.values())):
        raise Problem(f"{path}: not a JSON object with lists of text", "it has a list for each split", "correct it")
    return found


def _is_list(found: Any) -> bool:
    return isinstance(found, list) and all(isinstance(item, str) for item in found)


def _json(path: Path) -> Any:
    try:
        return json.loads(text(path))
    except (ValueError, RecursionError) as error:
        raise Problem(f"{path}: not valid JSON", str(error)[:200], "get the file again") from None


def json_list(path: Path) -> list[str]:
    """A JSON list of text."""
    found: Any = _json(path)
    if not _is_list(found):
        raise Problem(f"{path}: not a JSON list of text", "it is a list of names, one a shape", "get the file again")
    return list(found)


def table(
    path: Path, columns: int, widths: tuple[int, ...] = (), rows: int | None = None
) -> Float32[np.ndarray, "P columns"]:
    """A table of numbers, separated by commas or blanks, `widths` of them in a line; the first `columns` of each.

    A Problem for any other width (fewer than `columns`, where none is given), for another number of lines than `rows`,
    and for a last line that is cut off.
    """
    content = text(path)
    comma = "," in content[:4096]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            table = np.loadtxt(content.splitlines(), np.float32, None, delimiter="," if comma else None, ndmin=2)
        if not (table.shape[1] in widths if widths else table.shape[1] >= columns) or not len(table):
            wanted = " or ".join(map(str, widths)) or columns
            raise ValueError(f"{table.shape[0]} rows of {table.shape[1]} numbers, expected {wanted} a row")
        if rows not in (None, len(table)):
            raise ValueError(f"{len(table):,} lines, expected {rows:,}: it is cut off, or of another version")
        if is_cut(content):
            raise ValueError("its last line is cut off")
    except (ValueError, OverflowError, IndexError) as error:
        raise Problem(f"{path}: not a table of numbers", str(error)[:200], "get the file again") from None
    return table[:, :columns]


def is_cut(content: str) -> bool:
    """Whether a table of numbers with a fixed number of decimals breaks off within its last number."""
    if content.endswith(("\n", "\r")):
        return False
    decimals = [len(line.rpartition(".")[2]) for line in content[-4096:].splitlines()[1:] if "." in line]
    return len(set(decimals[:-1])) == 1 and decimals[-1] < decimals[0]


def inside(folder: Path, name: str, listed_in: Path) -> Path:
    """`folder / name` for a name out of a list; one that leaves the folder is a Problem."""
    last_of(name, listed_in)
    return folder / name


def last_of(name: str, listed_in: Path) -> str:
    """The last step of the same name."""
    parts = name.replace("\\", "/").split("/")
    if name.startswith("/") or ".." in parts or ":" in name or "\0" in name or not name:
        raise Problem(f"{listed_in}: {name[:80]!r} leads out of the folder", "names stay inside", "get the file again")
    return parts[-1]
