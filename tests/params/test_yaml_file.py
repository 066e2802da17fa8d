"""A YAML file is read as it looks, or refused with the line; nothing of it can take all memory."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from jepa3d.launch import cluster
from jepa3d.params import yaml_file
from jepa3d.problem import Problem


def refused(folder: Path, text: str) -> str:
    path = folder / "params.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(Problem, match="not valid YAML") as caught:
        yaml_file.read(path)
    return caught.value.why


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("minutes: 4:00:00", "'4:00:00' is 14400 in YAML"),
        ("minutes: 1:30", "'1:30' is 90 in YAML"),
        ("minutes: -1:30", "'-1:30' is -90 in YAML"),
        ("minutes: 1:30.5", "'1:30.5' is 90.5 in YAML"),
        ("minutes: 0240", "write 240 or 160"),
        ("seeds: [010]", "write 10 or 8"),
        ("at: 2024-01-01", "'2024-01-01' is a date"),
        ("at: 2024-13-41", "'2024-13-41' is a date"),
        ("at: 2024-01-01T99:99:99Z", "is a date"),
        ("a: !!bool x", "'x' cannot be read as bool"),
        ("a: !!int x", "'x' cannot be read as int"),
        ("a: !!int ''", "cannot be read as int"),
        ("a: !!float x", "cannot be read as float"),
        ("a: !!map x", "cannot be read as map"),
        ("a: !!binary aGk=", "has the tag binary"),
        ("a: !!set {b}", "has the tag set"),
        ("a: !!python/name:os.system x", "has the tag python/name:os.system"),
        ("a: " + "9" * 5000, "no number that anything here can count to"),
        ("a: 9223372036854775808", "no number that anything here can count to"),
        ("a: " + "[" * 5000 + "]" * 5000, "more than 60 levels deep"),
        ("a: " + "{a: " * 5000 + "}" * 5000, "more than 60 levels deep"),
        ("a: &a [*a]", "more than 200,000 values"),
        ("<<: 3", "for merging"),
    ],
)
def test_what_yaml_reads_otherwise_than_it_looks_is_refused_with_the_line(tmp_path: Path, text: str, words: str):
    why = refused(tmp_path, text)
    assert words in why
    assert "line 1" in why


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("-12", -12), ("1_000", 1000), ("0x1F", 31), ("0.5", 0.5), ("1.0e-4", 1e-4), ("'4:00'", "4:00"),
     ("'010'", "010"), ("9223372036854775807", 2**63 - 1), (".inf", float("inf")), ("~", None), ("on", True)],
)  # fmt: skip
def test_what_looks_as_it_is_read_stays(tmp_path: Path, text: str, value: Any):
    path = tmp_path / "params.yaml"
    path.write_text(f"a: {text}")
    assert yaml_file.read(path) == {"a": value}


@pytest.mark.parametrize("merge", [False, True])
def test_aliases_that_unfold_into_gigabytes_are_refused_at_once(tmp_path: Path, merge: bool):
    first, row = ("a: &a {k: 1}", "{{<<: [{0}]}}") if merge else ("a: &a [x, x, x, x, x, x, x, x, x]", "[{0}]")
    lines = [
        f"{two}: &{two} " + row.format(",".join([f"*{one}"] * 9))
        for one, two in zip("abcdefgh", "bcdefghi", strict=True)
    ]
    begin = time.monotonic()
    assert "more than 200,000 values" in refused(tmp_path, "\n".join([first, *lines]))
    assert time.monotonic() - begin < 1.0


def test_a_file_of_megabytes_is_no_file_of_parameters(tmp_path: Path):
    (tmp_path / "params.yaml").write_bytes(b"#" * (5 << 20))
    with pytest.raises(Problem, match="larger than 4 MB"):
        yaml_file.read(tmp_path / "params.yaml")


def test_a_cluster_file_is_read_as_strictly(tmp_path: Path):
    (tmp_path / "cluster.yaml").write_text("{minutes: 4:00:00}")
    with pytest.raises(Problem) as caught:
        cluster.load(tmp_path / "cluster.yaml")
    assert "14400" in caught.value.why


WORDS = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=9)
SCALARS = st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False) | WORDS
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=12,
)


@given(tree=st.dictionaries(WORDS, TREES, max_size=4))
@example(tree={"a": "2024-01-01", "b": "1:30", "c": "010", "<<": {}})
def test_whatever_a_writer_of_yaml_writes_is_read_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[str, Any]
):
    path = tmp_path_factory.mktemp("yaml") / "params.yaml"
    path.write_text(yaml.safe_dump(tree, allow_unicode=True), encoding="utf-8", newline="")
    if "<<" not in tree and tree:
        assert yaml_file.read(path) == tree


@given(text=st.text(alphabet="ab:-[]{}&*!?#|>'\",. 0123456789\n\t%@`<=~x", max_size=60))
def test_any_text_is_read_or_a_problem(tmp_path_factory: pytest.TempPathFactory, text: str):
    path = tmp_path_factory.mktemp("yaml") / "params.yaml"
    path.write_text(text)
    with contextlib.suppress(Problem):
        yaml_file.read(path)
