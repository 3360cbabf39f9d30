"""Protocols in whole runs: nothing removed is read, and the evaluation says what was done."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from rich.console import Console

from forwhy.bridge.prompt import Prompt
from forwhy.data.dataset import Dataset, make_dataset
from forwhy.data.intents import IntentsConfig, entity_phrases
from forwhy.data.sample import little_town
from forwhy.evaluate.document import protocol_in_words
from forwhy.recipe import RunFolder, load_recipe, run
from forwhy.report import render
from forwhy.systems import beat
from forwhy.text import encoder
from forwhy.text.encoder import HashEncoder
from forwhy.text.statements import KnownStatements

MARK = "zyzzyva"
SHARES = ["data.protocol=zero-shot", "data.zero_shot_users=0.5", "data.zero_shot_items=0.3"]


@pytest.fixture(scope="module")
def town() -> Dataset:
    """A town with profiles, so that every table with text is there."""
    plain = little_town(users=60, items=40, visits=8, explanations=(80, 20, 24))
    profiles = [
        ("user", str(value), "This person enjoys quiet tea and old books.") for value in plain.users.values
    ] + [("item", str(value), "The place offers jazz and cheap beer.") for value in plain.items.values]
    table = pl.DataFrame(profiles, schema=["side", "entity_id", "text"], orient="row")
    return make_dataset("town", {**plain.tables, "profiles": table}, plain.source)


def leading_to(town: Dataset, folder: Path) -> list[str]:
    """Overrides with which the tiny recipe runs on a town, saved there."""
    town.save(folder / "town")
    return [f"data.path={folder / 'town'}", "evaluation.generate=12", "evaluation.pairs=12"]


def drawn_ids(recipe: Path, settings: Sequence[str], folder: Path) -> dict[str, set[object]]:
    """By side, whom the protocol draws: the test pairs when only that side is drawn from."""
    found = {}
    for side, other in (("user", "item"), ("item", "user")):
        only = load_recipe(recipe, [*settings, *SHARES, f"data.zero_shot_{other}s=0"])
        home = RunFolder(folder / side)
        home.start(only)
        pairs = home.dataset().pairs("test")
        found[side] = {pair[side == "item"] for pair in home.dataset().external(pairs)}
    return found


def planted(town: Dataset, drawn: dict[str, set[object]]) -> Dataset:
    """The town with a marker in every text that the protocol removes, and nowhere else."""
    of_pair = pl.col("user_id").is_in(list(drawn["user"])) | pl.col("item_id").is_in(list(drawn["item"]))
    of_entity = pl.any_horizontal(
        (pl.col("side") == side) & pl.col("entity_id").is_in(list(ids)) for side, ids in drawn.items()
    )
    goes = {
        "explanations": of_pair & (pl.col("split") != "test"),
        "reviews": of_pair,
        "profiles": of_entity,
        "intents": of_entity,
    }
    tables = dict(town.tables)
    for name, chosen in goes.items():
        column = "phrase" if name == "intents" else "text"
        marked = pl.when(chosen).then(pl.concat_str(pl.lit(f"{MARK} "), column)).otherwise(column)
        tables[name] = tables[name].with_columns(marked.alias(column))
    return make_dataset(town.name, tables, town.source)


class Listener(HashEncoder):
    """An encoder that remembers what it was given."""

    def __init__(self, heard: list[str]) -> None:
        super().__init__()
        self._heard = heard

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self._heard.extend(texts)
        return super().encode(texts)


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text that a stage encodes or shows to the language model."""
    texts: list[str] = []
    row = Prompt.row

    def listening(
        self: Prompt,
        user: object,
        item: object,
        title: str = "",
        text: str | None = None,
        profiles: Mapping[str, str] | None = None,
    ) -> object:
        texts.extend([title, text or "", *(profiles or {}).values()])
        return row(self, user, item, title, text, profiles)

    for module in (beat, encoder):
        monkeypatch.setattr(module, "text_encoder", lambda name: Listener(texts))
    monkeypatch.setattr(Prompt, "row", listening)
    return texts


@pytest.mark.parametrize("source", ["intents", "profiles"])
def test_removed_text_is_read_nowhere(
    tiny_recipe: Path,
    town: Dataset,
    heard: list[str],
    tmp_path: Path,
    source: Literal["intents", "profiles"],
) -> None:
    settings = leading_to(town, tmp_path)
    reading = [f"intents.source={source}", "intents.heldout_people=true"]
    marked = planted(town, drawn_ids(tiny_recipe, settings, tmp_path))
    marked.save(tmp_path / "town")

    run(load_recipe(tiny_recipe, [*settings, *reading, *SHARES]), tmp_path / "run")
    folder = RunFolder.open(tmp_path / "run")
    assert len(heard) > 200
    assert not [text for text in heard if MARK in text]
    words = folder.vocabulary().words
    assert MARK not in str(words.select("gloss", "keywords").to_dicts())
    assert MARK not in (tmp_path / "run" / "evaluation.json").read_text()

    seen = folder.dataset()
    config = IntentsConfig(source=source, heldout_people=True)
    known = KnownStatements.read(seen, config)
    told = known.table["text"].to_list()
    told += [
        phrase
        for side in ("user", "item")
        for it in entity_phrases(seen, side, config).values()
        for phrase in it
    ]
    told += [*seen.training_reviews().texts, *seen.pairs("train").texts, *seen.pairs("valid").texts]
    assert told
    assert not [text for text in told if MARK in text]

    heard.clear()
    run(load_recipe(tiny_recipe, [*settings, *reading]), tmp_path / "free", until="explainer")
    assert [text for text in heard if MARK in text], "the marker was planted where nobody reads"


@pytest.fixture(scope="module")
def finished(tiny_recipe: Path, town: Dataset, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("finished")
    run(load_recipe(tiny_recipe, [*leading_to(town, folder), *SHARES]), folder / "run")
    return RunFolder.open(folder / "run")


def test_a_zero_shot_run_is_tested_on_the_drawn_and_beside_them_on_the_warm(
    finished: RunFolder, town: Dataset
) -> None:
    document, seen = finished.evaluation(), finished.dataset()
    record = document["protocol"]["zero_shot"]
    assert record == json.loads(json.dumps(seen.source["protocol"]))
    test = {
        pair: text
        for pair, text in zip(town.external(town.pairs("test")), town.pairs("test").texts, strict=True)
    }
    written, warm = finished.outputs(), finished.path / "outputs-warm.parquet"
    assert written is not None
    asked = pl.read_parquet(warm).select("user_id", "item_id").rows()
    of_drawn = set(seen.external(seen.pairs("test")))
    assert set(written.pairs) <= of_drawn
    assert set(asked) <= set(test) - of_drawn
    assert [test[pair] for pair in asked] == pl.read_parquet(warm)["reference"].to_list()
    assert document["groups"]["warm"]["pairs"] == len(asked) == min(12, record["warm_pairs"])
    sizes = [group["pairs"] for name, group in document["groups"].items() if name != "warm"]
    assert sum(sizes) == document["text"]["pairs"] == len(written)
    assert set(document["groups"]["warm"]) >= {"bleu1", "similarity", "distinct1", "intervals", "std"}


def test_the_terminal_shows_groups_and_protocol(finished: RunFolder) -> None:
    console = Console(record=True, width=160, file=StringIO())
    for part in render(finished.evaluation()):
        console.print(part)
    shown = " ".join(console.export_text().split())
    for piece in ("users' training texts", "unseen", "tst5", "warm", "- fewer than 5 pairs"):
        assert piece in shown
    for sentence in protocol_in_words(finished.evaluation()["protocol"]):
        assert sentence in shown


def test_a_run_from_before_protocols_had_names_goes_on(tiny_run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    new = (folder / "recipe.toml").read_text()
    lines = [line for line in new.splitlines() if not line.startswith("zero_shot_")]
    old = "\n".join(lines).replace('protocol = "leak-free"', 'graph = "leak-free"')
    assert old.count("graph = ") == 1
    (folder / "recipe.toml").write_text(old)
    home = RunFolder.open(folder)
    assert home.dataset().fingerprint == home.evaluation()["protocol"]["fingerprint"]
    assert [report.action for report in run(home.recipe, folder)] == ["skipped"] * 3
    assert (folder / "recipe.toml").read_text() == new


def test_documents_from_before_groups_are_shown(tiny_run: Path) -> None:
    document = RunFolder.open(tiny_run).evaluation()
    document["groups"] = {"all": {**document["text"], "pairs": 9, "users": 3, "training_texts": [1, 2]}}
    whole = render(document)
    del document["groups"]
    document["protocol"] = {"dataset": "x", "graph": "leak-free"}
    assert len(render(document)) == len(whole) - 1
