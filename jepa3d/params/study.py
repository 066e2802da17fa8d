"""What is computed: the studies, and params.yaml as a whole."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

from pydantic import Field, NonNegativeInt

from jepa3d.params.execution import ExecutionSection
from jepa3d.params.models import DatasetConfig, Eval, FrozenModel, Model, Names, Run, Scheme, slice_of
from jepa3d.params.validation import pick


class Grid(FrozenModel):
    """Every one of some runs with every one of some seeds, evaluated by every one of some evaluations."""

    runs: Names
    evals: Names
    seeds: tuple[NonNegativeInt, ...] = Field(min_length=1)


class Cell(NamedTuple):
    """One evaluation of one run with one seed."""

    run: str
    evaluation: str
    seed: int


class Study(Grid):
    """What `all` builds: its own grid, and `also` others: dear evaluations on some runs, with fewer seeds."""

    about: str = ""
    also: tuple[Grid, ...] = ()

    def cells(self) -> tuple[Cell, ...]:
        """Every evaluation that the study asks for, each once."""
        return tuple(
            dict.fromkeys(
                Cell(run, name, seed)
                for grid in (self, *self.also)
                for run in grid.runs
                for name in grid.evals
                for seed in grid.seeds
            )
        )

    def trainings(self) -> tuple[tuple[str, int], ...]:
        """Every (run, seed) that has to be trained, each once."""
        pairs = ((run, seed) for grid in (self, *self.also) for run in grid.runs for seed in grid.seeds)
        return tuple(dict.fromkeys(pairs))

    def run_names(self) -> tuple[str, ...]:
        """The runs of all its grids, in the order of their first mention."""
        return tuple(dict.fromkeys(run for grid in (self, *self.also) for run in grid.runs))

    def eval_names(self) -> tuple[str, ...]:
        """The evaluations of all its grids, in the order of their first mention."""
        return tuple(dict.fromkeys(name for grid in (self, *self.also) for name in grid.evals))


class Params(FrozenModel):
    """The whole of params.yaml, checked. `source` is the file's name, for messages."""

    study: str
    studies: dict[str, Study]
    datasets: dict[str, Any]
    patches: dict[str, Scheme]
    models: dict[str, Any]
    tasks: dict[str, Any] = Field(default_factory=dict)
    runs: dict[str, Run]
    evals: dict[str, Eval]
    extends: str | None = None  # the file that this one lies over; its entries are among these
    execution: ExecutionSection = ExecutionSection()
    source: str = "params.yaml"

    @property
    def chosen(self) -> Study:
        return self.studies[self.study]

    def choosing(self, study: str) -> Self:
        """The same with another study chosen; an unknown one is a Problem."""
        self.pick("studies", study)
        return self.model_copy(update={"study": study})

    def pick(self, section: str, name: str) -> Any:
        """`params.pick("runs", "jepa")`; an unknown name is a Problem with the nearest valid one."""
        return pick(getattr(self, section), section, name, self.source)

    def dataset(self, name: str) -> DatasetConfig:
        config: DatasetConfig = self.pick("datasets", name)
        return config

    def model(self, name: str) -> Model:
        entry: Model = self.pick("models", name)
        return entry

    def evaluation(self, name: str) -> Eval:
        entry: Eval = self.pick("evals", name)
        return entry


def run_slice(params: Params, name: str) -> dict[str, Any]:
    """All that a run's training depends on: its entry without the words about it, its model, its patch scheme."""
    run: Run = params.pick("runs", name)
    return {
        "run": {key: value for key, value in slice_of(run).items() if key != "about"},
        "model": slice_of(params.pick("models", run.model)),
        "patches": slice_of(params.pick("patches", run.patches)),
    }
