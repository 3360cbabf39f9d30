"""Explainers whose model only takes text: pairs said in words to a local one, or to one that is asked (no torch)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from weakref import finalize

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forwhy.artifact import Artifact, Content
from forwhy.bridge.options import GenerationConfig, finish
from forwhy.columns import SIDES, Side
from forwhy.data.dataset import Dataset
from forwhy.errors import UserError
from forwhy.explain.base import Explainer, KnownT
from forwhy.explain.evidence import Subject
from forwhy.explain.options import BeatConfig, WordsConfig
from forwhy.text.chat.answers import KeptAnswers
from forwhy.text.chat.asking import Inquiry, ask_all
from forwhy.text.chat.base import Chat, ChatConfig, Message, Question, Tally
from forwhy.text.chat.client import open_chat
from forwhy.text.hostile import clean, escaped

if TYPE_CHECKING:
    from forwhy.bridge.prompt import Row
    from forwhy.bridge.reader import PairReader, Parts, TextReader

_LABELS = {"user": "User:", "item": "Item:", "title": "Title:", "text": "Explanation:"}
_TOKENS = {"user": 160, "item": 160, "title": 24, "text": 128}
"""Most tokens of each part, of a local model."""
_CHARACTERS = {"user": 1200, "item": 1200, "title": 200, "text": 800}
"""Most characters of each part, of a model that is asked."""


@dataclass(frozen=True)
class Described:
    """A pair in words; `text` is its explanation: an example's, or one to be scored."""

    user: str
    item: str
    title: str = ""
    text: str | None = None

    def parts(self) -> Iterator[tuple[str, str, str]]:
        """Name, label and text of the parts that say something, in prompt order."""
        return ((name, _LABELS[name], text) for name, text in vars(self).items() if text and text.strip())

    def limited(self) -> Parts:
        """The parts for a local model."""
        return [(label, text, _TOKENS[name]) for name, label, text in self.parts()]


class ChatReader:
    """A model behind `open_chat`: it writes, and cannot score."""

    def __init__(self, words: WordsConfig, chat: ChatConfig, examples: Sequence[Described]) -> None:
        self._chat, self._kept = chat, KeptAnswers()
        self._opening = "\n\n".join([words.instruction, *map(_lines, examples)])
        self._used, self._answered = Tally(), 0

    @cached_property
    def _model(self) -> Chat:
        """Opened once: a local model is loaded, and a budget spent, over all that is written."""
        model = open_chat(self._chat).__enter__()
        finalize(self, model.__exit__)
        return model

    def _asked(self, pair: Described, config: GenerationConfig) -> Inquiry[str]:
        """One user turn, so that models without a system role take it; strangers' words are escaped."""
        text = f"{self._opening}\n\n{_lines(pair)}\n{_LABELS['text']}"
        question = Question((Message("user", text),), config.max_new_tokens)
        return Inquiry(question, lambda answer: finish(answer, True, config.max_words))

    def write(self, rows: Sequence[Described], config: GenerationConfig) -> list[str]:
        """An explanation for each, by a question for each pair that was not asked before; refused where none comes."""
        tasks = [self._asked(pair, config) for pair in rows]
        replies = ask_all(self._model, tasks, self._kept, self._chat.asks, "explaining", self._chat.cost)
        self._used += replies.asked.used + replies.asked.kept
        self._answered += len(rows)
        if missing := [reply.reason for reply in replies if not reply.value]:
            raise UserError(
                f"LLM {self._chat.model!r}: {len(missing)} of {len(rows)} pairs got no explanation "
                f"({missing[0] or 'an empty answer'}); raise explainer.generation.max_new_tokens or ask another model"
            )
        return [str(reply.value) for reply in replies]

    def stream(self, row: Described, config: GenerationConfig) -> Iterator[str]:
        """The explanation of one in one piece, as the server sends it."""
        yield self.write([row], config)[0]

    def nll(self, rows: Sequence[Described]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Refused with a :class:`UserError`: a chat interface tells no probabilities."""
        raise UserError(
            f"LLM {self._chat.model!r}: a chat interface tells no probabilities of given texts; leave "
            "explainer.words.chat out, so that explainer.model writes and scores"
        )

    def prompt_length(self, rows: Sequence[Described]) -> float | None:
        """Mean tokens of the prompts that the server counted so far, kept answers included, whatever the pairs."""
        return self._used.input_tokens / self._answered if self._answered else None

    def identity(self) -> dict[str, Any]:
        """Only its name is known."""
        return {"id": self._chat.model, "revision": None}


def _lines(pair: Described) -> str:
    """One labelled line for each part; no text can begin a line of its own, or end a tag."""
    return "\n".join(
        f"{label} {escaped(clean(text, _CHARACTERS[name]))}" for name, label, text in pair.parts()
    )


class SpokenExplainer(Explainer[KnownT, Any]):
    """Says in words what is known of a user and an item, to `model` or, with `words.chat`, to one that is asked."""

    config: BeatConfig

    def __init__(self, config: BeatConfig | None = None) -> None:
        super().__init__(config)
        self.examples: list[Described] = []
        self._reader: TextReader | ChatReader | None = None
        self.can_score = self.config.words.chat is None

    @property
    def shows_profiles(self) -> bool:
        """Whether profiles stand in the prompts."""
        return self.config.words.shows == "profiles"

    @abstractmethod
    def _phrases(self, subject: Subject) -> Mapping[Side, list[list[str]]]:
        """Side -> the phrases of each of its tokens, the best first."""

    @property
    def reader(self) -> PairReader[Any]:
        """The model: here, which reads ids, or asked, which reads words."""
        return self._fitted(self._reader)

    def fit(self, dataset: Dataset, known: KnownT, folder: Path) -> Self:
        """Take up examples, where there are any, and profiles that are shown; nothing is learned or put into `folder`.

        Raises:
            UserError: Other users or items than those known, or no model.
        """
        self._take_up(dataset, known)
        count = self.config.words.examples
        if count and self.supported(dataset.pairs("train")).any():
            shown = self._scored(self._usable(dataset, "train", count))
            self.examples = [self._described(subject) for subject in shown]
        self._reader = self._open()
        return self

    def _open(self, stored: Artifact | None = None) -> TextReader | ChatReader:
        """The model that reads: asked, or here."""
        words = self.config.words
        if words.chat is not None:
            return ChatReader(words, words.chat, self.examples)
        told = {"instruction": words.instruction, "task_tokens": 0}
        from forwhy.bridge.reader import TextReader

        prompt, examples = self.config.prompt.model_copy(update=told), [it.limited() for it in self.examples]
        return TextReader(self._backbone(stored), prompt, examples)

    def _row(self, subject: Subject, without: tuple[Side, int] | None = None) -> Row | Described:
        pair = self._described(subject, without)
        if self.config.words.chat is not None:
            return pair
        reader: Any = self.reader
        read: Row = reader.row(replace(pair, text=None).limited(), pair.text)
        return read

    def _described(self, subject: Subject, without: tuple[Side, int] | None = None) -> Described:
        """A pair in words, one token's phrases left out where asked for; each phrase is said once."""
        words, said = self.config.words, self._profiles(subject)
        if words.shows == "glosses":
            for side, phrases in self._phrases(subject).items():
                kept = [gloss[: words.phrases] for n, gloss in enumerate(phrases) if (side, n) != without]
                said[side] = "; ".join(dict.fromkeys(phrase for gloss in kept for phrase in gloss))
        title = subject.title if self.config.prompt.title else ""
        return Described(said["user"], said["item"], title, subject.text)

    def _worth(self, subjects: Sequence[Subject]) -> Sequence[NDArray[np.float64] | None]:
        """What a text loses when a token's phrases are not said; 0 where another token says them."""
        if not self.can_score or self.config.words.shows == "profiles":
            return [None] * len(subjects)
        worth = []
        for subject in subjects:
            phrases = self._phrases(subject)
            left_out = [(side, number) for side in SIDES for number in range(len(phrases[side]))]
            sums, _ = self.reader.nll([self._row(subject, token) for token in (None, *left_out)])
            worth.append(sums[1:] - sums[0])
        return worth

    def content(self) -> Content:
        """What is known, profiles and examples; nothing is trained."""
        whole, rows = super().content(), [tuple(vars(example).values()) for example in self.examples]
        schema = dict.fromkeys(("user", "item", "title", "text"), pl.String)
        examples = pl.DataFrame(rows, schema=schema, orient="row")
        return replace(whole, tables={**whole.tables, "examples": examples})

    def _reopen(self, stored: Artifact) -> None:
        self.examples = [Described(*row) for row in stored.tables["examples"].iter_rows()]
        self._reader = self._open(stored)
