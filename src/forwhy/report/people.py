"""The people that a page begins with: their words, their lists, the reasons and what supports each claim.

Drawn by chance, never picked. The caller brings the lists and the reasons, so no model is loaded here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forwhy.columns import Side
from forwhy.data.because import met, tells_in_percent
from forwhy.data.histories import Catalogue
from forwhy.evaluate.document import Examined, Sample
from forwhy.explain.evidence import Explanation, Share
from forwhy.report.drawing import Panel
from forwhy.report.samples import Passage, passage
from forwhy.report.writing import grouped, joined, percent
from forwhy.vocabulary.vocabulary import Vocabulary

Id = str | int
PEOPLE, LISTED, TOOK, EXAMPLES = 3, 3, 4, 3
"""People; items in their lists; items that they took, the latest; phrases and owners of a word."""
LEADING = 2
"""Words of each person, and of the first item in each list, that are explained."""
SOURCES = {
    "title": "its title", "brand": "its brand", "kind": "the catalogue", "item": "the catalogue",
    "phrase": "what is noted", "profile": "a profile",
    "explanation": "another reason", "review": "a review", "nearby": "things like it", "interactions": "who took what",
}  # fmt: skip
"""Source of a statement -> where it stands, in words."""


@dataclass(frozen=True)
class Word:
    """A word of somebody or something, and what it means: how many people or items have it.

    `owners`: some of them, of an item's word those that most people took; `takes`: what these take more than others do.
    """

    token: str
    gloss: Sequence[str]
    used: int
    owners: Sequence[str]
    takes: Sequence[str] = ()


@dataclass(frozen=True)
class Offered:
    """An item in somebody's list, with its reason, in which claims that nothing supports are marked.

    `claims`: each with statements that support it and their sources in words; `carried`: what carried the score.
    """

    title: str
    reason: Passage
    claims: Sequence[tuple[str, Sequence[tuple[str, str]]]] = ()
    carried: str = ""


@dataclass(frozen=True)
class Person:
    """Somebody, as the page shows them: what they took and how much more, and what each of the `others` lists."""

    name: str
    offered: Sequence[Offered]
    took: Sequence[str] = ()
    more: int = 0
    words: Sequence[Word] = ()
    others: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class People:
    """Whom a page shows, by which run, some words, and what the model looked at while it wrote the first reason."""

    run: str
    people: Sequence[Person]
    words: Mapping[Side, Sequence[Word]] = field(default_factory=dict)
    looked: Panel | None = None


def drawn(catalogue: Catalogue, wanted: Sequence[Id]) -> list[int]:
    """Internal numbers of `PEOPLE` users with a history, of those `wanted` where so many are; always the same."""
    known, texts = catalogue.has_history["user"], set(map(str, wanted))
    users = enumerate(catalogue.users.values)
    asked = [number for number, name in users if known[number] and str(name) in texts]
    some = asked if len(asked) >= PEOPLE else np.flatnonzero(known).tolist()
    return sorted(np.random.default_rng(0).choice(some, min(PEOPLE, len(some)), replace=False).tolist())


def from_texts(runs: Sequence[Examined]) -> People | None:
    """People with the texts that were written about them, where no run can be asked for more."""
    for run in runs:
        texts = grouped((str(it.pair[0]), it) for it in run.samples)
        if texts and "row" not in texts:  # so are texts without ids called
            some = sorted(set(np.linspace(0, len(texts) - 1, PEOPLE).astype(int).tolist()))
            people = list(texts.items())
            return People(run.name, [_written(*people[at]) for at in some])
    return None


def _written(name: str, samples: Sequence[Sample]) -> Person:
    about = [(str(it.pair[1]), passage(it.prediction, it.unsupported)[0]) for it in samples[:LISTED]]
    return Person(name, [Offered(*one) for one in about])


def title_of(catalogue: Catalogue, item: int) -> str:
    """Its title, or its id where it has none."""
    return catalogue.titles[item] or str(catalogue.items.values[item])


def taken(catalogue: Catalogue, user: int) -> tuple[list[str], int]:
    """What somebody took, the latest first, and how much more."""
    items = list(dict.fromkeys(catalogue.histories[user].tolist()[::-1]))
    return [title_of(catalogue, item) for item in items[:TOOK]], max(0, len(items) - TOOK)


def offer(title: str, reason: Explanation) -> Offered:
    """An item with its reason as a reader sees it."""
    known = {one.id: (one.text, SOURCES.get(one.source, one.source)) for one in reason.evidence.statements}
    claims = [(it.text, [known[name] for name in it.evidence[:2] if name in known]) for it in reason.claims]
    text, _ = passage(reason.text, [claim for claim, support in claims if not support])
    return Offered(title, text, claims, _carried(reason))


def _carried(reason: Explanation) -> str:
    """What carried the score, in one line; "" where nothing is told or nothing spoke for it."""
    because = reason.because
    if because is None or (because.kind == "words" and because.score <= 0):
        return ""
    gloss = {token.token: token.gloss[0] for token in reason.tokens if token.gloss}
    words = [it for it in because.shares if isinstance(it, Share)]
    named = [replace(it, user=gloss.get(it.user, it.user), item=gloss.get(it.item, it.item)) for it in words]
    ranked, said = met(map(vars, named)), []
    if ranked:
        most = ranked[0]
        told = f"{percent(most['share'])} of the score"
        if not tells_in_percent([it["share"] for it in ranked]):
            told = f"{most['contribution']:+.2f} to a score of {because.score:.2f}"
        said = [f"their \u201c{most['user']}\u201d meets its \u201c{most['item']}\u201d ({told})"]
    behind = joined([str(one.title or one.item_id) for one in because.items[:2]])
    return joined(said + [f"they took {behind}"] * bool(behind))


def words_of(vocabulary: Vocabulary, side: Side, entity: int) -> list[Word]:
    """The distinct words of somebody or something, each with who has it."""
    return [_word(vocabulary, side, token) for token in dict.fromkeys(vocabulary.token_names(side, entity))]


def _word(vocabulary: Vocabulary, side: Side, token: str) -> Word:
    row, catalogue = vocabulary.word(token), vocabulary.catalogue
    inside = np.array([book == row["book"] for book in vocabulary.slots(side)])
    has = (vocabulary.codes[side][:, inside] == row["code"]).any(1)
    owners, often = np.flatnonzero(has), np.bincount(catalogue.taken[:, 1], minlength=len(catalogue.items))
    gloss = row["gloss"][:EXAMPLES]
    if side == "item":
        return Word(token, gloss, len(owners), _titles(catalogue, owners, often[owners]))
    theirs = np.bincount(catalogue.taken[has[catalogue.taken[:, 0]], 1], minlength=len(often))
    items = np.flatnonzero(theirs)
    names = [str(catalogue.users.values[one]) for one in owners[:EXAMPLES]]
    takes = _titles(catalogue, items, (theirs / np.sqrt(often + 1))[items])
    return Word(token, gloss, len(owners), names, takes)


def _titles(catalogue: Catalogue, items: NDArray[np.int64], worth: NDArray[np.number[Any]]) -> list[str]:
    best = items[np.argsort(-worth, kind="stable")][:EXAMPLES]
    return [title_of(catalogue, item) for item in best.tolist()]


def explained(found: Sequence[Sequence[Word]]) -> list[Word]:
    """The leading words of several lists, each once, of those that have a gloss."""
    return list({word.token: word for words in found for word in words[:LEADING] if word.gloss}.values())
