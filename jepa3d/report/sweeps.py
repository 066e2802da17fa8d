"""The ablations over M and r as pictures: what one setting of the masks does to each evaluation, with intervals."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from jepa3d.params import Params
from jepa3d.report import numbers
from jepa3d.report.ablations import FILLS
from jepa3d.report.pictures import Panel, Span, span_chart
from jepa3d.report.study import Study
from jepa3d.report.tables import run_entries

SETTINGS = {  # dotted keys of a run's entry
    "objective.mask.blocks": "Number of target blocks M",
    "objective.mask.ratio": "Masking ratio r",
}
LEAST = 3  # values that make a line


class Sweep(NamedTuple):
    """One setting, and one evaluation's headline over its values."""

    setting: str
    title: str  # the evaluation
    about: str
    spans: list[Span]  # a line for each group of runs that differ in nothing else
    panel: Panel


def sweeps(params: Params, study: Study) -> list[Sweep]:
    """Every setting that some runs of the study differ in alone, by at least three values, with every evaluation."""
    entries = run_entries(params, study)
    found = []
    for key, title in SETTINGS.items():
        for name in study.evals:
            if spans := _spans(study, name, groups(entries, key), entries):
                unit = numbers.unit_text(study.first(name).main.unit)
                panel = span_chart(f"{title}: {name}", spans, doubling=key.endswith("blocks"))
                about = f"{unit}, mean over the seeds with the 95 % interval over seeds and test shapes."
                found.append(Sweep(title, name, about, spans, panel))
    return found


def groups(entries: Mapping[str, Mapping[str, Any]], key: str) -> list[dict[float, str]]:
    """The runs that differ in one setting alone: its value -> the run, by at least three values. One run a value."""
    found: dict[str, dict[float, str]] = {}
    for run, entry in entries.items():
        rest = {name: value for name, value in entry.items() if name != "about"}
        if (value := _taken(rest, key)) is not None:
            found.setdefault(json.dumps(rest, sort_keys=True, default=str), {}).setdefault(value, run)
    return [dict(sorted(group.items())) for group in found.values() if len(group) >= LEAST]


def _taken(entry: dict[str, Any], key: str) -> float | None:
    """The value of a dotted key, which is taken out of the entry; None where there is none that counts.

    M and r are settings of blocks around seeds; another kind of mask has its defaults, which say nothing.
    """
    *path, last = key.split(".")
    at = entry
    for step in path:
        if not isinstance(at.get(step), dict):
            return None
        at[step] = dict(at[step])
        at = at[step]
    if at.get("kind") != "multiblock" or at.get("block_scale") is not None:
        return None
    value = at.pop(last, None)
    return None if value is None else float(value)


def _colour(entry: Mapping[str, Any], taken: list[int]) -> int:
    """The same for one way to fill the blocks in every picture, unless two lines of a picture have it."""
    number = [*FILLS].index(entry["objective"]["mask"]["fill"])
    while number in taken:
        number += len(FILLS)
    return number


def _label(group: Mapping[float, str], entries: Mapping[str, Mapping[str, Any]], alone: bool) -> str:
    """What tells a line apart: how its blocks are filled, and its first run."""
    run = next(iter(group.values()))
    filled = FILLS[entries[run]["objective"]["mask"]["fill"]]
    return filled if alone else f"{filled} ({run}, ...)"


def _spans(study: Study, name: str, of: list[dict[float, str]], entries: Mapping[str, Mapping[str, Any]]) -> list[Span]:
    spans: list[Span] = []
    for group in of:
        have = {value: study.of(run, name) for value, run in group.items() if study.of(run, name)}
        if len(have) < LEAST:
            continue
        times = numbers.factor(study.first(name).main.unit)
        ends = [numbers.interval(outcomes, outcomes[0].headline) for outcomes in have.values()]
        spans.append(
            Span(
                _label(group, entries, alone=len(of) == 1),
                list(have),
                [times * end.mean for end in ends],
                [times * end.low for end in ends],
                [times * end.high for end in ends],
                _colour(entries[next(iter(group.values()))], [span.colour for span in spans]),
            )
        )
    return spans
