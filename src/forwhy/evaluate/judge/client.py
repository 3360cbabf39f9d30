"""Calls to a judge: POST /chat/completions with retries, whose every ending has a name and a price."""

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
from threading import Event
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, ValidationError

from forwhy.errors import UserError
from forwhy.evaluate.judge.budget import Ledger, Tally
from forwhy.evaluate.judge.config import JudgeConfig
from forwhy.evaluate.judge.prompt import SCHEMA, Messages
from forwhy.evaluate.judge.votes import Reason

KEY, URL = "FORWHY_JUDGE_KEY", "FORWHY_JUDGE_URL"
LONGEST_WAIT = 300.0
"""Seconds that a server's Retry-After is obeyed for."""
LARGEST_ANSWER = 1 << 20
TEMPLATE_TOKENS = 64
"""What a server may wrap around the messages."""
_AGAIN: frozenset[Reason | None] = frozenset({"timeout", "server"})


@dataclass(frozen=True)
class Answer:
    """How a call ended."""

    text: str = ""
    reason: Reason | None = None
    """None: `text` is the judge's."""
    detail: str = ""
    """What the server or the network said, where there is no text."""
    wait: float = 0.0
    """Seconds that the server asks for before the next attempt."""
    used: Tally = Tally()


class _Message(BaseModel):
    content: str | None = None
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
    """One judge's server; safe from several threads, to be closed.

    Raises:
        UserError: httpx2 is missing, no address, or a key or an address that cannot be used.
    """

    def __init__(self, config: JudgeConfig, ledger: Ledger) -> None:
        try:
            import httpx2
        except ModuleNotFoundError as error:
            raise UserError("httpx2 is not installed; `pip install 'forwhy[judge]'` brings it") from error
        self._config, self._ledger, self._stopped = config, ledger, Event()
        self._structured = config.structured
        self._jitter = random.Random()
        self.url, self._key = endpoint(config.url), _key()
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
        """End all waiting; a call that is not under way is not made any more: `server`, "stopped"."""
        self._stopped.set()

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped.is_set()

    def ask(self, messages: Messages) -> Answer:
        """The answer, after as many attempts as it takes and the options allow; `used` is of all of them.

        Raises:
            UserError: the server says that no call can succeed: wrong key, model or address.
        """
        used, attempt = Tally(), 0
        while True:
            answer = self._either_way(messages)
            used, attempt = used + answer.used, attempt + 1
            last = answer.reason not in _AGAIN or attempt == self._config.attempts
            if last or self._stopped.wait(self._pause(attempt, answer.wait)):
                return replace(answer, used=used)

    def _pause(self, attempt: int, wait: float) -> float:
        delay = self._config.backoff * 2.0 ** min(attempt - 1, 16) * self._jitter.uniform(0.5, 1.5)
        return min(max(delay, wait), LONGEST_WAIT)

    def _either_way(self, messages: Messages) -> Answer:
        """With the schema, and where this is rejected without; what works for one pair is kept for all."""
        structured = self._structured
        answer = self._call(messages, structured)
        if answer.reason != "rejected" or not structured:
            return answer
        plain = self._call(messages, structured=False)
        if plain.reason in {None, "refused", "truncated"}:
            self._structured = False
        return replace(plain, used=answer.used + plain.used)

    def _call(self, messages: Messages, structured: bool) -> Answer:
        body = self._body(messages, structured)
        # A token is at least one byte of what it stands for.
        bound = Tally(1, len(body) + TEMPLATE_TOKENS, self._config.max_tokens, estimated=1)
        if self.stopped:
            return Answer(reason="server", detail="stopped")
        if not self._ledger.hold(bound):
            return Answer(reason="budget", detail="the budget is spent")
        used = bound
        try:
            answer = self._send(body, bound)
            used = answer.used
        finally:
            self._ledger.book(bound, used)
        return answer

    def _body(self, messages: Messages, structured: bool) -> bytes:
        config = self._config
        body: dict[str, Any] = {"model": config.model, "messages": messages, "temperature": 0}
        body["max_tokens"] = config.max_tokens
        if structured:
            body["response_format"] = SCHEMA
        return json.dumps(body, ensure_ascii=False).encode()

    def _send(self, body: bytes, bound: Tally) -> Answer:
        """One call. One that may have been answered unseen counts as having used its bound."""
        import httpx2

        try:
            status, headers, content = self._post(body)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            reason: Reason = "server" if isinstance(error, httpx2.ConnectError) else "timeout"
            return Answer(reason=reason, detail=f"no connection: {error}", used=Tally(1))
        except httpx2.TimeoutException:
            detail = f"no answer within {self._config.timeout:g} s"
            return Answer(reason="timeout", detail=detail, used=bound)
        except httpx2.HTTPError as error:
            return Answer(reason="server", detail=f"connection broken: {error}", used=bound)
        if status == 200:
            return _read(content, bound)
        return self._refusal(status, headers, content)

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

    def _refusal(self, status: int, headers: Mapping[str, str], content: bytes) -> Answer:
        """What a status other than 200 means for this pair.

        Raises:
            UserError: that it means the same for every other pair.
        """
        detail = f"HTTP {status}: {_said(content, self._key)}"
        if status in {408, 425, 429} or status >= 500:
            wait = _seconds(headers.get("retry-after", ""))
            return Answer(reason="server", detail=detail, wait=wait, used=Tally(1))
        if status < 400 or status in {401, 402, 403, 404, 405}:
            what = f"{KEY}, the model's name and the address"
            raise UserError(f"judge {self._config.model!r} at {self.url}: {detail}; check {what}")
        return Answer(reason="rejected", detail=detail, used=Tally(1))


def endpoint(url: str | None) -> str:
    """Where to post, from the address of the interface or, without one, from FORWHY_JUDGE_URL.

    Raises:
        UserError: no address, not one of the web, or one that holds a name and a password.
    """
    given = (url or os.environ.get(URL, "")).strip().rstrip("/").removesuffix("/chat/completions")
    if not given:
        raise UserError(
            f"the judge has no address; give its URL or set {URL}, such as http://127.0.0.1:8000/v1"
        )
    try:
        parts = urlsplit(given)
        hidden = bool(parts.username or parts.password)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        hidden, usable = "@" in given, False
    if hidden:
        raise UserError(f"judge URL: holds a name or a password; put the key into {KEY} instead")
    if not usable or parts.query or parts.fragment:
        raise UserError(f"judge URL {given!r}: not an address such as http://127.0.0.1:8000/v1")
    return f"{given}/v1/chat/completions" if not parts.path else f"{given}/chat/completions"


def _key() -> str:
    key = os.environ.get(KEY, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise UserError(
            f"{KEY}: holds letters that no HTTP header carries; set the key as its server gave it"
        )
    return key


def _read(content: bytes, bound: Tally) -> Answer:
    """The judge's words in a completion, or what it gave instead of them."""
    try:
        completion = _Completion.model_validate_json(content)
    except ValidationError:
        return Answer(reason="server", detail="HTTP 200, but no completion in it", used=bound)
    used = _used(completion.usage, bound)
    message, finish = completion.choices[0].message, completion.choices[0].finish_reason
    if message.refusal or finish == "content_filter":
        return Answer(reason="refused", used=used)
    if finish == "length":
        return Answer(reason="truncated", used=used)
    return Answer(message.content or "", used=used)


def _used(usage: object, bound: Tally) -> Tally:
    try:
        counted = _Usage.model_validate(usage)
    except ValidationError:
        return bound
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
