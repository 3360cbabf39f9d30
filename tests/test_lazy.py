"""Loading without the garbage collector leaves it as it was."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import suppress

import pytest

from forwhy.lazy import uncollected


@pytest.fixture(autouse=True)
def _kept() -> Iterator[None]:
    was = gc.isenabled()
    yield
    (gc.enable if was else gc.disable)()


@pytest.mark.parametrize("before", [True, False])
def test_the_collector_rests_inside_and_is_as_it_was_behind(before: bool) -> None:
    (gc.enable if before else gc.disable)()
    with suppress(KeyError), uncollected():
        assert not gc.isenabled()
        raise KeyError
    assert gc.isenabled() is before
