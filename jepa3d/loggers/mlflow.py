"""MLflow: a training is a run of an experiment; its settings are the run's parameters."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Literal

from jepa3d.loggers import About, Writer, missing, remember, remembered
from jepa3d.params import FrozenModel

PARAMETERS = 100  # that a server takes at once


class Config(FrozenModel):
    """`uri`: the tracking server, or a database as sqlite:///mlflow.db; null: as MLFLOW_TRACKING_URI says."""

    kind: Literal["mlflow"] = "mlflow"
    experiment: str = "jepa3d"
    uri: str | None = None


def begin(config: Config, about: About, step: int) -> Writer:
    try:
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param
    except ImportError:
        raise missing("mlflow", "mlflow") from None
    client, folder = MlflowClient(tracking_uri=config.uri), about.folder("mlflow")
    name = remembered(folder, step)
    if name is None:
        experiment = client.get_experiment_by_name(config.experiment)
        number = experiment.experiment_id if experiment else client.create_experiment(config.experiment)
        run = client.create_run(number, run_name=about.name, tags={"run": about.run, "seed": str(about.seed)})
        name = run.info.run_id
        pairs = [Param(key, str(value)) for key, value in about.flat().items()]
        for start in range(0, len(pairs), PARAMETERS):
            client.log_batch(name, params=pairs[start : start + PARAMETERS])
    else:
        client.update_run(name, status="RUNNING")
    remember(folder, name)
    return Tracked(client, name, Metric)


class Tracked:
    def __init__(self, client: Any, name: str, metric: Any) -> None:
        self.client, self.name, self.metric = client, name, metric

    def log(self, step: int, values: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        self.client.log_batch(self.name, metrics=[self.metric(key, value, now, step) for key, value in values.items()])

    def close(self, finished: bool) -> None:
        self.client.set_terminated(self.name, status="FINISHED" if finished else "KILLED")
