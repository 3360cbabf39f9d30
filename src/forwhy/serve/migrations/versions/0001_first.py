"""The first schema. It stays as it is: what changes later is a migration of its own."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
WORDS = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

INTERACTIONS = """
CREATE VIEW interactions AS
SELECT user_id, item_id, value AS rating, time AS timestamp FROM events
WHERE kind = 'take' AND NOT EXISTS (
  SELECT 1 FROM events AS back
  WHERE back.user_id = events.user_id AND back.item_id = events.item_id AND back.kind = 'untake'
    AND (back.time > events.time OR (back.time = events.time AND back.seq > events.seq)))
"""


def upgrade() -> None:
    """Make all tables."""
    _people_and_items()
    _told()
    _kept()
    op.execute(INTERACTIONS)


def _people_and_items() -> None:
    op.create_table("users", _key("user_id"), _document("data"), _text("at"))
    available: sa.Column[bool] = sa.Column("available", sa.Boolean(), nullable=False)
    words = (_text("title"), _text("text"))
    op.create_table("items", _key("item_id"), *words, available, _document("data"), _text("at"))
    value: sa.Column[float] = sa.Column("value", sa.Double())
    who = map(_text, ("user_id", "item_id", "kind"))
    _numbered("events", _unique("key"), *who, value, _text("time"))
    op.create_index("ix_events_item_id", "events", ["item_id"])
    op.create_index("ix_events_user_id_time", "events", ["user_id", "time"])


def _told() -> None:
    who = map(_maybe, ("experiment", "arm", "user_id"))
    lists = map(_document, ("asked", "items"))
    op.create_table("impressions", _key("id"), _text("run"), *who, *lists, _text("at"))
    _indexed("impressions", "experiment", "user_id")
    about = map(_maybe, ("impression", "explanation", "item_id", "user_id"))
    _numbered("feedback", _unique("id"), *about, _text("kind"), _text("at"))
    _indexed("feedback", "impression", "explanation", "user_id")
    pair = map(_maybe, ("user_id", "item_id"))
    op.create_table("answers", _key("key"), _text("run"), *pair, _document("document"), _text("at"))
    _indexed("answers", "run", "user_id")


def _kept() -> None:
    _numbered("renames", *map(_text, ("run", "token", "gloss", "who", "at")))
    _indexed("renames", "run")
    op.create_table("experiments", _key("name"), _document("arms"), _text("at"), _maybe("ended"))
    state = (_text("state"), _document("detail"), _text("at"), _text("changed"))
    _numbered("jobs", _unique("id"), _document("asked"), *state)
    _numbered("audits", _text("who"), _text("action"), _document("what"), _text("at"))
    op.create_table("keys", _key("name"), _text("role"), _unique("hash"), _text("at"), _maybe("revoked"))


def _numbered(name: str, *parts: sa.Column[Any]) -> None:
    op.create_table(name, sa.Column("seq", BIG, primary_key=True), *parts, sqlite_autoincrement=True)


def _indexed(table: str, *columns: str) -> None:
    for column in columns:
        op.create_index(f"ix_{table}_{column}", table, [column])


def _key(name: str) -> sa.Column[str]:
    return sa.Column(name, WORDS, primary_key=True)


def _unique(name: str) -> sa.Column[str]:
    return sa.Column(name, WORDS, nullable=False, unique=True)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, WORDS, nullable=False)


def _maybe(name: str) -> sa.Column[str]:
    return sa.Column(name, WORDS)


def _document(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.JSON(), nullable=False)
