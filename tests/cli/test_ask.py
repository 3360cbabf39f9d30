"""`forwhy recommend`, `explain` and `vocabulary`: documents that agree with each other, and mistakes."""

# ruff: noqa: ANN401 - the command line is conftest's, which no test can import
from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from forwhy.data.dataset import Dataset


def test_recommend(cli: Any, tiny_run: Path, tiny_town: Dataset) -> None:
    user = tiny_town.users.values[0]
    shown = cli.document("recommend", tiny_run, "--user", user, "-k", 4)
    assert shown["user"] == user
    assert [row["rank"] for row in shown["items"]] == [1, 2, 3, 4]
    assert all(set(row) == {"item_id", "score", "rank", "title"} for row in shown["items"])
    assert [token["token"][:3] for token in shown["tokens"]] == ["<u."] * 6


def test_recommend_explains_as_explain_does(cli: Any, tiny_run: Path, tiny_town: Dataset) -> None:
    user = tiny_town.users.values[1]
    row = cli.document("recommend", tiny_run, "--user", user, "-k", 1, "--explain")["items"][0]
    shown = cli.document("explain", tiny_run, "--user", user, "--item", row["item_id"])
    assert shown["text"] == row["explanation"]
    assert shown["title"] == row["title"]
    assert len(shown["tokens"]) == 12
    assert all(isinstance(token["contribution"], float) for token in shown["tokens"])


def test_somebody_new_with_a_history(cli: Any, tiny_run: Path, tiny_town: Dataset) -> None:
    items = tiny_town.items.values[:2]
    history = [argument for item in items for argument in ("--history", item)]
    shown = cli.document("recommend", tiny_run, *history, "-k", 2)
    assert shown["user"] is None
    assert not set(items) & {row["item_id"] for row in shown["items"]}
    why = cli.document("explain", tiny_run, *history, "--item", shown["items"][0]["item_id"])
    assert len(why["tokens"]) == 12


def test_vocabulary(cli: Any, tiny_run: Path) -> None:
    shown = cli.document("vocabulary", tiny_run)
    assert set(shown["health"]) == {"user_macro", "user_micro", "item_macro", "item_micro"}
    word = shown["words"][0]
    assert cli.document("vocabulary", tiny_run, "--token", word["token"]) == word
    assert {"token", "usage", "gloss", "nearest"} <= set(word)


def test_unknown_ids_and_tokens(cli: Any, tiny_run: Path, tiny_town: Dataset) -> None:
    user = tiny_town.users.values[0]
    assert "nobody-at-all" in cli.refusal("recommend", tiny_run, "--user", "nobody-at-all")
    assert "nowhere" in cli.refusal("explain", tiny_run, "--user", user, "--item", "nowhere")
    assert "<u.macro_99999>" in cli.refusal("vocabulary", tiny_run, "--token", "<u.macro_99999>")


@pytest.mark.parametrize("options", [[], ["--user", "a", "--history", "b"]])
def test_one_person_must_be_named(cli: Any, tiny_run: Path, options: list[str]) -> None:
    assert "give one of --user, --history" in cli.refusal("recommend", tiny_run, *options)


def test_altered_artifact_is_named(cli: Any, tiny_run: Path, tiny_town: Dataset, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_run, tmp_path / "run")
    weights = folder / "vocabulary" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    said = cli.refusal("recommend", folder, "--user", tiny_town.users.values[0])
    assert "model.safetensors" in said
