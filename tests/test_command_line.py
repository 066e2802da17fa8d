"""The command line: every mistake is three lines on stderr and exit code 2; a stopped training can go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple

import pytest
import torch
import typer

from jepa3d import __version__, cli, log
from jepa3d.layout import Layout
from jepa3d.params import Eval
from jepa3d.problem import Problem, did_you_mean
from jepa3d.results import store
from jepa3d.train import loop


class Said(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def jepa3d(
    tiny: dict[str, Any],
    write: Callable[[Any], Path],
    layout: Layout,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., Said]:
    """`jepa3d("pretrain", "jepa", "--seed", 0)` in this process, in the tiny study."""
    params = write(tiny)
    monkeypatch.setenv("JEPA3D_THREADS", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def _jepa3d(*arguments: object, where: tuple[str, ...] | None = None) -> Said:
        options = ("--params", str(params), "--results", str(layout.results)) if where is None else where
        monkeypatch.setattr(sys, "argv", ["jepa3d", *options, *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        return Said(code, *capsys.readouterr())

    return _jepa3d


def test_every_command_and_every_argument_says_in_one_line_what_it_is():
    commands = typer.main.get_command(cli.app).commands.values()  # type: ignore[attr-defined]
    shown = [command for command in commands if not command.hidden]
    assert len(shown) > 10
    for command in shown:
        assert command.rich_help_panel in (cli.PIPELINE, cli.USE, cli.INSPECT), command.name
        assert command.help is not None
        assert 20 < len(command.help) < 90, command.name
        assert "\n" not in command.help, command.name
        for parameter in command.params:
            assert parameter.help, f"{command.name} {parameter.name}"


def assert_problem(said: Said, *words: str) -> None:
    assert said.code == 2, said
    assert len(said.err.strip().splitlines()) <= 3, said.err
    assert "Traceback" not in said.err
    assert said.out == ""
    for word in words:
        assert word in said.err


def test_a_problem_is_three_lines_and_survives_pickling():
    import pickle

    problem = pickle.loads(pickle.dumps(Problem("what", "why", "mend")))
    assert str(problem) == "what\n  why\n  mend"
    assert str(Problem("what", "", "mend")) == "what\n  mend"
    assert did_you_mean("jeppa", ["jepa", "random_init"]) == "did you mean 'jepa'?"
    assert did_you_mean("xyz", ["jepa"], "add it") == "add it"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("pretrain", "jeppa", "--seed", 0), ("there is no run called 'jeppa'", "did you mean 'jepa'?")),
        (("convert", "toyz"), ("there is no data set called 'toyz'", "did you mean 'toys'?")),
        (("download", "toyz"), ("there is no data set called 'toyz'",)),
        (("patchify", "flat", "toyz"), ("there is no data set called 'toyz'",)),
        (("embed", "jepa", "toyz", "--seed", 0), ("there is no data set called 'toyz'",)),
        (("patchify", "flatt", "toys"), ("there is no patch scheme called 'flatt'", "did you mean 'flat'?")),
        (("embed", "jeppa", "toys", "--seed", 0), ("there is no run called 'jeppa'",)),
        (("evaluate", "jepa", "linaer", "--seed", 0), ("there is no evaluation called 'linaer'",)),
        (("pretrain", "jepa", "--seed", 0), ("canonical/toys.h5: no such file", "jepa3d convert toys")),
        (("patchify", "flat", "toys"), ("canonical/toys.h5: no such file", "jepa3d convert toys")),
        (("convert", "toys"), ("SOURCE.json: no such file", "jepa3d download toys")),
        (("evaluate", "jepa", "knn", "--seed", 7), ("no such file", "jepa3d embed jepa toys --seed 7")),
    ],
)
def test_a_mistake_is_three_lines_and_exit_code_2(
    jepa3d: Callable[..., Said], arguments: tuple[object, ...], words: tuple[str, ...]
):
    assert_problem(jepa3d(*arguments), *words)


HOLD = """
import sys
from contextlib import ExitStack
from pathlib import Path
from jepa3d.results.claim import claimed
with ExitStack() as held:
    for path in sys.argv[1:]:
        held.enter_context(claimed(Path(path), ""))
    print(flush=True)
    sys.stdin.read()
"""
VERBS: dict[tuple[object, ...], tuple[str, ...]] = {
    ("download", "toys"): ("toys",),
    ("convert", "toys"): ("toys",),
    ("patchify", "flat", "toys"): ("flat", "toys"),
    ("pretrain", "jepa", "--seed", 0): ("jepa", "0"),
    ("embed", "jepa", "toys", "--seed", 0): ("jepa", "0", "toys"),
    ("evaluate", "jepa", "knn", "--seed", 0): ("jepa", "0", "knn"),
    ("report",): ("tiny",),
}


def test_an_output_that_another_command_makes_is_refused(jepa3d: Callable[..., Said], layout: Layout):
    paths = [str(layout.claim(str(words[0]), *names)) for words, names in VERBS.items()]
    command = [sys.executable, "-c", HOLD, *paths]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        for words in VERBS:
            assert_problem(jepa3d(*words), "is being done already", f"process {other.pid}")
        other.kill()


@pytest.mark.parametrize("seed", ["-1", "x", "1.5"])
def test_a_seed_that_is_none_is_refused(jepa3d: Callable[..., Said], seed: str):
    said = jepa3d("pretrain", "jepa", "--seed", seed)
    assert said.code == 2
    assert "--seed" in said.err
    assert "Traceback" not in said.err


def test_a_missing_or_wrong_params_file_is_named(jepa3d: Callable[..., Said], tmp_path: Path):
    assert_problem(jepa3d("check", where=("--params", str(tmp_path / "no.yaml"))), "no.yaml: no such file")


def test_check_says_nothing_when_all_is_well_and_looks_into_objectives(
    jepa3d: Callable[..., Said], tiny: dict[str, Any], write: Callable[[Any], Path]
):
    assert jepa3d("check") == Said(0, "", "")
    tiny["runs"]["jepa"]["objective"]["mask"] = {"ratoi": 0.5}
    write(tiny)
    assert_problem(jepa3d("check"), "runs.jepa.objective.mask.ratoi: unknown key", "did you mean 'ratio'?")


def test_results_that_cannot_be_written_are_a_problem_and_nothing_is_left(
    jepa3d: Callable[..., Said], layout: Layout, toys: Path
):
    (layout.results / "patches").write_text("a file where the folder should be")
    assert_problem(jepa3d("patchify", "flat", "toys"), "cannot be written")
    assert not list(layout.results.rglob("*.tmp"))


def test_a_full_disk_in_the_middle_of_a_training_is_a_problem_and_keeps_its_state(
    jepa3d: Callable[..., Said], layout: Layout, toys: Path, monkeypatch: pytest.MonkeyPatch
):
    assert jepa3d("patchify", "flat", "toys").code == 0
    save = torch.save

    def full(state: dict[str, Any], file: IO[bytes]) -> None:
        if state["step"] > 7:
            file.write(b"half")
            raise OSError(28, "No space left on device")
        save(state, file)

    monkeypatch.setattr(torch, "save", full)
    assert_problem(jepa3d("pretrain", "jepa", "--seed", 0), "No space left on device", "free some space")
    assert [path.name for path in layout.state("jepa", 0).glob("*.pt")] == ["step000000007.pt"]
    assert not list(layout.results.rglob("*.tmp"))
    monkeypatch.setattr(torch, "save", save)
    assert "resumed at step 7" in jepa3d("pretrain", "jepa", "--seed", 0).err
    assert layout.encoder("jepa", 0).exists()


@pytest.mark.slow
def test_every_verb_up_to_the_report_runs_by_hand(
    jepa3d: Callable[..., Said], tiny: dict[str, Any], write: Callable[[Any], Path], layout: Layout
):
    tiny["studies"]["tiny"]["seeds"] = [3]
    write(tiny)
    chain = [("download", "toys"), ("convert", "toys"), ("convert", "toys", "--overlap", "toys")]
    chain += [("patchify", "flat", "toys")]
    for run in ("jepa", "random_init"):
        chain += [("pretrain", run, "--seed", 3), ("embed", run, "toys", "--seed", 3)]
        chain += [("evaluate", run, name, "--seed", 3) for name in ("linear", "knn")]
    for arguments in chain:
        said = jepa3d(*arguments)
        assert said.code == 0, said.err
        assert said.out == "", arguments
    said = jepa3d("report")
    assert said.code == 0, said.err
    assert "random_init" in said.out  # the tables
    assert set(store.read_json(layout.metrics)) == {"jepa", "random_init"}
    assert "<html" in layout.report.read_text()


def test_asked_to_stop_it_saves_its_state_and_the_same_command_goes_on(
    jepa3d: Callable[..., Said], tiny: dict[str, Any], write: Callable[[Any], Path], layout: Layout, toys: Path
):
    tiny["runs"]["jepa"]["fit"]["steps"] = 100
    tiny["execution"] |= {"checkpoint_every": 1000, "log_every": 1}
    write(tiny)
    assert jepa3d("patchify", "flat", "toys").code == 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        os._exit(jepa3d("pretrain", "jepa", "--seed", 0).code)
    curve = layout.state("jepa", 0) / "curve.jsonl"
    while not curve.exists():
        time.sleep(0.01)
    os.kill(child, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 128 + signal.SIGTERM
    (state,) = layout.state("jepa", 0).glob("*.pt")
    assert not layout.pretrain("jepa", 0).exists()
    said = jepa3d("pretrain", "jepa", "--seed", 0)
    assert said.code == 0
    assert f"resumed at step {int(state.stem[4:])}" in said.err


@pytest.mark.parametrize("verb", ["pretrain", "evaluate"])
def test_a_stopped_training_says_how_to_go_on(jepa3d: Callable[..., Said], monkeypatch: pytest.MonkeyPatch, verb: str):
    def stop(*arguments: object) -> None:
        raise loop.Stopped(9, signal.SIGTERM)

    monkeypatch.setattr(Eval, "needs", "encoder")
    monkeypatch.setattr(f"jepa3d.stages.{verb}.{verb}", stop)
    said = jepa3d(verb, "jepa", *(["knn"] * (verb == "evaluate")), "--seed", 0)
    assert said.code == 143
    assert said.err.strip() == "stopped at step 9 by SIGTERM; the same command resumes there"


def test_an_interrupt_from_the_keyboard_is_no_traceback(jepa3d: Callable[..., Said], monkeypatch: pytest.MonkeyPatch):
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("jepa3d.stages.patchify.patchify", interrupt)
    said = jepa3d("patchify", "flat", "toys")
    assert said.code == 130
    assert "Traceback" not in said.err


def test_what_is_said_also_goes_into_a_log_the_reason_of_a_failure_included(
    jepa3d: Callable[..., Said], layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "logs" / "convert" / "toys.log"
    options = ("--params", str(tmp_path / "params.yaml"), "--results", str(layout.results), "--log", str(path))
    said = jepa3d("convert", "toys", where=options)
    assert said.code == 2
    assert "SOURCE.json: no such file" in path.read_text()
    assert path.read_text() == said.err

    def mistaken(*arguments: object) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("jepa3d.stages.convert.convert", mistaken)
    assert jepa3d("convert", "toys", where=options).code == 1
    assert "ZeroDivisionError: ours" in path.read_text()
    assert "no such file" not in path.read_text(), "it is that of the last command"
    assert not isinstance(sys.stderr, log.Screen)


def test_another_study_than_that_of_the_file_is_chosen_by_its_name(
    jepa3d: Callable[..., Said], tiny: dict[str, Any], write: Callable[[Any], Path], layout: Layout
):
    tiny["studies"]["small"] = {"runs": ["jepa"], "evals": ["knn"], "seeds": [7]}
    options = ("--params", str(write(tiny)), "--results", str(layout.results))
    assert "seed7" in jepa3d("report", where=(*options, "--study", "small")).err
    assert "the study 'small' can run" in jepa3d("doctor", where=(*options, "--study", "small")).out
    assert_problem(jepa3d("report", where=(*options, "--study", "smal")), "no study called 'smal'", "mean 'small'?")


def test_python_m_jepa3d_is_the_command():
    done = subprocess.run([sys.executable, "-m", "jepa3d", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"jepa3d {__version__}"


def test_the_version_and_the_help(jepa3d: Callable[..., Said]):
    assert jepa3d("--version").out.strip() == f"jepa3d {__version__}"
    said = jepa3d("--help")
    assert all(
        verb in said.out for verb in ("download", "convert", "patchify", "pretrain", "embed", "evaluate", "report")
    )
    assert "no-such-verb" in jepa3d("no-such-verb").err


def test_one_fold_of_an_evaluation_is_not_submitted(jepa3d: Callable[..., Said]):
    assert_problem(jepa3d("evaluate", "jepa", "linear", "--seed", 0, "--fold", 0, "--launch", "local"), "--fold:")
