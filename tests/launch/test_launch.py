"""The launcher: one submission whatever happens to it, the job's log and exit code, and words about every end.

The jobs are real ones of submitit's local executor, on this machine. What their ranks do is not `jepa3d` but a
stand-in that waits for a file and does what is written there: so the tests hold every moment of a job in their hands.
Real trainings on several ranks are at the end (slow); a real Slurm is in tests/slurm.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jepa3d import project
from jepa3d.launch import launcher, queues, submit, trainings
from jepa3d.launch.cluster import Cluster
from jepa3d.launch.job import LIVES, Job, Place
from jepa3d.launch.trainings import Named
from jepa3d.layout import Layout
from jepa3d.problem import Problem
from jepa3d.results import store
from jepa3d.stages.patchify import patchify

PATIENCE = 120.0

# stands in for the command line: what the ranks of a job do, and the command that submits it
STAND_IN = """
import os, signal, sys, time
from pathlib import Path

def run(arguments):
    from jepa3d.problem import Problem
    rank, folder = os.environ["RANK"], Path(os.environ["STAND_IN"])
    with (folder / "started").open("a") as file:
        file.write(f"rank {rank} of {os.environ['WORLD_SIZE']}: {' '.join(arguments[1:])}\\n")
    print(f"rank {rank} works", file=sys.stderr, flush=True)
    while not (folder / "go").exists():
        time.sleep(0.02)
    plan = (folder / "go").read_text()
    if plan == "problem" and rank == "1":
        raise Problem("the disk is full", "no space", "free some")
    if plan == "kill" and rank == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    if plan in ("problem", "kill"):
        time.sleep(0.3)
        raise RuntimeError("Connection closed by peer")
    if plan == "requeue" and not (folder / f"lived{rank}").exists():
        (folder / f"lived{rank}").touch()
        return 128 + signal.SIGUSR2
    (folder / "result").touch()
    return 0

if __name__ == "__main__":
    from jepa3d.launch.submit import submit_wanted
    import stand_in

    submit_wanted(Path(sys.argv[1]), stand_in.run)
"""

LAUNCHER = """
import sys
from pathlib import Path
from jepa3d.launch.cluster import Cluster
from jepa3d.launch.job import Place, Work
from jepa3d.launch.launcher import attend
from jepa3d.problem import Problem

folder, where, settings = sys.argv[1:]
folder = Path(folder)
work = Work(Place(folder / "state" / "launch", "test-job"), "test", folder / "params.yaml", ("do", "this"),
                   settings, (), folder / "result", "jepa3d cancel it", (sys.executable, "-m", "stand_in"))
try:
    sys.exit(attend(work, where, Cluster(ranks_per_node=2, cpus_per_rank=1, poll=0.2)))
except Problem as problem:
    print(problem, file=sys.stderr)
    sys.exit(2)
"""


class Launching:
    """Launchers of one and the same job, each a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.place = folder, Place(folder / "state" / "launch", "test-job")
        self.running: list[subprocess.Popen[str]] = []
        self.environment = os.environ | {
            "STAND_IN": str(folder),
            "PYTHONPATH": os.pathsep.join([str(folder / "path"), *sys.path]),
        }

    def start(self, where: str = "local", settings: str = "these") -> subprocess.Popen[str]:
        words = [sys.executable, "-c", LAUNCHER, str(self.folder), where, settings]
        process = subprocess.Popen(
            words,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
            start_new_session=True,  # as a command of its own, whoever has started these tests
        )
        self.running.append(process)
        return self.running[-1]

    def go(self, plan: str) -> None:
        store.write_text(self.folder / "go", plan)

    def started(self) -> list[str]:
        path = self.folder / "started"
        return sorted(path.read_text().splitlines()) if path.exists() else []

    def wait(self, condition: Callable[[], Any]) -> None:
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.02)

    def working(self) -> None:
        self.wait(lambda: len(self.started()) == 2 and self.place.record.exists())


@pytest.fixture
def launching(tmp_path: Path) -> Iterator[Launching]:
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "stand_in.py").write_text(STAND_IN)
    (tmp_path / "params.yaml").write_text("study: x\n")
    found = Launching(tmp_path)
    yield found
    for process in found.running:
        process.kill()
        process.wait()
        process.stderr.close()  # type: ignore[union-attr]
    if (job := queues.Local().find("", found.place.jobs)) is not None:
        queues.Local().cancel(job)


def said(launcher: subprocess.Popen[str]) -> tuple[int, str]:
    words = launcher.communicate(timeout=PATIENCE)[1]
    return launcher.returncode, words


def test_a_job_is_submitted_once_whatever_happens_to_its_launchers(launching: Launching):
    first, beside = launching.start(), launching.start()  # at the same moment
    launching.working()
    first.send_signal(signal.SIGKILL)
    first.communicate()
    again = launching.start()
    other = launching.start(settings="others")
    assert said(other) == (2, ANY("trains it with other settings", "jepa3d cancel it"))
    interrupted = launching.start()
    assert "is under way" in interrupted.stderr.readline()  # type: ignore[union-attr]
    interrupted.send_signal(signal.SIGINT)
    assert said(interrupted) == (
        130,
        ANY("goes on; the same command follows it again", "to end it: jepa3d cancel it"),
    )
    for process in (again, beside):
        assert "its log:" in process.stderr.readline()  # type: ignore[union-attr]  # it follows the job
    launching.go("end")
    for process in (again, beside):
        words = process.stderr.read()  # type: ignore[union-attr]  # not `said`, which passes over what was read ahead
        assert (process.wait(), words) == (0, ANY("rank 0 works"))
    assert launching.started() == [f"rank {rank} of 2: --threads=1 do this" for rank in (0, 1)]
    assert not launching.place.folder.parent.exists()  # tidied up


def test_a_rank_that_fails_is_the_one_that_is_shown_and_its_code_is_the_launchers(launching: Launching):
    launcher = launching.start()
    launching.working()
    launching.go("problem")
    code, words = said(launcher)
    assert code == 2
    assert "rank 1 failed first" in words
    assert "the disk is full\n  no space\n  free some" in words
    assert launching.place.log(store.read_json(launching.place.record)["id"], 1).exists()  # the log stays


@pytest.mark.slow
def test_a_rank_that_is_killed_is_missed_and_the_same_command_starts_again(launching: Launching):
    launcher = launching.start()
    launching.working()
    launching.go("kill")
    code, words = said(launcher)
    assert code == 1
    assert "rank 1 ended without a word" in words
    assert "the same command goes on from the last checkpoint" in words
    launching.go("end")
    assert said(launching.start())[0] == 0
    assert len(launching.started()) == 4


@pytest.mark.slow
def test_a_job_that_is_told_to_stop_has_another_life(launching: Launching):
    launching.go("requeue")
    assert said(launching.start())[0] == 0
    assert len(launching.started()) == 4  # two lives of two ranks


@pytest.mark.slow
def test_a_job_that_ended_while_nobody_looked_is_not_done_again(launching: Launching):
    launcher = launching.start()
    launching.working()
    launcher.kill()
    launching.go("end")
    job = store.read_json(launching.place.record)["id"]
    launching.wait(lambda: queues.identity(int(job.split(":")[0])) is None)
    assert said(launching.start()) == (0, f"test: job {job} has trained it to the end meanwhile\n")
    assert len(launching.started()) == 2


def test_a_stop_signal_waits_until_the_job_can_answer_it():
    """Until submitit has its handlers, a rank imports for seconds; the signal would kill it."""
    code = "import os, signal; os.kill(os.getpid(), signal.SIGUSR2); print(signal.sigpending() == {signal.SIGUSR2})"
    words = [*shlex.split(submit._python()), "-c", code]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "True\n"


def test_a_machine_without_slurm_refuses_in_three_lines(launching: Launching):
    launching.environment["PATH"] = "/nowhere"
    code, words = said(launching.start("slurm"))
    assert code == 2
    assert words.splitlines()[0] == "--launch slurm: there is no 'sbatch' on this machine"
    assert len(words.splitlines()) == 3
    assert not launching.place.wanted.exists()


class ANY:
    """Equal to a text that has all of some words."""

    def __init__(self, *words: str) -> None:
        self.words = words

    def __eq__(self, text: object) -> bool:
        return isinstance(text, str) and all(word in text for word in self.words)

    def __repr__(self) -> str:
        return f"a text with {self.words}"


# --- without any job


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ("sbatch: error: invalid partition specified: nosuch", "partition"),
        ("sbatch: error: Batch job submission failed: Invalid account or account/partition combination", "account"),
        ("sbatch: error: Batch job submission failed: Invalid qos specification", "qos"),
        ("sbatch: error: Batch job submission failed: Requested time limit is invalid", "minutes"),
        ("sbatch: error: Batch job submission failed: Invalid feature specification", "constraint"),
        ("sbatch: error: Memory specification can not be satisfied", "memory_gb"),
        ("sbatch: error: something else", "ask the site"),
    ],
)
def test_what_sbatch_refuses_names_the_field_to_change(said: str, field: str):
    problem = submit._refused(said)
    assert field in problem.mend
    assert "sbatch: error" not in problem.why


def test_every_run_and_seed_of_every_folder_has_a_job_name_of_its_own(tmp_path: Path):
    folders = Layout(tmp_path / "a"), Layout(tmp_path / "b")
    places = [Place.of(layout, run, seed) for layout in folders for run in ("jepa", "mae") for seed in (0, 1)]
    assert len({place.name for place in places}) == 8
    assert all(re.fullmatch(r"jepa3d-\w+-seed\d-[0-9a-f]{8}", place.name) for place in places)
    assert places[0] == Place.of(Layout(tmp_path / "." / "a"), "jepa", 0)


RECORD = {"where": "slurm", "settings": "s", "ranks": 2, "host": os.uname().nodename}


class Queue:
    """A queue that knows one job."""

    def __init__(self, job: str | None) -> None:
        self.job = job
        self.cancelled: list[str] = []

    def find(self, name: str, folder: Path) -> str | None:
        return self.job

    def look(self, job: str) -> queues.Look:
        return queues.Look("running" if job == self.job else "ended", "")

    def cancel(self, job: str) -> None:
        self.cancelled.append(job)
        self.job = None


@pytest.fixture
def place(tmp_path: Path) -> Place:
    found = Place(tmp_path / "launch", "name")
    found.jobs.mkdir(parents=True)
    return found


def wanted(place: Place) -> None:
    store.write_json(place.wanted, {**RECORD, "name": "name"})


def test_a_job_that_never_came_on_record_is_found_by_its_name(place: Place, monkeypatch: pytest.MonkeyPatch):
    """The machine went down between sbatch and the record."""
    monkeypatch.setitem(queues.QUEUES, "slurm", Queue("12"))
    assert launcher.running(place) is None  # nothing was ever submitted from here
    wanted(place)
    (place.jobs / "12_submitted.pkl").touch()
    assert launcher.running(place) == {"id": "12", **RECORD}
    assert store.read_json(place.record)["id"] == "12"


def test_a_job_whose_submission_was_cut_off_is_cancelled(place: Place, monkeypatch: pytest.MonkeyPatch):
    """It is in the queue, but what it is to do was never written."""
    queue = Queue("12")
    monkeypatch.setitem(queues.QUEUES, "slurm", queue)
    wanted(place)
    assert launcher.running(place) is None
    assert queue.cancelled == ["12"]


def test_a_job_on_another_machine_cannot_be_seen_from_here(place: Place):
    store.write_json(place.record, {"id": "7:8", "where": "local", "settings": "s", "host": "elsewhere"})
    with pytest.raises(Problem, match="was started on elsewhere"):
        launcher.running(place)


def test_a_scheduler_that_is_silent_for_a_while_is_asked_again(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    queue = Queue("12")
    answers = iter([queues.Unreachable("down"), queues.Unreachable("down"), queues.Look("running", "RUNNING")])

    def look(job: str) -> queues.Look:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    queue.look = look  # type: ignore[method-assign]
    monkeypatch.setitem(queues.QUEUES, "slurm", queue)
    monkeypatch.setattr("jepa3d.launch.follow.time.sleep", lambda seconds: None)
    store.write_json(place.record, {"id": "12", "where": "slurm", "settings": "s", "host": "login"})
    assert launcher.running(place) is not None
    assert capsys.readouterr().err.count("the scheduler does not answer (down)") == 2


def test_this_process_does_not_train_beside_a_job(layout: Layout, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(queues.QUEUES, "slurm", Queue("12"))
    trainings.refuse_beside(Named("jepa", 0), layout)
    record = {"id": "12", "where": "slurm", "settings": "s", "host": "login"}
    store.write_json(Place.of(layout, "jepa", 0).record, record)
    with pytest.raises(Problem, match="jepa seed 0: job 12 trains it"):
        trainings.refuse_beside(Named("jepa", 0), layout)
    trainings.refuse_beside(Named("jepa", 0, "tuned"), layout)  # an evaluation has a job of its own
    store.write_json(Place.of(layout, "jepa", 0, "tuned").record, record)
    with pytest.raises(Problem, match="jepa tuned seed 0: job 12 trains it") as caught:
        trainings.refuse_beside(Named("jepa", 0, "tuned"), layout)
    assert "jepa3d cancel jepa tuned --seed 0" in caught.value.mend


@pytest.mark.parametrize(
    ("task", "why"),
    [
        ({"kind": "knn"}, "it scores frozen features"),
        ({"kind": "few_shot_finetune", "folds": 3}, "3 short trainings of their own"),
    ],
)
def test_what_ranks_could_not_share_is_not_submitted(
    tiny: dict[str, Any], write: Callable[[Any], Path], layout: Layout, task: dict[str, Any], why: str
):
    tiny["evals"]["it"] = {"dataset": "toys", "task": task}
    path = write(tiny)
    with pytest.raises(Problem, match=r"evals\.it: nothing here that ranks could share") as caught:
        trainings.launch(project.load(path), path, layout, Named("jepa", 0, "it"), "local", Cluster(), ())
    assert why in caught.value.why
    assert not layout.state("jepa", 0).exists()


def test_a_batch_that_the_ranks_cannot_share_is_refused_before_any_job(
    tiny: dict[str, Any], write: Callable[[Any], Path], layout: Layout
):
    tiny["evals"]["it"] = {"dataset": "toys", "task": {"kind": "finetune", "fit": {"steps": 4, "batch": 8}}}
    path = write(tiny)
    with pytest.raises(Problem, match=r"evals\.it\.task\.fit\.batch: 8 shapes cannot be shared by 3 ranks"):
        trainings.launch(
            project.load(path), path, layout, Named("jepa", 0, "it"), "local", Cluster(ranks_per_node=3), ()
        )


def test_cancelling_ends_the_job_and_forgets_it(layout: Layout, monkeypatch: pytest.MonkeyPatch):
    queue = Queue("12")
    monkeypatch.setitem(queues.QUEUES, "slurm", queue)
    named = Named("jepa", 0)
    assert trainings.cancel(named, layout) == "jepa seed 0: no job is waiting or running"
    assert not layout.state("jepa", 0).exists()  # and leaves nothing behind
    place = named.place(layout)
    store.write_json(place.record, {"id": "12", "where": "slurm", "settings": "s", "host": "login"})
    assert "job 12 is cancelled" in trainings.cancel(named, layout)
    assert queue.cancelled == ["12"]
    assert not place.record.exists()
    assert trainings.cancel(named, layout) == "jepa seed 0: no job is waiting or running"


def test_a_lock_whose_folder_was_tidied_up_is_taken_again(tmp_path: Path):
    folder = tmp_path / "launch"
    with launcher._lock(folder):
        waiting = subprocess.Popen(
            [sys.executable, "-c", "import sys, pathlib; from jepa3d.launch.launcher import _lock\n"
             "with _lock(pathlib.Path(sys.argv[1])): print(pathlib.Path(sys.argv[1], 'lock').exists())", str(folder)],
            stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        time.sleep(1.5)
        (folder / "lock").unlink()
        folder.rmdir()
    assert waiting.communicate(timeout=PATIENCE)[0] == "True\n"


def test_lives_without_progress_end(place: Place):
    job = Job(place, len, [], "", False, True, "slurm")
    for _ in range(LIVES):
        job._note_life()
    (place.folder.parent / "step000000010.pt").touch()
    job._note_life()  # it got further
    for _ in range(LIVES - 1):
        job._note_life()
    with pytest.raises(Problem, match="got no further"):
        job._note_life()


def test_the_options_of_a_slurm_job_are_those_of_the_file(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for tool in ("sbatch", "srun", "squeue", "scontrol", "scancel"):
        (tmp_path / tool).touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    cluster = Cluster(
        nodes=2,
        ranks_per_node=4,
        gpu=True,
        gpu_type="a100",
        cpus_per_rank=6,
        memory_gb=1.5,
        minutes=30,
        partition="p",
        account="a",
        qos="q",
        constraint="c",
        options={"reservation": "r", "hold": True, "exclusive": False},
        setup=("module load cuda",),
    )
    text = submit._slurm_executor(place, cluster)._make_submission_file_text("work", "")
    for line in (
        "nodes=2", "ntasks-per-node=4", "gpus-per-node=a100:4", "cpus-per-task=6", "mem=1536M", "time=30",
        "partition=p", "account=a", "qos=q", "constraint=c", "reservation=r", "hold", "requeue", "signal=USR2@90",
        "open-mode=append", "job-name=name",
    ):  # fmt: skip
        assert f"#SBATCH --{line}\n" in text
    assert "exclusive" not in text
    assert "wckey" not in text
    assert text.index("module load cuda") < text.index("--kill-on-bad-exit=1 --cpus-per-task=6")
    quiet = submit._slurm_executor(place, Cluster(requeue=False))._make_submission_file_text("work", "")
    assert "#SBATCH --no-requeue\n" in quiet
    assert "gpus" not in quiet


@pytest.mark.parametrize(("code", "noted"), [(-signal.SIGTERM, False), (1, True)])
def test_a_scontrol_that_is_ended_with_the_job_has_done_its_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, noted: bool
):
    """Slurm may end the step, with `scontrol requeue` in it, before that has returned: no failure to be noted."""
    job = Job(Place(tmp_path, "a-job"), run=lambda _: 0, command=[], cwd=".", gpu=False, requeue=True, where="slurm")

    def requeue(*_: object) -> None:
        raise subprocess.CalledProcessError(code, ["scontrol", "requeue", "8"])

    def killed(*_: object) -> None:
        raise SystemExit("killed with the step")

    monkeypatch.setattr(os, "kill", requeue)
    monkeypatch.setattr(time, "sleep", killed)
    monkeypatch.setattr(os, "_exit", killed)
    with pytest.raises(SystemExit):
        job._stopped(0, 0, 128 + signal.SIGUSR2)
    assert job.place.end(0).exists() is noted


# --- real trainings


@pytest.mark.slow
def test_two_local_ranks_train_a_run_and_a_stopped_one_ends_in_the_same_bits(
    tiny: dict[str, Any], write: Callable[[Any], Path], layout: Layout, toys: Path
):
    """As the user gives the commands; the ranks are told to stop twice, and the launcher is killed in between."""
    tiny["runs"]["jepa"]["fit"]["steps"] = 40
    tiny["execution"] |= {"log_every": 1, "checkpoint_every": 1000}
    params = write(tiny)
    cluster = params.parent / "cluster.yaml"
    cluster.write_text("{ranks_per_node: 2, cpus_per_rank: 1, poll: 0.2}")
    patchify(project.load(params), layout, "flat", "toys")
    command = [sys.executable, "-m", "jepa3d", "--params", str(params), "--results", str(layout.results), "--threads=1"]
    command += ["pretrain", "jepa", "--seed", "0"]
    several = [*command, "--launch", "local", "--cluster", str(cluster)]

    def result() -> tuple[dict[str, Any], list[float]]:
        curve = [row["loss"] for row in store.read_jsonl(layout.curve("jepa", 0)) if "loss" in row]
        return store.read_tensors(layout.encoder("jepa", 0))[0], curve

    subprocess.run(command, check=True, capture_output=True)
    _, alone = result()
    subprocess.run(several, check=True, capture_output=True)
    weights, curve = result()
    assert curve[:5] == pytest.approx(alone[:5], rel=1e-4)  # in float32; float64 is in test_several_ranks
    assert len(curve) == 40
    for path in (layout.encoder("jepa", 0), layout.run_config("jepa", 0), layout.curve("jepa", 0)):
        path.unlink()

    place, state = Place.of(layout, "jepa", 0), layout.state("jepa", 0) / "curve.jsonl"
    launcher = subprocess.Popen(several, stderr=subprocess.PIPE, text=True, start_new_session=True)
    for until in (5, 15):
        while not state.exists() or max(row["step"] for row in store.read_jsonl(state)) < until:
            assert launcher.poll() is None, launcher.communicate()
            time.sleep(0.02)
        for rank in _ranks_of(place):
            os.kill(rank, signal.SIGUSR2)
        time.sleep(1)
        launcher.kill()
        launcher.communicate()
        launcher = subprocess.Popen(several, stderr=subprocess.PIPE, text=True, start_new_session=True)
    words = launcher.communicate(timeout=300)[1]
    assert launcher.returncode == 0, words
    again, after = result()
    assert all((again[name] == weights[name]).all() for name in weights)
    assert after == curve
    left = [path.name for path in layout.state("jepa", 0).rglob("*")]
    assert not layout.state("jepa", 0).exists(), left


@pytest.mark.slow
def test_two_local_ranks_tune_an_encoder_for_an_evaluation(
    tiny: dict[str, Any], write: Callable[[Any], Path], layout: Layout, toys: Path
):
    """As the user gives the commands; the launcher is killed on the way, and the same command finds the job again."""
    tiny["runs"]["jepa"]["fit"] |= {"steps": 4}
    fitted = {"epochs": 12, "batch": 8, "lr": 0.003}
    tiny["execution"]["evals"] = {"tuned": {"checkpoint_every": 1000, "log_every": 1}}
    tiny["evals"]["tuned"] = {"dataset": "toys", "task": {"kind": "finetune", "validation": 0.2, "fit": fitted}}
    params = write(tiny)
    cluster = params.parent / "cluster.yaml"
    cluster.write_text("{ranks_per_node: 2, cpus_per_rank: 1, poll: 0.2}")
    patchify(project.load(params), layout, "flat", "toys")
    words = [sys.executable, "-m", "jepa3d", "--params", str(params), "--results", str(layout.results), "--threads=1"]
    subprocess.run([*words, "pretrain", "jepa", "--seed", "0"], check=True, capture_output=True)
    evaluate = [*words, "evaluate", "jepa", "tuned", "--seed", "0"]
    subprocess.run(evaluate, check=True, capture_output=True)
    alone = store.read_json(layout.evaluation("jepa", 0, "tuned"))
    layout.evaluation("jepa", 0, "tuned").unlink()

    several = [*evaluate, "--launch", "local", "--cluster", str(cluster)]
    launcher = subprocess.Popen(several, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while not list(layout.evaluation_state("jepa", 0, "tuned").glob("curve.jsonl")):
        assert launcher.poll() is None, launcher.communicate()
        time.sleep(0.02)
    launcher.kill()
    launcher.communicate()
    again = subprocess.run(several, capture_output=True, text=True, check=False, start_new_session=True)
    assert again.returncode == 0, again.stderr
    assert "is under way" in again.stderr or "to the end meanwhile" in again.stderr
    found = store.read_json(layout.evaluation("jepa", 0, "tuned"))
    curves = [[row["more"]["loss"] for row in one["details"]["curve"]["looks"]] for one in (alone, found)]
    assert curves[0] == pytest.approx(curves[1], rel=1e-3)  # in float32
    assert found["metrics"].keys() == alone["metrics"].keys()
    assert not layout.evaluation_state("jepa", 0, "tuned").exists()


def _ranks_of(place: Place) -> list[int]:
    """The processes that train: they have the job's folder among their words, and are no controller."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if b"submitit.core._submit" in words and os.fsencode(str(place.jobs)) in words:
                found.append(int(entry.name))
    return found
