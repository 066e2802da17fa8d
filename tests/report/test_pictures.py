"""Pictures as parts of the page and as files."""

from __future__ import annotations

import re
import struct
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from jepa3d.report import maps, pictures
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


def test_up_to_sixty_classes_look_different():
    for count in (2, 20, 60):
        assert len({pictures.class_look(index, count) for index in range(count)}) == count
    assert len({pictures.class_look(index, 90)[0] for index in range(90)}) > 80  # by colour alone
    for _, marker, shape in (pictures.class_look(index, 60) for index in range(60)):
        assert pictures.SHAPES.index(shape) == pictures.MARKERS.index(marker)
    style = Path(pictures.__file__).with_name("style.css").read_text(encoding="utf-8")
    assert [shape for shape in pictures.SHAPES[1:] if f".legend i.{shape} " not in style] == []


def test_a_dot_plot_says_each_mean():
    assert ">2.0</text>" in str(pictures.svg(DOTS))


def test_a_file_has_a_key_to_its_colours():
    plain = pictures.file([CLOUD], 1, "svg")
    keyed = pictures.file([CLOUD], 1, "svg", key={"context": "#8796ab"})
    assert b"8796ab" in keyed
    assert b"8796ab" not in plain


def test_maps_are_turned_to_lie_on_the_first():
    """Two runs whose features are the same but for a reflection give the same picture."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(40, 3)) * (5, 2, 0.1)
    label, ids = np.arange(40) % 2, np.array([f"s{row}" for row in range(40)])
    study = SimpleNamespace(embeddings={
        "a": SimpleNamespace(features=features, label=label, ids=ids, classes=("x", "y")),
        "b": SimpleNamespace(features=features[:, ::-1] * (1, -1, 1), label=label, ids=ids, classes=("x", "y")),
    })  # fmt: skip
    one, two = (
        re.findall(r"<use [^>]*x=\"([\d.]+)\" y=\"([\d.]+)\"", str(pictures.svg(of.panel))) for of in maps.maps(study)
    )  # type: ignore[arg-type]
    assert len(one) == 40
    assert np.allclose(np.array(one, float), np.array(two, float), atol=0.2)
