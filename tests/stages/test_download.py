"""download against a real server on this machine that does everything servers do, the bad things too."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import re
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from jepa3d import datasets, plugins, project
from jepa3d.datasets import modelnet40, scanobjectnn
from jepa3d.fetch import addresses
from jepa3d.fetch.source import Source
from jepa3d.layout import Layout
from jepa3d.params import DatasetConfig, Params
from jepa3d.problem import Problem
from jepa3d.results import store
from jepa3d.stages import download as stage

PARAMS = """
study: s
studies: {s: {runs: [], evals: [], seeds: [0]}}
datasets: {%s}
patches: {}
models: {}
runs: {}
evals: {}
"""


class Server:
    """Files by name, each with a way to behave; every request is written down."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.ways: dict[str, Callable[[Any, bytes], bool]] = {}
        self.requests: list[tuple[str, str]] = []
        self.sent = 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *words: Any) -> None:
                pass

            def do_GET(self) -> None:
                name = self.path.strip("/")
                outer.requests.append((name, self.headers.get("Range", "")))
                data = outer.files.get(name)
                if data is None:
                    self.send_error(404)
                elif not outer.ways.get(name, lambda *_: False)(self, data):
                    honour(self, data)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def honour(handler: Any, data: bytes, stop: int | None = None, etag: str = '"one"') -> bool:
    """Answer as good servers do, with ranges; `stop`: break the connection after so many bytes of the body."""
    wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", handler.headers.get("Range", ""))
    if wanted and handler.headers.get("If-Range", etag) != etag:
        wanted = None
    body = data
    if wanted:
        first, last = int(wanted[1]), min(int(wanted[2] or len(data) - 1), len(data) - 1)
        if first >= len(data):
            handler.send_error(416)
            return True
        body = data[first : last + 1]
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
    else:
        handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.send_header("ETag", etag)
    handler.end_headers()
    handler.wfile.write(body if stop is None else body[:stop])
    handler.close_connection = True
    return True


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "PAUSE", 0.001)
    monkeypatch.setattr(addresses, "TIMEOUT", 10.0)
    monkeypatch.delenv("JEPA3D_OFFLINE", raising=False)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A zip in the true layout of modelnet40_ply_hdf5_2048.zip."""
    raw = tmp_path_factory.mktemp("raw")
    modelnet40.forge(raw)
    return zipped(raw)


def zipped(raw: Path, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", method) as file:
        for path in sorted(raw.rglob("*")):
            if path.is_file():
                file.write(path, path.relative_to(raw))
    return memory.getvalue()


def source_of(data: bytes, *urls: str, **more: Any) -> Source:
    facts = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest(), **more}
    return Source("modelnet40_ply_hdf5_2048.zip", urls, "https://terms.example", "ask a colleague", **facts)


def params(tmp_path: Path, entry: str = "kind: modelnet40, accept_terms: true", name: str = "modelnet40") -> Params:
    path = tmp_path / "params.yaml"
    path.write_text(PARAMS % f"{name}: {{{entry}}}", encoding="utf-8")
    return project.load(path)


def go(tmp_path: Path, entry: str = "kind: modelnet40, accept_terms: true") -> dict[str, Any]:
    layout = Layout(tmp_path / "results")
    stage.download(params(tmp_path, entry), layout, "modelnet40")
    found: dict[str, Any] = store.read_json(layout.source("modelnet40"))
    return found


def published(tmp_path: Path) -> list[str]:
    """Every file of the data set's folder but the parts."""
    folder = tmp_path / "results" / "raw" / "modelnet40"
    return sorted(p.name for p in folder.rglob("*") if p.is_file() and ".part" not in p.name) if folder.exists() else []


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    return lambda *given: monkeypatch.setattr(modelnet40, "SOURCES", given)


# ---- what is there already


def test_a_root_is_used_in_place_and_never_copied(tmp_path: Path):
    modelnet40.forge(tmp_path / "given")
    found = go(tmp_path, f"kind: modelnet40, root: '{tmp_path}/given'")
    assert found["how"] == "in place"
    assert found["root"] == str(tmp_path / "given")
    assert found["layout"] == "hdf5"
    assert found["lists"]["shape_names.txt"]["bytes"] == 275
    assert published(tmp_path) == ["SOURCE.json"]


def test_a_variable_in_root_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    modelnet40.forge(tmp_path / "given")
    monkeypatch.setenv("MY_DATA", str(tmp_path))
    assert go(tmp_path, "kind: modelnet40, root: '${MY_DATA}/given'")["root"] == str(tmp_path / "given")


def test_an_unset_variable_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("MY_DATA", raising=False)
    with pytest.raises(Problem, match="MY_DATA is not set"):
        go(tmp_path, "kind: modelnet40, root: '${MY_DATA}/given'")


@pytest.mark.parametrize("root", ["~nobody-of-this-name/x", "/" + "a" * 300, "/dev/null/x"])
def test_a_root_that_cannot_be_is_named(root: str, tmp_path: Path):
    with pytest.raises(Problem) as caught:
        go(tmp_path, f"kind: modelnet40, root: '{root}'")
    assert "root" in caught.value.what
    assert caught.value.why


def test_a_root_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(Problem, match="absent: no such file or folder"):
        go(tmp_path, f"kind: modelnet40, root: '{tmp_path}/absent'")


def test_a_root_without_the_layout_says_what_was_looked_for_and_where(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(Problem) as caught:
        go(tmp_path, f"kind: modelnet40, root: '{tmp_path}/empty'")
    assert "ply_data_train*.h5" in caught.value.why
    assert str(tmp_path / "empty" / "modelnet40_ply_hdf5_2048") in caught.value.why


def test_an_archive_as_root_is_read_where_it_is(tmp_path: Path, archive: bytes):
    (tmp_path / "modelnet40_ply_hdf5_2048.zip").write_bytes(archive)
    found = go(tmp_path, f"kind: modelnet40, root: '{tmp_path}/modelnet40_ply_hdf5_2048.zip'")
    assert found["how"] == "unpacked"
    assert found["sha256"] == hashlib.sha256(archive).hexdigest()
    assert not found["published"]
    assert "ply_data_train0.h5" in published(tmp_path)
    assert "modelnet40_ply_hdf5_2048.zip" not in published(tmp_path)


def test_generated_data_need_no_download(tmp_path: Path):
    layout = Layout(tmp_path / "results")
    stage.download(params(tmp_path, "kind: procedural", "toy"), layout, "toy")
    assert store.read_json(layout.source("toy"))["how"] == "generated"


# ---- a data set that says of itself no more than it has to


class Simple(datasets.Fetched):
    kind: str = "simple"


@pytest.fixture
def simple(server: Server, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Download two plain files for a data set that has `SOURCES` and the minimum: no `locate`, no `sources`."""
    module = ModuleType("simple")
    module.__dict__.update(
        SOURCES=tuple(Source(f"{name}.txt", (f"{server.url}/{name}.txt",), "https://terms", "ask") for name in "ab"),
        Config=Simple,
        classes=lambda raw, config: (),
        read=lambda raw, config: iter(()),
        forge=lambda raw: None,
    )
    monkeypatch.setattr(plugins, "find", lambda package, kind: plugins.fulfilled(datasets.Plugin, module))

    def download(results: Path, **changes: Any) -> dict[str, Any]:
        module.__dict__.update(changes)
        config = module.__dict__["Config"](kind="simple", **({"accept_terms": True} if "Config" not in changes else {}))
        stage.download(SimpleNamespace(dataset=lambda name: config), Layout(results), "simple")  # type: ignore[arg-type]
        found: dict[str, Any] = store.read_json(Layout(results).source("simple"))
        return found

    return download


def test_a_data_set_with_sources_needs_no_locate(tmp_path: Path, server: Server, simple: Any):
    server.files |= {"a.txt": b"one", "b.txt": b"two"}
    found = simple(tmp_path)
    assert found["how"] == "downloaded"
    assert found["unpacked"] == {"a.txt": 3, "b.txt": 3}
    assert found["layout"] == "files"
    assert not list(tmp_path.rglob("*.part*"))


def test_a_download_that_broke_between_two_files_is_no_layout_put_there_by_hand(
    tmp_path: Path, server: Server, simple: Any
):
    server.files["a.txt"] = b"one"
    with pytest.raises(Problem, match=r"b\.txt cannot be fetched"):
        simple(tmp_path)
    server.files["b.txt"] = b"two"
    assert simple(tmp_path)["unpacked"] == {"a.txt": 3, "b.txt": 3}


def test_files_that_somebody_put_there_are_used(tmp_path: Path, simple: Any):
    (tmp_path / "raw" / "simple").mkdir(parents=True)
    (tmp_path / "raw" / "simple" / "a.txt").write_text("mine")
    assert simple(tmp_path)["how"] == "put there by hand"


def test_sources_without_a_place_for_the_consent_are_an_error_of_the_plugin(tmp_path: Path, simple: Any):
    with pytest.raises(TypeError, match=r"Config has to extend datasets\.Fetched"):
        simple(tmp_path, Config=DatasetConfig)


# ---- consent


def test_without_consent_nothing_is_asked_of_the_network(tmp_path: Path, server: Server, sources: Any, archive: bytes):
    sources(source_of(archive, f"{server.url}/a.zip"))
    with pytest.raises(Problem) as caught:
        go(tmp_path, "kind: modelnet40")
    assert "https://terms.example" in caught.value.why
    assert "accept_terms: true" in caught.value.mend
    assert server.requests == []


@pytest.mark.parametrize("how", ["entry", "environment"])
def test_offline_nothing_is_asked_of_the_network(
    how: str, tmp_path: Path, server: Server, sources: Any, archive: bytes, monkeypatch: pytest.MonkeyPatch
):
    sources(source_of(archive, f"{server.url}/a.zip"))
    if how == "environment":
        monkeypatch.setenv("JEPA3D_OFFLINE", "1")
    with pytest.raises(Problem, match="offline"):
        go(tmp_path, "kind: modelnet40, accept_terms: true" + (", offline: true" if how == "entry" else ""))
    assert server.requests == []


def test_data_without_a_stable_address_say_how_to_get_them(tmp_path: Path):
    with pytest.raises(Problem, match="no address") as caught:
        stage.download(
            params(tmp_path, "kind: shapenet55, accept_terms: true", "sn"), Layout(tmp_path / "results"), "sn"
        )
    assert "Point-BERT" in caught.value.mend


# ---- a good server


def test_an_archive_is_fetched_verified_and_unpacked(tmp_path: Path, server: Server, sources: Any, archive: bytes):
    server.files["a.zip"] = archive
    sources(source_of(archive, f"{server.url}/a.zip"))
    found = go(tmp_path)
    assert found["how"] == "downloaded"
    assert found["accept_terms"] is True
    assert found["fetched"][0]["sha256"] == hashlib.sha256(archive).hexdigest()
    assert found["fetched"][0]["verified"] == "sha256"
    assert found["layout"] == "hdf5"
    assert "ply_data_train0.h5" in published(tmp_path)
    assert not list((tmp_path / "results").rglob("*.part*"))
    shapes = list(modelnet40.read(tmp_path / "results/raw/modelnet40", modelnet40.Config()))
    assert len(shapes) == 8


def test_what_is_there_is_not_fetched_again(tmp_path: Path, server: Server, sources: Any, archive: bytes):
    server.files["a.zip"] = archive
    sources(source_of(archive, f"{server.url}/a.zip"))
    first = go(tmp_path)
    asked = len(server.requests)
    assert go(tmp_path) == first
    assert len(server.requests) == asked


def test_a_file_that_was_lost_is_fetched_again(tmp_path: Path, server: Server, sources: Any, archive: bytes):
    server.files["a.zip"] = archive
    sources(source_of(archive, f"{server.url}/a.zip"))
    go(tmp_path)
    next((tmp_path / "results").rglob("ply_data_test0.h5")).unlink()
    go(tmp_path)
    assert "ply_data_test0.h5" in published(tmp_path)


def test_redirects_are_followed(tmp_path: Path, server: Server, sources: Any, archive: bytes):
    server.files |= {"old.zip": b"-", "a.zip": archive}

    def moved(handler: Any, data: bytes) -> bool:
        handler.send_response(302)
        handler.send_header("Location", f"{server.url}/a.zip")
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return True

    server.ways["old.zip"] = moved
    sources(source_of(archive, f"{server.url}/old.zip"))
    assert go(tmp_path)["how"] == "downloaded"


def test_a_mirror_of_params_yaml_comes_first(tmp_path: Path, server: Server, sources: Any, archive: bytes):
    server.files["mine/modelnet40_ply_hdf5_2048.zip"] = archive
    sources(source_of(archive, f"{server.url}/a.zip"))
    go(tmp_path, f"kind: modelnet40, accept_terms: true, mirrors: ['{server.url}/mine/']")
    assert {name for name, _ in server.requests} == {"mine/modelnet40_ply_hdf5_2048.zip"}


# ---- broken transfers


def test_a_broken_transfer_goes_on_where_it_stopped(tmp_path: Path, server: Server, sources: Any, archive: bytes):
    server.files["a.zip"] = archive
    step = len(archive) // 4 + 1
    server.ways["a.zip"] = lambda handler, data: honour(handler, data, stop=step)
    sources(source_of(archive, f"{server.url}/a.zip"))
    go(tmp_path)
    starts = [int(re.findall(r"\d+", asked)[0]) if asked else 0 for _, asked in server.requests]
    assert starts == [0, step, 2 * step, 3 * step]


def test_a_killed_download_goes_on_where_it_stopped(tmp_path: Path, server: Server, sources: Any, archive: bytes):
    server.files["a.zip"] = archive
    sources(source_of(archive, f"{server.url}/a.zip"))
    part = tmp_path / "results/raw/modelnet40/modelnet40_ply_hdf5_2048.zip.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(archive[:1000])
    go(tmp_path)
    assert [asked for _, asked in server.requests] == [f"bytes=1000-{len(archive) - 1}"]


def test_another_mirror_continues_the_part(tmp_path: Path, server: Server, sources: Any, archive: bytes):
    server.files |= {"a.zip": archive, "b.zip": archive}
    half = len(archive) // 2
    seen: list[int] = []

    def dies(handler: Any, data: bytes) -> bool:
        seen.append(1)
        if len(seen) > 1:
            handler.send_error(503)
            return True
        return honour(handler, data, stop=half)

    server.ways["a.zip"] = dies
    sources(source_of(archive, f"{server.url}/a.zip", f"{server.url}/b.zip"))
    assert go(tmp_path)["fetched"][0]["url"].endswith("b.zip")
    assert server.requests[-1] == ("b.zip", f"bytes={half}-{len(archive) - 1}")


def test_a_server_that_ignores_ranges_is_read_from_the_beginning(
    tmp_path: Path, server: Server, sources: Any, archive: bytes
):
    server.files["a.zip"] = archive

    def plain(handler: Any, data: bytes) -> bool:
        del handler.headers["Range"]
        return honour(handler, data, stop=len(data) // 2 if len(server.requests) == 1 else None)

    server.ways["a.zip"] = plain
    sources(source_of(archive, f"{server.url}/a.zip"))
    assert go(tmp_path)["how"] == "downloaded"
    assert len(server.requests) == 2


def test_a_part_of_another_file_is_thrown_away(tmp_path: Path, server: Server, sources: Any, archive: bytes):
    server.files["a.zip"] = archive
    sources(source_of(archive, f"{server.url}/a.zip"))
    part = tmp_path / "results/raw/modelnet40/modelnet40_ply_hdf5_2048.zip.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 1000)
    assert go(tmp_path)["how"] == "downloaded"


def test_a_file_that_changed_on_the_server_is_not_mixed(tmp_path: Path, server: Server, sources: Any, archive: bytes):
    """No hash is published: the part of the old version must not become the beginning of the new one."""
    server.files["a.zip"] = archive
    versions = iter(['"old"', '"new"', '"new"'])
    bodies = iter([b"y" * len(archive), archive, archive])

    def changing(handler: Any, data: bytes) -> bool:
        etag = next(versions)
        return honour(handler, next(bodies), stop=500 if etag == '"old"' else None, etag=etag)

    server.ways["a.zip"] = changing
    sources(source_of(archive, f"{server.url}/a.zip", sha256=""))
    assert go(tmp_path)["how"] == "downloaded"


# ---- bad servers: one clear Problem, and nothing published


def error(code: int) -> Callable[[Any, bytes], bool]:
    def way(handler: Any, data: bytes) -> bool:
        handler.send_error(code)
        return True

    return way


def wrong_bytes(handler: Any, data: bytes) -> bool:
    return honour(handler, data[:-1] + b"!")


def web_page(handler: Any, data: bytes) -> bool:
    handler.send_response(200)
    handler.send_header("Content-Type", "text/html; charset=utf-8")
    handler.end_headers()
    handler.wfile.write(b"<html>quota exceeded</html>")
    return True


def other_size(handler: Any, data: bytes) -> bool:
    return honour(handler, data + b"more")


def endless(handler: Any, data: bytes) -> bool:
    """No length, and more bytes than the file has."""
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(data + bytes(1 << 20))
    return True


def silent(handler: Any, data: bytes) -> bool:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data[:100])
    handler.wfile.flush()
    threading.Event().wait(1.0)  # longer than TIMEOUT
    return True


def wrong_range(handler: Any, data: bytes) -> bool:
    if not handler.headers.get("Range"):
        return honour(handler, data, stop=100)
    handler.send_response(206)
    handler.send_header("Content-Range", f"bytes 0-{len(data) - 1}/{len(data)}")
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)
    return True


def to_a_file(handler: Any, data: bytes) -> bool:
    handler.send_response(302)
    handler.send_header("Location", "file:///etc/passwd")
    handler.send_header("Content-Length", "0")
    handler.end_headers()
    return True


BAD = {
    "403": (error(403), "HTTP 403"),
    "404": (error(404), "HTTP 404"),
    "503": (error(503), "HTTP 503"),
    "wrong bytes": (wrong_bytes, "wrong bytes: sha256"),
    "web page": (web_page, "web page"),
    "other size": (other_size, "expected"),
    "endless": (endless, "more bytes"),
    "always drops": (lambda handler, data: honour(handler, data, stop=0), "connection broke"),
    "silent": (silent, "attempts"),
    "wrong range": (wrong_range, "asked for bytes"),
    "redirect to a file": (to_a_file, "not allowed|refused"),
    "garbage": (lambda handler, data: bool(handler.wfile.write(b"\0\1\2 no http\r\n\r\n")), "attempts"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_server_gives_one_problem_and_no_file(
    name: str, tmp_path: Path, server: Server, sources: Any, archive: bytes, monkeypatch: pytest.MonkeyPatch
):
    way, words = BAD[name]
    if name == "silent":
        monkeypatch.setattr(addresses, "TIMEOUT", 0.1)
    monkeypatch.setattr(addresses, "ATTEMPTS", 2)
    server.files["a.zip"] = archive
    server.ways["a.zip"] = way
    sources(source_of(archive, f"{server.url}/a.zip"))
    with pytest.raises(Problem, match="cannot be fetched") as caught:
        go(tmp_path)
    assert re.search(words, caught.value.why)
    assert caught.value.mend == "ask a colleague"
    assert published(tmp_path) == []


@pytest.mark.parametrize("name", ["403", "503", "wrong bytes", "web page", "always drops"])
def test_after_a_bad_server_comes_the_next_one(
    name: str, tmp_path: Path, server: Server, sources: Any, archive: bytes, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(addresses, "ATTEMPTS", 2)
    server.files |= {"a.zip": archive, "b.zip": archive}
    server.ways["a.zip"] = BAD[name][0]
    sources(source_of(archive, f"{server.url}/a.zip", f"{server.url}/b.zip"))
    assert go(tmp_path)["fetched"][0]["url"] == f"{server.url}/b.zip"


def test_nobody_listens(tmp_path: Path, server: Server, sources: Any, archive: bytes, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(addresses, "ATTEMPTS", 2)
    sources(source_of(archive, "http://127.0.0.1:9/a.zip"))
    with pytest.raises(Problem, match="cannot be fetched"):
        go(tmp_path)


def test_without_tls_and_without_a_hash_an_address_is_refused(tmp_path: Path, sources: Any, archive: bytes):
    sources(source_of(archive, "http://example.org/a.zip", sha256=""))
    with pytest.raises(Problem) as caught:
        go(tmp_path)
    assert "without TLS" in caught.value.why


def test_a_redirect_away_from_tls_is_refused():
    request = SimpleNamespace(full_url="https://example.org/a.zip")
    with pytest.raises(addresses.FetchError, match="without TLS"):
        addresses.Redirects().redirect_request(request, io.BytesIO(), 302, "", {}, "http://example.org/a.zip")


def test_an_unsafe_archive_publishes_nothing(tmp_path: Path, server: Server, sources: Any):
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as file:
        file.writestr("good.txt", "good")
        file.writestr("../../escaped.txt", "bad")
    data = memory.getvalue()
    server.files["a.zip"] = data
    sources(source_of(data, f"{server.url}/a.zip"))
    with pytest.raises(Problem, match="cannot be fetched") as caught:
        go(tmp_path)
    assert "leads out of the folder" in caught.value.why
    assert published(tmp_path) == []
    assert not list(tmp_path.rglob("escaped.txt"))


# ---- members of a large zip


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """ScanObjectNN's archive: ten files, of which a variant needs two."""
    raw = tmp_path_factory.mktemp("scans")
    scanobjectnn.forge(raw)
    rng = np.random.default_rng(0)
    (raw / "h5_files" / "main_split" / "other.h5").write_bytes(rng.bytes(3_000_000))
    return zipped(raw)


def scan(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, data: bytes, **more: Any) -> dict[str, Any]:
    server.files.setdefault("h5_files.zip", data)
    facts = {"size": len(data), **more}
    source = Source(
        "h5_files.zip", (f"{server.url}/h5_files.zip",), "https://terms.example", "fill in the form", **facts
    )
    monkeypatch.setattr(scanobjectnn, "SOURCES", (source,))
    layout = Layout(tmp_path / "results")
    stage.download(
        params(tmp_path, "kind: scanobjectnn, variant: obj_only, accept_terms: true", "scan"), layout, "scan"
    )
    found: dict[str, Any] = store.read_json(layout.source("scan"))
    return found


def scan_files(tmp_path: Path) -> list[str]:
    return sorted(str(p.relative_to(tmp_path / "results/raw/scan")) for p in (tmp_path / "results").rglob("*.h5"))


TWO = ["h5_files/main_split_nobg/test_objectdataset.h5", "h5_files/main_split_nobg/training_objectdataset.h5"]


def sent(server: Server) -> int:
    """The bytes that the ranges of all requests cover."""
    total = 0
    for name, asked in server.requests:
        first, last = re.findall(r"\d+", asked) if asked else (0, len(server.files[name]) - 1)
        total += int(last) - int(first) + 1
    return total


def test_only_the_needed_members_are_fetched(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, scans: bytes
):
    found = scan(tmp_path, server, monkeypatch, scans)
    assert scan_files(tmp_path) == TWO
    assert found["fetched"][0]["members"] == TWO
    assert sent(server) < len(scans) / 4
    shapes = list(scanobjectnn.read(tmp_path / "results/raw/scan", scanobjectnn.Config(variant="obj_only")))
    assert len(shapes) == 8


def test_a_broken_member_goes_on_where_it_stopped(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, scans: bytes
):
    def drops(handler: Any, data: bytes) -> bool:
        first, last = (int(word) for word in re.findall(r"\d+", handler.headers["Range"]))
        return honour(handler, data, stop=20_000 if last - first > 80_000 else None)

    server.files["h5_files.zip"] = scans
    server.ways["h5_files.zip"] = drops
    scan(tmp_path, server, monkeypatch, scans)
    assert scan_files(tmp_path) == TWO
    assert sent(server) > len(scans) / 50
    starts = [int(re.findall(r"\d+", asked)[0]) for _, asked in server.requests]
    assert len(starts) == len(set(starts)) + starts.count(0) - 1  # no byte of a member was asked for twice


def test_without_ranges_the_whole_archive_is_fetched(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, scans: bytes
):
    def plain(handler: Any, data: bytes) -> bool:
        del handler.headers["Range"]
        return honour(handler, data)

    server.files["h5_files.zip"] = scans
    server.ways["h5_files.zip"] = plain
    found = scan(tmp_path, server, monkeypatch, scans, md5=hashlib.md5(scans).hexdigest())
    assert found["fetched"][0]["verified"] == "md5"
    assert scan_files(tmp_path) == TWO


def test_wrong_bytes_of_a_member_are_not_published(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, scans: bytes
):
    with zipfile.ZipFile(io.BytesIO(scans)) as file:
        info = file.getinfo(TWO[0])
    at = info.header_offset + 200 + info.compress_size // 2
    server.files["h5_files.zip"] = scans[:at] + bytes(64) + scans[at + 64 :]
    with pytest.raises(Problem, match="cannot be fetched"):
        scan(tmp_path, server, monkeypatch, scans)
    assert TWO[0] not in scan_files(tmp_path)


def test_another_archive_of_the_same_name_is_refused(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, scans: bytes
):
    server.files["h5_files.zip"] = scans + b"x"
    with pytest.raises(Problem) as caught:
        scan(tmp_path, server, monkeypatch, scans)
    assert "expected" in caught.value.why
    assert scan_files(tmp_path) == []


def test_source_json_is_what_it_says(tmp_path: Path, server: Server, sources: Any, archive: bytes):
    server.files["a.zip"] = archive
    sources(source_of(archive, f"{server.url}/a.zip"))
    found = go(tmp_path)
    folder = tmp_path / "results/raw/modelnet40"
    assert {name: (folder / name).stat().st_size for name in found["unpacked"]} == found["unpacked"]
    assert found["terms"] == ["https://terms.example"]
    assert found["provenance"]["verb"] == "download"
    assert json.loads((folder / "SOURCE.json").read_text())["kind"] == "modelnet40"
