"""Pictures over M and r: which runs make a line, and what stands in it."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jepa3d import project
from jepa3d.report import pictures, sweeps
from jepa3d.report.pictures import Span
from jepa3d.report.study import Study
from jepa3d.report.tables import run_entries

SPAN = Span("exact", [0.3, 0.6, 0.9], [40.0, 50.0, 45.0], [38.0, 49.0, 40.0], [42.0, 51.0, 50.0])


def entries(tiny: dict[str, Any], write: Callable[[Any], Path], runs: dict[str, Any]) -> dict[str, dict[str, Any]]:
    tiny["runs"] |= runs
    params = project.load(write(tiny))
    nothing: Any = {}
    names = tuple(name for name in params.runs if name.split("_")[0] in runs)
    return run_entries(params, Study("s", "", names, (), (0,), nothing, nothing, nothing, None, nothing))


def test_runs_that_differ_in_m_alone_are_a_line_for_each_way_to_fill(tiny: dict[str, Any], write: Any):
    sweep = {"objective.mask.blocks": [4, 1, 2], "objective.mask.fill": ["literal", "exact"]}
    found = sweeps.groups(entries(tiny, write, {"m": {"base": "jepa", "sweep": sweep}}), "objective.mask.blocks")
    assert found == [
        {1: "m_blocks1_fill_literal", 2: "m_blocks2_fill_literal", 4: "m_blocks4_fill_literal"},
        {1: "m_blocks1_fill_exact", 2: "m_blocks2_fill_exact", 4: "m_blocks4_fill_exact"},
    ]


def test_a_run_that_differs_in_anything_else_is_no_part_of_the_line(tiny: dict[str, Any], write: Any):
    swept = {"base": "jepa", "sweep": {"objective.mask.ratio": [0.3, 0.4, 0.5]}}
    other = {"base": "jepa", "objective": {"mask": {"ratio": 0.7}}, "fit": {"lr": 1e-4}}
    same = {"base": "jepa", "about": "another word", "objective": {"mask": {"ratio": 0.7}}}
    found = sweeps.groups(entries(tiny, write, {"r": swept, "other": other, "same": same}), "objective.mask.ratio")
    assert found == [{0.3: "r_ratio0p3", 0.4: "r_ratio0p4", 0.5: "r_ratio0p5", 0.7: "same"}]


def test_two_values_are_no_line_and_masks_of_another_kind_have_no_m(tiny: dict[str, Any], write: Any):
    two = {"base": "jepa", "sweep": {"objective.mask.blocks": [1, 2]}}
    of_chains = {"objective": {"kind": "jepa", "mask": {"kind": "chain", "block_scale": [0.1, 0.2]}}}
    chains = {"base": "jepa", **of_chains, "sweep": {"objective.mask.blocks": [1, 2, 3]}}
    found = entries(tiny, write, {"two": two, "chain": chains})
    assert len(found) == 5
    assert sweeps.groups(found, "objective.mask.blocks") == []


def test_the_picture_says_every_mean_with_its_interval():
    drawn = str(pictures.svg(pictures.span_chart("r", [SPAN])))
    ElementTree.fromstring(drawn.replace("<svg ", '<svg xmlns:xlink="x" ', 1))
    for said in ("exact, 0.3: 40 [38, 42]", "exact, 0.6: 50 [49, 51]", "exact, 0.9: 45 [40, 50]"):
        assert said in drawn
    assert str(pictures.svg(pictures.span_chart("M", [SPAN._replace(x=[1, 2, 8])], doubling=True))) != drawn
