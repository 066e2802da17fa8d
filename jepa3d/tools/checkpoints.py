"""A peer's public checkpoint -> an encoder file of ours, on which every evaluation runs: `jepa3d import`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import yaml
from torch import Tensor

from jepa3d import encoders, pretrained
from jepa3d.formats import checkpoints
from jepa3d.nets.encoder import Encoder
from jepa3d.params import slice_of
from jepa3d.problem import Problem
from jepa3d.results import store
from jepa3d.tools.peers import PEERS, Peer

NAMED = 8  # parts of a file that are named, of those that were left out


class Imported(NamedTuple):
    nets: dict[str, Encoder]
    weights: int  # of the encoder, every one of them found
    dropped: tuple[str, ...]  # names in the file that are no part of an encoder


def write(path: Path, peer: str, out: Path) -> list[str]:
    """Write the encoder of a public checkpoint, or raise a Problem and write nothing. What there is to say of it."""
    if out.suffix != ".safetensors":
        raise Problem(f"{out}: an encoder's file ends in .safetensors", "", "choose such a name")
    known = PEERS[peer]
    made = converted(checkpoints.read(path, known.part), known, path)
    settings = {"as": peer, "weights": made.weights, "dropped": list(made.dropped)}
    stamp = store.stamp("import", settings, [path])
    pretrained.save(out, made.nets, known.scheme, stamp)
    which = " and ".join(made.nets)
    return [
        f"{out}: the encoder of {known.title} ({which}), {made.weights} of its {made.weights} weights found",
        f"left out: {parts(made.dropped) or 'nothing'}",
        "to evaluate it, give params.yaml a run that begins with it and is not trained:",
        *entries(known, peer, out).splitlines(),
    ]


def converted(tensors: Mapping[str, Tensor], peer: Peer, path: Path) -> Imported:
    """The encoder, and its EMA copy where the file has one. A Problem where a weight is missing, of another shape, or
    where the file's encoder has one that ours has no place for."""
    there = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    nets, used = {}, set[str]()
    for which, root in peer.roots.items():
        if which == "context" or any(name.startswith(root) for name in there):
            nets[which], own = _encoder(there, peer, root, path)
            used |= own
    left = tuple(name for name in there if name not in used)
    places = (*(root + place for root in peer.roots.values() for place in peer.own), *peer.shared)
    if unknown := [name for name in left if name.startswith(places)]:
        raise _other(path, peer, f"it also has {unknown[0]}, and {len(unknown)} such in all")
    return Imported(nets, len(nets["context"].state_dict()), left)


def _encoder(there: Mapping[str, Tensor], peer: Peer, root: str, path: Path) -> tuple[Encoder, set[str]]:
    net = encoders.build(peer.model)
    wanted, found, used, missing = net.state_dict(), dict[str, Tensor](), set[str](), list[str]()
    for weight in peer.weights(peer.model, root, there):
        if absent := [name for name in weight.theirs if name not in there]:
            missing += absent
            continue
        made = weight.make([there[name] for name in weight.theirs])
        shape = wanted[weight.ours].shape
        if made.shape != shape:
            raise _other(path, peer, f"{weight.theirs[0]} makes {list(made.shape)}, the encoder's is {list(shape)}")
        found[weight.ours] = made
        used |= set(weight.theirs)
    if missing:
        raise _other(path, peer, f"{len(found)} of {len(wanted)} weights are there; it lacks {missing[0]}")
    net.load_state_dict(found)  # all of them: `strict`
    return net, used


def _other(path: Path, peer: Peer, why: str) -> Problem:
    return Problem(
        f"{path}: not the encoder that {peer.title} pretrained and published",
        why,
        "give the checkpoint of its pretraining (not a fine-tuned one), and --as the method that it is of",
    )


def parts(names: tuple[str, ...]) -> str:
    """Names of weights in short: the first word of each, with their number."""
    counts = Counter(name.partition(".")[0] for name in names)
    shown = [f"{part} ({count})" for part, count in counts.most_common(NAMED)]
    return ", ".join(shown) + (f" and {len(counts) - NAMED} more" if len(counts) > NAMED else "")


def entries(peer: Peer, name: str, out: Path) -> str:
    """Entries of params.yaml for a run with an imported encoder; its data are for the user to name."""
    plain = slice_of(type(peer.model)())
    model = {key: value for key, value in slice_of(peer.model).items() if value != plain[key] or key == "kind"}
    run = {
        "about": f"{peer.title}, its public weights",
        "init": str(out) if out.is_absolute() else f"./{out}",
        "data": "DATASET",
        "patches": name,
        "model": name,
        "objective": {"kind": "random_init"},
        "fit": {"steps": 0},
    }
    scheme = {"points": peer.scheme.points, "levels": slice_of(peer.scheme)["levels"]}
    tree = {"patches": {name: scheme}, "models": {name: model}, "runs": {name: run}}
    return yaml.safe_dump(tree, sort_keys=False, default_flow_style=None, width=120)
