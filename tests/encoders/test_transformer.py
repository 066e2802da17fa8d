"""The encoder, and the file in which users get it."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from jepa3d import load_encoder
from jepa3d.encoders import build, handcrafted, raw_centres, transformer
from jepa3d.nets.encoder import Encoder
from jepa3d.nets.patches import make_patches, patchify
from jepa3d.params import Level, Scheme, Tokenizer
from jepa3d.pretrained import LoadedEncoder, for_training, save
from jepa3d.problem import Problem

MODEL = transformer.Config(width=24, depth=2, heads=2, tokenizer=Tokenizer(widths=(8, 8, 8)))
SCHEME = Scheme(points=64, levels=(Level(num=10, size=8),))


def clouds(count: int = 3, points: int = 64, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, points, 3, generator=torch.Generator().manual_seed(seed))


def encoder(model: transformer.Config = MODEL, seed: int = 0) -> Encoder:
    torch.manual_seed(seed)
    return build(model).eval()


def saved(path: Path, nets: dict[str, Any] | None = None) -> Path:
    save(path, nets or {"context": encoder(), "target": encoder(seed=1)}, SCHEME, {"verb": "pretrain"})
    return path


# --- the network


def test_patches_are_indices_gathered_relative_to_their_centres():
    cloud = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [5, 0, 0]]])
    patches = make_patches(cloud, torch.tensor([[2]]), torch.tensor([[[2, 1]]]))
    assert patches.centres.tolist() == [[[5, 0, 0]]]
    assert patches.groups.tolist() == [[[[0, 0, 0], [-4, 0, 0]]]]


@pytest.mark.parametrize("position_at", ["input", "every_block"])
def test_the_order_of_the_patches_does_not_matter(position_at: str):
    net = encoder(MODEL.model_copy(update={"position_at": position_at}))
    patches, order = patchify(clouds(), SCHEME.levels[0]), torch.randperm(10)
    shuffled = patches._replace(centres=patches.centres[:, order], groups=patches.groups[:, order])
    with torch.no_grad():
        assert torch.allclose(net(shuffled), net(patches)[:, order], atol=1e-5)
        assert torch.allclose(net.pool(net(shuffled)), net.pool(net(patches)), atol=1e-5)


def test_a_cloud_translated_as_a_whole_changes_its_positions_only():
    net = encoder()
    here, there = patchify(clouds(), SCHEME.levels[0]), patchify(clouds() + 4.0, SCHEME.levels[0])
    assert torch.allclose(net.tokenizer(here.groups), net.tokenizer(there.groups), atol=1e-4)
    assert not torch.allclose(net.position(here.centres), net.position(there.centres), atol=1e-2)


@pytest.mark.parametrize("position", ["mlp", "linear", "sinusoidal"])
@pytest.mark.parametrize("position_at", ["input", "every_block"])
def test_padding_changes_no_valid_token(position: str, position_at: str):
    net = encoder(MODEL.model_copy(update={"position": position, "position_at": position_at}))
    tokens, at = torch.randn(2, 6, 24), torch.randn(2, 6, 24)
    valid = torch.tensor([[True] * 6 + [False] * 4] * 2)
    with torch.no_grad():
        expected = net.trunk(tokens, at)
        for content in (0.0, 50.0):
            rest = torch.full((2, 4, 24), content)
            got = net.trunk(torch.cat([tokens, rest], 1), torch.cat([at, rest], 1), valid)
            assert torch.allclose(got[:, :6], expected, atol=1e-6)


def test_positions_enter_once_or_at_every_block():
    """With blocks that add nothing, the difference is the number of times that the position is added."""
    tokens, at = torch.randn(1, 3, 24), torch.randn(1, 3, 24)
    for where, times in (("input", 1), ("every_block", 3)):
        net = encoder(MODEL.model_copy(update={"position_at": where, "depth": 3}))
        for block in net.blocks:
            for last in (block.attend_self.out, block.mlp[2]):
                torch.nn.init.zeros_(last.weight)
        assert torch.allclose(net.trunk(tokens, at), net.norm(tokens + times * at), atol=1e-5)


def test_drop_path_rises_with_depth():
    net = encoder(MODEL.model_copy(update={"depth": 3, "drop_path": 0.2}))
    assert [block.drop_path for block in net.blocks] == pytest.approx([0.0, 0.1, 0.2])


@pytest.mark.parametrize(
    ("pool", "width"), [("max_mean", 48), ("max", 24), ("mean", 24), ("sum", 24), ("cls", 24), ("cls_max", 48)]
)
def test_pooling(pool: str, width: int):
    net = encoder(MODEL.model_copy(update={"pool": pool, "cls": "cls" in pool}))
    tokens = torch.randn(2, 5, 24)
    pooled = net.pool(tokens)
    assert pooled.shape == (2, width)
    assert net.features == width
    rest = tokens[:, 1:] if "cls" in pool else tokens
    expected = {"max": rest.amax(1), "mean": rest.mean(1), "cls": tokens[:, 0], "sum": rest.amax(1) + rest.mean(1)}
    assert torch.equal(pooled, torch.cat([expected[part] for part in pool.split("_")], -1))


# --- a [CLS] token


def with_cls(**changes: Any) -> Encoder:
    return encoder(MODEL.model_copy(update={"cls": True, "pool": "cls_max", **changes}))


def test_a_cls_token_changes_no_other_weight():
    plain, net = encoder().state_dict(), with_cls().state_dict()
    assert set(net) - set(plain) == {"cls_token", "cls_position"}
    assert all(torch.equal(net[name], value) for name, value in plain.items())


@pytest.mark.parametrize("position_at", ["input", "every_block"])
def test_a_cls_token_is_one_more_token_with_a_position_of_its_own(position_at: str):
    net = with_cls(position_at=position_at)
    plain = encoder(MODEL.model_copy(update={"position_at": position_at}))
    plain.load_state_dict({name: value for name, value in net.state_dict().items() if not name.startswith("cls")})
    patches = patchify(clouds(), SCHEME.levels[0])
    own = [one.expand(3, 1, -1) for one in (net.cls_token, net.cls_position)]
    with torch.no_grad():
        tokens, at = net.tokenizer(patches.groups), net.position(patches.centres)
        expected = plain.trunk(torch.cat([own[0], tokens], 1), torch.cat([own[1], at], 1))
        assert torch.allclose(net(patches), expected, atol=1e-6)
        assert torch.allclose(net.trunk(tokens, at), expected[:, 1:], atol=1e-6)
        assert torch.equal(net.of_patches(patches, net(patches)).tokens, net(patches)[:, 1:])


def test_padding_changes_nothing_beside_a_cls_token():
    net, tokens, at = with_cls(), torch.randn(2, 6, 24), torch.randn(2, 6, 24)
    valid = torch.tensor([[True] * 6 + [False] * 3] * 2)
    rest = torch.full((2, 3, 24), 50.0)
    with torch.no_grad():
        got = net.trunk(torch.cat([tokens, rest], 1), torch.cat([at, rest], 1), valid)
        assert torch.allclose(got[:, :6], net.trunk(tokens, at), atol=1e-6)


def test_a_file_has_its_cls_token_and_users_get_the_tokens_of_patches(tmp_path: Path):
    net = with_cls()
    loaded = load_encoder(saved(tmp_path / "e.safetensors", {"context": net})).of_canonical()
    patches = patchify(clouds(), SCHEME.levels[0])
    with torch.no_grad():
        assert torch.equal(loaded.embed(clouds()), net.pool(net(patches)))
        assert loaded.tokens(clouds())[1].shape == (3, 10, 24)
        assert torch.equal(loaded.encode(clouds())[0], loaded.embed(clouds()))


def test_training_on_may_add_a_cls_token_that_pretraining_had_not(tmp_path: Path):
    loaded = load_encoder(saved(tmp_path / "e.safetensors"))
    torch.manual_seed(3)
    net = for_training(loaded, 0.0, "cls_max")
    fresh = {name for name, _ in net.named_parameters()} - {name for name, _ in loaded.module.named_parameters()}
    assert fresh == {"cls_token", "cls_position"}
    assert net.cls_token.std().item() == pytest.approx(0.02, rel=0.5)
    kept = load_encoder(saved(tmp_path / "f.safetensors", {"context": with_cls()}))
    assert torch.equal(for_training(kept, 0.0, "max").cls_token, kept.module.cls_token)


def test_a_pool_that_reads_a_cls_token_needs_one():
    with pytest.raises(ValueError, match=r"needs a \[CLS\] token: set cls to true"):
        transformer.Config(pool="cls_max")


def test_an_encoder_without_biases_of_query_key_and_value_and_with_dropout():
    net = encoder(MODEL.model_copy(update={"qkv_bias": False, "dropout": 0.2, "attention_dropout": 0.1}))
    plain = encoder(MODEL.model_copy(update={"qkv_bias": False}))
    assert set(encoder().state_dict()) - set(net.state_dict()) == {
        f"blocks.{block}.attend_self.{layer}.bias" for block in range(2) for layer in ("query", "key_value")
    }
    patches = patchify(clouds(), SCHEME.levels[0])
    assert torch.equal(net(patches), plain(patches))
    net.train()
    net.tokenizer.eval()
    assert not torch.allclose(net(patches), plain(patches), atol=1e-3)


# --- features that need no training


def test_raw_centres_are_the_centres_and_hand_made_features_ignore_rotation_about_the_vertical():
    patches = patchify(clouds(), SCHEME.levels[0])
    raw, made = build(raw_centres.Config()), build(handcrafted.Config())
    assert torch.equal(raw.pool(raw(patches)), patches.centres.flatten(1))
    turned = patchify(clouds() * torch.tensor([-1.0, 1.0, -1.0]), SCHEME.levels[0])  # half a turn
    assert torch.allclose(made.pool(made(patches)), made.pool(made(turned)), atol=1e-4)
    assert made.pool(made(patches)).shape[1] == made(patches).shape[2]


# --- the file


@pytest.mark.parametrize("which", ["context", "target"])
def test_a_saved_encoder_gives_the_same_features_after_loading(tmp_path: Path, which: str):
    nets = {"context": encoder(), "target": encoder(seed=1)}
    nets["context"].tokenizer.train()(torch.randn(50, 8, 3))  # statistics of a BatchNorm that has seen data
    nets["context"].eval()
    loaded = load_encoder(saved(tmp_path / "encoder.safetensors", nets), which).of_canonical()
    patches = patchify(clouds(), SCHEME.levels[0])
    with torch.no_grad():
        assert torch.equal(loaded.embed(clouds()), nets[which].pool(nets[which](patches)))
        centres, tokens = loaded.tokens(clouds())
        assert torch.equal(centres, patches.centres)
        assert torch.equal(tokens, nets[which](patches))
    assert loaded.metadata["provenance"] == {"verb": "pretrain"}
    assert loaded.scheme == SCHEME


def test_a_loaded_encoder_is_frozen_and_does_not_depend_on_the_rest_of_the_batch(tmp_path: Path):
    loaded = load_encoder(saved(tmp_path / "e.safetensors"))
    assert not loaded.module.training
    assert not any(parameter.requires_grad for parameter in loaded.module.parameters())
    assert torch.allclose(loaded.embed(clouds())[1:2], loaded.embed(clouds()[1:2]), atol=1e-6)


def test_more_points_than_the_scheme_has_are_reduced_as_it_says(tmp_path: Path):
    loaded = load_encoder(saved(tmp_path / "e.safetensors")).of_canonical()
    many = clouds(points=100)
    assert torch.equal(loaded.embed(many), loaded.embed(many[:, :64]))  # sample: first
    by_fps = LoadedEncoder(loaded.module, SCHEME.model_copy(update={"sample": "fps"}), {})
    assert not torch.equal(by_fps.embed(many), loaded.embed(many))


def test_double_precision_and_numpy_are_taken_as_well(tmp_path: Path):
    loaded = load_encoder(saved(tmp_path / "e.safetensors"))
    assert torch.equal(loaded.embed(clouds().double()), loaded.embed(clouds()))
    assert torch.equal(loaded.embed(clouds().numpy()), loaded.embed(clouds()))


@pytest.mark.parametrize(
    ("points", "words"),
    [
        (torch.zeros(64, 3), "have shape (64, 3)"),
        (torch.zeros(2, 63, 3), "have shape (2, 63, 3)"),
        (torch.zeros(2, 64, 2), "have shape (2, 64, 2)"),
        (clouds().index_fill(0, torch.tensor([1]), torch.nan), "NaN or infinite"),
        (clouds().index_fill(0, torch.tensor([1]), torch.inf), "NaN or infinite"),
    ],
)
def test_points_that_it_cannot_take_are_a_problem(tmp_path: Path, points: torch.Tensor, words: str):
    with pytest.raises(Problem) as caught:
        load_encoder(saved(tmp_path / "e.safetensors")).embed(points)
    assert words in caught.value.what
    if "NaN" in words:
        assert "number 1" in caught.value.why


@pytest.mark.parametrize("way", ["tensor", "array", "list of arrays", "list of lists", "read-only", "strided", "half"])
def test_clouds_may_come_in_any_form(tmp_path: Path, way: str):
    loaded, cloud = load_encoder(saved(tmp_path / "e.safetensors")), clouds()
    plain = cloud.numpy()
    frozen = plain.copy()
    frozen.flags.writeable = False
    given: Any = {
        "tensor": cloud.clone().requires_grad_(),
        "array": plain,
        "list of arrays": list(plain),
        "list of lists": plain.tolist(),
        "read-only": frozen,
        "strided": plain[::-1].copy()[::-1],
        "half": plain.astype(np.float16),
    }[way]
    expected = loaded.embed(torch.from_numpy(plain.astype(np.float16)) if way == "half" else cloud)
    assert torch.equal(loaded.embed(given), expected)
    assert torch.equal(loaded.tokens(given)[1], loaded.tokens(cloud)[1]) or way == "half"


def test_the_clouds_of_a_list_may_differ_in_their_number_of_points(tmp_path: Path):
    loaded = load_encoder(saved(tmp_path / "e.safetensors"))
    few, many = clouds(1, 64)[0], clouds(1, 100, seed=1)[0]
    together = loaded.embed([few, many.numpy()])
    assert torch.allclose(together[:1], loaded.embed(few[None]), atol=1e-6)
    assert torch.allclose(together[1:], loaded.embed(many[None]), atol=1e-6)
    assert loaded.embed([]).shape == (0, 48)
    assert loaded.embed(torch.empty(0, 64, 3)).shape == (0, 48)


def test_any_number_of_clouds_is_embedded_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    loaded, many = load_encoder(saved(tmp_path / "e.safetensors")), clouds(11)
    whole = loaded.embed(many), *loaded.tokens(many)
    sizes: list[int] = []
    forward = loaded.module.forward
    monkeypatch.setattr("jepa3d.pretrained.encoder.CPU_BATCH", 4)
    monkeypatch.setattr(
        loaded.module, "forward", lambda patches: (sizes.append(len(patches.points)), forward(patches))[1]
    )
    for once, pieces in zip(whole, (loaded.embed(many), *loaded.tokens(many)), strict=True):
        assert torch.allclose(once, pieces, atol=1e-6)
    assert sizes == [4, 4, 3] * 2


def test_a_batch_is_what_the_caches_of_a_core_hold(tmp_path: Path):
    assert load_encoder(saved(tmp_path / "e.safetensors")).batch_size == 32
    paper = Scheme(points=1024, levels=(Level(num=64, size=32),))
    wide = MODEL.model_copy(update={"tokenizer": Tokenizer(widths=(128, 256, 512))})
    assert LoadedEncoder(encoder(wide), paper, {}).batch_size == 4  # 4 x 64 x 32 x 512 x 4 bytes = 16 MiB
    assert LoadedEncoder(build(handcrafted.Config()), paper, {}).batch_size == 32


@pytest.mark.parametrize(
    ("given", "what", "why"),
    [
        ([np.zeros((64, 3)), np.zeros((63, 3))], "cloud number 1 of the list has shape (63, 3)", "at least 64 points"),
        ([[1.0, 2.0, 3.0]], "cloud number 0 of the list has shape (3,)", ""),
        (np.full((1, 64, 3), "x"), "points are no numbers", "could not convert"),
        (np.full((1, 64, 3), 1e300), "number 0: all its points are the same", "no size"),
        (None, "points have shape ()", ""),
    ],
)
def test_what_is_wrong_with_a_list_or_an_array_is_said(tmp_path: Path, given: Any, what: str, why: str):
    with pytest.raises(Problem) as caught:
        load_encoder(saved(tmp_path / "e.safetensors")).embed(given)
    assert what in caught.value.what
    assert why in caught.value.why


def test_a_cloud_that_is_not_finite_is_counted_over_all_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("jepa3d.pretrained.encoder.CPU_BATCH", 2)
    many = clouds(7)
    many[5, 3, 1] = torch.inf
    for given in (many, many.numpy(), list(many)):
        with pytest.raises(Problem) as caught:
            load_encoder(saved(tmp_path / "e.safetensors")).embed(given)
        assert "number 5" in caught.value.why


@pytest.mark.parametrize("kind", [raw_centres, handcrafted])
def test_features_without_weights_are_saved_and_loaded_like_others(tmp_path: Path, kind: ModuleType):
    net = build(kind.Config())
    loaded = load_encoder(saved(tmp_path / "e.safetensors", {"context": net})).of_canonical()
    patches = patchify(clouds(), SCHEME.levels[0])
    assert torch.equal(loaded.embed(clouds()), net.pool(net(patches)))
    with pytest.raises(Problem, match="has no 'target' encoder") as caught:
        load_encoder(tmp_path / "e.safetensors", "target")
    assert "context" in caught.value.why


def edited(path: Path, **changes: Any) -> Path:
    """The same weights with another description; None removes an entry."""
    with safe_open(str(path), framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = json.loads(file.metadata()["jepa3d"])
    metadata = {key: value for key, value in (metadata | changes).items() if value is not None}
    save_file(tensors, path, metadata={"jepa3d": json.dumps(metadata)})
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {"format": None},
        {"format": "another.encoder/1"},
        {"kind": None},
        {"kind": "resnet"},
        {"kind": ["transformer"]},
        {"which": None},
        {"which": 5},
        {"model": None},
        {"model": "text"},
        {"model": {"width": 25}},
        {"scheme": {"points": -1}},
    ],
)
def test_an_edited_description_is_a_problem(tmp_path: Path, changes: dict[str, Any]):
    with pytest.raises(Problem, match="not an encoder of jepa3d"):
        load_encoder(edited(saved(tmp_path / "e.safetensors"), **changes))


def test_another_version_of_the_format_is_told_from_a_foreign_file(tmp_path: Path):
    with pytest.raises(Problem, match=r"e\.safetensors: an encoder of another version of jepa3d") as caught:
        load_encoder(edited(saved(tmp_path / "e.safetensors"), format="jepa3d.encoder/9"))
    assert "jepa3d.encoder/9" in caught.value.why
    assert "pretrain" in caught.value.mend


@pytest.mark.parametrize("change", [{"depth": 3}, {"depth": 1}, {"width": 48}, {"position": "linear"}])
def test_weights_of_another_model_than_described_are_a_problem_that_names_one(tmp_path: Path, change: dict[str, Any]):
    model = {**MODEL.model_dump(mode="json"), **change}
    with pytest.raises(Problem, match="do not fit the model") as caught:
        load_encoder(edited(saved(tmp_path / "e.safetensors"), model=model))
    assert "such as" in caught.value.why


def test_foreign_truncated_and_missing_files_are_problems(tmp_path: Path):
    whole = saved(tmp_path / "e.safetensors").read_bytes()
    save_file({"w": torch.zeros(3)}, tmp_path / "foreign.safetensors")
    with pytest.raises(Problem, match="not an encoder of jepa3d"):
        load_encoder(tmp_path / "foreign.safetensors")
    for content in (whole[: len(whole) // 2], whole[:4], b"", b"text of no meaning"):
        (tmp_path / "damaged.safetensors").write_bytes(content)
        with pytest.raises(Problem, match=r"damaged\.safetensors: cannot be read") as caught:
            load_encoder(tmp_path / "damaged.safetensors")
        assert "get it again" in caught.value.mend
    with pytest.raises(Problem, match="no such file"):
        load_encoder(tmp_path / "nowhere.safetensors")
