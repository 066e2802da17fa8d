"""The command line: the seven verbs, and what users ask beside them. A Problem becomes three lines and exit code 2."""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Literal

import typer

from jepa3d import __version__, log, project
from jepa3d.graph import Graph
from jepa3d.layout import Layout
from jepa3d.params import Params
from jepa3d.problem import Problem
from jepa3d.results.claim import claimed

ABOUT = """3D-JEPA from raw archive to final tables: self-supervised learning on 3D point clouds.

`snakemake --cores all all` gives the commands of the pipeline in the right order. Each of them can be given by hand:

    jepa3d pretrain jepa --seed 0

Exit codes: 0, done; 1, done, and something was found or set aside; 2, a mistake, which three lines explain;
128 + N, stopped by signal N, and the same command goes on.
"""
PIPELINE, USE, INSPECT = "Pipeline", "Use a trained encoder", "Inspect and tidy up"

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=ABOUT)
Dataset = Annotated[str, typer.Argument(help="A data set: an entry of `datasets` in params.yaml.")]
SchemeName = Annotated[str, typer.Argument(metavar="SCHEME", help="A patch scheme: an entry of `patches`.")]
Run = Annotated[str, typer.Argument(help="A run: an entry of `runs` in params.yaml.")]
Evaluation = Annotated[str, typer.Argument(metavar="EVAL", help="An evaluation: an entry of `evals`.")]
Seed = Annotated[int, typer.Option(min=0, help="Which repetition of the run: one of the study's seeds.")]
Launch = Annotated[
    Literal["here", "local", "slurm"] | None,
    typer.Option(
        help="here: in this process; local: as several ranks on this machine; slurm: as a job of a cluster, which "
        "is followed. Default: here, and slurm with --cluster."
    ),
]
ClusterFile = Annotated[
    Path | None, typer.Option("--cluster", help="A YAML file that says where to run: nodes, ranks, time, partition.")
]
SHOWN = 20  # set-aside shapes that are named on the screen
HELPER = (sys.executable, "-m", "jepa3d", "submit")  # the command below, as a process


class _Context:
    params: Path = Path("params.yaml")
    results: Path = Path("results")
    study: str | None = None
    ended: ExitStack = ExitStack()  # what is undone when the command has ended


def _load() -> tuple[Params, Layout]:
    return project.load(_Context.params, _Context.study), Layout(_Context.results)


def _version(asked: bool) -> None:
    if asked:
        print(f"jepa3d {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    params: Annotated[Path, typer.Option(help="What is computed: runs, data, evaluations.")] = Path("params.yaml"),
    results: Annotated[Path, typer.Option(help="The folder for everything that is written.")] = Path("results"),
    study: Annotated[str | None, typer.Option(help="A study in place of the one that params.yaml chooses.")] = None,
    threads: Annotated[int, typer.Option(min=0, help="Threads and processes to use; 0: all cores at hand.")] = 0,
    log_file: Annotated[Path | None, typer.Option("--log", help="Also write all messages to this file.")] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    _Context.params, _Context.results, _Context.study = params, results, study
    if log_file:
        _Context.ended.enter_context(log.kept(log_file))
    if threads:
        os.environ["JEPA3D_THREADS"] = os.environ["OMP_NUM_THREADS"] = str(threads)


def _claim(params: Params, layout: Layout, verb: str, *names: str) -> None:
    """Be the only command that makes this output, until the end of this process; the first of several ranks is."""
    Graph(params, layout).job(verb, *names)  # the names exist
    launched = "JEPA3D_RENDEZVOUS" in os.environ
    if launched and os.environ.get("RANK", "0") != "0":
        return
    patience = 180.0 if launched else 0.0  # what the job's earlier life was may still be ending
    _Context.ended.enter_context(claimed(layout.claim(verb, *names), " ".join(["jepa3d", verb, *names]), patience))


def _limit_torch() -> None:
    import torch

    from jepa3d.parallel import workers

    torch.set_num_threads(workers())


def _submit(
    launch: Literal["here", "local", "slurm"] | None,
    cluster: Path | None,
    run: str,
    seed: int,
    evaluation: str | None = None,
) -> tuple[Params, Layout]:
    """Submit a training and end with its exit code, if that was asked for; refuse to do what a job does already."""
    params, layout = _load()
    where = launch or ("slurm" if cluster else "here")
    if where != "here":
        from jepa3d.launch import trainings
        from jepa3d.launch.cluster import Cluster, load

        named = trainings.Named(run, seed, evaluation)
        place = load(cluster) if cluster else Cluster()
        raise typer.Exit(trainings.launch(params, _Context.params, layout, named, where, place, HELPER))
    if "JEPA3D_JOB" not in os.environ and layout.launched(run, seed, evaluation).exists():
        from jepa3d.launch import trainings

        trainings.refuse_beside(trainings.Named(run, seed, evaluation), layout)
    return params, layout


@app.command(rich_help_panel=PIPELINE)
def download(dataset: Dataset) -> None:
    """Fetch the raw files of a data set, or note where they are."""
    from jepa3d.stages.download import download as stage

    params, layout = _load()
    _claim(params, layout, "download", dataset)
    stage(params, layout, dataset)


@app.command(rich_help_panel=PIPELINE)
def convert(
    dataset: Dataset,
    overlap: Annotated[
        str | None,
        typer.Option(metavar="SOURCE", help="Look for its test shapes in the train split of another data set."),
    ] = None,
) -> None:
    """Write one HDF5 file of a data set's raw files; damaged shapes are set aside."""
    from jepa3d.stages import convert as stages

    params, layout = _load()
    _claim(params, layout, "convert", dataset, *([overlap] if overlap else []))
    if overlap is None:
        stages.convert(params, layout, dataset)
    else:
        stages.overlap(params, layout, dataset, overlap)


@app.command(rich_help_panel=PIPELINE)
def patchify(
    scheme: SchemeName,
    dataset: Dataset,
    shard: Annotated[int | None, typer.Option(min=0, help="Only one shard of a data set that has `shards`.")] = None,
) -> None:
    """Cut a data set into patches: cache the indices of FPS and KNN."""
    from jepa3d.stages.patchify import patchify as stage

    params, layout = _load()
    _claim(params, layout, "patchify", scheme, dataset, *([] if shard is None else [str(shard)]))
    stage(params, layout, scheme, dataset, shard)


@app.command(rich_help_panel=PIPELINE)
def pretrain(
    run: Run,
    seed: Seed,
    launch: Launch = None,
    cluster: ClusterFile = None,
) -> None:
    """Pretrain the encoder of a run; a stopped training goes on."""
    params, layout = _submit(launch, cluster, run, seed)
    from jepa3d.stages.pretrain import pretrain as stage
    from jepa3d.train.loop import Stopped

    _limit_torch()
    _claim(params, layout, "pretrain", run, str(seed))
    try:
        stage(params, layout, run, seed)
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        raise typer.Exit(128 + stopped.signal) from None


@app.command(rich_help_panel=PIPELINE)
def embed(run: Run, dataset: Dataset, seed: Seed) -> None:
    """Write the features of a data set by a trained encoder."""
    from jepa3d.stages.embed import embed as stage

    params, layout = _load()
    _limit_torch()
    _claim(params, layout, "embed", run, str(seed), dataset)
    stage(params, layout, run, dataset, seed)


@app.command(rich_help_panel=PIPELINE)
def evaluate(
    run: Run,
    evaluation: Evaluation,
    seed: Seed,
    fold: Annotated[int | None, typer.Option(min=0, help="Only one of the trainings of an evaluation.")] = None,
    launch: Launch = None,
    cluster: ClusterFile = None,
) -> None:
    """Score a trained encoder by one evaluation; a stopped fine-tuning goes on."""
    from jepa3d.stages.evaluate import evaluate as stage

    if fold is not None and (cluster or launch in ("local", "slurm")):
        raise Problem(
            "--fold: is computed here", "one fold is a short training, which ranks do not share", "leave --cluster out"
        )
    params, layout = _submit(launch, cluster, run, seed, evaluation)
    _claim(params, layout, "evaluate", run, str(seed), evaluation, *([] if fold is None else [str(fold)]))
    if params.evaluation(evaluation).needs == "features":
        stage(params, layout, run, evaluation, seed, fold)
        return
    from jepa3d.train.loop import Stopped

    _limit_torch()
    try:
        stage(params, layout, run, evaluation, seed, fold)
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        raise typer.Exit(128 + stopped.signal) from None


@app.command(rich_help_panel=PIPELINE)
def report() -> None:
    """Write tables, pictures and metrics.json of the chosen study."""
    from jepa3d.stages.report import report as stage

    params, layout = _load()
    _claim(params, layout, "report", params.study)
    stage(params, layout)


@app.command(rich_help_panel=INSPECT)
def doctor() -> None:
    """Say what the chosen study needs, what is there, and how to get the rest."""
    from jepa3d.tools.doctor import doctor as examine

    params, layout = _load()
    raise typer.Exit(examine(params, layout))


@app.command(rich_help_panel=INSPECT)
def check() -> None:
    """Check all of params.yaml; no output means that it is valid."""
    params, _ = _load()
    project.check_objectives(params)


@app.command(rich_help_panel=INSPECT)
def schema() -> None:
    """Print the JSON schema of params.yaml, with which editors complete and check it."""
    print(json.dumps(project.schema(), indent=1, ensure_ascii=False))


@app.command(rich_help_panel=INSPECT)
def verify() -> None:
    """Hash every file of results/ again, and name each one that has changed (exit code 1)."""
    from jepa3d.results.provenance import verify as examine

    params, layout = _load()
    raise typer.Exit(examine(params, layout))


@app.command(rich_help_panel=INSPECT)
def trace(
    metrics: Annotated[Path, typer.Argument(help="results/metrics.json")],
    run: Run,
    evaluation: Evaluation,
) -> None:
    """Say where a number comes from: files, settings, seeds, versions, machines."""
    from jepa3d.results.trace import trace as follow

    raise typer.Exit(follow(metrics, run, evaluation))


@app.command(rich_help_panel=INSPECT)
def tidy(
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Only say what would go.")] = False,
) -> None:
    """Remove what finished trainings and killed commands left; outputs stay."""
    from jepa3d.results.tidy import tidy as clean

    params, layout = _load()
    clean(params, layout, dry_run)


@app.command(rich_help_panel=USE)
def encode(
    files: Annotated[list[Path], typer.Argument(help="Meshes, clouds, tables of clouds, or folders of such.")],
    encoder: Annotated[Path, typer.Option(help="An encoder.safetensors.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Ends in .npz or .parquet.")],
    which: Annotated[
        Literal["context", "target"], typer.Option(help="The context encoder, or its EMA copy.")
    ] = "context",
    points: Annotated[int | None, typer.Option(help="Points of a shape; left away: what the encoder takes.")] = None,
    up: Annotated[Literal["x", "y", "z"], typer.Option(help="The files' upward axis.")] = "y",
    normalise: Annotated[
        Literal["unit_sphere", "none"] | None,
        typer.Option(help="none: they are as the training's were. Left away: what the encoder's training had."),
    ] = None,
    upsample: Annotated[bool, typer.Option("--upsample", help="Admit clouds with fewer points.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws from clouds and surfaces.")] = 0,
    tokens: Annotated[bool, typer.Option("--tokens", help="Also a feature of every patch, and its centre.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at a damaged shape.")] = False,
) -> None:
    """Write the features of your own meshes and clouds (exit code 1: some were set aside)."""
    from jepa3d.tools.encode import encode as write

    _limit_torch()
    reading = {"points": points, "up": up, "normalise": normalise, "upsample": upsample, "seed": seed}
    done = write(files, encoder, output, which, tokens, strict, **reading)
    for entry in done.aside[:SHOWN]:
        print(f"set aside: {entry.id}: {entry.why}", file=sys.stderr)
    if len(done.aside) > SHOWN:
        print(f"set aside: {len(done.aside) - SHOWN:,} more, listed in {output}", file=sys.stderr)
    print(f"{output}: {done.shapes:,} shapes")
    raise typer.Exit(bool(done.aside))


@app.command(rich_help_panel=USE)
def export(
    encoder: Annotated[Path, typer.Option(help="An encoder.safetensors.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Ends in .onnx, or in .pt for TorchScript.")],
    which: Annotated[
        Literal["context", "target"], typer.Option(help="The context encoder, or its EMA copy.")
    ] = "context",
    up: Annotated[Literal["x", "y", "z"], typer.Option(help="The upward axis of the clouds that it will get.")] = "y",
) -> None:
    """Write a trained encoder as ONNX or TorchScript, from points to features."""
    from jepa3d.pretrained import load
    from jepa3d.tools.export import export as write

    _limit_torch()
    difference = write(load(encoder, which), output, up)
    print(f"{output}: its features differ from the encoder's by at most {difference:.1e}")


@app.command("import", rich_help_panel=USE)
def import_checkpoint(
    file: Annotated[Path, typer.Argument(help="A checkpoint that the method's authors published.")],
    peer: Annotated[
        Literal["point_mae", "point_bert", "point_jepa", "point_m2ae"], typer.Option("--as", help="The method.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Ends in .safetensors.")],
) -> None:
    """Turn a public checkpoint of another method into an encoder file of ours."""
    from jepa3d.tools.checkpoints import write

    _limit_torch()
    print("\n".join(write(file, peer, output)))


@app.command(rich_help_panel=PIPELINE)
def cancel(
    run: Run,
    seed: Seed,
    evaluation: Annotated[str | None, typer.Argument(metavar="[EVAL]", help="An evaluation that trains.")] = None,
) -> None:
    """End the submitted job of a run or of an evaluation."""
    from jepa3d.launch import trainings

    params, layout = _load()
    params.pick("runs", run)
    if evaluation is not None:
        params.pick("evals", evaluation)
    print(trainings.cancel(trainings.Named(run, seed, evaluation), layout))


@app.command(hidden=True)
def submit(folder: Path) -> None:
    """What the launcher starts: submit the job that is described in a folder, and put it on record there."""
    from jepa3d.launch.submit import submit_wanted

    submit_wanted(folder, run)


def run(arguments: list[str]) -> int:
    """A command line worked off in this process, as the ranks of a job do; Problems are raised. Its exit code."""
    with _Context.ended:
        return app(arguments, standalone_mode=False) or 0


def main() -> None:
    """The entry point: a user's mistake is three lines, never a traceback."""
    with _Context.ended:
        try:
            app()
        except Problem as problem:
            print(problem, file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            print("interrupted; nothing half-written is left", file=sys.stderr)
            sys.exit(128 + signal.SIGINT)
        except BrokenPipeError:
            sys.exit(128 + signal.SIGPIPE)
        except Exception:  # here, so that it is in the log too
            traceback.print_exc()
            sys.exit(1)
