"""What the service is sent. Ids are text or whole numbers, as the user has them; nobody sends a tensor."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""An id of a user, an item, an event or a run."""
Id = Annotated[str | int, Field(union_mode="left_to_right")]
Text = Annotated[str, StringConstraints(max_length=20_000)]
Finite = Annotated[float, Field(allow_inf_nan=False)]

HISTORY, ITEMS, BULK = 10_000, 10_000, 1_000
"""Most items of a history, of a rule, and rows of one call that writes."""


class Body(BaseModel):
    """A body; unknown names are refused, so that a typing error is no silent default."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)


class UserData(Body):
    """What is known of a person, as the shop keeps it; nothing is read from it."""

    data: dict[str, Any] = Field(default_factory=dict)


class ItemData(Body):
    """An item: of a new one title and text make its words."""

    title: Annotated[str, StringConstraints(max_length=1_000)] = ""
    text: Text = ""
    available: bool = Field(default=True, description="Whether lists may hold it.")
    data: dict[str, Any] = Field(default_factory=dict)


class Event(Body):
    """Something that a person did with an item."""

    key: Name = Field(description="Names this event: sent again with the same key it counts once.")
    user: Name
    item: Name
    kind: Name = Field(default="take", description="`take` enters the history; `untake` takes it back.")
    value: Finite | None = None
    time: datetime | None = Field(default=None, description="When; now, if left out.")


class Events(Body):
    """Several at once: all are kept, or none."""

    events: Annotated[list[Event], Field(min_length=1, max_length=BULK)]


class Person(Body):
    """Who: a user, or instead the items that somebody took, a text about them, or both."""

    user: Name | None = None
    history: Annotated[list[Name], Field(max_length=HISTORY)] | None = None
    about: Text | None = None
    run: Name | None = Field(default=None, description="Which run answers; the first one, if left out.")

    @model_validator(mode="after")
    def _somebody(self) -> Self:
        if (self.user is None) == (self.history is None and self.about is None):
            raise ValueError("give `user`, or instead `history`, `about` or both")
        return self


class Recommend(Person):
    """The best items for a person."""

    k: Annotated[int, Field(ge=1, le=500)] = 10
    exclude: Annotated[list[Name], Field(max_length=ITEMS)] = []
    only: Annotated[list[Name], Field(max_length=ITEMS)] | None = None
    boost: Annotated[dict[Name, Finite], Field(max_length=ITEMS)] = {}
    explain: bool = Field(default=False, description="Also what carried each score, and a checked sentence.")


class Changes(Body):
    """Words of the person that count as none, or as another one of their book."""

    without: Annotated[list[Name], Field(max_length=20)] = []
    swap: Annotated[dict[Name, Name], Field(max_length=20)] = {}


class Explain(Person, Changes):
    """Why this person would want this item."""

    item: Name | None = None
    item_text: Text | None = Field(
        default=None, description="Instead of an item: a text about one, title first."
    )
    stream: bool = Field(default=False, description="As server-sent events, word by word.")

    @model_validator(mode="after")
    def _something(self) -> Self:
        if (self.item is None) == (self.item_text is None):
            raise ValueError("give one of `item` and `item_text`")
        return self


class WhatIf(Person, Changes):
    """The same list with other words of this person."""

    k: Annotated[int, Field(ge=1, le=100)] = 10
    item: Name | None = Field(default=None, description="Also what would be said of this item.")

    @model_validator(mode="after")
    def _changed(self) -> Self:
        if not (self.without or self.swap):
            raise ValueError("name a word in `without` or in `swap`")
        return self


class Light(Body):
    """A history or a few sentences, whose words light up."""

    history: Annotated[list[Name], Field(max_length=HISTORY)] = []
    text: Text = ""
    run: Name | None = None


class Feedback(Body):
    """What a person thinks of a list or of a reason."""

    kind: Literal["clicked", "helpful", "wrong", "not_me"]
    impression: Name | None = None
    explanation: Name | None = None
    item: Name | None = None
    user: Name | None = None

    @model_validator(mode="after")
    def _of_something(self) -> Self:
        if self.impression is None and self.explanation is None:
            raise ValueError("name the `impression` or the `explanation` that it is about")
        return self


class Gloss(Body):
    """A word's meaning, as somebody who knows better puts it."""

    gloss: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
    run: Name | None = None


class Arm(Body):
    """One side of an experiment."""

    run: Name
    options: dict[Literal["boost", "exclude", "only"], dict[Name, Finite] | list[Name]] = {}
    share: Annotated[float, Field(gt=0, le=1)] = 0.5


class Experiment(Body):
    """Several runs, or rules, of which each person always gets the same one."""

    arms: Annotated[dict[Name, Arm], Field(min_length=2, max_length=10)]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if abs(sum(arm.share for arm in self.arms.values()) - 1) > 1e-6:
            raise ValueError("the shares of the arms must add to 1")
        return self


class Retrain(Body):
    """Which run is trained again on what is known now."""

    run: Name | None = None


class Message(BaseModel):
    """One message of a chat."""

    role: str
    content: Text


class Chat(BaseModel):
    """As of OpenAI's chat completions; what is not read here is let through."""

    model: Name | None = None
    messages: Annotated[list[Message], Field(min_length=1, max_length=100)]
    stream: bool = False
