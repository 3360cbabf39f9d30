"""Votes on disk: one JSON line each, written when it arrives, so that a killed judge goes on where it was.

A file serves any number of runs, judges and wordings; a vote is found by its key. It holds no texts.
"""

import errno
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from forwhy.artifact import full_disk
from forwhy.errors import UserError
from forwhy.evaluate.judge.budget import Tally

if TYPE_CHECKING:
    from filelock import BaseFileLock

log = logging.getLogger(__name__)

Reason = Literal["refused", "prose", "truncated", "rejected", "timeout", "server", "budget"]
"""Why a pair has no vote: the judge declined; answered something else than a grade; did not come to the end
of its answer; its server rejected the request (a text too long for the judge, say), did not answer in time,
or failed; the budget was spent."""
FINAL: frozenset[Reason | None] = frozenset({None, "refused", "prose", "truncated"})
"""What was answered and paid for; anything else is asked again by the next run."""

_START = b'{"key":"'
_CUT = re.compile(rb'\{"key":"[0-9a-f]{0,64}')


class Vote(BaseModel):
    """A judge's grade of one prediction against one reference, or why there is none."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    key: str = Field(pattern="^[0-9a-f]{64}$")
    model: str
    prompt: str
    score: int | None = Field(default=None, ge=0, le=100)
    reason: Reason | None = None
    used: Tally

    @model_validator(mode="after")
    def _score_or_reason(self) -> Self:
        if (self.score is None) == (self.reason is None):
            raise ValueError("either a score or a reason")
        return self


class VoteFile:
    """All votes of a file, held by one process while open; others wait.

    On entry a last line that a kill cut short is removed. None for a path keeps nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path, self._writing = path, Lock()
        self._stream: FileIO | None = None
        self._lock: BaseFileLock | None = None
        self.votes: dict[str, Vote] = {}
        """Key -> vote; of two with one key the first."""

    def __enter__(self) -> Self:
        """Lock, read and repair the file.

        Raises:
            UserError: a line that is not a vote, with its number; a folder that can't be written to.
        """
        if self._path is not None:
            with _unwritable(self._path):
                self._lock = _locked(self._path)
                try:
                    self._open(self._path)
                except BaseException:
                    self.__exit__()
                    raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            self._stream.close()
        if self._lock is not None:
            self._lock.release()

    def add(self, vote: Vote) -> None:
        """Append a final vote and put it on the disk; safe from several threads.

        Raises:
            UserError: the disk is full.
        """
        if self._stream is None or self._path is None or vote.reason not in FINAL:
            return
        line = vote.model_dump_json(exclude_none=True).encode() + b"\n"
        with self._writing, full_disk(self._path):
            _append(self._stream, line)

    def _open(self, path: Path) -> None:
        *lines, last = (path.read_bytes() if path.exists() else b"").split(b"\n")
        found = [_vote(line) for line in lines]
        self._refuse_foreign(path, [row for row, vote in enumerate(found, 1) if vote is None], last)
        self._stream = FileIO(path, "ab")
        if _vote(last) is not None:
            found.append(_vote(last))
            _append(self._stream, b"\n")
        elif last:
            log.info("%s: the last line was cut short by a kill; removed", path)
            self._stream.truncate(sum(len(line) + 1 for line in lines))
        for vote in found:
            if vote is not None:
                self.votes.setdefault(vote.key, vote)

    def _refuse_foreign(self, path: Path, wrong: list[int], last: bytes) -> None:
        if not (_START.startswith(last) or _CUT.fullmatch(last[: len(_START) + 64])):
            wrong = [*wrong, -1]
        if wrong:
            named = ", ".join("last" if row < 0 else str(row) for row in wrong[:5])
            more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
            raise UserError(
                f"{path}, line {named}{more}: not a judge's vote; delete it, so that its pair is asked again, "
                "or give another file"
            )


def _locked(path: Path) -> "BaseFileLock":
    try:
        from filelock import FileLock, Timeout
    except ModuleNotFoundError as error:
        raise UserError("filelock is not installed; `pip install 'forwhy[judge]'` brings it") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("%s: another process judges with it; waiting for it", path)
        lock.acquire()
    return lock


@contextmanager
def _unwritable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot write ({error.strerror}); choose another place for votes") from error


def _append(stream: FileIO, line: bytes) -> None:
    """Write the whole line in one go and sync it, or leave the file as it was."""
    size = os.fstat(stream.fileno()).st_size
    try:
        if stream.write(line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(stream.fileno())
    except OSError:
        stream.truncate(size)
        raise


def _vote(line: bytes) -> Vote | None:
    try:
        return Vote.model_validate_json(line)
    except ValidationError:
        return None
