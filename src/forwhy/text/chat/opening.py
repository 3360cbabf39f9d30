"""From options to a model that answers, and what a run would ask and cost, without asking."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from forwhy.errors import UserError
from forwhy.models import locate
from forwhy.text.chat.answers import KeptAnswers
from forwhy.text.chat.asking import Inquiries, Inquiry
from forwhy.text.chat.base import Chat, ChatConfig, Tally
from forwhy.text.chat.client import Client, bound


def open_chat(config: ChatConfig) -> Chat:
    """The model of these options, to be used in a `with`: on a server where there is an address, else local.

    Cost: a local model is loaded here.

    Raises:
        UserError: an address or key that cannot be used, a local model that cannot be had, a missing extra.
    """
    if not is_local(config):
        return Client(config, config.ledger())
    name = model_name(config)
    from forwhy.text.chat.local import LocalChat

    return LocalChat(name, config)


def is_local(config: ChatConfig) -> bool:
    """Whether neither `url` nor FORWHY_LLM_URL names a server."""
    return not (config.url or os.environ.get(config.url_name, "")).strip()


def model_name(config: ChatConfig) -> str:
    """`Chat.model` of these options, without opening it; a local model is fetched if it is not here.

    A local model has its name and revision: a folder its own name and the hash of its files, wherever it lies.

    Raises:
        UserError: a local model that cannot be had.
    """
    if not is_local(config):
        return config.model
    try:
        source = locate(config.model)
    except UserError as error:
        remedy = f"for a model on a server give its URL or set {config.url_name}"
        raise UserError(f"{error}; {remedy}") from error
    return f"{source.path.name if Path(source.id).is_dir() else source.id}@{source.revision}"


def estimate(inquiries: Sequence[Inquiry[Any]], config: ChatConfig, kept: KeptAnswers) -> dict[str, Any]:
    """What `ask_all` would ask now, given what is kept, as plain JSON values. Asks nothing and needs no server.

    `questions` are different ones, `cached` those of them whose answers are all kept. The others send at most
    `input_tokens` (a token is at least one byte; English text takes about a quarter) and are answered with at
    most `output_tokens`. `cost` is of those tokens, null without prices. `seconds` may be null too; `pace` says
    what they rest on. An answer that has to be asked for again comes on top.
    """
    model = model_name(config)
    left = Inquiries(model, inquiries, kept, config.asks).left
    most = sum((bound(question, config) for question in left), Tally())
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
    """Seconds for so many questions, and what that rests on."""
    limit = 60.0 * questions / config.requests_per_minute if config.requests_per_minute else 0.0
    if not questions:
        return 0.0, "nothing is left to ask"
    if mean is not None:
        side_by_side = 1 if is_local(config) else config.concurrency
        taken = mean * questions / side_by_side
        if taken >= limit:
            return taken, f"{mean:.3g} s per answer kept so far, {side_by_side} at a time"
    if limit:
        return limit, f"at least: {config.requests_per_minute:g} requests a minute"
    return None, "unknown: no answer of this model is kept yet, and no requests per minute are set"
