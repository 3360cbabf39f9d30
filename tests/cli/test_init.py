"""Every exception becomes an exit status and one line; what reaches a terminal is plain."""

# ruff: noqa: ANN401 - the command line is conftest's, which no test can import
from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from forwhy.cli import guarded, plain
from forwhy.errors import UserError

Capture = pytest.CaptureFixture[str]


def _raise(error: BaseException) -> Callable[[], None]:
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (UserError("a.csv: row 3: empty id;\nfill it"), 2, "a.csv: row 3: empty id; fill it"),
        (OSError(errno.ENOSPC, "No space left on device", "/full/x"), 2, "/full/x: the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "/root/x"), 2, "/root/x: Permission denied"),
        (typer.BadParameter("no"), 2, "no"),
        (KeyboardInterrupt(), 130, "the same command goes on"),
        (ValueError("boom"), 1, "internal error: ValueError: boom"),
        (typer.Exit(0), 0, ""),
    ],
)
def test_guard_is_the_one_place(capsys: Capture, error: BaseException, status: int, said: str) -> None:
    assert guarded(_raise(error)) == status
    last = (capsys.readouterr().err.splitlines() or [""])[-1]
    assert said in last


def test_reader_that_leaves_is_no_error(tiny_run: Path) -> None:
    command = [sys.executable, "-m", "forwhy", "vocabulary", str(tiny_run), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.wait() == 0
    assert process.stderr.read() == b""
    process.stderr.close()


def test_control_characters_do_not_reach_a_terminal() -> None:
    assert plain("caf\x1b[2Jé\r\x07\n日本") == r"caf\x1b[2Jé \x07" + "\n日本"
