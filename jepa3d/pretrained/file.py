"""`encoder.safetensors`: weights, and what they are of: model, scheme, preparation, where they come from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from jepa3d import __version__, encoders, plugins, renamed
from jepa3d.nets.encoder import Encoder
from jepa3d.params import Model, Scheme, slice_of
from jepa3d.pretrained.encoder import LoadedEncoder
from jepa3d.pretrained.preparation import Preparation
from jepa3d.problem import Problem
from jepa3d.results import store

FORMAT = "jepa3d.encoder/3"
SECOND = "jepa3d.encoder/2"  # said nothing of the preparation
FIRST = "jepa3d.encoder/1"  # the kind was beside the model, which was always a Transformer's
READ = (FORMAT, SECOND, FIRST)
FIRST_STAGE = "jepa3d.objective/"  # begins the format of `train.first_stage`, which is no encoder


def save(
    path: Path,
    nets: dict[str, Encoder],
    scheme: Scheme,
    stamp: dict[str, Any],
    preparation: Preparation | None = None,
) -> None:
    """`encoder.safetensors`: the weights of the context encoder and, where there is one, of its EMA copy."""
    tensors = {f"{which}.{name}": tensor for which, net in nets.items() for name, tensor in net.state_dict().items()}
    model = nets["context"].config
    metadata = {
        "format": FORMAT,
        "kind": model.kind,
        "which": sorted(nets),
        "model": slice_of(model),
        "scheme": slice_of(scheme),
        "preparation": slice_of(preparation or Preparation.of(scheme)),
        "weights": digest(tensors),
        "provenance": stamp,
    }
    store.write_tensors(path, tensors, metadata, stamp)


def load(path: str | Path, which: Literal["context", "target"] = "context") -> LoadedEncoder:
    """Read `encoder.safetensors`. A file that is not ours, of another size or damaged is a Problem."""
    path = Path(path)
    try:
        tensors, metadata = store.read_tensors(path)
    except Problem as problem:
        if not path.exists():
            raise
        raise Problem(problem.what, problem.why, "get it again, or make it again with 'jepa3d pretrain'") from None
    metadata, model, scheme, preparation = described(path, metadata)
    if "weights" in metadata and metadata["weights"] != digest(tensors):
        raise store.damaged(path, "its weights have changed since they were written")
    available = [which for which in ("context", "target") if which in metadata["which"]]
    if which not in available:
        raise Problem(f"{path}: has no '{which}' encoder", f"it has {', '.join(available)}", "ask for that one")
    with torch.device("meta"):  # what a damaged file claims takes no memory
        expected = encoders.build(model).state_dict() if model.layers <= len(tensors) else {}
    own = {name.removeprefix(which + "."): tensor for name, tensor in tensors.items() if name.startswith(which + ".")}
    wrong = sorted(
        (set(own) ^ set(expected))
        | {name for name in set(own) & set(expected) if own[name].shape != expected[name].shape}
    )
    if wrong:
        raise Problem(
            f"{path}: the weights do not fit the model that the file describes",
            f"{len(wrong)} tensors are missing, unknown or of another shape, such as {wrong[0]}",
            "the file is damaged or was edited: make it again with 'jepa3d pretrain'",
        )
    if not all(bool(tensor.isfinite().all()) for tensor in own.values()):
        raise Problem(
            f"{path}: has weights that are NaN or infinite",
            "a training that went wrong, or a damaged file",
            "make it again with 'jepa3d pretrain'",
        )
    module = encoders.build(model)
    module.load_state_dict(own)
    return LoadedEncoder(module, scheme, metadata, preparation)


def digest(tensors: Mapping[str, Tensor]) -> str:
    """A hash over names and bytes of all weights."""
    made = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        made.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        made.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return made.hexdigest()


def described(path: Path, metadata: dict[str, Any]) -> tuple[dict[str, Any], Model, Scheme, Preparation]:
    """A file's description as today's format has it, its model's entry, its scheme and its preparation, checked."""
    found = metadata.get("format") if isinstance(metadata, dict) else None
    if str(found).startswith(FIRST_STAGE):
        raise Problem(
            f"{path}: the first stage '{metadata.get('kind')}', which is no encoder",
            "runs of a second stage read it; nothing can be embedded with it",
            "give the encoder.safetensors of a run that reads it",
        )
    if found not in READ and str(found).startswith("jepa3d.encoder/"):
        raise Problem(
            f"{path}: an encoder of another version of jepa3d",
            f"its format is {found}, jepa3d {__version__} reads {', '.join(READ)}",
            "use the version that wrote it, or make it again with 'jepa3d pretrain'",
        )
    try:
        if found not in READ:
            raise ValueError(f"its format is {found}")
        kind, entry = metadata["kind"], metadata["model"]
        if found == FIRST:
            entry = {"kind": kind, **(entry if kind == "transformer" else {})}
        renamed.refuse_kind(kind, str(path), "make it again with 'jepa3d pretrain'")
        if kind not in plugins.known(encoders) or entry["kind"] != kind:
            raise ValueError(f"its kind is {kind}")
        config = plugins.find(encoders, kind).Config
        model: Model = config.model_validate_json(json.dumps(entry), strict=True)
        scheme = Scheme.model_validate_json(json.dumps(metadata["scheme"]), strict=True)
        preparation = Preparation.of(scheme)
        if found == FORMAT:
            preparation = Preparation.model_validate_json(json.dumps(metadata["preparation"]), strict=True)
        if not preparation.points >= scheme.points:
            raise ValueError(f"it draws {preparation.points} points, and its scheme takes {scheme.points}")
        if "context" not in metadata["which"]:
            raise ValueError("it has no context encoder")
    except (KeyError, TypeError, ValueError) as error:  # pydantic's own is a ValueError
        raise Problem(
            f"{path}: not an encoder of jepa3d",
            f"its description is missing or wrong: {error}",
            "give an encoder.safetensors",
        ) from None
    today = {"format": FORMAT, "model": slice_of(model), "preparation": slice_of(preparation)}
    return metadata | today, model, scheme, preparation


def check_shape(path: Path, loaded: LoadedEncoder, model: Model) -> None:
    """A Problem for weights that were made for an encoder of another size than a run's model."""
    saved, wanted = loaded.module.config.shape(), model.shape()
    for key in dict.fromkeys([*wanted, *saved]):
        if saved.get(key) != wanted.get(key):
            raise Problem(
                f"{path}: an encoder of another size",
                f"its {key} is {saved.get(key)}, the run's model in params.yaml has {wanted.get(key)}",
                "make it again with 'jepa3d pretrain', or set the run's model to what the file has",
            )
