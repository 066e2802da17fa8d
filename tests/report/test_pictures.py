"""Pictures as parts of the page and as files."""

from __future__ import annotations

import re
import struct
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from jepa3d.report import pictures
from jepa3d.report.pictures import Dots, Line, Panel

DOTS = pictures.dot_plot("probe", [Dots("a<b", [1.0, 3.0], 2.0, 1.4, True), Dots("c", [2.0], 2.0, 0.0, False)], "%")
LINES = pictures.line_chart(
    "loss", [Line('"one"', [0, 5], [4.0, 3.0]), Line("two", [0, 5], [5.0, 6.0], 1, True)], 5, True
)
POINTS = np.array([[0.0, 0], [1, 1], [2, 0]])
MAP = pictures.scatter("map", POINTS, np.array([1, 0, -1]), ("x", "y"), ["of y", "of x & co", "of none"])
MATRIX = pictures.confusion("matrix", np.array([[3, 1], [0, 4]]), ("x", "y"))
CLOUD = pictures.cloud(pictures.Cloud("cloud", np.eye(3), ("#ff0000", "#00ff00", "#0000ff")))


@pytest.mark.parametrize("panel", [DOTS, LINES, MAP, MATRIX, CLOUD], ids=lambda panel: panel.title)
def test_a_picture_is_well_formed_and_leaves_the_rest_of_the_page_alone(panel: Panel):
    drawn = str(pictures.svg(panel))
    found = ElementTree.fromstring(drawn.replace("<svg ", '<svg xmlns:xlink="x" ', 1))
    assert found.attrib["aria-label"] == panel.title
    assert "<style" not in drawn  # it would be the whole page's
    assert "font-family" not in drawn  # the page's own
    named = set(re.findall(r'id="([^"]*)"', drawn))
    assert all(f"#{name}" in drawn for name in named)  # an id that nobody refers to would be there many times
    assert pictures.svg(panel) == drawn


def test_no_two_pictures_share_an_id():
    one, two = (set(re.findall(r'id="([^"]*)"', pictures.svg(LINES._replace(title=title)))) for title in "ab")
    assert one
    assert not one & two


def test_colours_of_the_page_are_its_variables_and_those_of_a_file_are_not():
    drawn = str(pictures.svg(DOTS))
    assert "var(--good)" in drawn
    assert pictures.ACCENT not in drawn
    whole = pictures.file([DOTS], 1, "svg").decode()
    assert pictures.ACCENT in whole
    assert "var(" not in whole


def test_the_variables_are_the_pages_light_colours():
    style = Path(pictures.__file__).with_name("style.css").read_text(encoding="utf-8")
    light = style.partition("@media")[0]
    assert [name for colour, name in pictures.VARIABLES.items() if f"--{name}: {colour};" not in light] == []


def test_what_a_mark_says_on_hovering():
    titles = re.findall("<title>(.*?)</title>", str(pictures.svg(DOTS)))
    assert "a&lt;b: 2 ± 1.4 %; 1, 3" in titles
    assert '"one": ends at 3' in re.findall("<title>(.*?)</title>", str(pictures.svg(LINES)))
    assert "x taken for y: 1 (25 % of x)" in str(pictures.svg(MATRIX))


def test_every_point_of_a_map_says_what_it_is():
    """Drawn class after class: the unlabelled one first."""
    drawn = str(pictures.svg(MAP))
    points = re.findall(r"<use [^>]*fill: ([^;\"]*)[^>]*><title>([^<]*)</title>", drawn)
    assert points == [
        (pictures.UNLABELLED, "of none"),
        (pictures.COLOURS[0], "of x &amp; co"),
        (pictures.COLOURS[1], "of y"),
    ]


def test_files_put_panels_side_by_side():
    def size(data: bytes) -> tuple[int, ...]:
        assert data.startswith(b"\x89PNG")
        return struct.unpack(">II", data[16:24])

    one, row, column = (size(pictures.file([LINES] * count, across)) for count, across in ((1, 4), (2, 4), (2, 1)))
    assert row == (pytest.approx(2 * one[0], abs=2), one[1])
    assert column == (one[0], pytest.approx(2 * one[1], abs=2))
    assert pictures.file([LINES, MAP], 2) == pictures.file([LINES, MAP], 2)


def test_colours_of_up_to_twenty_classes_differ():
    assert len({pictures.colour(index, 20) for index in range(20)}) == 20
    assert len({pictures.colour(index, 55) for index in range(55)}) > 50
