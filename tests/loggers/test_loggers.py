"""Every logger that is found gets the whole curve, goes on after a stop, and is named where its package is missing.

TensorBoard is here itself. The other services are stood in for by modules with the signatures that they document
(wandb 0.31, MLflow 3.17, DVCLive 3.49; the loggers were run against these versions): another argument is a TypeError.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from torch import nn

from jepa3d import loggers, plugins
from jepa3d.params import Augment, Execution, Fit, Logger
from jepa3d.problem import Problem
from jepa3d.results import store
from jepa3d.train import loop
from jepa3d.train.batches import Arrays, Batch, Batching, InMemory, Stream
from jepa3d.train.objective import Loss, Trainable

SETTINGS = {"run": {"fit": {"lr": 0.01, "steps": 20}, "data": ["toys"], "init": None}, "seed": 3}
Rows = dict[int, dict[str, float]]


class Service:
    """A stand-in: the rows that it got, by step, and what it knows of the training."""

    def __init__(self) -> None:
        self.rows: Rows = {}
        self.lives: list[str] = []  # under which name each life of the training is known
        self.ended: list[bool] = []
        self.parameters: dict[str, Any] = {}


class WandbRun:
    def __init__(self, service: Service) -> None:
        self.service = service

    def log(self, data: dict[str, Any], step: int | None = None, commit: bool | None = None) -> None:
        assert step is not None
        self.service.rows.setdefault(step, {}).update(data)

    def finish(self, exit_code: int | None = None) -> None:
        self.service.ended.append(exit_code == 0)


def wandb(service: Service) -> dict[str, ModuleType]:
    def init(
        entity: str | None = None,
        project: str | None = None,
        dir: str | None = None,
        id: str | None = None,
        name: str | None = None,
        config: dict[str, Any] | None = None,
        group: str | None = None,
        mode: str | None = None,
        reinit: str | None = None,
        resume: str | None = None,
    ) -> WandbRun:
        assert (project, mode, reinit, resume) == ("ours", "offline", "create_new", "allow")
        assert (group, name) == ("jepa", "jepa seed 3 finetune")
        assert id
        service.lives.append(id)
        service.parameters = config or {}
        return WandbRun(service)

    module = ModuleType("wandb")
    module.init = init  # type: ignore[attr-defined]
    return {"wandb": module}


def mlflow(service: Service) -> dict[str, ModuleType]:
    class MlflowClient:
        experiments: dict[str, str] = {}  # noqa: RUF012 (a server's)

        def __init__(self, tracking_uri: str | None = None, registry_uri: str | None = None) -> None:
            assert tracking_uri == "sqlite:///ours.db"

        def get_experiment_by_name(self, name: str) -> Any:
            number = self.experiments.get(name)
            return number and SimpleNamespace(experiment_id=number)

        def create_experiment(self, name: str, artifact_location: str | None = None, tags: Any = None) -> str:
            assert name not in self.experiments
            self.experiments[name] = "17"
            return "17"

        def create_run(
            self, experiment_id: str, start_time: int | None = None, tags: Any = None, run_name: str | None = None
        ) -> Any:
            assert (experiment_id, run_name) == ("17", "jepa seed 3 finetune")
            service.lives.append("run of mlflow")
            return SimpleNamespace(info=SimpleNamespace(run_id="run of mlflow"))

        def update_run(self, run_id: str, status: str | None = None, name: str | None = None) -> None:
            assert status == "RUNNING"
            service.lives.append(run_id)

        def log_batch(self, run_id: str, metrics: Sequence[Any] = (), params: Sequence[Any] = ()) -> None:
            assert len(params) <= 100
            service.parameters |= {one.key: one.value for one in params}
            for metric in metrics:
                service.rows.setdefault(metric.step, {})[metric.key] = metric.value

        def set_terminated(self, run_id: str, status: str | None = None, end_time: int | None = None) -> None:
            assert status in ("FINISHED", "KILLED")
            service.ended.append(status == "FINISHED")

    package, entities = ModuleType("mlflow"), ModuleType("mlflow.entities")
    package.MlflowClient = MlflowClient  # type: ignore[attr-defined]
    entities.Metric = lambda key, value, timestamp, step: SimpleNamespace(key=key, value=value, step=step)  # type: ignore[attr-defined]
    entities.Param = lambda key, value: SimpleNamespace(key=key, value=value)  # type: ignore[attr-defined]
    return {"mlflow": package, "mlflow.entities": entities}


def dvclive(service: Service) -> dict[str, ModuleType]:
    class Live:
        step: int

        def __init__(
            self,
            dir: str = "dvclive",
            resume: bool = False,
            report: str | None = None,
            save_dvc_exp: bool = True,
            dvcyaml: str | None = "dvc.yaml",
        ) -> None:
            assert (report, save_dvc_exp, dvcyaml) == (None, False, None)  # nothing of the user's own is written
            assert resume == bool(service.lives)
            service.lives.append(dir)
            self.table = Path(dir) / "plots" / "metrics" / "loss.tsv"

        def log_params(self, params: dict[str, Any]) -> None:
            service.parameters |= params

        def log_metric(self, name: str, val: float, timestamp: bool = False, plot: bool = True) -> None:
            service.rows.setdefault(self.step, {})[name] = val
            if name == "loss":
                self.table.parent.mkdir(parents=True, exist_ok=True)
                before = self.table.read_text() if self.table.exists() else "step\tloss\n"
                self.table.write_text(f"{before}{self.step}\t{val}\n")

        def make_summary(self) -> None:
            steps = [int(line.split("\t")[0]) for line in self.table.read_text().splitlines()[1:]]
            assert len(steps) == len(set(steps))  # no step stands twice in the table

        def end(self) -> None:
            service.ended.append(True)

    module = ModuleType("dvclive")
    module.Live = Live  # type: ignore[attr-defined]
    return {"dvclive": module}


STAND_INS: dict[str, Callable[[Service], dict[str, ModuleType]]] = {
    "wandb": wandb,
    "mlflow": mlflow,
    "dvclive": dvclive,
}
OPTIONS: dict[str, dict[str, str]] = {
    "wandb": {"project": "ours", "mode": "offline"},
    "mlflow": {"experiment": "ours", "uri": "sqlite:///ours.db"},
}


def entry(kind: str) -> Logger:
    return Logger.model_validate({"kind": kind, **OPTIONS.get(kind, {})})


def about(folder: Path) -> loggers.About:
    return loggers.About(folder / "results", "jepa", 3, SETTINGS, ("finetune",))


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Service:
    """The service of the test's kind, in the place of its package."""
    made, kind = Service(), request.getfixturevalue("kind")
    for name, module in STAND_INS[kind](made).items() if kind in STAND_INS else ():
        monkeypatch.setitem(sys.modules, name, module)
    return made


def rows_of(kind: str, service: Service, folder: Path) -> Rows:
    """What has arrived: TensorBoard is asked for it."""
    if kind != "tensorboard":
        return service.rows
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events, rows = EventAccumulator(str(about(folder).folder("tensorboard"))).Reload(), Rows()
    for name in events.Tags()["scalars"]:
        steps = [event.step for event in events.Scalars(name)]
        assert len(steps) == len(set(steps))
        for event in events.Scalars(name):
            rows.setdefault(event.step, {})[name] = event.value
    return rows


class Toy(Trainable):
    def __init__(self, fails_at: int) -> None:
        super().__init__()
        self.net, self.fails_at = nn.Linear(3, 1), fails_at

    def forward(self, batch: Batch, progress: float = 0.0) -> Loss:
        if round(progress * 20) == self.fails_at:
            raise ConnectionError("the power went off")
        return Loss((self.net(batch.points)[..., 0] - 1.0).square().mean(), {})


def training(folder: Path, chosen: Sequence[Logger], fails_at: int = -1) -> loop.Training:
    points, indices = np.ones((8, 4, 3), np.float32), np.zeros((8, 2), np.uint16)
    source = InMemory(Arrays(points, indices, indices[:, :, None].copy(), np.zeros(8, np.int64)))
    execution = Execution(log_every=5, checkpoint_every=10, loggers=tuple(chosen))
    job = loop.Job(folder / "state", "one", "toy", execution=execution, about=about(folder))
    fit = Fit(steps=20, batch=8, lr=0.01)
    return loop.Training(Toy(fails_at), Stream(source, Batching(8, Augment()), 1), fit, 2, job)


@pytest.mark.parametrize("kind", plugins.known(loggers))
def test_a_training_that_was_interrupted_has_its_whole_curve_under_one_name(
    tmp_path: Path, kind: str, service: Service
):
    assert kind == "tensorboard" or kind in STAND_INS, "say here how to read back what this logger was given"
    with pytest.raises(ConnectionError):
        loop.run(training(tmp_path, [entry(kind)], fails_at=16))
    time.sleep(
        1.1 if kind == "tensorboard" else 0
    )  # it reads the files of one second in their names' order, 10 before 9
    whole = training(tmp_path, [entry(kind)])
    loop.run(whole)
    curve = {row["step"]: row for row in store.read_jsonl(whole.job.curve)}
    arrived = rows_of(kind, service, tmp_path)
    assert sorted(arrived) == sorted(curve) == [5, 10, 15, 20]
    for step, values in arrived.items():
        assert set(values) == set(curve[step]) - {"step"}
        assert values["loss"] == pytest.approx(curve[step]["loss"])
    if kind in STAND_INS:
        assert len(service.lives) == 2
        assert len(set(service.lives)) == 1
        assert service.ended == [kind == "dvclive", True]  # DVCLive has one way to end
        assert "lr" in str(service.parameters)


@pytest.mark.parametrize("kind", plugins.known(loggers))
def test_a_training_that_begins_anew_is_another_one(tmp_path: Path, kind: str, service: Service):
    writer = loggers.opened([entry(kind)], about(tmp_path), 0)[kind]
    writer.log(5, {"loss": 1.0})
    writer.close(finished=False)
    if kind == "tensorboard":
        loggers.opened([entry(kind)], about(tmp_path), 0)[kind].close(finished=True)
        assert rows_of(kind, service, tmp_path) == {}
    elif kind != "dvclive":  # which begins its tables anew by itself
        loggers.opened([entry(kind)], about(tmp_path), 0)
        assert len(service.lives) == 2
        assert kind == "mlflow" or len(set(service.lives)) == 2


@pytest.mark.parametrize("kind", plugins.known(loggers))
def test_a_missing_package_is_a_problem_that_says_how_to_install_it(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
):
    for name in ("wandb", "mlflow", "dvclive", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(Problem) as caught:
        loop.run(training(tmp_path, [entry(kind)]))
    assert caught.value.what == f"execution.loggers: '{kind}' needs the package {kind}, which is not installed"
    assert f"pip install {kind}" in caught.value.mend


def test_where_nothing_is_chosen_tensorboard_is_used_if_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert list(loggers.opened(None, about(tmp_path), 0)) == ["tensorboard"]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert loggers.opened(None, about(tmp_path), 0) == {}
    assert loggers.opened([], about(tmp_path), 0) == {}


def test_a_service_that_fails_does_not_end_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    class Failing:
        def log(self, step: int, values: Mapping[str, float]) -> None:
            raise TimeoutError("no answer")

        def close(self, finished: bool) -> None:
            raise AssertionError("it was given up")

    monkeypatch.setattr(loggers, "opened", lambda *chosen: {"far": Failing()})
    one = training(tmp_path, [])
    loop.run(one)
    assert capsys.readouterr().err.count("the logger 'far' gets no more rows: no answer") == 1
    assert [row["step"] for row in store.read_jsonl(one.job.curve)] == [5, 10, 15, 20]


def test_settings_without_structure_keep_their_names_and_values(tmp_path: Path):
    assert about(tmp_path).flat() == {
        "run.fit.lr": 0.01, "run.fit.steps": 20, "run.data": "['toys']", "run.init": "None", "seed": 3,
    }  # fmt: skip
