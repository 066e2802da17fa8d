"""The entries of params.yaml as frozen, strict models: data sets, patches, models, runs, evaluations."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    PrivateAttr,
    model_validator,
)


class FrozenModel(BaseModel):
    """The base of every entry of params.yaml: immutable, no unknown keys, no silent conversions."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _as_tuple(value: Any) -> Any:
    """One name stands for a list of one."""
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class DatasetConfig(FrozenModel):
    """What every data set's entry has; a plugin's `Config` adds its own fields."""

    kind: str
    root: str | None = None  # an existing folder or archive, used in place; None: made or downloaded
    strict: bool = False  # True: stop at the first damaged shape instead of setting it aside
    # How many jobs make its patches, for sets of millions. Not part of what is computed: the patches are the same.
    shards: PositiveInt = Field(default=1, exclude=True)


class Level(FrozenModel):
    """One level of patches: `num` centres, each with its `size` nearest points."""

    num: PositiveInt
    size: PositiveInt


class Scheme(FrozenModel):
    """How clouds become patches (section 4.1): the points that are used, and FPS + KNN over them.

    `sample` says which of a cloud's stored points are used: the first ones, a seeded random subset, or FPS. With
    `resample` a training draws them anew for every (epoch, shape), moves them to the unit sphere, and computes FPS and
    KNN from the first drawn point (`live`). The cache then has the first points: those of evaluations and the monitor.
    `live: true` recomputes FPS and KNN after augmentation instead of using the cached indices. The cache is exact
    under rotation, uniform scale and translation; under per-axis scale and jitter it is an approximation.
    """

    points: PositiveInt = 1024
    sample: Literal["first", "random", "fps", "resample"] = "first"
    levels: tuple[Level, ...] = Field(default=(Level(num=64, size=32),), min_length=1)
    live: bool = False

    @property
    def resampled(self) -> bool:
        """Whether a training draws its points anew for every (epoch, shape)."""
        return self.sample == "resample"

    @property
    def live_levels(self) -> tuple[Level, ...]:
        """The levels that are recomputed after augmentation: all or none."""
        return self.levels if self.live else ()

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        available = self.points
        for level in self.levels:
            if max(level.num, level.size) > available:
                raise ValueError(f"{level.num} patches of {level.size} points need more than the {available} available")
            available = level.num
        if self.points > 65535:
            raise ValueError("indices are stored as uint16: at most 65535 points")
        if self.resampled and not self.live:
            raise ValueError(
                "sample: resample draws other points for each batch, whose patches no cache has: live: true"
            )
        return self


class Tokenizer(FrozenModel):
    """The mini-PointNet. `two_stage` is the community's, `single` the document's MLP + max (method.md 10).

    `widths` of `two_stage`: the two widths before the first max and the one after the concat; of `single`: the
    hidden widths of the MLP. `split` computes the layer after the concat as two products: the same function. With a
    `bridge` the mini-PointNet is so wide and a linear layer after its last max makes the tokens, as in Point-BERT.
    `init`: torch's own, or the Transformer's truncated normal, as the Point-MAE family has it.
    """

    kind: Literal["two_stage", "single"] = "two_stage"
    widths: tuple[PositiveInt, ...] = (128, 256, 512)
    split: bool = True
    bridge: PositiveInt | None = None
    init: Literal["torch", "trunc_normal"] = "torch"

    @model_validator(mode="after")
    def _three_widths(self) -> Self:
        if self.kind == "two_stage" and len(self.widths) != 3:
            raise ValueError("a two_stage tokenizer has exactly three widths")
        return self


Pool = Literal["max_mean", "mean", "max", "sum", "cls", "cls_max"]  # sum: max + mean; the others are concatenated


class Model(FrozenModel):
    """The encoder's entry (section 4.2): what every kind says of itself before anything is built.

    `Config` of encoders/<kind>.py is one of these with the fields of its kind. These defaults are those of a kind that
    computes its features: nothing in it can be trained.
    """

    kind: str = "transformer"

    # fields that weights do not depend on
    FREE: ClassVar[frozenset[str]] = frozenset({"drop_path", "dropout", "attention_dropout", "pool"})

    @property
    def levels(self) -> int | None:
        """How many levels of patches it reads; None: the points alone, whatever the patches are."""
        return 1

    @property
    def layers(self) -> int:
        """How many layers with tokens it has; 0: its features are computed, and nothing can be trained."""
        return 0

    @property
    def separable(self) -> bool:
        """Whether its network is a `nets.encoder.Separable`: what objectives that mask tokens of one level need."""
        return False

    @property
    def pyramid(self) -> bool:
        """Whether its network is a `nets.encoder.Pyramid`: what objectives that mask several levels need."""
        return False

    @property
    def depths(self) -> tuple[int, ...]:
        """The layers (0-based) after which the prediction of points reads tokens, in ascending order."""
        return ()

    @property
    def depth_widths(self) -> tuple[int, ...]:
        """The width of the tokens after each of `depths`."""
        return ()

    @property
    def pooled(self) -> str:
        """How tokens become a shape's feature, for a protocol's line: a kind without a choice says its name."""
        return self.kind

    @property
    def pools(self) -> tuple[str, ...]:
        """The ways of pooling that a classifier on it may choose."""
        return ()

    @property
    def widest(self) -> int:
        """Numbers that its widest layer has for each point of a patch: what decides how many shapes a cache holds."""
        return 1

    @property
    def about(self) -> str:
        """What it is, for the model card."""
        return f"features of the kind '{self.kind}', which need no training"

    def shape(self) -> dict[str, Any]:
        """What its weights were made for: all fields but those that they do not depend on."""
        return {key: value for key, value in slice_of(self).items() if key not in self.FREE}

    def tuned(self, drop_path: float, pool: str | None = None) -> Self:
        """The entry of this encoder when it is trained on for a task."""
        return self.model_copy(update={"drop_path": drop_path} | ({} if pool is None else {"pool": pool}))


class Jitter(FrozenModel):
    std: PositiveFloat = 0.01
    clip: PositiveFloat = 0.02


class Augment(FrozenModel):
    """Augmentation of the raw cloud (section 7), in this order: scale, rotate, shift, jitter. y is up."""

    scale: tuple[PositiveFloat, PositiveFloat] | None = None
    scale_per_axis: bool = False
    rotate: Literal["none", "upright", "so3"] = "none"
    shift: NonNegativeFloat = 0.0
    jitter: Jitter | None = None

    @model_validator(mode="after")
    def _range(self) -> Self:
        if self.scale and self.scale[0] > self.scale[1]:
            raise ValueError("scale is [smallest, largest]")
        return self


class Fit(FrozenModel):
    """One training: length, order of the shapes, AdamW, schedule. How it is carried out is `execution.Execution`."""

    steps: NonNegativeInt | None = None  # exactly one of steps and epochs
    epochs: PositiveInt | None = None
    batch: PositiveInt = 128  # over all ranks
    accumulate: PositiveInt = 1
    lr: PositiveFloat = 1.5e-4
    lr_final: NonNegativeFloat = 0.0  # where the cosine ends
    horizon: Annotated[float, Field(ge=1.0)] = 1.0  # the cosine's length in those of the training: 4/3 cuts it at 3/4
    warmup_steps: NonNegativeInt | None = None  # at most one of the two
    warmup_epochs: NonNegativeFloat | None = None
    weight_decay: NonNegativeFloat = 0.05
    decay: Literal["matrices", "all"] = "matrices"  # matrices: not biases, norms and tokens
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    clip: PositiveFloat | None = None
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # auto: bf16 on GPUs, fp32 on CPUs
    stream: bool = False  # shapes are read from the disk, block-shuffled, for sets that no memory holds

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give exactly one of steps and epochs")
        if self.warmup_steps is not None and self.warmup_epochs is not None:
            raise ValueError("give at most one of warmup_steps and warmup_epochs")
        if self.batch % self.accumulate:
            raise ValueError(f"batch {self.batch} is no multiple of accumulate {self.accumulate}")
        return self


def in_memory(fit: Fit) -> Fit:
    """Of a training whose few shapes are always in memory. A ValueError where `stream` asks for something else."""
    if fit.stream:
        raise ValueError("this training holds its shapes in memory: it has no stream")
    return fit


class TuneFit(Fit):
    """A training of labelled shapes, with the peers' fine-tuning values (protocols.md) as defaults."""

    batch: Annotated[int, Field(ge=2)] = 32  # BatchNorm needs two
    lr: PositiveFloat = 5e-4
    clip: PositiveFloat | None = 10.0


class Tune(FrozenModel):
    """How an encoder is trained on with a head of its own (section 8); the tasks that do so add their own fields.

    Learning rates: the head's is `fit.lr`. Pretrained parameters have `encoder_lr_scale` times that, and in an
    encoder of L blocks block l further has `layer_decay` to the power L + 1 - l; tokenizer and position embedding are
    l = 0, the final norm is l = L + 1. A run that was not trained has nothing pretrained: all its factors are 1.
    """

    which: Literal["context", "target"] = "context"  # the encoder that is trained on, or its EMA copy
    pool: Pool = "max_mean"  # with cls: a [CLS] token, drawn anew where pretraining had none
    hidden: tuple[PositiveInt, ...] = (256, 256)  # of the head, each with BatchNorm, ReLU, dropout; []: one layer
    head_norm: bool = True  # false: no BatchNorm in the head
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.5
    drop_path: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    encoder_lr_scale: Annotated[float, Field(gt=0.0, le=1.0)] = 0.1
    layer_decay: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    augment: Augment = Augment()
    fit: TuneFit = TuneFit(epochs=300, warmup_epochs=10)


class Monitor(FrozenModel):
    """The collapse monitor: how many shapes it looks at, and the labelled train split of the online k-NN probe."""

    shapes: Annotated[int, Field(ge=2)] = 512
    probe: str | None = None  # a labelled data set; None: the run's own when it has labels


def init_file(init: Any) -> Path | None:
    """The file that an `init` names; None where it names a run. Variables and ~ are those of the shell."""
    if not isinstance(init, str) or not ("/" in init or init.endswith(".safetensors")):
        return None
    return Path(os.path.expandvars(init)).expanduser()


class Objective(FrozenModel):
    """A run's objective: `kind` names the plugin, the rest is checked by the plugin's own Config.

    `reads` is the run of a first stage, whose file the objective is handed.
    """

    model_config = ConfigDict(frozen=True, extra="allow")
    kind: str
    reads: str | None = None

    def options(self) -> dict[str, Any]:
        return {"kind": self.kind, **(self.model_extra or {})}


class Run(FrozenModel):
    """One row of the tables: an objective on data, with a model, an augmentation and a training.

    `init` is where the encoder's first weights are from: another run (its context encoder, of the same seed), or the
    path of an encoder's file, which has a / or ends in .safetensors. Null: they are drawn.
    """

    about: str = ""  # one line for the report
    init: str | None = None
    data: Names
    patches: str
    model: str
    objective: Objective
    augment: Augment = Augment()
    fit: Fit
    monitor: Monitor = Monitor()

    @property
    def pretrained(self) -> bool:
        """Whether its encoder has other weights than those that were drawn."""
        return self.fit.steps != 0 or self.init is not None

    @property
    def init_file(self) -> Path | None:
        """The file that `init` names, where it names no run."""
        return init_file(self.init)

    @property
    def stages_before(self) -> tuple[str, ...]:
        """The runs that have to be trained before this one, each once."""
        runs = (None if self.init_file else self.init, self.objective.reads)
        return tuple(dict.fromkeys(run for run in runs if run is not None))


class EvalFacts(NamedTuple):
    """What the plugin of a task says of an evaluation."""

    needs: Literal["features", "encoder"]  # what it reads
    folds: int  # trainings that are jobs of their own; 0: the evaluation is one job
    few_labels: bool  # it measures what a few labels are enough for


class Eval(FrozenModel):
    """One evaluation: a task on a data set. `patches` is for tasks that take the encoder itself."""

    dataset: str
    task: dict[str, Any]
    patches: str | None = None
    _settings: Any = PrivateAttr(None)
    _facts: EvalFacts = PrivateAttr(EvalFacts("features", 0, few_labels=False))

    def settled(self, settings: FrozenModel, facts: EvalFacts) -> Self:
        """This entry with its task's defaults, and what the plugin says of it."""
        made = self.model_copy(update={"task": slice_of(settings)})
        made._settings, made._facts = settings, facts
        return made

    @property
    def settings(self) -> Any:
        """The task's own Config."""
        return self._settings

    @property
    def needs(self) -> Literal["features", "encoder"]:
        """What the task reads: frozen features, or the encoder itself."""
        return self._facts.needs

    @property
    def folds(self) -> int:
        """How many trainings it consists of that are jobs of their own; 0: it is one job."""
        return self._facts.folds

    @property
    def few_labels(self) -> bool:
        """Whether it measures what a few labels are enough for."""
        return self._facts.few_labels

    @property
    def shareable(self) -> bool:
        """Whether several ranks may share it: one training, not frozen features or many small trainings."""
        return self.needs == "encoder" and not self.folds


def changed(model: BaseModel) -> set[str]:
    """The fields of an entry that are not at their defaults, whether they were written or not."""
    return {name for name, field in type(model).model_fields.items() if getattr(model, name) != field.get_default()}


def slice_of(model: BaseModel) -> dict[str, Any]:
    """A piece of the configuration as plain JSON: a rule's `params:` and a file's stamp."""
    plain: dict[str, Any] = model.model_dump(mode="json")
    return plain
