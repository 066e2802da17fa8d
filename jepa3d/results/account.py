"""What a data set came to, in lines: classes, shapes per class and split, where the split came from, what was left out.

`convert` prints it of the audit that it wrote, `doctor` of what is expected before the files are read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

SPLITS = ("train", "test")
REASONS = 5  # different reasons that are shown, each with its first shape


def page(audit: Mapping[str, Any]) -> list[str]:
    """The lines under the data set's name. `audit` is the content of `<dataset>.audit.json`."""
    title = f"{audit['dataset']}: {audit['shapes']:,} shapes of {audit['points']:,} points"
    rows = [(what, finding) for what, finding in (*counts(audit), *origin(audit), *left_out(audit))]
    wide = max(len(what) for what, _ in rows)
    return [title, *(f"  {what:<{wide}}  {finding}" for what, finding in rows)]


def counts(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Shapes per split and per class."""
    yield "splits", ", ".join(f"{split} {found['splits'][split]:,}" for split in SPLITS)
    yield "classes", f"{len(found['classes']):,}" if found["classes"] else "none: nothing is labelled"
    for name, of in found["classes"].items():
        yield f"  {name}", ", ".join(f"{split} {of[split]:,}" for split in SPLITS)
    if found["unlabelled"] and found["classes"]:
        yield "  unlabelled", f"{found['unlabelled']:,}"


def in_one_line(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The same, short: the classes in one line, each with train + test."""
    per_class = ", ".join(f"{name} {of['train']:,} + {of['test']:,}" for name, of in found["classes"].items())
    yield "splits", ", ".join(f"{split} {found['splits'][split]:,}" for split in SPLITS)
    yield "classes", f"{len(found['classes']):,} (train + test): {per_class}" if per_class else "none"


def origin(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Where the split came from, and what was no shape."""
    yield "split from", found["split_from"]
    if passed := found.get("passed_over"):
        yield "passed over", ", ".join(_files(kind, count) for kind, count in passed.items())
    for key, what in (("in_both_splits", "in train and test"), ("in_two_classes", "in two classes")):
        repeated = (found.get("findings") or found).get(key)
        if repeated and repeated["contents"]:
            first = ", ".join(repeated["first"][0][:2])
            yield (
                "REPEATED",
                f"{repeated['contents']:,} contents are {what}, byte for byte: {first}"
                + (" ..." if repeated["shapes"] > 2 else ""),
            )


def left_out(audit: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Points without coordinates, and the shapes that were set aside, by reason."""
    if missing := audit.get("without_coordinates"):
        shapes, first = f"{len(missing):,} shapes", next(iter(missing))
        yield "left out", f"{sum(missing.values()):,} points without coordinates (NaN), of {shapes} such as {first}"
    aside = audit["set_aside"]
    if not aside:
        yield "set aside", "none"
        return
    yield "set aside", f"{len(aside):,}, each with its reason in the audit"
    reasons = Counter(entry["why"] for entry in aside)
    for why, count in reasons.most_common(REASONS):
        first = next(entry["id"] for entry in aside if entry["why"] == why)
        yield "", f"{count:,} such as {first}: {why}"[:300]
    if len(reasons) > REASONS:
        yield "", f"and {len(reasons) - REASONS:,} other reasons"


def _files(kind: str, count: int) -> str:
    return f"{kind} is empty" if kind.endswith("/") else f"{count:,} {kind}"
