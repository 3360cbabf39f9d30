"""SASRec, GRU4Rec and DIN read order, look at no later item, and are the same however they are asked."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from forwhy.data.dataset import Dataset
from forwhy.data.histories import Histories, Sequences
from forwhy.errors import UserError
from forwhy.evaluate.ranking import rank_sequences
from forwhy.options import LoopConfig
from forwhy.recommend.base import PopularityRecommender
from forwhy.recommend.networks import SequentialOptions, SoftmaxNetwork, SoftmaxOptions, kind
from forwhy.recommend.sequential import NextItemRecommender, NextItemTask, attribute_table, made, pieces
from forwhy.systems.sasrec import SasRecConfig
from forwhy.testing import artifact_laws, recommender_laws
from forwhy.training.loop import train


def lists(histories: Histories) -> list[list[int]]:
    return [histories[row].tolist() for row in range(len(histories))]


def hits(recommender: NextItemRecommender, sequences: Sequences, histories: Histories) -> float:
    """Recall@1 on test."""
    result = rank_sequences(lambda users: recommender.scores_after(histories.take(users)), sequences, ks=(1,))
    return result.mean()["recall@1"]


def test_a_chain_is_learnt_where_popularity_fails(chain: Dataset, learnt: NextItemRecommender) -> None:
    sequences = Sequences.from_dataset(chain)
    histories = sequences.histories("test")
    assert hits(learnt, sequences, histories) > 0.95
    popular = rank_sequences(PopularityRecommender.fit(chain).scores, sequences, ks=(1,))
    assert popular.mean()["recall@1"] < 0.3
    assert learnt.metrics["recall@10"] > 0.95


def test_shuffled_order_hurts_on_a_chain(chain: Dataset, learnt: NextItemRecommender) -> None:
    """Not all is lost: nobody takes an item twice, and of six in a row one alone has a successor that was not taken."""
    if learnt.config.network == "hgn":
        pytest.skip("reads a set, in which that one is found")
    sequences = Sequences.from_dataset(chain)
    assert hits(learnt, sequences, sequences.histories("test").last(6).shuffled(0)) < 0.8


def test_the_laws_of_recommenders_hold(chain: Dataset, learnt: NextItemRecommender) -> None:
    train_rows = lists(Sequences.from_dataset(chain).train)
    seen = {
        user: {chain.items.values[item] for item in row}
        for user, row in zip(chain.users.values, train_rows, strict=True)
    }
    recommender_laws(learnt, list(chain.users.values)[:12], dict(list(seen.items())[:12]))


def test_the_laws_of_artifacts_hold(learnt: NextItemRecommender, tmp_path: Path) -> None:
    artifact_laws(lambda: learnt, tmp_path)


def test_saved_and_loaded_says_the_same(learnt: NextItemRecommender, tmp_path: Path) -> None:
    learnt.save_pretrained(tmp_path / "model")
    loaded = NextItemRecommender.from_pretrained(tmp_path / "model")
    users = np.arange(len(learnt.catalogue.users))
    assert loaded.scores(users).tobytes() == learnt.scores(users).tobytes()
    assert loaded.item_vectors().tobytes() == learnt.item_vectors().tobytes()
    assert loaded.config == learnt.config
    assert loaded.metrics == learnt.metrics
    assert loaded.recommend(history=["i03", "i05"]).equals(learnt.recommend(history=["i03", "i05"]))


def test_no_place_sees_a_later_item(learnt: NextItemRecommender) -> None:
    if not isinstance(learnt.network, SoftmaxNetwork):
        pytest.skip("has no states of places; test_din.py looks at its prefixes")
    items = torch.randint(0, 12, (7, 6), generator=torch.Generator().manual_seed(1))
    for place in range(1, 6):
        changed = items.clone()
        changed[:, place:] = (changed[:, place:] + 5) % 12
        with torch.no_grad():
            before, after = learnt.network(items), learnt.network(changed)
        torch.testing.assert_close(before[:, :place], after[:, :place], rtol=1e-5, atol=1e-6)
        assert (before[:, place] - after[:, place]).abs().max() > 1e-3


def test_one_pass_equals_every_prefix_alone(learnt: NextItemRecommender) -> None:
    if not isinstance(learnt.network, SoftmaxNetwork):
        pytest.skip("has no states of places; test_din.py looks at its prefixes")
    row = [3, 1, 4, 1, 5, 9]
    with torch.no_grad():
        states = learnt.network(torch.tensor([row]))[0]
    alone = learnt.network.states_after(Histories.of([row[: end + 1] for end in range(6)]))
    torch.testing.assert_close(states, alone, rtol=1e-5, atol=1e-6)


def test_neither_batch_nor_padding_matters(learnt: NextItemRecommender) -> None:
    rows = [[1], [2, 3, 4, 5, 6, 7, 8, 9], [], [5, 5], [0, 1, 2]]
    together = learnt.scores_after(Histories.of(rows))
    for row, scores in zip(rows, together, strict=True):
        np.testing.assert_allclose(learnt.scores_after(Histories.of([row]))[0], scores, rtol=1e-5, atol=1e-6)


def test_only_the_window_is_read(learnt: NextItemRecommender) -> None:
    recent = [f"i{item:02d}" for item in (3, 1, 4, 1, 5, 9)]
    short = learnt.recommend(history=recent, filter_seen=False)
    assert learnt.recommend(history=["i07", "i02", *recent], filter_seen=False).equals(short)
    reordered = learnt.recommend(history=recent[::-1], filter_seen=False)
    assert not reordered.equals(short)


def test_people_who_never_trained_are_served(chain: Dataset, learnt: NextItemRecommender) -> None:
    assert learnt.recommend("one", k=3).height == 3
    assert learnt.recommend("two", k=3).height == 3
    with pytest.raises(UserError, match="unknown item id 'i99'"):
        learnt.recommend(history=["i01", "i99"])
    popular = PopularityRecommender.fit(chain)
    assert learnt.recommend(history=[], k=4).equals(popular.recommend(history=[], k=4))
    assert learnt.because(None, "i03", history=[]).kind == "popularity"
    assert np.unique(learnt.scores_after(Histories.of([[]]))).tolist() == [0.0]


def test_a_user_without_history_is_told_so(
    make: Callable[[dict[str, list[int]]], Dataset], learnt: NextItemRecommender
) -> None:
    others = learnt.catalogue.taken[learnt.catalogue.taken[:, 0] > 0]
    empty = NextItemRecommender(replace(learnt.catalogue, taken=others), learnt.network, learnt.config)
    with pytest.raises(UserError, match=f"{learnt.catalogue.users.values[0]!r} has no training interactions"):
        empty.recommend([learnt.catalogue.users.values[0]])


def test_one_seed_gives_the_same_bytes_through_a_kill(
    chain: Dataset, config: SequentialOptions, tmp_path: Path
) -> None:
    short = config.model_copy(update={"epochs": 3})
    whole = NextItemRecommender.fit(chain, tmp_path / "whole", short)
    sequences = Sequences.from_dataset(chain)
    known = attribute_table(chain) if short.reads_attributes else None
    task = NextItemTask(made(sequences.n_items, short, known), sequences)
    steps = iter(range(4))
    learn = task.loss

    def killed(batch: object) -> object:
        if next(steps, None) is None:
            raise InterruptedError
        return learn(batch)  # type: ignore[arg-type]

    task.loss = killed  # type: ignore[method-assign,assignment]
    identity = sequences.fingerprint() + short.model_dump_json(exclude={"device", "checkpoint_seconds"})
    identity += "" if known is None else hashlib.sha256(known.numpy().tobytes()).hexdigest()
    loop = LoopConfig(epochs=3, patience=5, seed=0, device="cpu", checkpoint_seconds=0)
    with pytest.raises(InterruptedError):
        train(task, loop, tmp_path / "cut", config.network, identity)
    resumed = NextItemRecommender.fit(chain, tmp_path / "cut", short)
    assert resumed.item_vectors().tobytes() == whole.item_vectors().tobytes()
    assert resumed.metrics["ndcg@10"] == whole.metrics["ndcg@10"]
    lines = (tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == len((tmp_path / "whole" / "metrics.jsonl").read_text().splitlines())


def test_in_bf16_every_network_learns_what_it_does_in_fp32(
    chain: Dataset, config: SequentialOptions, tmp_path: Path
) -> None:
    losses, vectors = [], []
    for precision in ("fp32", "bf16"):
        short = config.model_copy(update={"epochs": 5, "precision": precision})
        learnt = NextItemRecommender.fit(chain, tmp_path / precision, short)
        vectors.append(learnt.item_vectors())
        lines = [
            json.loads(line) for line in (tmp_path / precision / "metrics.jsonl").read_text().splitlines()
        ]
        losses.append([line["train"]["loss"] for line in lines if "train" in line])
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.03)
    assert vectors[1].dtype == np.float32
    assert not np.array_equal(*vectors)


def test_ranks_are_never_those_of_rounded_scores(chain: Dataset, config: SequentialOptions) -> None:
    sequences = Sequences.from_dataset(chain)
    known = attribute_table(chain) if config.reads_attributes else None
    task = NextItemTask(made(sequences.n_items, config, known), sequences)
    task.network.eval()
    exact = task.evaluate()
    with torch.autocast("cpu", torch.bfloat16):
        assert task.evaluate() == exact


def test_held_out_items_teach_nothing(
    make: Callable[[dict[str, list[int]]], Dataset], config: SequentialOptions, tmp_path: Path
) -> None:
    """Other validation and test items: the same vectors, as long as the same epoch is kept."""
    one = config.model_copy(update={"epochs": 1})
    first = make({f"u{user}": [user, user + 1, user + 2, 9, 10] for user in range(5)})
    second = make({f"u{user}": [user, user + 1, user + 2, 11, 8] for user in range(5)})
    vectors = [
        NextItemRecommender.fit(data, tmp_path / str(number), one).item_vectors()
        for number, data in enumerate((first, second))
    ]
    assert vectors[0].tobytes() == vectors[1].tobytes()


def test_without_validation_items_the_last_epoch_stays(
    make: Callable[[dict[str, list[int]]], Dataset],
    config: SequentialOptions,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    data = make({f"u{user}": [user, user + 1] for user in range(8)})
    found = NextItemRecommender.fit(data, tmp_path, config.model_copy(update={"epochs": 2}))
    assert found.metrics["best_epoch"] == 2
    assert "has no validation items; the last of 2 epochs is kept" in caplog.text
    assert found.recommend("u1", k=2).height == 2


def test_nothing_to_learn_from_is_refused(
    make: Callable[[dict[str, list[int]]], Dataset], config: SequentialOptions, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="'chain': no user has two training interactions"):
        NextItemRecommender.fit(make({"a": [1], "b": [1, 2, 3]}), tmp_path, config)


@pytest.mark.parametrize("window", [1, 2, 3, 50])
def test_pieces_hold_every_target_once(window: int) -> None:
    rows = [[7], list(range(10)), [], [1, 2], [5, 5, 5], list(range(4, 11))]
    found = lists(pieces(Histories.of(rows), window))
    targets = sorted(item for piece in found for item in piece[1:])
    assert targets == sorted(item for row in rows for item in row[1:])
    assert max(map(len, found)) <= window + 1
    for piece in found:
        assert any(
            row[start : start + len(piece)] == piece
            for row in rows
            for start in range(len(row))
            if len(row) > 1
        )
    assert list(range(10))[-window - 1 :] in found


def test_a_network_of_ones_own_is_options_with_a_name(chain: Dataset, tmp_path: Path) -> None:
    """What was taken last is all that it reads: enough for a chain."""

    class Last(SoftmaxNetwork):
        def forward(self, items_BL: torch.Tensor) -> torch.Tensor:
            return self.turn(self.items(items_BL))  # type: ignore[no-any-return]

    class LastConfig(SoftmaxOptions):
        network: Literal["last"] = "last"

        def build(self, n_items: int) -> SoftmaxNetwork:
            found = Last(n_items, self)
            found.turn = torch.nn.Linear(self.dims, self.dims)
            return found

    options = LastConfig(dims=16, dropout=0.0, learning_rate=1e-2, batch_size=32, epochs=40, device="cpu")
    assert kind("last") is LastConfig
    learnt = NextItemRecommender.fit(chain, tmp_path / "work", options)
    sequences = Sequences.from_dataset(chain)
    assert hits(learnt, sequences, sequences.histories("test")) > 0.95
    learnt.save_pretrained(tmp_path / "model")
    users = np.arange(9)
    assert (
        NextItemRecommender.from_pretrained(tmp_path / "model").scores(users) == learnt.scores(users)
    ).all()
    LastConfig.model_fields["network"].default = "another"  # as where nobody imported its module
    with pytest.raises(UserError, match="'last' is not one of .*sasrec"):
        NextItemRecommender.from_pretrained(tmp_path / "model")


def test_heads_must_share_the_width() -> None:
    with pytest.raises(UserError, match="dims = 65 is no multiple of 2 heads"):
        SasRecConfig(dims=65)


def test_lists_by_codes_are_the_lists(learnt: NextItemRecommender, tmp_path: Path) -> None:
    """Where all cells are visited; rules and empty histories as before; saved with the recommender."""
    if not isinstance(learnt.network, SoftmaxNetwork):
        with pytest.raises(UserError, match="no products of vectors"):
            learnt.with_codes()
        return
    learnt.with_codes(probes=9, cells=3, size=4).save_pretrained(tmp_path / "coded")
    coded = NextItemRecommender.from_pretrained(tmp_path / "coded")
    assert coded.coded is not None
    coded.repeat_gain = gained = 2.0
    plain = coded.with_codes()
    plain.coded, plain.repeat_gain = None, gained
    users = np.arange(len(learnt.catalogue.users))
    hidden = [learnt.catalogue.histories[user][:2] for user in users]
    for ours, right in zip(coded.lists(users, 5, hidden), plain.lists(users, 5, hidden), strict=True):
        assert ours[0].tolist() == right[0].tolist()
        np.testing.assert_allclose(ours[1], right[1], rtol=1e-6)
    for asked in ({"exclude": ["i03"]}, {"history": []}, {"k": 99}):
        people = asked if "history" in asked else {"users": ["p03"], **asked}
        assert coded.recommend(**people)["item_id"].equals(plain.recommend(**people)["item_id"])
