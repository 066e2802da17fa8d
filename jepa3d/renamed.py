"""What had another name or place before: whoever still uses the old one is told the new one, and nothing is guessed.

Floor 0. A line stays until nobody can have a file with the old name any more.
"""

from __future__ import annotations

from jepa3d.problem import Problem

KINDS = {"scratch": "random_init", "hand_made": "handcrafted"}  # of objectives, and of the files of their encoders

# The end of a key's path in params.yaml -> the key of `execution:` that it is now.
EXECUTION = {
    "fit.checkpoint_every": "checkpoint_every",
    "fit.log_every": "log_every",
    "fit.memory_gb": "memory_gb",
    "fit.compile": "compile",
    "monitor.every": "monitor_every",
}
GONE = {"fit.lanes": "they follow from fit.batch: remove it, and say 'stream: true' for a set that no memory holds"}


def refuse_kind(kind: str, where: str, mend: str = "") -> None:
    """Raise a Problem for a kind that has another name now. `where` opens the first line: a key or a file."""
    if kind in KINDS:
        raise Problem(
            f"{where}: '{kind}' is called '{KINDS[kind]}' now",
            "the names are those of the field",
            mend or f"write '{KINDS[kind]}'",
        )


def moved_key(key: str, value: object) -> Problem | None:
    """The Problem of a key of params.yaml that has another place now; None for any other key."""
    last = ".".join(key.split(".")[-2:])
    if last in GONE:
        return Problem(f"{key}: is gone", GONE[last], "remove it")
    if last not in EXECUTION:
        return None
    section, _, name = key.rpartition(f".{last}")[0].partition(".")
    own = f"{EXECUTION[last]}: {value}"
    one = f"{{{section}: {{{name.removesuffix('.task')}: {{{own}}}}}}}"
    return Problem(
        f"{key}: is execution.{EXECUTION[last]} now",
        "how a training is carried out changes no result, and has a section of its own",
        f"write 'execution: {{{own}}}' for all, or 'execution: {one}' for this one",
    )
