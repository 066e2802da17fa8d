"""doctor: what it says of whole, partial, absent and damaged data, and of the machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from jepa3d import datasets, plugins, project
from jepa3d.layout import Layout
from jepa3d.params import Params
from jepa3d.stages.convert import convert
from jepa3d.stages.download import download
from jepa3d.tools import doctor

PARAMS = """
study: s
studies: {{s: {{runs: [none], evals: [{names}], seeds: [0]}}}}
datasets:
  unused: {{kind: shapenet55}}
{entries}
patches: {{flat: {{}}}}
models: {{small: {{}}}}
runs: {{none: {{data: [{data}], patches: flat, model: small, objective: {{kind: random_init}}, fit: {{steps: 0}}}}}}
evals:
{evals}
"""
PAPER = {
    "shapenet55": "kind: shapenet55",
    "modelnet40": "kind: modelnet40",
    "modelnet10": "kind: modelnet40, categories: 10",
    "scan_objbg": "kind: scanobjectnn, variant: obj_bg",
    "scan_objonly": "kind: scanobjectnn, variant: obj_only",
    "scan_pb_t50_rs": "kind: scanobjectnn, variant: pb_t50_rs",
    "shapenetpart": "kind: shapenetpart",
    "fewshot": "kind: fewshot, fold: 0",
}


@pytest.fixture(autouse=True)
def _wide_and_single(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JEPA3D_THREADS", "1")
    monkeypatch.delenv("JEPA3D_OFFLINE", raising=False)
    monkeypatch.chdir(tmp_path)


def params(tmp_path: Path, **datasets: str) -> Params:
    """A study that reads all of the data sets."""
    evals = "\n".join(f"  e_{name}: {{dataset: {name}, task: {{kind: linear_probe}}}}" for name in datasets)
    entries = "\n".join(f"  {name}: {{{entry}}}" for name, entry in datasets.items())
    names = ", ".join(f"e_{name}" for name in datasets)
    (tmp_path / "params.yaml").write_text(
        PARAMS.format(data=", ".join(datasets), names=names, entries=entries, evals=evals)
    )
    return project.load(tmp_path / "params.yaml")


def page(tmp_path: Path, capsys: pytest.CaptureFixture[str], **datasets: str) -> tuple[int, str]:
    code = doctor.doctor(params(tmp_path, **datasets), Layout(tmp_path / "results"))
    return code, capsys.readouterr().out


def forged(tmp_path: Path, kind: str) -> Path:
    plugins.find(datasets, kind).forge(tmp_path / kind)
    return tmp_path / kind


def test_every_data_set_of_the_paper_passes_on_forged_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    entries = {}
    for name, entry in PAPER.items():
        kind = entry.split(",")[0].removeprefix("kind: ")
        if not (tmp_path / kind).exists():
            forged(tmp_path, kind)
        entries[name] = f"{entry}, root: '{tmp_path / kind}'"
    code, text = page(tmp_path, capsys, **entries)
    assert code == 0
    assert "BAD" not in text
    assert "the study 's' can run" in text
    for name in PAPER:
        assert f" {name}\n" in text
    assert "unused" not in text
    layout = Layout(tmp_path / "results")
    for name in ("modelnet40", "scan_objbg", "shapenetpart"):
        download(params(tmp_path, **entries), layout, name)
        convert(params(tmp_path, **entries), layout, name)
    assert "8 shapes, 0 set aside" in page(tmp_path, capsys, **entries)[1]


def test_data_that_are_not_the_official_ones_are_pointed_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    code, text = page(tmp_path, capsys, mn=f"kind: modelnet40, root: '{forged(tmp_path, 'modelnet40')}'")
    assert code == 0
    assert "look mn" in text
    assert "train 4 of 9,840, test 4 of 2,468; not the official counts" in text
    assert "2 not as published: ply_data_test0.h5, ply_data_train0.h5" in text


def test_the_leak_of_the_part_lists_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    _, text = page(tmp_path, capsys, part=f"kind: shapenetpart, root: '{forged(tmp_path, 'shapenetpart')}'")
    assert "train & test: 2" in text
    assert "2 of 4 test shapes are also in train or val" in text


def test_absent_data_say_how_to_get_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    code, text = page(tmp_path, capsys, sn="kind: shapenet55", mn="kind: modelnet40")
    assert code == 1
    assert "cannot run: sn, mn" in text
    assert "https://github.com/Julie-tang00/Point-BERT" in text
    assert "'accept_terms: true' under datasets.mn, and: jepa3d download mn" in text


def test_data_that_will_be_fetched_do_not_stop_the_study(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    assert page(tmp_path, capsys, mn="kind: modelnet40, accept_terms: true")[0] == 0
    monkeypatch.setenv("JEPA3D_OFFLINE", "1")
    assert page(tmp_path, capsys, mn="kind: modelnet40, accept_terms: true")[0] == 1


def test_data_put_by_hand_into_results_are_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    plugins.find(datasets, "modelnet40").forge(tmp_path / "results" / "raw" / "mn")
    assert page(tmp_path, capsys, mn="kind: modelnet40")[0] == 0
    layout = Layout(tmp_path / "results")
    download(params(tmp_path, mn="kind: modelnet40"), layout, "mn")
    assert "put there by hand" in layout.source("mn").read_text()


@pytest.mark.parametrize("damage", ["absent root", "truncated file", "no layout"])
def test_damaged_data_stop_the_study_with_the_files_name(
    damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    raw = forged(tmp_path, "modelnet40")
    path = next(raw.rglob("ply_data_test0.h5"))
    root, named = {
        "absent root": (tmp_path / "nowhere", "nowhere"),
        "truncated file": (raw, "ply_data_test0.h5"),
        "no layout": (tmp_path / "empty", "ply_data_train*.h5"),
    }[damage]
    path.write_bytes(path.read_bytes()[:2000])
    (tmp_path / "empty").mkdir()
    code, text = page(tmp_path, capsys, mn=f"kind: modelnet40, root: '{root}'")
    assert code == 1
    assert named in text
    assert "Traceback" not in text


def test_nan_in_a_sample_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    raw = forged(tmp_path, "modelnet40")
    with h5py.File(next(raw.rglob("ply_data_test0.h5")), "a") as file:
        file["data"][1, 5, 0] = np.nan
    code, text = page(tmp_path, capsys, mn=f"kind: modelnet40, root: '{raw}'")
    assert code == 0
    assert "1 of 8 in a sample; sofa_0681: points that are not finite" in text


def extents(rng: np.random.Generator, up: int) -> Any:
    """Objects as wide as deep, and of any height."""
    width = rng.uniform(0.3, 1, 200)
    columns = [width + rng.normal(0, 0.1, 200), width + rng.normal(0, 0.1, 200)]
    columns.insert(up, rng.uniform(0.3, 1, 200))
    return np.stack(columns, axis=1)


def test_the_up_axis_is_judged_by_which_extents_go_together():
    rng = np.random.default_rng(0)
    assert doctor.up_axis(extents(rng, 1))[0] == "good"
    for axis, name in ((0, "x"), (2, "z")):
        state, _, words = doctor.up_axis(extents(rng, axis))
        assert state == "look"
        assert f"looks like {name}, not y" in words


def test_the_machine_is_described(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("[core]\n    remote = store\n['remote \"store\"']\n    url = /srv/dvc\n")
    _, text = page(tmp_path, capsys, toy="kind: procedural")
    for word in ("torch", "GPUs", "sbatch", '"store" /srv/dvc', "GB free", "by convert"):
        assert word in text


def test_a_folder_of_ones_own_is_accounted_for_before_it_is_converted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    root = tmp_path / "mine"
    for seed, name in enumerate(("cup/train/1", "cup/train/2", "cup/test/1", "dog/train/1", "dog/test/1", "dog/val/1")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(root / f"{name}.npy", np.random.default_rng(seed).normal(size=(8, 3)))
    (root / "dog" / "photo.png").write_bytes(b"a picture")
    (root / "dog" / "test" / "2.npy").write_bytes((root / "dog" / "train" / "1.npy").read_bytes())
    code, text = page(tmp_path, capsys, mine=f"kind: folder, points: 8, root: '{root}'")
    assert code == 0
    words = " ".join(text.split())
    for line in (
        "splits train 3, test 3",
        "classes 2 (train + test): cup 2 + 1, dog 1 + 2",
        "split from the folders train/, test/ and val/ in each class",
        "passed over 1 *.png",
        "left out 1 files or shapes",
        "REPEATED 1 contents are in train and test, byte for byte: dog/test/2.npy, dog/train/1.npy",
    ):
        assert line in words


def test_where_the_split_came_from_is_told_of_every_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    said = {
        "shapenet55": "the lists train.txt and test.txt",
        "modelnet40": "the files ply_data_train*.h5 and ply_data_test*.h5",
        "shapenetpart": "shuffled_train_file_list.json and shuffled_val_file_list.json for training",
        "fewshot": "the lists 'train' and 'test' of each pickle",
    }
    for kind, words in said.items():
        _, text = page(tmp_path, capsys, data=f"kind: {kind}, root: '{forged(tmp_path, kind)}'")
        assert f"split from {words}" in " ".join(text.split())
