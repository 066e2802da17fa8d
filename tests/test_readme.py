"""What the README and CONTRIBUTING promise exists: commands, files, and an entry that loads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer

from jepa3d import project
from jepa3d.cli import app
from jepa3d.encoders import build, transformer
from jepa3d.graph import Graph
from jepa3d.layout import Layout
from jepa3d.params import Level, Scheme, Tokenizer
from jepa3d.pretrained import save
from jepa3d.problem import Problem

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", "CONTRIBUTING.md", *(f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md")))]
COMMANDS = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def text(page: str) -> str:
    return (ROOT / page).read_text()


def code(page: str) -> str:
    """Indented blocks, fenced blocks and inline code."""
    return "\n".join(re.findall(r"^    .*$|```[a-z]*\n.*?```|`[^`\n]+`", text(page), re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("page", PAGES)
def test_every_make_target_that_is_named_exists(page: str):
    targets = set(re.findall(r"^([a-z-]+):", text("Makefile"), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z-]+)", code(page)))
    assert named <= targets, page


@pytest.mark.parametrize("page", PAGES)
def test_every_verb_that_is_named_exists(page: str):
    named = set(re.findall(r"(?<!from )\bjepa3d ([a-z]+)\b", code(page)))
    assert named <= COMMANDS, page


@pytest.mark.parametrize("page", PAGES)
def test_every_linked_or_named_file_exists(page: str):
    links = re.findall(r"\]\((?!http)([^)#]+)", text(page))
    scripts = re.findall(r"python (\S+\.py)", code(page))
    for name in [*links, *scripts]:
        beside = (ROOT / page).parent / name
        assert beside.exists() or (ROOT / name).exists(), f"{page}: {name}"


def test_the_example_of_many_rows_is_what_its_comments_say(tmp_path: Path):
    blocks = re.findall(r"```yaml\n(.*?)```", text("docs/params.md"), re.DOTALL)
    [example] = [block for block in blocks if "extends" in block]
    mine = tmp_path / "mine"
    mine.mkdir()
    (tmp_path / "params.yaml").write_text(text("params.yaml"))
    (mine / "params.yaml").write_text(example)
    loaded = project.load(mine / "params.yaml")
    project.check_objectives(loaded)
    assert (len(loaded.chosen.runs), len(loaded.chosen.evals)) == (6, 4)
    assert "masks_blocks1_ratio0p6" in loaded.chosen.runs
    assert {"linear_procedural", "knn_procedural_clean"} <= set(loaded.chosen.evals)


def test_the_file_of_ones_own_shapes_runs_as_it_is(tmp_path: Path):
    [example] = re.findall(r"```yaml\n(.*?)```", text("docs/own_shapes.md"), re.DOTALL)
    (tmp_path / "params.yaml").write_text(text("params.yaml"))
    (tmp_path / "mine.yaml").write_text(example)
    loaded = project.load(tmp_path / "mine.yaml")
    project.check_objectives(loaded)
    assert loaded.chosen.runs == ("my_jepa", "my_random_init", "my_handcrafted")
    assert {loaded.runs[run].data for run in loaded.chosen.runs} == {("mine",)}
    assert {job.verb for job in Graph(loaded, Layout(tmp_path)).jobs()} >= {"convert", "pretrain", "evaluate", "report"}


def test_the_python_page_runs_as_it_is(tmp_path: Path):
    model = transformer.Config(width=24, depth=1, heads=2, tokenizer=Tokenizer(widths=(8, 16, 16)))
    scheme = Scheme(points=128, levels=(Level(num=16, size=8),))
    save(tmp_path / "encoder.safetensors", {"context": build(model)}, scheme, {"verb": "pretrain"})
    [example] = re.findall(r"```python\n(.*?)```", text("docs/python.md"), re.DOTALL)
    path = "results/pretrain/jepa/seed0/encoder.safetensors"
    assert path in example
    names: dict[str, Any] = {}
    exec(example.replace(path, str(tmp_path / "encoder.safetensors")), names)
    encoder, points = names["encoder"], names["points"]
    assert names["features"].shape == (8, 48)
    assert encoder.embed([*points], up="z").shape == (8, 48)
    centres, tokens = encoder.tokens(points)
    assert (centres.shape, tokens.shape) == ((8, 16, 3), (8, 16, 24))
    assert [part.shape for part in encoder.encode(points)] == [(8, 48), (8, 16, 3), (8, 16, 24)]
    with pytest.raises(Problem, match="from the origin"):
        encoder.embed(1000 * points, prepare=False)


def test_the_first_screen_has_a_picture_the_commands_and_a_short_table():
    assert len(text("README.md").splitlines()) <= 120
    first = "\n".join(text("README.md").splitlines()[:16])
    assert "](results/plots/overview.png)" in first
    assert "git clone" in first
    assert "results/report/index.html" in first
    assert "make all" in first
    assert "make test" in first


def test_a_number_is_bold_only_in_a_table_that_is_written_from_the_paired_test():
    by_hand = re.sub(r"<!-- table\n.*?<!-- end of table -->", "", text("README.md"), flags=re.DOTALL)
    assert re.findall(r"\*\*\d[^*]*\*\*", by_hand) == []
