"""The JSON schema of params.yaml, by which editors complete keys, show what they mean and mark mistakes.

It is made of the models that check the file. Nothing is required in it: an entry may take anything over from its
`base:`, a file from what it `extends:`. What is missing, and what contradicts what, the program says.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from jepa3d import plugins
from jepa3d.params.execution import ExecutionSection
from jepa3d.params.models import Eval, Run, Scheme
from jepa3d.params.study import Params, Study

Schema = dict[str, Any]
NAME: Schema = {"type": "string"}
NAMES: Schema = {"anyOf": [NAME, {"type": "array", "items": NAME, "minItems": 1}]}
BASE: Schema = {"type": "string", "description": "another entry of this section, whose keys this one takes over"}


def schema(packages: dict[str, ModuleType]) -> Schema:
    """The schema, given the package of plugins of each section, of `objective` and of `loggers`."""
    kinds = {
        section: {kind: plugins.find(package, kind).Config for kind in plugins.known(package)}
        for section, package in packages.items()
    }
    models: list[type[BaseModel]] = [Params, Study, Scheme, Run, Eval, ExecutionSection]
    models += [config for configs in kinds.values() for config in configs.values()]
    made, whole = models_json_schema([(one, "validation") for one in models], ref_template="#/$defs/{model}")
    definitions: Schema = {name: _lenient(one) for name, one in whole["$defs"].items()}
    where = {one: made[one, "validation"]["$ref"].rpartition("/")[2] for one in models}

    def entries(of: Schema) -> Schema:
        return {"type": "object", "additionalProperties": of}

    def plugin(section: str, default: str | None = None) -> Schema:
        """One of the kinds; without a `kind`, which may come from the base, keys are not checked."""
        names = {kind: where[config] for kind, config in kinds[section].items()}
        known: Schema = {"enum": list(names)} | ({"default": default} if default else {})
        return {
            "type": "object",
            "properties": {"kind": known},
            "allOf": [
                {"if": _is(kind, kind == default), "then": {"$ref": f"#/$defs/{name}"}} for kind, name in names.items()
            ],
        }

    plugged = [config for section in kinds if section != "loggers" for config in kinds[section].values()]
    for name in {where[one] for one in (Study, Scheme, Run, Eval, *plugged)}:
        definitions[name]["properties"] |= {"base": BASE}
    for kind, config in kinds["objective"].items():
        if plugins.find(packages["objective"], kind).READS is not None:
            definitions[where[config]]["properties"] |= {"reads": READS}
    run, evaluation = definitions[where[Run]]["properties"], definitions[where[Eval]]["properties"]
    run |= {"objective": plugin("objective"), "data": NAMES, "sweep": SWEEP}
    evaluation |= {"task": {"anyOf": [NAMES, plugin("tasks")]}, "name": PATTERN}
    evaluation["dataset"] = {"anyOf": [NAMES, {"type": "object", "additionalProperties": NAME}]}
    for definition in definitions.values():
        properties = definition.get("properties", {})
        if "seeds" in properties:  # a study, or one of its further grids
            properties |= {"runs": NAMES, "evals": NAMES}
        if "loggers" in properties:
            one = {"anyOf": [{"enum": list(kinds["loggers"])}, plugin("loggers")]}
            properties["loggers"] |= {"anyOf": [{"type": "array", "items": one}, {"type": "null"}]}
    sections: Schema = {
        "study": {"type": "string", "description": "what `all` builds: one of the studies"},
        "extends": {"type": "string", "description": "another params.yaml, which this one lies over"},
        "studies": entries({"$ref": f"#/$defs/{where[Study]}"}),
        "datasets": entries(plugin("datasets")),
        "patches": entries({"$ref": f"#/$defs/{where[Scheme]}"}),
        "models": entries(plugin("models", "transformer")),
        "tasks": entries(plugin("tasks")),
        "runs": entries({"$ref": f"#/$defs/{where[Run]}"}),
        "evals": entries({"$ref": f"#/$defs/{where[Eval]}"}),
        "execution": {"$ref": f"#/$defs/{where[ExecutionSection]}"},
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "params.yaml of jepa3d",
        "type": "object",
        "properties": sections,
        "additionalProperties": False,
        "$defs": {name: one for name, one in sorted(definitions.items()) if name != where[Params]},
    }


READS: Schema = {"type": "string", "description": "the run of the first stage that this objective reads"}
SWEEP: Schema = {
    "type": "object",
    "description": "a run for each value of a key, as objective.mask.blocks; several keys are crossed",
    "additionalProperties": {
        "anyOf": [
            {"type": "array", "minItems": 1, "items": {"not": {"type": "object"}}},
            {"type": "object", "minProperties": 1, "description": "labels for the names, and their values"},
        ]
    },
}
PATTERN: Schema = {
    "type": "string",
    "description": "how the members of a crossing are called; {task}_{dataset} where it is left away",
    "pattern": r"^([A-Za-z0-9_-]|\{task\}|\{dataset\})+$",
}


def _is(kind: str, default: bool) -> Schema:
    """An entry of a kind; of the default one also where it says none, and has no base that may."""
    says: Schema = {"properties": {"kind": {"const": kind}}, "required": ["kind"]}
    silent: Schema = {"not": {"anyOf": [{"required": ["kind"]}, {"required": ["base"]}]}}
    return {"anyOf": [says, silent]} if default else says


def _lenient(definition: Schema) -> Schema:
    """A model's schema in which nothing is required."""
    return {key: value for key, value in definition.items() if key not in ("required", "title")} | (
        {"properties": {name: _untitled(one) for name, one in definition["properties"].items()}}
        if "properties" in definition
        else {}
    )


def _untitled(schema: Schema) -> Schema:
    return {key: value for key, value in schema.items() if key != "title"}
