"""verify names every file that is not what it was; judge says by content what is current; tidy removes no output."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jepa3d import project
from jepa3d.layout import Layout, place_of
from jepa3d.params import Params, slice_of
from jepa3d.results import provenance, records, store
from jepa3d.results.tidy import tidy

SPEC = importlib.util.spec_from_file_location("hollow", Path(__file__).parents[1] / "dvc" / "hollow.py")
assert SPEC is not None
assert SPEC.loader is not None
hollow = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(hollow)
OUTPUTS = [
    "raw/toys/SOURCE.json",
    "canonical/toys.h5",
    "canonical/toys.audit.json",
    "patches/flat/toys.h5",
    "pretrain/jepa/seed1/encoder.safetensors",
    "pretrain/jepa/seed0/config.json",
    "pretrain/random_init/seed0/curve.jsonl",
    "features/random_init/seed1/toys.h5",
    "evals/jepa/seed0/knn.json",
    "metrics.json",
    "report/index.html",
    "report/model_card.md",
    "plots/scores.csv",
    "studies/tiny/metrics.json",
    "studies/tiny/index.html",
    "studies/tiny/model_card.md",
    "studies/tiny/plots/curves.csv",
]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("study") / "results"


@pytest.fixture
def made(params: Params, layout: Layout, monkeypatch: pytest.MonkeyPatch, template: Path) -> Layout:
    """All outputs of the tiny study, empty of meaning but stamped and recorded. Made once, copied for each test."""
    monkeypatch.setenv("JEPA3D_THREADS", "1")
    monkeypatch.setattr(hollow, "LARGE", 0)
    if not template.exists():
        hollow.make_all(params, Layout(template))
    shutil.copytree(template, layout.results)
    return layout


def bad(layout: Layout) -> dict[str, str]:
    """What verify finds: file, as named below results/, and what it says of it."""
    found = provenance.findings(provenance.read(layout))
    return {str(finding.path.relative_to(layout.results)): finding.what for finding in found}


def flip(path: Path, position: int) -> None:
    """Change one byte, as a bad disk would: in place, with the times as they were."""
    times, content = path.stat(), bytearray(path.read_bytes())
    content[position % len(content)] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def judged(params: Params, layout: Layout) -> dict[str, int]:
    """How many outputs of each verb are stale."""
    stale = provenance.judge(params, provenance.read(layout)).stale
    verbs = [place.verb for path in stale if (place := place_of(path))]
    return {verb: verbs.count(verb) for verb in dict.fromkeys(verbs)}


def is_of_report(path: Path) -> bool:
    place = place_of(path)
    return place is not None and place.verb == "report"


# --- verify


def test_what_was_just_made_is_whole_and_the_exit_code_says_so(
    params: Params, made: Layout, capsys: pytest.CaptureFixture[str]
):
    assert provenance.verify(params, made) == 0
    assert "all are as they were made" in capsys.readouterr().out


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("position", [0, -1, 7])
def test_a_changed_byte_is_found_in_every_kind_of_output(made: Layout, name: str, position: int):
    flip(made.results / name, position)
    found = bad(made)
    assert found.pop(name).startswith("its bytes have changed")
    assert all(f"was made from another {made.results / name}" in what for what in found.values())


def test_every_kind_of_output_is_among_the_examples(made: Layout):
    kinds = {path.suffix + path.parts[len(made.results.parts)] for path in provenance.outputs(made)}
    assert kinds == {Path(name).suffix + Path(name).parts[0] for name in OUTPUTS}


def test_the_files_found_are_printed_with_the_command_that_mends(
    params: Params, made: Layout, capsys: pytest.CaptureFixture[str]
):
    flip(made.encoder("jepa", 1), 3)
    assert provenance.verify(params, made) == 1
    said = capsys.readouterr().out
    assert str(made.encoder("jepa", 1)) in said
    assert "jepa3d pretrain jepa --seed 1" in said
    assert "14 are not as they were made" in said  # the encoder, the features, and the twelve files of the report


def test_a_changed_byte_of_a_record_is_found(made: Layout):
    place = place_of(made.metrics)
    assert place is not None
    record = made.record(place)
    text = record.read_text()
    record.write_text(text.replace(json.loads(text)["stamp"]["code"], "0123456789abcdef"))
    assert bad(made) == {"metrics.json": "has no readable record: nobody can say how it was made"}


def test_a_file_that_is_gone_is_missed(made: Layout):
    made.curve("jepa", 0).unlink()
    assert bad(made) == {"pretrain/jepa/seed0/curve.jsonl": "is gone"}


def test_a_file_without_a_record_is_named(made: Layout):
    made.evaluation("jepa", 0, "by_hand").write_text("{}")
    assert list(bad(made)) == ["evals/jepa/seed0/by_hand.json"]


def test_a_file_that_was_made_from_an_earlier_version_of_its_input_is_named(params: Params, made: Layout):
    changed = params.model_copy(update={"datasets": {"toys": params.datasets["toys"].model_copy(update={"seed": 1})}})
    hollow.make(changed, made, "convert", "toys")
    consumers = {"patches/flat/toys.h5", "canonical/toys.overlap/toys.json"}
    consumers |= {f"pretrain/{run}/seed{seed}/{name}" for run in ("jepa", "random_init") for seed in (0, 1)
                  for name in ("encoder.safetensors", "config.json", "curve.jsonl")}  # fmt: skip
    consumers |= {f"features/{run}/seed{seed}/toys.h5" for run in ("jepa", "random_init") for seed in (0, 1)}
    consumers |= {str(path.relative_to(made.results)) for path in provenance.outputs(made) if is_of_report(path)}
    assert set(bad(made)) == consumers


def test_results_may_be_moved(made: Layout):
    moved = made.results.rename(made.results.parent / "elsewhere")
    assert bad(Layout(moved)) == {}


def test_a_raw_file_of_another_size_is_named(params: Params, made: Layout):
    (made.raw("toys") / "chairs.h5").write_bytes(b"12345")
    stamp = store.stamp("download", slice_of(params.datasets["toys"]))
    store.write_json(made.source("toys"), {"unpacked": {"chairs.h5": 6}}, stamp)
    assert bad(made)["raw/toys/chairs.h5"] == "is not the file that was downloaded"


# --- records


def test_the_circumstances_stand_in_the_record_and_not_in_the_output(made: Layout, params: Params):
    before, record = made.metrics.read_bytes(), records.read(made.metrics)
    hollow.make(params, made, "report")
    assert made.metrics.read_bytes() == before
    assert record is not None
    assert record["sha256"] == store.sha256(made.metrics)
    assert {"at", "seconds", "command", "machine", "packages", "git", "python", "gpus"} <= set(record["made"])
    assert record["made"]["packages"]["numpy"]
    assert record["stamp"]["verb"] == "report"


def test_only_an_output_in_its_place_that_is_written_with_its_stamp_is_recorded(layout: Layout, tmp_path: Path):
    stamp = store.stamp("convert", {})
    store.write_json(tmp_path / "report" / "index.html", {}, stamp)  # somebody's own, whatever its name
    store.write_json(layout.state("jepa", 0) / "notes.json", {}, stamp)
    store.write_json(layout.audit("toys"), {})
    assert not list(tmp_path.rglob("records"))


def test_a_record_knows_the_commit_and_a_change_that_is_in_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def git(*arguments: str) -> None:
        who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True)

    assert records.checkout(tmp_path) is None
    git("init", "-q")
    (tmp_path / "code.py").write_text("1\n")
    git("add", ".")
    git("commit", "-qm", "one")
    clean = records.checkout(tmp_path)
    (tmp_path / "code.py").write_text("2\n")
    changed = records.checkout(tmp_path)
    (tmp_path / "jepa3d").mkdir()
    (tmp_path / "jepa3d" / "new.py").write_text("3\n")
    more = records.checkout(tmp_path)
    (tmp_path / "jepa3d" / ".#open.py").symlink_to("user@host.1234")  # what editors leave of a file that is not saved
    (tmp_path / "clone").mkdir()
    subprocess.run(["git", "init", "-q"], cwd=tmp_path / "clone", check=True)
    (tmp_path / "data.bin").write_bytes(b"1")
    same = records.checkout(tmp_path)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "clone" / ".git"))  # as in a hook of another repository
    assert records.checkout(tmp_path) == same
    assert clean is not None
    assert changed is not None
    assert more is not None
    assert re.fullmatch("[0-9a-f]{40}", clean["commit"])
    assert clean["changes"] == ""
    assert len({clean["changes"], changed["changes"], more["changes"]}) == 3
    (tmp_path / "data.bin").write_bytes(b"2")  # of any size, and no code
    assert records.checkout(tmp_path) == same


def test_a_part_of_the_results_may_lie_elsewhere_behind_a_link(params: Params, made: Layout, tmp_path: Path):
    for number, folder in enumerate(("evals", "pretrain/jepa", "records/embed")):
        there = (made.results / folder).rename(tmp_path / f"disk{number}")
        (made.results / folder).symlink_to(there)
    (tmp_path / "disk0" / "round").symlink_to(tmp_path / "disk0")  # a circle
    assert bad(made) == {}
    assert provenance.judge(params, provenance.read(made)).stale == []
    flip(tmp_path / "disk0" / "jepa" / "seed0" / "knn.json", 5)
    assert "its bytes have changed" in bad(made)["evals/jepa/seed0/knn.json"]


# --- what is current


@pytest.mark.parametrize(
    ("change", "stale"),
    [
        (lambda p: None, {}),
        (lambda p: p["runs"]["jepa"].update(about="other words"), {"report": 12}),
        (
            lambda p: p["runs"]["jepa"]["fit"].update(lr=0.002),
            {"pretrain": 12, "embed": 4, "evaluate": 8, "report": 12},
        ),
        (
            lambda p: p["runs"]["random_init"]["objective"].update(clouds=16),
            {"pretrain": 6, "embed": 2, "evaluate": 4, "report": 12},
        ),
        (lambda p: p["evals"]["knn"]["task"].update(k=[3]), {"evaluate": 4, "report": 12}),
        (lambda p: p["studies"]["tiny"].update(about="other words"), {"report": 12}),
        (lambda p: p["models"]["tiny"].update(depth=2), {"pretrain": 12, "embed": 4, "evaluate": 8, "report": 12}),
        (
            lambda p: p["patches"]["flat"].update(sample="fps"),
            {"patchify": 1, "pretrain": 12, "embed": 4, "evaluate": 8, "report": 12},
        ),
    ],
)
def test_a_change_makes_stale_what_depends_on_it_and_nothing_else(
    change: Callable[[Any], None],
    stale: dict[str, int],
    tiny: dict[str, Any],
    write: Callable[[Any], Path],
    made: Layout,
):
    change(tiny)
    assert dict(sorted(judged(project.load(write(tiny)), made).items())) == dict(sorted(stale.items()))


def test_what_the_graph_says_is_what_the_verbs_stamp(tiny: dict[str, Any], write: Callable[[Any], Path]):
    """Of shards here; of all else in tests/dvc, with the real command."""
    from jepa3d.stages.convert import convert
    from jepa3d.stages.download import download
    from jepa3d.stages.patchify import patchify

    tiny["datasets"]["toys"]["shards"] = 3
    params = project.load(write(tiny))
    layout = Layout(write(tiny).parent / "results")
    download(params, layout, "toys")
    convert(params, layout, "toys")
    patchify(params, layout, "flat", "toys", shard=1)
    patchify(params, layout, "flat", "toys")
    files = provenance.read(layout)
    assert len(files.digests) == 3 + 3 + 1
    assert provenance.judge(params, files).stale == []
    tiny["datasets"]["toys"]["shards"] = 2
    assert judged(project.load(write(tiny)), layout) == {"patchify": 3}, "both shards that are left, and the whole"


def test_what_the_chosen_study_does_not_ask_for_is_neither(
    tiny: dict[str, Any], write: Callable[[Any], Path], made: Layout
):
    tiny["studies"]["tiny"]["runs"] = ["jepa"]
    tiny["runs"]["random_init"]["objective"]["clouds"] = 16
    assert judged(project.load(write(tiny)), made) == {"report": 12}


def test_a_changed_byte_upstream_makes_everything_after_it_stale(params: Params, made: Layout):
    flip(made.patches("flat", "toys"), 0)
    assert judged(params, made) == {"patchify": 1, "pretrain": 12, "embed": 4, "evaluate": 8, "report": 12}


# --- tidy


def test_tidy_removes_what_is_left_over_and_no_output(params: Params, made: Layout, capsys: pytest.CaptureFixture[str]):
    leftovers = [
        made.state("jepa", 0) / "step000000007.pt",  # finished
        made.state("gone", 0) / "step000000007.pt",  # of a run that params.yaml has no longer
        made.evaluation_state("jepa", 0, "knn") / "step1.pt",
        made.results / "features" / ".toys.h5.x.tmp",
        made.state("random_init", 1) / "aside-1" / "step000000003.pt",
        made.evaluation_state("random_init", 1, "linear") / "aside-2" / "step000000003.pt",
    ]
    going_on = made.state("random_init", 1) / "step000000007.pt"
    for path in [*leftovers, going_on]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"123")
    made.encoder("random_init", 1).unlink()
    made.evaluation("random_init", 1, "linear").unlink()
    outputs = provenance.outputs(made)
    assert tidy(params, made, dry=False) == 0
    assert "within the hour" in capsys.readouterr().out
    later = time.time() + 7200
    tidy(params, made, dry=True, now=later)
    assert all(path.exists() for path in leftovers)
    tidy(params, made, dry=False, now=later)
    assert not any(path.exists() for path in leftovers)
    assert going_on.exists()
    assert provenance.outputs(made) == outputs
    assert bad(made) == {}, "the record of the encoder that is gone went with it"
