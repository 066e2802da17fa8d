"""Imports that no tool for the floors can see: by a string."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "jepa3d"
ALLOWED = {"importlib.metadata", "importlib.resources", "importlib.util"}  # what is installed, and its files
IMPORTERS = {"__import__", "import_module", "exec_module", "module_from_spec", "spec_from_file_location", "load_module"}
RUNNERS = {"exec", "eval", "compile"}
MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


def hidden_imports(source: str) -> list[str]:
    """Calls of importlib and __import__, and texts that are code with an import of this package."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names):
                found += [name.name for name in names if is_importer(name.name)]
            case ast.ImportFrom(module=str(module), names=names):
                found += [name for name in (f"{module}.{name.name}" for name in names) if is_importer(name)]
            case ast.Name(name) | ast.Attribute(attr=name) if name in IMPORTERS:
                found.append(name)
            case ast.Call(func=ast.Name(name)) if name in RUNNERS:
                found.append(name)
            case ast.Constant(str(text)) if is_code(text):
                found.append(text)
    return found


def is_importer(name: str) -> bool:
    return name.partition(".")[0] in ("importlib", "runpy") and name not in ALLOWED


def is_code(text: str) -> bool:
    """Whether a text is Python that imports something: what is handed to `python -c`."""
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except (SyntaxError, ValueError):
        return False
    return any(isinstance(node, ast.Import | ast.ImportFrom) for node in nodes)


@pytest.mark.parametrize("module", MODULES)
def test_no_module_but_that_of_the_plugins_imports_by_a_string(module: str):
    found = hidden_imports((PACKAGE / module).read_text(encoding="utf-8"))
    assert (module == "plugins.py") == bool(found), found


@pytest.mark.parametrize(
    "source",
    [
        "import importlib\nimportlib.import_module('jepa3d.cli')",
        "from importlib import import_module",
        "__import__('jepa3d.cli')",
        "subprocess.run([sys.executable, '-c', 'from jepa3d.cli import main; main()'])",
        "code = 'import sys; import jepa3d.cli'",
        "import runpy",
    ],
)
def test_an_import_by_a_string_is_seen(source: str):
    assert hidden_imports(source)


def test_what_reads_the_names_of_packages_is_no_import():
    assert hidden_imports("from importlib import metadata\nmetadata.version('torch')") == []
