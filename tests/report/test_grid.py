"""One table, three ways to write it."""

from __future__ import annotations

import io

from rich.console import Console

from jepa3d.report.grid import GAP, Bit, Row, cell, csv_file, grid, markdown, pieces, plain, terminal

TABLE = grid(
    ["run", cell("probe", "accuracy, %")],
    [
        Row([cell("On toys")], "section"),
        ["a|b", cell("75.0 ± 1.0", "EMA 74.0", "seed 0: 76", "best")],
        [cell("[red]"), GAP],
        ["c", (Bit("86.8 (n = 3)"), Bit("reproduced (document)", "why", mark="reproduced"))],
    ],
    " n",
)


def test_markdown_has_every_text_and_escapes_what_would_be_a_column():
    assert markdown(TABLE).splitlines() == [
        "| run | probe |",
        "| --- | --- |",
        "| On toys |  |",
        "| a\\|b | 75.0 ± 1.0 |",
        "| [red] | – |",
        "| c | 86.8 (n = 3); reproduced (document) |",
    ]


def test_the_terminal_has_the_same_texts_and_colours_for_marks():
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system="standard")
    console.print(terminal(TABLE, "Results"))
    printed = console.file.getvalue()
    for text in ("Results", "On toys", "a|b", "[red]", "86.8 (n = 3)"):
        assert text in printed
    assert "\x1b[1;32m75.0 ± 1.0" in printed  # bold green


def test_a_wide_table_is_shown_in_pieces_that_fit():
    wide = grid(["run", "aaaa", "bbbb", "cccc"], [["x", "1", "2", "3"], Row([cell("On toys")], "section")], " n")
    assert pieces(wide, 80) == [wide]
    narrow = pieces(wide, 22)
    assert [[plain(one) for one in piece.head] for piece in narrow] == [["run", "aaaa", "bbbb"], ["run", "cccc"]]
    assert [plain(one) for one in narrow[1].rows[0].cells] == ["x", "3"]
    assert narrow[1].numbers == {1}
    assert [len(piece.head) for piece in pieces(wide, 1)] == [2, 2, 2]  # one column at the least


def test_numbers_are_the_columns_that_are_said_to_be():
    assert TABLE.numbers == {1}
    assert grid("abcd", [], " n").numbers == {1, 2, 3}
    assert grid("abcd", [], " n ").numbers == {1}
    assert grid("abcd", []).numbers == set()


def test_csv_quotes_what_it_must():
    assert csv_file([["a", 'b "c", d']]) == b'a,"b ""c"", d"\n'
