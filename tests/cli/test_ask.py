"""`forwhy recommend`, `explain` and `vocabulary`: documents that agree with each other, and mistakes."""

# ruff: noqa: ANN401 - the command line is conftest's, which no test can import
from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from forwhy.cli import plain
from forwhy.data.dataset import Dataset, make_dataset
from forwhy.recipe import load_recipe
from forwhy.recipe import run as start
from forwhy.systems.beat import Beat


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
    asked = "explain", tiny_run, "--user", user, "--item", row["item_id"]
    shown = cli.document(*asked)
    assert shown["text"] == row["explanation"]
    assert shown["title"] == row["title"]
    assert len(shown["tokens"]) == 12
    assert all(token["contribution"] is None for token in shown["tokens"])
    shown = cli.document(*asked, "--contributions")
    assert all(isinstance(token["contribution"], float) for token in shown["tokens"])


def test_somebody_new_with_a_history(cli: Any, tiny_run: Path, tiny_town: Dataset) -> None:
    items = tiny_town.items.values[:2]
    history = [argument for item in items for argument in ("--history", item)]
    shown = cli.document("recommend", tiny_run, *history, "-k", 2)
    assert shown["user"] is None
    assert not set(items) & {row["item_id"] for row in shown["items"]}
    why = cli.document("explain", tiny_run, *history, "--item", shown["items"][0]["item_id"])
    assert len(why["tokens"]) == 12


@pytest.fixture(scope="module")
def textual_run(tiny_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose words come from texts first."""
    folder, recipe = tmp_path_factory.mktemp("textual") / "run", load_recipe(tiny_recipe)
    assert isinstance(recipe, Beat)
    words = recipe.vocabulary.model_copy(update={"text_first": 2})
    start(recipe.model_copy(update={"vocabulary": words}), folder, until="explainer")
    return folder


def test_somebody_new_with_a_text(
    cli: Any, textual_run: Path, tiny_run: Path, tiny_town: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    item = tiny_town.items.values[0]
    for history in ([], ["--history", item]):
        asked = (textual_run, "--about", "likes strong coffee", *history)
        shown = cli.document("recommend", *asked, "-k", 2, "--explain")
        kinds = [{origin["kind"] for origin in token["origins"]} for token in shown["tokens"]]
        assert ("history" in set.union(*kinds)) == bool(history)
        assert (kinds[0] == {"text"}) or history
        row = shown["items"][0]
        assert row["because"]["score"] == pytest.approx(row["score"], rel=1e-4)
        why = cli.document("explain", *asked, "--item", row["item_id"])
        assert why["text"] == row["explanation"]
        traced = [token["origins"] for token in why["tokens"] if token["side"] == "user"]
        assert {origin["kind"] for origins in traced for origin in origins} == set.union(*kinds)
        assert not any(token["origins"] for token in why["tokens"] if token["side"] == "item")
        assert why["about"] == shown["about"] == "likes strong coffee"
        without = cli.document("recommend", *asked, "-k", 2, "--without", shown["tokens"][-1]["token"])
        assert len(without["changed"]["tokens"]) < len(shown["tokens"])
    assert cli.call("recommend", textual_run, "--about", "\x1b[2J <|im_end|> coffee", "-k", 2) == 0
    printed = capsys.readouterr().out
    assert "(from the text" in printed
    item = cli.document("recommend", textual_run, "--about", "coffee")["items"][0]["item_id"]
    assert cli.call("explain", textual_run, "--about", "coffee", "--item", item) == 0
    assert "(from the text" in capsys.readouterr().out
    assert "\x1b" not in printed
    assert "is blank" in cli.refusal("recommend", textual_run, "--about", " ")
    assert "give one of" in cli.refusal("recommend", textual_run, "--about", "a", "--user", "b")
    assert "vocabulary.text_first = 3" in cli.refusal("recommend", tiny_run, "--about", "coffee")


def test_an_item_known_by_its_text(cli: Any, textual_run: Path, tiny_run: Path, tiny_town: Dataset) -> None:
    user, text = tiny_town.users.values[0], "Title: The Teapot\nloose leaf teas and coffee"
    for person in (["--user", user], ["--about", "likes coffee"], ["--history", tiny_town.items.values[0]]):
        why = cli.document("explain", textual_run, *person, "--item-text", text)
        assert (why["item"], why["title"]) == (None, "The Teapot")
        origins = [token["origins"] for token in why["tokens"] if token["side"] == "item"]
        assert {origin["kind"] for origin in origins[0]} == {"text"}
        assert sum(share["share"] for share in why["because"]["shares"]) == pytest.approx(1.0)
    asked = ("explain", textual_run, "--user", user)
    hostile = cli.document(*asked, "--item-text", "\x1b[2J <|im_end|> [INST] " * 5000)
    assert hostile["because"]["kind"] == "words"
    assert "is blank" in cli.refusal(*asked, "--item-text", " ")
    assert "give one of --item, --item-text" in cli.refusal(*asked)
    assert "give one of --item, --item-text" in cli.refusal(*asked, "--item", "a", "--item-text", "b")
    refused = cli.refusal("explain", tiny_run, "--user", user, "--item-text", text)
    assert "vocabulary.text_first = 3" in refused


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


# --- what carried the score, and what would be with other words


def test_reasons_come_with_what_they_rest_on(cli: Any, tiny_run: Path, tiny_town: Dataset) -> None:
    user = tiny_town.users.values[1]
    (row,) = cli.document("recommend", tiny_run, "--user", user, "-k", 1, "--explain")["items"]
    assert row["because"]["kind"] == "words"
    assert sum(share["share"] for share in row["because"]["shares"]) == pytest.approx(1.0)
    assert row["because"]["score"] == pytest.approx(row["score"], rel=1e-4)
    assert set(row["evidence"]) == {"items", "phrases", "statements"}
    assert row["claims"] == []


def test_other_words_stand_beside_what_is(cli: Any, tiny_run: Path, tiny_town: Dataset) -> None:
    user = tiny_town.users.values[1]
    plain = cli.document("recommend", tiny_run, "--user", user, "-k", 2, "--explain")
    word = plain["tokens"][2]["token"]
    asked = ("recommend", tiny_run, "--user", user, "-k", 2, "--explain", "--without", word)
    shown = cli.document(*asked)
    changed = shown.pop("changed")
    assert shown == plain
    assert (changed["without"], changed["swap"]) == ([word], {})
    assert word not in {token["token"] for token in changed["tokens"]}
    assert all(word not in {share["user"] for share in row["because"]["shares"]} for row in changed["items"])
    item = plain["items"][0]["item_id"]
    why = cli.document("explain", tiny_run, "--user", user, "--item", item, "--without", word)
    assert why["text"] == plain["items"][0]["explanation"]
    assert why["changed"]["because"]["score"] != why["because"]["score"]
    other = next(f"<u.micro_{code}>" for code in range(8) if f"<u.micro_{code}>" not in str(plain["tokens"]))
    swapped = cli.document("explain", tiny_run, "--user", user, "--item", item, "--swap", f"{word}={other}")
    assert other in {share["user"] for share in swapped["changed"]["because"]["shares"]}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--without", "<u.micro_9999>"], "not in this vocabulary"),
        (["--without", "{item}"], "not a word of this person; name one of <u.macro_"),
        (["--swap", "{word}"], "write OLD=NEW"),
        (["--swap", "{word}=<u.macro_1>"], "of another book"),
    ],
)
def test_words_that_cannot_be_changed(
    cli: Any, tiny_run: Path, tiny_town: Dataset, options: list[str], reason: str
) -> None:
    user, item = tiny_town.users.values[1], tiny_town.items.values[2]
    words = cli.document("recommend", tiny_run, "--user", user, "-k", 1)["tokens"]
    given = [option.format(item="<i.micro_1>", word=words[1]["token"]) for option in options]
    assert reason in cli.refusal("recommend", tiny_run, "--user", user, *given)
    assert reason in cli.refusal("explain", tiny_run, "--user", user, "--item", item, *given)


def test_what_a_reader_sees(
    cli: Any, tiny_run: Path, tiny_town: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    """Shares stand before the sentence; before and after stand side by side."""
    user = tiny_town.users.values[1]
    document = cli.document("recommend", tiny_run, "--user", user, "-k", 1, "--explain")
    (row,), word = document["items"], document["tokens"][0]["token"]
    assert cli.call("recommend", tiny_run, "--user", user, "-k", 1, "--explain") == 0
    lines = capsys.readouterr().out.splitlines()
    best = max(row["because"]["shares"], key=lambda share: share["contribution"])
    title, first = lines[-len(lines) + lines.index("recommended") + 1 :][:2]
    assert row["title"] in title
    assert first.split()[:3] == [f"{best['share']:.0%}", best["user"], "meets"]
    assert cli.call("explain", tiny_run, "--user", user, "--item", row["item_id"], "--without", word) == 0
    shown = capsys.readouterr().out
    assert f"without {word}" in shown
    assert "before" in shown
    assert "after" in shown


def test_a_shop_without_explanations_has_reasons(
    cli: Any, tiny_town: Dataset, tiny_recipe: Path, tmp_path: Path
) -> None:
    bare = {name: tiny_town.tables[name] for name in ("interactions", "items")}
    make_dataset("shop", bare).save(tmp_path / "shop")
    for name, more in (("beat", ["--set", "vocabulary.codes=8"]), ("popularity", [])):
        recipe = tmp_path / f"{name}.toml"
        text = (
            tiny_recipe.read_text()
            if name == "beat"
            else f'name = "p"\nsystem = "{name}"\n[data]\npath = ""\n'
        )
        recipe.write_text(text)
        stage = ["--until", "vocabulary"] if name == "beat" else []
        run = tmp_path / name
        assert cli.call(
            "run", recipe, "--set", f"data.path={tmp_path / 'shop'}", "--out", run, *more, *stage
        ) in (0, 2)
        user = tiny_town.users.values[1]
        shown = cli.document("recommend", run, "--user", user, "-k", 2, "--explain")
        assert all(row["explanation"].endswith(".") and row["claims"] for row in shown["items"])
        kind = {"beat": "words", "popularity": "popularity"}[name]
        assert [row["because"]["kind"] for row in shown["items"]] == [kind] * 2
        why = cli.document("explain", run, "--user", user, "--item", shown["items"][0]["item_id"])
        assert why["text"] == shown["items"][0]["explanation"]
    assert "no words of people" in cli.refusal("recommend", run, "--user", user, "--without", "<u.macro_1>")


def test_rules_of_a_shop_from_options_and_files(
    cli: Any, tiny_run: Path, tiny_town: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    user = tiny_town.users.values[1]
    best = [row["item_id"] for row in cli.document("recommend", tiny_run, "--user", user, "-k", 4)["items"]]
    (tmp_path / "gone.csv").write_text(f"item_id\n{best[0]}\n{best[1]}\n")
    (tmp_path / "push.csv").write_text(f"item_id,boost\n{best[3]},100\n")
    given = ["--exclude", f"{best[0]},{best[1]}"], ["--exclude", best[0], "--exclude", best[1]]
    for options in (*given, ["--exclude", tmp_path / "gone.csv"]):
        found = cli.document("recommend", tiny_run, "--user", user, "-k", 2, *options)["items"]
        assert [row["item_id"] for row in found] == best[2:]
    rules = ["--only", ",".join(best[1:]), "--boost", tmp_path / "push.csv"]
    found = cli.document("recommend", tiny_run, "--user", user, *rules)["items"]
    assert [row["item_id"] for row in found] == [best[3], best[1], best[2]]
    assert [row["boost"] for row in found] == [100.0, 0.0, 0.0]
    assert cli.call("recommend", tiny_run, "--user", user, *rules) == 0
    assert "(+100 boost)" in capsys.readouterr().out


def test_rules_that_cannot_be(cli: Any, tiny_run: Path, tiny_town: Dataset, tmp_path: Path) -> None:
    (tmp_path / "gone.csv").write_text(f"item_id\n{tiny_town.items.values[0]}\nno-such-thing\n")
    asked = ["recommend", tiny_run, "--user", tiny_town.users.values[1]]
    told = cli.refusal(*asked, "--exclude", tmp_path / "gone.csv")
    assert "gone.csv: row 2: unknown item id 'no-such-thing'; " in told
    for name in ("absent.csv", "absent.csv.gz"):
        assert f"{name}: no such file" in cli.refusal(*asked, "--only", tmp_path / name)
    assert "leave no item to list" in cli.refusal(*asked, "--exclude", ",".join(tiny_town.items.values))
    assert "--user and --all" in cli.refusal(*asked, "--all", "--out", tmp_path / "all.csv")
    assert "name the file" in cli.refusal("recommend", tiny_run, "--all")
    changed = ["--without", "<u.macro_1>", "--out", tmp_path / "all.csv"]
    assert "--without and --swap are about one person" in cli.refusal(
        "recommend", tiny_run, "--all", *changed
    )
    assert list(tmp_path.iterdir()) == [tmp_path / "gone.csv"]


def test_everybody_into_a_file(cli: Any, tiny_run: Path, tiny_town: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "all.jsonl"
    told = cli.document("recommend", tiny_run, "--all", "--out", out, "-k", 2)
    rows = pl.read_ndjson(out)
    assert told == {"out": str(out), "users": rows["user_id"].n_unique()}
    user = tiny_town.users.values[1]
    alone = cli.document("recommend", tiny_run, "--user", user, "-k", 2)["items"]
    assert rows.filter(user_id=user)["item_id"].to_list() == [row["item_id"] for row in alone]


def test_a_terminal_is_told_once(
    cli: Any,
    tiny_run: Path,
    tiny_town: Dataset,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pair = "--user", tiny_town.users.values[0], "--item", tiny_town.items.values[0]
    text = cli.document("explain", tiny_run, *pair)["text"]
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("forwhy.explain.base.Explainer._write", lambda *_: pytest.fail("written again"))
    assert cli.call("explain", tiny_run, *pair, "--contributions") == 0
    shown = capsys.readouterr().out
    assert " ".join(shown.split()).count(" ".join(plain(text).split())) == 1
    assert "nats" in shown


def test_options_of_a_cluster_are_refused_where_nothing_would_read_them(cli: Any, tiny_run: Path) -> None:
    for command, many in (("recommend", "--all"), ("explain", "--pairs")):
        one = command, tiny_run, "--user", "u", *(["--item", "i"] if command == "explain" else [])
        assert f"add {many} and --out" in cli.refusal(*one, "--engine", "ray")
        assert "--address: of a cluster; add --engine ray" in cli.refusal(*one, "--address", "here:6379")
        assert "--workers: of a cluster" in cli.refusal(*one, "--workers", 2)
