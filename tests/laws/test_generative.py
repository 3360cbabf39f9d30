"""The laws of recommenders that write codes: they learn, list items that exist, say the same once saved, resume."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from forwhy.data.dataset import Dataset
from forwhy.data.histories import Histories, Sequences
from forwhy.errors import UserError
from forwhy.evaluate.ranking import rank_lists
from forwhy.recommend.base import PopularityRecommender
from forwhy.recommend.generative import GenerativeRecommender, GenerativeTask
from forwhy.recommend.llmbs.recommender import LlmBsRecommender
from forwhy.recommend.llmbs.training import LlmBsTask
from forwhy.recommend.tiger import TigerRecommender, TigerTask
from forwhy.testing import artifact_laws, forge, recommender_laws
from forwhy.vocabulary.index import ItemIndex

from ..recommend.conftest import dataset, index_of, ring, tiny_llmbs, tiny_tiger, two_names

ITEMS = 12
TITLES = [
    f"{colour} {thing}" for colour in ("red", "blue", "green") for thing in ("balm", "comb", "soap", "oil")
]
CHAIN = dataset(ring(60, ITEMS, 7), TITLES)
VECTORS = {
    "semantic": np.random.default_rng(0).normal(size=(ITEMS, 5)),
    "behaviour": np.random.default_rng(1).normal(size=(ITEMS, 4)),
}


@dataclass(frozen=True)
class Kind:
    """One recommender, and the options under which it learns a chain or draws at random."""

    recommender: type[Any]
    task: type[GenerativeTask[Any]]
    tiny: Callable[..., Any]
    learns: dict[str, Any]
    draws: dict[str, Any]
    more: dict[str, Any] = field(default_factory=dict)
    names: Callable[[Dataset], ItemIndex] = index_of

    def fit(self, data: Dataset, folder: Path, index: ItemIndex | None = None, **changes: Any) -> Any:  # noqa: ANN401
        found = index or self.names(data)
        return self.recommender.fit(data, found, folder, self.tiny(**changes), **self.more)


KINDS = {
    "tiger": Kind(
        TigerRecommender, TigerTask, tiny_tiger,
        {"epochs": 30, "window": 2, "learning_rate": 5e-3, "evaluate_every": 10},
        {"dropout": 0.2, "targets": 2, "epochs": 3, "ahead": {"epochs": 1}},
    ),
    "llm-bs": Kind(
        LlmBsRecommender, LlmBsTask, tiny_llmbs,
        {"epochs": 25, "window": 2, "stride": 2},
        {
            "tasks": {"item_to_index": 1, "index_to_item": 1, "fused": 0.5, "preference": 0.5},
            "contrast": {"semantic": 0.1, "behaviour": 0.1, "negatives": 6},
            "annealing": {"epochs": 1, "rank": 2, "learning_rate": 1e-2},
            "backbone": {"dropout": 0.1},
        },
        {"vectors": VECTORS},
    ),
    "halves": Kind(
        LlmBsRecommender, LlmBsTask, partial(tiny_llmbs, halves="parallel"),
        {"epochs": 25, "window": 2, "stride": 2},
        {
            "contrast": {"semantic": 0.1, "behaviour": 0.1, "negatives": 6},
            "annealing": {"epochs": 1, "rank": 2, "learning_rate": 1e-2},
        },
        {"vectors": VECTORS}, two_names,
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture(scope="module")
def chain(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> GenerativeRecommender:
    """Trained until item i + 1 follows item i."""
    found: GenerativeRecommender = kind.fit(CHAIN, tmp_path_factory.mktemp("chain"), **kind.learns)
    return found


@pytest.fixture(scope="module")
def drawn(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> GenerativeRecommender:
    """Trained with everything that draws at random, in all its stages."""
    found: GenerativeRecommender = kind.fit(CHAIN, tmp_path_factory.mktemp("drawn"), **kind.draws)
    return found


def again(found: GenerativeRecommender, **changes: Any) -> GenerativeRecommender:  # noqa: ANN401
    """The recommender, with other parts."""
    parts = {
        name: getattr(found, name) for name in ("catalogue", "index", "network", "config", "repeat_gain")
    }
    return type(found)(**(parts | changes))


def state(found: GenerativeRecommender) -> dict[str, Tensor]:
    return dict(found.network.state_dict())


def test_a_markov_chain_is_learnt(chain: GenerativeRecommender) -> None:
    assert chain.metrics["full"]["ndcg@10"] > 0.9
    sequences = Sequences.from_dataset(CHAIN)
    found = chain.items_after(sequences.histories("test"), k=5)
    assert rank_lists(found, sequences, ks=(1, 5)).per_user["recall@1"].mean() > 0.9
    table = chain.recommend(history=[f"i{number:02}" for number in range(7, 12)], k=1)
    assert table["item_id"].to_list() == ["i00"]
    assert table["title"].to_list() == ["red balm"]
    assert table["user_id"].to_list() == [None]


def test_laws_of_recommenders_hold(chain: GenerativeRecommender) -> None:
    users = ["u0", "u1", "u2"]
    edges = CHAIN.tables["interactions"].filter(pl.col("split") == "train")
    seen = {user: set(edges.filter(pl.col("user_id") == user)["item_id"]) for user in users}
    # Beams as wide as the catalogue, so that every width gives the same list.
    recommender_laws(again(chain, config=chain.config.model_copy(update={"beam": ITEMS})), users, seen, k=4)


def test_beams_and_exact_scores_agree(chain: GenerativeRecommender) -> None:
    histories = Histories.of([[1, 2, 3], [], [7]])
    exact = chain.scores_after(histories)
    for row, (items, scores) in enumerate(chain.lists_after(histories, k=100)):
        assert sorted(items.tolist()) == list(range(ITEMS)), "more than there are: all"
        np.testing.assert_allclose(scores, exact[row][items], atol=1e-4)
    assert chain.scores_after(Histories.of([[7]]))[0].argmax() == 8
    assert (chain.items_after(histories, k=ITEMS + 1)[:, -1] == -1).all(), "where the catalogue ends"
    some = chain.score("u0", ["i03", "i01", "i03"])
    np.testing.assert_allclose(some, chain.scores(np.array([0]))[0][[3, 1, 3]], atol=1e-4)


@pytest.mark.parametrize("k", [1, 4, ITEMS])
def test_what_is_hidden_makes_room_for_others(chain: GenerativeRecommender, k: int) -> None:
    """As a ranking by exact scores without the hidden items."""
    sequences = Sequences.from_dataset(CHAIN)
    users = sequences.evaluated("test")[:7]
    histories = hidden = sequences.histories("test").take(users)
    wide = again(chain, config=chain.config.model_copy(update={"beam": ITEMS}))
    exact = wide.scores_after(histories)
    for row, listed in enumerate(wide.items_after(histories, k, [hidden[row] for row in range(len(users))])):
        left = np.setdiff1d(np.arange(ITEMS), hidden[row])
        assert (listed >= 0).sum() == min(k, len(left))
        np.testing.assert_allclose(
            exact[row][listed[listed >= 0]], np.sort(exact[row][left])[::-1][:k], atol=1e-4
        )


def test_items_of_the_history_gain_wherever_scores_are_asked_for(
    chain: GenerativeRecommender, tmp_path: Path
) -> None:
    plain, gained = (again(chain, repeat_gain=gain) for gain in (0.0, -2.5))
    histories = Histories.of([[1, 2, 3]])
    # The window is two items.
    difference = gained.scores_after(histories)[0] - plain.scores_after(histories)[0]
    np.testing.assert_allclose(difference, np.where(np.isin(np.arange(ITEMS), [2, 3]), -2.5, 0), atol=1e-5)
    taken, asked = chain.catalogue.histories[0].tolist(), [0, 5, 9]
    pairs = [f"i{item:02}" for item in asked]
    difference = gained.score("u0", pairs) - plain.score("u0", pairs)
    np.testing.assert_allclose(difference, [-2.5 * (item in taken[-2:]) for item in asked], atol=1e-5)
    items, scores = gained.lists_after(histories, k=ITEMS)[0]
    np.testing.assert_allclose(scores, gained.scores_after(histories)[0][items], atol=1e-4)
    gained.save_pretrained(tmp_path / "model")
    assert type(chain).from_pretrained(tmp_path / "model").repeat_gain == -2.5


def test_only_the_window_is_read_and_an_empty_history_is_one(chain: GenerativeRecommender) -> None:
    long = chain.recommend(history=["i05"] * 30 + ["i03", "i04"], k=3, filter_seen=False)
    assert long.equals(chain.recommend(history=["i03", "i04"], k=3, filter_seen=False))
    assert sorted(chain.recommend(history=[], k=ITEMS)["item_id"]) == sorted(CHAIN.items.values)
    alone = again(chain, catalogue=replace(chain.catalogue, taken=chain.catalogue.taken[:0]))
    assert alone.recommend("u0", k=3).height == 3
    popular = PopularityRecommender(chain.catalogue).recommend(history=[], k=3)
    assert chain.recommend(history=[], k=3).equals(popular)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({"history": ["i01", "nosuch"]}, "nosuch"),
        ({"users": "nobody"}, "nobody"),
        ({"users": "u0", "k": 0}, "k is 0"),
        ({}, "nobody to recommend to"),
        ({"users": ["u0", "u1"], "history": ["i01"]}, "one person"),
    ],
)
def test_wrong_questions_are_refused_in_one_line(
    chain: GenerativeRecommender, call: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words) as caught:
        chain.recommend(**call)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("count", [1, 3])
def test_catalogues_of_one_and_of_three_items(kind: Kind, count: int, tmp_path: Path) -> None:
    data = dataset([[item % count for item in range(start, start + 5)] for start in range(3)])
    more = {"vectors": {"semantic": np.eye(count, 4)}} if kind.more else {}
    changes = {"contrast": {"negatives": 2048}} if kind.more else {}
    found = replace(kind, more=more).fit(data, tmp_path, index_of(data, width=2), **changes)
    table = found.recommend(["u0", "u1"], k=10, filter_seen=False)
    assert table.group_by("user_id").len()["len"].to_list() == [count, count]
    assert found.recommend("u0", k=10).height == 0, "nothing is left that was not seen"


def test_the_same_seed_gives_the_same_weights_and_another_others(
    kind: Kind, drawn: GenerativeRecommender, tmp_path: Path
) -> None:
    same, other = (state(kind.fit(CHAIN, tmp_path / str(seed), **kind.draws, seed=seed)) for seed in (0, 1))
    first = state(drawn)
    assert all(torch.equal(value, same[name]) for name, value in first.items())
    # An adapter that did not help stays as it began.
    drawn_once = [name for name, value in first.items() if value.ndim > 1 and ".lora_" not in name]
    assert not any(torch.equal(first[name], other[name]) for name in drawn_once)


class Killed(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("at", [2, 7])
def test_a_killed_training_continues_to_the_same_bytes(
    at: int, kind: Kind, drawn: GenerativeRecommender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, learn = 0, kind.task.loss

    def dying(self: GenerativeTask[Any], batch: object) -> Mapping[str, Tensor]:
        nonlocal steps
        steps += 1
        if steps == at:
            raise Killed
        return learn(self, batch)

    monkeypatch.setattr(kind.task, "loss", dying)
    with pytest.raises(Killed):
        kind.fit(CHAIN, tmp_path, **kind.draws, checkpoint_seconds=0)
    resumed = kind.fit(CHAIN, tmp_path, **kind.draws, checkpoint_seconds=0)
    whole = state(drawn)
    assert all(torch.equal(value, whole[name]) for name, value in state(resumed).items())


def test_saved_and_loaded_are_equal(drawn: GenerativeRecommender, tmp_path: Path) -> None:
    drawn.save_pretrained(tmp_path / "saved")
    loaded = type(drawn).from_pretrained(tmp_path / "saved", device="cpu")
    assert loaded.recommend(["u0", "u5"], k=5).equals(drawn.recommend(["u0", "u5"], k=5))
    assert state(loaded).keys() == state(drawn).keys()
    assert all(torch.equal(value, state(loaded)[name]) for name, value in state(drawn).items())
    assert loaded.metrics == drawn.metrics
    assert loaded.config == drawn.config
    artifact_laws(lambda: loaded, tmp_path / "laws")


def test_an_index_of_other_items_or_codes_is_refused(
    kind: Kind, chain: GenerativeRecommender, tmp_path: Path
) -> None:
    other = index_of(CHAIN, seed=5)
    with pytest.raises(UserError, match="index and model disagree"):
        again(chain, index=other)
    fewer = dataset(ring(9, 5, 4))
    with pytest.raises(UserError, match="build the index on this data set"):
        kind.fit(CHAIN, tmp_path / "work", index_of(fewer))
    chain.save_pretrained(tmp_path / "saved")
    _swap_index(tmp_path / "saved", other)
    with pytest.raises(UserError, match="index and model disagree"):
        type(chain).from_pretrained(tmp_path / "saved")


def _swap_index(folder: Path, other: ItemIndex) -> None:
    """Put another index into an artifact and sign it again, as somebody determined would."""
    shutil.rmtree(folder / "index")
    other.save_pretrained(folder / "index")
    forge(folder)


def test_without_validation_items_the_last_epoch_is_kept(kind: Kind, tmp_path: Path) -> None:
    data = dataset([[0, 1], [1, 2], [2, 0]])
    plain = replace(kind, more={})
    assert plain.fit(data, tmp_path / "work", epochs=2).metrics["full"]["best_epoch"] == 2
    tests = CHAIN.tables["interactions"].filter(pl.col("split") == "test")
    with pytest.raises(UserError, match="no training interactions"):
        plain.fit(CHAIN.derive({"interactions": tests}, {}), tmp_path / "none", index_of(CHAIN))
