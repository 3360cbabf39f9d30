"""Whether people take items again is learned, and costs nothing where the history does not say it."""

from collections.abc import Callable
from copy import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from forwhy.data.dataset import Dataset
from forwhy.data.histories import Histories
from forwhy.recommend.networks import SequentialOptions
from forwhy.recommend.sequential import NextItemRecommender, made
from forwhy.systems.gru4rec import Gru4RecConfig
from forwhy.systems.sasrec import SasRecConfig

Make = Callable[[dict[str, list[int]]], Dataset]
SMALL = {
    "dims": 8, "window": 6, "dropout": 0.0, "learning_rate": 1e-2, "batch_size": 32, "epochs": 50, "patience": 0,
    "evaluate_every": 50, "device": "cpu",
}  # fmt: skip


@pytest.fixture(params=[(SasRecConfig, {}), (Gru4RecConfig, {"hidden": 16})])
def config(request: pytest.FixtureRequest) -> SequentialOptions:
    kind, more = request.param
    found: SequentialOptions = kind(**SMALL, **more)
    return found


def people(length: int) -> dict[str, list[int]]:
    """Random items, none twice."""
    generator = np.random.default_rng(0)
    return {f"u{user:02d}": generator.permutation(12)[:length].tolist() for user in range(60)}


def test_what_is_never_taken_again_leaves_the_lists_and_the_rest_keeps_its_order(
    make: Make, config: SequentialOptions, tmp_path: Path
) -> None:
    """Nothing is filtered: the best five of twelve after four items."""
    data = make(people(7))
    learnt = NextItemRecommender.fit(data, tmp_path / "work", config)
    assert learnt.repeat_gain < -2
    rows = [learnt.catalogue.histories[user][:4] for user in range(60)]
    histories, bare = Histories.of(rows), copy(learnt)
    bare.repeat_gain = 0.0
    gained, plain = (it.scores_after(histories) for it in (learnt, bare))
    taken = np.zeros_like(plain, dtype=bool)
    taken[histories.rows, histories.items] = True
    np.testing.assert_allclose(gained, plain + np.float32(learnt.repeat_gain) * taken, rtol=1e-6)
    shares = [np.take_along_axis(taken, np.argsort(-it, axis=1)[:, :5], 1).mean() for it in (gained, plain)]
    assert shares[0] < 0.05 < 0.1 < shares[1]
    learnt.save_pretrained(tmp_path / "model")
    assert NextItemRecommender.from_pretrained(tmp_path / "model").repeat_gain == learnt.repeat_gain


def test_what_is_taken_again_comes_first(make: Make, config: SequentialOptions, tmp_path: Path) -> None:
    """Everybody takes one item over and over."""
    data = make({f"u{user:02d}": [user % 12] * 6 for user in range(60)})
    learnt = NextItemRecommender.fit(data, tmp_path, config)
    assert learnt.repeat_gain > 1
    first = learnt.recommend(history=["i05", "i05", "i05"], k=1, filter_seen=False)
    assert first["item_id"].to_list() == ["i05"]


def test_what_was_widened_for_scores_does_not_outlive_a_training(config: SequentialOptions) -> None:
    network, histories = made(12, config), Histories.of([[1, 2, 3]])
    network.eval()
    before = network.scores_after(histories)
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1, fused=True)
    network.loss(torch.tensor([[1, 2, 3]]), torch.tensor([3])).backward()
    optimizer.step()
    network.eval()
    after = network.scores_after(histories)
    fresh = (network.states_after(histories).double() @ network.table.double().T).detach().numpy()
    np.testing.assert_allclose(after, fresh, rtol=1e-5)
    assert not np.allclose(after, before)
