"""Training a classifier on an encoder (section 8): its learning rates, its epochs, and what is kept of them.

What decides the epoch is the held-out part of the train split; the test split is looked at beside it, for the protocol
of the peers that chooses there, and nothing that is trained or chosen here depends on that look. Weights, sums of the
epoch under way and the chosen weights are all one state, the same on every rank: a resumed training has all of them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from jepa3d.nets.encoder import Encoder
from jepa3d.ops import score
from jepa3d.ops.augment import augment
from jepa3d.ops.draws import shape_keys
from jepa3d.params import Augment, Fit, Level, Model, Scheme, Tune
from jepa3d.pretrained import check_shape, for_training, load
from jepa3d.problem import Problem
from jepa3d.results import store
from jepa3d.seeds import derive
from jepa3d.train import batches, distributed, loop
from jepa3d.train.heads import Classifier
from jepa3d.train.objective import Loss, Trainable

BATCH = 128  # shapes that are scored at once


class Start(NamedTuple):
    """A classifier before it is trained, and the learning-rate factors of its encoder (none: it was not pretrained)."""

    net: Classifier
    factors: Mapping[str, float]


class Tuned(Trainable):
    """A classifier in training, the sums of its epoch, and, with `choose`, the best weights so far."""

    sums: Tensor  # float64 [3]: loss, right answers and number of the shapes seen since the last look
    chosen: Tensor  # float64 [3]: held-out accuracy and minus its loss at the best look, and its step
    looked: Tensor  # int64 []: the step of the last look

    def __init__(
        self, start: Start, smoothing: float, choose: bool, world: distributed.World = distributed.ALONE
    ) -> None:
        super().__init__()
        self.net, self.world = start.net, world
        self.best = copy.deepcopy(start.net).requires_grad_(False) if choose else None
        self.smoothing = smoothing
        self.factors = {f"net.encoder.{name}": factor for name, factor in start.factors.items()}
        self.register_buffer("sums", torch.zeros(3, dtype=torch.float64))
        self.register_buffer("chosen", torch.tensor([-1.0, -torch.inf, 0.0], dtype=torch.float64))
        self.register_buffer("looked", torch.zeros((), dtype=torch.int64))

    def forward(self, batch: batches.Batch, progress: float = 0.0) -> Loss:
        logits = self.net(batch.patches()).float()
        loss = F.cross_entropy(logits, batch.label, label_smoothing=self.smoothing)
        right = (logits.detach().argmax(1) == batch.label).sum()
        sums = torch.stack([loss.detach() * len(batch), right, torch.full_like(right, len(batch))])
        self.sums += sums if self.world.size == 1 else self.world.sum(sums)
        return Loss(loss, {})

    def lr_factors(self) -> Mapping[str, float]:
        return self.factors

    def offer(self, accuracy: float, loss: float, step: int) -> None:
        """Keep these weights if they are better on held-out shapes: accuracy first, then the lower loss, then first."""
        now = torch.tensor([accuracy, -loss, step], dtype=torch.float64)
        if self.best is not None and now.tolist()[:2] > self.chosen.tolist()[:2]:
            self.chosen.copy_(now)
            self.best.load_state_dict(self.net.state_dict())


class Scored(NamedTuple):
    """Shapes that are scored, with their labels."""

    source: batches.Shapes
    label: NDArray[np.int64]  # [n]


@dataclass
class Looks:
    """What is scored each `every` epochs: held-out shapes of the train split, and the test split."""

    every: int
    held: Scored | None
    test: Scored
    patience: int | None = None  # end after so many looks without a better one on held-out shapes


class Plan(NamedTuple):
    """A Fit in steps. An epoch is as many whole batches as the shapes fill, the peers' drop_last; at least one."""

    fit: Fit
    epoch: int  # steps


def plan(settings: Fit, shapes: int) -> Plan:
    """The lengths in steps; a batch is at most all shapes."""
    micro = settings.accumulate
    batch = max(micro, min(settings.batch, shapes) // micro * micro)
    epoch = max(1, shapes // batch)
    steps = settings.steps if settings.steps is not None else epoch * (settings.epochs or 0)
    warmup = settings.warmup_steps
    warmup = round((settings.warmup_epochs or 0) * epoch) if warmup is None else warmup
    changes = {"batch": batch, "steps": steps, "epochs": None, "warmup_steps": warmup, "warmup_epochs": None}
    return Plan(settings.model_copy(update=changes), epoch)


def classifier(weights: Path, model: Model, settings: Tune, classes: int, seed: int, pretrained: bool) -> Start:
    """The classifier on a saved encoder, its head drawn from `seed`."""
    loaded = load(weights, settings.which)
    saved = loaded.module.config
    if not saved.layers:
        raise Problem(
            f"{weights}: '{saved.kind}' has nothing that could be trained on",
            "its features are computed, not learned; fine-tuning needs weights",
            "evaluate this run by the tasks on frozen features only",
        )
    check_shape(weights, loaded, model)
    torch.manual_seed(derive(seed, "head"))
    net = for_training(loaded, settings.drop_path, settings.pool)
    factors = {}
    if pretrained:
        kept = loaded.module.state_dict().keys()
        every = lr_factors(net, settings.encoder_lr_scale, settings.layer_decay)
        factors = {name: factor for name, factor in every.items() if name in kept}
    return Start(Classifier(net, settings.hidden, classes, settings.dropout, settings.head_norm), factors)


def lr_factors(net: Encoder, scale: float, decay: float) -> dict[str, float]:
    """The learning-rate factor of each of an encoder's parameters, as `params.Tune` defines it."""
    layers = net.layer_names()
    return {name: scale * decay ** (len(layers) - 1 - at) for at, names in enumerate(layers) for name in names}


def train(
    start: Start,
    settings: Tune,
    source: batches.Source,
    scheme: Scheme,
    seed: int,
    job: loop.Job,
    looks: Looks | None = None,
) -> tuple[Tuned, list[dict[str, Any]]]:
    """Train to the end, or from where it was stopped; the weights and, on the first rank, the row of each look.

    Raises fit.Stopped.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    settled, epoch = plan(settings.fit, len(source))
    tuned = Tuned(start, settings.smoothing, looks is not None and looks.held is not None, job.world).to(device)
    batching = batches.Batching.of(settled, settings.augment, scheme)
    training = loop.Training(
        objective=tuned,
        stream=batches.Stream(source, batching, derive(seed, "stream"), device, job.world),
        fit=settled,
        seed=derive(seed, "fit"),
        job=job,
    )
    if looks is not None:
        training.watch = loop.Watch(lambda: _look(tuned, looks, epoch, settled), epoch * looks.every, on_all_ranks=True)
        training.done = lambda: _enough(tuned, looks, epoch)
    loop.run(training)
    rows = store.read_jsonl(job.curve) if job.world.first and job.curve.exists() else []
    return tuned.eval(), [row for row in rows if "test" in row]


def _look(tuned: Tuned, looks: Looks, epoch: int, settled: Fit) -> dict[str, float]:
    """Score the weights of this moment, all ranks together; the best on held-out shapes are kept."""
    device, world = tuned.sums.device, tuned.world
    loss, right, count = tuned.sums.tolist()
    tuned.sums.zero_()
    period = epoch * looks.every
    step = min(settled.steps or 0, (int(tuned.looked) // period + 1) * period)
    tuned.looked.fill_(step)
    row = {"epoch": step / epoch, "loss": loss / count, "train": right / count}
    if looks.held is not None:
        on_held = logits(tuned.net, looks.held.source, device, world=world)
        row["validation"] = score.accuracy(looks.held.label, on_held.argmax(1))
        row["validation_loss"] = cross_entropy(on_held, looks.held.label)
        tuned.offer(row["validation"], row["validation_loss"], step)
    row["test"] = score.accuracy(looks.test.label, logits(tuned.net, looks.test.source, device, world=world).argmax(1))
    tuned.train()
    return row


def _enough(tuned: Tuned, looks: Looks, epoch: int) -> bool:
    """Early stopping, by the held-out shapes alone."""
    since = int(tuned.looked) - int(tuned.chosen[2])
    return looks.patience is not None and since >= looks.patience * looks.every * epoch


@torch.no_grad()
def logits(
    net: nn.Module,
    source: batches.Shapes,
    device: torch.device,
    augmentation: Augment | None = None,
    live: Sequence[Level] = (),
    seed: int = 0,
    world: distributed.World = distributed.ALONE,
) -> Float[np.ndarray, "n classes"]:
    """The logits of every shape of a source, in its order; with an augmentation, those of one augmented view each.

    Each rank computes some batches, all get the whole: the same bits, however many ranks there are.
    """
    net.eval()
    pieces = []
    starts = range(0, len(source), BATCH)
    for start in starts[world.share(len(starts))]:
        index = np.arange(start, min(start + BATCH, len(source)))
        keys = shape_keys(seed, torch.zeros(len(index), dtype=torch.long), torch.from_numpy(index)).to(device)
        batch = batches.to_device(source.rows(index), device, keys, live if augmentation else ())
        if augmentation is not None:
            batch.points = augment(batch.points, keys, augmentation)
        pieces.append(net(batch.patches()).float().cpu().numpy())
    return np.concatenate(world.all_gather(pieces))


def cross_entropy(logits: Float[np.ndarray, "n classes"], truth: Int[np.ndarray, "n"]) -> float:
    """Mean over shapes, natural logarithm, no smoothing."""
    return float(F.cross_entropy(torch.from_numpy(logits).double(), torch.from_numpy(truth)))
