"""When the next call may go: evenly spaced, and none while the server has asked for rest."""

from __future__ import annotations

import json
import math
import os
import random
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from threading import Event, Lock
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from forwhy.errors import UserError
from forwhy.text.chat.base import LLM, STOPPED, Answer, AskingConfig, Ledger, Question, Reason, Speaker, Tally


class Pace:
    """Gives out moments to call at; safe from several threads.

    Args:
        per_minute: Most calls in a minute; 0 = no limit.
        stopped: Ends all waiting.
    """

    def __init__(self, per_minute: float, stopped: Event) -> None:
        self._gap = 60.0 / per_minute if per_minute else 0.0
        self._stopped, self._lock = stopped, Lock()
        self._next = 0.0

    def wait(self) -> None:
        """Return when it is this call's turn, or at once after a stop."""
        while not self._stopped.is_set():
            with self._lock:
                now = time.monotonic()
                if self._next <= now:
                    self._next = now + self._gap
                    return
                left = self._next - now
            self._stopped.wait(left)

    def rest(self, seconds: float) -> None:
        """No call for so long: what a server says to one caller holds for all."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)


# --- Calls to a server: POST /chat/completions with retries, whose every ending has a name and a price.


LONGEST_WAIT = 300.0
"""Seconds that a server's Retry-After is obeyed for."""
LARGEST_ANSWER = 1 << 20
TEMPLATE_TOKENS = 64
"""What a server may wrap around the messages."""
_AGAIN: frozenset[Reason | None] = frozenset({"timeout", "server"})
_SECRET = 16
"""Letters of the shortest key that is looked for in answers; a shorter one is a word such as `none`."""


@dataclass(frozen=True)
class _Ended:
    """How a call ended."""

    answer: Answer
    wait: float = 0.0
    """Seconds that the server asks for before the next attempt."""
    busy: bool = False
    """Whether it says so of all calls, not of this one."""


def _encodable(value: object) -> object:
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


class _Message(BaseModel):
    content: Annotated[str | None, BeforeValidator(_encodable)] = None
    refusal: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(BaseModel):
    prompt_tokens: int = Field(ge=0)
    completion_tokens: int = Field(ge=0)


class _Completion(BaseModel):
    choices: list[_Choice] = Field(min_length=1)
    usage: Any = None


class Client:
    """One model's server, a `Chat`; safe from several threads, to be closed.

    Raises:
        UserError: httpx2 is missing, no address, or a key or an address that cannot be used.
    """

    def __init__(self, config: AskingConfig, ledger: Ledger) -> None:
        try:
            import httpx2
        except ModuleNotFoundError as error:
            raise UserError("httpx2 is not installed; `pip install 'forwhy[chat]'` brings it") from error
        self._config, self._ledger, self._speaker, self._stopped = config, ledger, config.speaker, Event()
        self._pace = Pace(config.requests_per_minute, self._stopped)
        self.model, self.concurrency = config.model, config.concurrency
        self._structured = config.structured
        self._jitter = random.Random()
        self.url, self._key = endpoint(config.url, config.speaker), _key(config.speaker)
        self._http = httpx2.Client(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=config.timeout,
            limits=httpx2.Limits(max_connections=config.concurrency),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def stop(self) -> None:
        """End all waiting; a call that is not under way is not made any more: `server`, `STOPPED`."""
        self._stopped.set()

    def ask(self, question: Question) -> Answer:
        """The answer, after as many attempts as it takes and the options allow; `used` is of all of them.

        Raises:
            UserError: the server says that no call can succeed: wrong key, model or address.
        """
        used, attempt = Tally(), 0
        while True:
            ended = self._either_way(question)
            used, attempt = used + ended.answer.used, attempt + 1
            last = ended.answer.reason not in _AGAIN or attempt == self._config.attempts
            if last or self._stopped.wait(self._pause(attempt, ended.wait)):
                return replace(ended.answer, used=used)

    def _pause(self, attempt: int, wait: float) -> float:
        delay = self._config.backoff * 2.0 ** min(attempt - 1, 16) * self._jitter.uniform(0.5, 1.5)
        return min(max(delay, wait), LONGEST_WAIT)

    def _either_way(self, question: Question) -> _Ended:
        """With the schema, and where this is rejected without; what works for one is kept for all."""
        structured = self._structured and question.schema is not None
        ended = self._call(question, structured)
        if ended.answer.reason != "rejected" or not structured:
            return ended
        plain = self._call(question, structured=False)
        if plain.answer.reason in {None, "refused", "truncated"}:
            self._structured = False
        return replace(plain, answer=replace(plain.answer, used=ended.answer.used + plain.answer.used))

    def _call(self, question: Question, structured: bool) -> _Ended:
        body = request(question, self.model, self._speaker.schema_name if structured else None)
        most = bound(question, body)
        self._pace.wait()
        if self._stopped.is_set():
            return _Ended(Answer(reason="server", detail=STOPPED))
        if not self._ledger.hold(most):
            return _Ended(Answer(reason="budget", detail="the budget is spent"))
        used = most
        try:
            ended = self._send(body, most)
            used = ended.answer.used
        finally:
            self._ledger.book(most, used)
        if ended.busy:
            self._pace.rest(min(ended.wait, LONGEST_WAIT))
        return ended

    def _send(self, body: bytes, most: Tally) -> _Ended:
        """One call. One that may have been answered unseen counts as having used its bound."""
        import httpx2

        try:
            status, headers, content = self._post(body)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            reason: Reason = "server" if isinstance(error, httpx2.ConnectError) else "timeout"
            return _Ended(Answer(reason=reason, detail=f"no connection: {error}", used=Tally(1)))
        except httpx2.TimeoutException:
            detail = f"no answer within {self._config.timeout:g} s"
            return _Ended(Answer(reason="timeout", detail=detail, used=most))
        except httpx2.HTTPError as error:
            return _Ended(Answer(reason="server", detail=f"connection broken: {error}", used=most))
        if status == 200:
            answer = _read(content, most)
            return _Ended(replace(answer, text=self._without_key(answer.text)))
        return self._refusal(status, headers, content)

    def _without_key(self, text: str) -> str:
        """Answers are kept, so a server that repeats our key must not get it into them."""
        return text.replace(self._key, "[key]") if len(self._key) >= _SECRET else text

    def _post(self, body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and at most `LARGEST_ANSWER` bytes, all within the time allowed."""
        import httpx2

        end = time.monotonic() + self._config.timeout
        headers = {"Content-Type": "application/json"}
        with self._http.stream("POST", self.url, content=body, headers=headers) as response:
            content = bytearray()
            for chunk in response.iter_bytes():
                content += chunk
                if time.monotonic() > end:
                    raise httpx2.ReadTimeout("the answer comes too slowly")
                if len(content) > LARGEST_ANSWER:
                    break
            return response.status_code, response.headers, bytes(content)

    def _refusal(self, status: int, headers: Mapping[str, str], content: bytes) -> _Ended:
        """What a status other than 200 means for this question.

        Raises:
            UserError: that it means the same for every other.
        """
        detail = f"HTTP {status}: {_said(content, self._key)}"
        if status in {408, 425, 429} or status >= 500:
            wait = _seconds(headers.get("retry-after", ""))
            return _Ended(Answer(reason="server", detail=detail, used=Tally(1)), wait, busy=status == 429)
        if status < 400 or status in {401, 402, 403, 404, 405}:
            what = f"{self._speaker.key_name}, the model's name and the address"
            raise UserError(f"{self._speaker.who} {self.model!r} at {self.url}: {detail}; check {what}")
        return _Ended(Answer(reason="rejected", detail=detail, used=Tally(1)))


def request(question: Question, model: str, schema_name: str | None = None) -> bytes:
    """Body of the call; with the question's schema where this has a name."""
    turns = [{"role": message.role, "content": message.content} for message in question.messages]
    body: dict[str, Any] = {"model": model, "messages": turns, "temperature": 0}
    body["max_tokens"] = question.max_tokens
    if schema_name is not None:
        schema = {"name": schema_name, "strict": True, "schema": question.schema}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    # Lone surrogates have no encoding: no server could read them.
    return json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")


def bound(question: Question, body: bytes) -> Tally:
    """Most that one call can take: a token is at least one byte of what it stands for."""
    return Tally(1, len(body) + TEMPLATE_TOKENS, question.max_tokens, estimated=1)


def endpoint(url: str | None, speaker: Speaker = LLM) -> str:
    """Where to post, from the address of the interface or, without one, from the environment.

    Raises:
        UserError: no address, not one of the web, or one that holds a name and a password.
    """
    who, name = speaker.who, speaker.url_name
    given = (url or os.environ.get(name, "")).strip().rstrip("/").removesuffix("/chat/completions")
    if not given:
        raise UserError(
            f"the {who} has no address; give its URL or set {name}, such as http://127.0.0.1:8000/v1"
        )
    try:
        parts = urlsplit(given)
        hidden = bool(parts.username or parts.password)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        hidden, usable = "@" in given, False
    if hidden:
        raise UserError(f"{who} URL: holds a name or a password; put the key into {speaker.key_name} instead")
    if not usable or parts.query or parts.fragment:
        raise UserError(f"{who} URL {given!r}: not an address such as http://127.0.0.1:8000/v1")
    return f"{given}/v1/chat/completions" if not parts.path else f"{given}/chat/completions"


def _key(speaker: Speaker) -> str:
    key = os.environ.get(speaker.key_name, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise UserError(
            f"{speaker.key_name}: holds letters that no HTTP header carries; set the key as its server gave it"
        )
    return key


def _read(content: bytes, most: Tally) -> Answer:
    """The model's words in a completion, or what it gave instead of them."""
    try:
        # Python's own reader: pydantic's refuses the lone surrogate that half an emoji is.
        completion = _Completion.model_validate(json.loads(content))
    except (ValueError, RecursionError):
        return Answer(reason="server", detail="HTTP 200, but no completion in it", used=most)
    used = _used(completion.usage, most)
    message, finish = completion.choices[0].message, completion.choices[0].finish_reason
    if message.refusal or finish == "content_filter":
        return Answer(reason="refused", used=used)
    if finish == "length":
        return Answer(reason="truncated", used=used)
    return Answer(message.content or "", used=used)


def _used(usage: object, most: Tally) -> Tally:
    try:
        counted = _Usage.model_validate(usage)
    except ValidationError:
        return most
    return Tally(1, counted.prompt_tokens, counted.completion_tokens)


def _seconds(retry_after: str) -> float:
    """Seconds that a Retry-After header asks for, as a number or as a date; 0 where it says nothing."""
    with suppress(ValueError):
        seconds = float(retry_after)
        return seconds if math.isfinite(seconds) and seconds > 0 else 0.0
    with suppress(ValueError, TypeError, OverflowError):
        date = parsedate_to_datetime(retry_after)
        date = date if date.tzinfo else date.replace(tzinfo=UTC)
        return max(0.0, (date - datetime.now(UTC)).total_seconds())
    return 0.0


def _said(content: bytes, key: str) -> str:
    """The start of a server's complaint, on one line and without our key, should it repeat it."""
    text = content.decode("utf-8", "replace")
    with suppress(ValueError, KeyError, TypeError):
        text = str(json.loads(text)["error"]["message"])
    text = text.replace(key, "[key]") if key else text
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:200] or "nothing more"
