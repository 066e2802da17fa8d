"""The one exception that is raised at users: what is wrong, why, and how to mend it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class Problem(Exception):
    """A mistake that the user can mend. Printed as three lines, without a traceback; exit code 2."""

    def __init__(self, what: str, why: str = "", mend: str = "") -> None:
        super().__init__(what, why, mend)  # all three in args, so that the exception survives pickling
        self.what, self.why, self.mend = what, why, mend

    def __str__(self) -> str:
        return "\n  ".join(line for line in (self.what, self.why, self.mend) if line)


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """The `mend` line for a misspelt name: the nearest valid one, or `otherwise`."""
    near = difflib.get_close_matches(name, [str(k) for k in known], n=1, cutoff=0.5)
    return f"did you mean '{near[0]}'?" if near else otherwise
