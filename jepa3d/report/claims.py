"""The ledger of claims: claims.yaml held against the chosen study. It is what the report shows first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml

from jepa3d.ops.statistics import LEVEL, Difference, holm
from jepa3d.params import FrozenModel, Params, slice_of
from jepa3d.report import paired
from jepa3d.report.study import Study
from jepa3d.report.tables import run_entries
from jepa3d.results.finding import SHARE

Word = Literal["supported", "contradicted", "not decided", "not run"]
WORDS: tuple[Word, ...] = ("supported", "contradicted", "not decided", "not run")
Keys = dict[str, Any]  # dotted keys of an entry of params.yaml -> values
ASIDE = ("about", "monitor", "data")  # of a run: what does not change its encoder, and `names` has more exactly


class Claim(FrozenModel):
    """One claim as it was written down before it was tested; claims.yaml says what each field means."""

    name: str
    title: str
    source: str
    hypothesis: str
    supports: str
    contradicts: str
    a: Keys
    b: Keys
    same: Literal["all"] | tuple[str, ...]
    at_least: float = 0.0
    evidence: tuple[Keys, ...]
    than: tuple[Keys, ...] = ()


class _File(FrozenModel):
    runs: dict[str, Keys]
    evaluations: dict[str, tuple[Keys, ...]]
    claims: tuple[Claim, ...]


_FILE = _File.model_validate(yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8")))
CLAIMS: tuple[Claim, ...] = _FILE.claims
RUNS: dict[str, Keys] = _FILE.runs


class Line(NamedTuple):
    """One piece of evidence: a pair of runs under one evaluation, in points of percent; a gap names two evaluations."""

    evaluation: str
    a: str
    b: str
    difference: Difference
    corrected: float | None  # p after Holm's correction over all lines that decide; None: it decides nothing
    decides: bool  # of the first kind of evaluation that the study has for this pair
    against: float = 0.0  # the difference that p asks about

    def word(self, at_least: float) -> Word:
        """What this line alone says. Without a second seed it says nothing."""
        if not self.decides or self.corrected is None or self.corrected >= LEVEL:
            return "not decided"
        return "supported" if self.difference.mean > at_least else "contradicted"

    @property
    def text(self) -> str:
        of = self.difference
        ends = (of.low, of.high) if of.seeds > 1 else None
        return evidence(
            self.a, self.b, self.evaluation, of.mean, ends, self.corrected, self.against, of.seeds, of.shapes
        )


def evidence(
    a: str,
    b: str,
    evaluation: str,
    points: float,
    ends: tuple[float, float] | None,
    p: float | None,
    against: float,
    seeds: int,
    shapes: int,
) -> str:
    """A difference in points of percent, its interval and its test, in words."""
    apart = f"{a} − {b} on {evaluation}: {points:+.1f} points"
    if seeds == 1 or ends is None:
        return f"{apart} with one seed, which decides nothing"
    asked = f" against {against:+g}" if against else ""
    tested = "" if p is None else f", p = {p:.2g}{asked}"
    of = f", {shapes:,} test shapes" if shapes else ""
    return f"{apart} (95 %: {ends[0]:+.1f} to {ends[1]:+.1f}{tested}; {seeds} seeds{of})"


class Judged(NamedTuple):
    """A claim and what the study says about it."""

    claim: Claim
    word: Word
    lines: tuple[Line, ...]  # those that decide first; () where nothing was run


def ledger(params: Params, study: Study) -> list[Judged]:
    """Every claim with the verdict of the study.

    `supported` or `contradicted`: at least one deciding line says so after Holm's correction over all deciding lines of
    the ledger, and none says the contrary. `not run`: the study has no pair of runs for it under any evaluation that
    counts. A single seed decides nothing.
    """
    found = [(claim, lines(params, study, claim)) for claim in CLAIMS]
    family = [
        (number, place, line.difference.p)
        for number, (_, of) in enumerate(found)
        for place, line in enumerate(of)
        if line.decides and line.difference.p is not None
    ]
    for (number, place, _), corrected in zip(family, holm([p for *_, p in family]), strict=True):
        found[number][1][place] = found[number][1][place]._replace(corrected=corrected)
    return [Judged(claim, _word(claim, of), tuple(of)) for claim, of in found]


def _word(claim: Claim, of: Sequence[Line]) -> Word:
    said = {line.word(claim.at_least) for line in of if line.decides} - {"not decided"}
    if not of:
        return "not run"
    return said.pop() if len(said) == 1 else "not decided"


def lines(params: Params, study: Study, claim: Claim) -> list[Line]:
    """All evidence on a claim, what decides first."""
    found = []
    for a, b in run_pairs(params, study, claim):
        both = [name for name in study.outcomes[a] if _comparable(study, a, b, name)]
        ranked = [name for keys in claim.evidence for name in both if fits(params, name, keys)]
        for place, name in enumerate(dict.fromkeys(ranked)):
            apart = paired.difference(
                study.outcomes[a][name], study.outcomes[b][name], study.first(name).headline, claim.at_least / 100
            )
            if claim.than:
                other = next((one for keys in claim.than for one in both if fits(params, one, keys)), None)
                if other is None:
                    continue
                apart = paired.gap(study, a, b, name, other, claim.at_least / 100)
                name = f"{name} against {other}"
            found.append(Line(name, a, b, _in_points(apart), None, place == 0, claim.at_least))
    return sorted(found, key=lambda line: not line.decides)


def _comparable(study: Study, a: str, b: str, name: str) -> bool:
    seeds = set(study.outcomes[a][name]) & set(study.outcomes[b].get(name, {}))
    return bool(seeds) and study.first(name).main.unit == SHARE


def _in_points(of: Difference) -> Difference:
    return of._replace(mean=100 * of.mean, low=100 * of.low, high=100 * of.high)


def run_pairs(params: Params, study: Study, claim: Claim) -> list[tuple[str, str]]:
    """The pairs of runs of the study that the claim is about."""
    entries = {
        run: {**entry, "names": list(params.runs[run].data)} for run, entry in run_entries(params, study).items()
    }
    return [
        (a, b)
        for a in study.runs
        for b in study.runs
        if a != b and has(entries[a], claim.a) and has(entries[b], claim.b) and equal(claim, entries[a], entries[b])
    ]


def equal(claim: Claim, a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether two runs are equal in all that the claim wants equal."""
    if claim.same != "all":
        return has(b, {key: value_of(a, key) for key in claim.same})
    first, second = flat(a), flat(b)
    return all(first.get(key) == second.get(key) for key in {*first, *second} - set(claim.b) if _counts(key))


def _counts(key: str) -> bool:
    return key.split(".")[0] not in ASIDE


def value_of(entry: Mapping[str, Any], key: str) -> Any:
    """A dotted key's value; None where it is not there."""
    value: Any = entry
    for step in key.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def has(entry: Mapping[str, Any], keys: Mapping[str, Any]) -> bool:
    """Whether an entry has these values at these dotted keys; its other keys do not matter."""
    return all(value_of(entry, key) == value for key, value in keys.items())


def flat(entry: Mapping[str, Any], before: str = "") -> Keys:
    """An entry as dotted keys."""
    found: Keys = {}
    for key, value in entry.items():
        found |= flat(value, f"{before}{key}.") if isinstance(value, Mapping) else {before + key: value}
    return found


def fits(params: Params, name: str, keys: Keys) -> bool:
    """Whether an evaluation's data set and task are of a kind."""
    entry = params.evals[name]
    return has({"dataset": slice_of(params.dataset(entry.dataset)), "task": entry.task}, keys)
