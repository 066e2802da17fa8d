"""Clouds as text, as .pcd and as arrays: what is unambiguous is read, the rest is refused with the line.

Each input is written by the test from points that it knows; most values have several digits and both signs.
"""

from __future__ import annotations

import io
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from jepa3d.formats import clouds, numbers_in_text, pcd, tables, xyz
from jepa3d.formats.refusal import NotReadError
from jepa3d.problem import Problem

POINTS = np.round(np.random.default_rng(5).normal(0, 2, (40, 3)), 4)


def lines(
    separator: str = " ", number: Callable[[float], str] = "{:.4f}".format, points: NDArray[Any] = POINTS, end: str = ""
) -> str:
    return "".join(separator.join(map(number, row)) + end + "\n" for row in points.tolist())


def comma(value: float) -> str:
    return f"{value:.4f}".replace(".", ",")


READ = {
    "blanks": lines(),
    "aligned blanks": lines("   "),
    "tabs": lines("\t"),
    "commas": lines(","),
    "commas and blanks": lines(", "),
    "semicolons": lines(";"),
    "semicolons and blanks": lines(" ; "),
    "a comma at the end of every line": lines(",", end=","),
    "decimal comma, blanks": lines(" ", comma),
    "decimal comma, tabs": lines("\t", comma),
    "decimal comma, semicolons": lines(";", comma),
    "decimal comma, semicolons, at the end too": lines(";", comma, end=";"),
    "decimal comma, semicolons and blanks": lines("; ", comma),
    "decimal comma, exponents": lines(" ", lambda value: f"{value:.12e}".replace(".", ",")),
    "decimal comma, a count": "40\n" + lines(" ", comma),
    "Windows": lines().replace("\n", "\r\n"),
    "old Macintosh": lines().replace("\n", "\r"),
    "byte-order mark": "\ufeff" + lines(),
    "end mark of DOS": lines() + "\x1a",
    "comments": "# made by hand\n" + lines(end=" # a point"),
    "comments of CloudCompare": "//X Y Z\n40\n" + lines(),
    "a first line of names": "x y z\n" + lines(),
    "a first line of names, commas": "X,Y,Z\n" + lines(","),
    "blank lines": "\n\n" + lines().replace("\n", "\n\n"),
    "capital exponents": lines(" ", "{:+.6E}".format),
    "a count": "40\n" + lines(),
    "two scans": "15\n" + lines(points=POINTS[:15]) + "25\n" + lines(points=POINTS[15:]),
    "three scans, one of them empty": "15\n" + lines(points=POINTS[:15]) + "0\n25\n" + lines(points=POINTS[15:]),
    "whole numbers beside": lines(end=" 12 255 0 0"),
    "names in another order": "# id z x y\n"
    + "".join(f"{n} {z} {x} {y}\n" for n, (x, y, z) in enumerate(POINTS.tolist())),
    "names in another order, commas": "label,z,y,x\n" + "".join(f"3,{z},{y},{x}\n" for x, y, z in POINTS.tolist()),
}


@pytest.mark.parametrize("name", READ)
def test_text_that_can_be_read_in_one_way_is_read(name: str) -> None:
    np.testing.assert_array_equal(xyz.points(READ[name].encode())[:, :3], POINTS)


def test_whole_numbers_between_commas_are_three_columns() -> None:
    assert xyz.points(b"1,2,3\n100,200,300\n").tolist() == [[1, 2, 3], [100, 200, 300]]


GOOD = lines()
REFUSED = {
    "grouped thousands, blanks": ("1,234.50 2,345.60 3,456.70\n1,234.51 2,345.60 3,456.70\n", "line 1.*comma"),
    "grouped thousands, commas": ("1,234.50,2,345.60,3,456.70\n" * 3, "line 1.*thousands"),
    "grouped thousands, semicolons": ("1,234.50;2,345.60;3,456.70\n", "line 1.*comma"),
    "grouped thousands, German": ("1.234,50 2.345,60 3.456,70\n", "line 1.*comma"),
    "three digits after every comma": ("1,234 5,678 9,012\n2,345 6,789 1,234\n", "line 1.*thousands"),
    "points and commas": ("1,5 2,5 3,5\n1.5 2,5 3,5\n", "line 2.*comma"),
    "commas and blanks at will": ("1.5,2.5,3.5\n1.5,2.5 3.5\n", "line 2.*blanks and by ','"),
    "semicolons and blanks at will": ("1.5;2.5;3.5\n1.5;2.5 3.5\n", "line 2.*blanks and by ';'"),
    "an empty cell": ("1.5,2.5,3.5,4\n1.5,,3.5,4\n", "line 2.*empty cell"),
    "an empty cell in every line": ("1.5,,3.5,4\n" * 3, "line 1.*empty cell"),
    "an empty first cell": (",1.5,3.5,4\n" * 3, "line 1.*empty cell"),
    "an empty cell between semicolons": ("1,5;;3,5;4\n" * 3, "line 1.*empty cell"),
    "an empty cell between tabs": ("1.5\t2.5\t3.5\t4\n1.5\t\t3.5\t4\n", "line 2.*empty cell"),
    "an empty cell between tabs, decimal commas": ("1,5\t\t3,5\t4\n" * 3, "line 1.*empty cell"),
    "an empty first cell before tabs": ("\t1.5\t3.5\t4\n" * 3, "line 1.*empty cell"),
    "an empty cell of blanks": ("1.5, ,3.5,4\n" * 3, "line 1.*empty cell"),
    "a comma at the end of some lines": ("1.5,2.5,3.5,\n1.5,2.5,3.5\n", "line 1.*empty cell"),
    "two commas in a number": ("1,5 2,55,5 3,5\n", "line 1.*comma"),
    "a comma before a number": ("1,5 ,5 3,5\n", "line 1.*comma"),
    "an empty last cell": ("1.5,2.5,3.5\n1.5,2.5,\n", "line 2.*empty cell"),
    "not a number of Windows": (GOOD + "1 2 -1.#IND\n", "line 41: '1 2 -1.#IND' has .* not finite"),
    "not a number of Windows, in the middle": (GOOD + "1 1.#QNAN 3\n" + GOOD, "line 41.*not finite"),
    "infinity of Windows": (GOOD + "1 -1.#INF 3\n", "line 41.*not finite"),
    "nan": (GOOD + "1 nan 3\n", "line 41.*not finite"),
    "too large": (GOOD + "1 1e400 3\n", "not finite"),
    "a short line": (GOOD + "1 2\n" + GOOD, "line 41"),
    "a long line": (GOOD + "1 2 3 4\n" + GOOD, "line 41"),
    "a word": (GOOD + "1 2 three\n", "line 41: 'three'"),
    "two numbers in one": (GOOD + "1 2 3.5.7\n", "line 41: '3.5.7'"),
    "a byte in a number": (GOOD + "1 2 3\x005\n", "line 41"),
    "a byte instead of a blank": (GOOD + "1 2\x043\n", "line 41"),
    "hexadecimal": (GOOD + "1 2 0x10\n", "line 41: '0x10'"),
    "an underscore": (GOOD + "1 2 1_0\n", "line 41: '1_0'"),
    "Fortran's exponent": (GOOD + "1 2 1.5D3\n", "line 41: '1.5D3'"),
    "too few points": ("41\n" + GOOD, "line 1 announces 41 points, 40 follow"),
    "too many points": ("39\n" + GOOD, "line 1 announces 39 points, 40 follow"),
    "a second scan that is cut": ("40\n" + GOOD + "40\n" + GOOD[:100], "line 4[67]"),
    "two columns": ("1.5 2.5\n" * 5, "2 numbers"),
    "names that do not fit": ("x y z label\n" + GOOD, "names 4 columns, 3 follow"),
    "comments alone": ("# 1 2 3\n// 4 5 6\n", "no point"),
    "a count alone": ("0\n", "no point"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_text_with_a_doubt_is_refused_with_the_line(name: str) -> None:
    text, why = REFUSED[name]
    with pytest.raises(ValueError, match=why):
        xyz.points(text.encode())


def test_text_of_sixteen_bits_a_letter_is_named() -> None:
    with pytest.raises(NotReadError, match="UTF-16"):
        xyz.points(GOOD.encode("utf-16"))


def test_a_refusal_of_text_names_file_line_and_mend(tmp_path: Path) -> None:
    path = tmp_path / "a.xyz"
    path.write_text("1,5 2.5 3,5\n")
    with pytest.raises(Problem) as caught:
        clouds.read(path)
    assert caught.value.what.startswith(f"{path}: ")
    assert caught.value.why.startswith("line 1: ")
    assert "decimal points" in caught.value.mend


def test_rows_are_counted_over_blocks_as_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "".join(f"{n} " * (n % 5) + "\n" for n in range(200)).encode()
    whole = numbers_in_text.rows(text, 7)
    monkeypatch.setattr(numbers_in_text, "BLOCK", 64)
    for one, other in zip(whole[:3], numbers_in_text.rows(text, 7)[:3], strict=True):
        assert one.tolist() == other.tolist()
    assert whole.lines[0] == 8
    assert whole.counts.tolist() == [n % 5 for n in range(200) if n % 5]
    with pytest.raises(ValueError, match=r"line 206: 'x' is no number"):
        numbers_in_text.rows(text[:-9] + b"x\n", 7)


# -------------------------------------------------------------------------------------------------------- .pcd


def header(fields: str, size: str, kind: str, count: str, number: int, data: str, more: str = "") -> bytes:
    fields = f"VERSION .7\nFIELDS {fields}\nSIZE {size}\nTYPE {kind}\nCOUNT {count}\n"
    return f"{fields}{more}POINTS {number}\nDATA {data}\n".encode()


def packed(raw: bytes) -> bytes:
    """LZF without repetitions."""
    runs = [raw[start : start + 32] for start in range(0, len(raw), 32)]
    body = b"".join(bytes([len(run) - 1]) + run for run in runs)
    return struct.pack("<II", len(body), len(raw)) + body


def pcd_files() -> dict[str, tuple[bytes, int]]:
    """Files of POINTS in float32, and how many of their rows are no measurements."""
    exact = POINTS.astype("<f4")
    holes = np.insert(exact, [0, 3, 3, 40], np.nan, axis=0)
    text = "".join(f"{x!r} {y!r} {z!r}\n" for x, y, z in exact.tolist())
    wide = np.zeros(40, [("t", "<u2"), ("z", "<f4"), ("_", "u1", (3,)), ("y", "<f8"), ("x", "<f4")])
    wide["x"], wide["y"], wide["z"] = exact.T
    image = "WIDTH 11\nHEIGHT 4\n"
    one = "x y z", "4 4 4", "F F F", "1 1 1"
    return {
        "ascii": (header(*one, 40, "ascii") + text.encode(), 0),
        "binary": (header(*one, 40, "binary") + exact.tobytes(), 0),
        "padded": (header(*one, 40, "binary") + exact.tobytes() + b"\0" * 7, 0),
        "compressed": (header(*one, 40, "binary_compressed") + packed(exact.T.tobytes()), 0),
        "capital names": (header("X Y Z", *one[1:], 40, "binary") + exact.tobytes(), 0),
        "an image with holes": (header(*one, 44, "binary", image) + holes.tobytes(), 4),
        "an image with holes, ascii": (
            header(*one, 44, "ascii", image)
            + ("nan nan nan\n" + text.replace("\n", "\nnan -1.#IND 1\n", 1)).encode()
            + b"1.#QNAN 2 3\nnan 0 0\n",
            4,
        ),
        "an image with holes, compressed": (
            header(*one, 44, "binary_compressed", image) + packed(holes.T.tobytes()),
            4,
        ),
        "other fields, another order": (
            header("t z _ y x", "2 4 1 8 4", "U F U F F", "1 1 3 1 1", 40, "binary") + wide.tobytes(),
            0,
        ),
        "a field of no element": (
            header("x y z w", "4 4 4 4", "F F F F", "1 1 1 0", 40, "binary") + exact.tobytes(),
            0,
        ),
        "a field of no element, ascii": (
            header("w x y z", "4 4 4 4", "F F F F", "0 1 1 1", 40, "ascii") + text.encode(),
            0,
        ),
        "capital keywords of DATA and TYPE": (
            header("x y z", "4 4 4", "f f f", "1 1 1", 40, "BINARY") + exact.tobytes(),
            0,
        ),
        "both x and X": (
            header("X x y z", "4 4 4 4", "F F F F", "1 1 1 1", 40, "binary")
            + np.hstack([exact[:, :1] + 1, exact]).tobytes(),
            0,
        ),
    }


@pytest.mark.parametrize("name", pcd_files())
def test_a_pcd_gives_its_measurements_and_counts_the_missing(name: str, tmp_path: Path) -> None:
    data, missing = pcd_files()[name]
    (tmp_path / "a.pcd").write_bytes(data)
    found = clouds.read(tmp_path / "a.pcd")
    np.testing.assert_array_equal(found.points, POINTS.astype(np.float32))
    assert found.missing == missing


def pcd_faults() -> dict[str, tuple[bytes, str]]:
    one = "x y z", "4 4 4", "F F F", "1 1 1"
    exact = POINTS.astype("<f4")
    rows = "".join(f"{x!r} {y!r} {z!r}\n" for x, y, z in exact.tolist())
    return {
        "a short row": (header(*one, 41, "ascii") + (rows + "1 2\n").encode(), "line 48"),
        "a long row": (header(*one, 41, "ascii") + (rows + "1 2 3 4\n").encode(), "line 48"),
        "rows too wide": (header(*one, 1, "ascii") + b"1 2 3 4\n", "3 numbers, it has 1 of 4"),
        "a row too many": (header(*one, 39, "ascii") + rows.encode(), "announces 39 points of 3 numbers, it has 40"),
        "bytes too many": (header(*one, 39, "binary") + exact.tobytes(), "announces 39 points"),
        "bytes too few": (header(*one, 41, "binary") + exact.tobytes(), "announces 41 points"),
        "a COUNT of 0 that is 1": (
            header("x y z w", "4 4 4 4", "F F F F", "1 1 1 0", 30, "binary") + exact.tobytes(),
            "30",
        ),
        "x of no element": (header("x y z", "4 4 4", "F F F", "0 1 1", 40, "binary") + exact.tobytes(), "no single x"),
        "two x": (header("x x y z", "4 4 4 4", "F F F F", "1 1 1 1", 30, "binary") + exact.tobytes(), "no single x"),
        "an image of another size": (header(*one, 40, "binary", "WIDTH 8\nHEIGHT 4\n") + exact.tobytes(), "40 and 32"),
        "no measurement": (header(*one, 1, "ascii") + b"nan nan nan\n", "none of its 1 points"),
        "fields without sizes": (
            header("x y z", "4 4", "F F F", "1 1 1", 40, "binary") + exact.tobytes(),
            "not as many",
        ),
        "an unknown type": (header("x y z", "4 4 4", "F F C", "1 1 1", 40, "binary") + exact.tobytes(), "TYPE C"),
        "no fields": (b"VERSION .7\nPOINTS 1\nDATA ascii\n1 2 3\n", "no FIELDS"),
        "a header that says it twice": (header(*one, 40, "binary", "POINTS 4\n") + exact.tobytes(), "POINTS twice"),
    }


@pytest.mark.parametrize("name", pcd_faults())
def test_a_pcd_that_does_not_hold_what_it_announces_is_refused(name: str) -> None:
    data, why = pcd_faults()[name]
    with pytest.raises(ValueError, match=why):
        pcd.points(data)


# ----------------------------------------------------------------------------------------------- .npy and .npz


def saved(folder: Path, arrays: dict[str, Any], *unnamed: Any) -> Path:
    np.savez(folder / "a.npz", *unnamed, **arrays)
    return folder / "a.npz"


@pytest.mark.parametrize("key", ["points", "data", "coords", "xyz"])
def test_the_keys_of_the_field_are_known(key: str, tmp_path: Path) -> None:
    np.testing.assert_array_equal(clouds.read(saved(tmp_path, {key: POINTS})).points, POINTS)


def test_arrays_stored_by_columns_are_the_same_points(tmp_path: Path) -> None:
    np.testing.assert_array_equal(clouds.read(saved(tmp_path, {"points": np.asfortranarray(POINTS)})).points, POINTS)
    many = np.stack([POINTS, POINTS + 1, POINTS - 3])
    path = saved(tmp_path, {"points": np.asfortranarray(many), "part": np.asfortranarray(many[..., 0] > 0).astype(int)})
    for (points, part), want in zip(tables.clouds(path), many, strict=True):
        np.testing.assert_array_equal(points, want)
        assert part is not None
    np.save(tmp_path / "a.npy", np.asfortranarray(POINTS))
    np.testing.assert_array_equal(clouds.read(tmp_path / "a.npy").points, POINTS)


def test_a_single_unnamed_array_is_the_cloud(tmp_path: Path) -> None:
    np.testing.assert_array_equal(clouds.read(saved(tmp_path, {}, POINTS)).points, POINTS)
    with pytest.raises(Problem, match="arr_0, arr_1"):
        clouds.read(saved(tmp_path, {}, POINTS, POINTS))


def test_one_array_an_axis_is_a_cloud(tmp_path: Path) -> None:
    x, y, z = POINTS.T
    np.testing.assert_array_equal(clouds.read(saved(tmp_path, {"z": z, "x": x, "y": y, "i": x})).points, POINTS)
    with pytest.raises(Problem, match="shapes"):
        clouds.read(saved(tmp_path, {"z": z, "x": x[1:], "y": y}))
    with pytest.raises(Problem, match="no array 'points'"):
        clouds.read(saved(tmp_path, {"x": x, "y": y}))


@pytest.mark.parametrize("rows", [3, 4, 6])
def test_arrays_of_coordinates_by_rows_are_refused_with_the_transpose(rows: int, tmp_path: Path) -> None:
    across = np.random.default_rng(0).normal(size=(rows, 500))
    np.save(tmp_path / "a.npy", across)
    with pytest.raises(Problem, match=r"transposed") as caught:
        clouds.read(tmp_path / "a.npy")
    assert f"[500, {rows}]" in caught.value.mend
    for points, want in ((across, f"[500, {rows}]"), (np.stack([across] * 7), f"[7, 500, {rows}]")):
        with pytest.raises(Problem, match=r"transposed") as caught:
            tables.contents(saved(tmp_path, {"points": points}))
        assert want in caught.value.mend


def test_few_points_with_normals_and_colours_are_no_transpose(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(27.0).reshape(3, 9))
    assert clouds.read(tmp_path / "a.npy").points.tolist() == [[0, 1, 2], [9, 10, 11], [18, 19, 20]]
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((500, 40)))
    (tmp_path / "a.npy").write_bytes(buffer.getvalue())
    assert clouds.read(tmp_path / "a.npy").points.shape == (500, 3)


# ------------------------------------------------------------------------------------------- what takes all memory


def test_an_array_of_zeros_that_unpacks_to_a_gigabyte_is_refused(tmp_path: Path) -> None:
    with (
        zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("points.npy", "w") as file,
    ):
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (20 << 20, 3)})
        for _ in range(240):
            file.write(bytes(1 << 20))
    with pytest.raises(Problem, match=r"takes .* in the archive"):
        clouds.read(tmp_path / "a.npz")


def test_a_pcd_that_unpacks_to_many_times_its_size_is_refused() -> None:
    data = header("x y z", "4 4 4", "F F F", "1 1 1", 20 << 20, "binary_compressed")
    with pytest.raises(NotReadError, match="unpacks to 251,658,240 bytes"):
        pcd.points(data + struct.pack("<II", 3 << 20, 240 << 20) + bytes(3 << 20))


@pytest.mark.parametrize("name", ["a.npy", "a.xyz", "a.ply"])
def test_a_pipe_is_refused_and_not_waited_for(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(Problem, match="no regular file"):
        clouds.read(tmp_path / name)
