"""Fine-tuning for classification (section 8): the encoder and a head, trained end to end with labels.

One training gives every protocol of the field, each under its own name:

    honest      accuracy            the epoch that is best on a held-out part of the train split; the headline
    last        accuracy_last       the last epoch
    community   accuracy_community  the best epoch on the TEST split, as the peers report it: for comparison only
    vote        accuracy_vote       the honest epoch's weights, logits averaged over augmented passes, once

The peers vote up to 299 times and report the best of those; that is not repeated here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from jepa3d.ops import score
from jepa3d.params import Augment, Model, Tune
from jepa3d.problem import Problem
from jepa3d.results.finding import PREDICTED, Choice, Curve, Details, Look, Metric, share
from jepa3d.seeds import derive
from jepa3d.tasks import Encoded, Needs, Result
from jepa3d.tasks._shared.given import Labels, check_labels, labels_of
from jepa3d.tasks._shared.splits import holdout, some_of_each
from jepa3d.tasks._shared.words import cannot_be_tuned, tuned_by

if TYPE_CHECKING:
    from jepa3d.train import batches

NEEDS: Needs = "encoder"


class Config(Tune):
    """`validation`: the share of the train split that is held out to choose the epoch on; 0: the last one is taken.

    `labels`: the share of the train split that is used at all, of each class at least one shape; the same shapes for
    every run with one seed, and those of a smaller share are among those of a greater one.
    """

    kind: Literal["finetune"] = "finetune"
    labels: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    validation: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    look_every: PositiveInt = 1  # epochs between two looks at the held-out and the test shapes
    patience: PositiveInt | None = None  # end after so many looks without a better one on the held-out shapes
    vote: NonNegativeInt = 10  # augmented passes; 0: no vote

    @model_validator(mode="after")
    def _something_to_wait_for(self) -> Self:
        if self.patience is not None and self.validation == 0.0:
            raise ValueError("patience looks at the held-out shapes: with validation 0 there are none")
        return self


def unfit(config: Config, model: Model) -> str | None:
    return cannot_be_tuned(config, model)


def few_labels(config: Config) -> bool:
    return config.labels < 1.0


def protocol(config: Config) -> str:
    """One line for the report."""
    share = "" if config.labels == 1.0 else f"{config.labels:.0%} of the train labels; "
    chosen = (
        f"accuracy: the epoch that is best on {config.validation:.0%} of the train shapes, held out"
        if config.validation
        else "accuracy: the last epoch, nothing held out"
    )
    early = f", ended after {config.patience} looks without a better one" if config.patience else ""
    vote = f"; vote: its weights, mean logits of {config.vote} augmented passes, once" if config.vote else ""
    return (
        f"fine-tuned end to end: {share}{tuned_by(config)}; {chosen}{early}; last: the last epoch; community: the best "
        f"epoch ON TEST, as the peers report it{vote}"
    )


def evaluate(given: Encoded, config: Config, seed: int) -> Result:
    """All protocols from one training; the predictions are the honest ones. Raises fit.Stopped on a signal."""
    from jepa3d.train import batches, distributed, tuning

    world = given.world or distributed.ALONE
    labels = labels_of(given)
    check_labels(labels)
    fitted, held, test = parts_of(labels, config, seed)
    start = tuning.classifier(
        given.encoder, given.model, config, labels.class_count, seed, pretrained=given.run.pretrained
    )
    scored = {
        name: tuning.Scored(batches.open_shapes(_subset(given, rows), given.execution.memory), labels.label[rows])
        if len(rows)
        else None
        for name, rows in (("held", held), ("test", test))
    }
    on_test = scored["test"]
    assert on_test is not None
    tuned, rows = tuning.train(
        start,
        config,
        batches.open_training(
            _subset(given, fitted, given.scheme.resampled),
            tuning.plan(config.fit, len(fitted)).fit,
            given.execution,
            "task.fit",
        ),
        given.scheme,
        seed,
        given.job(f"fine-tuning on {given.canonical.stem}"),
        tuning.Looks(config.look_every, scored["held"], on_test, config.patience),
    )
    best = tuned.net if tuned.best is None else tuned.best
    device = tuned.sums.device
    predicted = tuning.logits(best, on_test.source, device, world=world).argmax(1)
    votes = config.vote if config.augment != Augment() else 0
    views = [
        tuning.logits(
            best, on_test.source, device, config.augment, given.scheme.live_levels, derive(seed, "vote", number), world
        )
        for number in range(votes)
    ]
    if not world.first:
        return Result({})
    curve = curve_of(rows, None if tuned.best is None else int(tuned.chosen[2]))
    truth = labels.label
    of_test = {"chance": score.majority(truth[fitted], truth[test]), "shapes": len(test), "encoder": config.which}
    metrics = protocols(curve, of_test)
    notes = [] if start.factors else ["nothing was pretrained: encoder and head have one learning rate"]
    if votes:
        voted = score.accuracy(on_test.label, np.mean(views, axis=0).argmax(1))
        metrics["accuracy_vote"] = share(voted, of="accuracy", chosen="vote", **of_test)
    elif config.vote:
        notes.append("accuracy_vote: left out: without augmentation all passes are the same")
    metrics |= {
        "balanced_accuracy": share(score.mean_class_accuracy(truth[test], predicted), encoder=config.which),
        "majority": share(score.majority(truth[fitted], truth[test]), encoder="none"),
        "train_shapes": Metric(len(fitted), "shapes", encoder="none"),
        "held_out_shapes": Metric(len(held), "shapes", encoder="none"),
    }
    return Result(metrics, predicted, tuple(notes), Details(curve=curve))


def parts_of(
    labels: Labels, config: Config, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Rows that are trained on, rows that are held out, and test rows. Every class stays in the first."""
    train = np.flatnonzero(labels.split == "train")
    train = train[some_of_each(labels.label[train], config.labels, seed)]
    own = labels.label[train]
    held = holdout(own, config.validation, seed)
    held &= np.isin(own, own[~held])
    if config.validation and not held.any():
        raise Problem(
            f"{labels.source}: no shape can be held out of {len(train)} train shapes",
            "the epoch is chosen on held-out shapes, and every class must keep one to train on",
            "set the task's validation to 0, or use more labels",
        )
    return train[~held], train[held], np.flatnonzero(labels.split == "test")


def curve_of(rows: list[dict[str, Any]], honest: int | None) -> Curve:
    """The looks of a training, and the step of each choice of the epoch; `honest`: None where nothing was held out."""
    known = {"step", "epoch", "test", "validation"}
    looks = [
        Look(
            step=row["step"],
            epoch=row["epoch"],
            held_out=row.get("validation"),
            test=row["test"],
            more={key: value for key, value in row.items() if key not in known},
        )
        for row in rows
    ]
    chosen: dict[Choice, int] = {"last": looks[-1].step, "community": max(looks, key=lambda look: look.test).step}
    return Curve(metric="accuracy", looks=looks, chosen=chosen if honest is None else {"honest": honest, **chosen})


def protocols(curve: Curve, of_test: dict[str, Any]) -> dict[str, Metric]:
    """Accuracy and epoch under each protocol; `of_test` is what they have in common. The headline is first.

    Without held-out shapes it is that of the last epoch.
    """
    at = {look.step: look for look in curve.looks}
    first: Choice = "honest" if "honest" in curve.chosen else "last"
    main = at[curve.chosen[first]]
    accuracies = {"accuracy": share(main.test, chosen=first, per_shape=PREDICTED, **of_test)}
    epochs = {"epoch": Metric(main.epoch or 0.0, "epochs", chosen=first)}
    others: tuple[Choice, ...] = ("last", "community")
    for choice in others:
        look = at[curve.chosen[choice]]
        accuracies[f"accuracy_{choice}"] = share(look.test, of="accuracy", chosen=choice, **of_test)
        epochs[f"epoch_{choice}"] = Metric(look.epoch or 0.0, "epochs", of="epoch", chosen=choice)
    held = {} if main.held_out is None else {"validation_accuracy": share(main.held_out, chosen=first)}
    return accuracies | epochs | held


def _subset(given: Encoded, rows: NDArray[np.int64], whole: bool = False) -> list[batches.Subset]:
    from jepa3d.train import batches

    return [batches.Subset(given.canonical, given.patches, rows, whole)]
