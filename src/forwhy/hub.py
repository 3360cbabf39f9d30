"""A hub of models: folders that are fetched by `org/name`, and put there. No network before a name asks for it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from forwhy.errors import UserError, need

FILES = ("*.safetensors", "*.json", "*.jsonl", "*.parquet", "*.toml", "*.md")
"""Of a run or an artifact; nothing that could hold code."""
NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)
TOKEN = "HF_TOKEN"
"""Variable of the environment; no file of tokens is read."""


def local(place: Path | str, revision: str | None = None, files: Sequence[str] = FILES) -> Path:
    """The folder itself, or the copy of `org/name` where there is no folder `org`; fetched the first time.

    Raises:
        UserError: The hub has no such name, or cannot be reached and nothing is kept.
    """
    name = str(place)
    if not NAME.fullmatch(name) or Path(name).parent.exists():
        return Path(place)
    if find_spec("huggingface_hub") is None:
        raise UserError(
            f"{name}: no such folder; to look for it on a hub, install: pip install 'forwhy[llm]'"
        )
    return fetch(name, revision, files)


def fetch(name: str, revision: str | None, files: Sequence[str]) -> Path:
    """The kept copy of `org/name`; its folder's name is the revision. Errors as `local`."""
    need("huggingface_hub", "llm")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    token = os.environ.get(TOKEN) or False
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(files), token=token))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            f"'{name}' is no folder, is not in the Hub cache and cannot be fetched ({_said(error)}); check the name "
            "and the network once, or name a local folder"
        ) from error


def host() -> str:
    """Where the hub is; `HF_ENDPOINT` says otherwise."""
    need("huggingface_hub", "llm")
    from huggingface_hub import constants

    return constants.ENDPOINT


def put(folder: Path, name: str, private: bool) -> None:
    """Make the repository where there is none, and upload a folder in one commit; a UserError if the hub refuses."""
    token = os.environ.get(TOKEN)
    if not token:
        raise UserError(
            f"{TOKEN} is not set; export {TOKEN}=… for {host()}, or look first with --dry-run DIR"
        )
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    try:
        api.create_repo(name, private=private, exist_ok=True)
        if private and not api.repo_info(name).private:
            raise UserError(
                f"{name}: is there already and public; choose another name, or leave out --private"
            )
        api.upload_folder(repo_id=name, folder_path=folder, commit_message="forwhy push")
    except UserError:
        raise
    except Exception as error:  # whatever the network raises
        raise UserError(
            f"{name}: not pushed to {host()} ({_said(error)}); check token and network"
        ) from error


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"[:200]
