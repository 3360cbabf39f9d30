"""The command line, as a fixture."""

import json
from typing import Any

import pytest

from forwhy.cli import main


class Cli:
    """Calls `forwhy` in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def call(self, *arguments: object) -> int:
        """The exit status of a command."""
        with pytest.raises(SystemExit) as leaving:
            main([str(argument) for argument in arguments])
        return int(leaving.value.code or 0)

    def document(self, *arguments: object) -> Any:  # noqa: ANN401 - JSON is any of its types
        """The one JSON document of a command that succeeds."""
        self._capsys.readouterr()
        assert self.call(*arguments, "--json") == 0
        return json.loads(self._capsys.readouterr().out)

    def refusal(self, *arguments: object) -> str:
        """The one line of a command that is refused; a server that was asked is named before it."""
        self._capsys.readouterr()
        assert self.call(*arguments) == 2
        printed = self._capsys.readouterr()
        assert printed.out == ""
        *before, last = printed.err.splitlines(keepends=True)
        assert all(" is asked at " in line for line in before)
        assert last.startswith("forwhy: ")
        return last


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """The command line; what it prints is `capsys`'s."""
    return Cli(capsys)
