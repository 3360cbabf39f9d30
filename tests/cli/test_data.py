"""`forwhy data import amazon|…` and `forwhy data export recbole` as a user types them."""

import json
from pathlib import Path

import pytest

from forwhy.cli import main
from forwhy.data.dataset import Dataset

Capture = pytest.CaptureFixture[str]


def call(*words: object) -> int:
    with pytest.raises(SystemExit) as leaving:
        main([str(word) for word in words])
    return int(leaving.value.code or 0)


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


def test_from_raw_reviews_to_recbole_and_back(capsys: Capture, tmp_path: Path) -> None:
    path, (one, two, atomic) = reviews(tmp_path / "r.jsonl"), (tmp_path / name for name in ("a", "b", "c"))
    options = ("--since", "2017-07-14", "--min-rating", 4, "--sample", 0.8, "--core", 2, "--json")
    assert call("data", "import", "amazon", "--reviews", path, *options, one) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["bad_rows"] == {"count": 0, "reasons": {}, "first": []}
    assert [step["rows"] for step in shown["steps"]][:4] == [90, 90, 90, 60]
    assert shown["users"] == 8
    assert shown["name"] == "a"
    assert call("data", "export", "recbole", one, atomic) == 0
    assert "c.train.inter" in capsys.readouterr().out
    assert call("data", "import", "recbole", atomic, two) == 0
    again, first = Dataset.load(two), Dataset.load(one)
    assert again.summary()["interactions"] == first.summary()["interactions"] == shown["interactions"]
    assert first.source["filters"]["core"] == 2


def test_a_bad_row_ends_the_import_unless_it_is_skipped(capsys: Capture, tmp_path: Path) -> None:
    path, out = reviews(tmp_path / "r.jsonl", broken=True), tmp_path / "d"
    assert call("data", "import", "amazon", "--reviews", path, "--out", out) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"forwhy: {path}: row 91: truncated or not JSON")
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == [path]
    assert call("data", "import", "amazon", "--reviews", path, "--skip-bad", "--out", out) == 0
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
def test_mistakes_are_one_line(capsys: Capture, words: list[str], message: str) -> None:
    assert call("data", "import", *words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
