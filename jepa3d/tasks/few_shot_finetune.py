"""Few-shot classification by fine-tuning: each fold an encoder trained on with its shots, end to end (protocols.md).

The peers report each fold's best epoch on its queries; here every fold ends after a fixed length and nothing is
chosen. The folds are those of `few_shot`, shape for shape, and each is a job of its own, which a cluster runs at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator

from jepa3d.ops import episodes, score
from jepa3d.ops.episodes import Episodes, Fold
from jepa3d.params import Model, Tune, TuneFit
from jepa3d.params.models import in_memory
from jepa3d.results.finding import SHARE, Details, Folds, Metric, share
from jepa3d.seeds import derive
from jepa3d.tasks import Encoded, Needs, Result
from jepa3d.tasks._shared.given import Labels, check_labels, labels_of
from jepa3d.tasks._shared.words import cannot_be_tuned, tuned_by

if TYPE_CHECKING:
    from jepa3d.train import batches

NEEDS: Needs = "encoder"


class Config(Tune, Episodes):
    """The folds of `few_shot`, and how the encoder is trained on with each one's shots."""

    kind: Literal["few_shot_finetune"] = "few_shot_finetune"
    fit: Annotated[TuneFit, AfterValidator(in_memory)] = TuneFit(epochs=300, warmup_epochs=10)


def unfit(config: Config, model: Model) -> str | None:
    return cannot_be_tuned(config, model)


def few_labels(config: Config) -> bool:
    return True


def protocol(config: Config) -> str:
    """One line for the report."""
    return (
        f"{episodes.words(config)}; each fold fine-tuned end to end from the pretrained weights: {tuned_by(config)}; "
        "the last step counts, nothing is chosen; mean and sample standard deviation over the folds"
    )


def folds(config: Config) -> int:
    """How many trainings of their own it consists of."""
    return config.folds


def evaluate(given: Encoded, config: Config, seed: int) -> Result:
    """All folds one after the other, as `fold` and `gather` do them."""
    states = [given.state / f"fold{number}" for number in range(folds(config))]
    return gather([fold(given._replace(state=state), config, seed, n) for n, state in enumerate(states)], config)


def fold(given: Encoded, config: Config, seed: int, number: int) -> Result:
    """One fold: `accuracy` over its queries after the last step. Raises fit.Stopped on a signal."""
    from jepa3d.train import tuning

    labels = labels_of(given)
    check_labels(labels)
    train, test = (np.flatnonzero(labels.split == split) for split in ("train", "test"))
    chosen = draws(labels, config, seed)[number]
    shots, queries = np.sort(train[chosen.support]), np.sort(test[chosen.query])
    classes = np.unique(labels.label[shots])
    own = derive(seed, "fold", number)
    start = tuning.classifier(given.encoder, given.model, config, len(classes), own, pretrained=given.run.pretrained)
    support = _of_fold(given, shots, classes, whole=given.scheme.resampled)
    query = _of_fold(given, queries, classes)
    tuned, _ = tuning.train(start, config, support, given.scheme, own, given.job(f"fold {number}"))
    predicted = tuning.logits(tuned.net, query, tuned.sums.device).argmax(1)
    accuracy = score.accuracy(query.arrays.label, predicted)
    metrics = {
        "accuracy": share(accuracy, shapes=len(queries), encoder=config.which),
        "queries": Metric(len(queries) / len(classes), "shapes a class", encoder="none"),
    }
    notes = () if start.factors else ("nothing was pretrained: encoder and head have one learning rate",)
    names = tuple(labels.classes[label] for label in classes)
    return Result(metrics, None, notes, Details(folds=Folds(scores={"accuracy": (accuracy,)}, classes=(names,))))


def gather(results: Sequence[Result], config: Config) -> Result:
    """Mean accuracy over the folds, and `_std`, the sample standard deviation."""
    accuracies = [result.values["accuracy"] for result in results]
    mean, std = score.mean_std(accuracies)
    queries = float(np.mean([result.values["queries"] for result in results]))
    metrics = {
        "accuracy": share(mean, chance=1 / config.way, chosen="last", encoder=config.which),
        "accuracy_std": Metric(std, SHARE, of="accuracy", encoder=config.which),
        "majority": share(1 / config.way, encoder="none"),
        "queries": Metric(queries, "shapes a class", encoder="none"),
    }
    notes = list(dict.fromkeys(note for result in results for note in result.notes))
    if queries < config.queries:
        notes.append(f"{queries:.1f} queries a class on average: some have fewer than {config.queries} test shapes")
    classes = [own for result in results if result.details.folds for own in result.details.folds.classes]
    return Result(metrics, None, tuple(notes), Details(folds=Folds(scores={"accuracy": accuracies}, classes=classes)))


def _of_fold(
    given: Encoded, rows: NDArray[np.int64], classes: NDArray[np.int64], whole: bool = False
) -> batches.InMemory:
    """Some shapes, labelled by the place of their class among those of the fold."""
    from jepa3d.train import batches

    source = batches.open_shapes([batches.Subset(given.canonical, given.patches, rows, whole)], float("inf"))
    arrays = source.rows(np.arange(len(source)))
    return batches.InMemory(arrays._replace(label=np.searchsorted(classes, arrays.label)))


def draws(labels: Labels, config: Config, seed: int) -> list[Fold]:
    """The folds that `few_shot` has on the same data with the same seed."""
    train, test = labels.split == "train", labels.split == "test"
    return episodes.folds(
        labels.label[train],
        labels.label[test],
        config,
        seed,
        labels.classes,
        labels.source,
        labels.id[train],
        labels.id[test],
    )
