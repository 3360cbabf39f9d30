"""Text-first words: codes of whole texts, which nothing said of a pair can move."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from forwhy.columns import SIDES
from forwhy.data.dataset import Dataset, make_dataset
from forwhy.data.texts import entity_texts
from forwhy.errors import UserError
from forwhy.evaluate.ranking import rank_all
from forwhy.testing import artifact_laws
from forwhy.text.encoder import text_encoder
from forwhy.vocabulary.options import TokenizerConfig
from forwhy.vocabulary.texts import text_vectors
from forwhy.vocabulary.vocabulary import Vocabulary

Learn = Callable[..., Vocabulary]
TEXT_FIRST = {"text_first": 2, "micro_slots": 5, "slot_dim": 8}


@pytest.fixture(scope="session")
def textual(learn: Learn, tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    return learn(tmp_path_factory.mktemp("textual"), **TEXT_FIRST)


def test_the_first_slots_are_levels_of_text(textual: Vocabulary) -> None:
    assert textual.slots("item") == ["item_macro", "item_text2", "item_micro"]
    assert [name.rpartition("_")[0] for name in textual.token_names("user", 0)[:3]] == [
        "<u.macro", "<u.text2", "<u.micro"
    ]  # fmt: skip
    assert set(textual.health()) == {
        f"{side}_{kind}" for side in SIDES for kind in ("macro", "text2", "micro")
    }


def test_each_level_tells_more_of_the_text(textual: Vocabulary, town: Dataset) -> None:
    texts = entity_texts(town, "item")
    vectors = text_vectors(texts, len(town.items), text_encoder("hash")) - textual.text_means["item"]
    told, errors = np.zeros_like(vectors), [1.0]
    for slot, book in enumerate(textual.slots("item")[:2]):
        told = told + textual.codebooks[book][textual.codes["item"][:, slot]] @ textual.heads[book].T
        scale = (told * vectors).sum() / (told**2).sum()  # words have the directions of texts, at norm one
        errors.append(float(((vectors - scale * told) ** 2).sum() / (vectors**2).sum()))
    assert errors[0] > errors[1] + 0.2
    assert errors[1] > errors[2] + 0.05


@pytest.mark.parametrize("table", ["explanations", "reviews"])
def test_what_is_said_of_a_pair_moves_no_word(
    learn: Learn, town: Dataset, textual: Vocabulary, tmp_path: Path, table: str
) -> None:
    """Out of fold: with other explanations, or other reviews of the explained pairs, all codes stay as they are."""
    explained = town.tables["explanations"]
    others = explained.with_columns(text=pl.lit("Quite another thing ") + pl.col("item_id").cast(pl.String))
    other = others if table == "explanations" else others.select("user_id", "item_id", "text")
    changed = learn(tmp_path, dataset=make_dataset(town.name, {**town.tables, table: other}), **TEXT_FIRST)
    assert all((changed.codes[side] == textual.codes[side]).all() for side in SIDES)
    assert all((changed.codebooks[book] == textual.codebooks[book]).all() for book in textual.codebooks)
    assert changed.words.equals(textual.words)


def test_ranking_and_text_survive_together(
    textual: Vocabulary, vocabulary: Vocabulary, town: Dataset
) -> None:
    def recall(words: Vocabulary) -> float:
        q = {side: words.representation(side) for side in SIDES}
        return rank_all(q["user"], q["item"], words.seen, town.edges("test")).mean()["recall@20"]

    assert recall(textual) > 0.9 * recall(vocabulary)
    pairs = town.pairs("test")
    scores = textual.fused_text(pairs.users, pairs.items) @ text_encoder("hash").encode(pairs.texts).T
    assert (scores >= scores.diagonal()[:, None]).sum(1).mean() < 0.42 * len(pairs)  # chance: half


def test_a_history_has_text_words_too(textual: Vocabulary) -> None:
    agree, chance = [], []
    for user in range(60):
        folded = textual.codes_for_history(textual.seen[textual.seen[:, 0] == user, 1].tolist())
        agree.append(folded[:2] == textual.codes["user"][user, :2])
        chance.append(folded[:2] == textual.codes["user"][user + 60, :2])
    assert np.mean(agree) > 2 * np.mean(chance) + 0.05


def test_items_without_text_take_that_of_their_neighbours(
    learn: Learn, town: Dataset, tmp_path: Path
) -> None:
    items = town.tables["items"]
    texts = [column for column in items.columns if column != "item_id"]
    bare = items.with_columns(
        pl.when(pl.int_range(pl.len()) % 3 > 0).then(pl.col(column)).otherwise(pl.lit("")) for column in texts
    )
    tables = {**town.tables, "items": bare, "intents": town.tables["intents"].filter(side="user")}
    found = learn(tmp_path, dataset=make_dataset(town.name, tables), epochs=0, **TEXT_FIRST)
    silent = np.flatnonzero(bare.sort("item_id")[texts[0]].to_numpy() == "")
    assert len(np.unique(found.codes["item"][silent, 0])) > 8


def test_without_any_text_words_come_from_the_graph_alone(
    learn: Learn, town: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    silent = make_dataset("silent", {"interactions": town.tables["interactions"]})
    with caplog.at_level(logging.WARNING):
        found = learn(tmp_path, dataset=silent, epochs=1, **TEXT_FIRST)
    assert "no word is made from text" in caplog.text
    assert found.slots("item") == ["item_macro", *["item_micro"] * 5]


def test_the_artifact_obeys_the_laws(textual: Vocabulary, tmp_path: Path) -> None:
    artifact_laws(lambda: textual, tmp_path / "vocabulary")
    textual.save_pretrained(tmp_path / "kept")
    loaded = Vocabulary.from_pretrained(tmp_path / "kept")
    assert list(loaded.codebooks) == list(textual.codebooks)
    assert loaded.slots("user") == textual.slots("user")
    assert (loaded.text_means["item"] == textual.text_means["item"]).all()


@pytest.mark.parametrize(
    "options", [{"text_first": 6}, {"text_first": 1, "macro": False}, {"text_first": 1, "preset": "paper"}]
)
def test_what_text_first_cannot_go_with_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(UserError, match="text_first"):
        TokenizerConfig(**options)


def test_few_texts_are_enough(learn: Learn, town: Dataset, tmp_path: Path) -> None:
    """Fewer texts than axes and than words of a book."""
    titles = ["quiet tea house", "loud jazz bar", "book shop"]
    named = (
        town.tables["items"]
        .select("item_id")
        .sort("item_id")
        .with_columns(title=pl.Series(titles + [""] * (len(town.items) - len(titles))))
    )
    few = make_dataset("few", {"interactions": town.tables["interactions"], "items": named})
    found = learn(tmp_path, dataset=few, epochs=1, **TEXT_FIRST)
    assert len(np.unique(found.codes["item"][: len(titles), 0])) == len(titles)
    assert all(np.isfinite(book).all() for book in found.codebooks.values())


def test_few_interactions_get_few_coordinates() -> None:
    wide = TokenizerConfig(text_first=3, micro_slots=7)
    found = [wide.fitting(count) for count in (0, 4_500, 9_400, 17_000, 40_000, 10**7)]
    assert [(one.slots - 3, one.slot_dim) for one in found] == [
        (1, 2),
        (1, 9),
        (1, 16),
        (2, 16),
        (5, 16),
        (5, 16),
    ]
    assert wide.model_copy(update={"slot_dim": 1}).fitting(4_500).slot_dim == 1
