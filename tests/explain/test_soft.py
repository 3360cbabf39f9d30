"""Explainers that are trained: the same again from the same, nothing from another checkpoint, whole folders only."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.numpy import load_file

from forwhy.data.dataset import Dataset
from forwhy.errors import UserError
from forwhy.explain.beat import BeatExplainer
from forwhy.explain.codes import BeatWordsExplainer
from forwhy.explain.evidence import Subject
from forwhy.explain.options import BeatConfig
from forwhy.explain.xrec import XRecExplainer
from forwhy.vocabulary.vocabulary import Vocabulary

Configs = Callable[..., BeatConfig]


CHANGES: list[dict[str, Any]] = [
    {},
    {"lr": 2e-2},
    {"weight_decay": 0.5},
    {"sar": {"gamma": 1.0}},
    {"projector": {"alpha": 2.0}},
    {"prompt": {"instruction": "Say why.", "task_tokens": 3, "title": True}},
    {"prompt": {"instruction": "Say it.", "task_tokens": 3}},
    {"prompt": {"instruction": "Say why.", "task_tokens": 3, "profiles": True}},
]


@pytest.fixture
def begun(
    profiled: Dataset, vocabulary: Vocabulary, make_config: Configs, tmp_path: Path
) -> Callable[..., dict[str, torch.Tensor]]:
    """The state that `fit` ends in, in a folder where the plain options were fitted before, or in another."""

    def fit(folder: str, words: Vocabulary = vocabulary, **options: object) -> dict[str, torch.Tensor]:
        chosen = make_config(**{"epochs": 1, "train_pairs": 16, "validation_pairs": 4, **options})
        made = BeatExplainer(chosen).fit(profiled, words, tmp_path / folder)
        assert made.result is not None
        return {**made.reader.bridge.state_dict(), "nll": torch.tensor(made.result.best_metrics["nll"])}

    fit("begun")
    return fit


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("change", CHANGES)
def test_a_checkpoint_of_other_options_is_not_taken(
    begun: Callable[..., dict[str, torch.Tensor]], change: dict[str, Any]
) -> None:
    assert same(begun("begun", **change), begun("new", **change))
    assert same(begun("new", **change), begun("new")) == (not change)


@pytest.mark.parametrize("part", ["codes", "codebooks", "words"])
def test_a_checkpoint_of_another_vocabulary_is_not_taken(
    begun: Callable[..., dict[str, torch.Tensor]], vocabulary: Vocabulary, part: str
) -> None:
    other = {
        "codes": {side: np.roll(codes, 1, axis=1) for side, codes in vocabulary.codes.items()},
        "codebooks": {name: book * [-1, *[1] * 9] for name, book in vocabulary.codebooks.items()},
        "words": vocabulary.words.with_columns(pl.col("keywords").reverse().over("book")),
    }
    changed = replace(vocabulary, **{part: other[part]})
    assert same(begun("begun", changed), begun("new", changed))
    assert not same(begun("new", changed), begun("plain"))


def test_same_seed_same_bytes_and_another_seed_others(begun: Callable[..., dict[str, torch.Tensor]]) -> None:
    first = begun("a")
    assert same(first, begun("b"))
    assert not torch.equal(first["task_TD"], begun("c", seed=1)["task_TD"])


def test_a_finished_training_is_not_repeated_for_other_decoding(
    begun: Callable[..., dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    before = (tmp_path / "begun" / "checkpoint.safetensors").stat().st_mtime_ns
    begun("begun", generation={"max_words": 5}, checkpoint_seconds=3.0)
    assert (tmp_path / "begun" / "checkpoint.safetensors").stat().st_mtime_ns == before


@pytest.fixture
def saved(explainer: BeatExplainer, tmp_path: Path) -> Path:
    explainer.save_pretrained(tmp_path / "explainer")
    return tmp_path / "explainer"


def test_the_folder_tells_what_it_is_and_holds_no_weights_of_the_model(
    explainer: BeatExplainer, saved: Path, model: Path
) -> None:
    config = json.loads((saved / "config.json").read_text())["config"]
    assert config["base_model"]["id"] == str(model)
    assert set(config["base_model"]) == {"id", "revision", "tokenizer", "embeddings", "width"}
    assert config["start_words"]["user_macro"][0] == "coffee"
    assert config["metrics"]["nll"] > 0
    assert (saved / "vocabulary" / "config.json").is_file()
    assert "Weights of the base model are not included" in (saved / "README.md").read_text()
    trained = {f"bridge.{name}" for name, _ in explainer.reader.bridge.named_parameters()}
    starts = {f"start.{book}" for book in explainer.starts}
    assert set(load_file(saved / "model.safetensors")) == trained | starts


def test_another_base_model_is_refused_naming_both(saved: Path, model: Path, other_model: Path) -> None:
    with pytest.raises(UserError) as refused:
        BeatExplainer.from_pretrained(saved, model=str(other_model))
    assert str(model) in str(refused.value)
    assert str(other_model) in str(refused.value)


def test_the_same_model_elsewhere_and_in_half_precision_is_taken(
    explainer: BeatExplainer, saved: Path, model: Path, tmp_path: Path
) -> None:
    moved = shutil.copytree(model, tmp_path / "moved")
    loaded = BeatExplainer.from_pretrained(saved, model=str(moved))
    assert loaded.explain((0, 1)).text == explainer.explain((0, 1)).text
    half = BeatExplainer(explainer.config.model_copy(update={"precision": "bf16"}))._backbone()
    assert half.identity() == explainer.reader.backbone.identity()


def test_another_seeds_model_is_refused(saved: Path, same_shape_model: Path) -> None:
    with pytest.raises(UserError, match="trained with base model"):
        BeatExplainer.from_pretrained(saved, model=str(same_shape_model))


def test_a_truncated_altered_or_foreign_folder_is_refused(saved: Path) -> None:
    weights = saved / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-10])
    with pytest.raises(UserError, match=r"model\.safetensors: truncated"):
        BeatExplainer.from_pretrained(saved)
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UserError, match=r"model\.safetensors: altered"):
        BeatExplainer.from_pretrained(saved)
    with pytest.raises(UserError, match="vocabulary"):
        BeatExplainer.from_pretrained(saved / "vocabulary")


# --- what is looked at


@pytest.mark.parametrize("order", ["user-item", "item-user"])
def test_what_is_looked_at_is_counted_once(
    explainer: BeatExplainer, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each token's column is its own place's, a word's row the mean of its pieces, the rest all else."""
    prompt = explainer.reader.prompt
    monkeypatch.setattr(prompt, "config", prompt.config.model_copy(update={"title": True, "order": order}))
    sides = dict(sorted(prompt._labels.items(), reverse=order == "user-item"))
    monkeypatch.setattr(prompt, "_labels", sides)
    text, told = "The quiet terrace, caf\u00e9 and cake.", explainer.explain((0, 1), contributions=True)
    monkeypatch.setattr(explainer, "_write", lambda subjects: [text] * len(subjects))
    view = explainer.attention((0, 1))
    assert (view.user, view.item, view.words, view.others) == (0, 1, text.split(), ["title", "rest"])
    assert [token.token for token in view.tokens] == [token.token for token in told.tokens]
    assert None not in [token.contribution for token in view.tokens]
    np.testing.assert_allclose(np.sum(view.shares, axis=1), 1, atol=1e-6)
    assert np.min(view.shares) > 0
    row = explainer._row(Subject(0, 1, "Place 1", text=text))
    shares, soft = explainer.reader.attention(row)
    pieces = [len(prompt.decode(row.target[: end + 1]).split()) - 1 for end in range(len(row.target) - 1)]
    assert len(pieces) > len(view.words), "some word has several pieces"
    user = soft[:6] if order == "user-item" else soft[6:]
    for word in range(len(view.words)):
        of_word = shares[:-1][np.array(pieces) == word].mean(axis=0)
        np.testing.assert_allclose(view.shares[word][:6], of_word[user], atol=1e-6)
        layout = prompt.layout(row)
        start = shares.shape[1] - len(row.target) + 1 - len(layout)
        title = start + len(layout) - len(prompt.tail_ids) - len(row.shown)
        assert view.shares[word][12] == pytest.approx(of_word[title : title + len(row.shown)].sum(), abs=1e-6)


def test_vectors_are_looked_at_too(xrec: XRecExplainer) -> None:
    view = xrec.attention((0, 1))
    assert [token.token for token in view.tokens] == ["<u.vector>", "<i.vector>"]
    assert view.others[-1] == "rest"
    np.testing.assert_allclose(np.sum(view.shares, axis=1), 1, atol=1e-6)


def test_who_looks_at_no_token_says_so(
    explainer: BeatExplainer, spoken: BeatWordsExplainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="it has no tokens to look at; ask a run of beat"):
        spoken.attention((0, 1))
    monkeypatch.setattr(explainer, "_write", lambda subjects: [""] * len(subjects))
    with pytest.raises(UserError, match="user 0, item 1: the model writes nothing"):
        explainer.attention((0, 1))
