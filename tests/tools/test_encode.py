"""`jepa3d encode`: one's own files -> features, the same as those of the pipeline; damage is named."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh

from jepa3d import cli, load_encoder, project
from jepa3d.datasets import folder, procedural
from jepa3d.encoders import build, transformer
from jepa3d.layout import Layout
from jepa3d.params import Level, Scheme, Tokenizer
from jepa3d.pretrained import Preparation, save
from jepa3d.problem import Problem
from jepa3d.results import store
from jepa3d.stages.convert import convert
from jepa3d.stages.embed import embed
from jepa3d.stages.patchify import patchify
from jepa3d.stages.pretrain import pretrain
from jepa3d.tools.encode import Encoded, encode

MODEL = transformer.Config(width=24, depth=1, heads=2, tokenizer=Tokenizer(widths=(8, 8, 8)))
SCHEME = Scheme(points=64, levels=(Level(num=10, size=8),))


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JEPA3D_THREADS", "1")


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    nets: dict[str, Any] = {}
    for seed, which in enumerate(("context", "target")):
        torch.manual_seed(seed)
        nets[which] = build(MODEL).eval()
    save(tmp_path / "encoder.safetensors", nets, SCHEME, {"verb": "pretrain"})
    return tmp_path / "encoder.safetensors"


def cloud(seed: int = 0, points: int = 64) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(size=(points, 3)).astype(np.float32)


def filled(root: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(root / name, cloud(number))
    return root


def read(path: Path) -> dict[str, Any]:
    with np.load(path) as file:
        found = {name: file[name] for name in file.files}
    return found | {"about": json.loads(str(found["about"]))}


# ---- what comes out


@pytest.mark.parametrize("scheme", [{}, {"points": 100, "sample": "first"}, {"points": 100, "sample": "fps"}], ids=str)
def test_the_features_are_those_of_the_pipeline_for_the_same_files(
    tiny: dict[str, Any], write: Callable[[Any], Path], layout: Layout, tmp_path: Path, scheme: dict[str, Any]
):
    shapes = procedural.read(tmp_path, procedural.Config(train=40, test=20, points=150, seed=1))
    for number, shape in enumerate(shapes):
        path = tmp_path / "mine" / ("cup", "dog")[number % 2] / f"{number:02d}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number % 3 == 0:
            np.save(path.with_suffix(".npy"), shape.points)
        elif number % 3 == 1:
            trimesh.PointCloud(shape.points).export(path.with_suffix(".ply"))
        else:
            trimesh.convex.convex_hull(shape.points).export(path.with_suffix(".off"))
    tiny["datasets"]["mine"] = {"kind": "folder", "root": str(tmp_path / "mine"), "points": 128, "up": "z", "seed": 5}
    tiny["runs"]["jepa"] |= {"data": "mine", "monitor": {"shapes": 8}}
    tiny["runs"]["jepa"]["fit"]["steps"] = 2
    tiny["patches"]["flat"] |= scheme
    params = project.load(write(tiny))
    store.write_json(layout.source("mine"), {"how": "in place"})
    convert(params, layout, "mine")
    patchify(params, layout, "flat", "mine")
    pretrain(params, layout, "jepa", 0)
    embed(params, layout, "jepa", "mine", 0)

    for which in ("context", "target"):
        encoder, out = layout.encoder("jepa", 0), tmp_path / f"{which}.npz"
        done = encode([tmp_path / "mine"], encoder, out, which, points=128, up="z", seed=5)  # type: ignore[arg-type]
        found = read(out)
        assert done == Encoded(60, ())
        with store.open_h5(layout.features("jepa", 0, "mine")) as file:
            assert found["name"].tolist() == [f"{tmp_path}/mine/{id}" for id in store.text(file["id"])]
            assert np.allclose(found["features"], file[which][:], atol=1e-5)


def test_files_folders_and_tables_come_in_the_order_in_which_they_are_given(encoder: Path, tmp_path: Path):
    filled(tmp_path, "z.npy", "some/b.npy", "some/a/a.npy", "a.npy")
    np.savez(tmp_path / "many.npz", points=np.stack([cloud(7), cloud(8)]))
    given = [tmp_path / name for name in ("z.npy", "many.npz", "some", "a.npy")]
    encode(given, encoder, tmp_path / "out.npz")
    found = read(tmp_path / "out.npz")
    names = ["z.npy", "many.npz#000000", "many.npz#000001", "some/a/a.npy", "some/b.npy", "a.npy"]
    assert found["name"].tolist() == [f"{tmp_path}/{name}" for name in names]
    clouds = [cloud(0), cloud(7), cloud(8), cloud(2), cloud(1), cloud(3)]
    placed = [folder.placed(points, folder.Config(root=".")) for points in clouds]
    assert np.allclose(found["features"], load_encoder(encoder).of_canonical().embed(placed), atol=1e-6)
    assert found["features"].dtype == np.float32
    assert found["about"]["verb"] == "encode"
    assert found["about"]["settings"]["files"] == [str(path) for path in given]
    assert found["about"]["settings"]["reading"]["normalise"] == "unit_sphere"
    assert found["about"]["inputs"] == {str(encoder): store.sha256(encoder)}
    assert found["about"]["encoder"]["provenance"] == {"verb": "pretrain"}


def test_tokens_are_those_of_the_encoder(encoder: Path, tmp_path: Path):
    filled(tmp_path / "in", "a.npy", "b.npy")
    encode([tmp_path / "in"], encoder, tmp_path / "plain.npz", "target")
    encode([tmp_path / "in"], encoder, tmp_path / "out.npz", "target", tokens=True)
    found = read(tmp_path / "out.npz")
    loaded = load_encoder(encoder, "target").of_canonical()
    both = np.stack([folder.placed(cloud(number), folder.Config(root=".")) for number in (0, 1)])
    centres, tokens = loaded.tokens(both)
    assert np.allclose(found["centres"], centres, atol=1e-6)
    assert np.allclose(found["tokens"], tokens, atol=1e-6)
    assert np.allclose(found["features"], loaded.embed(both), atol=1e-6)
    assert "tokens" not in read(tmp_path / "plain.npz")


def test_a_parquet_file_has_the_same(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("jepa3d.tools.encode.BLOCK", 2)
    filled(tmp_path / "in", "a.npy", "b.npy", "c.npy", "d.npy", "e.npy")
    for name in ("out.npz", "out.parquet"):
        encode([tmp_path / "in"], encoder, tmp_path / name, tokens=True)
    found, table = read(tmp_path / "out.npz"), parquet.read_table(tmp_path / "out.parquet")
    assert table["name"].to_pylist() == found["name"].tolist()
    for name in ("features", "centres", "tokens"):
        shape = json.loads(table.schema.field(name).metadata[b"shape"])
        flat = np.array(table[name].to_pylist(), np.float32)
        assert np.array_equal(flat.reshape(-1, *shape), found[name])
    assert json.loads(table.schema.metadata[b"jepa3d"]) == found["about"]


def test_blocks_and_processes_do_not_show(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    filled(tmp_path / "in", *(f"{number}.npy" for number in range(40)))
    encode([tmp_path / "in"], encoder, tmp_path / "once.npz")
    monkeypatch.setattr("jepa3d.tools.encode.BLOCK", 7)
    monkeypatch.setenv("JEPA3D_THREADS", "2")
    encode([tmp_path / "in"], encoder, tmp_path / "blocks.npz")
    once, blocks = read(tmp_path / "once.npz"), read(tmp_path / "blocks.npz")
    assert np.array_equal(once["name"], blocks["name"])
    assert np.allclose(once["features"], blocks["features"], atol=1e-6)


def test_the_same_files_give_the_same_bytes(encoder: Path, tmp_path: Path):
    filled(tmp_path / "in", "a.npy")
    made = []
    for _ in range(2):
        encode([tmp_path / "in"], encoder, tmp_path / "out.npz")
        made.append((tmp_path / "out.npz").read_bytes())
        os.utime(tmp_path / "in" / "a.npy", (0, 0))
    assert made[0] == made[1]


def test_a_mesh_and_a_larger_cloud_are_sampled_by_a_seed(encoder: Path, tmp_path: Path):
    (tmp_path / "in").mkdir()
    trimesh.creation.box((1, 2, 3)).export(tmp_path / "in" / "box.obj")
    np.save(tmp_path / "in" / "large.npy", cloud(0, 500))
    found = []
    for seed in (0, 0, 1):
        encode([tmp_path / "in"], encoder, tmp_path / "out.npz", seed=seed)
        found.append(read(tmp_path / "out.npz")["features"])
    assert np.array_equal(found[0], found[1])
    assert not np.isclose(found[0], found[2]).all(1).any()


def test_every_format_that_a_folder_may_have_is_read(encoder: Path, tmp_path: Path):
    folder.forge(tmp_path / "in")
    done = encode([tmp_path / "in"], encoder, tmp_path / "out.npz")
    assert done == Encoded(36, ())
    endings = {Path(name).suffix for name in read(tmp_path / "out.npz")["name"]}
    assert endings == {".ply", ".obj", ".off", ".stl", ".glb", ".npy", ".npz", ".xyz"}


def test_the_encoders_own_preparation_is_the_default_and_clouds_that_do_not_fit_it_are_set_aside(
    encoder: Path, tmp_path: Path
):
    loaded = load_encoder(encoder)
    own = Preparation(normalise="none", points=64, radius=(2.0, 5.0))
    save(tmp_path / "raw.safetensors", {"context": loaded.module}, SCHEME, {}, own)
    filled(tmp_path / "in", "a.npy")
    np.save(tmp_path / "in" / "b.npy", cloud(1) * 1000)
    done = encode([tmp_path / "in"], tmp_path / "raw.safetensors", tmp_path / "out.npz")
    found = read(tmp_path / "out.npz")
    assert found["about"]["settings"]["reading"]["normalise"] == "none"
    assert np.allclose(found["features"], loaded.of_canonical().embed(cloud(0)[None]), atol=1e-6)
    (aside,) = done.aside
    assert aside.id.endswith("b.npy")
    assert "from the origin; in training that was 2 to 5" in aside.why
    with pytest.raises(Problem, match="none of the 2 shapes can be encoded"):  # radius 3 or more, and it was 1
        encode([tmp_path / "in"], encoder, tmp_path / "out.npz", normalise="none")


# ---- what cannot be encoded


def damaged(root: Path) -> Path:
    filled(root, "good.npy", "short.npy", "better.npy")
    (root / "short.npy").write_bytes((root / "short.npy").read_bytes()[:200])
    (root / "empty.ply").write_bytes(b"")
    np.save(root / "few.npy", cloud(0, 20))
    broken = cloud()
    broken[3, 1] = np.nan
    np.save(root / "nan.npy", broken)
    return root


def test_damaged_shapes_are_set_aside_and_say_why(encoder: Path, tmp_path: Path):
    done = encode([damaged(tmp_path / "in")], encoder, tmp_path / "out.npz")
    found = read(tmp_path / "out.npz")
    assert [Path(name).name for name in found["name"]] == ["better.npy", "good.npy"]
    assert [Path(entry.id).name for entry in done.aside] == ["empty.ply", "few.npy", "nan.npy", "short.npy"]
    assert found["about"]["set_aside"] == [entry.record() for entry in done.aside]
    assert "has 20 points, 64 are wanted" in done.aside[1].why
    assert "NaN" in done.aside[2].why


def test_strictly_the_first_damaged_shape_ends_it_and_nothing_is_written(encoder: Path, tmp_path: Path):
    damaged(tmp_path / "in")
    (tmp_path / "out.npz").write_bytes(b"finished before")
    with pytest.raises(Problem, match=r"in/empty\.ply: cannot be encoded"):
        encode([tmp_path / "in"], encoder, tmp_path / "out.npz", strict=True)
    assert (tmp_path / "out.npz").read_bytes() == b"finished before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["encoder.safetensors", "in", "out.npz"]


def test_a_table_that_breaks_off_gives_what_can_be_read(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    np.savez(tmp_path / "many.npz", points=np.stack([cloud(seed) for seed in range(3)]))
    rows = folder.tables.clouds

    def breaking(path: Path) -> Any:
        for number, row in enumerate(rows(path)):
            if number == 2:
                raise Problem(f"{path}: cut short")
            yield row

    monkeypatch.setattr(folder.tables, "clouds", breaking)
    done = encode([tmp_path / "many.npz"], encoder, tmp_path / "out.npz")
    assert done.shapes == 2
    assert [(Path(entry.id).name, entry.why) for entry in done.aside] == [
        ("many.npz#000002", f"{tmp_path}/many.npz: cut short".removeprefix(f"{tmp_path}/many.npz: "))
    ]


@pytest.mark.parametrize(
    ("given", "out", "settings", "what"),
    [
        (["nowhere.npy"], "out.npz", {}, "nowhere.npy: no such file"),
        (["photo.jpg"], "out.npz", {}, "photo.jpg: no mesh or cloud by its ending"),
        (["bare"], "out.npz", {}, "bare: no usable file in it"),
        (["in", "in"], "out.npz", {}, "in: is given twice"),
        (["in"], "out.csv", {}, "out.csv: no format"),
        (["in"], "bare.npz", {}, "bare.npz: is a folder"),
        (["in"], "photo.jpg/out.npz", {}, "out.npz: cannot be written"),
        (["in"], "out.npz", {"points": 10}, "--points 10: this encoder takes 64 points"),
        (["in"], "out.npz", {"points": 65}, "none of the 1 shapes can be encoded"),
    ],
)
def test_a_mistake_is_a_problem_and_nothing_is_written(
    encoder: Path, tmp_path: Path, given: list[str], out: str, settings: dict[str, Any], what: str
):
    filled(tmp_path / "in", "a.npy")
    for name in ("bare", "bare.npz"):
        (tmp_path / name).mkdir()
    (tmp_path / "photo.jpg").write_bytes(b"x")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(Problem) as caught:
        encode([tmp_path / name for name in given], encoder, tmp_path / out, **settings)
    assert what in caught.value.what
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (lambda whole: whole[: len(whole) // 2], "cannot be read"),
        (lambda whole: b"PK\x03\x04 an archive", "cannot be read"),
        (lambda whole: whole.replace(b"encoder/3", b"encoder/9"), "an encoder of another version"),
        (lambda whole: whole.replace(b'\\"width\\": 24', b'\\"width\\": 48'), "do not fit the model"),
    ],
    ids=["truncated", "not ours", "another format version", "another size"],
)
def test_a_wrong_checkpoint_is_named_before_anything_is_read(
    encoder: Path, tmp_path: Path, content: Callable[[bytes], bytes], what: str
):
    whole = encoder.read_bytes()
    encoder.write_bytes(content(whole))
    assert encoder.read_bytes() != whole
    with pytest.raises(Problem) as caught:
        encode([tmp_path / "nowhere.npy"], encoder, tmp_path / "out.npz")
    assert str(encoder) in caught.value.what
    assert what in caught.value.what


def test_without_pyarrow_the_extra_is_named(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(Problem) as caught:
        encode([tmp_path], encoder, tmp_path / "out.parquet")
    assert "jepa3d[parquet]" in caught.value.mend


# ---- the command


def test_the_exit_code_says_whether_all_were_encoded(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    filled(tmp_path / "good", "a.npy")
    damaged(tmp_path / "bad")
    out = tmp_path / "out.npz"

    def said(folder: str, *options: str) -> tuple[int, str, str]:
        arguments = ["encode", str(tmp_path / folder), "--encoder", str(encoder), "-o", str(out), *options]
        monkeypatch.setattr(sys, "argv", ["jepa3d", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), *capsys.readouterr()

    assert said("good") == (0, f"{out}: 1 shapes\n", "")
    code, printed, complaint = said("bad")
    assert (code, printed) == (1, f"{out}: 2 shapes\n")
    assert [line.partition(".npy")[0].rpartition("/")[2] for line in complaint.splitlines()[1:]] == [
        "few",
        "nan",
        "short",
    ]
    code, printed, complaint = said("bad", "--strict")
    assert (code, printed) == (2, "")
    assert complaint.startswith(f"{tmp_path}/bad/empty.ply: cannot be encoded\n  is empty\n")
