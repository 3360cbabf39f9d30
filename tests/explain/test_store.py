"""A saved explainer loads alone, equals what was saved, and refuses what it is not for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from forwhy.data.dataset import Dataset
from forwhy.errors import UserError
from forwhy.explain import store
from forwhy.explain.assembly import load_backbone
from forwhy.explain.beat import BeatExplainer


@pytest.fixture
def saved(explainer: BeatExplainer, tmp_path: Path) -> Path:
    explainer.save_pretrained(tmp_path / "explainer")
    return tmp_path / "explainer"


def test_saved_and_loaded_are_equal(explainer: BeatExplainer, town: Dataset, saved: Path) -> None:
    loaded = BeatExplainer.from_pretrained(saved)
    pairs = town.pairs("test")
    assert loaded.nll(pairs).sum.tolist() == explainer.nll(pairs).sum.tolist()
    assert loaded.explain((0, 1)) == explainer.explain((0, 1))
    assert loaded.starts == explainer.starts
    assert loaded.config.model_dump(exclude={"revision"}) == explainer.config.model_dump(exclude={"revision"})


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
    half = load_backbone(explainer.config.model_copy(update={"precision": "bf16"}))
    assert store.base_model(half) == store.base_model(explainer.reader.backbone)


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
