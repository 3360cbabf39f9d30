"""Pairs said in words, for a model that only takes text: a local one as ids, any other as messages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self, cast
from weakref import finalize

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from forwhy.bridge.backbone import Backbone
from forwhy.bridge.config import GenerationConfig, PromptConfig
from forwhy.bridge.generation import finish
from forwhy.bridge.projectors import Bridge, PairBridge
from forwhy.bridge.prompt import Numbers, Prompt, Row
from forwhy.bridge.reader import Reader
from forwhy.columns import SIDES, Side
from forwhy.data.dataset import Dataset
from forwhy.data.ids import Pairs
from forwhy.errors import UserError
from forwhy.explain.assembly import load_backbone
from forwhy.explain.base import Capabilities
from forwhy.explain.beat import BeatExplainer
from forwhy.explain.config import BeatConfig, WordsConfig
from forwhy.explain.fitting import READ_TOGETHER, Subject, drawn
from forwhy.explain.store import Stored
from forwhy.text.chat.answers import KeptAnswers
from forwhy.text.chat.asking import Inquiry, ask_all
from forwhy.text.chat.base import Chat, ChatConfig, Message, Question, Tally
from forwhy.text.chat.opening import open_chat
from forwhy.text.hostile import clean, escaped
from forwhy.vocabulary.vocabulary import Vocabulary

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
        self._chat, self._kept = chat, KeptAnswers()
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
            Inquiry(
                self.question(pair, config.max_new_tokens), lambda text: finish(text, True, config.max_words)
            )
            for pair in pairs
        ]
        replies = ask_all(self._model, tasks, self._kept, self._chat.asks, "explaining", self._chat.prices)
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


# --- BEAT for models that only take text: the glosses of the codes stand in the prompt, nothing is trained.


EXAMPLES = "examples"


class BeatWordsExplainer(BeatExplainer):
    """Reads the same codes as :class:`BeatExplainer`, said in words: with `explainer.model`, or by asking another.

    `capabilities.scores` is False where a model is asked: then there is no NLL, no information gain and no
    contribution of a token.
    """

    system = "beat-words"
    title = "BEAT in words"

    def __init__(self, config: BeatConfig | None = None) -> None:
        super().__init__(config)
        self.examples: list[Described] = []
        asked = self.config.words.chat is not None
        self.capabilities = Capabilities(hot=True, warm=True, cold=False, scores=not asked)

    def fit(self, dataset: Dataset, known: Vocabulary, folder: Path) -> Self:
        """Take up examples and profiles, where these are shown; nothing is learned, `folder` stays as it is.

        Raises:
            UserError: Other users or items than those known, too few explanations for the examples, or no model.
        """
        self._same_entities(dataset, known)
        self._known = known
        words = self.config.words
        if self.config.shows_profiles:
            self.profiles = {side: dataset.profiles(side) for side in SIDES}
        if words.examples:
            pairs = self._usable(dataset, "train", 0)
            self.examples = self._examples(pairs.select(drawn(len(pairs), words.examples, self.config.seed)))
        self._open(None)
        return self

    def _examples(self, pairs: Pairs) -> list[Described]:
        return [
            self._described(self._standing("user", user), user, item, item, text)
            for user, item, text in zip(pairs.users.tolist(), pairs.items.tolist(), pairs.texts, strict=True)
        ]

    def _open(self, stored: Stored | None) -> None:
        """The model that reads: asked, or here."""
        words = self.config.words
        if words.chat is not None:
            self._reader = cast("Reader[Bridge]", ChatReader(words, words.chat, self.examples))
            return
        backbone = load_backbone(self.config)
        if stored is not None:
            stored.check(backbone)
        self._reader = self._build(backbone)

    def _build(self, backbone: Backbone) -> Reader[Bridge]:
        words, shown = self.config.words, self.config.prompt
        config = shown.model_copy(update={"instruction": words.instruction, "task_tokens": 0})
        prompt = WordsPrompt(backbone.tokenizer, config, self.examples)
        return Reader(backbone, prompt, cast("Bridge", no_tokens(backbone.width)))

    # --- what is said -------------------------------------------------------------------------------------

    def _row(
        self, standing: Numbers, user: int | None, item: int, titled: int, text: str | None = None
    ) -> Row:
        said = self._described(standing, user, item, titled)
        if self.config.words.chat is not None:
            return SaidRow(tuple(standing), tuple(self._standing("item", item)), said=said)
        row = cast("WordsPrompt", self.reader.prompt).said(said, text)
        return Row(tuple(standing), tuple(self._standing("item", item)), row.shown, row.target)

    def _described(
        self, standing: Numbers, user: int | None, item: int, titled: int, text: str = ""
    ) -> Described:
        """A pair in words; codes stand for the user, who may have no number."""
        title = self.known.titles[titled] if self.config.prompt.title else ""
        if self.config.words.shows == "profiles":
            profiles = self.profiles
            own = "" if user is None else profiles["user"].get(user, "")
            return Described(own, profiles["item"].get(item, ""), title, text)
        codes = self._standing("item", item)
        return Described(self._phrases("user", standing), self._phrases("item", codes), title, text)

    def _phrases(self, side: Side, codes: Numbers, without: int = -1) -> str:
        """The first phrases of each code but one, each said once."""
        kept, slots = self.config.words.phrases, self.known.slots(side)
        glosses = [self._gloss(book, code)[:kept] for book, code in zip(slots, codes, strict=True)]
        said = (phrase for slot, gloss in enumerate(glosses) if slot != without for phrase in gloss)
        return "; ".join(dict.fromkeys(said))

    def _worth(
        self, subjects: Sequence[Subject], texts: Sequence[str]
    ) -> Sequence[NDArray[np.float64] | None]:
        """What each code's phrases carried: nats lost when they are not said; 0 where another code says them."""
        if not self.capabilities.scores or self.config.words.shows == "profiles":
            return [None] * len(texts)
        return [self._lost(subject, text) for subject, text in zip(subjects, texts, strict=True)]

    def _lost(self, subject: Subject, text: str) -> NDArray[np.float64]:
        row, prompt = subject.row, cast("WordsPrompt", self.reader.prompt)
        title = self.known.titles[subject.item] if self.config.prompt.title else ""
        whole = Described(self._phrases("user", row.user), self._phrases("item", row.item), title)
        variants = [
            replace(whole, user=self._phrases("user", row.user, slot)) for slot in range(len(row.user))
        ] + [replace(whole, item=self._phrases("item", row.item, slot)) for slot in range(len(row.item))]
        sums, _ = self.reader.nll([prompt.said(pair, text) for pair in (whole, *variants)], READ_TOGETHER)
        worth: NDArray[np.float64] = sums[1:] - sums[0]
        return worth

    def prompt_length(self, pairs: Pairs) -> float | None:
        """Mean tokens of the prompts; of a model that is asked, what its server counted so far."""
        reader = self.reader
        if isinstance(reader, ChatReader):
            return reader.used.input_tokens / reader.answered if reader.answered else None
        return super().prompt_length(pairs)

    # --- keeping ------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Nothing is trained."""
        return {}

    def base_model(self) -> dict[str, Any]:
        """What names the model: of one that is asked only its name is known."""
        chat = self.config.words.chat
        return super().base_model() if chat is None else {"id": chat.model, "revision": None}

    def tables(self) -> dict[str, pl.DataFrame]:
        """Profiles and examples."""
        rows = [tuple(vars(example).values()) for example in self.examples]
        schema = dict.fromkeys(("user", "item", "title", "text"), pl.String)
        return {**super().tables(), EXAMPLES: pl.DataFrame(rows, schema=schema, orient="row")}

    def _restore(self, stored: Stored) -> None:
        super()._restore(stored)
        self.examples = [Described(*row) for row in stored.tables[EXAMPLES].iter_rows()]

    def _load(self, stored: Stored) -> None:
        self._open(stored)
