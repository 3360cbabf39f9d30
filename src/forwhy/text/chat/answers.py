"""Answers that were paid for, kept in a file: a second run asks nothing twice. Also as JSON lines."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from forwhy.atomic import write_text
from forwhy.errors import UserError
from forwhy.store import Row, Store
from forwhy.text.chat.base import FINAL, Answer, Tally

log = logging.getLogger(__name__)

COLUMNS = (
    "key TEXT", "model TEXT", "text TEXT", "reason TEXT", "seconds REAL",
    "calls INTEGER", "input_tokens INTEGER", "output_tokens INTEGER", "estimated INTEGER",
)  # fmt: skip
_START = b'{"key":"'
_CUT = re.compile(rb'\{"key":"[0-9a-f]{0,64}')
_LINE = (
    "'key', key, 'model', model, 'text', text, 'reason', reason, 'used', json_object('calls', calls, "
    "'input_tokens', input_tokens, 'output_tokens', output_tokens, 'estimated', estimated), 'seconds', seconds"
)
_NAMED = 5
_POLL = 0.05  # seconds between two looks at a question that another process is asking


class KeptAnswers(Store):
    """All answers in a file, found by `Question.key`, of any number of runs, models and kinds of question.

    Processes may share a file while they ask (`alone`). A file of JSON lines, in which earlier versions kept answers
    and votes, is taken over into one ending in `.db`. Without a path answers last as long as this object.
    """

    def __init__(self, path: Path | None = None) -> None:
        lines = path if path is not None and _is_lines(path) else None
        super().__init__(lines.with_suffix(".db") if lines else path, "answers", COLUMNS, "kept answers")
        if lines:
            self.write(_read(lines))
            log.info("%s: its answers were taken over; from now on they are kept in %s", lines, self.path)
        self._locks = self.path.with_name(f".{self.path.name}.lock").open("ab") if self.path else None

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        if self._locks is not None:
            self._locks.close()

    def __len__(self) -> int:
        return int(self.read("SELECT count(*) FROM answers")[0][0])

    def get(self, key: str) -> Answer | None:
        """The answer with this key."""
        for _, _, text, reason, _, *used in self.read("SELECT * FROM answers WHERE key = ?", key):
            return Answer(text, reason, used=Tally(*used))
        return None

    def add(self, key: str, model: str, answer: Answer, seconds: float) -> None:
        """Keep a final answer, on the disk before this returns; any other is passed over."""
        if answer.reason in FINAL:
            text = answer.text if answer.reason is None else ""
            self.write([(key, model, text, answer.reason, round(seconds, 3), *vars(answer.used).values())])

    def mean_seconds(self, model: str) -> float | None:
        """Mean time of this model's answers; None before the first."""
        mean: float | None = self.read("SELECT avg(seconds) FROM answers WHERE model = ?", model)[0][0]
        return mean

    @contextmanager
    def alone(self, key: str) -> Iterator[None]:
        """While this lasts, no other process that uses the file is asking the question with this key."""
        # One byte of a file beside it is locked, so that a killed process leaves nothing behind.
        try:
            import fcntl
        except ModuleNotFoundError:  # on Windows two processes may ask the same question at the same time
            fcntl = None  # type: ignore[assignment]
        if self._locks is None or fcntl is None:
            yield
            return
        place = int(key[:15], 16)
        while True:
            try:
                fcntl.lockf(self._locks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
                break
            except OSError:
                time.sleep(_POLL)
        try:
            yield
        finally:
            fcntl.lockf(self._locks, fcntl.LOCK_UN, 1, place)


# --- As JSON lines: one answer each.


class AnswerLine(BaseModel):
    """An answer as a line; or a judge's vote, as versions before 0.3 kept them: `prompt` and `score`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    key: str = Field(pattern="^[0-9a-f]{64}$")
    model: str
    text: str = ""
    reason: Literal["refused", "truncated", "malformed", "prose"] | None = None
    used: Tally
    seconds: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    prompt: str | None = None
    score: int | None = Field(default=None, ge=0, le=100)

    @model_validator(mode="after")
    def _one_ending(self) -> Self:
        endings = bool(self.text) + (self.reason is not None) + (self.score is not None)
        if endings > 1 or (self.prompt is not None and not endings):
            raise ValueError("either a text, a score or a reason")
        return self

    def row(self) -> Row:
        """As it is kept. A judge's prose was asked for as often as it was wanted: it is malformed."""
        text = self.text if self.score is None else json.dumps({"score": self.score})
        reason = "malformed" if self.reason == "prose" else self.reason
        return (self.key, self.model, text, reason, self.seconds, *vars(self.used).values())


def import_answers(source: Path, target: Path) -> int:
    """Add the JSON lines of a file to the answers kept in another; how many are new. Other lines are refused."""
    if not _is_lines(source):
        raise UserError(f"{source}: no file of answers as JSON lines; see docs/formats.md")
    with KeptAnswers(target) as kept:
        before = len(kept)
        kept.write(_read(source))
        return len(kept) - before


def export_answers(source: Path, target: Path) -> int:
    """Write all kept answers as JSON lines, in the order in which they came; how many."""
    if not source.is_file():
        raise UserError(f"{source}: no such file; name the file in which answers are kept")
    with KeptAnswers(source) as kept:
        lines = kept.read(f"SELECT json_object({_LINE}) FROM answers ORDER BY rowid")
    write_text(target, "".join(f"{line}\n" for (line,) in lines))
    return len(lines)


def _is_lines(path: Path) -> bool:
    """Whether a file begins as JSON lines of answers do."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(len(_START)) == _START


def _read(path: Path) -> list[Row]:
    """Lines as rows; a last line that a kill cut short is left out."""
    *whole, last = path.read_bytes().split(b"\n")
    rows, end = [_row(line) for line in whole], _row(last)
    wrong = [str(number) for number, row in enumerate(rows, 1) if row is None]
    if end is None and not (_START.startswith(last) or _CUT.fullmatch(last[: len(_START) + 64])):
        wrong.append("last")
    if wrong:
        more = f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        remedy = "delete it, so that its question is asked again, or give another file"
        raise UserError(f"{path}, line {', '.join(wrong[:_NAMED])}{more}: not a kept answer; {remedy}")
    return [row for row in (*rows, end) if row is not None]


def _row(line: bytes) -> Row | None:
    try:
        return AnswerLine.model_validate_json(line).row()
    except ValidationError:
        return None
