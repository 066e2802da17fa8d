"""What the page is made of travels with the package."""

from __future__ import annotations

import tomllib
from pathlib import Path

from jepa3d import report

ROOT = Path(__file__).parents[2]


def test_every_file_beside_the_code_is_packaged():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"][
        "jepa3d.report"
    ]
    folder = Path(report.__file__).parent
    files = {path.name for path in folder.iterdir() if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert {"published.yaml", "style.css", "view.js", "index.html.j2"} <= files
    assert files == {path.name for pattern in patterns for path in folder.glob(pattern)}
