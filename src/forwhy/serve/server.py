"""Listening: one process, or several that each load the runs."""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from forwhy.errors import UserError
from forwhy.serve.app import create_app
from forwhy.serve.database import Database
from forwhy.serve.guard import is_loopback
from forwhy.serve.jobs import recover
from forwhy.text.encoder import SentenceEncoder

log = logging.getLogger(__name__)
_ASKED = "FORWHY_SERVE"
"""How a worker process is told what to serve."""
_PREPARED = "32"
"""Products of matrices that oneDNN keeps prepared, by their shapes: by default 1,024, one for each length of prompt."""
_LEAVE = 15
"""Seconds that open requests are given when the service is stopped."""


def listen(folders: Sequence[Path], url: str, host: str, port: int, workers: int, per_minute: int) -> None:
    """Serves until it is stopped; open requests are answered first.

    UserError where a folder is no run, the port is in use, the database cannot be used, or nobody has a key and others
    than this machine could ask.
    """
    loopback = is_loopback(host)
    SentenceEncoder.keeps = False
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", _PREPARED)
    database = Database(url)
    database.upgrade()
    if not loopback and not database.keys():
        said = (
            "others could ask, and there are no keys; make one first: forwhy serve keys add NAME --role read"
        )
        raise UserError(f"--host {host}: {said}")
    _check_port(host, port)
    for folder in folders:  # only now: what listens there already may be training
        recover(folder, database)
    settings: Any = {"host": host, "port": port, "timeout_graceful_shutdown": _LEAVE, "log_level": "warning"}
    asked = {"folders": list(map(str, folders)), "url": url, "loopback": loopback, "per_minute": per_minute}
    os.environ[_ASKED] = json.dumps(asked)
    place = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    if workers > 1:
        app: Any = "forwhy.serve.server:application"
        settings |= {"factory": True, "workers": workers}
    else:
        app = create_app(folders, database, loopback=loopback, per_minute=per_minute)
    log.info("%s: page, API and, at /docs, its description; Ctrl-C stops it", place)
    uvicorn.run(app, **settings)


def application() -> FastAPI:
    """The service as a worker process makes it."""
    SentenceEncoder.keeps = False
    asked = json.loads(os.environ[_ASKED])
    folders, database = map(Path, asked["folders"]), Database(asked["url"])
    return create_app(list(folders), database, loopback=asked["loopback"], per_minute=asked["per_minute"])


def _check_port(host: str, port: int) -> None:
    """Refuses an address that cannot be listened on, before models are loaded."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((host, port))
        except (OSError, OverflowError) as error:
            told = getattr(error, "strerror", None) or error
            raise UserError(f"--host {host} --port {port}: {told}; choose another") from None
