"""The one exception that is raised at users: what is wrong, why, and how to mend it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager


class Problem(Exception):
    """A mistake that the user can mend. Printed as three lines, without a traceback; exit code 2."""

    def __init__(self, what: str, why: str = "", mend: str = "") -> None:
        super().__init__(what, why, mend)  # all three in args, so that the exception survives pickling
        self.what, self.why, self.mend = what, why, mend

    def __str__(self) -> str:
        return "\n  ".join(line for line in (self.what, self.why, self.mend) if line)


class Problems(Problem):
    """Several mistakes at once; what, why and mend are those of the first."""

    SHOWN = 20

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(problems[0].what, problems[0].why, problems[0].mend)
        self.problems = tuple(problems)

    def __reduce__(self) -> tuple[type[Problems], tuple[Sequence[Problem]]]:
        return Problems, (self.problems,)

    def __str__(self) -> str:
        left = len(self.problems) - self.SHOWN
        return "\n".join(map(str, self.problems[: self.SHOWN])) + (f"\nand {left} more mistakes" if left > 0 else "")


class Mistakes:
    """Collects Problems, so that all of them are shown at once."""

    def __init__(self) -> None:
        self.found: list[Problem] = []

    def add(self, problem: Problem) -> None:
        for one in problem.problems if isinstance(problem, Problems) else (problem,):
            if str(one) not in map(str, self.found):
                self.found.append(one)

    @contextmanager
    def collected(self) -> Iterator[None]:
        """What is a Problem within is kept, and what follows goes on."""
        try:
            yield
        except Problem as problem:
            self.add(problem)

    def raise_any(self) -> None:
        if self.found:
            raise self.found[0] if len(self.found) == 1 else Problems(self.found)


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """The `mend` line for a misspelt name: the nearest valid one, or `otherwise`."""
    near = difflib.get_close_matches(name, [str(k) for k in known], n=1, cutoff=0.5)
    return f"did you mean '{near[0]}'?" if near else otherwise
