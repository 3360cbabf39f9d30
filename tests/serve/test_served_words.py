"""Words, items, runs and counters over HTTP: those of the run's own vocabulary."""

from __future__ import annotations

import csv
import io
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

pytest.importorskip("fastapi")

import forwhy  # noqa: E402
from forwhy import OpenRun, __version__  # noqa: E402
from forwhy.serve.app import VIEWS  # noqa: E402
from talking import Talk, detail  # noqa: E402


@pytest.fixture(scope="module")
def opened(town_run: Path) -> OpenRun:
    return forwhy.open(town_run)


@pytest.fixture(scope="module")
def vocabulary(opened: OpenRun) -> Any:  # noqa: ANN401 - `Vocabulary`
    return opened.recommender.behaviour  # type: ignore[attr-defined]


def owners(vocabulary: Any, opened: OpenRun, token: str) -> set[str]:  # noqa: ANN401
    """Who has a word, counted here."""
    side = "user" if token.startswith("<u.") else "item"
    ids = (
        opened.recommender.catalogue.users if side == "user" else opened.recommender.catalogue.items
    ).values
    return {str(one) for number, one in enumerate(ids) if token in vocabulary.token_names(side, number)}


def test_the_vocabulary(talk: Talk, vocabulary: Any) -> None:  # noqa: ANN401
    said = talk.ask("GET", "/v1/words?limit=1000")
    assert said["books"] == list(vocabulary.codebooks)
    assert said["next"] is None
    rows = {row["token"]: row for row in said["words"]}
    assert len(rows) == len(said["words"]) == vocabulary.words.height
    for row in vocabulary.words.to_dicts():
        assert {name: rows[row["token"]][name] for name in ("book", "usage", "gloss", "nearest")} == {
            name: row[name] for name in ("book", "usage", "gloss", "nearest")
        }
    usage = [row["usage"] for row in said["words"]]
    assert usage == sorted(usage, reverse=True)
    for book in said["books"]:
        assert {it["book"] for it in talk.ask("GET", f"/v1/words?book={book}")["words"]} == {book}
    gloss = said["words"][0]["gloss"][0]
    found = talk.ask("GET", f"/v1/words?q={quote(gloss.upper())}")["words"]
    assert said["words"][0]["token"] in [it["token"] for it in found]
    assert all(gloss in " ".join(it["gloss"]) for it in found)


def test_a_word_and_its_owners(talk: Talk, opened: OpenRun, vocabulary: Any) -> None:  # noqa: ANN401
    for row in talk.ask("GET", "/v1/words?limit=12")["words"]:
        token, expected = row["token"], owners(vocabulary, opened, row["token"])
        one = talk.ask("GET", f"/v1/words/{quote(token)}")
        assert {name: one[name] for name in ("token", "book", "usage", "gloss")} == {
            name: row[name] for name in ("token", "book", "usage", "gloss")
        }
        assert one["owners"] == len(expected)
        assert {it["id"] for it in [*one["typical"], *one["borderline"]]} <= expected
        assert len(one["typical"]) == min(8, len(expected))
        assert [it["token"] for it in one["nearest"]] == row["nearest"]
        answer = talk.client.get(f"/v1/words/{quote(token)}/owners.csv")
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        table = list(csv.DictReader(io.StringIO(answer.text)))
        assert {it["id"] for it in table} == expected
        assert len(table) == len(expected)
        assert [it["id"] for it in table[:8]] == [it["id"] for it in one["typical"]]
        assert all(it["title"] for it in table) == (one["side"] == "item")


def test_words_that_no_item_in_stock_has(talk: Talk, opened: OpenRun, vocabulary: Any) -> None:  # noqa: ANN401
    words = [
        it["token"]
        for it in talk.ask("GET", "/v1/words?limit=1000")["words"]
        if it["token"].startswith("<i.")
    ]
    token = min(words, key=lambda it: (len(owners(vocabulary, opened, it)) or 99, it))
    gone = owners(vocabulary, opened, token)
    assert talk.ask("GET", f"/v1/words/{quote(token)}")["in_stock"]
    for item in gone:
        talk.ask("PUT", f"/v1/items/{item}", {"available": False}, 204)
    try:
        assert not talk.ask("GET", f"/v1/words/{quote(token)}")["in_stock"]
        out = [it["token"] for it in talk.ask("GET", "/v1/words?limit=1000")["words"] if not it["in_stock"]]
        assert token in out
        assert all(it.startswith("<i.") and owners(vocabulary, opened, it) <= gone for it in out)
    finally:
        for item in gone:
            talk.ask("PUT", f"/v1/items/{item}", {"available": True}, 204)
    assert talk.ask("GET", f"/v1/words/{quote(token)}")["in_stock"]


def test_the_map(talk: Talk, vocabulary: Any) -> None:  # noqa: ANN401
    points = talk.ask("GET", "/v1/words/map")["points"]
    assert {it["token"] for it in points} == set(vocabulary.words["token"])
    for book, vectors in vocabulary.codebooks.items():
        at = np.array([[it["x"], it["y"]] for it in points if it["book"] == book])
        assert np.abs(at).max() == pytest.approx(1)
        centred = vectors - vectors.mean(0)
        scale = np.linalg.svd(centred, compute_uv=False)
        assert np.linalg.norm(at, axis=0)[1] / np.linalg.norm(at, axis=0)[0] == pytest.approx(
            scale[1] / scale[0]
        )


def test_similar_items(talk: Talk, opened: OpenRun, vocabulary: Any) -> None:  # noqa: ANN401
    items = opened.recommender.catalogue.items.values
    vectors = vocabulary.item_vectors(range(len(items)))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for number in (0, 7, 29):
        found = talk.ask("GET", f"/v1/items/{items[number]}/similar?k=5")["items"]
        likeness = unit @ unit[number]
        likeness[number] = -9
        assert [it["likeness"] for it in found] == pytest.approx(
            sorted(likeness.tolist(), reverse=True)[:5], abs=1e-6
        )
        for it in found:
            other = list(items).index(it["item_id"])
            mine, theirs = (vocabulary.token_names("item", one) for one in (number, other))
            assert it["shared"] == [name for name in theirs if name in mine]
    assert len(talk.ask("GET", f"/v1/items/{items[0]}/similar?k=100")["items"]) == len(items) - 1


def test_words_light_up(talk: Talk, opened: OpenRun) -> None:
    items = [str(it) for it in opened.recommender.catalogue.items.values]
    for body in (
        {"history": items[:3]},
        {"text": "quiet coffee"},
        {"history": items[:2], "text": "old films"},
    ):
        who = {"about" if name == "text" else name: it for name, it in body.items()}
        lit = talk.ask("POST", "/v1/words/light", body)
        assert lit["run"] == "town"
        assert lit["tokens"] == talk.ask("POST", "/v1/recommend", {**who, "k": 1})["tokens"]
        assert lit["tokens"]


def test_people_and_items(talk: Talk, opened: OpenRun) -> None:
    catalogue = opened.recommender.catalogue
    takers = Counter(catalogue.taken[:, 1].tolist())
    for number, item in enumerate(catalogue.items.values):
        shown = talk.ask("GET", f"/v1/items/{item}")
        assert (shown["takers"], shown["title"]) == (takers[number], catalogue.titles[number])
    for row in talk.ask("GET", "/v1/users?limit=1000")["users"]:
        taken = catalogue.histories[catalogue.users.index(row["id"])].tolist()
        assert (row["taken"], row["live"]) == (len(taken), False)
        history = talk.ask("GET", f"/v1/users/{row['id']}")["history"]
        assert [it["item_id"] for it in history] == [str(catalogue.items.values[it]) for it in taken]
    assert [it["id"] for it in talk.ask("GET", "/v1/users?q=ada")["users"]] == sorted(
        it for it in map(str, catalogue.users.values) if it.startswith("ada")
    )
    assert all("CINEMA" in it["title"].upper() for it in talk.ask("GET", "/v1/items?q=cInEmA")["items"])


def test_runs_and_their_health(talk: Talk, vocabulary: Any) -> None:  # noqa: ANN401
    status = talk.ask("GET", "/v1/status")
    assert status["version"] == __version__
    assert status["role"] == "admin"
    assert status["runs"] == talk.ask("GET", "/v1/runs")["runs"]
    health = talk.ask("GET", "/v1/runs/town/health")
    assert set(health["books"]) == set(vocabulary.codebooks)
    for book, it in health["books"].items():
        assert it["size"] == len(vocabulary.codebooks[book])
        assert 0 < it["used"] <= it["size"]
        assert 1 <= it["perplexity"] <= it["size"]
    assert talk.ask("GET", "/v1/runs/plain/health")["books"] == {}


def test_counters_and_probes(talk: Talk) -> None:
    def count(path: str, status: int) -> float:
        text = talk.client.get("/metrics").text
        line = f'forwhy_requests_total{{method="GET",path="{path}",status="{status}"}} '
        return float(next((it.removeprefix(line) for it in text.splitlines() if it.startswith(line)), 0))

    routes = {"/v1/users/ada-larsen": ("/v1/users/{user:path}", 200), "/v1/none": ("other", 404)}
    before = {path: count(*route) for path, route in routes.items()}
    for path in routes:
        for _ in range(3):
            talk.client.get(path)
    assert {path: count(*route) for path, route in routes.items()} == {
        path: it + 3 for path, it in before.items()
    }
    text = talk.client.get("/metrics").text
    assert 'forwhy_waiting{run="town"} 0.0' in text
    assert "forwhy_lost_records 0.0" in text
    assert "ada-larsen" not in text  # no series for each person
    assert talk.ask("GET", "/live") == {"status": "alive"}
    assert talk.ask("GET", "/ready") == {"status": "ready", "runs": ["town", "plain"]}


def test_the_page_answers_all_its_paths(talk: Talk) -> None:
    document = talk.client.get("/").text
    assert "<title>forwhy</title>" in document
    for path in [*VIEWS, "people/a%2Fb", "words/%3Cu.macro_1%3E", "items/x/y"]:
        assert talk.client.get(f"/{path}").text == document
    assert talk.client.get("/page/app.js").headers["content-type"].startswith("text/javascript")
    detail(talk.client.get("/nowhere"), 404)
