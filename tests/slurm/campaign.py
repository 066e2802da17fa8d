"""The long fault campaign: python tests/slurm/campaign.py [--table docs/cluster.md] [--only N]

Trainings of two nodes, each hit by several faults, each to end with the weights of an undisturbed one, bit for bit:
by itself, or after the same command is given again. All the while it is counted how many trainings of the run are in
the queue at once (never two), and after each training what is left of it (nothing).
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from faults import FAULTS, ORDINARY, orphans
from private_slurm import Slurm
from studies import CLUSTER, PARAMS, Command, Study, changed, settle

from jepa3d.results import store

LENGTH = 1200  # steps of each training: it must not end before the last fault has done its work
MARKS = ("<!-- campaign -->", "<!-- /campaign -->")
TRAININGS = [  # faults in the order in which they come, at equal distances
    ["USR2", "USR2", "requeue"],
    ["snakemake killed", "USR2", "snakemake killed"],
    ["launcher killed", "requeue", "launcher killed"],
    ["rank killed", "USR2", "first rank killed"],
    ["preemption", "time limit"],
    ["Ctrl-C", "connection lost", "scancel"],
    ["controller restarted", "launcher killed", "requeue"],
    ["node daemon killed", "USR2"],
    ["rank stalled", "first rank stalled", "controller stalled"],
    ["disk quota", "rank killed"],
    ["torn checkpoint", "killed while saving"],
    ["preemption", "snakemake killed", "first rank killed"],
    ["USR2", "snakemake killed for good"],
]


@dataclass
class Tally:
    """What was done and what came of it."""

    faults: list[str] = field(default_factory=list)
    alone: list[bool] = field(default_factory=list)  # of each: the command went on by itself, and was not given again
    said: dict[str, str] = field(default_factory=dict)
    trainings: int = 0
    equal: int = 0
    most: int = 0  # trainings of one run in the queue at once
    left: list[str] = field(default_factory=list)

    def add(self, name: str, command: Command, alone: bool) -> None:
        """A fault, and whether the command that it hit went on by itself."""
        self.faults.append(name)
        self.alone.append(True)
        if not alone:
            self.given_again(command)

    def given_again(self, command: Command) -> None:
        """The last fault was the end of a command, perhaps only now: it has to be given again."""
        self.alone[-1] = False
        self.said[self.faults[-1]] = last_words(command)

    def table(self) -> list[str]:
        rows = [
            "| fault | times | went on by itself | same command again | what the user reads |",
            "|---|---|---|---|---|",
        ]
        alone = Counter(name for name, alone in zip(self.faults, self.alone, strict=True) if alone)
        for name, times in Counter(self.faults).items():
            said = self.said.get(name, "-").replace("|", "/")
            rows.append(f"| {name} | {times} | {alone[name]} | {times - alone[name]} | {said} |")
        rows += [
            "",
            f"{len(self.faults)} faults in {self.trainings} trainings and features: {self.equal} ended in the bits of "
            f"the undisturbed one; at most {self.most} training of the run in the queue at a time; "
            f"{len(self.left)} jobs or processes left over.",
        ]
        return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", type=Path, help="a page whose table between two comments is replaced")
    parser.add_argument("--only", type=int, nargs="*", help="numbers of the trainings")
    options = parser.parse_args()
    # what is started must hear Ctrl-C and a lost connection, even where this was started in the background or by nohup
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(129))  # and nothing is to be left over
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    tally = Tally()
    with (
        tempfile.TemporaryDirectory(prefix="slurm-") as home,
        tempfile.TemporaryDirectory(prefix="study-") as folder,
        Slurm(Path(home)) as slurm,
    ):
        params = changed(PARAMS, steps=LENGTH)
        params["execution"]["checkpoint_every"] = 5
        study = Study.clone(Path(folder) / "clone", slurm, params, CLUSTER | {"ranks_per_node": 1})
        try:
            strike(study, tally, options.only)
        finally:
            study.end()
    rows = tally.table()
    print("\n".join(rows))
    if options.table is not None:
        write(options.table, rows)
    sys.exit(tally.equal != tally.trainings or tally.most > 1 or bool(tally.left))


def strike(study: Study, tally: Tally, only: list[int] | None) -> None:
    """All trainings, or those of some numbers; then an ordinary job, hit by each fault."""
    study.snakemake("all_embed").succeed()
    undisturbed = study.weights(), features(study)
    for number, faults in enumerate(TRAININGS):
        if only is None or number in only:
            say(f"training {number}: {', '.join(faults)}")
            with judged(study, tally, lambda: study.weights() == undisturbed[0]), watching(study, tally):
                train(study, faults, tally)
    for fault in ORDINARY if only is None else ():
        say(f"features: {fault}")
        with judged(study, tally, lambda: features(study) == undisturbed[1]):
            embed(study, fault, tally)


@contextlib.contextmanager
def judged(study: Study, tally: Tally, equal: Callable[[], bool]) -> Iterator[None]:
    """Count how a training ended, and what it left."""
    tally.trainings += 1
    try:
        yield
        tally.equal += equal()
        say("  equal" if equal() else "  DIFFERENT")
    except AssertionError as error:
        say(f"  FAILED: {error}")
    tally.left += (left := orphans(study))
    if left:
        say(f"  LEFT: {left}")
        study.end()


def train(study: Study, faults: list[str], tally: Tally) -> None:
    """One training from nothing to its end, hit by faults."""
    study.forget_training()
    command = study.snakemake("all_pretrain")
    for number, name in enumerate([*faults, ""], 1):
        if name:
            study.wait_for_step(number * LENGTH // (len(faults) + 2), command)
        if (command.ended or not name) and command.wait():
            tally.given_again(command)  # the fault before was its end after all
            say(f"  and so it ended: {last_words(command)}\n{command.said[-3000:]}")
            command = study.snakemake("all_pretrain")
        if not name:
            break
        if study.step > LENGTH:
            say(f"  too late for {name}")
            break
        say(f"  {name} at step {study.step}")
        before = command
        command = FAULTS[name].strike(study, command, lambda: study.snakemake("all_pretrain"))
        tally.add(name, before, alone=command is before)
    command.succeed()


def embed(study: Study, name: str, tally: Tally) -> None:
    """An ordinary job, which Snakemake's executor submits, hit by a fault."""
    study.layout.features("jepa", 0, "toys").unlink()
    command = study.snakemake("all_embed")
    settle(lambda: command.ended or bool(study.slurm.jobs("RUNNING")), 300)
    ORDINARY[name](study, command)
    failed = bool(command.wait())
    tally.add(f"{name}, ordinary job", command, alone=not failed)
    if failed:
        study.snakemake("all_embed").succeed()


@contextlib.contextmanager
def watching(study: Study, tally: Tally) -> Iterator[None]:
    """Count, all the while, the trainings of the run that are in the queue."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.5):
            with contextlib.suppress(AssertionError):  # the controller may be one of the victims
                names = study.slurm.run("squeue", "-h", "--states=PD,CF,R,CG", "--format=%j").split()
                tally.most = max(tally.most, sum(name.startswith("jepa3d-jepa-seed0") for name in names))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def features(study: Study) -> str:
    with store.open_h5(study.layout.features("jepa", 0, "toys")) as file:
        return hashlib.sha256(file["context"][:].tobytes()).hexdigest()


def last_words(command: Command) -> str:
    """The line of a command that says what went wrong."""
    clues = ("ended with code", "ended before", "goes on", "cannot be written", "is cancelled", "CANCELLED", "failed")
    lines = [line.strip() for line in command.said.splitlines()]
    found = [line for clue in clues for line in lines if clue in line and "DUE TO" not in line]  # a requeue, healed
    return found[0][:160] if found else "nothing: it was killed"


def write(page: Path, rows: list[str]) -> None:
    before, _, rest = page.read_text(encoding="utf-8").partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    page.write_text(f"{before}{MARKS[0]}\n" + "\n".join(rows) + f"\n{MARKS[1]}{after}", encoding="utf-8")


def say(words: str) -> None:
    print(time.strftime("%H:%M:%S"), words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
