"""Keys, roles and rates."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from forwhy.errors import UserError
from forwhy.serve.database import Conflict, Database
from forwhy.serve.keys import RateLimit, add_key, hashed


def test_a_key_is_kept_as_its_hash(database: Database) -> None:
    text = add_key(database, "shop", "write")
    assert text.startswith("fw_")
    assert len(text) > 40
    found = database.one("keys", hash=hashed(text), revoked=None)
    assert found
    assert (found["name"], found["role"]) == ("shop", "write")
    assert text not in str(database.keys())
    assert hashed(text) not in str(database.keys())
    assert database.one("keys", hash=hashed("fw_another"), revoked=None) is None
    with pytest.raises(Conflict, match="key 'shop': there is or was one of this name; choose another"):
        add_key(database, "shop", "read")
    database.revoke_key("shop")
    assert database.one("keys", hash=hashed(text), revoked=None) is None
    assert database.keys()[0]["revoked"]
    with pytest.raises(UserError, match="key 'shop': none is in use"):
        database.revoke_key("shop")
    with pytest.raises(Conflict):
        add_key(database, "shop", "read")
    with pytest.raises(UserError, match="role 'root': none; choose read, write, admin"):
        add_key(database, "x", "root")
    for name in ("", " ", "a\nb", "\x1b[31m"):
        with pytest.raises(UserError, match="name .*: none; choose plain letters"):
            add_key(database, name, "read")


def test_rates() -> None:
    clock = [0.0]
    limit = RateLimit(60, lambda: clock[0])
    assert [limit.wait("a") for _ in range(60)] == [0.0] * 60
    assert limit.wait("a") == pytest.approx(1)
    assert limit.wait("b") == 0
    clock[0] += 0.5
    assert limit.wait("a") == pytest.approx(0.5)
    clock[0] += 0.5
    assert limit.wait("a") == 0
    assert limit.wait("a") > 0
    clock[0] += 3600
    assert [limit.wait("a") for _ in range(61)].count(0.0) == 60


def test_rates_of_many_threads_and_names() -> None:
    limit = RateLimit(100, lambda: 0.0)
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lambda _: limit.wait("a"), range(300))).count(0.0) == 100
    clock = [0.0]
    limit = RateLimit(60, lambda: clock[0])
    limit.KEEP = 10  # type: ignore[misc]
    for it in range(30):
        clock[0] += 10
        limit.wait(str(it))
    assert len(limit._buckets) <= 11
