"""What every kind of encoder is to those who use it; the tests run over every kind that is found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from jepa3d import encoders, load_encoder, plugins
from jepa3d.encoders import build, transformer
from jepa3d.nets.encoder import Encoder, Pyramid, Separable
from jepa3d.nets.patches import Patches, patchify
from jepa3d.params import Level, Model, Scheme, Tokenizer
from jepa3d.params.validation import validate
from jepa3d.pretrained import LoadedEncoder, for_training, save
from jepa3d.problem import Problem
from jepa3d.train.segmentation import Segmenter

DATA = Path(__file__).parents[1] / "data"
LEVELS = (Level(num=20, size=8), Level(num=10, size=4), Level(num=5, size=3))
SMALL: dict[str, dict[str, Any]] = {  # of kinds whose default is large
    "transformer": {"width": 12, "depth": 2, "heads": 2, "tokenizer": {"widths": [8, 8, 8]}},
}
KINDS = plugins.known(encoders)
every_kind = pytest.mark.parametrize("kind", KINDS)


def entry(kind: str) -> Model:
    model: Model = validate(plugins.find(encoders, kind).Config, SMALL.get(kind, {}), kind, "here")
    return model


def net_of(kind: str, seed: int = 0) -> Encoder:
    torch.manual_seed(seed)
    return build(entry(kind)).eval()


def scheme_of(kind: str) -> Scheme:
    return Scheme(points=64, levels=LEVELS[: entry(kind).levels or 1])


def clouds(count: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 64, 3, generator=torch.Generator().manual_seed(seed))


def patches_of(kind: str, points: torch.Tensor) -> Patches:
    return patchify(points, *scheme_of(kind).levels)


def learned() -> list[str]:
    return [kind for kind in KINDS if entry(kind).layers]


@every_kind
def test_an_entry_describes_the_encoder_that_is_built_from_it(kind: str):
    config, net = entry(kind), net_of(kind)
    assert net.config == config
    assert config.kind == kind
    assert bool(config.layers) == any(parameter.requires_grad for parameter in net.parameters())
    assert isinstance(net, Separable) == config.separable
    assert isinstance(net, Pyramid) == config.pyramid
    assert config.about
    assert config.widest >= 1


@every_kind
def test_a_shape_has_one_feature_and_its_batch_mates_do_not_matter(kind: str):
    net, points = net_of(kind), clouds()
    with torch.no_grad():
        features = net.pool(net(patches_of(kind, points)))
        alone = net.pool(net(patches_of(kind, points[1:2])))
    assert features.ndim == 2
    assert torch.isfinite(features).all()
    assert torch.allclose(features[1:2], alone, atol=1e-5)
    assert len(torch.unique(features, dim=0)) == 3
    if entry(kind).layers:
        assert features.shape[1] == net.features


@every_kind
def test_tokens_of_patches_stand_at_their_centres(kind: str):
    net, patches = net_of(kind), patches_of(kind, clouds())
    with torch.no_grad():
        centres, tokens = net.of_patches(patches, net(patches))
    assert tokens.ndim == centres.ndim == 3
    if entry(kind).layers:
        assert centres.shape[1] == tokens.shape[1]
        assert tokens.shape[2] == net.width


@every_kind
def test_a_saved_encoder_is_the_same_after_loading(tmp_path: Path, kind: str):
    net = net_of(kind)
    save(tmp_path / "e.safetensors", {"context": net}, scheme_of(kind), {"verb": "pretrain"})
    loaded = load_encoder(tmp_path / "e.safetensors").of_canonical()
    assert loaded.module.config == net.config
    assert loaded.metadata["kind"] == kind
    patches = patches_of(kind, clouds())
    with torch.no_grad():
        assert torch.equal(loaded.embed(clouds()), net.pool(net(patches)))
        features, centres, tokens = loaded.encode(clouds())
    assert torch.equal(features, loaded.embed(clouds()))
    assert all(torch.equal(a, b) for a, b in zip(loaded.tokens(clouds()), (centres, tokens), strict=True))


@every_kind
def test_one_seed_gives_one_encoder(kind: str):
    first, second, other = net_of(kind), net_of(kind), net_of(kind, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    if entry(kind).layers:
        assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("kind", learned())
def test_every_parameter_is_in_one_layer_and_has_a_gradient(kind: str):
    net = net_of(kind).train()
    layers = net.layer_names()
    assert len(layers) == entry(kind).layers + 2  # what comes before the first, and what follows the last
    assert sorted(name for names in layers for name in names) == sorted(name for name, _ in net.named_parameters())
    assert all(layers)
    net.pool(net(patches_of(kind, clouds(4)))).square().sum().backward()
    unread = {id(parameter) for parameter in net.unread()}
    for name, parameter in net.named_parameters():
        assert (parameter.grad is None) == (id(parameter) in unread), name


@pytest.mark.parametrize("kind", learned())
def test_a_layer_depends_on_the_layers_before_it_only(kind: str):
    """The tokens after a layer do not change when a later layer's parameters do."""
    net, patches = net_of(kind), patches_of(kind, clouds())
    every = range(entry(kind).layers)
    with torch.no_grad():
        before = net.tokens_at(patches, every)
        parameters = dict(net.named_parameters())
        for name in net.layer_names()[entry(kind).layers]:  # of the last layer
            parameters[name].add_(torch.randn_like(parameters[name]))
        after = net.tokens_at(patches, every)
    same = [torch.equal(a.tokens, b.tokens) for a, b in zip(before, after, strict=True)]
    assert same == [True] * (entry(kind).layers - 1) + [False]


@pytest.mark.parametrize("kind", learned())
def test_the_last_depth_has_the_encoders_own_output_and_depths_ascend(kind: str):
    config, net, patches = entry(kind), net_of(kind), patches_of(kind, clouds())
    assert list(config.depths) == sorted(set(config.depths))
    assert config.depths[-1] == config.layers - 1
    with torch.no_grad():
        found = net.tokens_at(patches, config.depths)
        last = net.of_patches(patches, net(patches))
    assert [one.tokens.shape[2] for one in found] == list(config.depth_widths)
    assert all(one.tokens.shape[:2] == one.centres.shape[:2] for one in found)
    assert torch.allclose(found[-1].tokens, last.tokens, atol=1e-6)
    assert torch.equal(found[-1].centres, last.centres)


@pytest.mark.parametrize("kind", learned())
def test_points_can_be_predicted_from_it(kind: str):
    torch.manual_seed(0)
    net = Segmenter(build(entry(kind)), classes=2, parts=3)
    patches = patches_of(kind, clouds(4))
    logits = net(patches, torch.tensor([0, 1, 0, 1]), patches.points)
    assert logits.shape == (4, 64, 3)
    logits.square().sum().backward()
    read = {name for name, parameter in net.named_parameters() if parameter.grad is not None}
    assert read == {name for name, _ in net.named_parameters()}


@pytest.mark.parametrize("kind", learned())
def test_an_encoder_that_is_trained_on_has_the_saved_weights_and_every_way_of_pooling(kind: str):
    net, patches = net_of(kind), patches_of(kind, clouds())
    loaded = LoadedEncoder(net, scheme_of(kind), {})
    for pool in entry(kind).pools:
        own = for_training(loaded, 0.1, pool)
        assert own.config.pooled == pool
        assert all(parameter.requires_grad for parameter in own.parameters())
        kept = own.state_dict()
        assert all(torch.equal(kept[name], value) for name, value in net.state_dict().items())
        with torch.no_grad():
            assert own.eval().pool(own(patches)).shape == (3, own.features)


@every_kind
def test_layers_with_running_statistics_see_the_batch_and_nothing_else_changes(kind: str):
    net = net_of(kind)
    norms = [layer for layer in net.modules() if isinstance(layer, torch.nn.BatchNorm1d)]
    weights = {name: value.clone() for name, value in net.named_parameters()}
    for norm in norms:
        norm.train()
    net.see(patches_of(kind, clouds(4)))
    assert all(norm.num_batches_tracked == 1 for norm in norms)
    assert all(torch.equal(value, weights[name]) for name, value in net.named_parameters())


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not entry(kind).layers])
def test_what_a_kind_lacks_is_said(kind: str):
    net, patches = net_of(kind), patches_of(kind, clouds())
    for ask in (lambda: net.tokens_at(patches, (0,)), net.layer_names, lambda: net.features, lambda: net.width):
        with pytest.raises(Problem, match=f"an encoder of the kind '{kind}' has no"):
            ask()


# --- files and weights of before


def test_a_file_of_the_first_format_gives_the_features_that_it_gave():
    kept = load_file(DATA / "features_format_1.safetensors")
    for which in ("context", "target"):
        loaded = load_encoder(DATA / "encoder_format_1.safetensors", which).of_canonical()
        assert loaded.module.config == transformer.Config(
            width=12, depth=2, heads=2, tokenizer=Tokenizer(widths=(8, 8, 8))
        )
        assert torch.allclose(loaded.embed(kept["clouds"]), kept[which], atol=1e-5)
        assert loaded.metadata["provenance"] == {"verb": "pretrain"}
    loaded = load_encoder(DATA / "handcrafted_format_1.safetensors").of_canonical()
    assert loaded.module.config.kind == "handcrafted"  # its file names the Transformer that was not used
    assert torch.allclose(loaded.embed(kept["clouds"]), kept["handcrafted"], atol=1e-5)


def test_a_seed_gives_the_weights_that_it_gave():
    """Names, order of the draws and values: those of a file that was written before encoders had kinds."""
    kept = load_file(DATA / "encoder_format_1.safetensors")
    for seed, which in enumerate(("context", "target")):
        torch.manual_seed(seed)
        state = build(
            transformer.Config(width=12, depth=2, heads=2, tokenizer=Tokenizer(widths=(8, 8, 8)))
        ).state_dict()
        of_file = {name.removeprefix(f"{which}."): value for name, value in kept.items() if name.startswith(which)}
        assert sorted(state) == sorted(of_file)
        assert all(torch.allclose(value, of_file[name], atol=1e-6) for name, value in state.items())
