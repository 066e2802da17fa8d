"""An exported encoder gives the features of the original, at any batch size, ties and all."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jepa3d import encoders, load_encoder, plugins
from jepa3d.encoders import build, handcrafted, hierarchical, transformer
from jepa3d.nets.patches import patchify
from jepa3d.ops.geometry import farthest_point_sample, gather, knn
from jepa3d.params import Level, Model, Scheme, Tokenizer
from jepa3d.pretrained import LoadedEncoder, save
from jepa3d.problem import Problem
from jepa3d.tools import export

MODEL = transformer.Config(width=24, depth=1, heads=2, tokenizer=Tokenizer(widths=(8, 8, 8)))
SCHEME = Scheme(points=27, levels=(Level(num=5, size=6),))
GRID = torch.cartesian_prod(*[torch.arange(3.0)] * 3)[None]  # 27 points, hardly two distances of them differ


PYRAMID = hierarchical.Config(
    widths=(8, 12), blocks=(1, 1), heads=2, radius=(0.5, 5.0), tokenizer=Tokenizer(widths=(8, 8, 8))
)
TWO_LEVELS = Scheme(points=27, levels=(Level(num=9, size=6), Level(num=4, size=3)))


def loaded(path: Path, model: Model = MODEL, scheme: Scheme = SCHEME) -> LoadedEncoder:
    torch.manual_seed(0)
    net = build(model)
    net.train().see(patchify(torch.randn(50, 27, 3), *scheme.levels))  # statistics of BatchNorms that have seen data
    save(path / "e.safetensors", {"context": net.eval()}, scheme, {"verb": "pretrain"})
    return load_encoder(path / "e.safetensors")


def clouds(count: int) -> torch.Tensor:
    """Random clouds, the last one a grid."""
    random = torch.randn(count, 27, 3, generator=torch.Generator().manual_seed(count))
    return torch.cat([random[1:], GRID])


def script(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.load(str(path))


# ---- patches inside the graph


@settings(deadline=None)  # the first call compiles
@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_patches_in_a_graph_have_the_indices_of_the_kernels_also_where_distances_tie(seed: int, levels: int):
    """Coordinates on few levels: many points coincide, and many distances are equal."""
    points = torch.from_numpy(np.random.default_rng(seed).integers(0, levels, (2, 20, 3)).astype(np.float32))
    centre = export.farthest(points, 7)
    assert torch.equal(centre, farthest_point_sample(points, 7))
    assert torch.equal(export.rows(points, centre), gather(points, centre))
    assert torch.equal(
        export.nearest_by_sort(points, gather(points, centre), 6), knn(points, gather(points, centre), 6)
    )


def test_one_patch_is_about_the_first_point():
    assert export.farthest(clouds(2), 1).tolist() == [[0], [0]]


# ---- TorchScript


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"position": "sinusoidal", "position_at": "every_block", "pool": "mean"},
        {"tokenizer": Tokenizer(kind="single", widths=(8, 16)), "drop_path": 0.1},
        {"tokenizer": Tokenizer(widths=(8, 8, 8), split=False)},
        {"cls": True, "pool": "cls_max", "qkv_bias": False, "dropout": 0.1},
    ],
    ids=str,
)
def test_torchscript_gives_the_same_at_every_batch_size(tmp_path: Path, changes: dict[str, Any]):
    original = loaded(tmp_path, MODEL.model_copy(update=changes))
    assert export.export(original, tmp_path / "model.pt") < 1e-5
    run = script(tmp_path / "model.pt")
    for count in (1, 2, 3, 9):
        features, centres, tokens = run(clouds(count))
        assert torch.allclose(features, original.embed(clouds(count)), atol=1e-5)
        expected = original.tokens(clouds(count))
        assert torch.allclose(centres, expected[0], atol=1e-6)
        assert torch.allclose(tokens, expected[1], atol=1e-5)


def test_a_pyramid_is_made_inside_the_graph_level_by_level(tmp_path: Path):
    original = loaded(tmp_path, PYRAMID, TWO_LEVELS)
    assert export.export(original, tmp_path / "model.pt") < 1e-5
    run = script(tmp_path / "model.pt")
    for count in (1, 3):
        features, centres, tokens = run(clouds(count))
        assert torch.allclose(features, original.embed(clouds(count)), atol=1e-5)
        assert torch.allclose(centres, original.tokens(clouds(count))[0], atol=1e-6)
        assert tokens.shape == (count, 4, 12)


def test_every_kind_that_learns_is_exported(tmp_path: Path):
    learned = [kind for kind in plugins.known(encoders) if plugins.find(encoders, kind).Config().layers]
    assert sorted(learned) == sorted(model.kind for model in (MODEL, PYRAMID))  # a new kind: try it above, too


def test_the_file_says_what_it_is(tmp_path: Path):
    export.export(loaded(tmp_path), tmp_path / "model.pt")
    said = {"jepa3d.json": ""}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.load(str(tmp_path / "model.pt"), _extra_files=said)
    about = json.loads(said["jepa3d.json"])
    assert about["scheme"]["points"] == 27
    assert about["provenance"] == {"verb": "pretrain"}


def test_a_file_that_differs_from_the_encoder_is_not_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        export, "nearest_by_sort", lambda points, queries, k: export.nearest_by_topk(points, queries, k) * 0
    )
    (tmp_path / "model.pt").write_bytes(b"finished before")
    original = loaded(tmp_path)
    with pytest.raises(Problem, match="the exported features differ") as caught:
        export.export(original, tmp_path / "model.pt")
    assert str(tmp_path / "model.pt") in caught.value.what
    assert (tmp_path / "model.pt").read_bytes() == b"finished before"
    assert len(list(tmp_path.iterdir())) == 2


# ---- ONNX


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Without the tests' checks of shapes in signatures: a comparison with the size of a batch fixes it for ever."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.slow
def test_onnx_of_a_pyramid_gives_the_same(tmp_path: Path, unchecked: None):
    onnxruntime = pytest.importorskip("onnxruntime")
    original = loaded(tmp_path, PYRAMID, TWO_LEVELS)
    assert export.export(original, tmp_path / "model.onnx") < 1e-4
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    for count in (1, 3):
        features, centres, _ = session.run(None, {"points": clouds(count).double().numpy()})
        assert np.allclose(features, original.embed(clouds(count)), atol=1e-4)
        assert np.allclose(centres, original.tokens(clouds(count))[0], atol=1e-6)


@pytest.mark.slow
def test_onnx_gives_the_same_at_every_batch_size(tmp_path: Path, unchecked: None):
    onnxruntime = pytest.importorskip("onnxruntime")
    original = loaded(tmp_path)
    assert export.export(original, tmp_path / "model.onnx") < 1e-4
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    assert [(each.name, each.shape[1:]) for each in session.get_inputs()] == [("points", ["points", 3])]
    assert [(each.name, each.shape[1:]) for each in session.get_outputs()] == [
        ("features", [48]), ("centres", [5, 3]), ("tokens", [5, 24])
    ]  # fmt: skip
    for count in (1, 2, 3, 9):
        features, centres, tokens = session.run(None, {"points": clouds(count).double().numpy()})
        assert np.allclose(features, original.embed(clouds(count)), atol=1e-4)
        expected = original.tokens(clouds(count))
        assert np.allclose(centres, expected[0], atol=1e-6)
        assert np.allclose(tokens, expected[1], atol=1e-4)
    about = json.loads(session.get_modelmeta().custom_metadata_map["jepa3d"])
    assert about["model"]["width"] == 24
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "e.safetensors",
        "model.onnx",
    ]  # one file, weights within


# ---- what is refused


def test_without_the_extra_it_is_named_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxscript" else 1)
    with pytest.raises(Problem, match=r"model\.onnx: \.onnx needs onnxscript") as caught:
        export.export(loaded(tmp_path), tmp_path / "model.onnx")
    assert "jepa3d[onnx]" in caught.value.mend


def test_other_endings_and_features_without_weights_are_refused(tmp_path: Path):
    with pytest.raises(Problem, match=r"model\.tflite: no format"):
        export.export(loaded(tmp_path), tmp_path / "model.tflite")
    plain = LoadedEncoder(build(handcrafted.Config()), SCHEME, {"kind": "handcrafted"})
    for name in ("model.pt", "model.onnx"):
        with pytest.raises(Problem, match="'handcrafted' is not exported"):
            export.export(plain, tmp_path / name)


def test_the_command_writes_the_file_and_says_how_close_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    from jepa3d import cli

    loaded(tmp_path)
    arguments = ["--encoder", str(tmp_path / "e.safetensors"), "-o", str(tmp_path / "model.pt")]
    monkeypatch.setattr("sys.argv", ["jepa3d", "--threads", "1", "export", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr()
    assert not ended.value.code, said.err
    assert said.out.startswith(f"{tmp_path}/model.pt: its features differ from the encoder's by at most ")
    assert (tmp_path / "model.pt").exists()


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".pt", ".onnx"])
def test_the_same_encoder_gives_the_same_file_and_nothing_of_this_machine_is_in_it(
    tmp_path: Path, unchecked: None, ending: str
):
    if ending == ".onnx":
        pytest.importorskip("onnxscript")
    encoder = loaded(tmp_path)
    files = [(tmp_path / f"{name}{ending}") for name in ("one", "two")]
    for file in files:
        export.export(encoder, file)
    one, two = (file.read_bytes() for file in files)
    if (
        ending == ".onnx"
    ):  # TorchScript numbers the modules of a process; tests/test_same_bytes.py compares two processes
        assert one == two
    assert str(Path(export.__file__).parent).encode() not in one
    assert b" at 0x" not in one
