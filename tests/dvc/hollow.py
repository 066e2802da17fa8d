"""A stand-in for the command `jepa3d` that computes nothing: each verb writes its outputs, stamped and recorded as the
real ones are, in a tenth of a second. What the engines see of a study (which jobs, which files, which hashes) is the
same; a test with the real command holds that."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from pathlib import Path

from jepa3d import project
from jepa3d.graph import Graph
from jepa3d.layout import Layout
from jepa3d.params import Params
from jepa3d.results import store

PLOTS = ("scores.csv", "curves.csv", "predictions.csv")
LARGE = 1_100_000  # bytes: Snakemake compares the contents of smaller files, and forgives a wrong time


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--params", type=Path)
    parser.add_argument("--results", type=Path)
    for option in ("--threads", "--log", "--study", "--seed", "--shard", "--fold", "--overlap"):
        parser.add_argument(option)
    parser.add_argument("words", nargs="+")
    given = parser.parse_args()
    verb, *names = given.words
    if verb == "check":
        return
    time.sleep(float(os.environ.get("HOLLOW_SECONDS", 0)))
    names[1:1] = [given.seed] if given.seed else []  # where it stands in the paths
    number = given.shard or given.fold or given.overlap
    make(project.load(given.params, given.study), Layout(given.results), verb, *names, *([number] if number else []))


def make(params: Params, layout: Layout, verb: str, *names: str) -> None:
    """The outputs of one job, which the graph knows, and of a report some pictures."""
    job = Graph(params, layout).job(verb, *(names or [params.study]))
    stamp = store.stamp(verb, job.settings, job.reads, store.recorded if verb == "report" else store.sha256)
    for path in job.writes:
        for file in [path / name for name in PLOTS] if path.name == "plots" else [path]:
            store.write_bytes(file, _content(file, stamp, params), stamp)


def make_all(params: Params, layout: Layout) -> None:
    """Every job of the chosen study."""
    for job in Graph(params, layout).jobs():
        make(params, layout, job.verb, *job.names)


def _content(path, stamp, params):
    """Bytes that follow from the stamp and the name; the report's are in the shape that DVC reads."""
    text = json.dumps({path.name: stamp["settings"], "from": sorted(stamp["inputs"].values())}, sort_keys=True)
    digest = hashlib.sha256(text.encode()).digest()
    mean = round(digest[0] / 255, 3)
    cells = params.chosen.cells()
    match path.name:
        case "metrics.json":
            spread = {"mean": mean, "std": 0.01, "n": 2, "values": [mean, mean]}
            table = {run: {cell.evaluation: {"accuracy": spread} for cell in cells} for run in params.chosen.runs}
            return json.dumps(table).encode()
        case "scores.csv":
            rows = [f"{cell.evaluation}: accuracy,{cell.run},{100 * mean}" for cell in cells]
            return "\n".join(["evaluation,run,score", *rows, ""]).encode()
        case "curves.csv":
            trained = params.chosen.trainings()
            rows = [f"{run},{seed},loss,{step},{mean / step}" for run, seed in trained for step in (1, 2)]
            return "\n".join(["run,seed,monitor,step,value", *rows, ""]).encode()
        case "predictions.csv":
            return b"seed,id,truth,predicted\n0,toy-1,cube,rod\n0,toy-2,rod,rod\n"
    return text.encode().ljust(LARGE if path.suffix in (".h5", ".safetensors") else 0)


if __name__ == "__main__":
    main()
