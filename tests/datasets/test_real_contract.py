"""What every reader of the real data sets promises, on the files that it forges."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jepa3d import datasets, plugins
from jepa3d.datasets import Shape
from jepa3d.formats import roots
from jepa3d.params.validation import plugin_config
from jepa3d.problem import Problem

ENTRIES: dict[str, dict[str, Any]] = {
    "shapenet55": {},
    "modelnet40": {},
    "scanobjectnn": {"variant": "obj_bg"},
    "shapenetpart": {},
    "fewshot": {"fold": 0},
}


@pytest.fixture(scope="module", params=ENTRIES)
def forged(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Path]:
    raw = tmp_path_factory.mktemp(request.param)
    module = plugins.find(datasets, request.param)
    module.forge(raw)
    return (
        module,
        plugin_config(datasets, {"kind": request.param, **ENTRIES[request.param]}, "entry", "params.yaml"),
        raw,
    )


def test_count_is_how_many_shapes_are_read(forged: tuple[Any, Any, Path]):
    module, config, raw = forged
    assert len(list(module.read(raw, config))) == module.count(raw, config)


def test_shapes_keep_the_contract(forged: tuple[Any, Any, Path]):
    module, config, raw = forged
    shapes = list(module.read(raw, config))
    assert all(isinstance(shape, Shape) for shape in shapes)
    assert len({shape.id for shape in shapes}) == len(shapes)
    assert len({shape.points.shape for shape in shapes}) == 1
    assert {shape.points.dtype for shape in shapes} == {np.dtype(np.float32)}
    assert {shape.split for shape in shapes} == {"train", "test"}
    assert {shape.label for shape in shapes} <= set(range(len(module.classes(raw, config))))
    has_parts = bool(module.parts(raw, config))
    assert all((shape.part is not None) == has_parts for shape in shapes)
    if has_parts:
        assert {int(part) for shape in shapes for part in np.unique(shape.part)} <= set(
            range(len(module.parts(raw, config)))
        )


def test_the_order_and_the_points_are_the_same_for_any_worker_count(
    forged: tuple[Any, Any, Path], monkeypatch: pytest.MonkeyPatch
):
    module, config, raw = forged
    monkeypatch.setenv("JEPA3D_THREADS", "1")
    one = list(module.read(raw, config))
    monkeypatch.setenv("JEPA3D_THREADS", "3")
    for a, b in zip(one, module.read(raw, config), strict=True):
        assert a.id == b.id
        np.testing.assert_array_equal(a.points, b.points)


def test_a_peek_is_part_of_the_whole(forged: tuple[Any, Any, Path]):
    module, config, raw = forged
    if not hasattr(module, "peek"):
        pytest.skip("this reader reads from the beginning")
    whole = {shape.id: shape.points for shape in module.read(raw, config)}
    some = list(module.peek(raw, config, 3))
    assert len(some) == 3
    for shape in some:
        np.testing.assert_array_equal(shape.points, whole[shape.id])


def test_the_layout_and_its_lists_are_found(forged: tuple[Any, Any, Path]):
    module, config, raw = forged
    found = module.locate(raw, config)
    assert isinstance(found, roots.Located)
    assert found.folder.is_relative_to(raw)
    assert all(path.is_file() for path in found.lists)


def test_the_audit_is_plain_json_with_the_agreed_keys(forged: tuple[Any, Any, Path]):
    module, config, raw = forged
    found = module.audit(raw, config)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert {"layout", "official", "counts", "notes"} <= set(found)


def test_an_empty_folder_is_a_problem_that_says_how_to_get_the_data(forged: tuple[Any, Any, Path], tmp_path: Path):
    module, config, _ = forged
    with pytest.raises(Problem) as caught:
        list(module.read(tmp_path, config))
    assert str(tmp_path) in caught.value.what
    assert "root:" in caught.value.mend
