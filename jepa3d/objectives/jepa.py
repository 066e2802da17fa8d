"""3D-JEPA (sections 4 to 7, Algorithm 1): predict what an EMA encoder says about masked regions.

Every field of the Config is a switch of docs/method.md; the defaults are the design document to the letter.
"""

from __future__ import annotations

import copy
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import PositiveFloat, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from jepa3d.encoders import build
from jepa3d.nets.encoder import Encoder, Separable
from jepa3d.nets.patches import Patches
from jepa3d.nets.predictor import Predictor, PredictorConfig
from jepa3d.objectives._shared import masks
from jepa3d.objectives._shared.masks import MaskConfig
from jepa3d.ops.geometry import chamfer, gather
from jepa3d.ops.masking import Mask, pack
from jepa3d.ops.schedule import cosine, line
from jepa3d.params import Fraction, FrozenModel, Model, changed
from jepa3d.train.batches import Batch
from jepa3d.train.objective import Base, Loss, Setup

OF_REPRESENTATIONS = {"loss", "beta", "average", "ema"} | {
    f"target_{name}" for name in ("norm", "from", "position", "sees", "tokenizer")
}  # settings that say nothing about coordinates
SHAPES = {"cosine": cosine, "linear": line}


class Ema(FrozenModel):
    """The momentum of section 4.3: a cosine (or a line) from start to end over the training.

    Controls: start and end 0 are a teacher that is the student itself, without gradient; 1 and 1 a teacher with random,
    frozen weights, whose BatchNorms then have the statistics of what it sees itself.
    """

    start: Fraction = 0.996
    end: Fraction = 1.0
    shape: Literal["cosine", "linear"] = "cosine"

    def at(self, progress: float) -> float:
        """The momentum when a share of the training is done."""
        return SHAPES[self.shape](progress, self.start, self.end)

    @property
    def frozen(self) -> bool:
        """Whether the teacher keeps its first weights."""
        return self.start == self.end == 1.0


class Config(FrozenModel):
    """`target`: what is predicted. `coordinates` is the twin of the document's ablation (section 9): the points of each
    target patch, relative to its centre, under the Chamfer distance; data, masks, encoder and predictor are the same,
    and there is no EMA encoder. `sees`: `positions` is a control: the predictor is told where the context patches are,
    but not what they look like, so nothing of the context encoder is used."""

    kind: Literal["jepa"] = "jepa"
    target: Literal["representations", "coordinates"] = "representations"
    mask: MaskConfig = MaskConfig()
    predictor: PredictorConfig = PredictorConfig()
    loss: Literal["mse", "smooth_l1", "cosine"] = "mse"
    beta: PositiveFloat = 1.0  # of smooth_l1
    average: Literal["sum", "mean"] = "sum"  # over the D numbers of a target; section 4.6 sums
    target_norm: Literal["layer", "l2", "none"] = "layer"
    target_sees: Literal["targets", "all"] = "targets"
    target_from: Literal["final_norm", "last_block"] = "final_norm"  # last_block: before the encoder's last norm
    target_tokenizer: Literal["ema", "shared"] = "ema"
    target_position: Literal["ema", "shared"] = "ema"  # shared: the student's position embedding, without gradient
    tokenize: Literal["all", "used"] = "all"  # used: the student's tokenizer skips patches whose tokens nobody reads
    predict: Literal["joint", "per_block"] = "joint"
    sees: Literal["tokens", "positions"] = "tokens"  # what the predictor is given of the context
    ema: Ema = Ema()

    @model_validator(mode="after")
    def _one_target(self) -> Config:
        own = OF_REPRESENTATIONS & changed(self)
        if self.target == "coordinates" and own:
            raise ValueError(f"{', '.join(sorted(own))} belongs to target: representations")
        return self


def unfit(settings: Config, model: Model) -> str | None:
    """Why a model cannot be trained so; None: it can."""
    return None if model.separable else "masks need an encoder of one level of tokens, such as a Transformer"


class Objective(Base):
    def __init__(self, settings: Config, setup: Setup) -> None:
        super().__init__()
        self.settings = settings
        encoder = build(setup.model)
        assert isinstance(encoder, Separable)
        self.encoder = encoder
        self.size = setup.scheme.levels[0].size
        points = None if settings.target == "representations" else 3 * self.size
        self.predictor = Predictor(settings.predictor, encoder.width, encoder.heads, points)
        self.target: Separable | None = None
        if settings.target == "representations":
            self.target = copy.deepcopy(encoder).requires_grad_(False).eval()

    def encoders(self) -> dict[str, Encoder]:
        return {"context": self.encoder, **({} if self.target is None else {"target": self.target})}

    def train(self, mode: bool = True) -> Objective:
        """The target encoder stays in evaluation mode: its BatchNorm uses the copied running statistics.

        Those of a frozen one are of the batch, since the student's would not fit its weights.
        """
        super().train(mode)
        if self.target is not None:
            self.target.eval()
            if self.settings.ema.frozen:
                for norm in (layer for layer in self.target.modules() if isinstance(layer, nn.BatchNorm1d)):
                    norm.momentum = None  # torch's name for the cumulative average, which evaluations use
                    norm.train(mode)
        return self

    def forward(self, batch: Batch, progress: float = 0.0) -> Loss:
        """Algorithm 1, lines 4 to 20."""
        patches = batch.patches()
        mask = self.draw_mask(patches.centres, batch)
        context_at, context_valid = pack(mask.context)
        target_at, target_valid = pack(mask.target)

        tokens = self._tokens(patches, mask.context)
        positions = self.encoder.position(patches.centres)
        context_positions = gather(positions, context_at)
        context = self.encoder.trunk(gather(tokens, context_at), context_positions, context_valid)
        if self.settings.sees == "positions":
            context = context * 0.0  # not left out: every rank needs a gradient of every parameter

        if self.target is None:
            target = patches.groups.flatten(2)
        else:  # on the grid of all patches
            target = self._targets(self.target, patches, tokens.detach(), target_at, target_valid)
        places = self.predictor.places(patches.centres, positions)
        context_places = gather(places, context_at)
        if self.settings.predict == "joint":
            asked, asked_valid = target_at, target_valid
        else:
            blocks = mask.block.shape[1]
            asked, asked_valid = pack((mask.block & mask.target[:, None]).flatten(0, 1))
            target, places, context, context_places, context_valid = (
                x.repeat_interleave(blocks, 0) for x in (target, places, context, context_places, context_valid)
            )
        predicted = self.predictor(context, context_places, context_valid, gather(places, asked), asked_valid)
        wanted = gather(target, asked)
        if self.target is None:
            pair = (rows.unflatten(-1, (self.size, 3)).flatten(0, 1) for rows in (predicted, wanted))
            distance = chamfer(*pair).view(asked.shape)
        else:
            distance = DISTANCES[self.settings.loss](predicted, wanted, self.settings.beta)
            if self.settings.average == "mean" and self.settings.loss != "cosine":
                distance = distance / wanted.shape[-1]
        return Loss(
            mean_over_targets(distance, asked_valid),
            {
                "mask_ratio": mask.target.float().mean(),
                "context_ratio": mask.context.float().mean(),
                "target_std": spread(wanted.detach(), asked_valid),
                "predicted_std": spread(predicted.detach(), asked_valid),
            },
        )

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Line 24: the EMA of every parameter; BatchNorm's buffers are copied, not averaged (method.md 7)."""
        if self.target is None or self.settings.ema.frozen:
            return
        momentum = self.settings.ema.at(progress)
        ema: list[Tensor] = list(self.target.parameters())
        student: list[Tensor] = list(self.encoder.parameters())
        torch._foreach_lerp_(ema, student, 1.0 - momentum)
        for copied, own in zip(self.target.buffers(), self.encoder.buffers(), strict=True):
            copied.copy_(own)

    def draw_mask(self, centres: Float[Tensor, "B N 3"], batch: Batch) -> Mask:
        return masks.draw(self.settings.mask, centres, batch)

    def _tokens(self, patches: Patches, context: Bool[Tensor, "B N"]) -> Float[Tensor, "B N D"]:
        """Line 6. With an EMA tokenizer nobody reads the student's tokens of other than context patches."""
        if self.settings.tokenize == "all" or self.settings.target_tokenizer == "shared":
            tokens: Tensor = self.encoder.tokenizer(patches.groups)
            return tokens
        return _tokenize_some(self.encoder, patches.groups, context)

    @torch.no_grad()
    def _targets(
        self,
        ema: Separable,
        patches: Patches,
        shared: Float[Tensor, "B N D"],
        target_at: Int[Tensor, "B T"],
        target_valid: Bool[Tensor, "B T"],
    ) -> Float[Tensor, "B N D"]:
        """Lines 12 to 15: representations by the EMA encoder, normalised; rows of non-targets have no meaning."""
        own = self.settings.target_position == "ema"
        positions = (ema if own else self.encoder).position(patches.centres)
        normed = self.settings.target_from == "final_norm"
        share = self.settings.target_tokenizer == "shared"
        if self.settings.target_sees == "all":
            grid = ema.trunk(shared if share else ema.tokenizer(patches.groups), positions, None, normed)
        else:
            asked = torch.zeros(patches.centres.shape[:2], dtype=torch.bool, device=positions.device)
            asked.scatter_(1, target_at, target_valid)
            tokens = shared if share else _tokenize_some(ema, patches.groups, asked)
            z = ema.trunk(gather(tokens, target_at), gather(positions, target_at), target_valid, normed)
            grid = torch.zeros_like(tokens, dtype=z.dtype)
            grid.scatter_(1, target_at[..., None].expand_as(z), z)
        return normalise(grid, self.settings.target_norm)


def _tokenize_some(
    encoder: Separable, groups: Float[Tensor, "B N K 3"], chosen: Bool[Tensor, "B N"]
) -> Float[Tensor, "B N D"]:
    """Tokens of the chosen patches only, packed, so that neither the work nor BatchNorm sees any other."""
    some: Tensor = encoder.tokenizer(groups[chosen])
    tokens = some.new_zeros(*chosen.shape, some.shape[-1])
    tokens[chosen] = some
    return tokens


def normalise(z: Float[Tensor, "*B D"], how: str) -> Float[Tensor, "*B D"]:
    """Line 15: LayerNorm without parameters, L2 norm, or nothing."""
    if how == "layer":
        return F.layer_norm(z, z.shape[-1:])
    return F.normalize(z, dim=-1) if how == "l2" else z


def squared(predicted: Float[Tensor, "B T D"], target: Float[Tensor, "B T D"], beta: float) -> Float[Tensor, "B T"]:
    """The squared L2 distance of section 4.6: a sum over D, as in the formula."""
    return (predicted - target).square().sum(-1)


def smooth_l1(predicted: Float[Tensor, "B T D"], target: Float[Tensor, "B T D"], beta: float) -> Float[Tensor, "B T"]:
    """Huber's loss in place of the square, summed over D likewise (section 2, item 4 allows it)."""
    return F.smooth_l1_loss(predicted, target, beta=beta, reduction="none").sum(-1)


def cosine_distance(
    predicted: Float[Tensor, "B T D"], target: Float[Tensor, "B T D"], beta: float
) -> Float[Tensor, "B T"]:
    """1 - cosine similarity: the paper's loss, as secondary sources have it."""
    return 1.0 - F.cosine_similarity(predicted, target, dim=-1)


DISTANCES = {"mse": squared, "smooth_l1": smooth_l1, "cosine": cosine_distance}


def mean_over_targets(distance: Float[Tensor, "B T"], valid: Bool[Tensor, "B T"]) -> Float[Tensor, ""]:
    """Mean over each shape's targets, then over shapes: section 4.6 and Algorithm 1, line 20 (method.md 4)."""
    kept = torch.where(valid, distance, 0.0)
    return (kept.sum(1) / valid.sum(1)).mean()


def spread(rows: Float[Tensor, "B T D"], valid: Bool[Tensor, "B T"]) -> Float[Tensor, ""]:
    """Mean over dimensions of the standard deviation over all valid rows: near zero means collapse."""
    weight = valid[..., None] / valid.sum()
    mean = (rows * weight).sum((0, 1))
    return ((rows - mean).square() * weight).sum((0, 1)).sqrt().mean()
