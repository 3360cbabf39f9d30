"""A model that answers from a script, and a data set in which every text has a mark of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from threading import Lock
from typing import Self

import polars as pl
import pytest

from forwhy.data.dataset import Dataset, make_dataset
from forwhy.text.chat.base import Answer, Question, Tally

GOOD = {
    "preferences": ["quiet rooms", "good tea"],
    "profile": "Enjoys quiet rooms.",
    "explanation": "For the tea.",
}


class Scripted:
    """A chat model in memory: answers by a function of the question, and keeps what it was asked."""

    model = "scripted"

    def __init__(self, answer: Callable[[Question], str], concurrency: int = 1) -> None:
        self._answer, self.concurrency = answer, concurrency
        self._writing = Lock()
        self.asked: list[Question] = []

    def ask(self, question: Question) -> Answer:
        with self._writing:
            self.asked.append(question)
        return Answer(self._answer(question), used=Tally(1, 100, 10))

    def stop(self) -> None:
        """Nothing waits here."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...


def fitting(question: Question) -> str:
    """A reply that fits whatever form was asked for."""
    assert question.schema is not None
    name = next(iter(question.schema["properties"]))
    return json.dumps({name: GOOD[name]})


@pytest.fixture
def script() -> Callable[..., Scripted]:
    """Makes a chat that answers with a text, by a function, or (by default) whatever fits."""

    def make(answer: str | Callable[[Question], str] = fitting, concurrency: int = 1) -> Scripted:
        return Scripted((lambda _: answer) if isinstance(answer, str) else answer, concurrency)

    return make


def mark(table: str, user: str, item: str) -> str:
    """What stands in the text of a table about a pair, and nowhere else."""
    return f"canary-{table}-{user}-{item}-end"


HELD = {
    "valid-explanation": ("a", "p"),
    "test-explanation": ("a", "q"),
    "withheld": ("b", "p"),
    "valid-interaction": ("b", "q"),
    "test-interaction": ("c", "p"),
    "repeated": ("c", "q"),
}
"""Why a pair is held out, and which it is; all are training interactions but those held out as such."""
FREE = [("a", "r"), ("a", "s"), ("b", "r"), ("c", "s"), ("d", "p"), ("d", "q"), ("d", "r")]


@pytest.fixture
def canaries() -> Dataset:
    """Every pair reviewed; six held out, each in another way; e has one review, f none, z nothing at all."""
    free = [*FREE, ("e", "p")]
    split = {"valid-interaction": "valid", "test-interaction": "test"}
    visits = [(*pair, split.get(why, "train")) for why, pair in HELD.items()]
    visits += [(*HELD["repeated"], "test"), *((*pair, "train") for pair in (*free, ("f", "p"), ("f", "z")))]
    told = [(*HELD["valid-explanation"], "valid"), (*HELD["test-explanation"], "test")]
    told += [(*pair, "train") for pair in (*FREE[:3], HELD["valid-interaction"])]

    def text(table: str, user: str, item: str) -> str:
        return f"A place to remember. {mark(table, user, item)} is what I say of it."

    def frame(table: str, pairs: list[tuple[str, str]]) -> pl.DataFrame:
        rows = [(user, item, text(table, user, item)) for user, item in pairs]
        return pl.DataFrame(rows, schema=["user_id", "item_id", "text"], orient="row")

    explained = frame("explanations", [(user, item) for user, item, _ in told])
    profiles = [("item", item, f"canary-shipped-{item}-end") for item in "pqrs"]
    tables = {
        "interactions": pl.DataFrame(visits, schema=["user_id", "item_id", "split"], orient="row"),
        "items": pl.DataFrame({"item_id": list("pqrsz"), "title": ["Pub", "Quay", "Rink", "Shop", ""]}),
        "reviews": frame("reviews", [*HELD.values(), *free]),
        "explanations": explained.with_columns(pl.Series("split", [row[2] for row in told])),
        "withheld": frame("withheld", [HELD["withheld"]]),
        "profiles": pl.DataFrame(profiles, schema=["side", "entity_id", "text"], orient="row"),
    }
    return make_dataset("canaries", tables, duplicates="keep")
