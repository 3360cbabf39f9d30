"""A server of an LLM on this machine, which answers as a test says."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest

import fake_llm
from fake_llm import FakeLLM


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeLLM]:
    """A running server; no key, address or proxy comes from the environment."""
    for name in ("FORWHY_LLM_KEY", "FORWHY_LLM_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with fake_llm.serving(FakeLLM()) as llm:
        yield llm


@pytest.fixture
def kit() -> ModuleType:
    """Makers of answers: `completion`, `Response`."""
    return fake_llm
