"""A YAML file as plain mappings: what every reader of it would understand alike, and bounded.

PyYAML reads YAML 1.1, in which 4:00:00 is 14400 (base 60), 010 is 8 (octal) and 2024-01-01 is a date; the last of two
equal keys wins; and 300 bytes of aliases unfold into gigabytes. All of that is refused by name here.
"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from jepa3d.problem import Problem

DEPTH = 60  # of mappings and lists in each other; params.yaml has about 8
NODES = 200_000  # values of a file, those behind aliases counted each time
SIZE = 4 << 20  # bytes
LARGEST = 1 << 63  # of whole numbers
_TAG = "tag:yaml.org,2002:"
_PLAIN = {_TAG + name for name in ("str", "int", "float", "bool", "null", "map", "seq")}


class _Strict(yaml.SafeLoader):
    """YAML in which nothing is read otherwise than it looks."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.depth += 1
        if self.depth > DEPTH:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, f"more than {DEPTH} levels deep", mark)
        node: yaml.Node | None = super().compose_node(parent, index)  # type: ignore[no-untyped-call]
        self.depth -= 1
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)  # type: ignore[no-untyped-call]
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError) as error:
            raise _refusal(node, f"cannot be read as {node.tag.removeprefix(_TAG)}: {error}") from None


def _refusal(node: yaml.Node, what: str) -> yaml.constructor.ConstructorError:
    shown = repr(node.value)[:60] if isinstance(node, yaml.ScalarNode) else "this mapping or list"
    return yaml.constructor.ConstructorError(None, None, f"{shown} {what}", node.start_mark)


def _mapping(loader: _Strict, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        if key_node.tag == _TAG + "merge":  # `<<`, which has no value of its own
            continue
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, Hashable):
            continue  # construct_mapping refuses it in its own words
        if key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"the key '{key}' stands twice", key_node.start_mark)
        seen.add(key)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


def _int(loader: _Strict, node: yaml.ScalarNode) -> int:
    text = node.value.lstrip("+-").replace("_", "")
    if ":" in text:
        raise _base_60(node)
    if len(text) > 1 and text[0] == "0" and text.isdecimal():
        either = " or ".join(dict.fromkeys((str(int(text)), str(int(text, 8)))))
        raise _refusal(node, f"has a leading 0, which is octal in YAML, {int(text, 8)}: write {either}")
    if len(text) > 20 or abs(number := int(loader.construct_yaml_int(node))) >= LARGEST:  # type: ignore[no-untyped-call]
        raise _refusal(node, "is no number that anything here can count to")
    return number


def _float(loader: _Strict, node: yaml.ScalarNode) -> float:
    if ":" in node.value:
        raise _base_60(node)
    return float(loader.construct_yaml_float(node))  # type: ignore[no-untyped-call]


def _base_60(node: yaml.ScalarNode) -> yaml.constructor.ConstructorError:
    value = 0.0
    for digits in node.value.lstrip("+-").replace("_", "").split(":"):
        value = 60 * value + float(digits)
    value = -value if node.value.startswith("-") else value
    return _refusal(
        node, f"is {value:g} in YAML, which reads colons as base 60: write the number, or put quotes around it"
    )


def _date(loader: _Strict, node: yaml.ScalarNode) -> str:
    raise _refusal(node, "is a date in YAML, and dates have no place here: put quotes around it")


for _name, _constructor in (("map", _mapping), ("int", _int), ("float", _float), ("timestamp", _date)):
    _Strict.add_constructor(_TAG + _name, _constructor)


def read(path: Path) -> dict[str, Any]:
    """The mapping of a file. Every mistake is a Problem that names the line."""
    try:
        if path.stat().st_size > SIZE:
            what = f"{path}: larger than {SIZE >> 20} MB"
            raise Problem(what, "no file of parameters is", "look for a slip in the path")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise Problem(
            f"{path}: no such file",
            "every verb reads its parameters there",
            "run in the project's folder, or --params FILE",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise Problem(f"{path}: cannot be read", str(error), "it must be a UTF-8 text file") from None
    try:
        loader = _Strict(text)
        loader.name = path.name
        node = loader.get_single_node()  # type: ignore[no-untyped-call]
        if node is not None:
            _check_size(node)
        data = None if node is None else loader.construct_document(node)  # type: ignore[no-untyped-call]
    except yaml.YAMLError as error:
        raise Problem(f"{path}: not valid YAML", " ".join(str(error).split()), "mend the line that is named") from None
    if not isinstance(data, dict):
        raise Problem(f"{path}: not a mapping", "the file must have sections such as study and runs", "see the README")
    return data


def _check_size(root: yaml.Node) -> None:
    """Count the values with those behind aliases, each time that they are named; and refuse tags of other types."""
    sizes: dict[int, int] = {}

    def size(node: yaml.Node) -> int:
        if id(node) not in sizes:
            sizes[id(node)] = NODES + 1  # what is within itself never ends
            if node.tag not in _PLAIN | {_TAG + "merge", _TAG + "timestamp", _TAG + "value"}:
                raise _refusal(node, f"has the tag {node.tag.removeprefix(_TAG)}, which has no place here")
            within = node.value if isinstance(node, yaml.CollectionNode) else []
            pairs = within if isinstance(node, yaml.MappingNode) else [within]
            sizes[id(node)] = 1 + sum(size(child) for pair in pairs for child in pair)
        if sizes[id(node)] > NODES:
            raise yaml.constructor.ConstructorError(
                None, None, f"with its aliases it has more than {NODES:,} values", node.start_mark
            )
        return sizes[id(node)]

    size(root)
