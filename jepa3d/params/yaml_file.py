"""params.yaml as plain mappings: safe, and no key twice."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from jepa3d.problem import Problem


class _UniqueKeys(yaml.SafeLoader):
    """YAML that refuses a key written twice, which PyYAML silently lets the last one win."""


def _mapping(loader: _UniqueKeys, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":  # `<<`, which has no value of its own
            continue
        key = loader.construct_object(key_node, deep=True)  # type: ignore[no-untyped-call]
        if not isinstance(key, Hashable):
            continue  # construct_mapping refuses it in its own words
        if key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"the key '{key}' stands twice", key_node.start_mark)
        seen.add(key)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_UniqueKeys.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read(path: Path) -> dict[str, Any]:
    try:
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
        data = yaml.load(text, Loader=_UniqueKeys)  # a SafeLoader
    except yaml.YAMLError as error:
        raise Problem(f"{path}: not valid YAML", " ".join(str(error).split()), "mend the line that is named") from None
    if not isinstance(data, dict):
        raise Problem(f"{path}: not a mapping", "the file must have sections such as study and runs", "see the README")
    return data
