"""What a person likes and what somebody may wish for, in a few words, without a model. No torch.

Shapes: N items.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from forwhy.data.dataset import Dataset
from forwhy.data.intents import IntentsConfig, entity_phrases
from forwhy.recommend.llmbs.config import TaskConfig

__all__ = ["PreferenceWords"]

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
