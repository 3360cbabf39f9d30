"""`forwhy data import` on a shop's files and database, as its owner types it."""

# ruff: noqa: ANN401 - the command line is conftest's, which no test can import
from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from forwhy.data.dataset import Dataset
from forwhy.data.finding import SAID
from shop_files import write_database, write_shop

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_shop(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


FILES = ("--interactions", "orders.csv", "--items", "items.csv", "--reviews", "reviews.csv")


def test_the_first_command_works_and_says_what_was_read_and_what_comes_next(
    cli: Any, capsys: Capture, shop: Path
) -> None:
    assert cli.call("data", "import", "tables", *FILES, "--out", "my shop") == 0
    printed = capsys.readouterr()
    assert "orders.csv: user_id = customer_id, item_id = sku, timestamp = bought_at" in printed.err
    for said in ("first of each pair", "titles", "The next item (SASRec, LLM-BS): yes", "my shop"):
        assert said in printed.out
    for line in re.findall(r"^(?:Next|Then): forwhy (.*)$", printed.out, re.MULTILINE)[:1]:
        assert cli.call(*shlex.split(line)) == 0
    assert Dataset.load("my shop").name == "my shop"


def test_options_of_other_formats(cli: Any, shop: Path) -> None:
    shown = cli.document(
        "data",
        "import",
        "tables",
        *FILES,
        "--split",
        "time",
        "--core",
        3,
        "--min-rating",
        2,
        "--name",
        "x",
        "out",
    )
    assert shown["name"] == "x"
    assert [step["step"] for step in shown["steps"]] == [
        "read",
        "first of each pair",
        "rating 2 or more",
        "3-core",
    ]
    edges = Dataset.load("out").tables["interactions"]
    train, test = (edges.filter(split=name)["timestamp"] for name in ("train", "test"))
    assert train.max() <= test.min()  # type: ignore[operator]


def test_a_remedy_can_be_pasted(cli: Any, shop: Path) -> None:
    """What a refusal says to add to the command makes the command work."""
    (shop / "odd.csv").write_text("wer,was\na,x\nb,x\n")
    words = ["data", "import", "tables", "--interactions", "odd.csv", "--out", "out"]
    refused = cli.refusal(*words)
    assert "no column for user_id and item_id (it has: wer, was)" in refused
    assert cli.call(*words, *shlex.split(refused.partition("e.g. ")[2])) == 0
    assert not [path for path in shop.iterdir() if path.is_dir() and path.name != "out"]


@pytest.mark.slow
def test_orders_with_times_train_a_model_of_the_next_item(cli: Any, shop: Path) -> None:
    assert cli.call("data", "import", "tables", *FILES, "out") == 0
    fast = ("--set", "recommender.epochs=1", "--set", "recommender.device=cpu")
    assert cli.call("fit", "recommender", "sasrec", "out", "--out", "run", *fast) == 0
    shown = cli.document("recommend", "run", "--history", "P001,P002", "-k", 3)
    assert len(shown["items"]) == 3


def test_what_was_mined_and_goes_with_an_import_is_told(cli: Any, capsys: Capture, shop: Path) -> None:
    again = ("data", "import", "tables", *FILES, "out")
    assert cli.call(*again) == 0
    assert cli.call("mine", "intents", "out", "--extractive") == 0
    intents = cli.document("data", "show", "out")["intents"]
    assert intents > 0
    capsys.readouterr()
    assert cli.call(*again) == 0
    told = re.search(
        r"out: the mined intents go with the old rows; .*: forwhy (mine .*)", capsys.readouterr().err
    )
    assert told
    assert "intents" not in cli.document("data", "show", "out")
    assert cli.call(*shlex.split(told[1])) == 0
    assert cli.document("data", "show", "out")["intents"] == intents


def test_all_rows_as_training_for_live_use(cli: Any, shop: Path) -> None:
    shown = cli.document("data", "import", "tables", *FILES, "--split", "none", "out")
    assert {name: bool(count) for name, count in shown["interactions"].items()} == {
        "train": True,
        "valid": False,
        "test": False,
    }
    run = (
        "run",
        "recipes/popularity.toml",
        "--set",
        "data.path=out",
        "--set",
        "system=item-knn",
        "--out",
        "run",
    )
    assert cli.call(*run) == 0
    assert cli.document("evaluate", "run")["ranking"] is None
    orders = Dataset.load("out").tables["interactions"]
    user = orders["user_id"][0]
    taken = set(orders.filter(user_id=user)["item_id"])
    items = cli.document("recommend", "run", "--user", user, "-k", 3)["items"]
    assert not taken & {row["item_id"] for row in items}


def test_half_of_the_users(cli: Any, shop: Path) -> None:
    half, quarter = (
        cli.document("data", "import", "tables", *FILES, "--sample", share, f"s{share}")
        for share in (0.5, 0.25)
    )
    assert (half["users"], quarter["users"]) == (20, 10)
    more, less = (set(Dataset.load(f"s{share}").users.values) for share in (0.5, 0.25))
    assert less < more


def test_a_database(cli: Any, capsys: Capture, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sqlalchemy")
    write_database("sqlite:///shop.db", shop.glob("*.csv"))
    asked = ("--query", "SELECT customer_id, sku, bought_at, quantity FROM orders", "--items", "items")
    assert cli.call("data", "import", "sql", "sqlite:///shop.db", "one", *asked, "--reviews", "reviews") == 0
    monkeypatch.setenv("SHOP_DB", "sqlite:///shop.db")
    assert cli.call("data", "import", "sql", "--url-env", "SHOP_DB", "two", *asked) == 0
    assert cli.call("data", "import", "tables", *FILES, "three") == 0
    one, two, three = (Dataset.load(name) for name in ("one", "two", "three"))
    assert one.fingerprint == three.fingerprint
    assert one.tables["items"].equals(two.tables["items"])
    capsys.readouterr()
    assert "--url-env NOT_THERE" in cli.refusal("data", "import", "sql", "--url-env", "NOT_THERE", *asked)
    assert "name one folder" in cli.refusal("data", "import", "sql", "sqlite:///shop.db", *asked)


def test_commands_that_an_audit_names_exist(cli: Any, capsys: Capture) -> None:
    named = {it for said in SAID.values() for it in re.findall(r"`forwhy ([^`]*)`", said["remedy"])}
    assert len(named) > 3
    for command in named:
        words = [word for word in shlex.split(command) if word.islower() and not word.startswith("-")]
        assert cli.call(*words[:3], "--help") == 0
        shown = capsys.readouterr().out
        for option in re.findall(r"--[a-z-]+", command):
            assert option in shown
