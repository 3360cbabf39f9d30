"""DIN against plain loops: the attention unit, the pools, every prefix of a history, the sampled softmax."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from forwhy.data.dataset import Dataset
from forwhy.data.histories import Histories, Sequences
from forwhy.recommend.sequential import NextItemTask, made
from forwhy.systems import din
from forwhy.systems.din import AttentionUnit, DinConfig
from forwhy.systems.din import DinNetwork as Din

ITEMS = 11
HISTORY = [3, 1, 4, 1, 5, 9, 2]


def options(head: str = "mlp", **changes: object) -> DinConfig:
    given: dict[str, object] = {
        "dims": 6, "hidden": 5, "attention": 4, "window": 7, "groups": (1, 2, 1), "dropout": 0.0, "head": head,
    }  # fmt: skip
    return DinConfig.model_validate(given | changes)


def network(config: DinConfig) -> Din:
    found = made(ITEMS, config)
    assert isinstance(found, Din)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in found.parameters():
            parameter += 0.5 * torch.randn(parameter.shape, generator=generator)
    return found.eval()


def task_of(histories: Sequences, config: DinConfig) -> NextItemTask:
    return NextItemTask(made(histories.n_items, config), histories)


def prelu(values: list[float], layer: torch.nn.PReLU) -> list[float]:
    return [x if x > 0 else x * a for x, a in zip(values, layer.weight.tolist(), strict=True)]


def through(layer: torch.nn.Linear, values: list[float]) -> list[float]:
    bias = [0.0] * layer.out_features if layer.bias is None else layer.bias.tolist()
    rows = layer.weight.tolist()
    return [
        b + sum(w * x for w, x in zip(row, values, strict=True)) for b, row in zip(bias, rows, strict=True)
    ]


def weight_by_loop(unit: AttentionUnit, left: list[float], right: list[float]) -> float:
    pairs = list(zip(left, right, strict=True))
    joined = [*left, *right, *(a - b for a, b in pairs), *(a * b for a, b in pairs)]
    return through(unit.last, prelu(through(unit.first, joined), unit.slope))[0]


def score_by_loop(net: Din, config: DinConfig, history: list[int], candidate: int) -> float:
    """Pools of ages 0, 1 to 2, 3 and older, as `options` groups them."""
    table = net.table.tolist()
    right = table[candidate]
    width = config.dims if config.head == "inner" else config.hidden
    pooled = [0.0] * width
    for age, item in enumerate(reversed(history[-config.window :])):
        group = 0 if age == 0 else 1 if age <= 2 else 2
        value = through(net.pool, table[item])[group * width : (group + 1) * width]
        weight = weight_by_loop(net.unit, table[item], right)
        pooled = [total + weight * x for total, x in zip(pooled, value, strict=True)]
    if config.head == "inner":
        return sum(p * x for p, x in zip(pooled, right, strict=True))
    hidden = [p + x for p, x in zip(pooled, through(net.candidate, right), strict=True)]
    return through(net.out, prelu(hidden, net.slope))[0]


def test_the_unit_equals_a_loop_over_pairs() -> None:
    net = network(options())
    left, right = net.table[:4], net.table[5:8]
    wanted = [[weight_by_loop(net.unit, a, b) for b in right.tolist()] for a in left.tolist()]
    torch.testing.assert_close(net.unit(left[:, None], right[None]), torch.tensor(wanted))
    torch.testing.assert_close(net.unit.grid(left, right), torch.tensor(wanted))


@pytest.mark.parametrize("block", [1, 1 << 22])
@pytest.mark.parametrize("head", ["mlp", "inner"])
def test_scores_of_a_catalogue_equal_a_loop(head: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(din, "BLOCK_NUMBERS", block)
    config = options(head)
    net = network(config)
    rows = [HISTORY, [8, 0, *HISTORY], [6], [7, 7]]
    found = net._scored(Histories.of(rows))
    for row, scores in zip(rows, found, strict=True):
        wanted = [score_by_loop(net, config, row, item) for item in range(ITEMS)]
        torch.testing.assert_close(scores, torch.tensor(wanted))


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("head", ["mlp", "inner"])
def test_the_loss_is_every_prefix_alone_against_its_negatives(head: str, smoothing: float) -> None:
    """With more negatives than items the step has all of them, and the target must not be its own."""
    config = options(head, negatives=99, label_smoothing=smoothing)
    rows = [HISTORY, [6, 2]]
    task = task_of(sequences(rows), config)
    net = network(config)
    task.network.load_state_dict(net.state_dict())
    padded = Histories.of(rows)
    batch = (torch.from_numpy(padded.padded()), torch.from_numpy(padded.lengths))
    losses = []
    for row in rows:
        for end in range(1, len(row)):
            logits = [score_by_loop(net, config, row[:end], item) for item in range(ITEMS)]
            norm = math.log(sum(math.exp(x) for x in logits))
            losses.append(norm - (1 - smoothing) * logits[row[end]] - smoothing * sum(logits) / len(logits))
    assert task.loss(batch)["loss"].item() == pytest.approx(sum(losses) / len(losses), rel=1e-4)


def test_one_negative_is_any_other_item() -> None:
    """Each draw's loss is that of one pair; a draw that hits the target leaves nothing to tell apart."""
    config = options(negatives=1)
    task = task_of(sequences([[3, 1]]), config)
    task.network.load_state_dict(network(config).state_dict())
    logits = [score_by_loop(network(config), config, [3], item) for item in range(ITEMS)]
    wanted = sorted(
        0.0 if item == 1 else math.log1p(math.exp(logits[item] - logits[1])) for item in range(ITEMS)
    )
    found = set()
    for seed in range(100):
        torch.manual_seed(seed)
        found.add(task.loss((torch.tensor([[3, 1]]), torch.tensor([2])))["loss"].item())
    assert sorted(found) == pytest.approx(wanted, rel=1e-4, abs=1e-6)


def test_one_group_reads_no_order() -> None:
    net = network(options(groups=(7,)))
    found = net._scored(Histories.of([HISTORY, HISTORY[::-1]]))
    torch.testing.assert_close(found[0], found[1])
    ordered = network(options())._scored(Histories.of([HISTORY, HISTORY[::-1]]))
    assert (ordered[0] - ordered[1]).abs().max() > 0.1


@pytest.mark.parametrize(("wanted", "drawn"), [(7, 7), (0, 80), (500, 80)])
def test_validation_ranks_as_many_users_as_asked(chain: Dataset, wanted: int, drawn: int) -> None:
    task = task_of(Sequences.from_dataset(chain), options(validation_users=wanted))
    with torch.no_grad():
        hits = task.evaluate()["recall@10"] * drawn
        assert sum(len(scores) for scores in task.network.validated(task._before)) == drawn
    assert 0 < hits == pytest.approx(round(hits))


def sequences(rows: list[list[int]]) -> Sequences:
    """Training items alone."""
    none = np.full(len(rows), -1, dtype=np.int64)
    return Sequences(Histories.of(rows), none, none, ITEMS)
