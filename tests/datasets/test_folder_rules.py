"""docs/datasets.md has the rules of the folder data set in one table: each row is built, read and compared."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pytest
import yaml

from jepa3d.datasets import SetAside, Shape, folder
from jepa3d.problem import Problem

PAGE = Path(__file__).parents[2] / "docs" / "datasets.md"
TOKEN = re.compile(r"[^\s\[]+=\[.*?\](?=\s|$)|\S+")
BRACES = re.compile(r"\{([^}]*)\}")


class Rule(NamedTuple):
    words: str
    files: list[str]
    entry: dict[str, Any]
    outcome: str
    split_from: str
    left_out: list[str]


def rules() -> list[Rule]:
    """The rows of the table, in their order."""
    text = PAGE.read_text(encoding="utf-8").split("## Your own data: `kind: folder`")[1].split("\n## ")[0]
    rows = [line[1:-1].split("|") for line in text.splitlines() if line.startswith("| ")][1:]
    found = []
    for row in rows:
        words, files, entry, outcome, split_from, left_out = (
            cell.replace("\\*", "*").strip().strip("`") for cell in row
        )
        files = files.encode().decode("unicode_escape") if "\\u" in files else files
        listed = [name for token in TOKEN.findall(files) for name in expanded(token)]
        found.append(Rule(words, listed, yaml.safe_load(entry) if entry else {}, outcome, split_from, commas(left_out)))
    return found


def commas(text: str) -> list[str]:
    return [part for part in text.split(", ") if part]


def expanded(token: str) -> list[str]:
    """`{a,b}/{1,2}` -> a/1, a/2, b/1, b/2; what a file holds stays as it is."""
    token, equals, content = token.partition("=")
    parts = BRACES.split(token)
    choices = [part.split(",") if at % 2 else [part] for at, part in enumerate(parts)]
    return ["".join(chosen) + equals + content for chosen in itertools.product(*choices)]


def build(root: Path, files: list[str]) -> None:
    """Each file with points of its own."""
    for seed, token in enumerate(files):
        name, _, content = token.partition("=")
        name, _, target = name.partition("->")
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [line.replace("_", " ") if "_" in line and "/" not in line and "readme" in name.lower() else line
                 for line in content[1:-1].split()]  # fmt: skip
        if target:
            path.symlink_to(root / target)
        elif path.suffix == ".h5":
            table(path, lines, seed)
        elif content:
            path.write_text("\n".join(lines) + "\n")
        elif path.suffix == ".npy":
            np.save(path, cloud(seed))
        else:
            path.write_bytes(b"another kind of file")


def cloud(seed: int) -> Any:
    return np.random.default_rng(seed).normal(size=(8, 3)).astype(np.float32)


def table(path: Path, labels: list[str], seed: int) -> None:
    value = yaml.safe_load(f"[{', '.join(labels)}]")
    with h5py.File(path, "w") as file:
        file["data"] = np.stack([cloud(1000 + 100 * seed + row) for row in range(len(labels))])
        file["label"] = value if isinstance(value[0], str) else np.array(value)


def comes_out(root: Path, entry: dict[str, Any]) -> tuple[str, str, list[str]]:
    """As the table words it. Counted from the shapes that are read, not from what the survey expects of them."""
    config = folder.Config(root=str(root), points=8, **entry)
    try:
        read = list(folder.read(root, config))
    except Problem as problem:
        return f"refused: {problem}" if problem.mend else "refused without a mend", "", []
    shapes = [one for one in read if isinstance(one, Shape)]
    names = (*folder.classes(root, config), "unlabelled")
    counts = Counter((names[shape.label], shape.split) for shape in shapes)
    outcome = ", ".join(
        f"{name} {counts[name, 'train']}+{counts[name, 'test']}"
        for name in names
        if any(one == name for one, _ in counts)
    )
    assert folder.count(root, config) == len(shapes)
    audit = folder.audit(root, config)
    aside = sorted(one.id for one in read if isinstance(one, SetAside))
    passed = [f"{count} {kind}" if count else f"{kind} is empty" for kind, count in audit["passed_over"].items()]
    return outcome, audit["split_from"], aside + passed


RULES = rules()


def test_the_table_has_its_rows() -> None:
    assert len(RULES) > 50
    assert all(rule.files and rule.outcome for rule in RULES)


@pytest.mark.parametrize("rule", RULES, ids=[f"{rule.words} | {' '.join(rule.files)[:60]}" for rule in RULES])
def test_a_row_of_the_table_is_read_as_it_says(rule: Rule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JEPA3D_THREADS", "1")
    build(tmp_path, rule.files)
    outcome, split_from, left_out = comes_out(tmp_path, rule.entry)
    if rule.outcome.startswith("refused: "):
        assert rule.outcome.removeprefix("refused: ") in outcome
        return
    assert sorted(outcome.split(", ")) == sorted(rule.outcome.split(", "))
    assert split_from == rule.split_from
    assert left_out == rule.left_out
