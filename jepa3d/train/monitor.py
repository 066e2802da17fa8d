"""Collapse diagnostics: loss alone never shows whether a JEPA learns (it falls, then rises, while features improve)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from jepa3d.nets.encoder import Encoder
from jepa3d.ops.standardise import standardise
from jepa3d.train.batches import Batch

COLLAPSED_STD, COLLAPSED_COSINE = 0.01, 0.995


@dataclass
class Watch:
    """Looks at fixed shapes with both encoders. The labelled ones are of the train split: never a test shape."""

    batches: list[Batch]

    @torch.no_grad()
    def look(self, encoders: Mapping[str, Encoder]) -> dict[str, float]:
        """Feature std, effective rank, cosine between shapes and k-NN of each encoder, and how far they are apart."""
        row: dict[str, float] = {}
        pooled = {}
        labels = torch.cat([batch.label for batch in self.batches])
        for which, encoder in encoders.items():
            training = encoder.training
            encoder.eval()
            features = self._features(encoder)
            encoder.train(training)
            pooled[which] = features
            suffix = "" if which == "context" else f"_{which}"
            row[f"feature_std{suffix}"] = float(features.std(0).mean())
            row[f"rank{suffix}"] = rank_me(features)
            row[f"cosine{suffix}"] = mean_cosine(features)
            if int(labels.min()) >= 0:
                row[f"knn{suffix}"] = leave_one_out_knn(features, labels)
        if "target" in pooled:
            gap = 1.0 - torch.cosine_similarity(pooled["context"], pooled["target"], dim=-1)
            row["student_teacher"] = float(gap.mean())
        return row

    def _features(self, encoder: Encoder) -> Float[Tensor, "n F"]:
        return torch.cat([encoder.pool(encoder(batch.patches())).float() for batch in self.batches])


def warning(row: Mapping[str, float]) -> str | None:
    """What to say when the features have collapsed: the number, its threshold, and what to change."""
    if row["feature_std"] < COLLAPSED_STD or row["cosine"] > COLLAPSED_COSINE:
        return (
            f"the features are collapsing: std {row['feature_std']:.4f} (below {COLLAPSED_STD} is collapse), "
            f"cosine between shapes {row['cosine']:.4f} (above {COLLAPSED_COSINE} is collapse); "
            "lower fit.lr, raise objective.ema.start, or mask more (objective.mask.ratio)"
        )
    return None


def rank_me(features: Float[Tensor, "n F"]) -> float:
    """RankMe (Garrido et al. 2023): exp of the entropy of the normalised singular values; 1 is total collapse."""
    values = torch.linalg.svdvals(features.double())
    share = values / values.sum().clamp_min(1e-12) + 1e-7
    return float(torch.exp(-(share * share.log()).sum()))


def mean_cosine(features: Float[Tensor, "n F"]) -> float:
    """The mean cosine similarity between two different shapes: 1 means all look the same."""
    unit = torch.nn.functional.normalize(features.double(), dim=-1)
    count = len(unit)
    return float((unit.sum(0).square().sum() - unit.square().sum()) / (count * (count - 1)))


def leave_one_out_knn(features: Float[Tensor, "n F"], labels: Int[Tensor, " n"], k: int = 5) -> float:
    """Accuracy of a k-NN vote (cosine, each dimension standardised) in which every shape asks all the others."""
    [standard] = standardise(features.cpu().numpy())
    unit = torch.nn.functional.normalize(torch.from_numpy(standard).to(features), dim=-1)
    similarity = unit @ unit.T
    similarity.fill_diagonal_(-torch.inf)
    weight, near = similarity.topk(min(k, len(features) - 1), dim=1)
    votes = torch.zeros(len(features), int(labels.max()) + 1, device=features.device)
    votes.scatter_add_(1, labels[near], 1.0 + weight)  # the nearer, the heavier: no ties
    return float((votes.argmax(1) == labels).float().mean())
