"""A judge's server on this machine, which answers as a test says."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest

import fake_llm
from fake_llm import FakeJudge


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeJudge]:
    """A running judge; no key, address or proxy comes from the environment."""
    for name in ("FORWHY_JUDGE_KEY", "FORWHY_JUDGE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with fake_llm.serving(FakeJudge()) as judge:
        yield judge


@pytest.fixture
def kit() -> ModuleType:
    """Makers of answers: `completion`, `grade`, `Response`."""
    return fake_llm
