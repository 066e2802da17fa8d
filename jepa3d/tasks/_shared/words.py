"""Words of evaluations that train an encoder on: how it was done, and why one cannot be."""

from __future__ import annotations

from jepa3d.params import Augment, Model, Tune


def cannot_be_tuned(settings: Tune, model: Model) -> str | None:
    """Why an encoder cannot be trained on with a head of its own; None: it can."""
    if not model.layers:
        return "its features are computed, not learned; fine-tuning needs weights"
    if settings.pool not in model.pools:
        return f"it cannot pool by {settings.pool}, but by {', '.join(model.pools)}"
    return None


def tuned_by(settings: Tune) -> str:
    """How an encoder was trained on, for a protocol's line."""
    fit, encoder = settings.fit, "EMA encoder" if settings.which == "target" else "encoder"
    layers = "-".join(map(str, settings.hidden))
    tokens = "tokens" if "cls" in settings.pool else "patch tokens"
    between = f", dropout {settings.dropout:g}{'' if settings.head_norm else ', no BatchNorm'}"
    decay = f", layer decay {settings.layer_decay:g}" if settings.layer_decay < 1.0 else ""
    length = f"{fit.steps} steps" if fit.steps is not None else f"{fit.epochs} epochs"
    warmup = f"{fit.warmup_steps} steps" if fit.warmup_steps else f"{fit.warmup_epochs or 0:g} epochs"
    return (
        f"{encoder}, head on {settings.pool} of the {tokens} ({layers + '-' if layers else 'linear, '}classes"
        f"{between if layers else ''}); AdamW {fit.lr:g}, pretrained parameters at "
        f"{settings.encoder_lr_scale:g} of it{decay}, weight decay {fit.weight_decay:g}, {length} of batch "
        f"{fit.batch}, warm-up {warmup}, cosine, clip {fit.clip or 'none'}; drop path {settings.drop_path:g}, label "
        f"smoothing {settings.smoothing:g}; augmentation: {augmented_by(settings.augment)}"
    )


def augmented_by(augment: Augment) -> str:
    """An augmentation in words, for a protocol's line."""
    said = []
    if augment.scale is not None:
        said.append(f"scale {augment.scale[0]:g} to {augment.scale[1]:g}{' per axis' * augment.scale_per_axis}")
    if augment.rotate != "none":
        said.append({"upright": "rotation about y", "so3": "any rotation"}[augment.rotate])
    if augment.shift:
        said.append(f"shift {augment.shift:g}")
    if augment.jitter is not None:
        said.append(f"jitter {augment.jitter.std:g}")
    return ", ".join(said) or "none"
