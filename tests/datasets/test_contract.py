"""What every data set that is found promises, on the files that it forges."""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import pytest
from pydantic import ValidationError

from jepa3d import datasets, plugins
from jepa3d.datasets import SetAside, Shape
from jepa3d.formats.roots import Located
from jepa3d.params import DatasetConfig
from jepa3d.problem import Problem

SMALLER: dict[str, dict[str, Any]] = {  # than the defaults, so that the tests are quick
    "procedural": {"train": 40, "test": 20, "points": 64},
    "programs": {"train": 12, "test": 4, "points": 64},
    "fewshot": {"fold": 0, "points": 64},
}
FIRST = 200  # shapes of each data set that are looked at


class Forged(NamedTuple):
    kind: str
    plugin: datasets.Plugin[Any]
    config: DatasetConfig
    raw: Path

    def shapes(self, raw: Path | None = None) -> list[Shape | SetAside]:
        return list(itertools.islice(self.plugin.read(raw or self.raw, self.config), FIRST))


def entry(plugin: datasets.Plugin[Any], kind: str, raw: Path) -> DatasetConfig:
    """The smallest entry: what has no default is the folder, or the first of the values that are allowed."""
    needed = {name: field for name, field in plugin.Config.model_fields.items() if field.is_required()}
    given = {name: str(raw) if name == "root" else get_args(field.annotation)[0] for name, field in needed.items()}
    return plugin.Config(**{"kind": kind, **given, **SMALLER.get(kind, {})})


@pytest.fixture(scope="module", autouse=True)
def _here() -> Iterator[None]:
    """No worker processes, where the test is not about them: they take seconds to start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JEPA3D_THREADS", "1")
        yield


@pytest.fixture(scope="module", params=plugins.known(datasets))
def forged(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Forged:
    raw = tmp_path_factory.mktemp(request.param)
    plugin = plugins.find(datasets, request.param)
    plugin.forge(raw)
    return Forged(request.param, plugin, entry(plugin, request.param, raw), raw)


@pytest.fixture(scope="module")
def shapes(forged: Forged) -> list[Shape | SetAside]:
    return forged.shapes()


def equal(ours: list[Shape | SetAside], theirs: list[Shape | SetAside]) -> bool:
    return len(ours) == len(theirs) and all(
        type(a) is type(b)
        and a.id == b.id
        and (isinstance(a, SetAside) or np.array_equal(a.points, b.points))
        and (isinstance(a, SetAside) or (a.label, a.split) == (b.label, b.split))
        for a, b in zip(ours, theirs, strict=True)
    )


def test_its_entry_is_frozen_named_like_its_module_and_refuses_what_it_does_not_know(forged: Forged):
    assert issubclass(forged.plugin.Config, DatasetConfig)
    assert forged.config.kind == forged.kind
    with pytest.raises(ValidationError, match="frozen"):
        forged.config.kind = "another"
    with pytest.raises(ValidationError, match="extra"):
        forged.plugin.Config(**{**forged.config.model_dump(), "no_such_key": 1})
    with pytest.raises(ValidationError, match="kind"):
        forged.plugin.Config(**{**forged.config.model_dump(), "kind": "another"})


def test_its_docstring_says_what_it_is(forged: Forged):
    module = __import__(f"jepa3d.datasets.{forged.kind}", fromlist=["_"])
    assert len((module.__doc__ or "").strip()) > 40


def test_shapes_have_the_form_of_the_contract(forged: Forged, shapes: list[Shape | SetAside]):
    assert shapes
    classes, parts = forged.plugin.classes(forged.raw, forged.config), forged.plugin.parts(forged.raw, forged.config)
    assert len({shape.id for shape in shapes}) == len(shapes)
    assert len({shape.points.shape for shape in shapes if isinstance(shape, Shape)}) == 1
    for shape in shapes:
        assert isinstance(shape, Shape), f"the forged {shape.id} is set aside: {shape.why}"
        assert shape.points.dtype == np.float32
        assert shape.points.shape[1:] == (3,)
        assert np.isfinite(shape.points).all()
        assert shape.split in ("train", "test")
        assert (0 if classes else -1) <= shape.label < len(classes)
        assert (shape.part is not None) == bool(parts)
        if shape.part is not None:
            assert shape.part.dtype == np.int16
            assert shape.part.shape == shape.points.shape[:1]
            assert -1 <= shape.part.min() <= shape.part.max() < len(parts)


def test_names_of_classes_and_parts_occur_once(forged: Forged):
    for names in (forged.plugin.classes(forged.raw, forged.config), forged.plugin.parts(forged.raw, forged.config)):
        assert len(set(names)) == len(names)
        assert all(isinstance(name, str) and name for name in names)


def test_a_count_is_how_many_shapes_are_read(forged: Forged):
    count = forged.plugin.count(forged.raw, forged.config)
    assert count is None or count == sum(1 for _ in forged.plugin.read(forged.raw, forged.config))


def test_the_shapes_are_the_same_for_any_worker_count(
    forged: Forged, shapes: list[Shape | SetAside], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("JEPA3D_THREADS", "2")
    assert equal(forged.shapes(), shapes)


def test_a_survey_reads_the_same(forged: Forged, shapes: list[Shape | SetAside]):
    reader = forged.plugin.surveyed(forged.raw, forged.config)
    for name in ("classes", "parts", "count"):
        ours, plain = (getattr(one, name)(forged.raw, forged.config) for one in (reader, forged.plugin))
        assert ours == plain
    assert equal(list(itertools.islice(reader.read(forged.raw, forged.config), FIRST)), shapes)


def test_a_peek_is_part_of_the_whole(forged: Forged):
    whole = {shape.id: shape for shape in forged.plugin.read(forged.raw, forged.config)}
    some = list(forged.plugin.peek(forged.raw, forged.config, 3))
    assert len(some) == min(3, len(whole))
    assert equal(some, [whole[shape.id] for shape in some])


def test_the_audit_is_plain_json(forged: Forged):
    findings = forged.plugin.audit(forged.raw, forged.config)
    assert json.loads(json.dumps(findings, allow_nan=False)) == findings


def test_the_layout_and_its_lists_are_found(forged: Forged):
    if not any(forged.raw.iterdir()):
        pytest.skip("it needs no files")
    copy = forged.plugin.locate(forged.raw, forged.config)
    assert isinstance(copy, Located)
    assert copy.layout
    assert copy.folder.is_relative_to(forged.raw)
    assert all(path.is_file() for path in copy.lists)


def test_an_empty_folder_has_no_shapes_and_is_a_problem_that_says_what_to_do(forged: Forged, tmp_path: Path):
    if not any(forged.raw.iterdir()):
        pytest.skip("it needs no files")
    with pytest.raises(Problem) as caught:
        forged.plugin.locate(tmp_path, forged.config)
    assert str(tmp_path) in caught.value.what
    assert caught.value.mend
    with contextlib.suppress(Problem):
        assert forged.shapes(tmp_path) == []


def test_what_can_be_fetched_has_terms_a_way_by_hand_and_asks_for_consent(forged: Forged):
    for source in forged.plugin.sources(forged.config):
        assert source.name
        assert source.terms.startswith("https://")
        assert source.by_hand
        assert isinstance(forged.config, datasets.Fetched)
        assert not forged.config.accept_terms


def damaged_copies(raw: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    """The forged files, one of them overwritten; of many that end alike in one folder, the first."""
    files = sorted(path for path in raw.rglob("*") if path.is_file())
    for path in {(path.parent, path.suffix): path for path in reversed(files)}.values():
        copy = folder / str(path.relative_to(raw)).replace("/", "_")
        shutil.copytree(raw, copy)
        (copy / path.relative_to(raw)).write_bytes(b"\x00\xff\x00 no data \xfe" * 20)
        yield str(path.relative_to(raw)), copy


def test_a_damaged_file_is_set_aside_or_refused_and_never_read_as_another_shape(
    forged: Forged, shapes: list[Shape | SetAside], tmp_path: Path
):
    good = {shape.id: shape for shape in shapes}
    for name, copy in damaged_copies(forged.raw, tmp_path):
        try:
            read = forged.shapes(copy)
        except Problem:
            continue
        aside = [shape for shape in read if isinstance(shape, SetAside)]
        kept = [shape for shape in read if isinstance(shape, Shape)]
        assert len(read) == len(shapes), name
        assert all(shape.why for shape in aside), name
        assert equal(kept, [good[shape.id] for shape in kept]), name
