"""Memory and time per shape from 1,000 to 100,000 shapes: generation + conversion, patches, and features.

A tiny encoder on small clouds, so that what is not the encoder shows. The start of a command is part of its time.

python benchmarks/scale.py [--most 100000] [--out FILE]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import arguments, show

PARAMS = """
study: scale
studies: {{scale: {{runs: [none], evals: [none], seeds: [0]}}}}
datasets: {{shapes: {{kind: procedural, train: {train}, test: 20, points: 64, seed: 0}}}}
patches: {{tiny: {{points: 64, levels: [{{num: 16, size: 8}}]}}}}
models: {{tiny: {{width: 24, depth: 1, heads: 1}}}}
runs: {{none: {{data: shapes, patches: tiny, model: tiny, objective: {{kind: random_init}}, fit: {{steps: 0}}}}}}
evals: {{none: {{dataset: shapes, task: {{kind: linear_probe}}}}}}
"""


VERBS = (
    ("download", "shapes"),
    ("convert", "shapes"),
    ("patchify", "tiny", "shapes"),
    ("pretrain", "none", "--seed", "0"),
    ("embed", "none", "shapes", "--seed", "0"),
)
SHOWN = ("convert", "patchify", "embed")


def stage(folder: Path, *verb: str) -> tuple[float, float]:
    """Seconds and peak memory in MB (of the largest process) of one verb, in a process of its own."""
    code = (
        "import resource, sys; from jepa3d.__main__ import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "finally:\n"
        "    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)\n"
        "    print(max(resource.getrusage(each).ru_maxrss for each in who))"
    )
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, *verb], cwd=folder, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    return time.perf_counter() - begin, int(done.stdout.split()[-1]) / 1024


def main() -> None:
    options = arguments(__doc__ or "", most=(100_000, "shapes at the most"))
    rows = []
    for count in (n for n in (1_000, 10_000, 100_000) if n <= options.most):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "params.yaml").write_text(PARAMS.format(train=count - 20))
            for verb in VERBS:
                seconds, memory = stage(folder, *verb)
                if verb[0] in SHOWN:
                    rows.append([verb[0], count, 1000 * seconds / count, memory])
    show("From 1,000 to 100,000 shapes", ["verb", "shapes", "ms per shape", "peak MB"], rows, options.out)


if __name__ == "__main__":
    main()
