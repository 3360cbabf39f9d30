"""A language model to ask: questions and answers, what these cost and may cost, and the options. No torch here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import add
from threading import Condition
from typing import Any, ClassVar, Literal, Protocol, Self

from pydantic import Field, PrivateAttr, model_validator

from forwhy.options import Options


class Ledger:
    """What was bought, and what may be: at most `budget` (None: no limit) of what `counted` counts; safe from threads.

    A call is held at an upper bound before it is made and booked at what it took. When the next one may not fit, it
    waits for those under way, and if it still does not, nothing is bought any more: no later, shorter one either.
    """

    def __init__(self, budget: float | None, counted: Callable[[Tally], float]) -> None:
        self._budget, self._counted, self._changed = budget, counted, Condition()
        self._held: list[Tally] = []
        self.bought, self.cached = Tally(), Tally()
        """By this process, and before it, of the answers that count towards the budget."""
        self.closed = False
        """Whether a call did not fit any more."""

    def call(self, bound: Tally, ask: Callable[[], Answer]) -> Answer:
        """The answer of a call that takes at most `bound`, which an error costs; `budget` where so much is not left."""
        with self._changed:
            while not self.closed and self._held and not self._fits(bound):
                self._changed.wait()
            self.closed = self.closed or not self._fits(bound)
            self._changed.notify_all()
            if self.closed:
                return Answer(reason="budget", detail="the budget is spent")
            self._held.append(bound)
        used = bound
        try:
            answer = ask()
            used = answer.used
        finally:
            with self._changed:
                self._held.remove(bound)
                self.bought += used
                self._changed.notify_all()
        return answer

    def _fits(self, bound: Tally) -> bool:
        taken = sum([self.cached, *self._held, bound], self.bought)
        return self._budget is None or self._counted(taken) <= self._budget


# --- A question in, an answer or the reason for none out.

Role = Literal["system", "user", "assistant"]
Reason = Literal["refused", "truncated", "malformed", "rejected", "timeout", "server", "budget"]
"""Why there is no value: the model declined; did not come to its end; gave no answer of the form asked for; its
server rejected the request (too long, say), did not answer in time, or failed; the budget was spent."""
FINAL: frozenset[Reason | None] = frozenset({None, "refused", "truncated", "malformed"})
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
    schema: Mapping[str, Any] | None = None
    """JSON schema of the answer, for servers that can hold a model to one; None asks for plain text."""
    identity: tuple[str, ...] = ()
    """What makes it this question and no other; empty: its messages, room and schema do."""
    prompt: tuple[int, ...] = ()
    """Ids of the model in place of messages, to be continued."""
    how: Mapping[str, Any] = field(default_factory=dict)
    """What else a server is told of a prompt."""

    def key(self, model: str) -> str:
        """SHA-256 of the model's name and of what makes the question."""
        turns = [[message.role, message.content] for message in self.messages]
        own: tuple[Any, ...] = self.identity or (turns, self.max_tokens, self.schema)
        asked = [model, *own, *((self.prompt, self.how) if self.prompt else ())]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Tally:
    """Calls and their tokens."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    estimated: int = 0
    """Calls of whose tokens only an upper bound is known: answered without `usage`, or never to the end."""

    def __add__(self, other: Tally) -> Tally:
        return Tally(*map(add, vars(self).values(), vars(other).values()))

    def __str__(self) -> str:
        return f"{self.calls} calls, {self.input_tokens} + {self.output_tokens} tokens"


@dataclass(frozen=True)
class Answer:
    """How a question ended."""

    text: str = ""
    reason: Reason | None = None
    """None: `text` is the model's."""
    detail: str = ""
    """What the server or the network said, where there is no text."""
    used: Tally = Tally()
    wait: float = 0.0
    """Seconds that the server asks for before the next attempt."""


class Chat(Protocol):
    """A model that answers; safe from several threads, to be closed."""

    model: str
    """Names the model (and its revision, where known) in caches and in the provenance of what it wrote."""
    concurrency: int

    def ask(self, question: Question) -> Answer:
        """The answer at temperature 0, after as many attempts as the options allow; a UserError where none can be."""

    def stop(self) -> None:
        """End all waiting; what is not under way is not asked any more."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


# --- Options of a language model that is asked: who answers, what it may cost, and how patient we are.


class AskingConfig(Options):
    """What every use of a model has. The key comes from the environment only."""

    who: ClassVar[str] = "LLM"
    """What messages call the model."""
    url_name: ClassVar[str] = "FORWHY_LLM_URL"
    """Environment variable of the address."""
    key_name: ClassVar[str] = "FORWHY_LLM_KEY"
    """Environment variable of the key."""
    schema_name: ClassVar[str] = "answer"
    """Name of the JSON schema in a request."""

    model: str = Field(min_length=1)
    """The model's name on its server; part of the key of every answer that is kept."""
    url: str | None = None
    """Address of the interface, such as http://127.0.0.1:8000/v1; None reads it from the environment."""
    input_price: float | None = Field(default=None, ge=0)
    """Price of a million tokens that the model reads."""
    output_price: float | None = Field(default=None, ge=0)
    """Price of a million tokens that the model writes."""
    concurrency: int = Field(default=8, ge=1, le=256)
    """Calls under way at once; as many may be lost, and paid for again, when the process is killed."""
    requests_per_minute: float = Field(default=0.0, ge=0)
    """Most calls in a minute, evenly spaced; 0 = as many as the server takes."""
    timeout: float = Field(default=60.0, gt=0, le=3600)
    """Seconds after which a call is given up, whatever came of it until then."""
    attempts: int = Field(default=5, ge=1, le=1000)
    """Calls for one answer while the server is busy, late or broken."""
    asks: int = Field(default=3, ge=1, le=1000)
    """Answers read for one question until one of them has the form that was asked for."""
    backoff: float = Field(default=1.0, ge=0, le=3600)
    """Seconds before the second attempt, doubled before each further one, each drawn from half to one and a
    half of that; never less than the server's Retry-After."""
    structured: bool = True
    """Ask for an answer by JSON schema; a server that rejects this is asked without."""

    _chosen: bool = PrivateAttr(default=False)

    def __init__(self, /, **values: Any) -> None:  # noqa: ANN401 - of any field
        """Options by name, as of any; made in a program, the address is this program's choice."""
        super().__init__(**values)
        self._chosen = True

    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined] # not for sections of a recipe or folder

    @property
    def chosen(self) -> bool:
        """Whether who runs this gave the address, so that a key may go there; a recipe or a folder can't say so."""
        return self._chosen

    def typed(self) -> Self:
        """These options, given on this command line."""
        self._chosen = True
        return self

    @model_validator(mode="after")
    def _both_prices(self) -> Self:
        if (self.input_price is None) != (self.output_price is None):
            raise ValueError("prices: one is given: give both, of input and of output tokens, or none")
        return self

    def cost(self, tally: Tally) -> float | None:
        """In the currency of the prices; None without prices."""
        if self.input_price is None or self.output_price is None:
            return None
        return (tally.input_tokens * self.input_price + tally.output_tokens * self.output_price) / 1e6


class ChatConfig(AskingConfig):
    """A model that reads reviews: on a server (`url` or FORWHY_LLM_URL, key in FORWHY_LLM_KEY), else local.

    A local model is what `forwhy.models.locate` finds; it is asked one question at a time, and of the
    options only `model`, `device`, `asks`, the budget and the prices concern it. Temperature is always 0.
    """

    budget_tokens: int | None = Field(default=None, gt=0)
    """Most tokens, read and written, of one run; answers that are kept cost nothing. The call that could
    exceed it is not made."""
    device: str = "auto"
    """Of a local model: `auto` (this process's GPU, else the CPU), or a torch device such as `cuda:1`."""

    def ledger(self) -> Ledger:
        """A fresh account under this budget."""
        return Ledger(self.budget_tokens, lambda used: used.input_tokens + used.output_tokens)
