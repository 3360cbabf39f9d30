"""All that a service keeps: people, items, events, what was shown and said, experiments, keys, an audit log.

    with Database("sqlite:///serve.db") as database:
        database.upgrade()
        database.add_events([{"key": "1", "user": "ann", "item": "tea"}])
        database.history("ann")

Every method may be called by any thread, and has committed durably when it returns. Rows are dicts, ids the user's own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import closing

import sqlalchemy as sa

from forwhy.errors import UserError
from forwhy.serve import tables as t
from forwhy.serve.connection import Conflict, DatabaseDown, NewerSchema
from forwhy.serve.records import MOST, Page, Records, Row, moment, now

KINDS = ("clicked", "helpful", "wrong", "not_me")
"""What feedback can say."""
OPEN = ("waiting", "running")
"""States of a job that has not ended."""
AT_ONCE = 500
"""Keys looked up in one statement."""

_HISTORY = t.taken().where(t.events.c.user == sa.bindparam("whose")).order_by(t.events.c.time, t.events.c.seq)
"""Made once: it is asked with every list."""


class Database(Records):
    """The service's database; `Connected` says how it is reached.

    Raises:
        DatabaseDown: (every method) it is away, locked, full or can only be read.
        UserError: a value that no database holds.
    """

    # --- people and items

    def put_users(self, rows: Sequence[Row]) -> None:
        """Keep people: ``{"id", "data": {...}}``; those who are there get the new data."""
        self._put(t.users, [{"id": it["id"], "data": it.get("data") or {}, "at": now()} for it in rows])

    def put_items(self, rows: Sequence[Row]) -> None:
        """Keep items: ``{"id", "title", "text", "available": True, "data": {...}}``, in place of those of their id."""
        blank = {"title": "", "text": "", "available": True, "data": {}}
        given = [{key: row.get(key) for key in blank if row.get(key) is not None} for row in rows]
        self._put(
            t.items,
            [{**blank, **it, "id": row["id"], "at": now()} for it, row in zip(given, rows, strict=True)],
        )

    def users(self, limit: int, cursor: str | None = None, prefix: str = "") -> Page:
        """People by id, those whose id starts with `prefix`, and the cursor of the next page or None."""
        chosen = [t.users.c.id >= prefix, t.users.c.id < prefix + chr(0x10FFFF)] if prefix else []
        return self._page(t.users, t.users.c.id, limit, cursor, *chosen)

    def people(self, prefix: str = "") -> list[str]:
        """Ids of people who are kept or did something, by id; at most `MOST`."""
        both = sa.union(
            *(sa.select(column.label("id")) for column in (t.users.c.id, t.events.c.user))
        ).subquery()
        chosen = [both.c.id >= prefix, both.c.id < prefix + chr(0x10FFFF)] if prefix else []
        return [
            row["id"]
            for row in self._rows(sa.select(both.c.id).where(*chosen).order_by(both.c.id).limit(MOST))
        ]

    def items(self, limit: int, cursor: str | None = None) -> Page:
        """Items by id, and the cursor of the next page or None."""
        return self._page(t.items, t.items.c.id, limit, cursor)

    def user(self, id: str) -> Row | None:  # noqa: A002
        """One person."""
        return self._one(t.users, t.users.c.id == id)

    def item(self, id: str) -> Row | None:
        """One item."""
        return self._one(t.items, t.items.c.id == id)

    def items_stamp(self) -> tuple[int, str]:
        """How many items there are, and when one was last written: it changes with them."""
        chosen = sa.select(sa.func.count().label("count"), sa.func.max(t.items.c.at).label("at"))
        row = self._rows(chosen.select_from(t.items))[0]
        return int(row["count"]), row["at"] or ""

    # --- events

    def add_events(self, rows: Sequence[Row]) -> list[bool]:
        """Keep events, all or none: ``{"key", "user", "item", "kind": "take", "value": None, "time": now}``.

        Writers take turns, so that `seq` rises with the moment at which a reader can first see an event.

        Returns:
            Per event True, or False where its key was there already with the same content.

        Raises:
            Conflict: A key stands for something else.
        """
        if not rows:
            return []
        wanted = [_event(row) for row in rows]
        fresh: dict[str, Row] = {}
        with self.writing("forwhy serve: events") as connection:
            known = self._by_key(connection, [row["key"] for row in wanted])
            new = []
            for row in wanted:
                there = known.get(row["key"])
                new.append(there is None)
                if there is None:
                    known[row["key"]] = fresh[row["key"]] = {**row, "time": row["time"] or now()}
                elif different := [
                    it for it in row if row[it] != there[it] and (it, row[it]) != ("time", None)
                ]:
                    raise Conflict(
                        f"event {row['key']!r}: its key stands for another {different[0]} already; give it a new key"
                    )
            if fresh:
                connection.execute(sa.insert(t.events), list(fresh.values()))
        return new

    def events(
        self,
        limit: int,
        cursor: str | None = None,
        user: str | None = None,
        item: str | None = None,
        since: str | None = None,
    ) -> Page:
        """Events in the order in which they came."""
        c = t.events.c
        asked = [(c.user, user), (c.item, item)]
        chosen: list[sa.ColumnElement[bool]] = [column == it for column, it in asked if it is not None]
        if since is not None:
            chosen.append(c.time >= moment(since))
        return self._page(t.events, c.seq, limit, cursor, *chosen)

    def events_after(self, seq: int, limit: int) -> list[Row]:
        """Events with a higher number, in order: whoever remembers the last `seq` misses none."""
        chosen = sa.select(*t.shown(t.events)).where(t.events.c.seq > seq).order_by(t.events.c.seq)
        return self._rows(chosen.limit(min(limit, MOST)))

    def last_event(self) -> int:
        """The number of the newest event; 0 where there is none."""
        return int(self._rows(sa.select(sa.func.max(t.events.c.seq).label("seq")))[0]["seq"] or 0)

    def history(self, user: str) -> list[str]:
        """Items that a person has taken and not taken back, the oldest first."""
        with self.reading() as connection:
            return list(dict.fromkeys(connection.scalars(_HISTORY, {"whose": user})))

    def taken(self) -> list[Row]:
        """Who has taken what and not taken it back, and when: `user`, `item`, `time`; the oldest first."""
        c = t.events.c
        asked = [it.label(it.key) for it in (c.user, c.item, c.time)]
        return self._rows(t.taken().with_only_columns(*asked).order_by(c.time, c.seq))

    # --- what was shown and said

    def add_impressions(self, rows: Sequence[Row]) -> None:
        """Keep lists that were shown: ``{"id", "run", "experiment", "arm", "user", "asked", "items"}``."""
        blank: Row = {"experiment": None, "arm": None, "user": None, "asked": {}, "items": [], "at": None}
        self._put(t.impressions, [{**blank, **it, "at": moment(it.get("at"))} for it in rows])

    def impression(self, id: str) -> Row | None:
        """One list that was shown."""
        return self._one(t.impressions, t.impressions.c.id == id)

    def add_feedback(self, row: Row) -> None:
        """Keep what someone said: ``{"id", "impression", "explanation", "item", "user", "kind"}``; once per id."""
        if row.get("kind") not in KINDS:
            raise UserError(f"feedback {row.get('kind')!r}: no such kind; say {', '.join(KINDS)}")
        blank = dict.fromkeys(("impression", "explanation", "item", "user"))
        made = self._insert(t.feedback).on_conflict_do_nothing(index_elements=[t.feedback.c.id])
        with self.writing() as connection:
            connection.execute(made, {**blank, **row, "at": moment(row.get("at"))})

    def feedback(self, limit: int, cursor: str | None = None) -> Page:
        """What people said, in the order in which it came."""
        return self._page(t.feedback, t.feedback.c.seq, limit, cursor)

    def outcomes(self, experiment: str) -> dict[str, dict[str, int]]:
        """Per arm, how many lists were shown, to how many, and how many got each kind of feedback at least once."""
        shown, said = t.impressions.c, t.feedback.c
        counts = [
            sa.func.count(sa.distinct(sa.case((said.kind == kind, shown.id)))).label(kind) for kind in KINDS
        ]
        chosen = (
            sa.select(
                shown.arm,
                sa.func.count(sa.distinct(shown.id)).label("impressions"),
                sa.func.count(sa.distinct(shown.user)).label("users"),
                *counts,
            )
            .select_from(t.impressions.outerjoin(t.feedback, said.impression == shown.id))
            .where(shown.experiment == experiment)
            .group_by(shown.arm)
        )
        known = self._one(t.experiments, t.experiments.c.name == experiment) or {"arms": {}}
        none = dict.fromkeys(("impressions", "users", *KINDS), 0)
        return {arm: dict(none) for arm in known["arms"]} | {it.pop("arm"): it for it in self._rows(chosen)}

    def answer(self, key: str) -> Row | None:
        """An explanation that was kept: its document."""
        found = self._one(t.answers, t.answers.c.key == key)
        return None if found is None else found["document"]

    def keep_answer(self, key: str, run: str, user: str | None, item: str | None, document: Row) -> None:
        """Keep an explanation under all that it depends on."""
        row = {"key": key, "run": run, "user": user, "item": item, "document": document, "at": now()}
        self._put(t.answers, [row])

    def forget_answers(self, run: str) -> None:
        """Drop the explanations of a run, which was replaced."""
        with self.writing() as connection:
            connection.execute(sa.delete(t.answers).where(t.answers.c.run == run))

    # --- words and experiments

    def rename_word(self, run: str, token: str, gloss: str, who: str) -> None:
        """Give a word another gloss; earlier ones are kept."""
        self._add(t.renames, run=run, token=token, gloss=gloss, who=who)

    def renamed(self, run: str) -> dict[str, Row]:
        """The latest ``{"gloss", "who", "at"}`` by token."""
        c = t.renames.c
        chosen = sa.select(c.token, c.gloss, c.who, c.at).where(c.run == run).order_by(c.seq)
        return {row.pop("token"): row for row in self._rows(chosen)}

    def put_experiment(self, row: Row) -> None:
        """Start an experiment or change its arms: ``{"name", "arms": {arm: {"run", "options", "share"}}}``.

        Raises:
            Conflict: One of this name has ended.
        """
        name = row["name"]
        with self.writing("forwhy serve: experiments") as connection:
            found = connection.execute(
                sa.select(t.experiments.c.ended).where(t.experiments.c.name == name)
            ).first()
            if found and found.ended:
                raise Conflict(f"experiment {name!r}: ended at {found.ended}; give the new one another name")
            kept = {"name": name, "arms": row["arms"], "at": now(), "ended": None}
            connection.execute(self._upsert(t.experiments), kept)

    def experiments(self) -> list[Row]:
        """All experiments, by name; `ended` is None while one runs."""
        return self._rows(sa.select(*t.shown(t.experiments)).order_by(t.experiments.c.name))

    def end_experiment(self, name: str) -> None:
        """End one; its results stay."""
        c = t.experiments.c
        self._change(sa.update(t.experiments).where(c.name == name, c.ended.is_(None)).values(ended=now()))

    # --- everything about a person

    def delete_user(self, id: str) -> dict[str, int]:
        """Delete all that is kept about a person; on SQLite its bytes are overwritten.

        The audit log has only hashes of ids, and what was learned stays in trained runs.

        Returns:
            Rows that went, per table.
        """
        with self.writing("forwhy serve: events") as connection:
            gone = {
                table.name: connection.execute(sa.delete(table).where(theirs)).rowcount
                for table, theirs in _about(id).items()
            }
        if self.lite:  # the log in front of the file has copies
            with closing(self.engine.raw_connection()) as raw:
                raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return gone

    def export_user(self, id: str) -> dict[str, list[Row]]:
        """All that is kept about a person, per table."""
        with self.reading() as connection:
            found = {
                table.name: connection.execute(sa.select(*t.shown(table)).where(theirs)).mappings().all()
                for table, theirs in _about(id).items()
            }
        return {name: [dict(row) for row in rows] for name, rows in found.items()}

    # --- jobs, audit, keys

    def add_job(self, id: str, asked: Row) -> None:
        """Keep a job that waits.

        Raises:
            Conflict: Another one waits or runs.
        """
        row = {"id": id, "asked": asked, "state": "waiting", "detail": {}, "at": now(), "changed": now()}
        with self.writing("forwhy serve: jobs") as connection:
            if connection.execute(sa.select(t.jobs.c.id).where(t.jobs.c.state.in_(OPEN))).first():
                raise Conflict("a run is being trained; GET /v1/jobs tells when it is done")
            connection.execute(sa.insert(t.jobs), row)

    def update_job(self, id: str, state: str, detail: Row) -> None:
        """Say where a job stands."""
        changed = {"state": state, "detail": detail, "changed": now()}
        self._change(sa.update(t.jobs).where(t.jobs.c.id == id).values(changed))

    def job(self, id: str) -> Row | None:
        """One job."""
        return self._one(t.jobs, t.jobs.c.id == id)

    def jobs(self) -> list[Row]:
        """The last hundred jobs, the newest first."""
        return self._rows(sa.select(*t.shown(t.jobs)).order_by(t.jobs.c.seq.desc()).limit(100))

    def audit(self, who: str, action: str, what: Row) -> None:
        """Write down who did what; ids under ``user`` and ``users`` are kept as hashes only."""
        hidden = {key: _hidden(value) if key in ("user", "users") else value for key, value in what.items()}
        self._add(t.audits, who=who, action=action, what=hidden)

    def audited(self, limit: int, cursor: str | None = None) -> Page:
        """The audit log, the oldest first."""
        return self._page(t.audits, t.audits.c.seq, limit, cursor)

    def add_key(self, name: str, role: str, hash: str) -> None:
        """Keep a key's hash.

        Raises:
            Conflict: There is or was one of this name.
        """
        try:
            self._add(t.keys, name=name, role=role, hash=hash)
        except Conflict:
            raise Conflict(f"key {name!r}: there is or was one of this name; choose another") from None

    def key_by_hash(self, hash: str) -> Row | None:
        """The key whose hash it is, ``{"name", "role", "at"}``, unless it was revoked."""
        return self._one(t.keys, t.keys.c.hash == hash, t.keys.c.revoked.is_(None))

    def keys(self) -> list[Row]:
        """All keys by name, revoked ones too, without their hashes."""
        c = t.keys.c
        return self._rows(sa.select(c.name, c.role, c.at, c.revoked).order_by(c.name))

    def revoke_key(self, name: str) -> None:
        """End a key.

        Raises:
            UserError: There is none of this name, or it was revoked.
        """
        c = t.keys.c
        if not self._change(
            sa.update(t.keys).where(c.name == name, c.revoked.is_(None)).values(revoked=now())
        ):
            raise UserError(f"key {name!r}: none is in use; `forwhy serve keys list` shows them")

    @staticmethod
    def _by_key(connection: sa.Connection, keys: Sequence[str]) -> dict[str, Row]:
        found: dict[str, Row] = {}
        for start in range(0, len(keys), AT_ONCE):
            chosen = sa.select(*t.shown(t.events)).where(t.events.c.key.in_(keys[start : start + AT_ONCE]))
            found |= {row["key"]: dict(row) for row in connection.execute(chosen).mappings()}
        return found


def _event(row: Row) -> Row:
    """An event as it is kept; its time None where it has none."""
    value = row.get("value")
    if value is not None and not (isinstance(value, int | float) and abs(value) < 1e300):
        raise UserError(
            f"event {ascii(row['key'])[:60]}: value {ascii(value)[:40]} is no finite number; correct it"
        )
    return {
        "key": row["key"],
        "user": row["user"],
        "item": row["item"],
        "kind": row.get("kind") or t.TAKEN,
        "value": None if value is None else float(value),
        "time": None if row.get("time") is None else moment(row["time"]),
    }


def _about(user: str) -> dict[sa.Table, sa.ColumnElement[bool]]:
    """Which rows of which tables are about a person, what depends on others first."""
    lists = sa.select(t.impressions.c.id).where(t.impressions.c.user == user)
    texts = sa.select(t.answers.c.key).where(t.answers.c.user == user)
    said = t.feedback.c
    theirs = sa.or_(said.user == user, said.impression.in_(lists), said.explanation.in_(texts))
    alone = {it: it.c.user == user for it in (t.impressions, t.answers, t.events)}
    return {t.feedback: theirs, **alone, t.users: t.users.c.id == user}


def _hidden(value: object) -> object:
    if isinstance(value, list | tuple):
        return [_hidden(it) for it in value]
    return "sha256:" + hashlib.sha256(str(value).encode(errors="replace")).hexdigest()


__all__ = ["Conflict", "Database", "DatabaseDown", "NewerSchema", "moment", "now"]
