"""What `convert` promises: the canonical file, the audit, and that finished work survives a failure."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from jepa3d import datasets, plugins
from jepa3d.datasets import SetAside, Shape, folder
from jepa3d.layout import Layout
from jepa3d.params import DatasetConfig
from jepa3d.problem import Problem
from jepa3d.results import store
from jepa3d.stages import convert as stage
from jepa3d.stages.convert import PluginError, convert

SQUARE = np.array([[0, 0, 0], [1, 0, 0], [1, 2, 0], [0, 2, 0]], np.float32)


def shape(name: str, label: int = 0, split: str = "train", points: Any = SQUARE, part: Any = None) -> Shape:
    return Shape(np.asarray(points, np.float32), label, part, split, name)  # type: ignore[arg-type]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Convert these shapes as if a plugin had read them; gives back the layout."""

    def run(
        shapes: Sequence[Shape | SetAside] | Iterator[Shape],
        classes: tuple[str, ...] = ("cup", "dog"),
        parts: tuple[str, ...] = (),
        more: dict[str, Any] | None = None,
        **settings: Any,
    ) -> Layout:
        module = ModuleType("fake")
        module.__dict__.update(
            Config=DatasetConfig,
            classes=lambda raw, config: classes,
            parts=lambda raw, config: parts,
            read=lambda raw, config: iter(shapes),
            forge=lambda raw: None,
            **{name: lambda raw, config, value=value: value for name, value in (more or {}).items()},
        )
        plugin = plugins.fulfilled(datasets.Plugin, module)
        monkeypatch.setattr(plugins, "find", lambda package, kind: plugin)
        layout = Layout(tmp_path / "results")
        store.write_json(layout.source("data"), {"how": "generated"})
        config = DatasetConfig(kind="fake", **settings)
        convert(SimpleNamespace(dataset=lambda name: config), layout, "data")  # type: ignore[arg-type]
        return layout

    return run


def test_two_shapes_become_the_canonical_file(run: Any) -> None:
    layout = run([shape("a", 1), shape("b", 1, "test", SQUARE + 1)])
    with store.open_h5(layout.canonical("data")) as file:
        assert file["points"].dtype == np.float32
        assert file["points"].chunks is None
        assert file["points"][:].tolist() == [SQUARE.tolist(), (SQUARE + 1).tolist()]
        assert file["label"].dtype == np.int64
        assert file["label"][:].tolist() == [1, 1]
        assert store.text(file["split"]).tolist() == ["train", "test"]
        assert store.text(file["id"]).tolist() == ["a", "b"]
        assert "part" not in file
        attributes = store.attributes(file)
    assert attributes["classes"] == ["cup", "dog"]
    assert attributes["parts"] == []
    assert attributes["config"] == {"kind": "fake", "root": None, "strict": False}
    assert attributes["provenance"]["verb"] == "convert"
    assert list(attributes["provenance"]["inputs"]) == [str(layout.source("data"))]


def test_the_audit_counts_bounds_and_what_was_set_aside(run: Any) -> None:
    layout = run([shape("a", 1), shape("b", 1, "test", SQUARE - 1), SetAside("c", "is empty"), shape("d", -1)])
    audit = store.read_json(layout.audit("data"))
    assert audit["shapes"] == 3
    assert audit["points"] == 4
    assert audit["splits"] == {"train": 2, "test": 1}
    assert audit["classes"] == {"cup": {"train": 0, "test": 0}, "dog": {"train": 1, "test": 1}}
    assert audit["unlabelled"] == 1
    assert audit["bounds"] == {"low": [-1, -1, -1], "high": [1, 2, 0]}
    assert audit["set_aside"] == [{"id": "c", "why": "is empty"}]
    assert audit["provenance"] == store.provenance(layout.canonical("data"))


def test_points_without_coordinates_are_counted_and_said(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    layout = run([shape("a")])
    assert "without_coordinates" not in store.read_json(layout.audit("data"))
    layout = run([shape("a"), shape("b")._replace(missing=3), shape("c", split="test")._replace(missing=1200)])
    assert store.read_json(layout.audit("data"))["without_coordinates"] == {"b": 3, "c": 1200}
    assert "1,203 points without coordinates (NaN), of 2 shapes such as b" in capsys.readouterr().err


def test_parts_are_kept_and_a_shape_without_them_has_minus_one(run: Any) -> None:
    layout = run([shape("a", part=np.array([1, 0, 0, 1])), shape("b")], parts=("lid", "body"))
    with store.open_h5(layout.canonical("data")) as file:
        assert file["part"].dtype == np.int16
        assert file["part"][:].tolist() == [[1, 0, 0, 1], [-1, -1, -1, -1]]
        assert store.attributes(file)["parts"] == ["lid", "body"]


def test_a_cloud_with_nan_or_of_equal_points_is_set_aside_whatever_the_plugin(run: Any) -> None:
    broken = SQUARE.copy()
    broken[2, 1] = np.nan
    layout = run([shape("good"), shape("nan", points=broken), shape("one", points=SQUARE * 0 + 3)])
    assert store.read_json(layout.audit("data"))["set_aside"] == [
        {"id": "nan", "why": "has NaN or infinite coordinates"},
        {"id": "one", "why": "all its points are the same"},
    ]


@pytest.mark.parametrize(
    ("shapes", "what"),
    [
        ([], "data: no usable shape"),
        ([SetAside("a", "is empty")], "all 1 are damaged"),
        ([shape("a"), shape("a")], "the id 'a' occurs twice"),
        ([shape("a"), shape("b", points=SQUARE[:3])], "b has 3 points, the shapes before it have 4"),
        ([shape("a", label=2)], "a has label 2"),
        ([shape("a", label=-2)], "a has label -2"),
        ([shape("a", 0), shape("b", 0, "test"), shape("c", 1)], "the class 'dog' is in train only"),
        ([shape("a", 0), shape("b", 0, "test"), shape("c", 1, "test")], "the class 'dog' is in test only"),
    ],
)
def test_unusable_data_is_a_problem_and_leaves_finished_work(run: Any, shapes: list[Any], what: str) -> None:
    layout = run([shape("before")])
    before = {path: path.read_bytes() for path in layout.canonical("data").parent.iterdir()}
    with pytest.raises(Problem) as caught:
        run(shapes)
    assert what in caught.value.what
    assert caught.value.why
    assert caught.value.mend
    assert {path: path.read_bytes() for path in layout.canonical("data").parent.iterdir()} == before


def test_strict_stops_at_the_first_damaged_shape(run: Any) -> None:
    with pytest.raises(Problem, match="b cannot be used\n  is empty"):
        run([shape("a"), SetAside("b", "is empty")], strict=True)


@pytest.mark.parametrize("expected", [2, 3, 300])
def test_a_plugin_that_knows_its_count_gives_the_same_file(run: Any, expected: int) -> None:
    shapes = [shape("a", part=np.array([1, 0, 0, 1])), SetAside("c", "is empty"), shape("b", points=SQUARE + 1)]
    layout = run(shapes, parts=("lid", "body"))
    with store.open_h5(layout.canonical("data")) as file:
        without = {name: data[:].tolist() for name, data in file.items()}
    run(shapes, parts=("lid", "body"), more={"count": expected})
    with store.open_h5(layout.canonical("data")) as file:
        assert file["points"].chunks is None
        assert store.attributes(file)["parts"] == ["lid", "body"]
        assert {name: data[:].tolist() for name, data in file.items()} == without
    assert len(list(layout.canonical("data").parent.iterdir())) == 2


def test_many_blocks_keep_every_row_in_its_place(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jepa3d.stages.convert.BLOCK", 3 * SQUARE.nbytes)
    for more in ({}, {"count": 7}, {"count": 8}):
        layout = run([shape(str(i), points=SQUARE + i) for i in range(7)], more=more)
        with store.open_h5(layout.canonical("data")) as file:
            assert file["points"][:, 0, 0].tolist() == [0, 1, 2, 3, 4, 5, 6]


def test_the_plugins_own_audit_is_in_the_audit(run: Any) -> None:
    layout = run([shape("a")], more={"audit": {"lists": 3}})
    assert store.read_json(layout.audit("data"))["findings"] == {"lists": 3}


def test_the_account_is_printed_at_the_end_and_stands_in_the_audit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Classes, shapes per class and split, where the split came from, what was passed over or set aside."""
    monkeypatch.setenv("JEPA3D_THREADS", "1")
    layout = a_folder(tmp_path, "cup/train/1 cup/train/2 cup/test/1 dog/train/1 dog/test/1 dog/val/1")
    (tmp_path / "raw/cup/test/2.npy").write_bytes((tmp_path / "raw/cup/train/1.npy").read_bytes())
    (tmp_path / "raw/dog/test/2.npy").write_bytes(b"damaged")
    (tmp_path / "raw/cup/LICENSE").write_text("free")
    convert(params_of(tmp_path / "raw"), layout, "data")
    assert capsys.readouterr().err.splitlines() == [
        "data: 6 shapes of 8 points",
        "  splits       train 3, test 3",
        "  classes      2",
        "    cup        train 2, test 2",
        "    dog        train 1, test 1",
        "  split from   the folders train/, test/ and val/ in each class",
        "  passed over  1 *",
        "  REPEATED     1 contents are in train and test, byte for byte: cup/test/2.npy, cup/train/1.npy",
        "  set aside    2, each with its reason in the audit",
        "               1 such as dog/val/1.npy: is of the validation split; see 'validation' in docs/datasets.md",
        "               1 such as dog/test/2.npy: a damaged or wrong .npy file: it does not begin as .npy files do",
    ]
    audit = store.read_json(layout.audit("data"))
    assert audit["split_from"] == "the folders train/, test/ and val/ in each class"
    assert audit["passed_over"] == {"*": 1}
    assert audit["findings"]["in_both_splits"]["first"] == [["cup/test/2.npy", "cup/train/1.npy"]]
    assert [entry["id"] for entry in audit["set_aside"]] == ["dog/val/1.npy", "dog/test/2.npy"]


def a_folder(tmp_path: Path, names: str) -> Layout:
    """Files of different clouds in tmp_path/raw, found by `download`."""
    for seed, name in enumerate(names.split()):
        (tmp_path / "raw" / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / "raw" / f"{name}.npy", np.random.default_rng(seed).normal(size=(8, 3)).astype(np.float32))
    layout = Layout(tmp_path / "results")
    store.write_json(layout.source("data"), {"how": "in place"})
    return layout


def params_of(root: Path, **entry: Any) -> Any:
    config = folder.Config(root=str(root), points=8, **entry)
    return SimpleNamespace(dataset=lambda name: config)


def test_strict_does_not_stop_at_what_a_rule_leaves_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JEPA3D_THREADS", "1")
    layout = a_folder(tmp_path, "train/cup/1 val/cup/1 test/cup/1")
    (tmp_path / "raw/train/cup/README.txt").write_text("of a cup")
    convert(params_of(tmp_path / "raw", strict=True), layout, "data")
    aside = {entry["id"] for entry in store.read_json(layout.audit("data"))["set_aside"]}
    assert aside == {"val/cup/1.npy", "train/cup/README.txt"}
    (tmp_path / "raw/train/cup/2.las").write_bytes(b"a scan")
    with pytest.raises(Problem, match=r"train/cup/2\.las cannot be used"):
        convert(params_of(tmp_path / "raw", strict=True), layout, "data")


def test_ids_that_are_not_text_are_set_aside_whatever_the_plugin(run: Any) -> None:
    layout = run([shape("a"), shape("b\udcff"), SetAside("c\udcfe", "is empty"), shape("\ud800")])
    aside = store.read_json(layout.audit("data"))["set_aside"]
    assert aside == [
        {"id": "b\\xff", "why": "its name is not UTF-8: rename it"},
        {"id": "c\\xfe", "why": "is empty"},
        {"id": "\\ud800", "why": "its name is not UTF-8: rename it"},
    ]


def test_an_error_of_reading_is_not_reported_as_one_of_writing(run: Any) -> None:
    def broken(error: Exception) -> Iterator[Shape]:
        yield shape("a")
        raise error

    with pytest.raises(Problem, match="data: the raw files cannot be read"):
        run(broken(OSError(5, "Input/output error")))
    with pytest.raises(PluginError, match="a bug"):
        run(broken(ValueError("a bug")))


def test_shapes_of_one_split_only_need_no_other(run: Any) -> None:
    run([shape("a", 0), shape("b", 1)])
    run([shape("a", -1), shape("b", 0, "test")])


def test_without_a_source_the_earlier_stage_is_named(run: Any, tmp_path: Path) -> None:
    layout = run([shape("a")])
    layout.source("data").unlink()
    with pytest.raises(Problem, match=r"SOURCE.json: no such file"):
        convert(SimpleNamespace(dataset=lambda name: DatasetConfig(kind="fake")), layout, "data")  # type: ignore[arg-type]


def test_the_same_shapes_give_the_same_bytes(run: Any) -> None:
    layout = run([shape("a"), shape("b")])
    first = layout.canonical("data").read_bytes()
    run([shape("a"), shape("b")])
    assert layout.canonical("data").read_bytes() == first


def test_memory_does_not_grow_with_the_number_of_shapes(run: Any) -> None:
    def peak(count: int) -> int:
        cloud = np.arange(3000, dtype=np.float32).reshape(1000, 3)  # 12 kB: all of them would be 24 MB
        tracemalloc.start()
        run(shape(str(index), points=cloud + index) for index in range(count))
        high = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return high

    peak(10)
    assert peak(2000) - peak(200) < 4 << 20


def test_a_draft_of_unknown_length_has_a_chunk_a_block_not_a_shape(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """HDF5 holds what it knows of every chunk in memory: with one a shape, 30,000 shapes of 64 points took 365 MB."""
    seen: list[tuple[int, ...]] = []
    compact = stage.compact

    def looked_at(draft: Path, *others: Any) -> None:
        with store.open_h5(draft) as file:
            seen.extend(file[name].chunks for name in ("points", "part"))
        compact(draft, *others)

    monkeypatch.setattr(stage, "compact", looked_at)
    monkeypatch.setattr(stage, "BLOCK", 3 * SQUARE.nbytes)
    layout = run([shape(str(i), points=SQUARE + i) for i in range(7)], parts=("lid",))
    assert seen == [(3, 4, 3), (3, 4)]
    with store.open_h5(layout.canonical("data")) as file:
        assert file["points"][:, 0, 0].tolist() == [0, 1, 2, 3, 4, 5, 6]


def test_a_plugin_that_can_looks_once_at_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        path = tmp_path / "mine" / ("cup", "dog")[number % 2] / f"{number}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, SQUARE + number)
    looks = []
    survey = folder.survey
    monkeypatch.setattr(folder, "survey", lambda raw, config: (looks.append(raw), survey(raw, config))[1])
    layout, config = Layout(tmp_path / "results"), folder.Config(root=str(tmp_path / "mine"), points=4)
    store.write_json(layout.source("data"), {"how": "in place"})
    convert(SimpleNamespace(dataset=lambda name: config), layout, "data")  # type: ignore[arg-type]
    assert looks == [tmp_path / "mine"]
    with store.open_h5(layout.canonical("data")) as file:
        assert store.text(file["id"]).tolist() == ["cup/0.npy", "cup/2.npy", "dog/1.npy", "dog/3.npy"]


def test_one_and_two_threads_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    for number in range(40):
        path = tmp_path / "mine" / ("cup", "dog")[number % 2] / f"{number}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, rng.normal(size=(50, 3)).astype(np.float32))
    config = folder.Config(root=str(tmp_path / "mine"), points=32)
    made = []
    for threads in "12":
        monkeypatch.setenv("JEPA3D_THREADS", threads)
        layout = Layout(tmp_path / "results")
        store.write_json(layout.source("data"), {"how": "in place"})
        convert(SimpleNamespace(dataset=lambda name: config), layout, "data")  # type: ignore[arg-type]
        made.append(layout.canonical("data").read_bytes())
    assert made[0] == made[1]
