"""From options to a model that answers."""

from __future__ import annotations

import os
from pathlib import Path

from forwhy.errors import UserError
from forwhy.models import ModelSource, locate
from forwhy.text.chat.base import Chat
from forwhy.text.chat.client import Client
from forwhy.text.chat.config import LLM, ChatConfig


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

    return LocalChat(name, config, config.ledger())


def is_local(config: ChatConfig) -> bool:
    """Whether neither `url` nor FORWHY_LLM_URL names a server."""
    return not (config.url or os.environ.get(LLM.url_name, "")).strip()


def model_name(config: ChatConfig) -> str:
    """`Chat.model` of these options, without opening it; a local model is fetched if it is not here.

    Raises:
        UserError: a local model that cannot be had.
    """
    if not is_local(config):
        return config.model
    try:
        return _local_name(locate(config.model))
    except UserError as error:
        remedy = f"for a model on a server give its URL or set {LLM.url_name}"
        raise UserError(f"{error}; {remedy}") from error


def _local_name(source: ModelSource) -> str:
    """Name and revision: for a folder its own name and the hash of its files, wherever it lies."""
    name = source.path.name if Path(source.id).is_dir() else source.id
    return f"{name}@{source.revision}"
