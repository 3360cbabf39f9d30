"""The single place where an exception becomes an exit status and one line on stderr."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Callable

import typer

from forwhy.cli.console import plain
from forwhy.errors import UserError

DONE, OURS, CALLERS, INTERRUPTED = 0, 1, 2, 130


def guarded(command: Callable[[], object]) -> int:
    """Runs a command and answers with the exit status; never raises."""
    try:
        status = command()
        return status if isinstance(status, int) else DONE
    except typer.Exit as leaving:
        return leaving.exit_code
    except BrokenPipeError:
        return _closed_pipe()
    except SystemExit as leaving:
        # Typer turns a broken pipe into this before it gets here.
        return _closed_pipe() if isinstance(leaving.__context__, BrokenPipeError) else OURS
    except (KeyboardInterrupt, typer.Abort):
        return _say(INTERRUPTED, "stopped; what was done is kept: the same command goes on from there")
    except UserError as error:
        return _say(CALLERS, str(error))
    except OSError as error:
        return _os_error(error)
    except Exception as error:
        return _usage_error(error) if hasattr(error, "format_message") else _ours(error)


def _os_error(error: OSError) -> int:
    """A full disk and a forbidden path are the caller's to mend; other system errors are reported as ours."""
    place = f"{error.filename}: " if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _say(CALLERS, f"{place}the disk is full; free some space and run the same command again")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return _say(CALLERS, f"{place}{error.strerror}; choose a path that you may read and write")
    return _ours(error)


def _usage_error(error: Exception) -> int:
    """Typer's own errors, told by their method since its click is private: a wrong or missing option."""
    message = str(error.format_message()) if hasattr(error, "format_message") else str(error)
    context = getattr(error, "ctx", None)
    remedy = f"; see: {context.command_path} --help" if context is not None else ""
    return _say(CALLERS, f"{message.rstrip('.')}{remedy}") if message else CALLERS


def _ours(error: Exception) -> int:
    traceback.print_exception(error, file=sys.stderr)
    return _say(
        OURS, f"internal error: {type(error).__name__}: {error}; please report it with the lines above"
    )


def _closed_pipe() -> int:
    """The reader of our output left (`| head`); nothing more can be written, and nothing is wrong."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return DONE


def _say(status: int, message: str) -> int:
    line = plain(" ".join(message.split()))
    sys.stderr.write(f"forwhy: {line}\n")
    return status
