"""What systems that explain share: a text is kept with the statements that are shown beside it."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest

import forwhy
from forwhy.data.dataset import Dataset, Pairs, make_dataset
from forwhy.errors import UserError
from forwhy.explain.evidence import Evidence, Explanation, StatementEvidence
from forwhy.recipe import RunFolder, load_recipe, run
from forwhy.systems import explaining
from forwhy.text.encoder import HashEncoder


class Quoting:
    """Says what is known of a pair, or the same without showing it."""

    def __init__(self, shows: bool) -> None:
        self.shows = shows

    def explain(self, pairs: Pairs) -> list[Explanation]:
        found = []
        for item, text in zip(pairs.items.tolist(), pairs.texts, strict=True):
            known = StatementEvidence("i1", "item", text, "review", item, 1.0)
            found.append(Explanation(text, [], Evidence(statements=[known] * self.shows)))
        return found


@pytest.mark.parametrize("shows", [True, False])
def test_evidence_stands_beside_its_text_and_is_judged(tiny_town: Dataset, shows: bool) -> None:
    pairs = tiny_town.pairs("test")
    outputs = explaining._written(tiny_town, Quoting(shows), pairs)  # type: ignore[arg-type]
    assert outputs.evidence == ([[text] for text in outputs.predictions] if shows else None)
    matched = explaining.match("this run", outputs, tiny_town)
    table = explaining._grounded(matched, tiny_town, HashEncoder(), 0)
    assert table is not None
    document = table.document()
    assert document["supported"] == (1.0 if shows else None)
    if shows:
        assert document["controls"]["dealt"]["supported"] < 1


@pytest.mark.parametrize("system", ["beat", "because"])
def test_a_data_set_that_holds_nothing_out_is_learned_to_the_end_and_not_measured(
    system: str, tiny_recipe: Path, tiny_town: Dataset, tmp_path: Path
) -> None:
    """As `--split none` imports it for live use."""
    tables = {
        name: frame.with_columns(split=pl.lit("train")) if "split" in frame.columns else frame
        for name, frame in tiny_town.tables.items()
    }
    make_dataset("live", tables, duplicates="keep").save(tmp_path / "live")
    run(load_recipe(tiny_recipe, [f"data.path={tmp_path / 'live'}", f"system={system}"]), tmp_path / "run")
    document = RunFolder(tmp_path / "run").evaluation()
    assert (document["ranking"], document["text"]) == (None, None)
    opened = forwhy.open(tmp_path / "run")
    user = opened.recommender.served()[0]
    assert opened.recommend(user, k=2, explain=True)["explanation"].str.len_chars().min() > 0


@pytest.mark.parametrize(
    ("system", "options"),
    [
        ("pepler", {"tuned": "adapter"}),
        ("graphgpt", {"matching": 4, "neighbours": 2}),
        ("graphgpt", {"tokens": "behaviour", "matching": 4}),
        ("tea-glm", {"tokens": "behaviour", "alignment": 3, "components": 8}),
        ("time-llm", {"prototypes": 8, "words": 64}),
    ],
)
def test_a_whole_run_of_what_is_compared_with_beat(
    system: str, options: dict[str, object], tiny_recipe: Path, tmp_path: Path
) -> None:
    """Stages as its options ask for, an evaluation with gain, and both answers of an open run."""
    sections = {f"explainer.{name}": value for name, value in options.items()}
    words = options.get("tokens") == "behaviour"
    text = tiny_recipe.read_text()
    if system == "pepler":  # it has no vocabulary
        text = re.sub(r"\[vocabulary\][^\[]*", "", text)
    (tmp_path / "own.toml").write_text(text)
    changes = [f"system={system}", *(f"{name}={value}" for name, value in sections.items())]
    run(load_recipe(tmp_path / "own.toml", changes), tmp_path / "run")
    assert (tmp_path / "run" / "vocabulary").is_dir() == words
    assert (tmp_path / "run" / "collaborative").is_dir() != words
    document = RunFolder(tmp_path / "run").evaluation()
    assert document["ranking"] is not None
    assert {"user", "item", "both"} <= document["information_gain"].keys()
    assert (document["health"] is not None) == words
    opened = forwhy.open(tmp_path / "run")
    user = opened.recommender.served()[0]
    assert opened.recommend(user, k=2, explain=True)["explanation"].str.len_chars().min() > 0
    if not words:
        folder = RunFolder(tmp_path / "run")
        with pytest.raises(UserError, match="has no behaviour vocabulary; use a run of beat"):
            folder.recipe.load_vocabulary(folder)
