"""DVCLive: the rows as tables that DVC and its extension for VS Code draw; no experiment and no dvc.yaml is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from jepa3d.loggers import About, Writer, missing
from jepa3d.params import FrozenModel
from jepa3d.results import store


class Config(FrozenModel):
    kind: Literal["dvclive"] = "dvclive"


def begin(config: Config, about: About, step: int) -> Writer:
    try:
        from dvclive import Live
    except ImportError:
        raise missing("dvclive", "dvclive") from None
    folder = about.folder("dvclive")
    for table in folder.glob("plots/metrics/**/*.tsv") if step else ():  # later rows will be written again
        head, *rows = table.read_text(encoding="utf-8").splitlines(keepends=True)
        store.write_text(table, head + "".join(row for row in rows if int(row.split("\t")[0]) <= step))
    live = Live(dir=str(folder), resume=step > 0, report=None, save_dvc_exp=False, dvcyaml=None)
    live.log_params(about.flat())
    return Tables(live)


class Tables:
    def __init__(self, live: Any) -> None:
        self.live = live

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.live.step = step
        for name, value in values.items():
            self.live.log_metric(name, value)
        self.live.make_summary()

    def close(self, finished: bool) -> None:
        self.live.end()
