"""Public checkpoints: files with the authors' names of weights, read into our encoders, against a forward pass that is
written here with the authors' names and in their order of operations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from jepa3d import load_encoder, project
from jepa3d.cli import app
from jepa3d.encoders import hierarchical, transformer
from jepa3d.nets.patches import Patches, patchify
from jepa3d.objectives import random_init
from jepa3d.params import Level, Scheme, Tokenizer
from jepa3d.problem import Problem
from jepa3d.tools import checkpoints
from jepa3d.tools.checkpoints import converted
from jepa3d.tools.peers import PEERS, Peer
from jepa3d.train.objective import Setup

Weights = dict[str, Tensor]
FINE, MIDDLE, COARSE = Level(num=20, size=6), Level(num=10, size=4), Level(num=5, size=3)
SMALL: dict[str, Peer] = {  # the same names, other sizes
    "point_mae": PEERS["point_mae"]._replace(
        model=transformer.Config(width=12, depth=2, heads=3, position_at="every_block", qkv_bias=False)
    ),
    "point_bert": PEERS["point_bert"]._replace(
        model=transformer.Config(
            width=12, depth=2, heads=3, position_at="every_block", qkv_bias=False, cls=True,
            tokenizer=Tokenizer(bridge=8),
        )
    ),
    "point_jepa": PEERS["point_jepa"]._replace(
        model=transformer.Config(width=12, depth=2, heads=3, position_at="every_block")
    ),
    "point_m2ae": PEERS["point_m2ae"]._replace(
        model=hierarchical.Config(widths=(6, 12, 18), blocks=(1, 2, 1), heads=3, qkv_bias=False)
    ),
}  # fmt: skip
Shapes = dict[str, tuple[int, ...]]


# ---- what is in the authors' files


def mini_pointnet(root: str, inputs: int, out: int, biased: bool = True) -> Shapes:
    first, second, third = (128, 256, 512) if inputs == 3 else (inputs, inputs, out)
    convolutions = {
        "first_conv.0": (first, inputs), "first_conv.3": (second, first),
        "second_conv.0": (third, 2 * second), "second_conv.3": (out, third),
    }  # fmt: skip
    shapes: Shapes = {}
    for name, (rows, columns) in convolutions.items():
        shapes[f"{root}.{name}.weight"] = (rows, columns, 1)
        if biased or name.endswith("3"):
            shapes[f"{root}.{name}.bias"] = (rows,)
    for name, width in (("first_conv.1", first), ("second_conv.1", third)):
        shapes |= {f"{root}.{name}.{part}": (width,) for part in ("weight", "bias", "running_mean", "running_var")}
        shapes[f"{root}.{name}.num_batches_tracked"] = ()
    return shapes


def linear(name: str, inputs: int, out: int, biased: bool = True) -> Shapes:
    return {f"{name}.weight": (out, inputs), **({f"{name}.bias": (out,)} if biased else {})}


def norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def block(root: str, width: int, biased: bool) -> Shapes:
    return {
        **norm(f"{root}.norm1", width), **norm(f"{root}.norm2", width),
        **linear(f"{root}.attn.qkv", width, 3 * width, biased), **linear(f"{root}.attn.proj", width, width),
        **linear(f"{root}.mlp.fc1", width, 4 * width), **linear(f"{root}.mlp.fc2", 4 * width, width),
    }  # fmt: skip


def position(root: str, hidden: int, width: int) -> Shapes:
    return {**linear(f"{root}.0", 3, hidden), **linear(f"{root}.2", hidden, width)}


def blocks(root: str, width: int, depth: int, biased: bool) -> Shapes:
    return {key: shape for n in range(depth) for key, shape in block(f"{root}.{n}", width, biased).items()}


def named(kind: str, model: Any) -> Shapes:
    """Names and shapes of a file's weights, of what is no encoder only a few."""
    if kind == "point_m2ae":
        shapes: Shapes = {}
        before = 3
        for level, (width, depth) in enumerate(zip(model.widths, model.blocks, strict=True)):
            shapes |= mini_pointnet(f"h_encoder.token_embed.{level}", before, width)
            shapes |= position(f"h_encoder.encoder_pos_embeds.{level}", width, width)
            shapes |= blocks(f"h_encoder.encoder_blocks.{level}.blocks", width, depth, False)
            shapes |= norm(f"h_encoder.encoder_norms.{level}", width)
            before = width
        coarse = model.widths[-1]
        return {**shapes, "mask_token": (1, coarse), **blocks("h_decoder.0.blocks", coarse, 1, False)}
    width, depth = model.width, model.depth
    if kind == "point_mae":
        return {
            **mini_pointnet("MAE_encoder.encoder", 3, width), **position("MAE_encoder.pos_embed", 128, width),
            **blocks("MAE_encoder.blocks.blocks", width, depth, False), **norm("MAE_encoder.norm", width),
            "mask_token": (1, 1, width), **position("decoder_pos_embed", 128, width),
            **blocks("MAE_decoder.blocks", width, 1, False), **norm("MAE_decoder.norm", width),
            "increase_dim.0.weight": (96, width, 1), "increase_dim.0.bias": (96,),
        }  # fmt: skip
    if kind == "point_jepa":
        student = {**blocks("blocks", width, depth, True), **norm("norm", width)}
        return {
            "mask_token": (width,), **position("positional_encoding", 128, width),
            **mini_pointnet("tokenizer.embedding.encoder", 3, width, biased=False),
            **{f"{root}.{name}": shape for root in ("student", "teacher.ema_model") for name, shape in student.items()},
            "teacher.initted": (1,), "teacher.step": (1,), **linear("predictor.predictor_embed", width, 8),
        }  # fmt: skip
    inner = model.tokenizer.bridge
    side = {
        **dict.fromkeys(("mask_token", "cls_token", "cls_pos"), (1, 1, width)),
        **mini_pointnet("encoder", 3, inner), **linear("reduce_dim", inner, width),
        **position("pos_embed", 128, width), **blocks("blocks.blocks", width, depth, False), **norm("norm", width),
        **linear("lm_head", width, 32), **linear("cls_head.0", width, 16), **linear("cls_head.2", 16, 16),
    }  # fmt: skip
    both = {f"{root}.{name}": shape for root in ("transformer_q", "transformer_k") for name, shape in side.items()}
    return {**both, "queue": (16, 32), "queue_ptr": (1,), **mini_pointnet("dvae.encoder", 3, inner)}


def drawn(kind: str, model: Any, seed: int = 0) -> Weights:
    """Weights and BatchNorm statistics that are far from where they start."""
    torch.manual_seed(seed)
    found = {}
    for name, shape in named(kind, model).items():
        value = torch.randn(shape) / (shape[1] ** 0.5 if len(shape) > 1 and "token" not in name else 1.0)
        if name.endswith("running_var"):
            value = value.square() + 0.5
        if name.endswith("num_batches_tracked"):
            value = torch.tensor(9)
        if name.endswith(".weight") and len(shape) == 1:
            value = 1 + 0.3 * value
        found[name] = value
    return found


# ---- the authors' forward passes


def tokens_of(w: Weights, root: str, groups: Tensor) -> Tensor:
    """Conv1d, BatchNorm1d, ReLU, Conv1d, max, concat [max, point], the same again, max."""

    def convolve(x: Tensor, name: str) -> Tensor:
        return F.conv1d(x, w[f"{root}.{name}.weight"], w.get(f"{root}.{name}.bias"))

    def normed(x: Tensor, name: str) -> Tensor:
        mean, variance, weight, bias = (
            w[f"{root}.{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return F.relu(F.batch_norm(x, mean, variance, weight, bias))

    x = groups.flatten(0, 1).transpose(1, 2)
    x = convolve(normed(convolve(x, "first_conv.0"), "first_conv.1"), "first_conv.3")
    x = torch.cat([x.max(2, keepdim=True).values.expand(-1, -1, x.shape[2]), x], 1)
    x = convolve(normed(convolve(x, "second_conv.0"), "second_conv.1"), "second_conv.3")
    return x.max(2).values.unflatten(0, groups.shape[:2])


def mlp(w: Weights, x: Tensor, first: str, second: str) -> Tensor:
    x = F.gelu(F.linear(x, w[f"{first}.weight"], w[f"{first}.bias"]))
    return F.linear(x, w[f"{second}.weight"], w[f"{second}.bias"])


def layer_norm(w: Weights, x: Tensor, name: str) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])


def passed(w: Weights, x: Tensor, at: Tensor, root: str, depth: int, heads: int) -> Tensor:
    """Blocks of timm; the position is added before each."""
    for number in range(depth):
        name, x = f"{root}.{number}", x + at
        normed = layer_norm(w, x, f"{name}.norm1")
        qkv = F.linear(normed, w[f"{name}.attn.qkv.weight"], w.get(f"{name}.attn.qkv.bias"))
        query, key, value = qkv.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
        attention = (query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5).softmax(-1)
        mixed = (attention @ value).transpose(1, 2).flatten(2)
        x = x + F.linear(mixed, w[f"{name}.attn.proj.weight"], w[f"{name}.attn.proj.bias"])
        x = x + mlp(w, layer_norm(w, x, f"{name}.norm2"), f"{name}.mlp.fc1", f"{name}.mlp.fc2")
    return x


def forward(kind: str, w: Weights, model: Any, patches: Patches, which: str = "context") -> Tensor:
    if kind == "point_m2ae":
        x, centres, members = tokens_of(w, "h_encoder.token_embed.0", patches.groups), patches.centres, None
        for level, depth in enumerate(model.blocks):
            if level:
                members = patches.above[level - 1].neighbour
                centres = patches.above[level - 1].centres
                near = torch.stack([tokens[index] for tokens, index in zip(x, members, strict=True)])
                x = tokens_of(w, f"h_encoder.token_embed.{level}", near)
            place = f"h_encoder.encoder_pos_embeds.{level}"
            at = mlp(w, centres, f"{place}.0", f"{place}.2")
            x = passed(w, x, at, f"h_encoder.encoder_blocks.{level}.blocks", depth, model.heads)
        return layer_norm(w, x, f"h_encoder.encoder_norms.{len(model.blocks) - 1}")
    if kind == "point_jepa":
        x = tokens_of(w, "tokenizer.embedding.encoder", patches.groups)
        at = mlp(w, patches.centres, "positional_encoding.0", "positional_encoding.2")
        root = "student" if which == "context" else "teacher.ema_model"
        return layer_norm(w, passed(w, x, at, f"{root}.blocks", model.depth, model.heads), f"{root}.norm")
    root = {"point_mae": "MAE_encoder", "context": "transformer_q", "target": "transformer_k"}
    side = root[kind] if kind in root else root[which]
    x = tokens_of(w, f"{side}.encoder", patches.groups)
    at = mlp(w, patches.centres, f"{side}.pos_embed.0", f"{side}.pos_embed.2")
    if kind == "point_bert":
        x = F.linear(x, w[f"{side}.reduce_dim.weight"], w[f"{side}.reduce_dim.bias"])
        x = torch.cat([w[f"{side}.cls_token"].expand(len(x), -1, -1), x], 1)
        at = torch.cat([w[f"{side}.cls_pos"].expand(len(x), -1, -1), at], 1)
    return layer_norm(w, passed(w, x, at, f"{side}.blocks.blocks", model.depth, model.heads), f"{side}.norm")


def cut(kind: str, scheme: Scheme | None = None) -> Patches:
    cloud = torch.randn(3, 60 if scheme is None else scheme.points, 3, generator=torch.Generator().manual_seed(1))
    levels = scheme.levels if scheme else (FINE, MIDDLE, COARSE)[: 3 if kind == "point_m2ae" else 1]
    return patchify(cloud, *levels)


# ---- small encoders of the same names


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("prefix", ["", "module."])
@torch.no_grad()
def test_an_imported_encoder_is_the_authors(kind: str, prefix: str):
    peer = SMALL[kind]
    weights = drawn(kind, peer.model)
    made = converted({prefix + name: one for name, one in weights.items()}, peer, Path("f.pth"))
    assert set(made.nets) == ({"context", "target"} if kind in ("point_bert", "point_jepa") else {"context"})
    outputs = []
    for which, net in made.nets.items():
        ours, theirs = net.eval()(cut(kind)), forward(kind, weights, peer.model, cut(kind), which)
        outputs.append(theirs)
        assert (ours - theirs).abs().max() < 1e-4 * theirs.abs().max()
    assert len(outputs) == 1 or not torch.allclose(*outputs, atol=0.1)


LEFT = {
    "point_mae": "MAE_decoder (13), decoder_pos_embed (4), increase_dim (2), mask_token (1)",
    "point_bert": "transformer_q (7), transformer_k (7), dvae (18), queue (1), queue_ptr (1)",
    "point_jepa": "teacher (2), predictor (2), mask_token (1)",
    "point_m2ae": "h_decoder (11), mask_token (1)",
}


@pytest.mark.parametrize("kind", SMALL)
def test_what_is_no_encoder_is_left_out_and_named(kind: str):
    made = converted(drawn(kind, SMALL[kind].model), SMALL[kind], Path("f.pth"))
    assert sorted(checkpoints.parts(made.dropped).split(", ")) == sorted(LEFT[kind].split(", "))
    assert made.weights == len(made.nets["context"].state_dict())


@pytest.mark.parametrize("kind", SMALL)
def test_every_weight_of_the_encoder_is_needed(kind: str):
    """Take one after the other away: each is missed, or was none of the encoder's."""
    peer, weights = SMALL[kind], drawn(kind, SMALL[kind].model)
    made = converted(weights, peer, Path("f.pth"))
    biases = {"first_conv.0.bias", "second_conv.0.bias"}  # of a file that has them; another has none at all
    needed = [name for name in weights if name not in made.dropped and not name.endswith(tuple(biases))]
    assert len(needed) > 40
    for name in needed[:: 1 + len(needed) // 25]:
        with pytest.raises(Problem, match="not the encoder that") as caught:
            converted({key: one for key, one in weights.items() if key != name}, peer, Path("f.pth"))
        assert name in caught.value.why


@pytest.mark.parametrize(
    ("kind", "extra"),
    [
        ("point_mae", "MAE_encoder.blocks.blocks.2.norm1.weight"),
        ("point_mae", "MAE_encoder.blocks.blocks.0.attn.qkv.bias"),
        ("point_bert", "transformer_q.encoder.third_conv.0.weight"),
        ("point_jepa", "tokenizer.embedding.other.weight"),
        ("point_m2ae", "h_encoder.encoder_norms.3.weight"),
    ],
)
def test_a_weight_of_the_files_encoder_that_ours_has_no_place_for_is_a_problem(kind: str, extra: str):
    weights = drawn(kind, SMALL[kind].model) | {extra: torch.zeros(12)}
    with pytest.raises(Problem, match="not the encoder that") as caught:
        converted(weights, SMALL[kind], Path("f.pth"))
    assert extra in caught.value.why


def test_another_methods_file_and_another_size_are_a_problem():
    weights = drawn("point_mae", SMALL["point_mae"].model)
    with pytest.raises(Problem) as caught:
        converted(weights, SMALL["point_bert"], Path("f.pth"))
    assert "0 of" in caught.value.why
    with pytest.raises(Problem) as caught:
        converted(weights, PEERS["point_mae"], Path("f.pth"))
    assert "the encoder's is [384" in caught.value.why


def test_a_fine_tuned_file_is_a_problem():
    weights = drawn("point_mae", SMALL["point_mae"].model)
    tuned = {name.removeprefix("MAE_encoder."): one for name, one in weights.items()}
    with pytest.raises(Problem) as caught:
        converted(tuned, SMALL["point_mae"], Path("tuned.pth"))
    assert "not a fine-tuned one" in caught.value.mend


def test_a_run_that_begins_with_imported_weights_and_is_not_trained_keeps_them():
    peer = SMALL["point_mae"]
    imported = converted(drawn("point_mae", peer.model), peer, Path("f.pth")).nets["context"]
    net = random_init.Objective(random_init.Config(), Setup(peer.model, Scheme(points=60, levels=(FINE,))))
    net.begin_with(imported)

    def none() -> Any:
        raise AssertionError("no batch is needed")
        yield

    net.finish(none())
    own = net.encoder.state_dict()
    assert all(torch.equal(one, own[name]) for name, one in imported.state_dict().items())


# ---- the command, at the published sizes


class Acc:
    """Their metric, kept in some files beside the weights."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", PEERS)
@torch.no_grad()
def test_the_command_writes_an_encoder_that_gives_the_authors_features_and_entries_that_load(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    peer = PEERS[kind]
    weights = drawn(kind, peer.model)
    content = {peer.part: weights, "epoch": 300}
    if kind == "point_jepa":
        content["hyper_parameters"] = {"svm": Acc()}
    torch.save(content, "public.pth")
    app(["import", "public.pth", "--as", kind, "-o", "encoder.safetensors"], standalone_mode=False)
    said = capsys.readouterr().out
    loaded = load_encoder("encoder.safetensors")
    count = len(loaded.module.state_dict())
    assert f"{count} of its {count} weights found" in said
    patches = cut(kind, peer.scheme)
    theirs = forward(kind, weights, peer.model, patches)
    assert (loaded.module(patches) - theirs).abs().max() < 1e-4 * theirs.abs().max()
    stamp = loaded.metadata["provenance"]
    assert stamp["verb"] == "import"
    assert list(stamp["inputs"]) == ["public.pth"]
    tree = said.partition("not trained:\n")[2].replace("DATASET", "toys")
    Path("params.yaml").write_text(
        "study: s\nstudies: {s: {runs: RUN, evals: near, seeds: [0]}}\n".replace("RUN", kind)
        + "datasets: {toys: {kind: procedural, points: 2048}}\n"
        + "evals: {near: {dataset: toys, task: {kind: knn}}}\n"
        + tree
    )
    params = project.load("params.yaml")
    project.check_objectives(params)
    assert params.models[kind].shape() == loaded.module.config.shape()
    assert params.runs[kind].init_file == Path("encoder.safetensors")
    assert params.patches[kind].levels == loaded.scheme.levels


def test_an_output_of_another_ending_and_a_file_that_is_none_are_a_problem(tmp_path: Path):
    with pytest.raises(Problem, match=r"ends in \.safetensors"):
        checkpoints.write(tmp_path / "public.pth", "point_mae", tmp_path / "encoder.pt")
    (tmp_path / "public.pth").write_bytes(b"no file of torch")
    with pytest.raises(Problem, match="not a checkpoint that can be read"):
        checkpoints.write(tmp_path / "public.pth", "point_mae", tmp_path / "encoder.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["public.pth"]
