"""The chat contract: a question in, an answer or the reason for none out. No torch and no network here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, Self

Role = Literal["system", "user", "assistant"]
Reason = Literal["refused", "truncated", "rejected", "timeout", "server", "budget"]
"""Why there is no text: the model declined; did not come to its end; its server rejected the request (too
long, say), did not answer in time, or failed; the budget was spent."""
FINAL: frozenset[Reason | None] = frozenset({None, "refused", "truncated"})
"""What was answered and paid for; anything else is worth asking again."""
STOPPED = "stopped"
"""`Answer.detail` of what was not asked any more after `Chat.stop`; its reason is `server`."""


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True)
class Question:
    """What a model is asked. Equal questions to equal models have one answer, which may be kept."""

    messages: tuple[Message, ...]
    max_tokens: int = 512
    """Most tokens of the answer."""
    schema: Mapping[str, Any] | None = None
    """JSON schema of the answer, for servers that can hold a model to one; None asks for plain text."""

    def key(self, model: str) -> str:
        """SHA-256 of the model's name and of all that is asked."""
        turns = [[message.role, message.content] for message in self.messages]
        asked = json.dumps([model, turns, self.max_tokens, self.schema], sort_keys=True)
        return hashlib.sha256(asked.encode()).hexdigest()


@dataclass(frozen=True)
class Tally:
    """Calls and their tokens."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    estimated: int = 0
    """Calls of whose tokens only an upper bound is known: answered without `usage`, or never to the end."""

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.calls + other.calls,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.estimated + other.estimated,
        )

    def __sub__(self, other: Tally) -> Tally:
        return self + Tally(-other.calls, -other.input_tokens, -other.output_tokens, -other.estimated)


@dataclass(frozen=True)
class Answer:
    """How a question ended."""

    text: str = ""
    reason: Reason | None = None
    """None: `text` is the model's."""
    detail: str = ""
    """What the server or the network said, where there is no text."""
    used: Tally = Tally()


class Chat(Protocol):
    """A model that answers; safe from several threads, to be closed."""

    model: str
    """Names the model (and its revision, where known) in caches and in the provenance of what it wrote."""
    concurrency: int
    """Questions that it takes at once."""

    def ask(self, question: Question) -> Answer:
        """The answer at temperature 0, after as many attempts as it takes and the options allow.

        Raises:
            UserError: no question can succeed: wrong key, model or address.
        """
        ...

    def stop(self) -> None:
        """End all waiting; what is not under way is not asked any more."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...
