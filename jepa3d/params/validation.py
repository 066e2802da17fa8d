"""What a YAML file says -> frozen, strict models. A mistake is a Problem in our words, with the key's full path."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from jepa3d import plugins, renamed
from jepa3d.problem import Mistakes, Problem, Problems, did_you_mean

NOUNS = {
    "datasets": "data set",
    "patches": "patch scheme",
    "models": "model",
    "runs": "run",
    "evals": "evaluation",
    "tasks": "task",
    "studies": "study",
}


def pick(section: Mapping[str, Any], kind: str, name: str, source: str, where: str = "") -> Any:
    """The entry of a section that is called so; an unknown name is a Problem with the nearest valid one."""
    if name not in section:
        raise Problem(
            f"{where + ': ' if where else ''}there is no {NOUNS[kind]} called '{name}'",
            f"{source} defines {', '.join(sorted(map(str, section))) or 'none'}",
            did_you_mean(str(name), section, f"add it under '{kind}:'"),
        )
    return section[name]


def plugin_config(package: ModuleType, entry: Any, where: str, source: str) -> Any:
    """The plugin's own `Config` of an entry that has a `kind`."""
    if not isinstance(entry, Mapping) or not isinstance(entry.get("kind"), str):
        raise Problem(f"{where}: needs a 'kind'", f"known: {', '.join(plugins.known(package))}", "add kind: NAME")
    plugins.check(package, entry["kind"], where)
    return validate(plugins.find(package, entry["kind"]).Config, dict(entry), where, source)


def validate(model: type[Any], data: Any, where: str, source: str) -> Any:
    """Strict validation in JSON mode (so lists are tuples, and nothing else is converted)."""
    try:
        text = json.dumps(data)
    except (TypeError, ValueError):
        raise Problem(
            f"{where or source}: a value is no plain number, text, list or mapping",
            "dates and other YAML types have no place here",
            "put quotes around it",
        ) from None
    try:
        return model.model_validate_json(text, strict=True)
    except ValidationError as error:
        mistakes = Mistakes()
        for first in error.errors():
            mistakes.add(_as_problem(first, model, where, source))
        problem = mistakes.found[0] if len(mistakes.found) == 1 else Problems(mistakes.found)
    raise problem


def _as_problem(first: ErrorDetails, model: type[Any], where: str, source: str) -> Problem:
    """One mistake of a validation, in our words, with the key's full path."""
    steps = [str(step) for step in first["loc"] if not str(step).startswith(("function-", "tuple[", "dict["))]
    key = ".".join([where, *steps] if where else steps) or source
    value = first.get("input")
    if first["type"] == "extra_forbidden":
        if (moved := renamed.moved_key(key, value)) is not None:
            return moved
        siblings = _fields_at(model, first["loc"][:-1])
        return Problem(
            f"{key}: unknown key",
            f"known here: {', '.join(siblings)}",
            did_you_mean(str(first["loc"][-1]), siblings, "remove it"),
        )
    if first["type"] == "missing":
        return Problem(f"{key}: missing", f"{source} must have it", f"add '{first['loc'][-1]}'")
    if isinstance(value, str) and _is_number(value):
        whole = first["type"].startswith("int_")
        return Problem(
            f"{key}: {value!r} is text, not a number",
            "YAML reads 1e-4 as text: a float needs a dot and a signed exponent"
            if not whole
            else "it takes a whole number, in digits",
            _number(float(value), whole),
        )
    message = (
        first["msg"].removeprefix("Value error, ").replace("an object", "a mapping").replace("a valid array", "a list")
    )
    found = f"found {value!r}"[:200] if first["loc"] else f"{source} as a whole"
    return Problem(f"{key}: {message[0].lower() + message[1:]}", found, f"correct it in {source}")


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _number(value: float, whole: bool) -> str:
    """How a number is to be written."""
    if whole:
        return f"write {int(value)}" if value.is_integer() else "write a whole number"
    return f"write {value!r}" if "e-" not in repr(value) else f"write {_yaml_float(value)}"


def _yaml_float(value: float) -> str:
    mantissa, exponent = f"{value:e}".split("e")
    mantissa = mantissa.rstrip("0")
    return f"{mantissa + '0' if mantissa.endswith('.') else mantissa}e{int(exponent):+d}"


def _fields_at(model: Any, loc: tuple[int | str, ...]) -> list[str]:
    """The valid keys of the nested model that an error's path leads to."""
    for step in loc:
        fields = getattr(model, "model_fields", {})
        if step in fields:
            model = fields[step].annotation
        model = next((m for m in _models_in(model)), model)
    return [name for name in getattr(model, "model_fields", {}) if name != "source"]


def _models_in(annotation: Any) -> list[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models_in(part)]
