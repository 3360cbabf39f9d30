"""What a reason without a model may say: who took what, and what is said of people and things. No torch."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from difflib import SequenceMatcher
from functools import cached_property, lru_cache
from string import punctuation

import numpy as np
from numpy.typing import NDArray

from forwhy.data.histories import Catalogue
from forwhy.data.intents import GENERIC, phrases_from_profile, telling_words
from forwhy.text.hostile import clean
from forwhy.text.statements import KnownStatements, PairStatements, Statement

_STEM = 6
"""Letters that words of one stem share, roughly: "visual" and "visually"."""
_TITLE, _QUOTED = 80, 110
"""Characters of a title and of a statement that are shown."""
_MARKS = re.compile(r"(?<!\w)[\"“](?P<said>\S[^\"“”]*)[\"”]|(?P<inches>(?<=\d)\")|[\"“”]")
"""Marks around words, of inches, and others."""


class Facts:
    """Facts by internal numbers of users and items; a user of None is a newcomer."""

    def __init__(
        self, catalogue: Catalogue, known: KnownStatements, disliked: Iterable[tuple[int, int]] = ()
    ) -> None:
        """Who took what stands in the catalogue; `known` is what is said, `disliked`: pairs that were rated low."""
        self.catalogue, self.known, self.disliked = catalogue, known, frozenset(disliked)

    def liked(self, user: int | None, items: Iterable[int]) -> list[int]:
        """Those of the items that the user did not rate low."""
        return [item for item in items if (user, item) not in self.disliked]

    @cached_property
    def takers(self) -> list[NDArray[np.int64]]:
        """[I] the distinct users who took each item in training, ascending."""
        taken = np.unique(self.catalogue.taken[:, ::-1], axis=0)
        cuts = np.searchsorted(taken[:, 0], np.arange(1, len(self.catalogue.items)))
        return np.split(taken[:, 1], cuts)

    def together(self, items: Sequence[int], but: int | None = None) -> NDArray[np.int64]:
        """Users who took all of these items, without one."""
        found = self.takers[items[0]]
        for item in items[1:]:
            found = np.intersect1d(found, self.takers[item], assume_unique=True)
        return found if but is None else found[found != but]

    @lru_cache(maxsize=4096)  # noqa: B019 - an item is asked about again and again, and facts live with their explainer
    def of(self, user: int | None, item: int) -> PairStatements:
        """What can be quoted of both sides, but what is said of the item and is of what the user dislikes."""
        known, averse = self.known.of(user, item), self.known.dislikes("user", user)
        told = (one for one in known.item if _stands_alone(one))
        kept = [one for one in told if not any(_is_about(thing, one.text) for thing in averse)]
        return PairStatements(kept, known.user)

    def rarity(self, statement: str) -> float:
        """How much it tells that something is said of an item: less, the more items it is said of."""
        return float(np.log((len(self.catalogue.items) + 1) / self._owners.get(statement.casefold(), 1)))

    @cached_property
    def _owners(self) -> Counter[str]:
        """Statement -> how many items it is said of."""
        return Counter(map(str.casefold, self._told))

    @cached_property
    def _rarity(self) -> dict[str, float]:
        """How much a word that two statements have in common tells: less, the more statements about items have it."""
        counts = Counter(word for text in self._told for word in stems(text))
        return {word: float(np.log(len(self._told) / count)) for word, count in counts.items()}

    @cached_property
    def _told(self) -> list[str]:
        """All statements about items."""
        return self.known.table.filter(side="item")["text"].to_list()

    @property
    def _rare(self) -> float:
        """What a word tells that sqrt(n) statements about n items have."""
        return float(np.log(max(len(self._told), 1) / np.sqrt(len(self.catalogue.titles))))

    def common(self, one: str, other: str) -> float:
        """How much two texts have in common; 0: nothing."""
        return sum(self._rarity.get(word, 0.0) for word in stems(one) & stems(other))

    def named_alike(self, item: int, among: Sequence[int]) -> tuple[int, str] | None:
        """One of some items, and the words in a row that its title has in common with an item's; None if none is rare.

        The rarest words decide, then the latest item.
        """
        titles, worth, best = self.catalogue.titles, 0.0, None
        for other in reversed(among):
            for run in _in_common(titles[item], titles[other]):
                rare = [self._rarity.get(word, 0.0) for word in stems(run)]
                if max(rare, default=0.0) >= self._rare and sum(rare) > worth:
                    worth, best = sum(rare), (other, run)
        return best

    def caveat(self, user: int | None, item: int) -> tuple[str, str] | None:
        """What the user dislikes, and what others dislike in the item, that share most words and are of one thing."""
        pairs = [
            (len(stems(mine) & stems(theirs)), mine, theirs)
            for mine in self.known.dislikes("user", user)
            for theirs in self.known.dislikes("item", item)
        ]
        _, mine, theirs = max(pairs, key=lambda pair: pair[0], default=(0, "", ""))
        return (mine, theirs) if _is_about(mine, theirs) else None

    def name(self, items: Sequence[int]) -> str:
        """Titles between quotation marks, or ids where there are none."""
        ids, titles = self.catalogue.items.values, self.catalogue.titles
        return " and ".join(
            quoted(titles[one], _TITLE) if titles[one].strip() else clean(str(ids[one]), _TITLE)
            for one in items
        )


@lru_cache(maxsize=1 << 16)
def stems(text: str) -> frozenset[str]:
    """The beginnings of the words of a text that tell something."""
    return frozenset(word[:_STEM] for word in telling_words(text) - GENERIC)


def _stands_alone(one: Statement) -> bool:
    """Whether a statement says something without what stood around it: of a description two telling words at least."""
    if one.source != "item":
        return one.source != "title"
    return len(stems(one.text)) > 1 and not one.text[0].isdigit()


def _in_common(title: str, other: str) -> Iterator[str]:
    """Words in a row that both titles have, as the first writes them; none ends with words that tell nothing."""
    words = title.split()
    bare, theirs = ([word.strip(punctuation).casefold() for word in it.split()] for it in (title, other))
    for at, _, size in SequenceMatcher(None, bare, theirs, autojunk=False).get_matching_blocks():
        telling = [place for place in range(at, at + size) if telling_words(words[place])]
        if telling:
            run = " ".join(words[telling[0] : telling[-1] + 1]).strip(punctuation)
            yield run + ")" * (run.count("(") > run.count(")"))


def _is_about(thing: str, text: str) -> bool:
    """Whether a text has two words of a disliked thing, or the one that it is."""
    words = stems(thing)
    return bool(words) and len(words & stems(text)) >= min(2, len(words))


def quoted(text: str, most: int = _QUOTED) -> str:
    """A stranger's text between marks that it cannot end; what is quoted inside has others, and inches their own.

    >>> quoted('"Catch 22", with 3/8" bolts')
    "“'Catch 22', with 3/8″ bolts”"
    """

    def mark(found: re.Match[str]) -> str:
        return "″" if found["inches"] else f"'{found['said']}'" if found["said"] else "'"

    return f"“{_MARKS.sub(mark, clean(text, most).strip(' .'))}”"


def liking(statement: Statement) -> str:
    """What is known of a user, as it can be said to them."""
    if statement.source == "review":
        return f"you wrote {quoted(statement.text)} before"
    bare = next(iter(phrases_from_profile(statement.text, 1)), "")
    return f"you like {quoted(bare or statement.text)}"
