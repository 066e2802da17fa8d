"""The discrete VAE of Point-BERT (Yu et al. 2022), its first stage: a codebook of patches.

A mini-PointNet and graph convolutions score the codes of each patch; a Gumbel-softmax draws a soft code; graph
convolutions and a folding decoder rebuild the patch. Point-BERT reads the scores and the mini-PointNet.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator
from torch import Tensor, nn

from jepa3d.nets.folding import Folding
from jepa3d.nets.graph import Dgcnn, neighbours
from jepa3d.objectives._shared import codes
from jepa3d.objectives._shared.codes import Codes
from jepa3d.ops.geometry import chamfer
from jepa3d.ops.schedule import cosine
from jepa3d.params import Fraction, FrozenModel, Model
from jepa3d.train.batches import Batch
from jepa3d.train.objective import Base, Loss, Setup

ENCODER = False


class Ramp(FrozenModel):
    """Half a cosine from `start` to `end` between two shares of the training; constant before and after."""

    start: NonNegativeFloat
    end: NonNegativeFloat
    since: Fraction
    until: Fraction

    @model_validator(mode="after")
    def _forward(self) -> Ramp:
        if not self.since < self.until:
            raise ValueError("since comes before until")
        return self

    def at(self, progress: float) -> float:
        return cosine((progress - self.since) / (self.until - self.since), self.start, self.end)


class Temperature(Ramp):
    """Of the Gumbel-softmax. The authors' 100,000 of about 197,000 steps."""

    start: PositiveFloat = 1.0
    end: PositiveFloat = 0.0625
    since: Fraction = 0.0
    until: Fraction = 0.507


class KlWeight(Ramp):
    """Of the KL divergence. The authors' 100,000 steps, which begin after 10,000 of about 197,000."""

    start: NonNegativeFloat = 0.0
    end: NonNegativeFloat = 0.1
    since: Fraction = 0.051
    until: Fraction = 0.558


class Config(FrozenModel):
    """All other sizes follow the width of the model's mini-PointNet, in the proportions of the authors'."""

    kind: Literal["dvae"] = "dvae"
    codes: Annotated[int, Field(ge=4, multiple_of=4)] = 8192  # GroupNorm has four groups of them
    temperature: Temperature = Temperature()
    kl: KlWeight = KlWeight()


def unfit(settings: Config, model: Model) -> str | None:
    """Why no codebook can be trained with the mini-PointNet of a model; None: it can."""
    return codes.unfit(model)


class Objective(Base):
    def __init__(self, settings: Config, setup: Setup) -> None:
        super().__init__()
        self.settings = settings
        width = codes.token_width(setup.model)
        self.codes = Codes(setup.model, settings.codes)
        self.codebook = nn.Parameter(torch.randn(settings.codes, width))
        self.graph = Dgcnn(width, width)
        self.folding = Folding(width, setup.scheme.levels[0].size)

    def forward(self, batch: Batch, progress: float = 0.0) -> Loss:
        """CDL1 of the coarse and of the fine points, means over all patches, and the weighted KL divergence."""
        patches = batch.patches()
        near = neighbours(patches.centres)
        logits = self.codes(patches.groups, near)
        noise = gumbel(batch.uniform("gumbel", *logits.shape[1:]))
        chosen = ((logits + noise) / self.settings.temperature.at(progress)).softmax(-1)
        rebuilt = self.folding(self.graph(chosen @ self.codebook, near).flatten(0, 1))
        wanted = patches.groups.flatten(0, 1)
        coarse, fine = (chamfer(points, wanted, squared=False).mean() for points in rebuilt)
        log_use = usage(logits)
        kl = kl_from_even(log_use).mean()
        total = coarse + fine + self.settings.kl.at(progress) * kl
        monitors = {"coarse": coarse, "fine": fine, "kl": kl, "perplexity": perplexity(log_use)}
        return Loss(total, {name: value.detach() for name, value in monitors.items()})


def gumbel(draws: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """Standard Gumbel numbers from uniform ones in [0, 1); 0 is taken as half the least other."""
    return -(-draws.clamp_min(2.0**-25).log()).log()


def usage(logits: Float[Tensor, "B N C"]) -> Float[Tensor, "B C"]:
    """log q: of each shape, the logarithm of the mean over its patches of the codes' probabilities."""
    return logits.log_softmax(-1).logsumexp(1) - math.log(logits.shape[1])


def kl_from_even(log_use: Float[Tensor, "B C"]) -> Float[Tensor, " B"]:
    """KL(U || q), U the even use of all codes: the sum over codes of U (log U - log q); 0 where all are used alike."""
    return -math.log(log_use.shape[1]) - log_use.mean(1)


def perplexity(log_use: Float[Tensor, "B C"]) -> Float[Tensor, ""]:
    """How many codes are in use in a batch: the exponential of the entropy of the mean of q; 1 means collapse."""
    entropy: Tensor = torch.special.entr(log_use.exp().mean(0)).sum()
    return entropy.exp()
