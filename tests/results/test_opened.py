"""A damaged file of ours is named, with what is damaged and the command that makes it; never a traceback."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from jepa3d.layout import Layout
from jepa3d.problem import Problem
from jepa3d.results import heaps, opened, store
from jepa3d.tools import interchange
from jepa3d.train import batches, checkpoint


@pytest.fixture
def files(layout: Layout, toys: Path) -> Layout:
    """A canonical file, its patches and features of it, whole."""
    index = np.zeros((80, 4, 3), np.uint16)
    store.write_h5(layout.patches("flat", "toys"), {"centre": index[..., 0], "neighbour": index}, {})
    with store.open_h5(toys) as file:
        described = {"label": file["label"][:], "split": store.text(file["split"]), "id": store.text(file["id"])}
    features = {"context": np.ones((80, 5), np.float32)} | described
    names = ["cube", "rod", "plate"]
    store.write_h5(layout.features("jepa", 0, "toys"), features, {}, classes=names, pool="max", kind="transformer")
    return layout


def read(layout: Layout) -> None:
    """What the commands open."""
    canonical, patches = layout.canonical("toys"), layout.patches("flat", "toys")
    source = batches.open_shapes([batches.Subset(canonical, patches, batches.split_rows(canonical, None))], 1e9)
    source.rows(np.arange(len(source)))
    interchange.to_numpy(canonical)
    opened.features(layout.features("jepa", 0, "toys"))


def without(name: str) -> Callable[[h5py.File], None]:
    return lambda file: file.__delitem__(name)


def put(name: str, change: Callable[[Any], Any]) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        array = change(file[name][:])
        del file[name]
        file[name] = array

    return edit


def at(name: str, place: Any, value: Any) -> Callable[[h5py.File], None]:
    return lambda file: file[name].__setitem__(place, value)


def said(name: str, text: str) -> Callable[[h5py.File], None]:
    return lambda file: file.attrs.__setitem__(name, text)


def test_whole_files_are_opened(files: Layout):
    read(files)


CASES = {
    "canonical": [
        (without("points"), "it has no 'points'"),
        (put("points", lambda a: a.astype(np.float64)), "'points' is float64"),
        (put("points", lambda a: a[:, :, :2]), "expected float32 n x n x 3"),
        (put("label", lambda a: a[:-1]), "'label' is int64(79,), expected int64 80"),
        (at("label", 3, 3), "a label of 0 or 3 among 3 classes"),
        (at("label", 3, -2), "a label of -2 or 2"),
        (at("split", 3, "val"), "a split other than train and test"),
        (put("id", lambda a: np.arange(80)), "'id' is int64(80,), not 80 texts"),
        (put("part", lambda a: a[:, :5]), "'part' is int16(80, 5)"),
        (at("points", (3, 1, 2), np.nan), "points that are NaN or infinite"),
        (said("classes", '["cube", "rod", "rod"]'), "no list of different names"),
        (said("classes", '["cube'), "its attributes"),
        (said("classes", "[" * 100_000), "its attributes"),
        (said("provenance", "[]"), "its provenance is no mapping"),
        (lambda file: file.attrs.__delitem__("parts"), "KeyError: 'parts'"),
    ],
    "patches": [
        (without("neighbour"), "it has no 'neighbour'"),
        (put("neighbour", lambda a: a[:, :2]), "'neighbour' is uint16(80, 2, 3)"),
        (at("neighbour", (7, 1, 1), 128), "an index of 128 among 128 points"),
        (at("centre", (7, 1), 500), "an index of 500 among 128 points"),
        (lambda file: file.create_dataset("point", data=np.full((80, 9), 130, np.uint16)), "an index of 130"),
        (lambda file: file.create_dataset("centre_1", data=np.zeros((80, 2), np.uint16)), "it has no 'neighbour_1'"),
    ],
    "features": [
        (without("context"), "it has no 'context'"),
        (at("context", (0, 0), np.inf), "features that are NaN or infinite"),
        (lambda file: file.create_dataset("target", data=np.ones((9, 5), np.float32)), "'target' is float32(9, 5)"),
        (said("pool", "3"), "its pool is no text"),
    ],
}
COMMANDS = {"canonical": "convert toys", "patches": "patchify flat toys", "features": "embed jepa toys --seed 0"}
EDITS = [(kind, change, words) for kind, cases in CASES.items() for change, words in cases]


@pytest.mark.parametrize(("kind", "change", "words"), EDITS, ids=[f"{kind}: {words}" for kind, _, words in EDITS])
def test_a_damaged_file_is_named_with_what_made_it(files: Layout, kind: str, change: Any, words: str):
    path = {
        "canonical": files.canonical("toys"),
        "patches": files.patches("flat", "toys"),
        "features": files.features("jepa", 0, "toys"),
    }[kind]
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(Problem) as caught:
        read(files)
    assert caught.value.what.startswith(f"{path}: damaged: ")
    assert words in caught.value.what
    assert caught.value.why == f"made by: jepa3d {COMMANDS[kind]}"


def test_arrays_that_lie_elsewhere_or_are_not_there_are_refused(files: Layout, tmp_path: Path):
    path = files.canonical("toys")
    with h5py.File(path, "a") as file, h5py.File(tmp_path / "other.h5", "w") as other:
        other["points"] = file["points"][:]
        del file["points"]
        file["points"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "points")
    with pytest.raises(Problem, match="it has no 'points'"):
        read(files)
    with h5py.File(path, "a") as file:
        del file["points"]
        file.create_dataset("points", (80, 1 << 40, 3), np.float32, chunks=(1, 1 << 20, 3))  # 1 PB, of which nothing is
    with pytest.raises(Problem, match="'points' declares"):
        read(files)


def test_texts_that_would_send_the_library_round_for_ever_are_found_before(files: Layout):
    """A byte is lost in the heap where the texts lie: libhdf5 never comes back from reading them."""
    path = files.features("jepa", 0, "toys")
    whole = path.read_bytes()
    for heap in [at for at in range(len(whole)) if whole.startswith(heaps.SIGNATURE, at)]:
        for cut in (20, 40):
            path.write_bytes(whole[: heap + cut] + whole[heap + cut + 1 : heap + 4096] + b"\0" + whole[heap + 4096 :])
            with pytest.raises(Problem, match="damaged: its texts, at byte"):
                read(files)


def test_a_text_may_not_claim_more_than_the_file_has(files: Layout):
    path = files.canonical("toys")
    with h5py.File(path) as file:
        at = file["id"].id.get_offset()
    whole = bytearray(path.read_bytes())
    whole[at + 3] = 0x7F  # the length, 2 GB
    path.write_bytes(bytes(whole))
    with pytest.raises(Problem, match="damaged: 'id': texts of 2,1"):
        read(files)


def test_bytes_that_changed_since_they_were_recorded_are_not_used(files: Layout):
    """The stamp of what is made of them has their hash; the record has the one that they had."""
    path = files.canonical("toys")
    store.stamp("patchify", {}, [path])
    with h5py.File(path, "a") as file:
        file["points"][5, 5, 1] += 0.25
    with pytest.raises(Problem, match="damaged: its bytes have changed since 20") as caught:
        store.stamp("patchify", {}, [path])
    assert caught.value.why == "made by: jepa3d convert toys"


# ---- JSON

BOTH = {"train": 2, "test": 1}
AUDIT = {
    "dataset": "toys", "shapes": 3, "points": 8, "splits": BOTH, "classes": {"cup": BOTH}, "unlabelled": 0,
    "bounds": {"low": [-1.0] * 3, "high": [1.0] * 3}, "set_aside": [{"id": "a", "why": "is empty"}],
    "split_from": "folders",
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"shapes": "3"}, "shapes: "),
        ({"splits": {"train": 2, "val": 1}}, "splits.test"),
        ({"classes": {"cup": 3}}, "classes.cup"),
        ({"set_aside": [{"id": "a"}]}, "set_aside.0.why"),
        ({"split_from": None}, "split_from"),
        ({"findings": {"in_both_splits": {"contents": 1, "shapes": 2, "first": []}}}, "findings.in_both_splits"),
    ],
)
def test_a_damaged_audit(layout: Layout, changes: dict[str, Any], words: str):
    path = layout.audit("toys")
    store.write_json(path, AUDIT)
    assert opened.audit(path) == AUDIT
    store.write_json(path, AUDIT | changes)
    with pytest.raises(Problem) as caught:
        opened.audit(path)
    assert caught.value.what.startswith(f"{path}: damaged: {words}")
    assert caught.value.why == "made by: jepa3d convert toys"


@pytest.mark.parametrize("text", ["[1]", '{"jepa": {"linear": {"accuracy": {"mean": 1.0}}}}', '{"a": {"b": 3}}'])
def test_damaged_metrics(layout: Layout, text: str):
    store.write_text(layout.metrics, text)
    with pytest.raises(Problem, match=r"metrics\.json: damaged: "):
        opened.metrics(layout.metrics)


@pytest.mark.parametrize("line", ["3", '{"loss": 1.0}', '{"step": -1}', '{"step": 3, "cost": 5}', '{"step": 3'])
def test_a_damaged_line_of_a_finished_curve(layout: Layout, line: str):
    store.write_text(layout.curve("jepa", 0), '{"step": 1, "loss": 2.5}\n' + line + "\n")
    with pytest.raises(Problem, match=r"curve\.jsonl: (damaged|cannot be read)"):
        opened.curve(layout.curve("jepa", 0))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": NaN}', '{"a": -Infinity}', "\xff"])
def test_json_that_is_none_is_a_problem(tmp_path: Path, text: str):
    (tmp_path / "a.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(Problem, match=r"a\.json: cannot be read"):
        store.read_json(tmp_path / "a.json")


# ---- checkpoints


def test_a_checkpoint_fits_whole_or_is_damaged(tmp_path: Path):
    net = torch.nn.Linear(3, 2)
    optimiser = torch.optim.AdamW(net.parameters())
    net(torch.ones(3)).sum().backward()
    optimiser.step()
    whole = {"step": 7, "fingerprint": "f", "objective": net.state_dict(), "optimiser": optimiser.state_dict()}
    path = tmp_path / "step7.pt"

    def kept(**changes: Any) -> dict[str, Any]:
        store.save_state(path, {key: value for key, value in (whole | changes).items() if value is not None})
        return checkpoint.read(path, "f", net, optimiser)

    assert kept()["step"] == 7
    assert kept(fingerprint="g", objective=None)["step"] == 7  # another training's is only set aside
    groups, moments = whole["optimiser"]["param_groups"], whole["optimiser"]["state"]
    wrong = {**moments, 0: moments[0] | {"exp_avg": torch.zeros(5)}}
    for changes in (
        {"step": None}, {"step": "7"}, {"fingerprint": None}, {"objective": None}, {"objective": {}},
        {"objective": {"weight": torch.zeros(2, 3), "bias": torch.zeros(3)}}, {"optimiser": None},
        {"optimiser": {"state": moments, "param_groups": []}},
        {"optimiser": {"state": {9: moments[0]}, "param_groups": groups}},
        {"optimiser": {"state": wrong, "param_groups": groups}},
    ):  # fmt: skip
        with pytest.raises(Problem, match=r"step7\.pt: damaged: "):
            kept(**changes)
    kept()
    data = bytearray(path.read_bytes())
    data[data.index(net.weight.detach().numpy().tobytes()) + 1] ^= 4
    path.write_bytes(bytes(data))
    with pytest.raises(Problem, match=r"the bytes of .* have changed"):
        checkpoint.read(path, "f", net, optimiser)
    store.write_text(path, json.dumps(3))
    with pytest.raises(Problem, match="cannot be read"):
        checkpoint.read(path, "f", net, optimiser)
