"""An empty database of each kind, its tables made."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

pytest.importorskip("alembic")

from forwhy.serve.database import Database  # noqa: E402
from postgres import Server  # noqa: E402

NUMBERS = count()


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    found = Server("-c fsync=off")
    yield found
    found.close()


def new_url(kind: str, request: pytest.FixtureRequest) -> str:
    """The URL of a database without tables."""
    if kind == "sqlite":
        folder: Path = request.getfixturevalue("tmp_path")
        return f"sqlite:///{folder}/serve-{next(NUMBERS)}.db"
    import psycopg

    url, name = request.getfixturevalue("server").url, f"serve{next(NUMBERS)}"
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")  # type: ignore[call-overload]
    return f"{url.rpartition('/')[0]}/{name}"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    return new_url(request.param, request)


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    with Database(url) as opened:
        opened.upgrade()
        yield opened
