"""The published numbers are data: complete, each with a source and a protocol, and never mixed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from jepa3d.report import published
from jepa3d.report.published import ABSTRACT, BENCHMARKS, DOCUMENT, OURS, SCRATCH, Published


def row_of(method: str, benchmark: str, source: str) -> Published:
    (found,) = (row for row in published.ALL if (row.method, row.benchmark, row.source) == (method, benchmark, source))
    return found


def _value(method: str, benchmark: str, source: str) -> float:
    return row_of(method, benchmark, source).value


def test_the_documents_claim_and_the_papers_abstract_stay_apart():
    assert _value(OURS, "pb_t50_rs", DOCUMENT) == 86.8
    assert _value(OURS, "pb_t50_rs", ABSTRACT) == 88.65


def test_the_abstract_gives_exactly_one_number():
    assert [row.benchmark for row in published.ALL if row.source == ABSTRACT] == ["pb_t50_rs"]


def test_every_number_is_a_percentage_of_a_known_benchmark_with_a_source():
    for row in published.ALL:
        assert 50 < row.value < 100
        assert row.benchmark in BENCHMARKS
        assert row.source in (DOCUMENT, ABSTRACT, "quoting Point-BERT", "secondary") or row.source.startswith(
            "README of "
        )


def test_every_number_of_the_file_is_a_row_once():
    """None is lost to a key that is written twice."""
    text = Path(published.__file__).with_suffix(".yaml").read_text(encoding="utf-8")
    numbers = text[text.index("\nnumbers:") : text.index("\nablations:")]
    written = re.findall(r"\b(\w+):\s+\[?\d+\.\d+", numbers)
    assert len(written) == len(published.ALL) > 100
    assert set(written) <= set(BENCHMARKS)


def test_every_benchmark_has_numbers_and_names_its_protocol():
    for name, benchmark in BENCHMARKS.items():
        assert published.of(name)
        assert benchmark.protocol


def test_no_source_gives_two_values_for_the_same_cell():
    cells = [(row.method, row.benchmark, row.source) for row in published.ALL]
    assert len(cells) == len(set(cells))


def test_the_documents_vote_column_is_taken_apart():
    """Method.md, ruling 9: Point-BERT's 93.2 is voted, Point-MAE's 93.2 and Point-M2AE's 93.4 are not."""
    assert _value("Point-BERT", "modelnet40_vote", DOCUMENT) == 93.2
    assert _value("Point-MAE", "modelnet40", DOCUMENT) == 93.2
    assert _value("Point-M2AE", "modelnet40", DOCUMENT) == 93.4
    assert _value("Point-MAE", "modelnet40_vote", "README of Point-MAE") == 93.8


def test_the_part_table_has_the_method_that_the_document_leaves_out():
    best = published.of("part_instance")[-1]
    assert (best.method, best.value) == ("Point-M2AE", 86.51)


def test_the_numbers_of_a_benchmark_come_lowest_first():
    values = [row.value for row in published.of("pb_t50_rs")]
    assert values == sorted(values)
    assert (values[0], values[-1]) == (77.2, 91.26)


def test_the_block_ablation_is_the_documents_table():
    table = {m: [row.value for row in rows] for m, rows in published.ABLATION_BLOCKS.items()}
    assert table == {1: [84.6, 92.9], 2: [85.7, 93.1], 4: [86.8, 93.4], 8: [86.3, 93.2]}


@pytest.mark.parametrize(
    ("dataset", "task", "benchmarks"),
    [
        ({"kind": "procedural"}, {"kind": "svm"}, ()),
        ({"kind": "modelnet40"}, {"kind": "svm"}, ("svm_modelnet40",)),
        ({"kind": "modelnet40"}, {"kind": "knn"}, ()),
        ({"kind": "modelnet40"}, {"kind": "finetune"}, ("modelnet40", "modelnet40_vote")),
        ({"kind": "scanobjectnn", "variant": "obj_bg"}, {"kind": "linear_probe"}, ("svm_obj_bg",)),
        ({"kind": "scanobjectnn", "variant": "pb_t50_rs"}, {"kind": "linear_probe"}, ()),
        ({"kind": "scanobjectnn", "variant": "pb_t50_rs"}, {"kind": "finetune"}, ("pb_t50_rs",)),
        ({"kind": "modelnet40"}, {"kind": "few_shot", "way": 5, "shot": 10}, ("few_5w10s",)),
        ({"kind": "fewshot", "way": 10, "shot": 20}, {"kind": "few_shot", "way": 5}, ("few_10w20s",)),
        ({"kind": "modelnet40"}, {"kind": "few_shot", "way": 7, "shot": 1}, ()),
        ({"kind": "procedural"}, {"kind": "few_shot", "way": 5, "shot": 10}, ()),
        ({"kind": "modelnet40", "categories": 10}, {"kind": "svm"}, ()),
        ({"kind": "scanobjectnn", "variant": "obj_bg", "split": "split2"}, {"kind": "finetune"}, ()),
        ({"kind": "shapenetpart"}, {"kind": "part_seg"}, ("part_category", "part_instance")),
    ],
)
def test_an_evaluation_is_compared_only_where_others_have_numbers(dataset, task, benchmarks):
    assert published.comparable(dataset, task) == benchmarks


def test_the_spread_of_a_number_is_the_published_one_else_that_of_other_trainings_on_the_same_test_shapes():
    document = row_of(OURS, "pb_t50_rs", DOCUMENT)
    assert published.spread_of(document) == (0.3, "none published; that of Point-JEPA's ten runs")
    point_jepa = row_of("Point-JEPA", "pb_t50_rs", "README of Point-JEPA")
    assert published.spread_of(point_jepa) == (0.3, "published")


def test_spreads_to_plan_with_are_those_that_point_jepa_published():
    for name, benchmark in BENCHMARKS.items():
        of = [row for row in published.of(name) if row.method == "Point-JEPA" and benchmark.same_test]
        if of and not benchmark.training_std_from:
            assert benchmark.training_std == of[0].spread, name


def test_rivals_are_the_methods_that_a_row_claims_to_beat():
    """The document's text puts 3D-JEPA 1.6 points above Point-MAE on PB_T50_RS; on ModelNet40 it only matches it."""
    assert published.rivals(row_of(OURS, "pb_t50_rs", DOCUMENT)) == {SCRATCH: 77.2, "Point-MAE": 85.2}
    assert published.rivals(row_of(OURS, "modelnet40", DOCUMENT)) == {SCRATCH: 91.4}
    assert published.rivals(row_of(OURS, "pb_t50_rs", ABSTRACT)) == {SCRATCH: 77.24, "Point-MAE": 85.18}  # the authors'


def test_every_rival_is_a_method_with_a_lower_number():
    methods = {row.method for row in published.ALL}
    for row in published.ALL:
        assert set(row.beats) <= methods
        if row.method != SCRATCH:
            assert all(value <= row.value for value in published.rivals(row).values()), row


def test_a_spread_over_ten_folds_is_that_of_one_fold_not_of_their_mean():
    point_mae = row_of("Point-MAE", "few_5w10s", "README of Point-MAE")
    assert published.spread_of(point_mae).std == pytest.approx(2.5 / 10**0.5)


def test_every_published_number_has_a_spread_to_plan_with():
    for row in published.ALL:
        assert 0 < published.spread_of(row).std < 3
