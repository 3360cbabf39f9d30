"""An empty database of each kind, its tables made."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("alembic")

from forwhy.serve.database import Database  # noqa: E402
from postgres import Server, new_url  # noqa: E402


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    found = Server("-c fsync=off")
    yield found
    found.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    return new_url(request.param, request)


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    with Database(url) as opened:
        opened.upgrade()
        yield opened
