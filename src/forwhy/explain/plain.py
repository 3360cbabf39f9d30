"""A reason without a language model: plain sentences of what carried the score, each counted or read before it is said.

What is told grows with what is known: who else took it, from interactions alone; what the catalogue says of it and of
what the person took; what they like and what is said of it, from phrases and reviews. No torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import polars as pl

from forwhy.columns import Side
from forwhy.data.because import Because, Share
from forwhy.data.dataset import Dataset
from forwhy.data.histories import Catalogue
from forwhy.explain.asking import Asked, Explains, Person
from forwhy.explain.evidence import (
    Claim,
    Evidence,
    Explanation,
    ExternalPair,
    StatementEvidence,
    Subject,
    TokenEvidence,
    best_phrases,
    nearest,
    traced,
)
from forwhy.explain.facts import Facts, liking, quoted
from forwhy.frames import Shown
from forwhy.graph.representations import Representations
from forwhy.text.statements import STATEMENTS, KnownStatements, Statement
from forwhy.vocabulary.newcomers import Newcomer
from forwhy.vocabulary.vocabulary import Vocabulary

_READ, _BEHIND, _NAMED = 50, 6, 2
"""Items of the history: the latest, whose statements are read; those that are looked at; those that are named."""
_SPOKE = 0.05
"""Part of what carried a score from which on an item of the history is said to speak for it."""
_OFTEN = 0.1
"""Share of the items of which one that is taken more often is called one of the most taken."""
_SAID = {
    "brand": "it is by {}",
    "kind": "the catalogue says {} of it",
    "item": "the catalogue says {} of it",
    "phrase": "it is noted for {}",
    "explanation": "it was recommended for {}",
    "review": "somebody wrote {} of it",
}
"""How a statement about an item is told, by its source."""


class Scores(Protocol):
    """A recommender, as far as its reasons are asked for."""

    catalogue: Catalogue

    def because(
        self, user: str | int | None, item: str | int, *, history: Sequence[str | int] | None = None
    ) -> Because:
        """What carries the score of an item."""

    def newcomer_of(self, about: str, history: Sequence[str | int] = ()) -> Newcomer:
        """Words of somebody new, by a text about them."""

    def changed(
        self,
        users: Any = None,  # noqa: ANN401 - an id or several
        *,
        history: Sequence[str | int] | None = None,
        without: Sequence[str] = (),
        swap: Mapping[str, str] | None = None,
    ) -> Self:
        """The recommender with words of people taken out or exchanged."""

    def meeting(self, newcomer: Newcomer) -> Self:
        """The recommender, to whom any history is that of a newcomer."""

    def offering(self, text: str) -> tuple[Self, Newcomer]:
        """The recommender with an item more, and its words."""


class PlainExplainer(Shown, Explains):
    """Says why a recommender would offer an item, in sentences that are true by construction.

    What carried the score chooses the items of the history that are named, and its words choose among statements; what
    nothing known supports is not said. Nothing is trained, no language model is asked, and no token's worth is told. Of
    somebody without a history it says how many people took the item.
    """

    def __init__(self, scores: Scores, dataset: Dataset | None = None) -> None:
        """`dataset`: where statements are read; without one only ids, titles and who took what are known."""
        self._known, self._dataset, self.newcomers = scores, dataset, tuple[Newcomer, ...]()

    @property
    def known(self) -> Scores:
        """The recommender."""
        return self._known

    def _shown(self) -> Mapping[str, int | str]:
        return self.known.catalogue._shown()

    def _answers(self, asked: Sequence[Person], how: Asked) -> list[Explanation]:
        ids, scores, without, swap = self.known.catalogue, self.known, how["without"], how["swap"]
        if without or swap:
            users = [ids.users.values[user] for user, _, _ in asked if user is not None]
            new = [[ids.items.values[one] for one in taken] for user, _, taken in asked if user is None]
            scores = scores.changed(users, history=new[0] if new else None, without=without, swap=swap)
        return [self._explained(scores, *one) for one in asked]

    def _meeting(self, about: str, history: Sequence[str | int]) -> Self:
        newcomer = self.known.newcomer_of(about, history)
        return self._with(newcomer, self.known.meeting(newcomer), self._facts.known.meeting(about))

    def _offering(self, text: str) -> Self:
        scores, item = self.known.offering(text)
        last = len(scores.catalogue.items) - 1
        return self._with(item, scores, self._facts.known.told_of(last, item.title, item.text))

    def _with(self, newcomer: Newcomer, scores: Scores, told: KnownStatements) -> Self:
        found = type(self)(scores, self._dataset)
        found.newcomers, found._facts = (
            (*self.newcomers, newcomer),
            Facts(scores.catalogue, told, self._facts.disliked),
        )
        return found

    def stream(self, pair: ExternalPair | None = None, **how: Any) -> Iterator[str]:  # noqa: ANN401 - as `explain`
        """The text of one pair, whole."""
        yield (self.explain(**how) if pair is None else self.explain(pair, **how)).text

    @cached_property
    def _facts(self) -> Facts:
        catalogue = self.known.catalogue
        if self._dataset is None:
            return Facts(catalogue, KnownStatements(pl.DataFrame(schema=STATEMENTS)))
        taken = catalogue.taken
        low = taken[self._dataset.is_disliked(taken[:, 0], taken[:, 1])]
        return Facts(catalogue, KnownStatements.read(self._dataset), map(tuple, low.tolist()))

    def _explained(self, scores: Scores, user: int | None, item: int, history: list[int]) -> Explanation:
        ids, known = scores.catalogue, getattr(scores, "behaviour", None)
        if user is None:
            taken = [ids.items.values[one] for one in history]
            because = scores.because(None, ids.items.values[item], history=taken)
        else:
            because = scores.because(ids.users.values[user], ids.items.values[item])
            history = ids.histories[user].tolist()
        seen, index = [one for one in dict.fromkeys(history) if one != item], ids.items.index
        liked = self._facts.liked(user, history)
        because = replace(because, items=[it for it in because.items if index(it.item_id) in liked])
        tokens = traced(tokens_of(because, known), self.newcomers)
        told = _Told(self._facts, user, item)
        glosses = {gloss.casefold() for token in tokens if token.side == "item" for gloss in token.gloss}
        told.tell(because, seen, glosses)
        alike = nearest(known, Subject(user, item, "", seen)) if isinstance(known, Representations) else []
        text = " ".join(claim.text for claim in told.claims)
        evidence = Evidence(alike, best_phrases(tokens), told.statements)
        return Explanation(text, tokens, evidence, because, told.claims)


def tokens_of(because: Because, known: object) -> list[TokenEvidence]:
    """The words of both sides with their glosses; none where the score is no sum of words."""
    if not isinstance(known, Vocabulary):
        return []
    shares = [share for share in because.shares if isinstance(share, Share)]
    sides: dict[str, Side] = {share.user: "user" for share in shares}
    sides |= {share.item: "item" for share in shares}
    return [TokenEvidence(name, side, list(known.phrases[name])) for name, side in sides.items()]


class _Shared(NamedTuple):
    """Something that is said of an item and of these items of a history, which has so many as a whole."""

    said: Statement
    items: list[int]
    whole: int


@dataclass
class _Told:
    """The sentences about one pair so far, and what each rests on."""

    facts: Facts
    user: int | None
    item: int
    claims: list[Claim] = field(default_factory=list)
    statements: list[StatementEvidence] = field(default_factory=list)
    named: list[int] = field(default_factory=list)
    """Items that the last sentence named."""

    def tell(self, because: Because, seen: list[int], glosses: set[str]) -> None:
        """All that there is to say; never nothing. `glosses`: what the item's words stand for, in small letters."""
        if because.kind == "popularity":
            self._counted()
        liked = self.facts.liked(self.user, seen)
        behind, shared = self._behind(because, liked), self._shared(seen, liked)
        named = None
        if shared is None or shared.said.source == "item":
            # Words of a name say better than a part of a description what two things have in common.
            named = self.facts.named_alike(self.item, liked[-_READ:])
            shared = None if named else shared
        told = self._liking(glosses, shared, bool(behind))
        if shared is None:
            self._named_alike(named)
        elif not told:
            self._say_of(shared.said, shared)
        if because.kind != "popularity" and not (self._takers(behind) or self._carried(because, behind)):
            self._counted()
        self._caveat()

    def _rest_on(self, text: str, source: str, item: int | None) -> str:
        """The id of a statement about an item, or (None) about the user; each is kept once."""
        side: Side = "user" if item is None else "item"
        number = self.user if item is None else item
        about = "" if number is None else self.facts.catalogue.ids(side).values[number]
        for one in self.statements:
            if (one.side, one.text, one.about) == (side, text, about):
                return one.id
        name = f"{side[0]}{1 + sum(one.side == side for one in self.statements)}"
        self.statements.append(StatementEvidence(name, side, text, source, about, 1.0))
        return name

    def _say(self, sentence: str, *evidence: str) -> None:
        text = f"{sentence[:1].upper()}{sentence[1:]}."
        self.claims.append(Claim(text, list(dict.fromkeys(evidence)), 1.0))

    def _name(self, items: list[int]) -> str:
        """Names of items of the history, or, where they were just named, a word for them."""
        if items == self.named:
            return "both" if len(items) > 1 else "that one"
        self.named = items
        return self.facts.name(items)

    # --- who took what

    def _behind(self, because: Because, seen: list[int]) -> list[int]:
        """At most two items that carried the score or, where none did, that most people took with the item."""
        index = self.facts.catalogue.items.index
        both = {one: len(self.facts.together([one, self.item], self.user)) for one in seen}
        ranked = [one for share in because.items if (one := index(share.item_id)) in both][:_BEHIND]
        if not ranked and because.kind != "popularity":
            ranked = [one for one in sorted(seen, key=lambda one: -both[one]) if both[one] > 1]
        return sorted(ranked, key=lambda one: both[one] < _NAMED)[:_NAMED]

    def _takers(self, behind: list[int]) -> bool:
        """Of others who took what the user took, how many also took the item; best of both things, and two at least."""
        some = [items for items in (behind, behind[:1], behind[1:]) if items]
        taken = [(len(self.facts.together([*items, self.item], self.user)), items) for items in some]
        also, items = max(taken, key=lambda pair: min(pair[0], 2), default=(0, behind))
        if also:
            self._say_took(items, also)
        return also > 0

    def _say_took(self, items: list[int], also: int) -> None:
        whole = len(self.facts.together(items, self.user))
        names, did = self.facts.name(items), "took both" if len(items) > 1 else "did"
        every = {1: "the one other", 2: "both others"}.get(whole, f"all {whole:,} others")
        count = every if also == whole else f"{'one' if also == 1 else f'{also:,}'} of the {whole:,} others"
        self._say(
            f"you took {self._name(items)}, and {count} who {did} also took this",
            self._rest_on(f"{count} who took {names} took it", "interactions", self.item),
            self._rest_on(f"took {names}", "interactions", None),
        )

    def _carried(self, because: Because, behind: list[int]) -> bool:
        """What of the history carried the score, where hardly anybody took both; what was just named is not again."""
        spoke = {it.item_id for it in because.items if it.share >= _SPOKE}
        behind = [one for one in behind if self.facts.catalogue.items.values[one] in spoke]
        new = behind if because.kind == "words" else [one for one in behind if one not in self.named]
        if new:
            s, also = "s" if len(new) == 1 else "", "also " if len(new) < len(behind) else ""
            does = f"share{s} words with it" if because.kind == "words" else f"speak{s} for it"
            own = self._rest_on(f"took {self.facts.name(new)}", "interactions", None)
            self._say(f"you {also}took {self._name(new)}, which {does}", own)
        return bool(behind)

    def _counted(self) -> None:
        """How many took it."""
        counts = np.array([len(users) for users in self.facts.takers])
        count, more = int(counts[self.item]), int((counts > counts[self.item]).sum())
        people = "one person" if count == 1 else f"{count:,} people"
        if not count:
            sentence = "nobody has taken it yet, so it is something new"
        elif more < _OFTEN * len(counts):
            most = "as much as anything" if (counts == count).sum() > 1 else "more than anything"
            place = f": number {more + 1} of {len(counts):,}" if more else f", {most} else"
            sentence = f"{people} took it{place}"
        else:
            sentence = f"{people} took it so far"
        self._say(sentence, self._rest_on(f"taken by {people}", "interactions", self.item))

    # --- what is said of it

    def _shared(self, seen: list[int], liked: list[int]) -> _Shared | None:
        """What the catalogue or others say of the item and of most of what the user took; rare things count more.

        All that they took is counted, and something that they liked must be among it, which is named.
        """
        some = {
            one: {(said.source, said.text.casefold()) for said in self.facts.of(self.user, one).item}
            for one in sorted(seen[-_READ:], key=lambda one: one in liked)
        }
        found = [
            _Shared(
                said,
                [one for one, told in some.items() if (said.source, said.text.casefold()) in told],
                len(some),
            )
            for said in self.facts.of(self.user, self.item).item
            if said.source in ("brand", "kind", "item", "phrase")
        ]

        def worth(one: _Shared) -> tuple[bool, bool, float]:
            # A part of a description says less well than a brand or a category what two things have in common.
            rare = len(one.items) * self.facts.rarity(one.said.text)
            return bool(one.items), one.said.source != "item", rare

        best = max(found, key=worth, default=None)
        return best if best is not None and best.items and best.items[-1] in liked else None

    def _liking(self, glosses: set[str], shared: _Shared | None, more: bool) -> bool:
        """Says what has most in common with what the user likes, else what words stand for; whether it is `shared`.

        Where there is `more` to say, a brand or a part of a description that nothing of theirs goes with is left out.
        """
        known = self.facts.of(self.user, self.item)
        pairs: list[tuple[Statement, Statement | None]]
        pairs = [(said, one) for said in known.item for one in (*known.user, None)]
        if not pairs:
            return False

        def worth(said: Statement, liked: Statement | None) -> tuple[float, bool, bool, bool]:
            common = 0.0 if liked is None else self.facts.common(liked.text, said.text)
            is_shared, is_gloss = shared is not None and said == shared.said, said.text.casefold() in glosses
            return common, is_shared, is_gloss, said.source not in ("brand", "item")

        said, liked = max(pairs, key=lambda pair: worth(*pair))
        common, is_shared, *_ = reasons = worth(said, liked)
        if any(reasons) or not more:
            self._say_of(said, shared if is_shared else None, liked if common else None)
        return is_shared

    def _say_of(self, said: Statement, shared: _Shared | None = None, liked: Statement | None = None) -> None:
        """A statement about the item, with what of the user's it goes with."""
        evidence = [self._rest_on(said.text, said.source, self.item)]
        sentence = _SAID[said.source]
        if any("the catalogue says" in it.text.casefold() for it in self.claims):
            sentence = sentence.replace("says", "also says")
        sentence = sentence.format(quoted(said.text))
        if liked is not None:
            evidence.append(self._rest_on(liked.text, liked.source, None))
            sentence = f"{liking(liked)}, and {sentence}"
        if shared is not None:
            count, whole = len(shared.items), shared.whole
            some = f"{count} of the" if count < whole else "all"
            things = f"{self._name(shared.items)}, which" if count == 1 else f"{some} {whole} things"
            verb = "of" if said.source in ("kind", "item") else "is" if count == 1 else "are"
            evidence += [self._rest_on(said.text, said.source, one) for one in shared.items[-_BEHIND:]]
            sentence += f", as {verb} {things} you took"
        self._say(sentence, *evidence)

    def _named_alike(self, found: tuple[int, str] | None) -> None:
        """Rare words that its title has in common with that of something they took, where there are some."""
        if found:
            other, run = found
            titles = self.facts.catalogue.titles
            evidence = [self._rest_on(titles[one], "title", one) for one in (self.item, other)]
            same = titles[self.item].casefold() == titles[other].casefold()
            has = "the same name as" if same else f"{quoted(run)} in its name, as does"
            self._say(f"it has {has} {self._name([other])}, which you took", *evidence)

    def _caveat(self) -> None:
        """What the user dislikes and others dislike in the item."""
        if found := self.facts.caveat(self.user, self.item):
            mine, theirs = found
            evidence = self._rest_on(mine, "phrase", None), self._rest_on(theirs, "phrase", self.item)
            self._say(f"a caveat, as you avoid {quoted(mine)}: some say {quoted(theirs)} of it", *evidence)
