"""The loop: events go back into a data set, a run is trained again beside the service, and taken only if not worse."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient  # noqa: E402

import forwhy  # noqa: E402
from forwhy.cli import main  # noqa: E402
from forwhy.data.dataset import Dataset  # noqa: E402
from forwhy.serve import jobs  # noqa: E402
from forwhy.serve.app import create_app  # noqa: E402
from forwhy.serve.database import Database  # noqa: E402
from talking import Talk, until  # noqa: E402

USER = "ada-larsen"


@pytest.fixture
def talk(copied_run: Path, tmp_path: Path) -> Iterator[Talk]:
    with (
        Database(f"sqlite:///{tmp_path}/serve.db") as database,
        TestClient(create_app([copied_run], database), raise_server_exceptions=False) as client,
    ):
        yield Talk(client)


def trained(talk: Talk, seconds: float = 300) -> dict[str, Any]:
    """A training, when it has ended."""
    number = talk.ask("POST", "/v1/jobs/retrain", {"run": "town"}, 202)["id"]
    until(lambda: talk.ask("GET", f"/v1/jobs/{number}")["state"] in ("done", "failed"), seconds)
    talk.service.training.join(20)
    found: dict[str, Any] = talk.ask("GET", f"/v1/jobs/{number}")
    assert found == talk.ask("GET", "/v1/jobs")["jobs"][0]
    assert found["asked"] == {"run": "town"}
    return found


def identity(talk: Talk) -> str:
    return str(talk.ask("GET", "/v1/runs")["runs"][0]["identity"])


def beside(run: Path) -> list[str]:
    """What lies beside a run by its name, without numbers."""
    return sorted(it.name.split(".", 1)[1].split("-")[0] for it in run.parent.glob("town.*"))


@pytest.mark.slow
def test_a_run_learns_what_happened(talk: Talk, copied_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_WORSE", 1.0)  # whatever so small a town measures
    items = [it["id"] for it in talk.ask("GET", "/v1/items")["items"]]
    talk.ask(
        "PUT",
        "/v1/items/salty-gull",
        {"title": "The Salty Gull", "text": "fresh herring by the harbour"},
        204,
    )
    rows = [
        {"key": f"n{it}", "user": "newcomer", "item": item}
        for it, item in enumerate([*items[:3], "salty-gull"])
    ]
    rows += [{"key": "back", "user": "newcomer", "item": items[2], "kind": "untake"}]
    rows += [{"key": "seen", "user": "newcomer", "item": items[9], "kind": "see"}]
    talk.ask("POST", "/v1/events", {"events": rows}, 201)
    before = identity(talk)
    assert {it["source"] for it in talk.listed(user="newcomer")} == {"history"}
    job = trained(talk)
    assert job["state"] == "done", job
    assert job["detail"]["taken"]
    assert {"metric", "before", "after"} <= job["detail"].keys()
    until(lambda: identity(talk) == job["detail"]["identity"])
    assert identity(talk) != before
    assert {it["source"] for it in talk.listed(user="newcomer")} == {"behaviour"}
    salty = talk.ask("GET", "/v1/items/salty-gull")
    assert salty["trained"]
    assert salty["takers"] == 1
    person = talk.ask("GET", "/v1/users/newcomer")
    assert {it["item_id"] for it in person["history"]} == {*items[:2], "salty-gull"}
    expected = forwhy.open(copied_run).recommend("newcomer", k=5)
    assert [it["item_id"] for it in talk.listed(user="newcomer", k=5)] == expected["item_id"].to_list()
    assert beside(copied_run) == ["before", "data"]  # the old run, and the data of the new one
    assert [row["action"] for row in talk.ask("GET", "/v1/audit")["record"]][-1] == "retrain"


def worse(talk: Talk, copied_run: Path, monkeypatch: pytest.MonkeyPatch, share: float) -> dict[str, Any]:
    """A training whose validation is this share of the old one's."""

    def train(_: object, __: Path, ___: Path, out: Path) -> None:
        shutil.copytree(copied_run, out)
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        for line in lines:
            line["valid"] = {name: it * share for name, it in line.get("valid", {}).items()}
        (out / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        with (out / "recipe.toml").open("a") as recipe:
            recipe.write("\n# again\n")

    monkeypatch.setattr(jobs, "_train", train)
    return trained(talk)


def test_a_worse_run_is_refused(talk: Talk, copied_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, listed = identity(talk), talk.listed(user=USER)
    job = worse(talk, copied_run, monkeypatch, 0.97)
    assert job["state"] == "done"
    assert job["detail"] == {
        "taken": False, "metric": "hr@20", "before": 0.875, "after": pytest.approx(0.875 * 0.97),
    }  # fmt: skip
    assert beside(copied_run) == []
    talk.service.look()
    assert identity(talk) == before
    assert talk.listed(user=USER) == listed
    job = worse(talk, copied_run, monkeypatch, 0.99)  # by chance
    assert job["detail"]["taken"]
    until(lambda: identity(talk) == job["detail"]["identity"] != before)
    assert beside(copied_run) == ["before"]
    job = worse(talk, copied_run, monkeypatch, 1.5)
    assert job["detail"]["taken"]
    assert beside(copied_run) == ["before"]  # the one before that is gone


@pytest.mark.slow
def test_a_failed_training_leaves_the_old_run(talk: Talk, copied_run: Path) -> None:
    recipe = copied_run / "recipe.toml"
    before, listed, text = identity(talk), talk.listed(user=USER), recipe.read_text()
    recipe.write_text(text.replace("codes = 8", "codes = 0"))
    job = trained(talk)
    recipe.write_text(text)
    assert job["state"] == "failed"
    assert "codes" in job["detail"]["error"]
    assert "\n" not in job["detail"]["error"]
    assert beside(copied_run) == []
    until(lambda: "stale" not in talk.ask("GET", "/ready"))
    assert identity(talk) == before
    assert talk.listed(user=USER) == listed
    assert json.loads(talk.client.get("/v1/jobs").text)["jobs"][0]["state"] == "failed"


def test_one_training_at_a_time(talk: Talk, monkeypatch: pytest.MonkeyPatch, copied_run: Path) -> None:

    go = threading.Event()

    def train(*_: object) -> None:
        go.wait(20)
        raise RuntimeError("stopped")

    monkeypatch.setattr(jobs, "_train", train)
    talk.ask("POST", "/v1/jobs/retrain", {}, 202)
    assert "GET /v1/jobs tells when" in talk.refusal(409, "POST", "/v1/jobs/retrain", {})
    assert talk.ask("GET", "/v1/jobs")["jobs"][0]["state"] in ("waiting", "running")
    go.set()
    until(lambda: talk.ask("GET", "/v1/jobs")["jobs"][0]["state"] == "failed")
    assert talk.ask("GET", "/v1/jobs")["jobs"][0]["detail"] == {"error": "stopped"}


def test_a_service_that_was_killed_while_training(copied_run: Path, tmp_path: Path) -> None:
    with Database(f"sqlite:///{tmp_path}/serve.db") as database:
        database.upgrade()
        database.add_job("j", {"run": "town"})
        database.update_job("j", "running", {})
        before = jobs.identity(copied_run)
        copied_run.rename(copied_run.with_name("town.before-20260101-000000-000000"))  # between two renames
        shutil.copytree(
            tmp_path / "runs" / "town.before-20260101-000000-000000", tmp_path / "runs" / "town.new-j"
        )
        jobs.recover(copied_run, database)
        assert jobs.identity(copied_run) == before
        job = database.one("jobs", id="j")
        assert job is not None
        assert (job["state"], job["detail"]) == (
            "failed",
            {"error": "the service ended meanwhile; ask again"},
        )
        with TestClient(create_app([copied_run], database)) as client:
            assert Talk(client).listed(user=USER)


def test_nothing_is_removed_that_no_job_made(copied_run: Path, tmp_path: Path) -> None:
    """Folders of a user's own with such names, and data that a recipe names by another path, stay."""
    with Database(f"sqlite:///{tmp_path}/serve.db") as database:
        database.upgrade()
        database.add_job("aaaaaaaabbbb", {"run": "town"})
        ours, unread = (copied_run.with_name(f"town.{it}-aaaaaaaa") for it in ("data", "new"))
        own = [copied_run.with_name(it) for it in ("town.data-old", "town.new-year", "town.before-christmas")]
        for folder in (ours, unread, *own, copied_run.with_name("town.before-20260101-000000-000000")):
            folder.mkdir()
        with (copied_run / "recipe.toml").open("a") as recipe:
            recipe.write('# path = "runs/town.data-aaaaaaaa"\n')
        jobs.recover(copied_run, database)
        assert [it.exists() for it in (ours, unread, *own)] == [True, False, True, True, True]


def test_events_go_back_into_a_data_set(url: str, town_run: Path, tmp_path: Path) -> None:
    """The command of docs/serving.md, on both databases."""
    with (
        Database(url) as database,
        TestClient(create_app([town_run], database)) as client,
    ):
        talk, times = Talk(client), [f"2026-0{month}-01T10:00:00Z" for month in range(1, 8)]
        taken = [("ann", "tea"), ("bob", "tea"), ("ann", "=mud"), ("ann", "o'cake"), ("søn", "tea")]
        rows = [
            {"key": f"{it}", "user": user, "item": item, "time": times[it], "value": 3.5}
            for it, (user, item) in enumerate(taken)
        ]
        rows.append({"key": "5", "user": "bob", "item": "tea", "kind": "untake", "time": times[5]})
        rows.append({"key": "6", "user": "bob", "item": "cake", "kind": "see", "time": times[6]})
        talk.ask("POST", "/v1/events", {"events": rows}, 201)
        command = ["data", "import", "sql", url, str(tmp_path / "again"), "--query", "interactions"]
        with pytest.raises(SystemExit) as ended:
            main([*command, "--split", "none"])
    assert not ended.value.code
    found = Dataset.load(tmp_path / "again").tables["interactions"]
    kept = [pair for pair in taken if pair != ("bob", "tea")]
    assert sorted(found.select("user_id", "item_id").iter_rows()) == sorted(kept)
    assert found.sort("timestamp")["item_id"].to_list() == [item for _, item in kept]
