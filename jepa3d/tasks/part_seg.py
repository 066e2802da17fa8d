"""Part segmentation: which part each point belongs to, the shape's category being given (ShapeNetPart's protocol).

One training gives three choices of the epoch: `honest` (best instance mIoU on a held-out part of the train split; the
headline), `last`, and `community` (best instance mIoU on the test split itself, as every peer chooses; marked so). With
nothing held out (`validation: 0`, as the peers train) the headline is that of the last epoch. One optimiser step a
batch: five public repositories take two, and published numbers come from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from jaxtyping import Bool
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, PositiveInt, model_validator

from jepa3d.ops import score
from jepa3d.params import Augment, Fit, FrozenModel, Model
from jepa3d.params.models import in_memory
from jepa3d.problem import Problem
from jepa3d.results import store
from jepa3d.results.finding import Choice, Curve, Details, Look, Metric, share
from jepa3d.seeds import derive
from jepa3d.tasks import Encoded, Needs, Result
from jepa3d.tasks._shared.splits import holdout
from jepa3d.tasks._shared.words import augmented_by

if TYPE_CHECKING:
    from jepa3d.train.distributed import World
    from jepa3d.train.part_labels import Labelled
    from jepa3d.train.segmentation import PartObjective

NEEDS: Needs = "encoder"
FIXED_POINTS = True
BATCH = 32  # shapes that are scored at once
HELD_OUT = "held_out_instance_miou"
Rows = NDArray[np.int64]


class Config(FrozenModel):
    """`merge`: concat (Point-MAE) or mean (Point-JEPA) of the three depths. `category`: its embedding as it is, or with
    the peers' BatchNorm and LeakyReLU. `validation`: the held-out share of train; 0: the last epoch is the headline.
    `encoder_lr_scale`: the learning rate of pretrained parameters, as a share of the head's (section 8).

    `looks`: how many times, evenly over the training and once at its end, the held-out and the test shapes are scored;
    an epoch is chosen among these. `points`: how many of each shape's points the loss sees at a step, drawn anew each
    time; null, as the peers: all. `compete`: whether all parts compete in the training's loss, as with the peers, or
    those of the shape's category, as they do in the score. Fewer points and `category` are for short trainings.
    """

    kind: Literal["part_seg"] = "part_seg"
    merge: Literal["concat", "mean"] = "concat"
    category: Literal["plain", "normed"] = "plain"
    freeze: bool = False  # true: only the head is trained
    encoder_lr_scale: Annotated[float, Field(gt=0.0, le=1.0)] = 0.1
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.5
    drop_path: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    validation: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    looks: PositiveInt = 10
    points: PositiveInt | None = None
    compete: Literal["all", "category"] = "all"
    augment: Augment = Augment(scale=(0.8, 1.25), shift=0.1)
    fit: Annotated[Fit, AfterValidator(in_memory)] = Fit(
        epochs=300, batch=16, lr=2e-4, warmup_epochs=10, weight_decay=0.05, clip=10.0
    )

    @model_validator(mode="after")
    def _trains(self) -> Self:
        if self.fit.steps == 0:
            raise ValueError("the head has to be trained: fit.steps is at least 1")
        return self


def unfit(config: Config, model: Model) -> str | None:
    if not model.depths:
        return "its features are computed, not learned; part segmentation needs tokens at several depths"
    if config.merge == "mean" and model.levels != 1:
        return "its tokens are of several levels of patches, which have no mean: choose merge: concat"
    return None


def protocol(config: Config) -> str:
    """One line for the report."""
    fit = config.fit
    length = f"{fit.epochs} epochs" if fit.epochs else f"{fit.steps} steps"
    trained = "frozen encoder, head trained" if config.freeze else "encoder and head trained end to end"
    points = "all points" if config.points is None else f"{config.points} points a shape"
    parts = "all parts" if config.compete == "all" else "the parts of the category"
    rates = "" if config.freeze else f", pretrained parameters at {config.encoder_lr_scale:g} of it"
    embedded = ", category through BatchNorm and LeakyReLU" * (config.category == "normed")
    chosen = (
        f"epoch chosen on a held-out {config.validation:.0%} of train (_last: the last epoch; "
        if config.validation
        else "trained on all of train, the last epoch counts ("
    )
    return (
        f"part segmentation; {trained}; features of three depths ({config.merge}{embedded}), 3-NN propagation to the "
        f"points of the patch scheme; loss over {points} and {parts}; AdamW {fit.lr:g}{rates}, weight decay "
        f"{fit.weight_decay:g}, "
        f"{length} of batch {fit.batch}, one optimiser step a batch; augmentation: {augmented_by(config.augment)}; the "
        "category is given and only its parts compete, an absent part that is not predicted counts 1; "
        f"{chosen}_community: the best on the test split, as the peers choose)"
    )


def evaluate(given: Encoded, config: Config, seed: int) -> Result:
    """Instance and class mIoU and point accuracy of each choice of the epoch, beside the majority part's."""
    import torch

    from jepa3d.train import distributed, part_labels

    world = given.world or distributed.ALONE
    data = part_labels.load(given.canonical, given.patches)
    part_labels.check(data, given.canonical)
    held = _held_out(data, config.validation, seed)
    fitted = np.flatnonzero(~data.test & ~held)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(derive(seed, "part_seg", "weights"))
    objective = _objective(given, config, data, fitted, world).to(device)
    test = np.flatnonzero(data.test)
    watch = Watch(objective, data, np.flatnonzero(held), test, part_labels.leaked(data), given.state, device, world)
    rows = _train(given, config, data, fitted, seed, watch)
    return _result(data, watch, rows, fitted) if world.first else Result({})


def _held_out(data: Labelled, fraction: float, seed: int) -> Bool[np.ndarray, "n"]:
    """The train shapes that the epoch is chosen on; every class keeps a shape to train on."""
    train = np.flatnonzero(~data.test)
    labels = data.category[train]
    held = holdout(labels, fraction, seed)
    held &= np.isin(labels, labels[~held])
    if fraction and not held.any():
        raise Problem(
            f"the held-out part of {len(train)} train shapes is empty",
            f"validation: {fraction:g} of each class, and a class keeps its last shape for training",
            "raise the task's 'validation'",
        )
    chosen = np.zeros(len(data.test), bool)
    chosen[train[held]] = True
    return chosen


def _objective(given: Encoded, config: Config, data: Labelled, fitted: Rows, world: World) -> PartObjective:
    import torch

    from jepa3d import pretrained
    from jepa3d.train import tuning
    from jepa3d.train.segmentation import PartObjective, Segmenter

    loaded = pretrained.load(given.encoder)
    kept = loaded.module.config
    if (why := unfit(config, kept)) is not None:
        raise Problem(
            f"{given.encoder}: cannot be trained to predict points",
            f"its kind is '{kept.kind}': {why}",
            "leave this run out of the evaluation",
        )
    with torch.random.fork_rng(devices=[]):  # all of its weights are the saved ones
        net = pretrained.for_training(loaded, config.drop_path)
    model = Segmenter(net, len(data.classes), len(data.names), config.merge, config.dropout, config.category)
    factors = tuning.lr_factors(net, config.encoder_lr_scale, 1.0) if given.run.pretrained else {}
    part, category = torch.from_numpy(data.part[fitted]), torch.from_numpy(data.category[fitted])
    allowed = _allowed(data) if config.compete == "category" else torch.ones_like(_allowed(data))
    return PartObjective(model, part, category, allowed, config.points, config.freeze, world.mean, factors)


def _allowed(data: Labelled) -> Any:
    """Bool [classes, parts]: the parts of each category."""
    import torch

    allowed = torch.zeros(len(data.classes), len(data.names), dtype=torch.bool)
    for one, parts in enumerate(data.parts):
        allowed[one, list(parts)] = True
    return allowed


def _train(
    given: Encoded, config: Config, data: Labelled, fitted: Rows, seed: int, watch: Watch
) -> list[dict[str, Any]]:
    """Train to the end, from the last checkpoint if there is one; on the first rank, the curve's rows with scores."""
    from jepa3d.train import loop
    from jepa3d.train.batches import Arrays, Batching, InMemory, Stream

    numbered = Arrays.of(array[fitted] for array in data.arrays.every())._replace(label=np.arange(len(fitted)))
    batching = Batching.of(config.fit, config.augment, given.scheme)
    stream = Stream(InMemory(numbered), batching, derive(seed, "part_seg", "stream"), watch.device, watch.world)
    total = loop.Schedule.of(config.fit, stream.steps_per_epoch).total
    training = loop.Training(
        objective=watch.objective,
        stream=stream,
        fit=config.fit,
        seed=derive(seed, "part_seg", "fit"),
        job=given.job(f"part segmentation seed {seed}"),
        watch=loop.Watch(watch, -(-total // config.looks), on_all_ranks=True),
    )
    loop.run(training)
    return looks(training.job.curve) if watch.world.first else []


def looks(curve: Path) -> list[dict[str, Any]]:
    """The rows of a curve that have scores."""
    return [row for row in store.read_jsonl(curve) if "test_instance_miou" in row] if curve.exists() else []


@dataclass
class Watch:
    """Scores the held-out and the test shapes now and then; keeps the test predictions of the best held-out score, or,
    with nothing held out, of the last look.

    All ranks predict, the first one scores.
    """

    objective: PartObjective
    data: Labelled
    held: Rows
    test: Rows
    leaked: NDArray[np.bool_]  # [n]
    state: Path
    device: Any
    world: World

    def __call__(self) -> Mapping[str, float]:
        import torch

        from jepa3d.train.part_labels import scores

        predicted = self.predict(self.test)
        held = self.predict(self.held) if len(self.held) else None
        if not self.world.first:
            return {}
        row = {} if held is None else scores(self.data, self.held, held, "held_out")
        row |= scores(self.data, self.test, predicted, "test", self.leaked)
        best = max((one.get(HELD_OUT, -1.0) for one in looks(self.state / "curve.jsonl")), default=-1.0)
        if held is None or row[HELD_OUT] > best:
            store.save_state(self._kept, {"predicted": torch.from_numpy(predicted)})
        return row

    @property
    def _kept(self) -> Path:
        return self.state / "honest.pt"

    def headline(self) -> NDArray[np.int16]:
        """The test predictions at the chosen epoch."""
        predicted: NDArray[np.int16] = store.load_state(self._kept)["predicted"].numpy()
        return predicted

    def predict(self, rows: Rows) -> NDArray[np.int16]:
        """The part of every point, among those of the shape's category."""
        import torch

        from jepa3d.train.batches import Arrays, to_device
        from jepa3d.train.segmentation import best_allowed

        allowed = _allowed(self.data).to(self.device)
        self.objective.eval()
        out = []
        batches = np.array_split(rows, -(-len(rows) // BATCH))
        with torch.no_grad():
            for index in batches[self.world.share(len(batches))]:
                arrays = Arrays.of(array[index] for array in self.data.arrays.every())
                batch = to_device(arrays, self.device, torch.zeros(len(index), dtype=torch.long))
                logits = self.objective.model(batch.patches(), batch.label, batch.points)
                out.append(best_allowed(logits, allowed[batch.label]).to(torch.int16).cpu().numpy())
        self.objective.train()
        return np.concatenate(self.world.all_gather(out))


def _result(data: Labelled, watch: Watch, rows: list[dict[str, Any]], fitted: Rows) -> Result:
    """The chosen looks side by side; per category and shape by shape for the headline's."""
    from jepa3d.train.part_labels import described, scores

    honest: dict[Choice, dict[str, Any]] = (
        {"honest": max(rows, key=lambda row: row[HELD_OUT])} if len(watch.held) else {}
    )
    chosen: dict[Choice, dict[str, Any]] = {
        **honest,
        "last": rows[-1],
        "community": max(rows, key=lambda row: row["test_instance_miou"]),
    }
    constant = score.majority_parts(data.part[fitted], data.category[fitted], data.parts)
    majority = np.repeat(constant[data.category[watch.test]][:, None], data.part.shape[1], 1)
    base = scores(data, watch.test, majority, "majority")
    metrics: dict[str, Metric] = {}
    main = next(iter(chosen))
    for choice, row in chosen.items():
        metrics |= _chosen(row, choice, main, base)
    if honest:
        metrics |= {HELD_OUT: share(honest["honest"][HELD_OUT], chosen="honest")}
    metrics |= {"majority": share(base["majority_instance_miou"], encoder="none")}
    metrics |= {name: share(value, encoder="none") for name, value in base.items()}
    predicted = watch.headline()
    notes = [f"{data.unlabelled} shapes without part labels are left out"] * bool(data.unlabelled)
    if copies := int(watch.leaked[watch.test].sum()):
        notes.append(f"{copies} of {len(watch.test)} test shapes are train shapes too: _without_leaked leaves them out")
    curve = Curve(
        metric="instance_miou",
        looks=[_look(row) for row in rows],
        chosen={choice: row["step"] for choice, row in chosen.items()},
    )
    per_shape, per_class, examples = described(data, watch.test, predicted)
    details = Details(curve=curve, per_shape=per_shape, per_class=per_class, examples=examples)
    return Result(metrics, None, tuple(notes), details)


def _chosen(row: Mapping[str, float], choice: Choice, main: Choice, majority: Mapping[str, float]) -> dict[str, Metric]:
    """The test scores of one look as the metrics of a choice of the epoch; the main one's have the bare names."""
    metrics = {}
    for key, value in row.items():
        name, first = key.removeprefix("test_"), choice == main
        if name != key:
            metrics[name if first else f"{name}_{choice}"] = share(
                value,
                chance=majority.get(f"majority_{name}"),
                chosen=choice,
                of="" if first else name,
                per_shape="iou" if first and name == "instance_miou" else None,
            )
    return metrics


def _look(row: Mapping[str, Any]) -> Look:
    known = {"step", HELD_OUT, "test_instance_miou", "steps_per_second"}
    return Look(
        step=row["step"],
        held_out=row.get(HELD_OUT),
        test=row["test_instance_miou"],
        more={key: value for key, value in row.items() if key not in known},
    )
