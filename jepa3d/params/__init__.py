"""params.yaml: its entries (`models`), how they are carried out (`execution`), the studies (`study`), how it is read
(`load`) and checked (`validation`).

Floor 0: nothing here imports torch, and nothing here knows a plugin. `jepa3d.project.load` reads a params.yaml and
checks its entries against the plugins.
"""

from jepa3d.params.execution import Execution, Logger
from jepa3d.params.models import (
    Augment,
    DatasetConfig,
    Eval,
    Fit,
    Fraction,
    FrozenModel,
    Jitter,
    Level,
    Model,
    Monitor,
    Names,
    Objective,
    Pool,
    Run,
    Scheme,
    Tokenizer,
    Tune,
    TuneFit,
    changed,
    slice_of,
)
from jepa3d.params.study import Cell, Grid, Params, Study, run_slice

__all__ = [
    "Augment",
    "Cell",
    "DatasetConfig",
    "Eval",
    "Execution",
    "Fit",
    "Fraction",
    "FrozenModel",
    "Grid",
    "Jitter",
    "Level",
    "Logger",
    "Model",
    "Monitor",
    "Names",
    "Objective",
    "Params",
    "Pool",
    "Run",
    "Scheme",
    "Study",
    "Tokenizer",
    "Tune",
    "TuneFit",
    "changed",
    "run_slice",
    "slice_of",
]
