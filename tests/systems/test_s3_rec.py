"""S3-Rec's four losses against loops, and that pretraining ends where it is said to."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
import torch

from attending import plain_states, shaken
from forwhy.data.dataset import Dataset, make_dataset
from forwhy.data.histories import Sequences
from forwhy.recommend.attention import hidden_places
from forwhy.recommend.networks import SoftmaxNetwork
from forwhy.recommend.sequential import NextItemRecommender, NextItemTask, attribute_table, made
from forwhy.systems import s3_rec
from forwhy.systems.s3_rec import S3RecConfig, S3RecNetwork
from forwhy.training.loop import train

ITEMS, DIMS = 9, 8
ROWS, LENGTHS = torch.tensor([[3, 1, 4, 1, 5], [2, 7, 8, 0, 0]]), torch.tensor([5, 3])
HIDDEN = torch.tensor([[False, True, False, True, False], [False, False, True, False, False]])
TERMS = [[1, 2, 3], [2], [], [1, 4], [4], [], [3, 5], [5], [1, 2, 3, 4, 5]]
TABLE = torch.tensor([[*row, *[0] * (5 - len(row))] for row in TERMS])


def network_of(table: torch.Tensor = TABLE, **options: object) -> S3RecNetwork:
    config = S3RecConfig.model_validate({"dims": DIMS, "window": 4, "epochs": 10, "dropout": 0.0} | options)
    network = made(ITEMS, config, table)
    assert isinstance(network, S3RecNetwork)
    shaken(network, std=0.3)
    return network


def read(network: S3RecNetwork, row: list[int], hidden: list[int]) -> torch.Tensor:
    given = [network.mask if at in hidden else network.items.weight[item] for at, item in enumerate(row)]
    return plain_states(network, torch.stack(given), both_ways=True)


def contrast(right: torch.Tensor, wrong: list[torch.Tensor]) -> torch.Tensor:
    """-log of e^right among itself and all that is wrong."""
    return torch.stack([right, *wrong]).logsumexp(0) - right


def of_attributes(network: S3RecNetwork, queries: list[torch.Tensor], items: list[int]) -> torch.Tensor:
    terms, found = network.terms.weight, []
    for query, item in zip(queries, items, strict=True):
        wrong = [query @ terms[term] for term in range(1, 6) if term not in TERMS[item]]
        found += [contrast(query @ terms[term], wrong) for term in TERMS[item]]
    return torch.stack(found).mean()


def test_the_four_losses_are_those_of_their_equations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gaps: places 1 and 2 of the first history, 1 of the second."""
    network = network_of()
    monkeypatch.setattr(s3_rec, "hidden_places", lambda *_: HIDDEN)
    monkeypatch.setattr(torch, "rand", lambda *_, **__: torch.tensor([[0.9, 0.9], [0.3, 0.5]]).double())
    associated, item, attribute, segment = network.guesses(ROWS, LENGTHS)
    table, forms, rows = network.items.weight, network.forms, [[3, 1, 4, 1, 5], [2, 7, 8]]
    known = sorted({item for row in rows for item in row})
    expected = of_attributes(network, [table[item] @ forms[0] for item in known], known)
    torch.testing.assert_close(associated, expected, rtol=1e-4, atol=1e-5)

    first, second = read(network, rows[0], [1, 3]), read(network, rows[1], [2])
    states, targets = [first[1], first[3], second[2]], [1, 1, 8]
    logits = torch.stack([state @ forms[1] @ table.T for state in states])
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor(targets))
    torch.testing.assert_close(item, expected, rtol=1e-4, atol=1e-5)
    expected = of_attributes(network, [state @ forms[2] for state in states], targets)
    torch.testing.assert_close(attribute, expected, rtol=1e-4, atol=1e-5)

    around = [read(network, rows[0], [1, 2])[2], read(network, rows[1], [1])[1]]
    alone = [read(network, [1, 4], [])[1], read(network, [7], [])[0]]
    expected = torch.stack(
        [
            contrast(around[0] @ forms[3] @ alone[0], [around[0] @ forms[3] @ alone[1]]),
            contrast(around[1] @ forms[3] @ alone[1], [around[1] @ forms[3] @ alone[0]]),
        ]
    ).mean()
    torch.testing.assert_close(segment, expected, rtol=1e-4, atol=1e-5)


def test_segments_lie_within_their_histories() -> None:
    torch.manual_seed(0)
    network, lengths = network_of(), torch.tensor([5, 2] * 50)
    gaps: list[torch.Tensor] = []
    inner = network.read
    network.read = lambda *given: (gaps.append(given[2]), inner(*given))[1]  # type: ignore[method-assign,func-returns-value]
    network._segment_loss(ROWS.repeat(50, 1), lengths, network.forms[3])
    assert not (gaps[0] & (torch.arange(5) >= lengths[:, None])).any()
    assert set(gaps[0].sum(1)[::2].tolist()) == {1, 2}
    assert set(gaps[0].sum(1)[1::2].tolist()) == {1}
    assert gaps[0][::2].any(0).all()


def test_the_first_epochs_guess_and_the_others_are_sasrecs() -> None:
    network = network_of(pretraining=0.2, associated=0.0, masked_attribute=0.0, segment=0.0).train()
    assert network.pretraining == 2
    losses = []
    for network.epoch in (1, 2):
        torch.manual_seed(0)
        losses.append(network.loss(ROWS, LENGTHS))
    torch.manual_seed(0)
    hidden = hidden_places(ROWS, LENGTHS, 0.2)
    guessed = network.read(ROWS, LENGTHS, hidden)[hidden] @ network.forms[1] @ network.items.weight.T
    torch.testing.assert_close(losses[0], torch.nn.functional.cross_entropy(guessed, ROWS[hidden]))
    torch.testing.assert_close(losses[1], SoftmaxNetwork.loss(network, ROWS, LENGTHS))
    torch.testing.assert_close(network(ROWS[:1, :4])[0], plain_states(network, network.items(ROWS[0, :4])))
    network.epoch = 0
    assert torch.equal(network.eval().loss(ROWS, LENGTHS), losses[1])


def ring() -> Dataset:
    """Six people, five of six items each, none with attributes."""
    rows = [
        (f"u{user}", f"i{(user + step) % 6}", step, "train" if step < 4 else "valid")
        for user in range(6)
        for step in range(5)
    ]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp", "split"], orient="row")
    return make_dataset("ring", {"interactions": frame}, duplicates="keep")


RING = S3RecConfig(dims=8, epochs=5, pretraining=0.4, patience=1, device="cpu", batch_size=3)


def test_the_optimiser_starts_anew_with_fine_tuning(tmp_path: Path) -> None:
    """Two steps an epoch; two epochs pretrain."""
    data = ring()
    task = NextItemTask(made(6, RING, attribute_table(data)), Sequences.from_dataset(data))
    optimizer, learn, known = task.optimizer(), task.loss, []
    task.optimizer = lambda: optimizer  # type: ignore[method-assign]
    task.loss = lambda batch: (known.append(len(optimizer.state)), learn(batch))[1]  # type: ignore[method-assign,func-returns-value]
    train(task, RING.loop(patience=0), tmp_path, "s3-rec")
    assert [bool(count) for count in known] == [False, True, True, True, False, *[True] * 5]


def test_nothing_is_validated_before_pretraining_is_over(tmp_path: Path) -> None:
    """And a catalogue without attributes pretrains by items and segments."""
    learnt = NextItemRecommender.fit(ring(), tmp_path, RING)
    assert learnt.network.terms.weight.shape[0] == 1
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert min(line["epoch"] for line in lines if "valid" in line) == 3
    learnt.save_pretrained(tmp_path / "model")
    loaded = NextItemRecommender.from_pretrained(tmp_path / "model")
    assert loaded.recommend(history=["i1"], k=3).equals(learnt.recommend(history=["i1"], k=3))
