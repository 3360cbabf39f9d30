"""A server of an LLM on this machine, which answers as a test says: the judge's, asked anything."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def _judges() -> ModuleType:
    """tests/evaluate/judge/conftest.py: test folders are no packages."""
    place = Path(__file__).parents[2] / "evaluate" / "judge" / "conftest.py"
    spec = importlib.util.spec_from_file_location("fake_judge", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fake_judge"] = module
    spec.loader.exec_module(module)
    return module


JUDGES = _judges()


def echo(_: FakeLLM, text: str) -> Any:  # noqa: ANN401 - a Response of the judge's
    return JUDGES.completion(f"you said: {text}")


class FakeLLM(JUDGES.FakeJudge):  # type: ignore[misc, name-defined]
    """Counts and keeps what it is asked; `behave(server, last message)` makes the answers."""

    def __init__(self) -> None:
        super().__init__()
        self.behave = echo
        self.texts: list[str] = []

    def answer(self, headers: Mapping[str, str], body: dict[str, Any]) -> Any:  # noqa: ANN401
        text = body["messages"][-1]["content"]
        with self.lock:
            self.bodies.append(body)
            self.headers.append(headers)
            self.texts.append(text)
        return self.behave(self, text)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeLLM]:
    """A running server; no key, address or proxy comes from the environment."""
    for name in ("FORWHY_LLM_KEY", "FORWHY_LLM_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with JUDGES.serving(FakeLLM()) as llm:
        yield llm


@pytest.fixture
def kit() -> ModuleType:
    """Makers of answers: `completion`, `Response`."""
    return JUDGES
