"""Networks with words of their own: the laws of training, saving and reading, whatever the network."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from forwhy.bridge.options import GenerationConfig
from forwhy.data.dataset import Dataset, Pairs, make_dataset
from forwhy.errors import UserError
from forwhy.evaluate.gain import measure_gain
from forwhy.explain.evidence import Subject
from forwhy.explain.worded import ANYONE, WordedExplainer
from forwhy.explain.words import EOS, PAD, UNK, WordBatch, WordRow
from forwhy.graph.lightgcn import learn_vectors
from forwhy.graph.representations import CollaborativeConfig, CollaborativeVectors
from forwhy.systems import find_system
from forwhy.testing import artifact_laws, forge
from small_words import worded

SYSTEMS = ["att2seq", "nrt", "peter", "peter-plus"]
Fitted = WordedExplainer[Any]


@pytest.fixture(params=SYSTEMS)
def fitted(request: pytest.FixtureRequest) -> Fitted:
    made: Fitted = request.getfixturevalue(request.param.replace("-", "_"))
    return made


def rows_of(fitted: Fitted, dataset: Dataset) -> list[WordRow]:
    return fitted._rows(fitted._scored(dataset.pairs("test")))


def test_saved_folders_are_whole_or_refused(fitted: Fitted, tmp_path: Path) -> None:
    artifact_laws(lambda: fitted, tmp_path)


def test_a_folder_with_other_words_is_refused(fitted: Fitted, tmp_path: Path) -> None:
    fitted.save_pretrained(tmp_path / "kept")
    words = pl.read_parquet(tmp_path / "kept" / "words.parquet")
    words.with_columns(pl.col("word").reverse(), pl.col("spelled").reverse()).write_parquet(
        tmp_path / "kept" / "words.parquet"
    )
    forge(tmp_path / "kept")
    with pytest.raises(UserError, match=r"words\.parquet is another vocabulary .*; fit it again"):
        type(fitted).from_pretrained(tmp_path / "kept")


def test_there_is_no_language_model_to_choose(fitted: Fitted, tmp_path: Path) -> None:
    fitted.save_pretrained(tmp_path / "kept")
    with pytest.raises(UserError, match="reads with no language model; load it without model = 'x'"):
        type(fitted).from_pretrained(tmp_path / "kept", model="x")
    assert "base model" not in (tmp_path / "kept" / "README.md").read_text()
    assert set(
        find_system(fitted.system).model_validate({"name": "x", "data": {"path": "x"}}).models(["explainer"])
    ) == {"encoder.name"}


def test_training_lowers_the_nll_of_validation_pairs(fitted: Fitted) -> None:
    assert fitted.result is not None
    values = [entry["valid"]["nll"] for entry in fitted.result.history]
    assert min(values) < values[0] - 0.1
    assert set(fitted.metrics) == {"nll", "gain"}


class Killed(BaseException):
    """As a kill, nothing of ours handles it."""


def state_of(made: Fitted) -> dict[str, torch.Tensor]:
    return {name: it.clone() for name, it in made.learning.state_dict().items()}


@pytest.mark.parametrize("system", SYSTEMS)
def test_killed_and_run_again_it_is_the_same_to_the_bit(
    system: str,
    rated: Dataset,
    vectors: CollaborativeVectors,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options: dict[str, Any] = {"checkpoint_seconds": 0.0, "dropout": 0.3, "anyone": 0.2}
    whole = worded(system, **options).fit(rated, vectors, tmp_path / "whole")
    loss, calls = type(whole)._loss, []

    def dying(self: Fitted, rows: list[WordRow]) -> Any:  # noqa: ANN401
        calls.append(rows)
        if len(calls) == 8:
            raise Killed
        return loss(self, rows)

    monkeypatch.setattr(type(whole), "_loss", dying)
    with pytest.raises(Killed):
        worded(system, **options).fit(rated, vectors, tmp_path / "killed")
    again = worded(system, **options).fit(rated, vectors, tmp_path / "killed")
    assert whole.result is not None
    assert len(calls) == whole.result.step + 1
    assert again.metrics == whole.metrics
    first, second = state_of(whole), state_of(again)
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = worded(system, **options, seed=1).fit(rated, vectors, tmp_path / "other")
    assert not all(torch.equal(first[name], it) for name, it in state_of(other).items())


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_checkpoint_of_another_vocabulary_is_not_taken(
    system: str,
    rated: Dataset,
    vectors: CollaborativeVectors,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    worded(system, epochs=1).fit(rated, vectors, tmp_path)
    texts = rated.table("explanations").with_columns(pl.col("text").str.replace("cake", "tart"))
    told = make_dataset("town", {**rated.tables, "explanations": texts}, rated.source)
    made = worded(system, epochs=1).fit(told, vectors, tmp_path)
    assert "of other options or data; training from the start" in caplog.text
    assert "tart" in made.words.table["word"]


def test_padding_and_other_pairs_change_no_nll(fitted: Fitted, town: Dataset) -> None:
    rows = rows_of(fitted, town)
    rows = [WordRow(it.user, it.item, it.target[: 3 + n % 9], it.shown) for n, it in enumerate(rows)]
    together, tokens = fitted.reader.nll(rows)
    alone = [fitted.reader.nll([row])[0][0] for row in rows]
    np.testing.assert_allclose(together, alone, rtol=1e-5)
    assert tokens.tolist() == [len(row.target) for row in rows]
    batch = fitted.reader.batch(rows[:2])
    wider = WordBatch(
        **{**vars(batch), "target_BT": torch.nn.functional.pad(batch.target_BT, (0, 5), value=PAD)}
    )
    with torch.no_grad():
        torch.testing.assert_close(fitted.learning.logits(wider), fitted.learning.logits(batch))


def test_the_nll_of_a_text_is_the_sum_over_its_words(fitted: Fitted, town: Dataset) -> None:
    """Also word by word, as it is written: what is kept between words is all that counts."""
    for row in rows_of(fitted, town)[:3]:
        whole = fitted.reader.nll([row])[0][0]
        added = [
            fitted.reader.nll([WordRow(row.user, row.item, row.target[:n], row.shown)])[0][0]
            for n in range(1, row.length)
        ]
        network, said = fitted.reader.network, 0.0
        with torch.no_grad():
            state, word = network.begin(fitted.reader.batch([row])), 1
            for position, following in enumerate(row.target):
                logits, state = network.step(torch.tensor([word]), state)
                said -= float(logits.log_softmax(-1)[0, following])
                word = following
                if position < len(added):
                    assert said == pytest.approx(added[position], rel=1e-4)
        assert said == pytest.approx(whole, rel=1e-4)


def test_a_long_text_is_cut_and_does_not_end_there(fitted: Fitted) -> None:
    made = worded(fitted.system, words=4)
    made._words, made._rows_of = fitted._words, fitted._rows_of
    made.profiles = fitted.profiles
    text = "The user would enjoy the zebra."
    row = made._row(Subject(0, 1, "", text=text))
    assert row.target == tuple(fitted.words.numbers(text)[:4])
    whole = made._row(Subject(0, 1, "", text="The user would zebra"))
    assert whole.target[-2:] == (UNK, EOS)


def test_cut_texts_and_missing_ratings_are_said(
    town: Dataset, vectors: CollaborativeVectors, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        made = worded("nrt", words=5, epochs=0).fit(town, vectors, tmp_path)
    assert "nrt: 100.0% of training texts are cut to 5 words" in caplog.text
    assert "nrt: data set 'town' has no ratings; their term is left out" in caplog.text
    assert not made.learning.rated


def test_nothing_that_is_no_word_is_written(fitted: Fitted) -> None:
    network = fitted.reader.network
    kept = {name: it.clone() for name, it in network.state_dict().items()}
    try:
        with torch.no_grad():
            network.out.bias[[PAD, UNK]] += 100.0
        assert "<" not in fitted.explain((0, 1)).text
    finally:
        network.load_state_dict(kept)


def test_who_has_no_explained_pair_is_anyone(fitted: Fitted, town: Dataset) -> None:
    told = town.pairs("train")
    told = told.select(np.flatnonzero(fitted.supported(told)))
    known = set(told.users.tolist())
    user = next(it for it in range(len(town.users)) if it not in known)
    assert fitted._row(Subject(user, 1, "")).user == ANYONE
    pairs = Pairs(np.array([user]), np.array([1]), ("The user would enjoy the cake.",))
    assert np.array_equal(fitted.nll(pairs).sum, fitted.nll(pairs, np.array([user]), pairs.items).sum)


def test_tokens_are_worth_what_the_text_loses_without_them(fitted: Fitted) -> None:
    found = fitted.explain((0, 1), contributions=True)
    row = fitted._row(Subject(0, 1, "", text=found.text))
    true, user, item = (
        fitted.reader.nll([it])[0][0]
        for it in (
            row,
            WordRow(ANYONE, row.item, row.target, row.shown),
            WordRow(row.user, ANYONE, row.target, row.shown),
        )
    )
    assert [token.contribution for token in found.tokens] == pytest.approx(
        [user - true, item - true], rel=1e-4
    )


# --- ratings, and what is read before writing


def test_ratings_are_brought_to_stars(nrt: Fitted, rated: Dataset) -> None:
    """From 0 to 8 in the data, of users with an even number."""
    assert nrt.learning.rated
    taken = rated.table("interactions").filter(pl.col("split") == "train")
    expected = {
        (user, item): 1 + (item % 5)
        for user, item in taken.select("user_id", "item_id").iter_rows()
        if user % 2 == 0
    }
    assert nrt._ratings == expected
    rows = nrt._rows(nrt._scored(rated.pairs("train")))
    found = {row.rating for row in rows if np.isfinite(row.rating)}
    assert found
    assert found <= {1.0, 2.0, 3.0, 4.0, 5.0}


def test_one_rating_for_all_says_nothing(
    rated: Dataset, vectors: CollaborativeVectors, tmp_path: Path
) -> None:
    taken = rated.table("interactions").with_columns(rating=pl.lit(5.0))
    same = make_dataset("town", {**rated.tables, "interactions": taken}, rated.source)
    assert not worded("peter", epochs=0).fit(same, vectors, tmp_path).learning.rated


def test_the_profile_of_the_item_is_read_else_the_users(peter_plus: Fitted, profiled: Dataset) -> None:
    def read(user: int, item: int) -> str:
        return peter_plus.words.text(peter_plus._row(Subject(user, item, "")).shown).lower()

    words, items, users = peter_plus.words, profiled.profiles("item"), profiled.profiles("user")
    known = [word for word in words.numbers(items[1]) if word != UNK][:4]
    assert known
    assert read(0, 1) == words.text(known).lower()
    kept = dict(peter_plus.profiles["item"])
    try:
        peter_plus.profiles["item"].clear()
        assert read(0, 1) == words.text([word for word in words.numbers(users[0]) if word != UNK][:4]).lower()
        assert read(3, 1) == "", "nothing is known of either"
        assert peter_plus.explain((3, 1)).text
    finally:
        peter_plus.profiles["item"].update(kept)


def test_the_sentence_counts(peter_plus: Fitted, rated: Dataset) -> None:
    rows = rows_of(peter_plus, rated)
    without = [replace(row, shown=()) for row in rows]
    assert not np.allclose(peter_plus.reader.nll(rows)[0], peter_plus.reader.nll(without)[0], rtol=1e-4)


def test_without_profiles_there_is_no_sentence(
    town: Dataset, vectors: CollaborativeVectors, tmp_path: Path
) -> None:
    with pytest.raises(
        UserError, match=r"'town' has no profiles, which system 'peter-plus' reads; set system = \"peter\""
    ) as no:
        worded("peter-plus").fit(town, vectors, tmp_path)
    assert "\n" not in str(no.value)


@pytest.mark.parametrize("kind", ["peter", "peter_plus"])
def test_what_it_looks_at_adds_to_one(kind: str, request: pytest.FixtureRequest) -> None:
    fitted: Fitted = request.getfixturevalue(kind)
    found = fitted.attention((0, 1))
    assert found.others == (["profiles", "rest"] if kind == "peter_plus" else ["rest"])
    assert [token.side for token in found.tokens] == ["user", "item"]
    assert len(found.words) == len(found.shares) > 1
    np.testing.assert_allclose(np.sum(found.shares, axis=1), 1.0, rtol=1e-5)
    assert np.min(found.shares) > 0
    assert {len(row) for row in found.shares} == {2 + len(found.others)}


@pytest.mark.parametrize("system", SYSTEMS)
def test_what_there_is_to_read_is_read(system: str, tmp_path: Path) -> None:
    """Each text says what a place has and a person wants: on new pairs both are worth more than .3 nats a word."""
    likes = ["coffee", "cake", "terrace", "staff", "wine", "jazz"]
    pairs = [(user, item) for user in range(24) for item in range(20)]
    texts = [f"Has {likes[i % 5]} for {likes[u % 6]} fans." for u, i in pairs]
    splits = [{0: "valid", 1: "test"}.get((user + 3 * item) % 8, "train") for user, item in pairs]
    told = {"user_id": [u for u, _ in pairs], "item_id": [i for _, i in pairs], "split": splits}
    profiles = {"side": ["item"] * 20, "entity_id": [str(i) for i in range(20)], "text": ["a place"] * 20}
    tables = {
        "interactions": pl.DataFrame(told),
        "explanations": pl.DataFrame({**told, "text": texts}),
        "profiles": pl.DataFrame(profiles),
    }
    town = make_dataset("pairs", tables, {"importer": "test"})
    known = learn_vectors(town, tmp_path / "known", CollaborativeConfig(epochs=0, dims=4))
    made = worded(system, epochs=20).fit(town, known, tmp_path)
    found: Any = measure_gain(made, town.pairs("test"))["information_gain"]
    assert min(found["user"], found["item"]) > 0.3


def test_options_of_writing_are_those_of_every_explainer(fitted: Fitted, town: Dataset) -> None:
    rows, reader = [replace(row, target=()) for row in rows_of(fitted, town)[:4]], fitted.reader
    longer = reader.write(rows, GenerationConfig(end_bias=-50.0, no_repeat=1))
    numbers = [reader.words.numbers(text) for text in longer]
    assert all(len(set(ids)) == len(ids) > 3 for ids in numbers), "no word twice"
    assert [
        len(reader.words.numbers(text)) for text in reader.write(rows, GenerationConfig(end_bias=50.0))
    ] == [1] * 4
    assert {
        len(text.split()) for text in reader.write(rows, GenerationConfig(end_bias=-50.0, max_new_tokens=3))
    } <= {2, 3}
    alone = [reader.write([row], GenerationConfig())[0] for row in rows]
    assert (
        reader.write(rows, GenerationConfig(batch_size=3))
        == reader.write(rows, GenerationConfig(batch_size=16))
        == alone
    )
