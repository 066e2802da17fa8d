"""What `parallel` promises: the order of the items, and few of them in flight."""

from __future__ import annotations

from itertools import islice

import pytest

from jepa3d.parallel import CHUNK, tmap


@pytest.mark.parametrize("threads", ["1", "2", "3"])
def test_the_order_is_that_of_the_items(threads: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JEPA3D_THREADS", threads)
    assert list(tmap(lambda item: item * item, range(500), "squares")) == [item * item for item in range(500)]


def test_a_slow_reader_keeps_few_items_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JEPA3D_THREADS", "2")
    begun: list[int] = []
    assert list(islice(tmap(begun.append, range(10_000), "items"), 3)) == [None] * 3
    assert len(begun) <= CHUNK * 4 * 2 + CHUNK
