"""Options of the judge."""

import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from forwhy.errors import UserError
from forwhy.evaluate.controls import deal
from forwhy.evaluate.judge.prompt import VERSION, parse, prompt_hash, question, vote_key
from forwhy.evaluate.significance import Interval, bootstrap_interval, flatten
from forwhy.evaluate.text import TextScores
from forwhy.lines import LineFile, Wording
from forwhy.text.chat.asking import GIVE_UP, Patience, each
from forwhy.text.chat.base import Answer, AskingConfig, Ledger, Speaker, Tally
from forwhy.text.chat.client import Client

JUDGE = Speaker("judge", "FORWHY_JUDGE_URL", "FORWHY_JUDGE_KEY", schema_name="grade")


class JudgeConfig(AskingConfig):
    """Who judges (`url` or FORWHY_JUDGE_URL, key in FORWHY_JUDGE_KEY), and what it may cost."""

    speaker: ClassVar[Speaker] = JUDGE

    budget: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Most that the votes of one evaluation may cost, whenever they were bought: in the currency of the
    prices, without prices in calls. The call that could exceed it is not made."""

    max_tokens: int = Field(default=64, ge=16)
    """Most tokens of an answer. A score needs ten; a judge that thinks aloud first needs thousands."""

    def ledger(self) -> Ledger:
        """A fresh account under this budget."""
        return Ledger(self.budget, self.prices, "calls" if self.prices is None else "money")


# --- Does the judge tell right from wrong? Known answers, graded before anything else is believed.


@dataclass(frozen=True)
class Check:
    """Grades of references beside those of the same references dealt to other pairs."""

    identical: Interval
    """Of each reference against itself, near 100."""
    dealt: Interval
    """Of another pair's reference, low; not 0 where all explanations are alike."""
    difference: Interval
    """Paired, by reference: a judge that tells nothing apart is near 0."""
    auc: float
    """Chance that an identical text is graded above a dealt one, a tie counting half; 0.5: tells nothing."""
    pairs: int
    """References with both grades."""
    excluded: int
    """References without one of them."""

    def document(self) -> dict[str, Any]:
        """As plain JSON values."""
        found = {"identical": self.identical, "dealt": self.dealt, "difference": self.difference}
        return {**flatten(found), "auc": self.auc, "pairs": self.pairs, "excluded": self.excluded}


def checked(same: NDArray[np.int64], other: NDArray[np.int64]) -> Check:
    """From the counts [n, 2] of both rounds, row by row the same reference.

    Raises:
        ValueError: no reference has both grades.
    """
    both = (same[:, 1] > 0) & (other[:, 1] > 0)
    right, wrong = same[both, 0].astype(np.float64), other[both, 0].astype(np.float64)
    return Check(
        bootstrap_interval(right),
        bootstrap_interval(wrong),
        bootstrap_interval(right - wrong),
        float((np.sign(right[:, None] - wrong) + 1).mean() / 2),
        int(both.sum()),
        int((~both).sum()),
    )


# --- Votes on disk: one JSON line each, written when it arrives, so that a killed judge goes on where it was.
#
# A file serves any number of runs, judges and wordings; a vote is found by its key. It holds no texts.


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


# --- GPTScore: how much of each reference's meaning the text has, graded from 0 to 100 by a language model.
#
# XRec's GPTScore (Ma et al. 2024) is one call to gpt-3.5-turbo at its default temperature, whose answer is read
# as a number whatever it is. Here the wording is fixed and named, the temperature 0, an answer is a grade or
# none, and every vote is kept. Grades of two judges, or of XRec's tables and ours, can't be compared.


log = logging.getLogger(__name__)

CHECKED = 50
"""References that `check` grades twice."""


class Judge:
    """The metric `gptscore`, a `Measure`: its counts are [n, 2] = grade | 1, or 0 | 0 for a pair without one.

    Every distinct (prediction, reference) is asked for once, whoever asks: a method, a control, a run killed
    halfway. `votes` is the file that remembers; without one votes last as long as this object. Pairs without
    a grade are left out of the mean and counted by reason in `exclusions`.
    """

    def __init__(self, config: JudgeConfig, votes: Path | None = None) -> None:
        self._config, self._path = config, votes
        self._ledger = config.ledger()
        self._votes: dict[str, Vote] = {}
        self._from_file: set[str] = set()
        self._patience = Patience()
        self.found: Check | None = None
        """What the latest `check` found."""

    def __call__(self, predictions: Sequence[str], references: Sequence[str]) -> TextScores:
        """Grades of `predictions[k]` against `references[k]`. Cost: a call for each pair not yet judged.

        Raises:
            UserError: the server cannot be used, or no pair has a grade; votes so far are kept.
        """
        pairs = zip(predictions, references, strict=True)
        asked = [(vote_key(self._config.model, *pair), pair) for pair in pairs]
        self._vote(dict(asked))
        votes = [self._votes[key] for key, _ in asked]
        counts = np.array([[vote.score or 0, vote.score is not None] for vote in votes], dtype=np.int64)
        if not counts[:, 1].any():
            raise UserError(f"{self._name()}: {_told(votes)}, so there is no score; {self._remedy()}")
        return TextScores({}, {"gptscore": counts}, {"unjudged": float((counts[:, 1] == 0).sum())})

    def check(self, references: Sequence[str], seed: int = 0, pairs: int = CHECKED) -> Check:
        """Grade some references against themselves and dealt to each other; it stands in `document`.

        Cost: two calls for each of `pairs` distinct references, drawn with `seed`.

        Raises:
            UserError: fewer than two distinct references, or what `__call__` raises.
        """
        texts = np.array(sorted({text for text in references if text.strip()}), dtype=object)
        if len(texts) < 2:
            raise UserError(f"{self._name()}: a check needs two different references, found {len(texts)}")
        drawn: list[str] = np.random.default_rng(seed).permutation(texts)[:pairs].tolist()
        same = self(drawn, drawn).counts["gptscore"]
        other = self([drawn[row] for row in deal(len(drawn), seed)], drawn).counts["gptscore"]
        if not (same[:, 1] & other[:, 1]).any():
            raise UserError(f"{self._name()}: no reference got both grades of the check; {self._remedy()}")
        self.found = checked(same, other)
        if self.found.difference.low <= 0:
            log.warning(
                "%s: does not tell a reference from another pair's; its scores say nothing", self._name()
            )
        return self.found

    @property
    def signature(self) -> str:
        """Judge and wording."""
        return f"gptscore: {self._config.model}, {VERSION} ({prompt_hash()[:12]})"

    @property
    def exclusions(self) -> dict[Reason, int]:
        """Reason -> distinct pairs without a grade, of all that were asked for."""
        found = Counter(vote.reason for vote in self._votes.values())
        return {reason: n for reason, n in sorted(found.items(), key=str) if reason is not None}

    def document(self) -> dict[str, Any]:
        """Who judged, how, with what success and at what cost, as plain JSON values.

        `pairs` are distinct; `bought` is what this process paid for, `cached` what the votes that it found
        took when they were bought. `cost` is null without prices, `check` without a check.
        """
        config, scored = self._config, sum(vote.score is not None for vote in self._votes.values())
        return {
            "model": config.model,
            "prompt": VERSION,
            "prompt_sha256": prompt_hash(),
            "temperature": 0,
            "pairs": len(self._votes),
            "votes": scored,
            "excluded": self.exclusions,
            "bought": self._spent(self._ledger.bought),
            "cached": self._spent(self._ledger.cached),
            "prices_per_million": None
            if config.input_price is None
            else [config.input_price, config.output_price],
            "budget": config.budget,
            "check": None if self.found is None else self.found.document(),
        }

    def _vote(self, wanted: Mapping[str, tuple[str, str]]) -> None:
        """Find or buy the votes that are not known yet; those that came to nothing are tried again."""
        open_keys = [key for key in wanted if key not in self._votes or self._votes[key].reason not in FINAL]
        if not open_keys:
            return
        with VoteFile(self._path) as file:
            for key in open_keys:
                self._recall(file.votes.get(key))
            new = {key: wanted[key] for key in open_keys if key not in self._from_file}
            if new:
                self._buy(new, file)
        log.info("%s: %s; %s", self._name(), _told(self._votes.values()), self._costs())

    def _recall(self, vote: Vote | None) -> None:
        if vote is not None:
            self._votes[vote.key] = vote
            self._from_file.add(vote.key)
            self._ledger.cached += vote.used

    def _buy(self, new: Mapping[str, tuple[str, str]], file: VoteFile) -> None:
        with Client(self._config, self._ledger) as client:
            jobs = {key: (key, *pair) for key, pair in new.items()}
            each(client, jobs, lambda job: self._ask(client, file, *job), self._take, "judging", self._costs)

    def _take(self, key: str, vote: Vote) -> None:
        self._votes[key] = vote

    def _ask(self, client: Client, file: VoteFile, key: str, prediction: str, reference: str) -> Vote:
        """One pair's vote, written as soon as it is there."""
        vote, answer = self._grade(client, key, prediction, reference)
        file.add(vote)
        if self._patience.ends(answer):
            raise UserError(
                f"{self._name()} at {client.url}: no answer for {GIVE_UP} pairs in a row; {self._remedy()}"
            )
        return vote

    def _grade(self, client: Client, key: str, prediction: str, reference: str) -> tuple[Vote, Answer]:
        """The vote, and the last answer behind it."""
        used = Tally()
        for again in range(self._config.asks):
            answer = client.ask(question(prediction, reference, self._config.max_tokens, again=again > 0))
            used += answer.used
            score = parse(answer.text) if answer.reason is None else None
            if score is not None or answer.reason not in FINAL:
                break
        reason = None if score is not None else answer.reason or "prose"
        vote = Vote(key=key, model=self._config.model, prompt=VERSION, score=score, reason=reason, used=used)
        return vote, answer

    def _remedy(self) -> str:
        kept = f"; votes so far are kept in {self._path}" if self._path else ""
        if self._ledger.closed:
            return f"raise the budget of {self._config.budget:g} and run again{kept}"
        if self._patience.detail:
            return f"see to its server ({self._patience.detail}) and run again{kept}"
        return "take another judge"

    def _name(self) -> str:
        return f"judge {self._config.model!r}"

    def _spent(self, tally: Tally) -> dict[str, Any]:
        return {**asdict(tally), "cost": self._ledger.cost(tally)}

    def _costs(self) -> str:
        """What all votes took so far, for a reader."""
        ledger = self._ledger
        total = ledger.bought + ledger.cached
        cost, cached = (
            ledger.cost(total),
            f" ({ledger.cached.calls} of them cached)" if ledger.cached.calls else "",
        )
        money = "" if cost is None else f", cost {cost:.4f}"
        return f"{total.calls} calls{cached}, {total.input_tokens} + {total.output_tokens} tokens{money}"


def _told(votes: Collection[Vote]) -> str:
    """How many pairs have a grade, and why the others have none."""
    found = Counter(vote.reason or "" for vote in votes)
    left_out = ", ".join(f"{reason} {n}" for reason, n in sorted(found.items()) if reason)
    return f"{found['']} of {len(votes)} pairs graded" + (
        f", without a grade: {left_out}" if left_out else ""
    )
