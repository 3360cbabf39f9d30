"""What a person likes and what somebody may wish for, in a few words, without a model. No torch.

Shapes: N items.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from forwhy.data.dataset import Dataset
from forwhy.data.intents import IntentsConfig, entity_phrases
from forwhy.data.sequences import Histories
from forwhy.recommend.llmbs.config import TaskConfig
from forwhy.recommend.llmbs.network import TextRows
from forwhy.recommend.llmbs.tokens import Speech, Tokens

WORD = re.compile(r"[^\W\d_]{3,}")
COMMON = 0.2
"""Words in a greater share of the items say nothing about one."""


class PreferenceWords:
    """Preferences of histories and wishes for items; equal input, equal words."""

    def __init__(self, dataset: Dataset, config: TaskConfig) -> None:
        """One pass over titles and categories, O(characters)."""
        self.config = config
        words_N = [_words(text) for text in _texts(dataset)]
        self._items_with = Counter(word for words in words_N for word in words)
        most = max(2.0, COMMON * sum(map(bool, words_N)))
        self._words_N = [[word for word in words if self._items_with[word] <= most] for words in words_N]
        mined = config.preference_text == "mined"
        source = IntentsConfig(source="intents", training_explanations=False)
        self._user_phrases = entity_phrases(dataset, "user", source) if mined else {}
        self._item_phrases = entity_phrases(dataset, "item", source) if mined else {}

    def of_history(self, user: int, items: Sequence[int]) -> str:
        """What internal items say of who took them: their most frequent words, the rarer of equals first.

        Mined: the user's own phrases. Empty where no item has any word.
        """
        if phrases := self._user_phrases.get(user):
            return ", ".join(phrases[: self.config.preference_words])
        counts = Counter(word for item in items for word in self._words_N[item])
        order = sorted(counts, key=lambda word: (-counts[word], self._items_with[word], word))
        return ", ".join(order[: self.config.preference_words])

    def of_item(self, item: int) -> str:
        """What one would ask for to get an item: its rarest words that other items share.

        Mined: the item's phrases. Empty without any word.
        """
        if phrases := self._item_phrases.get(item):
            return ", ".join(phrases[: self.config.preference_words])
        shared = [word for word in self._words_N[item] if self._items_with[word] > 1]
        order = sorted(shared or self._words_N[item], key=lambda word: (self._items_with[word], word))
        return ", ".join(order[: self.config.preference_words])


def _texts(dataset: Dataset) -> list[str]:
    """Title and categories of each internal item."""
    texts = dataset.titles()
    frame = dataset.tables.get("items")
    if frame is None or "categories" not in frame.columns:
        return texts
    for number, value in zip(dataset.items.numbers(frame["item_id"]), frame["categories"], strict=True):
        texts[number] = f"{texts[number]} {value}"
    return texts


def _words(text: str) -> list[str]:
    """Distinct words in order."""
    return list(dict.fromkeys(WORD.findall(text.lower())))


# --- The comprehensive interaction tasks (LLM-BS section 3.3.2) beside the sequential one, as prompts and responses.
#
# Templates are our own, short enough for small models. Only responses carry loss. Text from data is tokenised as plain
# text, so no title can write a code or end a response.


Ints = NDArray[np.int64]
CHUNK = 64
"""Rows of like length that are read together."""


@dataclass(frozen=True)
class Example:
    """One prompt and its response, as token ids."""

    task: str
    prompt: list[int]
    response: list[int]


@dataclass(frozen=True)
class _Subtask:
    """How many examples there are, and how one is made from an entity."""

    weight: float
    entities: Ints
    make: Callable[[int, np.random.Generator], tuple[list[int], list[int]] | None]


class TextTasks:
    """Draws the text examples of an epoch; nothing but seed and epoch decides them."""

    def __init__(
        self,
        dataset: Dataset,
        train: Histories,
        tokens: Tokens,
        speech: Speech,
        config: TaskConfig,
        window: int,
        seed: int,
    ) -> None:
        self.train, self.tokens, self.speech = train, tokens, speech
        self.config, self.window, self.seed = config, window, seed
        self.titles, self.texts = dataset.titles(), dataset.item_texts()
        self.words = PreferenceWords(dataset, config)
        self._title_ids: dict[int, list[int]] = {}
        titled = np.flatnonzero([bool(title.strip()) for title in self.titles])
        spoken = np.flatnonzero([bool(text.strip()) for text in self.texts])
        users = np.flatnonzero(train.lengths >= 2)
        self._subtasks = {
            "item_to_index": _Subtask(config.item_to_index, spoken, self._item_to_index),
            "index_to_item": _Subtask(config.index_to_item, titled, self._index_to_item),
            "history_to_title": _Subtask(config.fused, users, self._history_to_title),
            "titles_to_index": _Subtask(config.fused, users, self._titles_to_index),
            "history_to_preference": _Subtask(config.preference, users, self._history_to_preference),
            "preference_to_index": _Subtask(config.preference, users, self._preference_to_index),
        }

    def epoch(self, epoch: int) -> list[tuple[str, int, int]]:
        """(subtask, entity, number of the draw) of an epoch, in random order."""
        rng = np.random.default_rng((self.seed, epoch, 1))
        drawn = [
            (name, int(entity))
            for name, subtask in self._subtasks.items()
            for entity in _drawn(subtask.entities, subtask.weight, rng)
        ]
        return [(*drawn[place], number) for number, place in enumerate(rng.permutation(len(drawn)).tolist())]

    def examples(self, drawn: Sequence[tuple[str, int, int]], epoch: int) -> Iterator[Example]:
        """What was drawn, written out; draws that no text answers are left out."""
        for name, entity, number in drawn:
            rng = np.random.default_rng((self.seed, epoch, 2, number))
            made = self._subtasks[name].make(entity, rng)
            if made is not None:
                yield Example(name, *made)

    # --- the subtasks: prompt and response

    def _item_to_index(self, item: int, _: np.random.Generator) -> tuple[list[int], list[int]]:
        text = self.speech.strange(self.texts[item], self.config.text_limit)
        return [self.tokens.prompt[0], *self._own("Item:"), *text, *self._own("\nCode:")], self._codes(item)

    def _index_to_item(self, item: int, _: np.random.Generator) -> tuple[list[int], list[int]]:
        prompt = [self.tokens.prompt[0], *self._own("Code: "), *self._codes(item), *self._own("\nItem:")]
        return prompt, self._ended(self._title(item))

    def _history_to_title(self, user: int, rng: np.random.Generator) -> tuple[list[int], list[int]] | None:
        history, target = self._draw(user, rng)
        title = self._title(target)
        if not title:
            return None
        return [*self.tokens.history(history), *self._own("\nTitle of the next:")], self._ended(title)

    def _titles_to_index(self, user: int, rng: np.random.Generator) -> tuple[list[int], list[int]] | None:
        history, target = self._draw(user, rng)
        titles = [title for item in history if (title := self._title(item))][-self.config.titles :]
        if not titles:
            return None
        listed = [number for title in titles for number in [*title, *self._own(";")]]
        prompt = [self.tokens.prompt[0], *self._own("Taken, by title:"), *listed, *self._own("\nNext code:")]
        return prompt, self._codes(target)

    def _history_to_preference(
        self, user: int, rng: np.random.Generator
    ) -> tuple[list[int], list[int]] | None:
        history, _ = self._draw(user, rng)
        likes = self.speech.strange(self.words.of_history(user, history), self.config.text_limit)
        if not likes:
            return None
        return [*self.tokens.history(history), *self._own("\nWhat they like:")], self._ended(likes)

    def _preference_to_index(self, user: int, rng: np.random.Generator) -> tuple[list[int], list[int]] | None:
        history, target = self._draw(user, rng)
        wish = self.speech.strange(self.words.of_item(target), self.config.text_limit)
        if not wish:
            return None
        prompt = [
            *self.tokens.history(history),
            *self._own("\nWished for:"),
            *wish,
            *self._own("\nNext code:"),
        ]
        return prompt, self._codes(target)

    # --- what they are written with

    def _draw(self, user: int, rng: np.random.Generator) -> tuple[list[int], int]:
        """A training item that has one before it, and the window before it."""
        row = self.train[user]
        place = int(rng.integers(1, len(row)))
        return row[max(0, place - self.window) : place].tolist(), int(row[place])

    def _title(self, item: int) -> list[int]:
        if item not in self._title_ids:
            self._title_ids[item] = self.speech.strange(self.titles[item], self.config.text_limit)
        return self._title_ids[item]

    def _codes(self, item: int) -> list[int]:
        codes: list[int] = self.tokens.items_NL[item].tolist()
        return codes

    def _own(self, template: str) -> list[int]:
        return self.speech.own(template)

    def _ended(self, text: list[int]) -> list[int]:
        return [*text, self.tokens.end]


def text_rows(examples: Sequence[Example]) -> list[TextRows]:
    """Examples as padded rows, those of like length together."""
    order = sorted(examples, key=lambda example: len(example.prompt) + len(example.response))
    return [_padded(order[start : start + CHUNK]) for start in range(0, len(order), CHUNK)]


def _padded(examples: Sequence[Example]) -> TextRows:
    length = max(len(example.prompt) + len(example.response) for example in examples)
    ids_BT = torch.zeros(len(examples), length, dtype=torch.long)
    answers_BT = torch.zeros(len(examples), length, dtype=torch.bool)
    for row, example in enumerate(examples):
        whole = [*example.prompt, *example.response]
        ids_BT[row, : len(whole)] = torch.tensor(whole)
        answers_BT[row, len(example.prompt) : len(whole)] = True
    return TextRows(ids_BT, answers_BT)


def _drawn(entities: Ints, weight: float, rng: np.random.Generator) -> Ints:
    """All entities as often as the whole part of the weight says, and a random share of them for the rest."""
    whole = int(weight)
    rest = round((weight - whole) * len(entities))
    return np.concatenate([np.tile(entities, whole), rng.permutation(entities)[:rest]])
