"""Stage 1 on the little town: it finds what is hidden there, obeys the artifact laws, and resumes."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import forwhy
from forwhy.columns import SIDES
from forwhy.data.dataset import Dataset, make_dataset
from forwhy.data.sample import town_truth
from forwhy.errors import UserError
from forwhy.evaluate.ranking import rank_all
from forwhy.graph.bipartite import Bipartite, hits_and_recall
from forwhy.recommend.behaviour import BehaviourRecommender
from forwhy.text.encoder import HashEncoder, text_encoder
from forwhy.vocabulary.options import TokenizerConfig
from forwhy.vocabulary.tokenizer import BehaviourTokenizer
from forwhy.vocabulary.vocabulary import BOOKS, Vocabulary

Learn = Callable[..., Vocabulary]


def recall(vocabulary: Vocabulary, town: Dataset) -> float:
    q = {side: vocabulary.representation(side) for side in ("user", "item")}
    return rank_all(q["user"], q["item"], vocabulary.seen, town.edges("test")).mean()["recall@20"]


def test_quantised_words_find_the_towns_visits(vocabulary: Vocabulary, town: Dataset) -> None:
    degrees = np.bincount(vocabulary.seen[:, 1], minlength=len(town.items)).astype(np.float32)
    popular = rank_all(
        np.ones((len(town.users), 1), np.float32), degrees[:, None], vocabulary.seen, town.edges("test")
    )
    assert recall(vocabulary, town) > 2 * popular.mean()["recall@20"]


def test_every_book_is_used(vocabulary: Vocabulary) -> None:
    health = vocabulary.health()
    assert set(health) == set(BOOKS)
    assert all(book["perplexity"] > 14 for book in health.values())
    assert all(book["used"] > 24 for book in health.values())


def test_people_of_one_quarter_share_words(vocabulary: Vocabulary, town: Dataset) -> None:
    truth = town_truth(town)
    quarters = truth.users["quarter"]
    macro = vocabulary.codes["user"][:, 0]
    same_word = macro[:, None] == macro[None, :]
    same_quarter = quarters[:, None] == quarters[None, :]
    off = ~np.eye(len(macro), dtype=bool)
    assert same_quarter[same_word & off].mean() > 1.5 * same_quarter[off].mean()


def test_text_reached_the_macro_words(vocabulary: Vocabulary, town: Dataset) -> None:
    pairs = town.pairs("test")
    fused = vocabulary.fused_text(pairs.users, pairs.items)
    texts = text_encoder("hash").encode(pairs.texts)
    scores = fused @ texts.T
    ranks = (scores >= scores.diagonal()[:, None]).sum(1)
    assert ranks.mean() < 0.42 * len(pairs)  # chance: half


def test_what_was_cut_from_the_graph_is_still_not_new(learn: Learn, town: Dataset, tmp_path: Path) -> None:
    cut = town.edges("train")[:3]
    leaked = pl.DataFrame(
        {
            "user_id": [town.users.values[user] for user in cut[:, 0]],
            "item_id": [town.items.values[item] for item in cut[:, 1]],
            "text": ["They would enjoy it."] * 3,
            "split": ["test"] * 3,
        }
    )
    rows = town.tables["explanations"].join(leaked, on=["user_id", "item_id"], how="anti")
    tables = {**town.tables, "explanations": pl.concat([rows.select(leaked.columns), leaked])}
    vocabulary = learn(tmp_path / "work", make_dataset("leaky", tables, {"importer": "test"}), epochs=0)
    assert len(vocabulary.catalogue.taken) == len(vocabulary.seen) + 3
    users = [town.users.values[user] for user in dict.fromkeys(cut[:, 0].tolist())]
    listed = BehaviourRecommender(vocabulary).recommend(users, k=len(town.items))
    assert listed.join(leaked, on=["user_id", "item_id"], how="inner").is_empty()


def test_the_same_seed_gives_the_same_words(learn: Learn, vocabulary: Vocabulary, tmp_path: Path) -> None:
    again = learn(tmp_path)
    assert (again.codes["user"] == vocabulary.codes["user"]).all()
    assert all((again.codebooks[book] == vocabulary.codebooks[book]).all() for book in BOOKS)


@pytest.mark.parametrize("changed", ["options", "phrases", "encoder"])
def test_a_folder_of_other_options_phrases_or_encoder_is_not_continued(
    town: Dataset, tmp_path: Path, changed: str
) -> None:
    phrases = {side: town.phrases(side) for side in SIDES}
    options = {"codes": 8, "slot_dim": 4, "batch_size": 512, "epochs": 1, "device": "cpu"}
    options |= {
        "start": "xavier",
        "propagate": "every-step",
    }  # a spectral start could itself be the best state
    others = {side: {entity: said[::-1] for entity, said in phrases[side].items()} for side in SIDES}

    class Stranger(HashEncoder):
        """Reads words from the end."""

        def encode(self, texts: Sequence[str]) -> np.ndarray:
            return super().encode([text[::-1] for text in texts])

    stranger = Stranger()
    stranger.name = "stranger"

    def fit(folder: str, change: bool) -> Vocabulary:
        alpha = 0.9 if change and changed == "options" else 0.2
        said = others if change and changed == "phrases" else phrases
        encoder = stranger if change and changed == "encoder" else HashEncoder()
        tokenizer = BehaviourTokenizer(TokenizerConfig(**options, alpha=alpha))
        return tokenizer.fit(town, said, encoder, tmp_path / folder)

    first, second, fresh = fit("a", False), fit("a", True), fit("b", True)
    assert any((first.codebooks[book] != second.codebooks[book]).any() for book in BOOKS)
    assert all((second.codebooks[book] == fresh.codebooks[book]).all() for book in BOOKS)


def test_without_validation_the_last_epoch_is_kept(
    learn: Learn, town: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """HR@20 is then 0 at each look, so that the spectral start would stay the best."""
    visits = town.tables["interactions"].filter(pl.col("split") != "valid")
    blind = make_dataset(town.name, {**town.tables, "interactions": visits}, town.source)
    with caplog.at_level(logging.WARNING):
        last, start = learn(tmp_path / "a", blind), learn(tmp_path / "b", blind, epochs=0)
    assert "no validation interactions; the last of 2 epochs is kept" in caplog.text
    assert last.metrics["best_epoch"] == 2
    assert not {"hr@20", "recall@20"} & last.metrics.keys()
    assert any((last.codebooks[book] != start.codebooks[book]).any() for book in BOOKS)


@pytest.mark.parametrize("option", [{"macro": False}, {"micro": False}])
def test_ablations_drop_their_words(learn: Learn, tmp_path: Path, option: dict[str, bool]) -> None:
    vocabulary = learn(tmp_path, epochs=1, **option)
    kinds = {book.split("_")[1] for book in vocabulary.codebooks}
    assert kinds == ({"micro"} if "macro" in option else {"macro"})
    assert vocabulary.codes["user"].shape[1] == (5 if "macro" in option else 1)


@pytest.mark.parametrize("preset", ["paper", "official"])
def test_published_presets_learn(learn: Learn, town: Dataset, tmp_path: Path, preset: str) -> None:
    options = {"preset": preset, "slot_dim": 8, "code_dim": 64, "learning_rate": 1e-2}
    start = learn(tmp_path / "start", epochs=0, **options)
    learnt = learn(tmp_path / "learnt", epochs=30, patience=0, **options)
    assert recall(learnt, town) > 1.3 * recall(start, town)


def test_no_text_of_held_out_pairs_enters(
    learn: Learn, town: Dataset, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    """With every held-out explanation replaced by a canary the words stay the same to the byte."""
    canary = pl.when(pl.col("split") == "train").then(pl.col("text")).otherwise(pl.lit("CANARY"))
    tables = {**town.tables, "explanations": town.tables["explanations"].with_columns(canary.alias("text"))}
    blind = make_dataset(town.name, tables, town.source)
    other = learn(tmp_path, dataset=blind)
    assert (other.codes["item"] == vocabulary.codes["item"]).all()
    assert other.words.equals(vocabulary.words)


def test_early_stopping_ranks_as_the_evaluator(vocabulary: Vocabulary, town: Dataset) -> None:
    q = {side: vocabulary.representation(side) for side in ("user", "item")}
    rng = np.random.default_rng(0)  # no ties, which the two count differently
    q = {side: part + rng.standard_normal(part.shape).astype(np.float32) * 1e-4 for side, part in q.items()}
    graph = Bipartite(vocabulary.seen, len(town.users), len(town.items))
    hit, found = hits_and_recall(q["user"], q["item"], graph, town.edges("test"), 20)
    expected = rank_all(q["user"], q["item"], vocabulary.seen, town.edges("test")).mean()
    np.testing.assert_allclose([hit, found], [expected["hr@20"], expected["recall@20"]], atol=1e-6)


def test_options_that_contradict_are_refused() -> None:
    with pytest.raises(UserError, match="no word would be left"):
        TokenizerConfig(macro=False, micro=False)
    with pytest.raises(UserError, match="every-step"):
        TokenizerConfig(start="xavier")
    with pytest.raises(UserError, match='"full" needs start = "xavier" and a code_dim'):
        TokenizerConfig(macro_source="full")
    with pytest.raises(UserError, match="did you mean 'codes'"):
        TokenizerConfig(codez=3)


def test_a_given_option_wins_over_its_preset() -> None:
    assert TokenizerConfig(preset="paper").batch_size == 1024
    assert TokenizerConfig(preset="paper", batch_size=7).batch_size == 7
    assert TokenizerConfig(preset="official").temperature == 0.2


def test_the_old_spelling_names_the_new_one() -> None:
    with pytest.raises(AttributeError, match="forwhy.BehaviourTokenizer"):
        forwhy.BehaviorTokenizer  # noqa: B018
