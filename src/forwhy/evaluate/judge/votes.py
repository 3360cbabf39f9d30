"""Votes on disk: one JSON line each, written when it arrives, so that a killed judge goes on where it was.

A file serves any number of runs, judges and wordings; a vote is found by its key. It holds no texts.
"""

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from forwhy.lines import LineFile, Wording
from forwhy.text.chat.base import Tally

Reason = Literal["refused", "prose", "truncated", "rejected", "timeout", "server", "budget"]
"""Why a pair has no vote: the judge declined; answered something else than a grade; did not come to the end
of its answer; its server rejected the request (a text too long for the judge, say), did not answer in time,
or failed; the budget was spent."""
FINAL: frozenset[Reason | None] = frozenset({None, "refused", "prose", "truncated"})
"""What was answered and paid for; anything else is asked again by the next run."""

_WORDING = Wording("a judge's vote", "votes", "pair", "judges")


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


class VoteFile(LineFile[Vote]):
    """All votes of a file, held by one process while open; others wait. Without a path nothing is kept."""

    def __init__(self, path: Path | None) -> None:
        super().__init__(path, Vote, _WORDING)
        self.votes: dict[str, Vote] = {}
        """Key -> vote; of two with one key the first."""

    def found(self, record: Vote, place: tuple[int, int]) -> None:
        """Remember a vote."""
        self.votes.setdefault(record.key, record)

    def add(self, vote: Vote) -> None:
        """Append a final vote and put it on the disk; safe from several threads.

        Raises:
            UserError: the disk is full.
        """
        if vote.reason in FINAL:
            self.append(vote)
