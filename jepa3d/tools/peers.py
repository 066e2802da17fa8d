"""The public checkpoints of Point-MAE, Point-BERT, Point-JEPA and Point-M2AE: where in them each of our weights is.

Their tokenizer has a bias before each BatchNorm, which ours has not: it is taken off the running mean, which is the
same function in evaluation, and in training has no effect. Their attention has queries, keys and values in one matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from jepa3d.encoders import hierarchical, transformer
from jepa3d.params import Level, Model, Scheme, Tokenizer

Make = Callable[[list[Tensor]], Tensor]


class Weight(NamedTuple):
    """One of our weights: of which of theirs it is made, and how."""

    ours: str
    theirs: tuple[str, ...]
    make: Make = lambda found: found[0]


class Peer(NamedTuple):
    """One method's files. `roots` are prefixes of the Transformer's weights: of the encoder, and of its EMA copy."""

    title: str
    part: str  # of the file
    model: Model
    scheme: Scheme
    roots: Mapping[str, str]
    weights: Callable[[Model, str, Mapping[str, Tensor]], Iterator[Weight]]
    own: tuple[str, ...]  # prefixes below a root of what the encoder consists of; none of it may be left over
    shared: tuple[str, ...] = ()  # the same, beside the roots


def _plain(ours: str, theirs: str, *names: str) -> Iterator[Weight]:
    for name in names:
        yield Weight(f"{ours}.{name}", (f"{theirs}.{name}",))


def _tokenizer(ours: str, theirs: str, there: Mapping[str, Tensor]) -> Iterator[Weight]:
    """A mini-PointNet: convolutions of length 1 are linear layers."""

    def layer(name: str, place: str, *parts: str) -> Iterator[Weight]:
        for part in parts:
            make: Make = (lambda found: found[0].squeeze(-1)) if part == "weight" else (lambda found: found[0])
            yield Weight(f"{ours}.{name}.{part}", (f"{theirs}.{place}.{part}",), make)

    def norm(name: str, before: str, place: str) -> Iterator[Weight]:
        yield from _plain(f"{ours}.{name}", f"{theirs}.{place}", "weight", "bias", "running_var", "num_batches_tracked")
        bias = (f"{theirs}.{before}.bias",) if f"{theirs}.{before}.bias" in there else ()
        mean: Make = lambda found: found[0] - sum(found[1:])  # noqa: E731
        yield Weight(f"{ours}.{name}.running_mean", (f"{theirs}.{place}.running_mean", *bias), mean)

    yield from layer("point", "first_conv.0", "weight")
    yield from norm("point_norm", "first_conv.0", "first_conv.1")
    yield from layer("lift", "first_conv.3", "weight", "bias")
    yield from layer("join", "second_conv.0", "weight")
    yield from norm("join_norm", "second_conv.0", "second_conv.1")
    yield from layer("out", "second_conv.3", "weight", "bias")


def _block(ours: str, theirs: str, biased: bool) -> Iterator[Weight]:
    for name, place in (("norm_self", "norm1"), ("norm_mlp", "norm2"), ("attend_self.out", "attn.proj")):
        yield from _plain(f"{ours}.{name}", f"{theirs}.{place}", "weight", "bias")
    for name, place in (("mlp.0", "mlp.fc1"), ("mlp.2", "mlp.fc2")):
        yield from _plain(f"{ours}.{name}", f"{theirs}.{place}", "weight", "bias")
    for part in ("weight", "bias")[: 1 + biased]:
        rows = (f"{theirs}.attn.qkv.{part}",)
        yield Weight(f"{ours}.attend_self.query.{part}", rows, lambda found: found[0].chunk(3)[0])
        yield Weight(f"{ours}.attend_self.key_value.{part}", rows, lambda found: torch.cat(found[0].chunk(3)[1:]))


def _transformer(
    model: Model, root: str, there: Mapping[str, Tensor], tokenizer: str, position: str, blocks: str
) -> Iterator[Weight]:
    assert isinstance(model, transformer.Config)
    yield from _tokenizer("tokenizer", tokenizer, there)
    for layer in ("0", "2"):
        yield from _plain(f"position.{layer}", f"{position}.{layer}", "weight", "bias")
    for depth in range(model.depth):
        yield from _block(f"blocks.{depth}", f"{blocks}.{depth}", model.qkv_bias)
    yield from _plain("norm", f"{root}norm", "weight", "bias")


def _mae(model: Model, root: str, there: Mapping[str, Tensor]) -> Iterator[Weight]:
    yield from _transformer(model, root, there, f"{root}encoder", f"{root}pos_embed", f"{root}blocks.blocks")


def _bert(model: Model, root: str, there: Mapping[str, Tensor]) -> Iterator[Weight]:
    yield from _mae(model, root, there)
    yield from _plain("tokenizer.bridge", f"{root}reduce_dim", "weight", "bias")
    for ours, theirs in (("cls_token", "cls_token"), ("cls_position", "cls_pos")):
        yield Weight(ours, (f"{root}{theirs}",), lambda found: found[0].flatten())


def _jepa(model: Model, root: str, there: Mapping[str, Tensor]) -> Iterator[Weight]:
    tokenizer = "tokenizer.embedding.encoder"
    yield from _transformer(model, root, there, tokenizer, "positional_encoding", f"{root}blocks")


def _m2ae(model: Model, root: str, there: Mapping[str, Tensor]) -> Iterator[Weight]:
    assert isinstance(model, hierarchical.Config)
    for level, count in enumerate(model.blocks):
        ours = f"mergers.{level - 1}" if level else "tokenizer"
        yield from _tokenizer(ours, f"{root}token_embed.{level}", there)
        for layer in ("0", "2"):
            place = f"{root}encoder_pos_embeds.{level}.{layer}"
            yield from _plain(f"positions.{level}.{layer}", place, "weight", "bias")
        for depth in range(count):
            place = f"{root}encoder_blocks.{level}.blocks.{depth}"
            yield from _block(f"stacks.{level}.{depth}", place, model.qkv_bias)
        yield from _plain(f"norms.{level}", f"{root}encoder_norms.{level}", "weight", "bias")


FLAT = Scheme(points=1024, levels=(Level(num=64, size=32),))
PYRAMID = Scheme(points=2048, levels=(Level(num=512, size=16), Level(num=256, size=8), Level(num=64, size=8)))
SIZE = transformer.Config(width=384, depth=12, heads=6, position_at="every_block", qkv_bias=False)
BERT = SIZE.model_copy(update={"cls": True, "tokenizer": Tokenizer(bridge=256)})
M2AE = hierarchical.Config(qkv_bias=False, tuned_radius=(0.32, 0.64, 1.28))

PEERS: dict[str, Peer] = {
    "point_mae": Peer("Point-MAE", "base_model", SIZE, FLAT, {"context": "MAE_encoder."}, _mae, ("",)),
    "point_bert": Peer(
        "Point-BERT", "base_model", BERT, FLAT, {"context": "transformer_q.", "target": "transformer_k."}, _bert,
        ("encoder.", "reduce_dim.", "pos_embed.", "blocks.", "norm.", "cls_token", "cls_pos"),
    ),
    "point_jepa": Peer(
        "Point-JEPA", "state_dict", SIZE.model_copy(update={"qkv_bias": True}), FLAT,
        {"context": "student.", "target": "teacher.ema_model."}, _jepa, ("",), ("tokenizer.", "positional_encoding."),
    ),
    "point_m2ae": Peer("Point-M2AE", "base_model", M2AE, PYRAMID, {"context": "h_encoder."}, _m2ae, ("",)),
}  # fmt: skip
