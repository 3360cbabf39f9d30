"""What an explainer is asked: pairs of people and items, or one person and one item, who may both be new."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice, takewhile
from typing import Any, Self, TypedDict, Unpack, cast, overload

from forwhy.data.dataset import Pairs
from forwhy.data.histories import Catalogue
from forwhy.errors import UserError
from forwhy.explain.evidence import Explanation, ExternalPair, Subject
from forwhy.graph.representations import Representations

AskedPairs = ExternalPair | Pairs | Sequence[ExternalPair]
"""One pair of external ids, several, or `Pairs` of internal numbers."""
Person = tuple[int | None, int, list[int]]
"""User, item and history of a pair in internal numbers; a newcomer is None, a known user's history is empty."""


class Asked(TypedDict, total=False):
    """How an explainer is asked, beside whom and what about; inside it, all are given."""

    contributions: bool
    without: Sequence[str]
    swap: Mapping[str, str] | None


class Who(TypedDict, total=False):
    """One person and one item, instead of pairs; what is None is not given."""

    user: str | int | None
    """A user of the training data."""
    history: Sequence[str | int] | None
    """Instead of a user: items that somebody new took."""
    about: str | None
    """Instead of a user, alone or beside a history: a text that says what somebody new likes and dislikes."""
    item: str | int | None
    item_text: str | None
    """Instead of an item: a text about one that nobody took, whose first line is its title."""


class AskedWho(Who, Asked):
    """Who is asked about, and how."""


@dataclass(eq=False)
class Question:
    """Why one person would want one item, asked while others are answered; see :meth:`Explains.flow`."""

    asked: AskedWho
    watched: bool = False
    """Whether the text is told as it grows."""
    dropped: bool = False
    """Set when nobody waits for the answer any more."""


class Explains(ABC):
    """What answers why: an explainer with a language model, or plain sentences.

    A text about somebody or something new is refused where none is read.
    """

    stands: str
    """What is known of users and items, in words."""

    @property
    @abstractmethod
    def known(self) -> Any:  # noqa: ANN401 - representations, or a recommender
        """Users and items, with a `catalogue`."""

    def knows(self, item: str | int) -> bool:
        """Whether there is something to say of an item; plain sentences say something of any.

        Raises:
            UserError: An unknown id.
        """
        number, known = self.known.catalogue.items.index(item), self.known
        return not isinstance(known, Representations) or known.knows_item(number)

    @overload
    def explain(self, pairs: ExternalPair, **how: Unpack[Asked]) -> Explanation: ...
    @overload
    def explain(self, pairs: Pairs | Sequence[ExternalPair], **how: Unpack[Asked]) -> list[Explanation]: ...
    @overload
    def explain(self, **asked: Unpack[AskedWho]) -> Explanation: ...
    def explain(
        self,
        pairs: AskedPairs | None = None,
        *,
        contributions: bool = False,
        without: Sequence[str] = (),
        swap: Mapping[str, str] | None = None,
        **who: Unpack[Who],
    ) -> Explanation | list[Explanation]:
        """Why each user would like the item; greedy, so a pair gets the same text in any batch.

        Args:
            pairs: See :data:`AskedPairs`.
            contributions: Also measure each token's worth, where a model reads tokens: one more reading of each text
                per token and one of all.
            without: Tokens of the users that the model may not look at and that count nothing in the score.
            swap: Tokens of the users that another one of their book stands for.
            **who: Instead of pairs one person and one item, who may both be new: see :class:`Who`.

        Raises:
            UserError: Unknown id; nothing known of a user or item; an empty history; a token that a user lacks; a text
                about somebody or something new that is blank or that cannot be read.
        """
        host, asked = self._asked(pairs, who)
        how = Asked(contributions=contributions, without=without, swap=swap)
        told = host._answers(asked, how)
        return told[0] if pairs is None or is_single(pairs) else told

    def flow(
        self, questions: Iterator[Question | None], together: int
    ) -> Iterator[tuple[Question, str | Explanation | UserError]]:
        """Each question with its answer or why there is none, in the order in which they are answered.

        `questions` is asked for more as long as fewer than `together` texts are being written; None is nothing now. Of
        a watched one the text so far is told too, where it is written word by word. Ends when nothing is left.
        """
        while waiting := [it for it in takewhile(bool, islice(questions, together)) if it is not None]:
            pairs = [it for it in waiting if it.asked.keys() == {"user", "item"}]
            told: dict[Question, Explanation] = {}
            if len(pairs) > 1:
                named = [(it.asked["user"], it.asked["item"]) for it in pairs]
                with suppress(UserError):  # of one of them; each is asked alone
                    told = dict(zip(pairs, self.explain(cast("list[ExternalPair]", named)), strict=True))
            for question in waiting:
                try:
                    yield question, told.get(question) or self.explain(**question.asked)
                except UserError as error:
                    yield question, error

    @abstractmethod
    def _answers(self, asked: Sequence[Person], how: Asked) -> list[Explanation]:
        """An explanation for each, none of whom is new to this explainer."""

    def introduced(self, **who: Unpack[Who]) -> tuple[Self, Who]:
        """This explainer with those in it who are new, by the texts about them, and `who` by ids alone.

        Raises:
            UserError: A text beside an id of the same side; one that is blank or cannot be read.
        """
        explainer, asked = self, cast("Who", {name: it for name, it in who.items() if it is not None})
        for text, known in (("about", "user"), ("item_text", "item")):
            if text in asked and known in asked:
                raise UserError(
                    f"explain: {text} is of somebody or something new; leave out the {known} or the text"
                )
        if (about := asked.pop("about", None)) is not None:
            explainer = explainer._meeting(about, asked.setdefault("history", ()) or ())
        if (item := asked.pop("item_text", None)) is not None:
            explainer = explainer._offering(item)
            asked["item"] = explainer.known.catalogue.items.values[-1]
        return explainer, asked

    def _meeting(self, about: str, history: Sequence[str | int]) -> Self:
        """This explainer, to which any history, also an empty one, is that of somebody with these items and words."""
        return self._offering(about)

    def _offering(self, text: str) -> Self:
        """This explainer with an item more, the catalogue's last one, which nobody took."""
        raise UserError(
            f"{self.stands} are not made from texts: name an item and a user or a history, or ask a run of because, or "
            "of beat with vocabulary.text_first = 3"
        )

    def _asked(self, pairs: AskedPairs | None, who: Who) -> tuple[Self, list[Person]]:
        """Who is asked about, and an explainer that knows them."""
        if pairs is None:
            explainer, who = self.introduced(**who)
            return explainer, [_one(explainer.known.catalogue, who)]
        pairs_alone(who)
        if isinstance(pairs, Pairs):
            both = zip(pairs.users.tolist(), pairs.items.tolist(), strict=True)
            return self, [(user, item, []) for user, item in both]
        named = cast("Sequence[ExternalPair]", [pairs] if is_single(pairs) else pairs)
        ids: Catalogue = self.known.catalogue
        return self, [(ids.users.index(user), ids.items.index(item), []) for user, item in named]


def _one(ids: Catalogue, who: Who) -> Person:
    user, history, item = who.get("user"), who.get("history"), who.get("item")
    if item is None or (user is None) == (history is None):
        raise UserError(
            "explain: give pairs, or one of user=…, history=[items they like] and about='likes …', together with "
            "item=… or item_text='Title: …'"
        )
    taken = [ids.items.index(one) for one in history or ()]
    return None if user is None else ids.users.index(user), ids.items.index(item), taken


def asked_about(known: Representations, stands: str, asked: Sequence[Person]) -> list[Subject]:
    """What an explainer reads of those asked about; `stands`: what it knows of them.

    Raises:
        UserError: a user or an item without training interactions.
    """
    catalogue, found = known.catalogue, []
    for user, item, history in asked:
        if user is None and not history and getattr(known, "met", None) is None:
            raise UserError("explain: the history is empty; give pairs, or history=[items the user likes]")
        seen = history or known.taken_by(user)
        if user is not None and not seen:
            raise UserError(
                f"user {catalogue.users.values[user]!r}: no training interactions, so no {stands} "
                "to explain with; say what the user likes instead: explain(history=[items], item=…)"
            )
        if not known.knows_item(item):
            raise UserError(
                f"item {catalogue.items.values[item]!r}: no training interactions, so no {stands} "
                "to explain with; ask about an item that someone has taken, or fit again once someone has"
            )
        found.append(Subject(user, item, catalogue.titles[item], seen))
    return found


def refuse_new(known: Representations, why: str, asked: Sequence[Person]) -> None:
    """For who reads nothing of a history; `why` says so, such as "PETER knows users by number alone"."""
    users = known.catalogue.users.values
    for user, _, _ in asked:
        if user is None or not known.has_history["user"][user]:
            who = "somebody known by a history" if user is None else f"user {users[user]!r}"
            raise UserError(
                f"{who}: no training interactions, and {why}; name a user of the training data, "
                "or ask a run of xrec, beat or because"
            )


def pairs_alone(asked: Mapping[str, object]) -> None:
    """Refuses somebody or something named beside pairs."""
    if who := [name for name, it in asked.items() if it is not None and name not in Asked.__annotations__]:
        raise UserError(f"explain: pairs say whom it is about; leave out {', '.join(who)}, or the pairs")


def is_single(pairs: object) -> bool:
    """Whether this is one (user, item) rather than several."""
    return isinstance(pairs, tuple) and len(pairs) == 2 and all(isinstance(part, str | int) for part in pairs)
