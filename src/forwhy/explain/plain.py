"""A reason without a language model: plain sentences of what carried the score, each counted or read before it is said.

What is told grows with what is known: who else took it, from interactions alone; what the catalogue says of it and of
what the person took; what they like and what is said of it, from phrases and reviews. No torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol, Self, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from forwhy.columns import Side
from forwhy.data.because import Because, Share
from forwhy.data.dataset import Dataset, Pairs
from forwhy.data.histories import Catalogue
from forwhy.data.intents import phrases_from_profile
from forwhy.explain.evidence import (
    Asked,
    Claim,
    Evidence,
    Explanation,
    ExternalPair,
    StatementEvidence,
    Subject,
    TokenEvidence,
    best_phrases,
    is_single,
    named,
    nearest,
)
from forwhy.graph.representations import Representations
from forwhy.text.hostile import clean
from forwhy.text.statements import KnownStatements, PairStatements, Statement
from forwhy.vocabulary.vocabulary import Vocabulary

_BEHIND, _NAMED, _SHARED = 6, 2, 2
"""Items of the history that are looked at, those that are named, and things that are said of all of them."""
_TITLE, _QUOTED = 60, 110
"""Characters of a title and of a statement that are shown."""
_SAID = {
    "item": "the catalogue says {} of it",
    "phrase": "it is noted for {}",
    "explanation": "it was recommended for {}",
    "review": "somebody wrote {} of it",
}
"""How a statement about an item is told, by its source."""
_LONG_WORD = re.compile(r"[^\W\d_]{4,}")
_STEM = 6
"""Letters that words of one stem share; roughly: "visual" and "visually"."""
_COMMON = frozenset(
    [
        "about",
        "also",
        "than",
        "that",
        "this",
        "their",
        "them",
        "they",
        "with",
        "from",
        "have",
        "very",
        "more",
        "most",
        "some",
        "into",
        "film",
        "movie",
    ]
)


class Scores(Protocol):
    """A recommender, as far as its reasons are asked for."""

    catalogue: Catalogue

    def because(
        self, user: str | int | None, item: str | int, *, history: Sequence[str | int] | None = None
    ) -> Because:
        """What carries the score of an item."""
        ...

    def changed(
        self,
        users: Any = None,  # noqa: ANN401 - an id or several
        *,
        history: Sequence[str | int] | None = None,
        without: Sequence[str] = (),
        swap: Mapping[str, str] | None = None,
    ) -> Self:
        """The recommender with words of people taken out or exchanged."""
        ...


@dataclass
class _Told:
    """Sentences so far, and what each rests on."""

    claims: list[Claim] = field(default_factory=list)
    statements: list[StatementEvidence] = field(default_factory=list)

    def rest_on(self, side: Side, text: str, source: str, about: str | int) -> str:
        """The id of a statement, which is kept once."""
        for known in self.statements:
            if (known.side, known.text, known.about) == (side, text, about):
                return known.id
        number = 1 + sum(known.side == side for known in self.statements)
        name = f"{side[0]}{number}"
        self.statements.append(StatementEvidence(name, side, text, source, about, 1.0))
        return name

    def say(self, sentence: str, *evidence: str) -> None:
        """A sentence, which begins with a capital letter."""
        self.claims.append(Claim(sentence[:1].upper() + sentence[1:], list(evidence), 1.0))


class PlainExplainer:
    """Says why a recommender would offer an item, in sentences that are true by construction.

    What carried the score chooses the items of the history that are named, and its words choose among statements; a
    part that nothing known supports is not said. Nothing is trained, and no language model is asked.
    """

    def __init__(self, scores: Scores, dataset: Dataset | None = None) -> None:
        """`dataset`: where statements are read; without one only ids, titles and who took what are known."""
        self.scores, self.catalogue, self._dataset = scores, scores.catalogue, dataset

    @overload
    def explain(self, pairs: ExternalPair, **how: Unpack[Asked]) -> Explanation: ...
    @overload
    def explain(self, pairs: Pairs | Sequence[ExternalPair], **how: Unpack[Asked]) -> list[Explanation]: ...
    @overload
    def explain(
        self, *, history: Sequence[str | int], item: str | int, **how: Unpack[Asked]
    ) -> Explanation: ...
    def explain(
        self,
        pairs: ExternalPair | Pairs | Sequence[ExternalPair] | None = None,
        *,
        history: Sequence[str | int] | None = None,
        item: str | int | None = None,
        contributions: bool = False,
        without: Sequence[str] = (),
        swap: Mapping[str, str] | None = None,
    ) -> Explanation | list[Explanation]:
        """Why each user would like the item; arguments as of :meth:`Explainer.explain`.

        `contributions`: no model reads tokens here, so none are told.

        Raises:
            UserError: Unknown id; a person whom the recommender cannot serve; a token that they do not have.
        """
        ids, asked = self.catalogue, self.scores
        if pairs is None and history is not None and not len(history) and item is not None:
            people: list[tuple[int | None, int, list[int]]] = [(None, ids.items.index(item), [])]
        else:
            people = named(ids, pairs, history, item)
        if without or swap:
            users = [ids.users.values[user] for user, _, _ in people if user is not None]
            asked = asked.changed(users, history=history, without=without, swap=swap)
        told = [self._explained(asked, user, thing, seen) for user, thing, seen in people]
        return told[0] if pairs is None or is_single(pairs) else told

    def stream(self, pair: ExternalPair | None = None, **how: Any) -> Iterator[str]:  # noqa: ANN401 - as `explain`
        """The text of one pair, whole."""
        yield (self.explain(**how) if pair is None else self.explain(pair, **how)).text

    # --- one pair

    def _explained(self, scores: Scores, user: int | None, item: int, history: list[int]) -> Explanation:
        ids, known = self.catalogue, getattr(scores, "behaviour", None)
        if user is None:
            because = scores.because(
                None, ids.items.values[item], history=[ids.items.values[i] for i in history]
            )
            seen = list(dict.fromkeys(history))
        else:
            because = scores.because(ids.users.values[user], ids.items.values[item])
            seen = list(dict.fromkeys(ids.histories[user].tolist()))
        tokens = self._tokens(because, known)
        told, behind = _Told(), self._behind(because, item, [one for one in seen if one != item])
        self._say_liking(told, user, item, tokens)
        self._say_takers(told, because, user, item, behind)
        self._say_shared(told, user, item, behind)
        self._say_caveat(told, user, item)
        subject = Subject(user, item, ids.titles[item], seen)
        items = nearest(known, subject) if isinstance(known, Representations) else []
        text = " ".join(claim.text for claim in told.claims)
        return Explanation(
            text, tokens, Evidence(items, best_phrases(tokens), told.statements), because, told.claims
        )

    def _tokens(self, because: Because, known: object) -> list[TokenEvidence]:
        """The words of both sides with their glosses; none where the score is no sum of words."""
        if not isinstance(known, Vocabulary):
            return []
        shares = [share for share in because.shares if isinstance(share, Share)]
        words: dict[str, Side] = {share.user: "user" for share in shares}
        words |= {share.item: "item" for share in shares}
        glosses = dict(known.words.select("token", "gloss").iter_rows())
        return [TokenEvidence(name, side, list(glosses[name])) for name, side in words.items()]

    def _behind(self, because: Because, item: int, seen: list[int]) -> list[int]:
        """At most two items of the history: those that carried the score, if one can, with people who also took it.

        Where nothing of the history carried it, those that most of these people took.
        """
        together = {one: len(self._together(one, item)) for one in seen}
        carried = [self.catalogue.items.index(one.item_id) for one in because.items]
        ranked = [one for one in carried if one in together][:_BEHIND]
        if not ranked and because.kind != "popularity":
            ranked = [one for one in sorted(seen, key=lambda one: -together[one]) if together[one] > 1]
        return sorted(ranked, key=lambda one: together[one] < _NAMED)[:_NAMED]

    # --- who took what

    @cached_property
    def _takers(self) -> list[NDArray[np.int64]]:
        """[I] the distinct users who took each item in training, ascending."""
        taken = np.unique(self.catalogue.taken[:, ::-1], axis=0)
        cuts = np.searchsorted(taken[:, 0], np.arange(1, len(self.catalogue.items)))
        return np.split(taken[:, 1], cuts)

    def _together(self, *items: int) -> NDArray[np.int64]:
        """Users who took all of these."""
        found = self._takers[items[0]]
        for item in items[1:]:
            found = np.intersect1d(found, self._takers[item], assume_unique=True)
        return found

    def _say_takers(
        self, told: _Told, because: Because, user: int | None, item: int, behind: Sequence[int]
    ) -> None:
        """Who else took it, of those who took the same; without any, what carried the score, or how many took it."""
        about = self.catalogue.items.values[item]
        for named_ in (behind, behind[:1], behind[1:]):
            others = np.setdiff1d(self._together(*named_), [-1 if user is None else user]) if named_ else []
            also = np.intersect1d(others, self._takers[item]) if len(others) else []
            if len(also) > 1:
                fact = f"{len(also)} of {len(others)} people who took {self._names(named_)} took it"
                said = "who took both" if len(named_) > 1 else "who took that"
                rest = f"{len(also)} of the {len(others)} others {said} also took this."
                if len(also) == len(others):
                    rest = f"all {len(others)} others {said} also took this."
                told.say(
                    f"you took {self._names(named_)}, and {rest}",
                    told.rest_on("item", fact, "interactions", about),
                )
                return
        if behind:
            names = self._names(behind)
            how = (
                "it is told by words that it shares with"
                if because.kind == "words"
                else "what speaks for it is"
            )
            fact = told.rest_on("user", f"took {names}", "interactions", self._person(user))
            told.say(f"{how} {names}, which you took.", fact)
        elif not told.claims or because.kind == "popularity":
            self._say_counts(told, item, about)

    def _say_counts(self, told: _Told, item: int, about: str | int) -> None:
        counts = np.array([len(users) for users in self._takers])
        count, more = int(counts[item]), int((counts > counts[item]).sum())
        if not count:
            sentence = "nobody has taken it yet: it is new here."
        elif more < len(counts) / 10:
            place = (
                "more than anything else"
                if not more
                else f"and only {more} of {len(counts):,} things more often"
            )
            sentence = f"{_people(count)} took it, {place}."
        else:
            sentence = f"{_people(count)} took it so far."
        told.say(sentence, told.rest_on("item", f"taken by {_people(count)}", "interactions", about))

    # --- what is said of it

    @cached_property
    def _known(self) -> KnownStatements | None:
        return None if self._dataset is None else KnownStatements(self._dataset)

    @cached_property
    def _disliked(self) -> Mapping[Side, Mapping[int, list[str]]]:
        """Side -> what a user dislikes, and what is disliked about an item."""
        if self._dataset is None:
            return {"user": {}, "item": {}}
        return {"user": _dislikes(self._dataset, "user"), "item": _dislikes(self._dataset, "item")}

    def _statements(self, user: int | None, item: int) -> PairStatements:
        """What is known of both sides, but what they dislike, what is disliked about it, and titles."""
        if self._known is None:
            return PairStatements([], [])
        number = -1 if user is None else user
        pair = self._known.of(number, item)
        out = {"user": self._disliked["user"].get(number, []), "item": self._disliked["item"].get(item, [])}
        kept: dict[str, list[Statement]] = {}
        for side, statements in (("item", pair.item), ("user", pair.user)):
            bad = {text.casefold().strip(" .") for text in out[side]}
            averse = [_stems(text) for text in out["user"]] if side == "item" else []
            kept[side] = [
                one
                for one in statements
                if one.source != "title"
                and one.text.casefold().strip(" .") not in bad
                and not any(len(_stems(one.text) & stems) > 1 for stems in averse)
            ]
        return PairStatements(kept["item"], kept["user"])

    def _say_liking(self, told: _Told, user: int | None, item: int, tokens: Sequence[TokenEvidence]) -> None:
        """What the user likes beside what is said of the item that has most in common with it; else the item's own."""
        known = self._statements(user, item)
        glosses = {gloss.casefold() for token in tokens if token.side == "item" for gloss in token.gloss}
        best: tuple[int, bool, Statement | None, Statement] | None = None
        for liked in (None, *known.user):
            stems = _stems(liked.text) if liked else set()
            for said in known.item:
                common = len(stems & _stems(said.text))
                if (common or liked is None) and (
                    best is None or (common, said.text.casefold() in glosses) > best[:2]
                ):
                    best = (common, said.text.casefold() in glosses, liked, said)
        if best is None:
            return
        *_, liked, said = best
        evidence = [told.rest_on("item", said.text, said.source, self.catalogue.items.values[item])]
        sentence = _SAID[said.source].format(_quoted(said.text))
        if liked is not None:
            evidence.append(told.rest_on("user", liked.text, liked.source, self._person(user)))
            sentence = f"{_liking(liked)}, and {sentence}"
        told.say(f"{sentence}.", *evidence)

    def _say_shared(self, told: _Told, user: int | None, item: int, behind: Sequence[int]) -> None:
        """What is said, in the same words, of the item and of the items of the history that are named."""
        own = [one for one in self._statements(user, item).item if one.source in ("item", "phrase")]
        for named_ in (behind, behind[:1]):
            others = [{one.text.casefold() for one in self._statements(user, it).item} for it in named_]
            both = [one for one in own if others and all(one.text.casefold() in texts for texts in others)]
            told_of = [claim for claim in told.claims if both and _quoted(both[0].text) in claim.text]
            if not both:
                continue
            both = both[:_SHARED]
            ids = self.catalogue.items.values
            evidence = [
                told.rest_on("item", one.text, one.source, ids[it]) for one in both for it in (item, *named_)
            ]
            if told_of:  # it was just said of this one
                told.claims[told.claims.index(told_of[0])] = replace(
                    told_of[0], evidence=[*told_of[0].evidence, *evidence]
                )
                told.say(f"the same is said of {self._names(named_)}.", *evidence)
                return
            things = " and ".join(_quoted(one.text) for one in both)
            what = "are all" if len(named_) > 1 else "are both"
            told.say(f"it and {self._names(named_)} {what} listed as {things}.", *evidence)
            return

    def _say_caveat(self, told: _Told, user: int | None, item: int) -> None:
        """What the user dislikes and what is disliked about the item, where both say the same in at least two words."""
        if user is None:
            return
        pairs = (
            (len(_stems(mine) & _stems(theirs)), mine, theirs)
            for mine in self._disliked["user"].get(user, [])
            for theirs in self._disliked["item"].get(item, [])
        )
        common, mine, theirs = max(pairs, default=(0, "", ""), key=lambda pair: pair[0])
        if common > 1:
            evidence = (
                told.rest_on("user", mine, "phrase", self._person(user)),
                told.rest_on("item", theirs, "phrase", self.catalogue.items.values[item]),
            )
            told.say(f"a caveat: of what you avoid, {_quoted(theirs)} was said of it.", *evidence)

    # --- names

    def _person(self, user: int | None) -> str | int:
        return "" if user is None else self.catalogue.users.values[user]

    def _names(self, items: Sequence[int]) -> str:
        """Titles in quotation marks, or ids where there are none."""
        ids, titles = self.catalogue.items.values, self.catalogue.titles
        return " and ".join(
            _quoted(titles[item], _TITLE) if titles[item] else clean(str(ids[item]), _TITLE) for item in items
        )


def _quoted(text: str, most: int = _QUOTED) -> str:
    """A stranger's text between marks that it cannot end."""
    return f"“{clean(text, most).strip(' .').translate({0x201C: chr(39), 0x201D: chr(39), 0x22: chr(39)})}”"


def _liking(statement: Statement) -> str:
    """What is known of the user, as something that can be said to them."""
    if statement.source == "review":
        return f"you wrote {_quoted(statement.text)} before"
    bare = next(iter(phrases_from_profile(statement.text, 1)), "")
    return f"you like {_quoted(bare or statement.text)}"


def _people(count: int) -> str:
    return "one person" if count == 1 else f"{count:,} people"


def _stems(text: str) -> set[str]:
    """The beginnings of the longer words of a text."""
    words = (word.casefold() for word in _LONG_WORD.findall(text))
    return {word[:_STEM] for word in words if word not in _COMMON}


def _dislikes(dataset: Dataset, side: Side) -> dict[int, list[str]]:
    """Phrases of the intents table that say what is disliked, by internal number."""
    frame = dataset.table("intents").filter(side=side)
    if "attitude" not in frame.columns:
        return {}
    frame = frame.filter(attitude="dislike")
    found: dict[int, list[str]] = {}
    for number, phrase in zip(
        dataset.ids(side).numbers(frame["entity_id"]).tolist(), frame["phrase"], strict=True
    ):
        found.setdefault(number, []).append(phrase)
    return found
