"""What is written down about every output: the hash of its bytes, its stamp, and the circumstances of its making.

An output itself holds nothing that differs from one run to the next (same inputs, same bytes), and cannot hold its own
hash. Both stand in results/records/<verb>/<path of the output>.json, written by the store, which every stage hands its
stamp, just before the output takes its name: whatever has its name has its record.

    sha256, bytes    of the output
    stamp            verb, settings, code and the hash of each input (store.stamp)
    made             when, in how many seconds, the command, machine, packages and commit
    seal             the hash of all of the above: a record that was damaged is known as such
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from jepa3d.layout import Layout, place_of

CODE = ("jepa3d", "workflow", "Snakefile")
BEGIN = time.time()  # of the command: the first import is nearly the first thing that it does
PACKAGES = ("torch", "numpy", "h5py", "numba", "scipy", "scikit-learn", "safetensors")


def of(path: Path, content: Path, stamp: Mapping[str, Any] | None) -> dict[str, Any]:
    """The record of an output that is about to get its name; empty for a file without a stamp or out of its place."""
    place = place_of(path)
    if stamp is None or place is None or stamp.get("verb") != place.verb:
        return {}
    with content.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    record = {"sha256": digest, "bytes": content.stat().st_size, "stamp": dict(stamp), "made": circumstances()}
    return {**record, "seal": seal(record)}


def note(path: Path, record: Mapping[str, Any]) -> None:
    """Write down what `of` found, if it found anything."""
    place = place_of(path)
    if place is not None and record:
        _write(Layout(place.results).record(place), record)


def read(path: Path) -> dict[str, Any] | None:
    """The record of an output; None where there is none, or a damaged one."""
    place = place_of(path)
    if place is None:
        return None
    try:
        found: dict[str, Any] = json.loads(Layout(place.results).record(place).read_text(encoding="utf-8"))
        return found if found.pop("seal") == seal(found) else None
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return None


def seal(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def circumstances() -> dict[str, Any]:
    """All that may differ between two makings of the same bytes."""
    now = time.time()
    return {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
        "seconds": round(now - BEGIN, 1),
        "command": ["jepa3d", *sys.argv[1:]],
        **_surroundings(),
        "gpus": gpus(),
    }


@cache
def _surroundings() -> dict[str, Any]:
    return {
        "machine": {"name": platform.node(), "system": platform.platform(), "cpu": cpu(), "cores": _cores()},
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
        "python": platform.python_version(),
        "packages": packages(),
        "git": checkout(Path(__file__).parent.parent),
    }


def packages() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def gpus() -> list[str]:
    """Names of the GPUs that this process can use, if it has looked for any."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]


def cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def checkout(folder: Path) -> dict[str, str] | None:
    """The commit that the code in a folder is of, and a hash over what differs from it ('' where nothing does).

    What differs is: any tracked file, and new files among the code (CODE); other new files may be data of any size.
    """
    try:
        commit = _git(folder, "rev-parse", "HEAD").decode().strip()
        changes = _git(folder, "diff", "HEAD", "--", ".")
        new = _git(folder, "ls-files", "-z", "--others", "--exclude-standard", "--", *CODE)
    except (OSError, subprocess.SubprocessError):
        return None
    digest = hashlib.sha256(changes)
    names = [name for name in new.split(b"\0") if name.endswith((b".py", b".smk"))]
    for name in names:
        with contextlib.suppress(OSError):  # a dangling link, as editors make them, or gone meanwhile
            digest.update(name + (folder / os.fsdecode(name)).read_bytes())
    return {"commit": commit, "changes": digest.hexdigest()[:16] if changes or names else ""}


def _git(folder: Path, *arguments: str) -> bytes:
    """What git says about a folder; GIT_DIR and the like of a shell or a hook are about another one."""
    command = ["git", "--no-optional-locks", "-c", "core.quotePath=false", *arguments]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=True, timeout=20).stdout


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _write(path: Path, record: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(record, file, indent=1, sort_keys=True)
            os.fchmod(file.fileno(), 0o644)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)
