"""What clusters do to a training, one function each. Each waits for its moment, does it, and says what was done."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable
from typing import NamedTuple

from private_slurm import wait_until
from studies import PATIENCE, Command, Study, settle

LIFE = 900.0  # seconds until a job has begun anew on a busy machine
Inject = Callable[[Study, Command], None]


class Fault(NamedTuple):
    """A kind of fault. Does the command that the user gave survive it? Does the job?"""

    name: str
    inject: Inject
    survived: bool
    ends_job: bool = False

    def strike(self, study: Study, command: Command, again: Callable[[], Command]) -> Command:
        """Do it; give the command again if it has ended; return the one that goes on, when the training does."""
        begun = len(study.lives)
        self.inject(study, command)
        if not self.survived:
            assert command.wait() != 0, f"{self.name}:\n{command.said}"
            command = again()
            if self.ends_job:
                settle(lambda: command.ended or len(study.lives) > begun, LIFE)
        return command


def _rank(study: Study, number: int) -> int:
    wait_until(lambda: number in study.ranks(), f"rank {number} runs", LIFE)
    return study.ranks()[number]


def usr2(study: Study, command: Command) -> None:
    study.slurm.run("scancel", "--signal=USR2", str(study.job))
    _await_next_life(study, command)


def requeue(study: Study, command: Command) -> None:
    study.slurm.run("scontrol", "requeue", str(study.job))
    _await_next_life(study, command)


def kill_rank(study: Study, command: Command) -> None:
    study.kill(_rank(study, max(study.ranks(), default=1)))


def kill_first_rank(study: Study, command: Command) -> None:
    study.kill(_rank(study, 0))


def kill_launcher(study: Study, command: Command) -> None:
    wait_until(lambda: bool(study.launchers()), "a launcher runs", LIFE)
    for pid in study.launchers():
        study.kill(pid)


def kill_snakemake(study: Study, command: Command) -> None:
    command.kill()


def kill_snakemake_early(study: Study, command: Command) -> None:
    """Nobody gives the command again before the training has ended."""
    command.kill()
    wait_until(lambda: study.layout.encoder("jepa", 0).exists() and not study.launchers(), "it is trained", PATIENCE)


def interrupt(study: Study, command: Command) -> None:
    command.interrupt()


def hang_up(study: Study, command: Command) -> None:
    command.hang_up()


def cancel(study: Study, command: Command) -> None:
    study.slurm.run("scancel", str(study.job))


def kill_node(study: Study, command: Command) -> None:
    """The daemon of a node dies; when Slurm has given it up, it comes back."""
    before = study.job
    study.slurm.kill_node("n2")
    settle(lambda: study.slurm.jobs().get(before) != "RUNNING" or command.ended, 90)
    study.slurm.start_node("n2")
    wait_until(study.slurm.ready, "the node is back", 90)
    _await_next_life(study, command)


def restart_controller(study: Study, command: Command) -> None:
    """Slurm's controller dies; for some seconds no question is answered."""
    study.slurm.kill_controller()
    time.sleep(5)
    study.slurm.start_controller()


def time_limit(study: Study, command: Command) -> None:
    """The limit comes near: Slurm gives notice, and the job is to save its state and queue again."""
    study.slurm.run("scontrol", "update", f"JobId={study.job}", "TimeLimit=1")
    _await_next_life(study, command)


def preemption(study: Study, command: Command) -> None:
    """A job of a higher partition takes all nodes for a few seconds."""
    study.slurm.run("sbatch", "-p", "urgent", "--exclusive", "-N2", "-o", "/dev/null", "--wrap", "srun sleep 3")
    _await_next_life(study, command)


def disk_quota(study: Study, command: Command) -> None:
    """No file of the first rank may grow beyond a few bytes: its next checkpoint cannot be written."""
    resource.prlimit(_rank(study, 0), resource.RLIMIT_FSIZE, (100, 100))


def stall(study: Study, command: Command) -> None:
    """A rank hangs in its file system for ten seconds."""
    pid = _rank(study, max(study.ranks(), default=1))
    study.kill(pid, signal.SIGSTOP)
    time.sleep(10)
    study.kill(pid, signal.SIGCONT)


def stall_first(study: Study, command: Command) -> None:
    """The rank that writes hangs in its file system for ten seconds."""
    pid = _rank(study, 0)
    study.kill(pid, signal.SIGSTOP)
    time.sleep(10)
    study.kill(pid, signal.SIGCONT)


def stall_controller(study: Study, command: Command) -> None:
    """Slurm's controller hangs for ten seconds."""
    pid = study.slurm.daemons["slurmctld"].pid
    os.kill(pid, signal.SIGSTOP)
    time.sleep(10)
    os.kill(pid, signal.SIGCONT)


def torn_checkpoint(study: Study, command: Command) -> None:
    """The newest checkpoint is damaged, and a rank dies: the one before it must do."""
    states = sorted(study.layout.state("jepa", 0).glob("step*.pt"))
    kill_first_rank(study, command)
    command.wait()
    newest = max(states, key=lambda path: path.name)
    newest = max(study.layout.state("jepa", 0).glob("step*.pt"), default=newest)
    newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])


def kill_while_saving(study: Study, command: Command) -> None:
    """The first rank dies with a checkpoint half-written."""
    folder = study.layout.state("jepa", 0)
    wait_until(
        lambda: any(folder.glob(".step*.tmp")) or command.ended, "a checkpoint is being written", LIFE, pause=0.0005
    )
    if 0 in (ranks := study.ranks()):
        study.kill(ranks[0])


def _await_next_life(study: Study, command: Command) -> None:
    """Until the job has begun anew, so that the next fault hits a training again."""
    begun = len(study.lives)
    settle(lambda: command.ended or len(study.lives) > begun, LIFE)


FAULTS = {
    fault.name: fault
    for fault in (
        Fault("USR2", usr2, True),
        Fault("requeue", requeue, True),
        Fault("time limit", time_limit, True),
        Fault("preemption", preemption, True),
        Fault("node daemon killed", kill_node, True),
        Fault("controller restarted", restart_controller, True),
        Fault("controller stalled", stall_controller, True),
        Fault("rank stalled", stall, True),
        Fault("first rank stalled", stall_first, True),
        Fault("rank killed", kill_rank, False, True),
        Fault("first rank killed", kill_first_rank, False, True),
        Fault("killed while saving", kill_while_saving, False, True),
        Fault("torn checkpoint", torn_checkpoint, False, True),
        Fault("disk quota", disk_quota, False, True),
        Fault("launcher killed", kill_launcher, False),
        Fault("snakemake killed", kill_snakemake, False),
        Fault("snakemake killed for good", kill_snakemake_early, False),
        Fault("Ctrl-C", interrupt, False),
        Fault("connection lost", hang_up, False),
        Fault("scancel", cancel, False, True),
    )
}


def _ordinary(study: Study) -> str:
    """The job that Snakemake's executor has submitted."""
    return next(iter(map(str, study.slurm.jobs("RUNNING"))))


def cancel_ordinary(study: Study, command: Command) -> None:
    study.slurm.run("scancel", _ordinary(study))


def requeue_ordinary(study: Study, command: Command) -> None:
    study.slurm.run("scontrol", "requeue", _ordinary(study))


ORDINARY: dict[str, Inject] = {
    "scancel": cancel_ordinary,
    "requeue": requeue_ordinary,
    "snakemake killed": kill_snakemake,
}


def orphans(study: Study) -> list[str]:
    """What still runs of a study when it should be at rest: jobs in the queue and processes."""
    settle(lambda: not study.slurm.active() and not study.processes(), 120)
    processes = [f"process {pid}: {values['command'][:80]}" for pid, values in study.processes().items()]
    return [*(f"job {job}: {state}" for job, state in study.slurm.active().items()), *processes]
