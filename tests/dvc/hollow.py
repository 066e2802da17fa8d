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
from jepa3d.layout import Layout, place_of
from jepa3d.params import Params
from jepa3d.results import provenance, store

LARGE = 1_100_000  # bytes: Snakemake compares the contents of smaller files, and forgives a wrong time


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--params", type=Path)
    parser.add_argument("--results", type=Path)
    parser.add_argument("--threads")
    parser.add_argument("--seed")
    parser.add_argument("words", nargs="+")
    given = parser.parse_args()
    verb, *names = given.words
    if verb == "check":
        return
    time.sleep(float(os.environ.get("HOLLOW_SECONDS", 0)))
    make(project.load(given.params), Layout(given.results), verb, *names, *([given.seed] if given.seed else []))


def make(params: Params, layout: Layout, verb: str, *names: str) -> None:
    """The outputs of one job; the names are those of the command line, a seed last."""
    outputs, inputs = {
        "download": _download,
        "convert": _convert,
        "patchify": _patchify,
        "pretrain": _pretrain,
        "embed": _embed,
        "evaluate": _evaluate,
        "report": _report,
    }[verb](params, layout, *names)
    place = place_of(outputs[0])
    assert place is not None
    settings = provenance.settings_now(params, place)
    assert settings is not None
    stamp = store.stamp(verb, settings, sorted(set(inputs)))
    for path in outputs:
        store.write_bytes(path, _content(path, stamp, params))


def make_all(params: Params, layout: Layout) -> None:
    """Every job of the chosen study."""
    runs = {run: params.runs[run] for run in params.chosen.run_names()}
    datasets = {data for entry in runs.values() for data in entry.data}
    for data in sorted(datasets):
        make(params, layout, "download", data)
        make(params, layout, "convert", data)
        for scheme in sorted({entry.patches for entry in runs.values()}):
            make(params, layout, "patchify", scheme, data)
    for run, seed in params.chosen.trainings():
        make(params, layout, "pretrain", run, str(seed))
        for data in sorted({params.evals[name].dataset for name in params.chosen.eval_names()}):
            make(params, layout, "embed", run, data, str(seed))
    for cell in params.chosen.cells():
        make(params, layout, "evaluate", cell.run, cell.evaluation, str(cell.seed))
    make(params, layout, "report")


def _download(params, layout, dataset):
    return [layout.source(dataset)], []


def _convert(params, layout, dataset):
    return [layout.canonical(dataset), layout.audit(dataset)], [layout.source(dataset)]


def _patchify(params, layout, scheme, dataset):
    return [layout.patches(scheme, dataset)], [layout.canonical(dataset)]


def _pretrain(params, layout, run, seed):
    entry = params.runs[run]
    inputs = [path for data in entry.data for path in (layout.canonical(data), layout.patches(entry.patches, data))]
    return [layout.encoder(run, seed), layout.run_config(run, seed), layout.curve(run, seed)], inputs


def _embed(params, layout, run, dataset, seed):
    inputs = [layout.canonical(dataset), layout.patches(params.runs[run].patches, dataset), layout.encoder(run, seed)]
    return [layout.features(run, seed, dataset)], inputs


def _evaluate(params, layout, run, name, seed):
    return [layout.evaluation(run, seed, name)], [layout.features(run, seed, params.evals[name].dataset)]


def _report(params, layout):
    inputs = [layout.evaluation(cell.run, cell.seed, cell.evaluation) for cell in params.chosen.cells()]
    inputs += [layout.curve(run, seed) for run, seed in params.chosen.trainings()]
    plots = [layout.plots / name for name in ("scores.csv", "curves.csv", "predictions.csv")]
    return [*plots, layout.report, layout.card, layout.metrics], inputs


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
