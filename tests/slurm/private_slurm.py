"""A real Slurm of one's own on this machine: munge, a controller, and virtual nodes with pretend GPUs.

No systemd, no cgroups, no database, nothing under /etc, and no root needed. Everything lives in one folder, the
daemons are children of this process, and `stop` ends exactly those. Needs Debian's or Ubuntu's `slurm-wlm`.

    with Slurm(folder) as slurm:
        slurm.run("sbatch", "--wrap", "hostname")
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

TOOLS = ("munged", "slurmctld", "slurmd", "sbatch", "srun")
PATH = f"{os.environ['PATH']}{os.pathsep}/usr/sbin"
FIRST_PORT = 17000
HOSTILE = {  # what users' shells say about jobs, all of it against what the project asks for
    "SBATCH_PARTITION": "urgent",
    "SBATCH_TIMELIMIT": "1",
    "SBATCH_NO_REQUEUE": "1",
    "SBATCH_JOB_NAME": "mine",
    "SBATCH_OUTPUT": "/nowhere/out",
    "SBATCH_MEM_PER_NODE": "1",
    "SQUEUE_PARTITION": "urgent",
    "SQUEUE_USERS": "nobody",
    "SQUEUE_NAMES": "mine",
    "SRUN_CPUS_PER_TASK": "3",
    "SLURM_NTASKS": "7",
    "RANK": "1",
    "WORLD_SIZE": "8",
    "MASTER_ADDR": "elsewhere",
}
CPUS, MEMORY_MB = 16, 200_000  # what a node claims to have; nobody measures
PATIENCE = 120.0  # seconds

CONFIG = """
ClusterName=private
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
# a requeued job waits until its old credential is void: two minutes if nothing is said
AuthInfo=socket={home}/munge.socket,cred_expire=5

ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={home}/finished.log
MpiDefault=none

# the nodes are one machine, and claim more than it has
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
ReturnToService=2

# react within a second, forget jobs late
SchedulerParameters=sched_min_interval=100000,bf_interval=1,batch_sched_delay=0
KillWait=2
MinJobAge=600
SlurmctldTimeout=30
SlurmdTimeout=15
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE

StateSaveLocation={home}/state
SlurmdSpoolDir={home}/spool-%n
SlurmctldPidFile={home}/slurmctld.pid
SlurmdPidFile={home}/%n.pid
SlurmctldLogFile={home}/slurmctld.log
SlurmdLogFile={home}/%n.log

NodeName={names} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports} CPUs={cpus} RealMemory={memory} Gres=gpu:{gpus}
PartitionName=main Nodes={names} Default=YES DefaultTime=10 MaxTime=1440 DefMemPerCPU=100 PriorityTier=1
PartitionName=urgent Nodes={names} DefaultTime=10 MaxTime=1440 DefMemPerCPU=100 PriorityTier=10
"""


def missing() -> list[str]:
    """The programs that are not installed."""
    return [tool for tool in TOOLS if shutil.which(tool, path=PATH) is None]


@dataclass
class Slurm:
    """A private cluster with its state in `home`, which must be a short path (sockets have short names)."""

    home: Path
    nodes: int = 2
    gpus: int = 2
    port: int = 0
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __enter__(self) -> Slurm:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    # ---- what a user does

    @property
    def environment(self) -> dict[str, str]:
        """What a shell needs to speak with this cluster."""
        path = f"{self.home / 'bin'}{os.pathsep}{PATH}"
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "SBATCH_"))}
        return inherited | {"SLURM_CONF": str(self.home / "slurm.conf"), "PATH": path}

    def run(self, *command: str, check: bool = True) -> str:
        """The output of one of Slurm's commands."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert done.returncode == 0 or not check, f"{' '.join(command)}: {done.stderr}"
        return done.stdout.strip()

    def jobs(self, *states: str) -> dict[int, str]:
        """Job numbers and states; all that the controller remembers, or those in one of `states`."""
        rows = [line.split("|") for line in self.run("squeue", "-h", "--states=all", "--format=%A|%T").splitlines()]
        return {int(number): state for number, state in rows if not states or state in states}

    def active(self) -> dict[int, str]:
        """The jobs that wait or run."""
        return self.jobs("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "STOPPED")

    def cancel_all(self, patience: float = PATIENCE) -> None:
        if active := self.active():
            self.run("scancel", *map(str, active), check=False)
            wait_until(lambda: not self.active(), "the jobs are gone", patience)

    # ---- nodes that fail and come back

    def kill_node(self, name: str) -> None:
        """The node's daemon dies as in a crash: its steps go on, but nobody watches them."""
        daemon = self.daemons.pop(name)
        daemon.kill()
        daemon.wait()

    def start_node(self, name: str) -> None:
        self._start(name, "slurmd", "-D", "-N", name, "-f", str(self.home / "slurm.conf"))

    def kill_controller(self) -> None:
        """The controller dies: no command of Slurm is answered until it is started again."""
        daemon = self.daemons.pop("slurmctld")
        daemon.kill()
        daemon.wait()

    def start_controller(self) -> None:
        self._start("slurmctld", "slurmctld", "-D", "-f", str(self.home / "slurm.conf"))
        wait_until(lambda: "is UP" in self.run("scontrol", "ping", check=False), "slurmctld answers", PATIENCE)

    def ready(self) -> bool:
        """All nodes are there and take jobs."""
        states = self.run("sinfo", "-h", "-N", "-p", "main", "-o", "%t", check=False).split()
        return len(states) == self.nodes and all(state in ("idle", "alloc", "mix") for state in states)

    # ---- start and stop

    def start(self) -> None:
        assert not missing(), f"not installed: {', '.join(missing())}"
        self.home.mkdir(parents=True, exist_ok=True)
        self.home.chmod(0o755)
        for name in ("state", "bin", *(f"spool-{node}" for node in self.names)):
            (self.home / name).mkdir(exist_ok=True)
        self._write_config()
        socket_name, key = str(self.home / "munge.socket"), self.home / "munge.key"
        if not key.exists():
            key.write_bytes(os.urandom(1024))
            key.chmod(0o400)
        names = ("pid-file", "log-file", "seed-file")
        files = [f"--{name}={self.home}/munge.{name.removesuffix('-file')}" for name in names]
        self._start("munged", "munged", "-F", "-f", f"--key-file={key}", f"--socket={socket_name}", *files)
        wait_until(lambda: Path(socket_name).exists(), "munged answers", PATIENCE)
        self.start_controller()
        for node in self.names:
            self.start_node(node)
        wait_until(self.ready, "the nodes are there", PATIENCE)

    def stop(self) -> None:
        """Cancel what runs, so that no step outlives the daemons, then end the daemons that were started here."""
        with contextlib.suppress(AssertionError, subprocess.SubprocessError):
            self.cancel_all(patience=5)
        for name in reversed(self.daemons):
            daemon = self.daemons[name]
            daemon.send_signal(signal.SIGCONT)
            daemon.terminate()
            try:
                daemon.wait(5)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        self.daemons.clear()

    @property
    def names(self) -> list[str]:
        return [f"n{number + 1}" for number in range(self.nodes)]

    def _start(self, name: str, *command: str) -> None:
        with (self.home / f"{name}.out").open("ab") as out:
            self.daemons[name] = subprocess.Popen(
                command, env=self.environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )

    def _write_config(self) -> None:
        self.port = self.port or free_ports(self.nodes + 1)
        for number in range(self.gpus):  # a pretend GPU: Slurm counts it and sets CUDA_VISIBLE_DEVICES
            device = self.home / f"nvidia{number}"
            device.unlink(missing_ok=True)
            device.symlink_to("/dev/null")
        names = f"n[1-{self.nodes}]"
        (self.home / "gres.conf").write_text(f"NodeName={names} Name=gpu File={self.home}/nvidia[0-{self.gpus - 1}]\n")
        values = {"host": socket.gethostname().partition(".")[0], "user": getpass.getuser(), "home": self.home}
        values |= {"port": self.port, "ports": f"[{self.port + 1}-{self.port + self.nodes}]", "names": names}
        values |= {"cpus": CPUS, "memory": MEMORY_MB, "gpus": self.gpus}
        (self.home / "slurm.conf").write_text(CONFIG.format(**values))
        # Snakemake's job step drops SLURM_CONF, which clusters with an /etc/slurm do not need
        shim = self.home / "bin" / "srun"
        shim.write_text(f'#!/bin/sh\nSLURM_CONF={self.home}/slurm.conf exec {shutil.which("srun", path=PATH)} "$@"\n')
        shim.chmod(0o755)


def free_ports(count: int, first: int = FIRST_PORT) -> int:
    """The first of `count` neighbouring ports that nobody listens at."""
    while first < 2**16 - count:
        with contextlib.ExitStack() as held:
            try:
                for port in range(first, first + count):
                    held.enter_context(socket.socket()).bind(("127.0.0.1", port))
                return first
            except OSError:
                first += count
    raise AssertionError("no free ports")


def wait_until(true: Callable[[], bool], what: str, seconds: float, pause: float = 0.1) -> None:
    """Wait until something is so; an AssertionError that names it when it does not come."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"waited {seconds:.0f} s in vain until {what}"
        time.sleep(pause)
