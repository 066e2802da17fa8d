"""Supervised training from scratch: what the same encoder reaches when it is given the labels."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import nn
from torch.nn import functional as F

from jepa3d.encoders import build
from jepa3d.nets.encoder import Encoder
from jepa3d.params import FrozenModel, Model
from jepa3d.problem import Problem
from jepa3d.train.batches import Batch
from jepa3d.train.objective import Base, Loss, Setup

LABELS = True


class Config(FrozenModel):
    kind: Literal["supervised"] = "supervised"
    smoothing: float = Field(default=0.0, ge=0.0, lt=1.0)  # of the labels


def unfit(settings: Config, model: Model) -> str | None:
    """Why a model cannot be trained so; None: it can."""
    return None if model.layers else f"the features of the kind '{model.kind}' are computed, nothing in them is trained"


class Objective(Base):
    """Cross-entropy of a linear head on the pooled feature."""

    def __init__(self, settings: Config, setup: Setup) -> None:
        super().__init__()
        if setup.classes < 2:
            raise Problem(
                "supervised training needs labelled data of at least two classes",
                f"the run's data has {setup.classes}",
                "give the run labelled data, or another objective",
            )
        self.smoothing = settings.smoothing
        self.encoder = build(setup.model)
        for parameter in self.encoder.unread():
            parameter.requires_grad_(False)
        self.head = nn.Linear(self.encoder.features, setup.classes)

    def encoders(self) -> dict[str, Encoder]:
        return {"context": self.encoder}

    def forward(self, batch: Batch, progress: float = 0.0) -> Loss:
        logits = self.head(self.encoder.pool(self.encoder(batch.patches())))
        correct = (logits.argmax(1) == batch.label).float().mean()
        total = F.cross_entropy(logits.float(), batch.label, label_smoothing=self.smoothing)
        return Loss(total, {"train_accuracy": correct})
