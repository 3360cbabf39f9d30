"""What reaches a terminal."""

# ruff: noqa: ANN401 - the command line is conftest's, which no test can import
from __future__ import annotations

from forwhy.cli.console import plain


def test_control_characters_do_not_reach_a_terminal() -> None:
    assert plain("caf\x1b[2Jé\r\x07\n日本") == "caf [2Jé  \n日本"
