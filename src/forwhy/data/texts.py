"""Whole texts of users and items: what is said of them anywhere but in the text of an explained pair."""

from collections import defaultdict

import numpy as np

from forwhy.columns import Side
from forwhy.data.dataset import Dataset
from forwhy.data.intents import IntentsConfig, readable_profiles

REVIEWS = 5
"""Reviews of an entity that are read: encoding them costs 10 ms each, and the mean hardly moves after a few."""


def entity_texts(dataset: Dataset, side: Side, config: IntentsConfig | None = None) -> dict[int, list[str]]:
    """Texts by internal number; entities without any are absent.

    Of an item: title, categories and description; intents; profile. Of a user: intents and profile. Who has no more
    than a title has up to five reviews too, but people only where no item is described: what they took tells more of
    them (docs/log.md). Shipped profiles only where `config` asks for them. Never the explanation or the review of an
    explained pair, nor any held-out text: none can be the target. People of training and test follow one policy: where
    the profile of some person in a held-out pair may not be read, nobody's is. O(characters).
    """
    config = config or IntentsConfig()
    found: defaultdict[int, list[str]] = defaultdict(list)
    described = dataset.described() if side == "item" else set()
    if side == "item":
        found |= {item: [text] for item, text in enumerate(dataset.item_texts()) if text.strip()}
    if config.source in ("auto", "intents"):
        for entity, phrases in dataset.phrases(side).items():
            found[entity].append("; ".join(phrases))
            described.add(entity)
    for entity, text in _profiles(dataset, side, config).items():
        found[entity].append(text)
        described.add(entity)
    if side == "item" or not dataset.described():
        for entity, texts in _reviews(dataset, side).items():
            found[entity] += texts if entity not in described else []
    return {entity: texts for entity, texts in sorted(found.items()) if texts}


def _profiles(dataset: Dataset, side: Side, config: IntentsConfig) -> dict[int, str]:
    """Profiles that may be read; of people none where somebody in a held-out pair has one that may not."""
    readable = readable_profiles(dataset, side, config)
    unread = dataset.profiles(side).keys() - readable.keys()
    return {} if side == "user" and unread & set(dataset.heldout_entities(side).tolist()) else readable


def _reviews(dataset: Dataset, side: Side) -> dict[int, list[str]]:
    """The first reviews of each; an explanation is often written from the review of its pair, which is left out."""
    reviews, explained = dataset.training_reviews(), dataset.table("explanations")
    users, items = dataset.users.numbers(explained["user_id"]), dataset.items.numbers(explained["item_id"])
    width = len(dataset.items)
    told = np.isin(reviews.users * width + reviews.items, users * width + items)
    unread = told | dataset.is_disliked(reviews.users, reviews.items)
    read = reviews.select(np.flatnonzero(~unread)).by(side)
    return {entity: [*filter(str.strip, texts)][:REVIEWS] for entity, texts in read.items()}
