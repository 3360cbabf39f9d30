"""`forwhy doctor`."""

# ruff: noqa: ANN401 - the command line is conftest's, which no test can import
from __future__ import annotations

from typing import Any


def test_doctor(cli: Any) -> None:
    assert "python" in cli.document("doctor")
