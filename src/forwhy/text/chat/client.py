"""Calls to an OpenAI-compatible server: every ending has a name and a price, and none exceeds the budget."""

from __future__ import annotations

import json
import logging
import math
import os
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from email.utils import mktime_tz, parsedate_tz
from pathlib import Path
from threading import Event, Lock
from typing import TYPE_CHECKING, Any, Self

from pydantic import HttpUrl

from forwhy.errors import NoAnswer, UserError, need
from forwhy.models import locate
from forwhy.text.chat import base
from forwhy.text.chat.answers import KeptAnswers
from forwhy.text.chat.asking import Inquiries, Inquiry
from forwhy.text.chat.base import FINAL, STOPPED, Answer, AskingConfig, ChatConfig, Question, Tally

if TYPE_CHECKING:
    from httpx2 import Request
    from openai import APIStatusError

log = logging.getLogger(__name__)

LONGEST_WAIT = 300.0
"""Seconds that a server's Retry-After is obeyed for."""
LARGEST_ANSWER = 1 << 20
"""Bytes of an answer with its headers."""
MOST_TOKENS = 1 << 40
"""A server that counts more in one call does not count."""
TEMPLATE_TOKENS = 64
"""What a server may wrap around the messages."""
_AGAIN: frozenset[base.Reason | None] = frozenset({"timeout", "server"})
_SECRET = 16
"""Letters of the shortest key that is looked for in answers; a shorter one is a word such as `none`."""
_SAID, _LOOKED_AT = 200, 4000
"""Characters of a server's words that are shown, and that a key is looked for in."""
_UNSENT = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout"})
"""Errors of httpx2 before anything was sent."""
_HEADERS = frozenset(
    {"host", "accept", "accept-encoding", "connection", "content-type", "content-length", "user-agent"}
    | {"x-stainless-raw-response"}
)
"""What a request carries beside our key; the last is how the openai client knows that we read the answer ourselves."""


class Pace:
    """At most so many calls a minute (0: no limit), evenly spaced, none while the server has asked for rest."""

    def __init__(self, per_minute: float, stopped: Event) -> None:
        self._gap = 60.0 / per_minute if per_minute else 0.0
        self._stopped, self._lock = stopped, Lock()
        self._next = 0.0

    def wait(self) -> None:
        """Return when it is this call's turn, or at once after a stop."""
        while not self._stopped.is_set():
            with self._lock:
                now = time.monotonic()
                if (left := self._next - now) <= 0:
                    self._next = now + self._gap
                    return
            self._stopped.wait(min(left, LONGEST_WAIT))

    def rest(self, seconds: float) -> None:
        """No call for so long: what a server says to one caller holds for all."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)


class Client:
    """One model's server, a `Chat`; safe from several threads, to be closed.

    The `openai` client carries the calls. Attempts are ours: each is held in the ledger before it is made, all threads
    rest when the server is busy, and a stop ends every wait. No address, what can't be used, and a key for an address
    that its user did not give are refused.
    """

    def __init__(self, config: AskingConfig, ledger: base.Ledger) -> None:
        need("openai", "chat")
        from openai import DefaultHttpxClient, OpenAI

        from forwhy.text.chat.wire import Wire

        self._config, self._ledger, self._stopped = config, ledger, Event()
        self._pace = Pace(config.requests_per_minute, self._stopped)
        self.model, self.concurrency = config.model, config.concurrency
        self._structured = config.structured
        self.url, self._key = endpoint(config), _key(config)
        how = f"with the key of {config.key_name}" if self._key else "without a key"
        log.info("%s %r is asked at %s, %s", config.who, config.model, self.url, how)
        carrier = DefaultHttpxClient(follow_redirects=False, event_hooks={"request": [self._bare]})
        self._wire = Wire(carrier)
        self._openai = OpenAI(
            api_key=self._key or "none",
            base_url=self.url.removesuffix("/chat/completions"),
            timeout=config.timeout,
            max_retries=0,
            http_client=carrier,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._openai.close()

    def stop(self) -> None:
        """End all waiting; a call that is not under way is not made any more: `server`, `STOPPED`."""
        self._stopped.set()

    def ask(self, question: Question) -> Answer:
        """The answer, after as many attempts as it takes and the options allow; `used` is of all of them.

        With the schema, and where this is rejected without; what works for one question is kept for all. A UserError
        where the server says that no call can succeed: wrong key, model or address.
        """
        used, attempt, structured = Tally(), 0, self._structured and question.schema is not None
        while True:
            answer = self._call(question, structured)
            used += answer.used
            if structured and answer.reason == "rejected":
                structured = False
                continue
            if not structured and question.schema is not None and answer.reason in FINAL:
                self._structured = False
            attempt += 1
            last = answer.reason not in _AGAIN or attempt == self._config.attempts
            if last or self._stopped.wait(self._pause(attempt, answer.wait)):
                return replace(answer, used=used)

    def _bare(self, request: Request) -> None:
        """Keep our own key and nothing that the library finds in the environment, such as another service's."""
        for name in set(request.headers) - _HEADERS:
            del request.headers[name]
        request.headers["Accept-Encoding"] = "identity"
        if self._key:
            request.headers["Authorization"] = f"Bearer {self._key}"

    def _pause(self, attempt: int, wait: float) -> float:
        delay = self._config.backoff * 2.0 ** min(attempt - 1, 16) * random.uniform(0.5, 1.5)  # noqa: S311
        return min(max(delay, wait), LONGEST_WAIT)

    def _call(self, question: Question, structured: bool) -> Answer:
        """How one call ended, held in the ledger while it is under way."""
        body, most = _request(question, self._config, structured)
        self._pace.wait()
        if self._stopped.is_set():
            return Answer(reason="server", detail=STOPPED)
        return self._ledger.call(most, lambda: self._send(body, most))

    def _send(self, body: dict[str, Any], most: Tally) -> Answer:
        """One call. One that may have been answered unseen counts as having used its bound."""
        from httpx2 import HTTPError, TimeoutException
        from openai import APIConnectionError, APIStatusError

        try:
            return self._safe((_read_more if "prompt" in body else _read)(self._post(body), most))
        except APIStatusError as error:
            return self._refusal(error)
        except (APIConnectionError, HTTPError) as error:
            cause = error.__cause__ if isinstance(error, APIConnectionError) else error
        unsent, late = type(cause).__name__ in _UNSENT, isinstance(cause, TimeoutException)
        detail = f"{'no connection' if unsent else 'connection broken'}: {self._shown(str(cause))}"
        if late and not unsent:
            detail = f"no answer within {self._config.timeout:g} s"
        return Answer("", "timeout" if late else "server", detail, Tally(1) if unsent else most)

    def _post(self, body: dict[str, Any]) -> bytes:
        """The answer, not more than `LARGEST_ANSWER` bytes with its headers, all within the time allowed."""
        place: Any = self._openai.completions if "prompt" in body else self._openai.chat.completions
        create = place.with_streaming_response.create
        with self._wire.call(self._config.timeout, LARGEST_ANSWER), create(**body) as response:
            return bytes(response.read())

    def _safe(self, answer: Answer) -> Answer:
        """Answers are kept, so a server that repeats our key must not get it into them."""
        from forwhy.text.chat.wire import repeats

        text = answer.text.replace(self._key, "[key]") if len(self._key) >= _SECRET else answer.text
        if len(self._key) >= _SECRET and repeats(self._key, text, whole=True):
            return replace(answer, text="", reason="malformed", detail="the answer repeats our key")
        return replace(answer, text=text)

    def _refusal(self, error: APIStatusError) -> Answer:
        """What a status other than 200 means for this question; a UserError where it is the same for all others."""
        status, config = error.status_code, self._config
        message = error.body.get("message") if isinstance(error.body, dict) else None
        detail = f"HTTP {status}: {self._shown(str(message or error.response.text)) or 'nothing more'}"
        if status < 400 or status in {401, 402, 403, 404, 405}:
            what = f"{config.key_name}, the model's name and the address"
            raise NoAnswer(f"{config.who} {self.model!r} at {self.url}: {detail}; check {what}")
        if status not in {408, 425, 429} and status < 500:
            return Answer(reason="rejected", detail=detail, used=Tally(1))
        wait = _seconds(error.response.headers.get("retry-after", ""))
        if status == 429:
            self._pace.rest(min(wait, LONGEST_WAIT))
        return Answer(reason="server", detail=detail, used=Tally(1), wait=wait)

    def _shown(self, text: str) -> str:
        """The beginning of what a server said, on one line; nothing of it where it repeats our key."""
        from forwhy.text.chat.wire import repeats

        if self._key and repeats(self._key, text[:_LOOKED_AT]):
            return "(it repeats the key, so its words are not shown)"
        return " ".join("".join(c if c.isprintable() else " " for c in text[:_LOOKED_AT]).split())[:_SAID]


def _request(question: Question, config: AskingConfig, structured: bool) -> tuple[dict[str, Any], Tally]:
    """What is posted, and the most that it takes; lone surrogates have no encoding, so no server could read them."""
    body: dict[str, Any] = {"model": config.model, "temperature": 0, "max_tokens": question.max_tokens}
    if question.prompt:
        body |= {"prompt": list(question.prompt), "extra_body": dict(question.how)}
        return body, Tally(1, len(question.prompt), question.max_tokens, estimated=1)
    body["messages"] = [
        {"role": turn.role, "content": _encodable(turn.content)} for turn in question.messages
    ]
    if structured:
        schema = {"name": config.schema_name, "strict": True, "schema": question.schema}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    size = len(json.dumps(body, ensure_ascii=False).encode())
    return body, Tally(1, size + TEMPLATE_TOKENS, question.max_tokens, estimated=1)


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def endpoint(config: AskingConfig) -> str:
    """Where to post, from the address of the interface or the environment; one with a password is refused."""
    given = (config.url or os.environ.get(config.url_name, "")).strip().rstrip("/")
    given = given.removesuffix("/chat/completions")
    who, remedy = f"{config.who} URL", "such as http://127.0.0.1:8000/v1"
    if not given:
        raise UserError(f"the {config.who} has no address; give its URL or set {config.url_name}, {remedy}")
    if "@" in given:
        raise UserError(f"{who}: holds a name or a password; put the key into {config.key_name} instead")
    try:
        parts = HttpUrl(given)
    except ValueError:
        parts = None
    if parts is None or parts.query or parts.fragment or not given.isprintable():
        raise UserError(f"{who} {given[:100]!r}: not an address {remedy}")
    return f"{given}/v1/chat/completions" if parts.path == "/" else f"{given}/chat/completions"


def _key(config: AskingConfig) -> str:
    """The key, which goes only to the address of the environment, this command line or the caller's own code.

    What stands in a recipe or a folder may be somebody else's, so it does not decide who gets the key.
    """
    key = os.environ.get(config.key_name, "").strip()
    if not (key.isascii() and key.isprintable()):
        remedy = "set the key as its server gave it"
        raise UserError(f"{config.key_name}: holds letters that no HTTP header carries; {remedy}")
    own = config.url is None or config.chosen
    if key and not own and endpoint(config) != _own_address(config):
        place = f"{str(config.url)[:80]} stands in a recipe or run, so {config.key_name} is not sent there"
        remedy = (
            f"if you trust it with your key, export {config.url_name} with this address; else unset the key"
        )
        raise UserError(f"{config.who}: {place}; {remedy}")
    return key


def _own_address(config: AskingConfig) -> str | None:
    alone = config.model_copy(update={"url": None})
    return None if is_local(alone) else endpoint(alone)


def _read(content: bytes, most: Tally) -> Answer:
    """The model's words in a completion, or what it gave instead of them."""
    from openai.types.chat import ChatCompletion

    try:
        completion = ChatCompletion.construct(**json.loads(content))
        choice = completion.choices[0]
        text, refusal = _encodable(choice.message.content or ""), choice.message.refusal
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError):
        return Answer(reason="server", detail="HTTP 200, but no completion in it", used=most)
    counts = [getattr(completion.usage, name, None) for name in ("prompt_tokens", "completion_tokens")]
    told = [count for count in counts if isinstance(count, int) and 0 <= count < MOST_TOKENS]
    used = Tally(1, *told) if len(told) == 2 else most
    if refusal or choice.finish_reason == "content_filter":
        return Answer(reason="refused", used=used)
    cut = choice.finish_reason == "length"
    return Answer(reason="truncated", used=used) if cut else Answer(text, used=used)


def _read_more(content: bytes, most: Tally) -> Answer:
    """How a model went on from a prompt; at its limit, `truncated`, the text so far is given too."""
    from openai.types import Completion

    try:
        choice = Completion.construct(**json.loads(content)).choices[0]
        text = _encodable(choice.text)
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError):
        return Answer(reason="server", detail="HTTP 200, but no completion in it", used=most)
    return Answer(text, "truncated" if choice.finish_reason == "length" else None, used=most)


def _seconds(retry_after: str) -> float:
    """Seconds that a Retry-After header asks for, as a number or as a date; 0 where it says nothing."""
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            date = parsedate_tz(retry_after[:100])
            seconds = mktime_tz(date) - time.time() if date else 0.0
        except (ValueError, OverflowError):  # a day that no calendar has
            seconds = 0.0
    return seconds if math.isfinite(seconds) and seconds > 0 else 0.0


# --- From options to a model that answers, and what a run would ask and cost, without asking


def open_chat(config: ChatConfig) -> base.Chat:
    """The model of these options, to be used in a `with`: on a server where there is an address, else loaded here.

    Refused: an address or key that cannot be used, a local model that cannot be had, a missing extra.
    """
    if not is_local(config):
        return Client(config, config.ledger())
    name = model_name(config)
    from forwhy.text.chat.local import LocalChat

    return LocalChat(name, config)


def reach(config: ChatConfig) -> None:
    """Ask a server one short question, so that a wrong name, key or address is known now; find a local model."""
    if is_local(config):
        model_name(config)
        return
    with Client(config.model_copy(update={"attempts": 2}), config.ledger()) as client:
        told = client.ask(Question((base.Message("user", "Say yes."),), 16))
    if told.reason in {"server", "timeout", "rejected"}:
        remedy = "check the model's name and the address, or start the server"
        raise NoAnswer(f"{config.who} {config.model!r} at {client.url}: {told.detail}; {remedy}")


def is_local(config: AskingConfig) -> bool:
    """Whether neither `url` nor FORWHY_LLM_URL names a server."""
    return not (config.url or os.environ.get(config.url_name, "")).strip()


def model_name(config: ChatConfig) -> str:
    """`Chat.model` of these options, without opening it; a local model, with its revision, is fetched if not here."""
    if not is_local(config):
        return config.model
    try:
        source = locate(config.model)
    except UserError as error:
        raise UserError(f"{error}; for a model on a server give its URL or set {config.url_name}") from error
    return f"{source.path.name if Path(source.id).is_dir() else source.id}@{source.revision}"


def estimate(inquiries: Sequence[Inquiry[Any]], config: ChatConfig, kept: KeptAnswers) -> dict[str, Any]:
    """What `ask_all` would ask now, given what is kept, as plain JSON values. Asks nothing and needs no server.

    `questions` are different ones, `cached` those whose answers are all kept. The others send at most `input_tokens`
    (one a byte; English takes a quarter) and are answered with at most `output_tokens`. `cost` is null without prices;
    `seconds` may be null too, `pace` says what they rest on. What is asked again comes on top.
    """
    model = model_name(config)
    left = Inquiries(model, inquiries, kept, config.asks).left
    bounds = (_request(it, config, config.structured and it.schema is not None)[1] for it in left)
    most = sum(bounds, Tally())
    questions = len({inquiry.question.key(model) for inquiry in inquiries})
    seconds, pace = _duration(len(left), config, kept.mean_seconds(model))
    return {
        "questions": questions,
        "cached": questions - len(left),
        "input_tokens": most.input_tokens,
        "output_tokens": most.output_tokens,
        "cost": config.cost(most),
        "seconds": seconds,
        "pace": pace,
    }


def _duration(questions: int, config: ChatConfig, mean: float | None) -> tuple[float | None, str]:
    limit = 60.0 * questions / config.requests_per_minute if config.requests_per_minute else 0.0
    side_by_side = 1 if is_local(config) else config.concurrency
    if not questions:
        return 0.0, "nothing is left to ask"
    if mean is not None and (taken := mean * questions / side_by_side) >= limit:
        return taken, f"{mean:.3g} s per answer kept so far, {side_by_side} at a time"
    if limit:
        return limit, f"at least: {config.requests_per_minute:g} requests a minute"
    return None, "unknown: no answer of this model is kept yet, and no requests per minute are set"
