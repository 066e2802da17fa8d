"""Point-BERT (Yu et al. 2022): predict the codes that a frozen dVAE has for masked patches, and a contrast of [CLS].

The student sees a shape with a block of patches masked, and the same for a mixture of two shapes: each patch is taken
from the shape or from its partner. It predicts the codes of the masked patches in both. The mixture's [CLS] feature is
compared with those that a momentum encoder has of all shapes of the batch and of a queue of earlier ones.
"""

from __future__ import annotations

import copy
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from jepa3d.encoders import build
from jepa3d.nets.encoder import Encoder, Separable
from jepa3d.nets.graph import neighbours
from jepa3d.nets.patches import Patches
from jepa3d.nets.transformer import initialise
from jepa3d.objectives._shared import codes
from jepa3d.objectives._shared.codes import Codes
from jepa3d.ops.masking import one_block
from jepa3d.params import Fraction, FrozenModel, Model
from jepa3d.problem import Problem
from jepa3d.train import first_stage
from jepa3d.train.batches import Batch
from jepa3d.train.objective import Base, Loss, Setup

READS = "dvae"


class Config(FrozenModel):
    """`mask_ratio` is drawn for each shape; `momentum` is of the key encoder; the others are of the contrast."""

    kind: Literal["point_bert"] = "point_bert"
    mask_ratio: tuple[Fraction, Fraction] = (0.25, 0.45)
    momentum: Fraction = 0.999
    width: PositiveInt = 512
    queue: PositiveInt = 16384  # keys of earlier batches
    temperature: PositiveFloat = 0.07

    @model_validator(mode="after")
    def _range(self) -> Config:
        if not self.mask_ratio[0] <= self.mask_ratio[1]:
            raise ValueError("mask_ratio is [smallest, largest]")
        return self


def unfit(settings: Config, model: Model) -> str | None:
    """Why a model cannot be trained so; None: it can."""
    if (why := codes.unfit(model)) is not None:
        return why
    return None if getattr(model, "cls", False) else "its [CLS] token is compared: set cls to true"


def unfit_batch(settings: Config, batch: int) -> str | None:
    """Why batches of so many shapes cannot be used; None: they can."""
    if batch % 2:
        return f"its {batch} shapes are mixed in pairs"
    if settings.queue % batch:
        return f"the queue of {settings.queue} keys takes those of whole batches of {batch}"
    return None


class Side(nn.Module):
    """An encoder, its mask token, and the head of its [CLS] token: the student, or its momentum copy."""

    def __init__(self, encoder: Separable, width: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.mask_token = nn.Parameter(torch.zeros(encoder.width))
        self.contrast = nn.Sequential(nn.Linear(encoder.width, width), nn.GELU(), nn.Linear(width, width))
        initialise(self.contrast)
        nn.init.trunc_normal_(self.mask_token, std=0.02)

    def forward(
        self, groups: Float[Tensor, "B N K 3"], centres: Float[Tensor, "B N 3"], masked: Bool[Tensor, "B N"]
    ) -> tuple[Float[Tensor, "B W"], Float[Tensor, "B N D"]]:
        """The shapes' features, normalised, and the tokens of all patches. The tokenizer reads masked patches too."""
        tokens = self.encoder.tokenizer(groups)
        tokens = torch.where(masked[..., None], self.mask_token.to(tokens.dtype), tokens)
        cls, tokens = self.encoder.with_cls(tokens, self.encoder.position(centres))
        return F.normalize(self.contrast(cls), dim=-1), tokens


class Objective(Base):
    queue: Tensor

    def __init__(self, settings: Config, setup: Setup) -> None:
        super().__init__()
        self.settings, self.world = settings, setup.world
        encoder = build(setup.model)
        assert isinstance(encoder, Separable)
        self.codes = _first_stage(setup)
        own = self.codes.tokenizer.state_dict()
        encoder.tokenizer.load_state_dict(encoder.tokenizer.state_dict() | own)
        self.student = Side(encoder, settings.width)
        self.head = nn.Linear(encoder.width, self.codes.graph.out.out_features)
        initialise(self.head)
        self.key = copy.deepcopy(self.student).requires_grad_(False)
        self.register_buffer("queue", F.normalize(torch.randn(settings.queue, settings.width), dim=-1))

    def encoders(self) -> dict[str, Encoder]:
        return {"context": self.student.encoder, "target": self.key.encoder}

    def train(self, mode: bool = True) -> Objective:
        """The codes' network stays in evaluation mode, so that a code does not depend on the other shapes."""
        super().train(mode)
        self.codes.eval()
        return self

    def forward(self, batch: Batch, progress: float = 0.0) -> Loss:
        """Cross-entropy of the codes of masked patches, of the shapes and of their mixtures, plus the contrast."""
        self._check(len(batch))
        patches = batch.patches()
        ratio, own = mixture(batch, patches.centres.shape[1])
        wanted = self.labels(patches)
        masked = self._masked(patches.centres, batch, "mask")
        _, tokens = self.student(patches.groups, patches.centres, masked)
        plain = self._predicted(tokens, wanted, masked)

        groups, centres, wanted = (mixed(rows, own) for rows in (patches.groups, patches.centres, wanted))
        mixed_masked = self._masked(centres, batch, "mask of the mixture")
        features, tokens = self.student(groups, centres, mixed_masked)
        of_mixture = self._predicted(tokens, wanted, mixed_masked)

        contrast = self._contrast(features, self._keys(patches, batch), ratio)
        monitors = {"codes": plain, "mixed_codes": of_mixture, "contrast": contrast}
        monitors = {name: value.detach() for name, value in monitors.items()}
        return Loss(plain + of_mixture + contrast, monitors | {"mask_ratio": masked.float().mean()})

    def _check(self, own: int) -> None:
        """A Problem for a number of shapes on this rank with which a step cannot be done."""
        ranks = self.world.size
        why = unfit_batch(self.settings, own * ranks)
        if why is not None or own % 2:
            raise Problem(
                f"{own * ranks} shapes at once on {ranks} ranks",
                why or f"the {own} shapes of each rank are mixed in pairs",
                "choose another fit.batch, fit.accumulate, number of ranks, or objective.queue",
            )

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """The momentum encoder follows the student in its parameters; its BatchNorms have statistics of their own."""
        ema: list[Tensor] = list(self.key.parameters())
        torch._foreach_lerp_(ema, list(self.student.parameters()), 1.0 - self.settings.momentum)

    @torch.no_grad()
    def labels(self, patches: Patches) -> Int[Tensor, "B N"]:
        """The likeliest code of every patch."""
        scores: Tensor = self.codes(patches.groups, neighbours(patches.centres))
        return scores.argmax(-1)

    def _masked(self, centres: Float[Tensor, "B N 3"], batch: Batch, purpose: str) -> Bool[Tensor, "B N"]:
        """Of each shape a block about a random patch, of a random share of the patches."""
        draws, num, (low, high) = batch.uniform(purpose, 2), centres.shape[1], self.settings.mask_ratio
        seed = (draws[:, 0] * num).long().clamp_max(num - 1)
        count = ((low + (high - low) * draws[:, 1:]) * num).long().clamp_min(1)
        return one_block(centres, seed, count).target

    def _predicted(
        self, tokens: Float[Tensor, "B N D"], wanted: Int[Tensor, "B N"], masked: Bool[Tensor, "B N"]
    ) -> Float[Tensor, ""]:
        """Mean over the masked patches of all ranks, whose numbers differ."""
        total = F.cross_entropy(self.head(tokens[masked]), wanted[masked], reduction="sum")
        return total / self.world.mean(masked.sum().to(total.dtype)[None])[0]

    @torch.no_grad()
    def _keys(self, patches: Patches, batch: Batch) -> Float[Tensor, "all_B W"]:
        """The momentum encoder's features of the shapes of all ranks, masked anew."""
        masked = self._masked(patches.centres, batch, "mask of the keys")
        features, _ = self.key(patches.groups, patches.centres, masked)
        return self.world.all_gather_rows(features)

    def _contrast(
        self, features: Float[Tensor, "B W"], keys: Float[Tensor, "all_B W"], ratio: Float[Tensor, " B"]
    ) -> Float[Tensor, ""]:
        """A mixture's feature is to be most like the keys of the two shapes, in the ratio of their patches. Then the
        keys take the places of the oldest in the queue."""
        everyone = torch.cat([keys, self.queue.to(keys.dtype)])
        scores = (features @ everyone.T / self.settings.temperature).log_softmax(-1)
        own = torch.arange(len(features), device=keys.device) + self.world.rank * len(features)
        right = scores.gather(1, torch.stack([own, partner(own)], 1))
        self.queue.copy_(everyone[: len(self.queue)])
        return -(ratio * right[:, 0] + (1.0 - ratio) * right[:, 1]).mean()


def partner(row: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
    """The rows 2i and 2i + 1 of a batch are partners: on one rank, however many ranks share the batch."""
    return row ^ 1


def mixture(batch: Batch, num: int) -> tuple[Float[Tensor, " B"], Bool[Tensor, "B N"]]:
    """Each shape's share of its own patches, U(0, 1), and which of the `num` they are: each with that probability."""
    draws = batch.uniform("mixture", 1 + num)
    return draws[:, 0], draws[:, 1:] < draws[:, :1]


def mixed(rows: Float[Tensor, "B N *C"] | Int[Tensor, "B N"], own: Bool[Tensor, "B N"]) -> Tensor:
    """Of each patch the shape's own row where it is `own`, else that of its partner."""
    other = rows[partner(torch.arange(len(rows), device=rows.device))]
    return torch.where(own.view(*own.shape, *[1] * (rows.ndim - 2)), rows, other)


def _first_stage(setup: Setup) -> Codes:
    """The frozen codes of the run that is read. A Problem where its patches or its mini-PointNet are others."""
    assert setup.reads is not None  # READS
    first = first_stage.read(setup.reads, READS)
    for name, theirs, ours in (
        ("patches", first.scheme.levels, setup.scheme.levels),
        ("mini-PointNet", codes.mini_pointnet(first.model), codes.mini_pointnet(setup.model)),
        ("token width", codes.token_width(first.model), codes.token_width(setup.model)),
    ):
        if theirs != ours:
            raise Problem(
                f"{setup.reads}: codes of other patches or of another mini-PointNet than the run has",
                f"{name}: {theirs} there, {ours} here",
                "give both runs one model and one patch scheme",
            )
    made = Codes(first.model, first.settings["codes"]).requires_grad_(False)
    part = "codes."
    made.load_state_dict({n.removeprefix(part): one for n, one in first.weights.items() if n.startswith(part)})
    return made
