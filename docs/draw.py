"""Draws docs/architecture.md from the code: the floors of pyproject.toml, and the edges of jepa3d/graph.py.

python docs/draw.py            writes the page
python docs/draw.py --check    exit code 1 where the page is not what would be written
"""

from __future__ import annotations

import ast
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path

from jepa3d import project
from jepa3d.graph import VERBS, Graph, Job, writes
from jepa3d.layout import Layout, place_of

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "architecture.md"
LAYOUT = Layout(Path("results"))
NAMES = {
    "download": ("dataset",),
    "convert": ("dataset", "source"),
    "patchify": ("scheme", "dataset", "shard"),
    "pretrain": ("run", "seed"),
    "embed": ("run", "seed", "dataset"),
    "evaluate": ("run", "seed", "evaluation", "fold"),
    "report": ("study",),
}
# A study with every kind of edge: evaluations of features, of the encoder and of folds, shards, a monitor's own data.
STUDY = """
study: drawn
studies: {drawn: {runs: jepa, evals: [knn, finetune, folds], seeds: [0]}}
datasets: {shapes: {kind: procedural, shards: 2}, watched: {kind: procedural}}
patches: {flat: {}}
models: {small: {}}
runs:
  jepa: {data: shapes, patches: flat, model: small, objective: {kind: jepa}, fit: {steps: 1}, monitor: {probe: watched}}
evals:
  knn: {dataset: shapes, task: {kind: knn}}
  finetune: {dataset: shapes, task: {kind: finetune}}
  folds: {dataset: shapes, task: {kind: few_shot_finetune, way: 2, folds: 2}}
"""
TEXT = """# The house

This page is drawn from the code by `make docs`; a test holds that it is current.

## The graph

A job is a command, `jepa3d VERB NAMES...`; files are all that passes between two of them. Which files a job reads and
writes, and which slice of `params.yaml` it depends on, stands in `jepa3d/graph.py` and nowhere else: Snakemake's rules,
DVC's stages, the stamps of outputs, `doctor`, `verify`, the launcher and the report ask it.

{graph}

{files}

## The floors

A module imports from lower floors only; `make lint` checks it. Modules of one floor that a `|` separates do not import
each other.

{floors}

{modules}
"""


def main() -> int:
    page = drawn()
    if "--check" in sys.argv[1:]:
        return int(page != PAGE.read_text(encoding="utf-8"))
    PAGE.write_text(page, encoding="utf-8")
    return 0


def drawn() -> str:
    """The page as it should be."""
    jobs, floors = every_job(), layers()
    return TEXT.format(graph=graph(jobs), files=files(jobs), floors=tower(floors), modules=table(floors))


# ---- the graph


def every_job() -> tuple[Job, ...]:
    """The jobs of a study that has every kind of edge."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "params.yaml"
        path.write_text(STUDY, encoding="utf-8")
        return Graph(project.load(path), LAYOUT).jobs()


def node(job: Job) -> str:
    """A verb; shards and folds, whose jobs are of the same verb, have a node of their own."""
    names = NAMES[job.verb]
    return (
        job.verb
        if len(job.names) < len(names) or names[-1] not in ("source", "shard", "fold")
        else f"{job.verb}_{names[-1]}"
    )


def patterns(job: Job) -> tuple[str, ...]:
    """What a job writes, with wildcards in the place of its names, below results/."""
    wildcards = [f"{{{name}}}" for name in NAMES[job.verb][: len(job.names)]]
    return tuple(str(path.relative_to(LAYOUT.results)) for path in writes(LAYOUT, job.verb, *wildcards))


def edges(jobs: Iterable[Job]) -> dict[tuple[str, str], list[str]]:
    """Which files each kind of job reads of each other: (maker, reader) -> patterns."""
    made = {path: (node(job), pattern) for job in jobs for path, pattern in zip(job.writes, patterns(job), strict=True)}
    found: dict[tuple[str, str], list[str]] = {}
    for job in jobs:
        for path in job.reads:
            maker, pattern = made[path]
            labels = found.setdefault((maker, node(job)), [])
            labels += [] if pattern in labels else [pattern]
    return found


def graph(jobs: tuple[Job, ...]) -> str:
    nodes = list(dict.fromkeys(map(node, jobs)))
    lines = [f"    {name}[{name.replace('_source', ', overlap').replace('_', ', one ')}]" for name in nodes]
    for (maker, reader), labels in edges(jobs).items():
        lines.append(f'    {maker} -- "{"<br>".join(Path(label).name for label in labels)}" --> {reader}')
    return mermaid("LR", lines)


def files(jobs: tuple[Job, ...]) -> str:
    """Every kind of job with what it reads and writes."""
    rows = ["| job | reads | writes, below results/ |", "|---|---|---|"]
    read: dict[str, list[str]] = {}
    for (_, reader), labels in edges(jobs).items():
        read.setdefault(reader, []).extend(labels)
    for job in sorted({node(job): job for job in jobs}.values(), key=lambda job: VERBS.index(job.verb)):
        place = place_of(job.writes[0])
        assert place is not None
        command = place.command
        for name, value in sorted(zip(NAMES[job.verb], job.names, strict=False), key=lambda pair: -len(pair[1])):
            command = command.replace(f" {value}", f" {name.upper()}")
        cells = (f"`{path}`" for path in read.get(node(job), ()))
        rows.append(f"| `{command}` | {', '.join(cells) or '-'} | {', '.join(f'`{p}`' for p in patterns(job))} |")
    return "\n".join(rows)


# ---- the floors


def layers() -> list[str]:
    """The floors from the top, as import-linter has them."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    found = next(one["layers"] for one in settings["contracts"] if one["type"] == "layers")
    return [layer.replace("jepa3d.", "") for layer in found]


def tower(floors: list[str]) -> str:
    count = len(floors)
    lines = [f'    floor{count - 1 - at}["{floor}"]' for at, floor in enumerate(floors)]
    return mermaid("TB", [*lines, "    " + " --> ".join(f"floor{at}" for at in reversed(range(count)))])


def table(floors: list[str]) -> str:
    names = [name.strip() for floor in floors for name in floor.replace("|", ":").split(":")]
    return "\n".join(["| module | what it is |", "|---|---|", *(f"| `{name}` | {about(name)} |" for name in names)])


def about(name: str) -> str:
    """The first sentence of a module's docstring."""
    path = ROOT / "jepa3d" / name.replace(".", "/")
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    text = " ".join((ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or "").split("\n\n")[0].split())
    return text.split(". ")[0].rstrip(".:").replace("|", "\\|")


def mermaid(direction: str, lines: list[str]) -> str:
    return "\n".join(["```mermaid", f"flowchart {direction}", *lines, "```"])


if __name__ == "__main__":
    sys.exit(main())
