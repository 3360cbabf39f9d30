"""Answers on disk: one JSON line each, written when it arrives; a second run asks nothing twice."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from threading import Lock
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from forwhy.lines import LineFile, Wording
from forwhy.text.chat.base import FINAL, Answer, Tally

_WORDING = Wording("a kept answer", "answers", "question", "asks")


class Kept(BaseModel):
    """One answer that was paid for: the text of it, or why there is none."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    key: str = Field(pattern="^[0-9a-f]{64}$")
    """`Question.key` of the model."""
    model: str
    text: str = ""
    reason: Literal["refused", "truncated"] | None = None
    used: Tally
    seconds: float = Field(ge=0, allow_inf_nan=False)
    """That it took, waiting included."""

    @model_validator(mode="after")
    def _text_or_reason(self) -> Kept:
        if self.text and self.reason:
            raise ValueError("either a text or a reason")
        return self


class ReplyCache(LineFile[Kept]):
    """All answers of a file, found by key; held by one process while open, others wait.

    A file serves any number of runs, models and kinds of question; of two answers with one key the first
    counts. Memory: some 300 bytes per answer, the texts stay on the disk. Without a path answers last as
    long as this object.
    """

    def __init__(self, path: Path | None = None) -> None:
        super().__init__(path, Kept, _WORDING)
        self._adding = Lock()
        self._places: dict[str, tuple[int, int] | Kept] = {}
        self._answers: defaultdict[str, int] = defaultdict(int)
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def get(self, key: str) -> Answer | None:
        """The answer with this key."""
        place = self._places.get(key)
        if place is None:
            return None
        kept = place if isinstance(place, Kept) else self.read(place)
        return Answer(kept.text, kept.reason, used=kept.used)

    def add(self, key: str, model: str, answer: Answer, seconds: float) -> None:
        """Keep a final answer, on the disk before this returns; any other is passed over.

        Raises:
            UserError: the disk is full.
        """
        if answer.reason not in FINAL:
            return
        text = answer.text if answer.reason is None else ""
        fields = {"key": key, "model": model, "text": text, "reason": answer.reason, "used": answer.used}
        kept = Kept.model_validate(fields | {"seconds": round(seconds, 3)})
        with self._adding:
            if key not in self._places:
                self.found(kept, self.append(kept))

    def found(self, record: Kept, place: tuple[int, int] | None) -> None:
        """Remember where a record lies, or itself where there is no file."""
        self._places.setdefault(record.key, record if place is None else place)
        self._answers[record.model] += 1
        self._seconds[record.model] += record.seconds

    def mean_seconds(self, model: str) -> float | None:
        """Mean time of this model's answers; None before the first."""
        count = self._answers.get(model)
        return self._seconds[model] / count if count else None
