"""What slips through a command ends as one line, its trace in a file; signals end it with their own status."""

# ruff: noqa: ANN401 - the command line is conftest's, which no test can import
import errno
import logging
import os
import re
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from forwhy.cli import emit, guarded, show
from forwhy.data.dataset import Dataset
from forwhy.errors import UserError

Capture = pytest.CaptureFixture[str]


def raising(error: BaseException) -> Callable[[], object]:
    def command() -> object:
        raise error

    return command


def _digits() -> Exception:
    try:
        return RuntimeError(int("9" * 5000))
    except ValueError as error:
        return error


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (MemoryError(), 2, "not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 2, "not enough memory"),
        (RecursionError("maximum"), 2, "nested too deeply"),
        ("\ud800".encode, 2, "no text"),
        (_digits(), 2, "a number is too large"),
        (OverflowError("int too large"), 2, "a number is too large"),
        (ValueError("embedded null byte"), 2, "a path holds a NUL"),
        (OSError(errno.EIO, "Input/output error"), 2, "Input/output error"),
        (KeyError("x"), 1, "internal error: KeyError: 'x'; please report it"),
        (pl.exceptions.PanicException("a panic"), 1, "internal error: PanicException"),
    ],
)
def test_what_slips_through_is_a_line_and_a_file(capsys: Capture, error: Any, status: int, said: str) -> None:
    command = error if callable(error) else raising(error)
    words = ["data", "import", "sql", "postgresql://me:secret@host/shop", "x" * 5000]
    assert guarded(command, words) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("forwhy: ")
    assert said in line
    assert len(line) <= 300
    assert "secret" not in line
    path = Path(re.search(r"the trace is in (\S+)", line)[1])  # type: ignore[index]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text()
    assert "Traceback" in text
    assert "data import sql" in text
    assert "secret" not in text
    path.unlink()


@pytest.mark.parametrize(
    "number", [errno.ENAMETOOLONG, errno.ELOOP, errno.EISDIR, errno.ENOTDIR, errno.ENOENT, errno.EIO]
)
def test_the_systems_errors_are_sentences(capsys: Capture, number: int) -> None:
    assert guarded(raising(OSError(number, os.strerror(number), "/a/b"))) == 2
    assert capsys.readouterr().err.startswith(f"forwhy: /a/b: {os.strerror(number)}; ")


def test_every_refusal_has_a_remedy_and_a_length(capsys: Capture) -> None:
    assert guarded(raising(UserError("x: not so")), ["evaluate", "x"]) == 2
    assert capsys.readouterr().err == "forwhy: x: not so; see: forwhy evaluate --help\n"
    assert guarded(raising(UserError(f"unknown id {'a' * 100_000!r} of {'b' * 9000!r}; use another"))) == 2
    said = capsys.readouterr().err
    assert len(said) <= 300
    assert said.endswith("'; use another\n")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_end_a_command_in_any_stage(
    cli: Any, capsys: Capture, monkeypatch: pytest.MonkeyPatch, number: int, status: int
) -> None:
    usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    inherited = signal.signal(number, usual)  # a shell's background commands ignore SIGINT
    try:
        monkeypatch.setattr(Dataset, "load", lambda _: os.kill(os.getpid(), number) or signal.pause())
        assert cli.call("data", "show", "x") == status
        assert signal.getsignal(number) == usual
    finally:
        signal.signal(number, inherited)
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "forwhy: stopped; what was done is kept: the same command goes on from there"


def test_a_training_that_is_terminated_says_so_and_goes_on(
    cli: Any, capsys: Capture, monkeypatch: pytest.MonkeyPatch, tiny_recipe: Path, tmp_path: Path
) -> None:
    from forwhy.training import loop

    kept, steps = loop._Training._after_step, []

    def terminated(self: Any) -> None:
        steps.append(os.kill(os.getpid(), signal.SIGTERM))
        kept(self)

    monkeypatch.setattr(loop._Training, "_after_step", terminated)
    command = ["run", tiny_recipe, "--out", tmp_path / "r", "--until", "vocabulary"]
    assert cli.call(*command) == 143
    assert capsys.readouterr().err.splitlines()[-1].startswith("forwhy: stopped; what was done is kept")
    assert len(steps) == 1
    assert list((tmp_path / "r").rglob("checkpoint.safetensors"))
    monkeypatch.setattr(loop._Training, "_after_step", kept)
    assert cli.call(*command) == 0


STRANGE = "a\x1b[2J\u202eb\x9b31m\u2028c"


def test_strangers_letters_are_seen_everywhere(
    cli: Any, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = logging.getLogger("forwhy")
    kept = log.handlers, log.propagate, log.level

    def said(*_: object) -> None:
        log.warning("%s", f"{STRANGE}\n{'x' * 5000}")
        show(STRANGE)
        emit({STRANGE: STRANGE})
        raise UserError(f"{STRANGE}; go")

    monkeypatch.setattr(Dataset, "load", said)
    try:
        assert cli.call("data", "show", "x") == 2
    finally:
        log.handlers, log.propagate, log.level = kept
    printed = capsys.readouterr()
    lines = [*printed.out.splitlines(), *printed.err.splitlines()]
    assert all(line.isprintable() for line in lines)
    assert r"a\x1b[2J\u202eb\x9b31m c" in lines[0]
    assert len(printed.err.splitlines()) == 2
    assert max(map(len, printed.err.splitlines())) <= 1000
