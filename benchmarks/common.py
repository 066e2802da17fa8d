"""What the benchmarks share: one table on the screen, one JSON file with --out, and the machine they ran on."""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


def arguments(about: str, **options: tuple[Any, str]) -> argparse.Namespace:
    """Command line options as name=(default, help), and --out FILE."""
    parser = argparse.ArgumentParser(description=about)
    for name, (default, words) in options.items():
        parser.add_argument(f"--{name}", type=type(default), default=default, help=f"{words} (default {default})")
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    return parser.parse_args()


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU seconds of this process for one call: other processes on the machine do not count."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def rounds(candidates: dict[str, Callable[[], object]], count: int) -> dict[str, float]:
    """The least CPU seconds of each candidate over interleaved rounds, after one call each to warm up."""
    for work in candidates.values():
        work()
    best = dict.fromkeys(candidates, float("inf"))
    for _ in range(count):
        for name, work in candidates.items():
            best[name] = min(best[name], cpu_seconds(work))
    return best


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], out: Path | None = None) -> None:
    """Print a table, and write it as JSON with the machine's description."""
    text = [[f"{cell:,.4g}" if isinstance(cell, float) else str(cell) for cell in row] for row in (columns, *rows)]
    widths = [max(len(row[at]) for row in text) for at in range(len(columns))]
    print(f"\n{title}   [{machine()}]")
    for row in text:
        print(
            "  ".join(
                cell.rjust(width) if at else cell.ljust(width)
                for at, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
        )
    if out is not None:
        found = {"title": title, "machine": machine(), "rows": [dict(zip(columns, row, strict=True)) for row in rows]}
        out.write_text(json.dumps(found, indent=2) + "\n")


def machine() -> str:
    """Processor, cores, Python."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        model = names[0] if names else model
    return f"{model}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}"
