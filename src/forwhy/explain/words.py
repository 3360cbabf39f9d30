"""Pairs said in words, for a model that only takes text: a local one as ids, any other as messages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from weakref import finalize

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from forwhy.bridge.config import GenerationConfig, PromptConfig
from forwhy.bridge.pair import PairBridge
from forwhy.bridge.prompt import Prompt, Row
from forwhy.bridge.wording import finish
from forwhy.errors import UserError
from forwhy.explain.config import WordsConfig
from forwhy.text.chat.asking import Task, ask_all
from forwhy.text.chat.base import Chat, Message, Question, Tally
from forwhy.text.chat.cache import ReplyCache
from forwhy.text.chat.config import ChatConfig
from forwhy.text.chat.opening import open_chat
from forwhy.text.fence import clean, escaped

LABELS = {"user": "User:", "item": "Item:", "title": "Title:", "text": "Explanation:"}
LONGEST = {"user": 160, "item": 160, "title": 24, "text": 128}
"""Most tokens of each part, of a local model."""
CHARACTERS = {"user": 1200, "item": 1200, "title": 200, "text": 800}
"""Most characters of each part, of a model that is asked."""


@dataclass(frozen=True)
class Described:
    """A pair in words; `text` is its explanation, where it is an example."""

    user: str
    item: str
    title: str = ""
    text: str = ""

    def parts(self) -> dict[str, str]:
        """Label -> text of the parts that say something, in prompt order."""
        return {name: text for name, text in vars(self).items() if text.strip()}


@dataclass(frozen=True)
class SaidRow(Row):
    """A pair for a model that is asked: the words themselves instead of ids."""

    said: Described = Described("", "")


class WordsPrompt(Prompt):
    """A prompt without soft tokens: examples belong to its constant beginning, read once."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, config: PromptConfig, examples: Sequence[Described]
    ) -> None:
        super().__init__(tokenizer, config, {"user": 0, "item": 0})
        self.prefix_ids += tuple(number for example in examples for number in self._ids_of(example))

    def said(self, pair: Described, text: str | None) -> Row:
        """A pair as ids; `text` becomes the targets."""
        return Row((), (), tuple(self._ids_of(pair)), () if text is None else self.target(text))

    def _ids_of(self, pair: Described) -> list[int]:
        parts = pair.parts().items()
        return [n for name, text in parts for n in self.labelled(f"\n{LABELS[name]}", text, LONGEST[name])]


def no_tokens(width: int) -> PairBridge:
    """A bridge with nothing in it: no soft tokens, no task tokens, no parameters that count."""
    return PairBridge(nn.Identity(), nn.Identity(), torch.zeros(0, width), "user-item", 1.0)


class ChatReader:
    """Stands where a `Reader` does, for a model behind `open_chat`: it writes, and cannot score."""

    def __init__(self, words: WordsConfig, chat: ChatConfig, examples: Sequence[Described]) -> None:
        self._chat, self._kept = chat, ReplyCache()
        told = [_lines(example) for example in examples]
        self._opening = "\n\n".join([words.instruction, *told])
        self.used, self.answered = Tally(), 0
        """What the questions so far took, answers found again included, and how many were answered."""

    @cached_property
    def _model(self) -> Chat:
        """Opened once: a local model is loaded, and a budget spent, over all that is written."""
        model = open_chat(self._chat).__enter__()
        finalize(self, model.__exit__)
        return model

    def question(self, pair: Described, max_tokens: int) -> Question:
        """One user turn, so that models without a system role take it; strangers' words are escaped."""
        asked = f"{self._opening}\n\n{_lines(pair)}\n{LABELS['text']}"
        return Question((Message("user", asked),), max_tokens)

    def write(self, rows: Sequence[Row], config: GenerationConfig) -> list[str]:
        """An explanation for each row.

        Raises:
            UserError: The model cannot be asked, or has no explanation for a pair.
        """
        pairs = [row.said for row in rows if isinstance(row, SaidRow)]
        tasks = [
            Task(
                self.question(pair, config.max_new_tokens), lambda text: finish(text, True, config.max_words)
            )
            for pair in pairs
        ]
        with self._kept as kept:
            replies = ask_all(self._model, tasks, kept, self._chat.asks, "explaining", self._chat.prices)
        self.used, self.answered = (
            self.used + replies.asked.used + replies.asked.kept,
            self.answered + len(rows),
        )
        missing = [reply.reason for reply in replies if not reply.value]
        if missing:
            raise UserError(
                f"LLM {self._chat.model!r}: {len(missing)} of {len(rows)} pairs got no explanation "
                f"({missing[0] or 'an empty answer'}); raise explainer.generation.max_new_tokens or ask another model"
            )
        return [str(reply.value) for reply in replies]

    def stream(self, row: Row, config: GenerationConfig) -> Iterator[str]:
        """The explanation in one piece, as the server sends it."""
        yield self.write([row], config)[0]

    def nll(
        self, rows: Sequence[Row], batch_size: int, hidden: Tensor | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Not to be had.

        Raises:
            UserError: Always: a chat interface tells no probabilities.
        """
        raise UserError(
            f"LLM {self._chat.model!r}: a chat interface tells no probabilities of given texts; leave "
            "explainer.words.chat out, so that explainer.model writes and scores"
        )


def _lines(pair: Described) -> str:
    """One labelled line for each part; no text can begin a line of its own, or end a tag."""
    return "\n".join(
        f"{LABELS[name]} {escaped(clean(text, CHARACTERS[name]))}" for name, text in pair.parts().items()
    )
