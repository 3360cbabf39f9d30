"""`forwhy data` as a user types it: imports, exports, what is shown of a data set, its audit."""

# ruff: noqa: ANN401 - the command line is conftest's, which no test can import
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from forwhy.data.dataset import Dataset, make_dataset


def test_data_show(cli: Any, tiny_recipe: Path, tiny_town: Dataset) -> None:
    shown = cli.document("data", "show", tiny_recipe.parent / "town")
    counts = {
        "users",
        "items",
        "interactions",
        "explanations",
        "titles",
        "descriptions",
        "reviews",
        "intents",
    }
    assert set(shown) == {"name", "leaks", "fingerprint"} | counts
    assert shown == tiny_town.summary()


def test_import_tables_with_anyones_names(cli: Any, tmp_path: Path) -> None:
    ratings = tmp_path / "ratings.csv"
    rows = [f"{user},{item}" for user in "abcd" for item in range(12)]
    ratings.write_text("\n".join(["who,what", *rows]))
    mapping = ["--map", "interactions.user_id=who", "--map", "interactions.item_id=what"]
    shown = cli.document(
        "data", "import", "tables", "--interactions", ratings, *mapping, "--out", tmp_path / "d"
    )
    assert (shown["users"], shown["items"], sum(shown["interactions"].values())) == (4, 12, 48)
    assert shown["name"] == "d"
    assert cli.document("data", "show", tmp_path / "d").items() <= shown.items()


Capture = pytest.CaptureFixture[str]


def reviews(path: Path, broken: bool = False) -> Path:
    rows = [
        {
            "rating": 5.0 - k % 3,
            "title": "Nice",
            "text": f"{k}",
            "parent_asin": f"B{k % 9}",
            "user_id": f"U{k % 10}",
            "timestamp": 1_500_000_000_000 + 1000 * k,
        }
        for k in range(90)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + ("{\n" if broken else ""))
    return path


def test_from_raw_reviews_to_recbole_and_back(cli: Any, capsys: Capture, tmp_path: Path) -> None:
    path, (one, two, atomic) = reviews(tmp_path / "r.jsonl"), (tmp_path / name for name in ("a", "b", "c"))
    options = ("--since", "2017-07-14", "--min-rating", 4, "--sample", 0.8, "--core", 2, "--json")
    assert cli.call("data", "import", "amazon", "--reviews", path, *options, one) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["bad_rows"] == {"count": 0, "reasons": {}, "first": []}
    assert [step["rows"] for step in shown["steps"]][:4] == [90, 90, 90, 60]
    assert shown["users"] == 8
    assert shown["name"] == "a"
    assert cli.call("data", "export", "recbole", one, atomic) == 0
    assert "c.train.inter" in capsys.readouterr().out
    assert cli.call("data", "import", "recbole", atomic, two) == 0
    again, first = Dataset.load(two), Dataset.load(one)
    assert again.summary()["interactions"] == first.summary()["interactions"] == shown["interactions"]
    assert first.source["filters"]["core"] == 2


def test_a_bad_row_ends_the_import_unless_it_is_skipped(cli: Any, capsys: Capture, tmp_path: Path) -> None:
    path, out = reviews(tmp_path / "r.jsonl", broken=True), tmp_path / "d"
    assert cli.call("data", "import", "amazon", "--reviews", path, "--out", out) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"forwhy: {path}: row 91: truncated or not JSON")
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == [path]
    assert cli.call("data", "import", "amazon", "--reviews", path, "--skip-bad", "--out", out) == 0
    table = capsys.readouterr().out
    assert "bad rows: r.jsonl: truncated or not JSON" in table
    assert f"bad row: {path}: row 91" in table


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["amazon", "--out", "x"], "Missing option '--reviews'"),
        (["yelp", "--reviews", "no.json", "--out", "x"], "no.json: no such file"),
        (["yelp", "--reviews", "no.json"], "name one folder"),
        (
            ["google", "--reviews", "no.json", "x", "--sample", "0"],
            "'--sample': input should be greater than 0",
        ),
        (["google", "--reviews", "no.json", "x", "--core", "0"], "'--core'"),
        (["google", "--reviews", "no.json", "x", "--since", "soon"], "'--since'"),
        (["recbole", "nowhere", "x"], "nowhere: no such folder"),
        (["recbole", "nowhere", "x", "--map", "rating"], "--map rating: expected OURS=THEIRS"),
    ],
)
def test_mistakes_are_one_line(cli: Any, capsys: Capture, words: list[str], message: str) -> None:
    assert cli.call("data", "import", *words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


TEXT = "You like rivers at dawn and this boathouse rents canoes from five \x1b[2J\x07 in the mist."


@pytest.fixture
def leaking(tmp_path: Path) -> Path:
    rows = {"user_id": ["u", "v", "u"], "item_id": ["a", "b", "b"], "split": ["train", "train", "test"]}
    pairs = {"user_id": ["u", "v"], "item_id": ["a", "b"], "text": [TEXT, TEXT], "split": ["test", "train"]}
    tables = {"interactions": pl.DataFrame(rows), "explanations": pl.DataFrame(pairs)}
    make_dataset("\x1b[31mred", tables).save(tmp_path / "d")
    return tmp_path / "d"


def test_document(cli: Any, capsys: pytest.CaptureFixture[str], leaking: Path) -> None:
    assert cli.call("data", "audit", leaking, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert set(document) == {"name", "fingerprint", "counts", "findings"}
    assert document["counts"]["leak"] == 2
    first = document["findings"][0]
    assert first["id"] == "heldout-pairs-in-training-graph"
    assert first["examples"] == [{"user_id": "u", "item_id": "a", "split": "test"}]
    assert set(first) == {"id", "severity", "count", "of", "meaning", "remedy", "examples"}


def test_strict_is_one_line_after_the_report(
    cli: Any, capsys: pytest.CaptureFixture[str], leaking: Path
) -> None:
    assert cli.call("data", "audit", leaking, "--strict", "--json") == 2
    printed = capsys.readouterr()
    assert json.loads(printed.out)["counts"]["leak"] == 2
    assert len(printed.err.splitlines()) == 1
    assert "heldout-pairs-in-training-graph, heldout-text-in-training" in printed.err


def test_strict_is_silent_without_a_leak(
    cli: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    rows = {"user_id": ["u", "v"], "item_id": ["a", "a"], "split": ["train", "test"]}
    make_dataset("clean", {"interactions": pl.DataFrame(rows)}).save(tmp_path / "d")
    assert cli.call("data", "audit", tmp_path / "d", "--strict") == 0
    assert capsys.readouterr().err == ""


def test_no_control_character_reaches_a_terminal(
    cli: Any, capsys: pytest.CaptureFixture[str], leaking: Path
) -> None:
    assert cli.call("data", "audit", leaking) == 0
    out = capsys.readouterr().out
    assert "boathouse" in out
    assert {letter for letter in out if not letter.isprintable()} == {"\n"}


def test_export_to_a_folder_named_either_way(cli: Any, tmp_path: Path) -> None:
    rows = "user,item,timestamp\n" + "".join(
        f"u{user},i{step},{step}\n" for user in range(3) for step in range(4)
    )
    (tmp_path / "log.csv").write_text(rows)
    columns = "--map", "interactions.user_id=user", "--map", "interactions.item_id=item"
    assert (
        cli.call("data", "import", "tables", "--interactions", tmp_path / "log.csv", *columns, tmp_path / "d")
        == 0
    )
    assert cli.call("data", "export", "recbole", tmp_path / "d", "--out", tmp_path / "one") == 0
    assert cli.call("data", "export", "recbole", tmp_path / "d", tmp_path / "two") == 0
    assert (tmp_path / "one" / "one.train.inter").read_text() == (
        tmp_path / "two" / "two.train.inter"
    ).read_text()
    for named in ([], [tmp_path / "one", "--out", tmp_path / "two"]):
        assert "name one folder to write" in cli.refusal("data", "export", "lcrec", tmp_path / "d", *named)
