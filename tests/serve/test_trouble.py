"""Databases that are down, locked, full, read-only or newer, and runs that vanish or are replaced, while served."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

import polars as pl  # noqa: E402
import sqlalchemy as sa  # noqa: E402
from fastapi.testclient import TestClient  # noqa: E402

import forwhy  # noqa: E402
from forwhy.data.dataset import Dataset, make_dataset  # noqa: E402
from forwhy.recipe import load_recipe, run  # noqa: E402
from forwhy.serve import connection as reached  # noqa: E402
from forwhy.serve.app import create_app  # noqa: E402
from forwhy.serve.database import Database, NewerSchema  # noqa: E402
from postgres import Server  # noqa: E402
from talking import Talk, detail, until  # noqa: E402

USER = "ada-larsen"


@contextmanager
def serving(runs: list[Path], url: str) -> Iterator[Talk]:
    with (
        Database(url) as database,
        TestClient(create_app(runs, database), raise_server_exceptions=False) as client,
    ):
        talk = Talk(client)
        until(
            lambda: all(
                "trained" in it.current.opened.__dict__
                for it in talk.service.runs.values()
                if it.current.explains
            )
        )
        yield talk


def event(key: str) -> dict[str, str]:
    return {"key": key, "user": "eva", "item": "amber-bell-cinema"}


def refused(talk: Talk, key: str, what: str) -> None:
    """A write is a 503 that says when to come back; nothing is kept."""
    answer = talk.client.post("/v1/events", json=event(key))
    assert what in detail(answer, 503)
    assert int(answer.headers["retry-after"]) >= 1
    assert "s3cr3t" not in answer.text


# --- the database


def test_postgresql_is_stopped_and_comes_back(town_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reached, "WAIT", 2)
    server = Server()
    try:
        with serving([town_run], server.url) as talk:
            talk.ask("POST", "/v1/events", event("first"), 201)
            before = talk.listed(user=USER, k=3)
            until(lambda: talk.ask("GET", f"/v1/users/{USER}/export")["impressions"])
            for stop in (server.stop, server.kill):
                stop()
                refused(talk, "late", "it does not answer")
                for method, path, body in (
                    ("GET", "/ready", None),
                    ("GET", "/v1/events", None),
                    ("POST", "/v1/recommend", {"user": USER, "k": 3}),
                    ("POST", "/v1/explain", {"user": USER, "item": before[0]["item_id"]}),
                    ("DELETE", "/v1/users/eva", None),
                ):
                    assert "start it, or check its address" in talk.refusal(503, method, path, body)
                assert talk.client.get("/live").status_code == 200
                assert talk.client.get("/").status_code == 200
                server.start()
                until(lambda: talk.client.get("/ready").status_code == 200)
                assert talk.listed(user=USER, k=3) == before
                assert talk.ask("POST", "/v1/explain", {"user": USER, "item": before[0]["item_id"]})["text"]
            talk.ask("POST", "/v1/events", event("late"), 201)
            assert [row["key"] for row in talk.ask("GET", "/v1/events")["events"]] == ["first", "late"]
    finally:
        server.close()


def test_sqlite_is_locked(plain_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reached, "WAIT", 0.3)
    file = tmp_path / "serve.db"
    with serving([plain_run], f"sqlite:///{file}") as talk:
        other = sqlite3.connect(file, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        refused(talk, "late", "another program holds it locked")
        assert talk.listed(user=USER, k=3)  # who reads need not wait
        other.execute("ROLLBACK")
        other.close()
        talk.ask("POST", "/v1/events", event("late"), 201)


def test_sqlite_is_full(plain_run: Path, tmp_path: Path) -> None:
    with serving([plain_run], f"sqlite:///{tmp_path}/serve.db") as talk:
        engine = talk.service.database.engine

        @sa.event.listens_for(engine, "begin")
        def small(connection: Any) -> None:  # noqa: ANN401 - of SQLAlchemy
            connection.exec_driver_sql("PRAGMA max_page_count = 1")

        body = {"events": [{**event(f"k{it}"), "kind": "x" * 200} for it in range(1_000)]}
        answer = talk.client.post("/v1/events", json=body)
        assert "free some space" in detail(answer, 503)
        assert talk.ask("GET", "/v1/events")["events"] == []
        assert talk.listed(user=USER, k=3)
        sa.event.remove(engine, "begin", small)
        sa.event.listen(engine, "begin", lambda it: it.exec_driver_sql("PRAGMA max_page_count = 100000"))
        assert talk.ask("POST", "/v1/events", body, 201) == {"accepted": 1_000, "known": 0}


def test_sqlite_can_only_be_read(plain_run: Path, tmp_path: Path) -> None:
    file = tmp_path / "serve.db"
    with Database(f"sqlite:///{file}") as database:
        database.upgrade()
        database.add_events([event("first")])
    with serving([plain_run], f"sqlite:///file:{file}?mode=ro&uri=true") as talk:
        refused(talk, "late", "allow writing to it")
        assert talk.client.get("/ready").status_code == 200
        assert talk.listed(user=USER, k=3)
        until(lambda: talk.service.lost == 1)  # the list was shown, its record could not be written
        assert "forwhy_lost_records 1.0" in talk.client.get("/metrics").text
        assert [row["key"] for row in talk.ask("GET", "/v1/events")["events"]] == ["first"]


def test_tables_of_a_newer_version(plain_run: Path, url: str) -> None:
    with Database(url) as database:
        database.upgrade()
        database.add_events([event("first")])
        with database.writing() as connection:
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        with pytest.raises(NewerSchema, match="newer forwhy .*pip install --upgrade forwhy"):
            create_app([plain_run], database)
        assert database.page("events", 9)[0][0]["key"] == "first"


# --- the run


@pytest.fixture
def other_run(tiny_recipe: Path, tiny_town: Dataset, tmp_path: Path) -> Path:
    """Another run, in which one more item is known."""
    tables = dict(tiny_town.tables)
    new = pl.DataFrame(
        {"item_id": ["zoo"], "title": ["The Zoo"], "categories": ["zoo"]}, schema=tables["items"].schema
    )
    tables["items"] = pl.concat([tables["items"], new])
    make_dataset("other", tables, duplicates="keep").save(tmp_path / "other-town")
    recipe = load_recipe(tiny_recipe, [f"data.path={tmp_path / 'other-town'}", "system=because", "seed=4"])
    run(recipe, tmp_path / "other")
    return tmp_path / "other"


def replace(folder: Path, by: Path) -> None:
    folder.rename(folder.with_name("gone"))
    by.rename(folder)


def identity(talk: Talk) -> str:
    return str(talk.ask("GET", "/v1/runs")["runs"][0]["identity"])


def test_a_replaced_run_is_taken_while_it_serves(copied_run: Path, other_run: Path, tmp_path: Path) -> None:
    with serving([copied_run], f"sqlite:///{tmp_path}/serve.db") as talk:
        before, first = talk.listed(user=USER, k=5), identity(talk)
        item = before[0]["item_id"]
        old = talk.ask("POST", "/v1/explain", {"user": USER, "item": item})
        talk.ask("PUT", "/v1/items/late", {"title": "Late", "text": "coffee in the evening"}, 204)
        replace(copied_run, other_run)
        until(lambda: identity(talk) != first)
        expected = forwhy.open(copied_run).recommend(USER, k=30)
        listed = [
            (it["item_id"], it["score"]) for it in talk.listed(user=USER, k=30) if it["item_id"] != "late"
        ]
        assert listed == list(expected.select("item_id", "score").iter_rows())[: len(listed)]
        assert listed != [(it["item_id"], it["score"]) for it in before]
        assert talk.ask("GET", "/v1/items/late")["tokens"]  # what came later is offered by the new one too
        new = talk.ask("POST", "/v1/explain", {"user": USER, "item": item})
        assert new["written"] == "model"  # an answer of another run is not this one's
        assert new["id"] != old["id"]
        assert "stale" not in talk.ask("GET", "/ready")


HARMS: dict[str, Callable[[Path], object]] = {
    "vanished": shutil.rmtree,
    "without state": lambda run: (run / "state.json").unlink(),
    "broken state": lambda run: (run / "state.json").write_text('{"stages": '),
    "without recipe": lambda run: (run / "recipe.toml").unlink(),
    "broken recipe": lambda run: (run / "recipe.toml").write_text("name = "),
    "without vocabulary": lambda run: shutil.rmtree(run / "vocabulary"),
    "cut": lambda run: [
        os.truncate(it, it.stat().st_size // 2) for it in (run / "vocabulary").rglob("*.safetensors")
    ],
    "without model": lambda run: [it.unlink() for it in (run / "explainer").rglob("*.safetensors")],
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_run_that_was_broken_goes_on_as_it_was(copied_run: Path, tmp_path: Path, harm: str) -> None:
    broken = Path(shutil.copytree(copied_run, tmp_path / "broken"))
    with (broken / "recipe.toml").open("a") as recipe:
        recipe.write("\n# another one\n")
    HARMS[harm](broken)
    with serving([copied_run], f"sqlite:///{tmp_path}/serve.db") as talk:
        before, first = talk.listed(user=USER, k=5), identity(talk)
        asked = {"user": USER, "without": [word(talk)], "item": before[0]["item_id"]}
        told = talk.ask("POST", "/v1/what-if", asked)
        copied_run.rename(tmp_path / "away")
        if broken.exists():
            broken.rename(copied_run)
        until(lambda: "stale" in talk.ask("GET", "/ready"))
        said = talk.ask("GET", "/ready")["stale"]["town"]
        assert len(said) > 20
        assert str(copied_run) in said
        assert talk.listed(user=USER, k=5) == before
        assert identity(talk) == first
        assert talk.ask("GET", "/v1/runs")["runs"][0]["failed"] == said
        assert talk.ask("POST", "/v1/what-if", asked) == told
        assert (
            talk.ask("POST", "/v1/explain", {"user": USER, "item": before[1]["item_id"]})["written"]
            == "model"
        )
        for path in ("/v1/status", "/v1/runs/town/health", "/v1/users", "/v1/words", f"/v1/users/{USER}"):
            talk.ask("GET", path)
        shutil.rmtree(copied_run, ignore_errors=True)
        (tmp_path / "away").rename(copied_run)
        until(lambda: "stale" not in talk.ask("GET", "/ready"))
        assert identity(talk) == first


def word(talk: Talk) -> str:
    return str(talk.ask("GET", f"/v1/users/{USER}")["tokens"][0]["token"])


def test_two_services_on_one_file(plain_run: Path, tmp_path: Path) -> None:
    """What one is told the other knows: at once of people, within a second of items."""
    url = f"sqlite:///{tmp_path}/serve.db"
    with serving([plain_run], url) as one, serving([plain_run], url) as other:
        best = one.listed(user=USER, k=2)
        one.ask("POST", "/v1/events", {**event("e"), "user": USER, "item": best[0]["item_id"]}, 201)
        assert other.listed(user=USER, k=1)[0]["item_id"] == best[1]["item_id"]
        assert other.ask(
            "POST", "/v1/events", {**event("e"), "user": USER, "item": best[0]["item_id"]}, 201
        ) == {
            "accepted": 0,
            "known": 1,
        }
        one.ask("PUT", f"/v1/items/{best[1]['item_id']}", {"available": False}, 204)
        until(lambda: other.listed(user=USER, k=1)[0]["item_id"] != best[1]["item_id"], 5)
        for number in range(20):
            for talk in (one, other):
                talk.ask("POST", "/v1/events", event(f"{id(talk)}-{number}"), 201)
        assert len(json.loads(one.client.get("/v1/events?user=eva").text)["events"]) == 40
