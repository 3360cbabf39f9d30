"""What carried a score, before anybody says it: shares of words, or of the items of a history."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from forwhy.data.dataset import Ints
from forwhy.data.histories import Catalogue, Histories
from forwhy.errors import UserError

Floats = NDArray[np.floating]
OfItems = Literal["history", "leave-one-out"]
ADDED = ("contribution", "share")


@dataclass(frozen=True)
class Share:
    """A pair of words by name, one of the user and one of the item, and what it adds to their score."""

    user: str
    item: str
    contribution: float
    """The product of both words' vectors; over all pairs these add to the score exactly."""
    share: float
    """Part of the score: contribution / score. Shares of a pair add to one; a negative one speaks against."""


@dataclass(frozen=True)
class ItemShare:
    """An item of the history, and what it adds to a score."""

    item_id: str | int
    title: str
    """"" when unknown."""
    contribution: float
    """In units of the score; negative: it speaks against."""
    share: float
    """Part of what carried the score."""


@dataclass(frozen=True)
class Because:
    """What carried the score of a pair; `kind` says how that was told.

    `words`: the score is a sum over pairs of words, exactly. `history`: it is a sum over the items of the history;
    `rest` is what else a known user's own vector adds. `leave-one-out`: what the score loses without each item of the
    history; these need not add to anything, and shares are of the losses. `popularity`: nothing about the person.
    `untold`: the recommender takes no histories, so nothing can be left out.
    """

    kind: Literal["words", "history", "leave-one-out", "popularity", "untold"]
    score: float
    shares: list[Share] | list[ItemShare]
    """Of `words` in the order of the slots, else the largest first."""
    items: list[ItemShare] = field(default_factory=list)
    """Items of the history that spoke for it, the largest share first; of `words` those that have words of the
    explained item: their share is that of these words, so they add to more than one where they have the same."""
    rest: float = 0.0
    """Part of the score that no share accounts for: 0 where the sum is exact."""
    experts: dict[str, float] = field(default_factory=dict)
    """Of a hybrid: the part of the item's probability that each expert gave; these add to one."""


def tells_in_percent(shares: Sequence[float]) -> bool:
    """Whether shares of a score are readable: none above all of it, for and against three times it at most."""
    return max(shares) <= 1 and sum(map(abs, shares)) <= 3


def met(shares: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Shares of equal names as one, the largest first: a pair of words can meet in two slots."""
    found: dict[tuple[object, ...], dict[str, Any]] = {}
    for one in shares:
        before = found.get(key := tuple(one[name] for name in one if name not in ADDED), {})
        found[key] = {**one, **{name: one[name] + before.get(name, 0.0) for name in ADDED}}
    return sorted(found.values(), key=lambda one: -one["share"])


def shares_of(added_SS: Floats, user: Sequence[str], item: Sequence[str], summed: bool) -> list[Share]:
    """Shares by slot of words that add `added_SS` where they meet.

    Each meets the other side's word of its slot; `summed`: the first one meets all. A word without a name is none.
    """
    slots, whole_SS = range(len(added_SS)), added_SS.copy()
    pairs = [(slot, slot) for slot in slots]
    if summed:
        whole_SS[0, 0] *= len(slots) - 1
        pairs += [pair for slot in slots[1:] for pair in ((0, slot), (slot, 0))]
    score = sum(whole_SS[pair] for pair in pairs) or 1.0
    added = [(user[u], item[i], float(whole_SS[u, i])) for u, i in pairs if user[u]]
    return [Share(ours, theirs, part, float(part / score)) for ours, theirs, part in added]


def of_words(shares: list[Share], catalogue: Catalogue, words: Mapping[int, Sequence[str]]) -> Because:
    """The because of a score by its pairs of words; `words`: the words of other items that the user has taken."""
    score = sum(share.contribution for share in shares)
    behind: list[ItemShare] = []
    for item, names in words.items():
        added = sum(share.contribution for share in shares if share.item in names)
        if added > 0:
            named = catalogue.items.values[item], catalogue.titles[item]
            behind.append(ItemShare(*named, added, added / (score or 1.0)))
    return Because("words", score, shares, sorted(behind, key=lambda one: -one.contribution))


def of_history(
    kind: OfItems, catalogue: Catalogue, items: Iterable[int], added: Floats, score: float
) -> Because:
    """The because of a score to which each of these distinct items adds `added`; shares add to one."""
    alone = kind == "leave-one-out"
    rest = 0.0 if alone else score - float(added.sum())
    counted = np.maximum(added, 0.0) if alone else added
    shares = (counted / (counted.sum() or 1.0)).tolist()
    named = ((catalogue.items.values[item], catalogue.titles[item]) for item in items)
    found = [ItemShare(*it, *of) for it, *of in zip(named, added.tolist(), shares, strict=True)]
    found.sort(key=lambda one: -one.contribution)
    return Because(kind, score, found, [one for one in found if one.contribution > 0], rest)


def leave_one_out(
    catalogue: Catalogue, history: Ints, window: int | None, score: Callable[[Histories], Floats]
) -> Because:
    """What the score [B] of an item after histories loses without each of the last `window` items, wherever it is."""
    read = history if window is None else history[-window:]
    taken = list(dict.fromkeys(read.tolist()))
    scores = score(Histories.of([history, *(history[history != one] for one in taken)])).astype(np.float64)
    return of_history("leave-one-out", catalogue, taken, scores[0] - scores[1:], float(scores[0]))


def check_changes(changes: Mapping[str, str | None], own: Sequence[str]) -> None:
    """Refuse changes of words that are not a person's `own`, or of another book; or all of them taken out."""
    for word, instead in changes.items():
        if word not in own:
            raise UserError(f"{word}: not a word of this person; name one of {', '.join(own)}")
        book = word.rpartition("_")[0]
        if instead is not None and instead.rpartition("_")[0] != book:
            raise UserError(f"{instead}: of another book than {word}; name a word like {book}_…>")
    if set(own) <= {word for word, instead in changes.items() if instead is None}:
        raise UserError("no word of this person would be left; keep at least one")
