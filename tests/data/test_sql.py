"""A database as a source: SQLite always, PostgreSQL where its server is on this machine."""

import gc
import logging
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from forwhy.data.sources import import_sql, import_tables, sql
from forwhy.errors import UserError
from postgres import Server
from shop_files import write_database, write_shop

pytest.importorskip("sqlalchemy")

QUERIES = {
    "interactions": "SELECT customer_id, sku, bought_at FROM orders",
    "items": "items",
    "reviews": "SELECT customer_id, sku, stars, review_text FROM reviews WHERE sku LIKE '%'",
}
TYPES = {"bought_at": "TIMESTAMP", "stars": "NUMERIC", "quantity": "INTEGER"}


@pytest.fixture
def shop(tmp_path: Path) -> dict[str, Path]:
    return write_shop(tmp_path)


@pytest.fixture
def lite(tmp_path: Path, shop: dict[str, Path]) -> str:
    url = f"sqlite:///{tmp_path}/shop.db"
    write_database(url, shop.values(), TYPES)
    return url


def same(url: str, shop: dict[str, Path]) -> None:
    found, wanted = import_sql(url, QUERIES), import_tables(**shop)  # type: ignore[arg-type]
    assert found.tables["items"].equals(wanted.tables["items"])
    assert found.tables["reviews"].equals(wanted.tables["reviews"])
    edges = wanted.tables["interactions"].drop("quantity")
    assert found.tables["interactions"].equals(edges)


def test_sqlite_gives_what_its_files_give(
    lite: str, shop: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "AT_ONCE", 60)
    same(lite, shop)
    assert import_sql(lite, QUERIES).name == "shop"


def test_nothing_is_written(lite: str) -> None:
    with pytest.raises(
        UserError, match=r"query interactions: attempt to write a readonly database; correct the query"
    ):
        import_sql(lite, {"interactions": "DELETE FROM orders RETURNING customer_id, sku"})
    with pytest.raises(UserError, match=r"nothing\.db: no such file"):
        import_sql(lite.replace("shop.db", "nothing.db"), QUERIES)
    assert not Path(lite.removeprefix("sqlite:///")).with_name("nothing.db").exists()


ENDLESS = "WITH RECURSIVE n(k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM n) SELECT {} FROM n"


@pytest.mark.parametrize("what", ["max(k) AS user_id, 1 AS item_id", "k AS user_id, 1 AS item_id"])
def test_a_query_that_never_ends_is_stopped(lite: str, what: str) -> None:
    since = time.monotonic()
    message = r"query interactions: took longer than 0\.3 seconds; ask for less, or give it more time: --timeout 0\.6"
    with pytest.raises(UserError, match=message):
        import_sql(lite, {"interactions": ENDLESS.format(what)}, timeout=0.3)
    assert time.monotonic() - since < 20


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT * FROM nowhere", "query interactions: no such table: nowhere; correct the query"),
        ("nowhere", "query interactions: no such table: nowhere"),
        ("SELECT customer_id AS x, sku AS x FROM orders", "two columns are called 'x'; rename one with AS"),
        ("SELECT * FROM orders WHERE 1 = 0", "query interactions: gives no rows"),
        ("SELECT quantity, sku FROM orders", r"query interactions: no column for user_id .*=quantity"),
        ("SELECT NULL AS user_id, sku FROM orders", "query interactions: row 1, column 'user_id': empty id"),
    ],
)
def test_queries_that_fail(lite: str, query: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        import_sql(lite, {"interactions": query})
    assert "\n" not in str(caught.value)


def test_a_refusal_while_rows_are_left_says_no_more(
    lite: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The cursor is closed before the connection, or the database's library logs what it could not close."""
    monkeypatch.setattr(sql, "AT_ONCE", 60)
    with pytest.raises(UserError, match="no column for user_id"):
        import_sql(lite, {"interactions": "SELECT quantity, sku FROM orders"})
    gc.collect()
    assert not caplog.records


def test_urls_that_are_none_and_libraries_that_are_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    for url, message in (
        ("what:secret", "the database's URL is none"),
        ("nosuch://me:secret@host/db", r"nosuch://me:\*\*\*@host/db: no database of this kind"),
        (
            "oracle://me:secret@host/db",
            r"oracle://me:\*\*\*@host/db: its driver is not installed; pip install",
        ),
    ):
        with pytest.raises(UserError, match=message) as caught:
            import_sql(url, QUERIES)
        assert "secret" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    monkeypatch.setattr("forwhy.errors.find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"pip install 'forwhy\[sql\]'"):
        import_sql("sqlite:///x.db", QUERIES)


# --- PostgreSQL, a server of our own


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The URL of an empty database whose password is `s3cr3t`."""
    found = Server("-c fsync=off")
    yield found.url
    found.close()


@pytest.mark.slow
def test_postgresql(
    server: str, shop: dict[str, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    write_database(server, shop.values(), TYPES)
    monkeypatch.setattr(sql, "AT_ONCE", 60)
    same(server.replace("+psycopg", ""), shop)
    found = import_sql(server, QUERIES)
    assert found.source["url"] == server.replace("s3cr3t", "***")
    with pytest.raises(UserError, match="query interactions: syntax error .*FOR DELETE"):
        import_sql(server, {"interactions": "DELETE FROM orders RETURNING customer_id, sku"})
    with pytest.raises(UserError, match="query interactions: took longer than 0.5 seconds"):
        import_sql(server, {"interactions": "SELECT pg_sleep(60), 1 AS item_id"}, timeout=0.5)
    with pytest.raises(UserError, match="query interactions: took longer than 0.5 seconds"):
        import_sql(server, {"interactions": ENDLESS.format("k AS user_id, 1 AS item_id")}, timeout=0.5)
    with pytest.raises(
        UserError, match=r"shop:\*\*\*@.*: no connection .*password authentication failed"
    ) as caught:
        import_sql(server.replace("s3cr3t", "wr0ng"), QUERIES)
    assert "s3cr3t" not in caplog.text + str(caught.value)
    assert "wr0ng" not in caplog.text + str(caught.value)
