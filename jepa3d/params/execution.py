"""How trainings are carried out: the section `execution:` of params.yaml. Nothing here is science.

No number depends on it (`compile` changes roundings, as another processor does), so no stamp, no fingerprint, no rule's
`params:` and none of DVC's has any of it: what is changed here makes nothing anew, and a training that was stopped goes
on with the new values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, PositiveFloat, PositiveInt

from jepa3d.params.models import FrozenModel


class Logger(FrozenModel):
    """Where the rows of a training's curve go: `kind` names the plugin, which checks the rest by its own Config."""

    model_config = ConfigDict(frozen=True, extra="allow")
    kind: str


def _as_entries(value: Any) -> Any:
    """A name alone stands for an entry of that kind without options."""
    if not isinstance(value, (list, tuple)):
        return value
    return tuple({"kind": entry} if isinstance(entry, str) else entry for entry in value)


Loggers = Annotated[tuple[Logger, ...], BeforeValidator(_as_entries)]


def _as_word(value: Any) -> Any:
    """YAML 1.1 reads `on` and `off` as true and false."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


class Execution(FrozenModel):
    """How one training is carried out; `embed` and the evaluations heed `memory_gb`."""

    checkpoint_every: PositiveInt = 500  # steps between two checkpoints
    log_every: PositiveInt = 20  # steps between two rows of the curve
    monitor_every: PositiveInt = 200  # steps between two looks of the collapse monitor
    memory_gb: PositiveFloat = 8.0  # for shapes, all ranks of a node together where they are streamed
    compile: Annotated[Literal["auto", "on", "off"], BeforeValidator(_as_word)] = "auto"  # auto: on GPUs
    loggers: Loggers | None = None  # beside the curve itself; None: TensorBoard, where it is installed

    @property
    def memory(self) -> float:
        """`memory_gb` in bytes."""
        return self.memory_gb * 1e9


class ExecutionSection(Execution):
    """The section: values for all, and for single runs or evaluations those that differ."""

    runs: dict[str, Execution] = Field(default_factory=dict)
    evals: dict[str, Execution] = Field(default_factory=dict)

    def of_run(self, name: str) -> Execution:
        """How a run is carried out."""
        return self._of(self.runs, name)

    def of_evaluation(self, name: str) -> Execution:
        """How an evaluation is carried out."""
        return self._of(self.evals, name)

    def _of(self, entries: Mapping[str, Execution], name: str) -> Execution:
        own = entries.get(name, Execution())
        fields = {field: getattr(self, field) for field in Execution.model_fields}
        return own.model_copy(update={key: value for key, value in fields.items() if key not in own.model_fields_set})
