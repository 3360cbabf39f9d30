"""Explainers whose model only takes text: pairs said in words to a local model, or to one that is asked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self
from weakref import finalize

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forwhy.artifact import Artifact, Content
from forwhy.bridge.backbone import Backbone
from forwhy.bridge.generation import finish
from forwhy.bridge.options import GenerationConfig, PromptConfig
from forwhy.bridge.prompt import Prompt, Row
from forwhy.bridge.reader import Reader
from forwhy.columns import SIDES, Side
from forwhy.data.dataset import Dataset
from forwhy.data.ids import Pairs
from forwhy.errors import UserError
from forwhy.explain.base import Explainer, KnownT
from forwhy.explain.evidence import Subject
from forwhy.explain.options import BeatConfig, WordsConfig
from forwhy.text.chat.answers import KeptAnswers
from forwhy.text.chat.asking import Inquiry, ask_all
from forwhy.text.chat.base import Chat, ChatConfig, Message, Question, Tally
from forwhy.text.chat.opening import open_chat
from forwhy.text.hostile import clean, escaped

_LABELS = {"user": "User:", "item": "Item:", "title": "Title:", "text": "Explanation:"}
_TOKENS = {"user": 160, "item": 160, "title": 24, "text": 128}
"""Most tokens of each part, of a local model."""
_CHARACTERS = {"user": 1200, "item": 1200, "title": 200, "text": 800}
"""Most characters of each part, of a model that is asked."""
_SCORED_TOGETHER = 32


@dataclass(frozen=True)
class Described:
    """A pair in words; `text` is its explanation, where it is an example."""

    user: str
    item: str
    title: str = ""
    text: str = ""

    def parts(self) -> Iterator[tuple[str, str, str]]:
        """Name, label and text of the parts that say something, in prompt order."""
        return ((name, _LABELS[name], text) for name, text in vars(self).items() if text.strip())


class Writer(ABC):
    """A model that reads pairs in words and writes."""

    @abstractmethod
    def write(self, pairs: Sequence[Described], config: GenerationConfig) -> list[str]:
        """An explanation for each."""

    @abstractmethod
    def stream(self, pair: Described, config: GenerationConfig) -> Iterator[str]:
        """The same of one, in pieces."""

    @abstractmethod
    def nll(
        self, pairs: Sequence[Described], texts: Sequence[str]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """[n] nats of each text after its pair, and its target tokens."""

    @abstractmethod
    def prompt_length(self, pairs: Sequence[Described]) -> float | None:
        """Mean tokens of a prompt; None where there are none."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """What names the model: `id`, `revision` and more."""


class LocalWriter(Writer):
    """A frozen model here; the instruction and the examples are its constant beginning, read once."""

    def __init__(self, backbone: Backbone, config: PromptConfig, examples: Sequence[Described]) -> None:
        prompt = Prompt(backbone.tokenizer, config, {"user": 0, "item": 0})
        self.reader = Reader[None](backbone, prompt, None)
        prompt.prefix_ids += tuple(number for example in examples for number in self._ids(example))

    def _ids(self, pair: Described) -> list[int]:
        labelled = self.reader.prompt.labelled
        return [n for name, label, text in pair.parts() for n in labelled(f"\n{label}", text, _TOKENS[name])]

    def row(self, pair: Described, text: str | None = None) -> Row:
        """A pair as ids; `text` becomes the targets."""
        target = () if text is None else self.reader.prompt.target(text)
        return Row((), (), tuple(self._ids(pair)), target)

    def write(self, pairs: Sequence[Described], config: GenerationConfig) -> list[str]:
        """Greedily."""
        return self.reader.write([self.row(pair) for pair in pairs], config)

    def stream(self, pair: Described, config: GenerationConfig) -> Iterator[str]:
        """Word by word."""
        return self.reader.stream(self.row(pair), config)

    def nll(
        self, pairs: Sequence[Described], texts: Sequence[str]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """One reading of each text."""
        rows = [self.row(pair, text) for pair, text in zip(pairs, texts, strict=True)]
        return self.reader.nll(rows, _SCORED_TOGETHER)

    def prompt_length(self, pairs: Sequence[Described]) -> float | None:
        """The constant beginning included."""
        return self.reader.prompt_length([self.row(pair) for pair in pairs])

    def identity(self) -> dict[str, Any]:
        """That of the frozen model."""
        return self.reader.backbone.identity()


class ChatWriter(Writer):
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

    def write(self, pairs: Sequence[Described], config: GenerationConfig) -> list[str]:
        """One question for each pair that was not asked before.

        Raises:
            UserError: The model cannot be asked, or has no explanation for a pair.
        """
        tasks = [self._asked(pair, config) for pair in pairs]
        replies = ask_all(self._model, tasks, self._kept, self._chat.asks, "explaining", self._chat.prices)
        self._used += replies.asked.used + replies.asked.kept
        self._answered += len(pairs)
        missing = [reply.reason for reply in replies if not reply.value]
        if missing:
            raise UserError(
                f"LLM {self._chat.model!r}: {len(missing)} of {len(pairs)} pairs got no explanation "
                f"({missing[0] or 'an empty answer'}); raise explainer.generation.max_new_tokens or ask another model"
            )
        return [str(reply.value) for reply in replies]

    def stream(self, pair: Described, config: GenerationConfig) -> Iterator[str]:
        """In one piece, as the server sends it."""
        yield self.write([pair], config)[0]

    def nll(
        self, pairs: Sequence[Described], texts: Sequence[str]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Not to be had.

        Raises:
            UserError: Always: a chat interface tells no probabilities.
        """
        raise UserError(
            f"LLM {self._chat.model!r}: a chat interface tells no probabilities of given texts; leave "
            "explainer.words.chat out, so that explainer.model writes and scores"
        )

    def prompt_length(self, pairs: Sequence[Described]) -> float | None:
        """What the server counted so far, kept answers included, whatever the pairs."""
        return self._used.input_tokens / self._answered if self._answered else None

    def identity(self) -> dict[str, Any]:
        """Only its name is known."""
        return {"id": self._chat.model, "revision": None}


def _lines(pair: Described) -> str:
    """One labelled line for each part; no text can begin a line of its own, or end a tag."""
    return "\n".join(
        f"{label} {escaped(clean(text, _CHARACTERS[name]))}" for name, label, text in pair.parts()
    )


class SpokenExplainer(Explainer[KnownT]):
    """Says in words what is known of a user and an item, to `model` or, with `words.chat`, to one that is asked.

    `can_score` is False where a model is asked: then there is no NLL, no information gain and no
    contribution of a token.
    """

    config: BeatConfig

    def __init__(self, config: BeatConfig | None = None) -> None:
        super().__init__(config)
        self.examples: list[Described] = []
        self._writer: Writer | None = None
        self.can_score = self.config.words.chat is None

    @abstractmethod
    def _phrases(self, subject: Subject) -> Mapping[Side, list[list[str]]]:
        """Side -> the phrases of each of its tokens, the best first."""

    @property
    def writer(self) -> Writer:
        """The model that reads."""
        return self._fitted(self._writer)

    def fit(self, dataset: Dataset, known: KnownT, folder: Path) -> Self:
        """Take up examples and profiles, where these are shown; nothing is learned, `folder` stays as it is.

        Raises:
            UserError: Other users or items than those known, too few explanations for the examples, or no model.
        """
        self._take_up(dataset, known)
        if count := self.config.words.examples:
            shown = self._scored(self._usable(dataset, "train", count))
            self.examples = [replace(self._said(subject), text=subject.text or "") for subject in shown]
        self._writer = self._open()
        return self

    def _open(self, stored: Artifact | None = None) -> Writer:
        """The model that reads: asked, or here."""
        words = self.config.words
        if words.chat is not None:
            return ChatWriter(words, words.chat, self.examples)
        told = {"instruction": words.instruction, "task_tokens": 0}
        return LocalWriter(self._backbone(stored), self.config.prompt.model_copy(update=told), self.examples)

    # --- what is said

    def _said(self, subject: Subject, without: tuple[Side, int] | None = None) -> Described:
        """A pair in words, one token's phrases left out where asked for; each phrase is said once."""
        words, said = self.config.words, dict[Side, str]()
        phrases = self._phrases(subject) if words.shows == "glosses" else {}
        numbers = {"user": subject.user, "item": subject.item}
        for side in SIDES:
            if words.shows == "profiles":
                number = numbers[side]
                said[side] = "" if number is None else self.profiles[side].get(number, "")
                continue
            kept = [gloss[: words.phrases] for n, gloss in enumerate(phrases[side]) if (side, n) != without]
            said[side] = "; ".join(dict.fromkeys(phrase for gloss in kept for phrase in gloss))
        return Described(said["user"], said["item"], subject.title if self.config.prompt.title else "")

    def _write(self, subjects: Sequence[Subject]) -> list[str]:
        return self.writer.write([self._said(subject) for subject in subjects], self.config.generation)

    def _stream(self, subject: Subject) -> Iterator[str]:
        return self.writer.stream(self._said(subject), self.config.generation)

    def _scores(self, subjects: Sequence[Subject]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        pairs = [self._said(subject) for subject in subjects]
        return self.writer.nll(pairs, [subject.text or "" for subject in subjects])

    def _worth(self, subjects: Sequence[Subject]) -> Sequence[NDArray[np.float64] | None]:
        """What a text loses when a token's phrases are not said; 0 where another token says them."""
        if not self.can_score or self.config.words.shows == "profiles":
            return [None] * len(subjects)
        return [self._lost(subject) for subject in subjects]

    def _lost(self, subject: Subject) -> NDArray[np.float64]:
        phrases = self._phrases(subject)
        left_out = [(side, number) for side in SIDES for number in range(len(phrases[side]))]
        pairs = [self._said(subject), *(self._said(subject, token) for token in left_out)]
        sums, _ = self.writer.nll(pairs, [subject.text or ""] * len(pairs))
        worth: NDArray[np.float64] = sums[1:] - sums[0]
        return worth

    def prompt_length(self, pairs: Pairs) -> float | None:
        """Mean tokens of the prompts; of a model that is asked, what its server counted so far."""
        return self.writer.prompt_length([self._said(subject) for subject in self._scored(pairs)])

    # --- keeping

    def content(self) -> Content:
        """What is known, profiles and examples; nothing is trained."""
        whole, rows = super().content(), [tuple(vars(example).values()) for example in self.examples]
        schema = dict.fromkeys(("user", "item", "title", "text"), pl.String)
        examples = pl.DataFrame(rows, schema=schema, orient="row")
        return replace(whole, tables={**whole.tables, "examples": examples})

    def _base_model(self) -> dict[str, Any]:
        return self.writer.identity()

    def _reopen(self, stored: Artifact) -> None:
        self.examples = [Described(*row) for row in stored.tables["examples"].iter_rows()]
        self._writer = self._open(stored)
