"""Clouds as people have them: sorted, in millimetres, in UTM; the features are those of the shape all the same."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from safetensors import safe_open
from safetensors.torch import save_file

from jepa3d import load_encoder, project
from jepa3d.datasets._shared import canonical
from jepa3d.encoders import build, transformer
from jepa3d.layout import Layout, place_of
from jepa3d.params import Level, Scheme, Tokenizer
from jepa3d.pretrained import LoadedEncoder, Preparation, save
from jepa3d.pretrained.preparation import STORED, drawn, in_unit_sphere, prepared, turned
from jepa3d.problem import Problem
from jepa3d.results import store
from jepa3d.stages.patchify import patchify
from jepa3d.stages.pretrain import pretrain
from jepa3d.tools import export

MODEL = transformer.Config(width=24, depth=1, heads=2, tokenizer=Tokenizer(widths=(8, 16, 24)))
SCHEME = Scheme(points=128, levels=(Level(num=16, size=16),))
MANY = 600  # points of a cloud
HEIGHT = 1


def encoder(path: Path, scheme: Scheme = SCHEME, preparation: Preparation | None = None) -> LoadedEncoder:
    torch.manual_seed(0)
    save(path / "e.safetensors", {"context": build(MODEL).eval()}, scheme, {"verb": "pretrain"}, preparation)
    return load_encoder(path / "e.safetensors")


@pytest.fixture(scope="module")
def shapes() -> np.ndarray[Any, Any]:
    """float64 [5, MANY, 3] in no order."""
    make = trimesh.creation
    meshes = [make.box((1, 2, 3)), make.icosphere(2), make.cone(0.3, 2), make.torus(1, 0.2), make.capsule(2, 0.3)]
    return np.stack([trimesh.sample.sample_surface(mesh, MANY, seed=1)[0] for mesh in meshes])


def by_height(clouds: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.stack([cloud[np.argsort(cloud[:, HEIGHT])] for cloud in clouds])


def by_part(clouds: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The eight octants one after the other."""
    octant = ((clouds > clouds.mean(1, keepdims=True)) * [1, 2, 4]).sum(-1)
    return np.take_along_axis(clouds, np.argsort(octant, 1, kind="stable")[:, :, None], 1)


def shuffled(clouds: np.ndarray[Any, Any], seed: int) -> np.ndarray[Any, Any]:
    return clouds[:, np.random.default_rng(seed).permutation(MANY)]


FORMS: dict[str, Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]] = {
    "unsorted": lambda clouds: clouds,
    "by height": by_height,
    "by part": by_part,
    "millimetres": lambda clouds: clouds * 1000,
    "UTM": lambda clouds: clouds + np.array([691_607.25, 213.5, 5_334_760.75]),
}


# ---- what order, unit and place do to features


@pytest.mark.parametrize("sample", ["first", "random", "fps"])
@pytest.mark.parametrize("order", ["by height", "by part"])
def test_a_sorted_cloud_is_as_near_as_another_draw_of_its_shape(
    tmp_path: Path, shapes: np.ndarray[Any, Any], sample: Any, order: str
):
    loaded = encoder(tmp_path, SCHEME.model_copy(update={"sample": sample}))
    wanted = loaded.embed(shapes)

    def away(clouds: np.ndarray[Any, Any]) -> float:
        return float((loaded.embed(clouds) - wanted).norm(dim=1).mean())

    draws = [away(shuffled(shapes, seed)) for seed in range(8)]
    assert away(FORMS[order](shapes)) < 1.25 * max(draws)
    between = torch.cdist(wanted, wanted)[~torch.eye(len(wanted), dtype=torch.bool)].mean()
    assert max(draws) < between / 2  # and the features do tell shapes apart
    if sample != "fps":  # the first points of a sorted cloud are another shape
        first = loaded.of_canonical().embed(prepared_all(FORMS[order](shapes)))
        assert float((first - wanted).norm(dim=1).mean()) > 2 * max(draws)


def prepared_all(clouds: np.ndarray[Any, Any]) -> torch.Tensor:
    return in_unit_sphere(torch.from_numpy(clouds))


@pytest.mark.parametrize("form", ["millimetres", "UTM"])
def test_unit_and_place_do_not_show(tmp_path: Path, shapes: np.ndarray[Any, Any], form: str):
    loaded = encoder(tmp_path)
    given = FORMS[form](shapes)
    for ours, wanted in zip(loaded.encode(given), loaded.encode(shapes), strict=True):
        assert torch.allclose(ours, wanted, atol=1e-4)
    assert torch.allclose(loaded.embed(list(given)), loaded.embed(shapes), atol=1e-4)
    assert torch.allclose(loaded.tokens(given)[1], loaded.tokens(shapes)[1], atol=1e-4)


def test_the_upward_axis_is_the_users(tmp_path: Path, shapes: np.ndarray[Any, Any]):
    loaded = encoder(tmp_path)
    for up in ("x", "z"):
        lying = np.empty_like(shapes)
        for axis, (old, sign) in enumerate({"x": ((1, -1), (0, 1), (2, 1)), "z": ((0, 1), (2, 1), (1, -1))}[up]):
            lying[..., old] = shapes[..., axis] * sign
        assert torch.allclose(loaded.embed(lying, up=up), loaded.embed(shapes), atol=1e-5)  # type: ignore[arg-type]
        assert not torch.allclose(loaded.embed(lying), loaded.embed(shapes), atol=1e-2)
        upright = turned(torch.from_numpy(lying), up)  # type: ignore[arg-type]
        assert torch.equal(upright, torch.from_numpy(shapes))


# ---- its pieces


def test_the_unit_sphere_is_that_of_convert(shapes: np.ndarray[Any, Any]):
    for clouds in (shapes, shapes * 1e-200, shapes * 1e200, FORMS["UTM"](shapes)):
        found = in_unit_sphere(torch.from_numpy(clouds))
        wanted = np.stack([canonical.unit_sphere(cloud / np.abs(cloud).max()) for cloud in clouds])
        assert np.allclose(found, wanted, atol=1e-6)
    assert in_unit_sphere(torch.ones(1, 4, 3).double()).tolist() == [[[0, 0, 0]] * 4]


def test_a_draw_takes_every_point_once_and_depends_on_their_number_alone():
    for count in (1, 2, 127, 4096):
        whole = drawn(torch.empty(1, count, 3), count)
        assert sorted(whole.tolist()) == list(range(count))
        assert torch.equal(drawn(torch.empty(2, count, 3), min(count, 50)), whole[:50])
        assert torch.equal(drawn(torch.empty(1, count, 3), count + 9), whole)
    assert drawn(torch.empty(1, 1000, 3), 10).tolist() != drawn(torch.empty(1, 1001, 3), 10).tolist()


def test_a_draw_has_no_pattern():
    """Of rows and columns of an organised scan, for widths that a lattice would meet, each gets its share."""
    for width in (16, 89, 610, 640, 1000):
        place = drawn(torch.empty(1, width * 64, 3), 1024)
        for share in (torch.bincount(place % width, minlength=width), torch.bincount(place // width, minlength=64)):
            expected = 1024 / len(share)
            chi2 = float(((share - expected) ** 2 / expected).sum())
            assert abs(chi2 - len(share)) < 6 * (2 * len(share)) ** 0.5


# ---- what is refused


@pytest.mark.parametrize(
    ("shape", "mend"),
    [
        ((2, 3, 500), "give points.mT"),
        ((3, 500), "give points.T"),
        ((2, 500, 6), "take the first three columns, points[..., :3]"),
        ((500, 6), "take the first three columns"),
        ((500, 3), "give points[None]"),
        ((2, 100, 3), "sample at least 128 points"),
        ((2, 3, 3), "sample at least 128 points"),
        ((500,), "a list of clouds"),
        ((1, 2, 500, 3), "a list of clouds"),
    ],
)
def test_each_shape_that_is_not_of_clouds_gets_its_own_advice(tmp_path: Path, shape: tuple[int, ...], mend: str):
    loaded = encoder(tmp_path)
    for method in (loaded.embed, loaded.tokens, loaded.encode):
        with pytest.raises(Problem) as caught:
            method(np.zeros(shape))
        assert str(shape) in caught.value.what
        assert mend in caught.value.mend
    if len(shape) == 2 and shape != (500, 3):
        with pytest.raises(Problem, match="cloud number 1 of the list") as caught:
            loaded.embed([np.zeros((500, 3)), np.zeros(shape)])
        assert mend in caught.value.mend


def test_without_preparation_a_cloud_of_another_size_or_place_is_refused(tmp_path: Path, shapes: np.ndarray[Any, Any]):
    loaded, good = encoder(tmp_path), prepared_all(shapes).numpy()
    assert torch.equal(loaded.embed(good, prepare=False), loaded.of_canonical().embed(good))
    for wrong in (good * 1000, good * 0.3, good + np.array([0, 0, 5])):
        for method in (loaded.embed, loaded.tokens, loaded.encode):
            with pytest.raises(Problem, match=r"shape number 1: its farthest point is .* from the origin") as caught:
                method(np.concatenate([good[:1], wrong[1:2]]), prepare=False)
        assert caught.value.why == "in training that was 1"
        assert "leave prepare=False away" in caught.value.mend
        assert loaded.embed(wrong).isfinite().all()


def test_where_the_training_had_sizes_of_its_own_others_are_refused(tmp_path: Path, shapes: np.ndarray[Any, Any]):
    loaded = encoder(tmp_path, preparation=Preparation(normalise="none", points=128, radius=(2.0, 3.0)))
    assert torch.equal(
        loaded.embed(shapes[:1]), loaded.of_canonical().embed(shapes[:1][:, drawn(torch.empty(1, MANY, 3), 128)])
    )
    with pytest.raises(Problem, match="number 0") as caught:
        loaded.embed(shapes[:1] * 100)
    assert caught.value.why == "in training that was 2 to 3"
    assert "were not normalised" in caught.value.mend


def test_a_cloud_without_a_size_is_refused_by_its_number(tmp_path: Path, shapes: np.ndarray[Any, Any]):
    shapes = shapes.copy()
    shapes[3] = shapes[3, 0]
    with pytest.raises(Problem, match="shape number 3: all its points are the same"):
        encoder(tmp_path).embed(shapes)


# ---- it travels in the file


def test_a_training_says_what_its_clouds_were_like():
    random = np.random.default_rng(0)
    raw = random.uniform(-2, 2, (5, 300, 3)).astype(np.float32)
    unit = in_unit_sphere(torch.from_numpy(raw)).numpy()
    some, fps = SCHEME, SCHEME.model_copy(update={"sample": "fps"})
    resampled = SCHEME.model_copy(update={"sample": "resample", "live": True})
    assert Preparation.learned(some, [(unit, None)]) == Preparation(points=128)
    assert Preparation.learned(some, [(unit[:, :200], "unit_sphere")]) == Preparation(points=128)
    assert Preparation.learned(resampled, [(raw, None)]) == Preparation(points=128)
    assert Preparation.learned(fps, [(unit, None), (unit[:, :200], "auto")]) == Preparation(points=300)
    assert Preparation.of(fps).points == STORED
    own = Preparation.learned(some, [(unit, None), (raw, "none")])
    radius = np.linalg.norm(raw, axis=2).max(1)
    assert (own.normalise, own.points, own.radius) == ("none", 128, (pytest.approx(1), pytest.approx(radius.max())))


@pytest.mark.parametrize("said", [None, "unit_sphere"])
def test_the_file_of_a_run_has_its_preparation(
    tiny: dict[str, Any], write: Any, layout: Layout, toys: Path, said: str | None
):
    tiny["runs"]["jepa"]["fit"]["steps"] = 1
    params = project.load(write(tiny))
    if said:
        import h5py

        with h5py.File(toys, "a") as file:
            file.attrs["config"] = json.dumps({"normalise": said})
        place = place_of(toys)
        assert place is not None
        layout.record(place).unlink()  # of the bytes before
    patchify(params, layout, "flat", "toys")
    pretrain(params, layout, "jepa", 0)
    own = load_encoder(layout.encoder("jepa", 0)).preparation
    assert own is not None
    assert own.points == 128
    if said:
        assert own == Preparation(points=128)
        return
    with store.open_h5(toys) as file:  # boxes as large as they are drawn
        radius = np.linalg.norm(file["points"][:][store.text(file["split"]) == "train"], axis=2).max(1)
    assert own.normalise == "none"
    assert own.radius == (pytest.approx(radius.min()), pytest.approx(radius.max()))


def test_older_files_were_made_for_the_unit_sphere_and_a_damaged_entry_is_a_problem(tmp_path: Path):
    wanted = encoder(tmp_path)
    path = tmp_path / "e.safetensors"

    def edit(**changes: Any) -> None:
        with safe_open(str(path), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = json.loads(file.metadata()["jepa3d"]) | changes
        save_file(tensors, path, metadata={"jepa3d": json.dumps(metadata)})

    edit(format="jepa3d.encoder/2", preparation="nothing of it")
    assert load_encoder(path).preparation == Preparation(points=128)
    for wrong in (None, {}, {"points": 5}, {"points": 128, "normalise": "box"}, {"points": 128, "up": "z"}):
        edit(format=wanted.metadata["format"], preparation=wrong)
        with pytest.raises(Problem, match="not an encoder of jepa3d"):
            load_encoder(path)


# ---- other programs


def agree(run: Callable[[np.ndarray[Any, Any]], Any], loaded: LoadedEncoder, shapes: np.ndarray[Any, Any]) -> None:
    for form in FORMS.values():
        for ours, theirs in zip(loaded.encode(form(shapes)), run(form(shapes)), strict=True):
            assert np.allclose(theirs, ours, atol=1e-4)
    for ours, theirs in zip(loaded.encode(shapes[:2, :300]), run(shapes[:2, :300]), strict=True):
        assert np.allclose(theirs, ours, atol=1e-4)  # any number of shapes, any number of points


def test_torchscript_prepares_clouds_as_python_does(tmp_path: Path, shapes: np.ndarray[Any, Any]):
    loaded = encoder(tmp_path)
    export.export(loaded, tmp_path / "e.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = torch.jit.load(str(tmp_path / "e.pt"))
    agree(lambda clouds: script(torch.from_numpy(clouds)), loaded, shapes)
    single = torch.from_numpy(shapes).float()  # float32 is taken as well
    assert torch.allclose(script(single)[0], loaded.embed(single), atol=1e-4)


def test_an_exported_file_may_be_for_another_upward_axis_and_says_what_it_takes(
    tmp_path: Path, shapes: np.ndarray[Any, Any]
):
    loaded, said = encoder(tmp_path), {"jepa3d.json": ""}
    export.export(loaded, tmp_path / "e.pt", "z")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = torch.jit.load(str(tmp_path / "e.pt"), _extra_files=said)
    assert torch.allclose(script(torch.from_numpy(shapes))[0], loaded.embed(shapes, up="z"), atol=1e-4)
    assert json.loads(said["jepa3d.json"])["input"] == {
        "points": "at least 128, in any order", "place and size": "any", "up": "z", "finite": "every coordinate"
    }  # fmt: skip


def test_where_fps_chooses_the_points_it_has_done_so_before(tmp_path: Path, shapes: np.ndarray[Any, Any]):
    loaded = encoder(tmp_path, SCHEME.model_copy(update={"sample": "fps"}))
    export.export(loaded, tmp_path / "e.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = torch.jit.load(str(tmp_path / "e.pt"))
    few = shapes[:, :128] * 1000
    assert torch.allclose(script(torch.from_numpy(few))[0], loaded.embed(few), atol=1e-4)
    assert export.takes(loaded, "y")["points"] == "128, by FPS"


@pytest.mark.slow
def test_onnx_prepares_clouds_as_python_does(tmp_path: Path, shapes: np.ndarray[Any, Any]):
    onnxruntime = pytest.importorskip("onnxruntime")
    import jaxtyping

    jaxtyping.config.update("jaxtyping_disable", True)  # its checks would fix the sizes of the graph
    try:
        loaded = encoder(tmp_path)
        export.export(loaded, tmp_path / "e.onnx")
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
    session = onnxruntime.InferenceSession(str(tmp_path / "e.onnx"), providers=["CPUExecutionProvider"])
    agree(lambda clouds: session.run(None, {"points": clouds}), loaded, shapes)
    with pytest.raises(Exception, match="expected: \\(tensor\\(double\\)\\)"):  # float32 would lose what is far away
        session.run(None, {"points": shapes.astype(np.float32)})


def test_preparing_is_what_it_says(shapes: np.ndarray[Any, Any]):
    """By hand: two points of three, on a line."""
    line = torch.tensor([[[10.0, 0, 0], [30, 0, 0], [50, 0, 0]]]).double()
    found = prepared(line, Preparation(points=2), "y")
    chosen = drawn(line, 2)
    assert torch.equal(found[0], torch.tensor([[-1.0, 0, 0], [0, 0, 0], [1, 0, 0]])[chosen])
    assert found.dtype == torch.float32


# ---- damage


def test_weights_that_changed_since_they_were_written_are_refused(tmp_path: Path):
    encoder(tmp_path)
    path = tmp_path / "e.safetensors"
    data = bytearray(path.read_bytes())
    data[-9] ^= 4
    path.write_bytes(bytes(data))
    with pytest.raises(Problem, match="damaged: its weights have changed since they were written"):
        load_encoder(path)


def test_what_a_file_claims_takes_no_memory_and_weights_are_finite(tmp_path: Path):
    encoder(tmp_path)
    path = tmp_path / "e.safetensors"
    with safe_open(str(path), framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = json.loads(file.metadata()["jepa3d"])
    del metadata["weights"]  # as a file of before
    for size in ({"depth": 10**9}, {"width": 2 * 10**6}):
        about = metadata | {"model": metadata["model"] | size}
        save_file(tensors, path, metadata={"jepa3d": json.dumps(about)})
        with pytest.raises(Problem, match="do not fit the model"):
            load_encoder(path)
    tensors[next(iter(tensors))][0] = torch.nan
    save_file(tensors, path, metadata={"jepa3d": json.dumps(metadata)})
    with pytest.raises(Problem, match="weights that are NaN or infinite"):
        load_encoder(path)
