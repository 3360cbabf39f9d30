"""Whether people take items again is learned, and costs nothing where the history does not say it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from forwhy.data.dataset import Dataset
from forwhy.data.histories import Histories
from forwhy.recommend.networks import SCALE, RepeatBias, SequentialOptions
from forwhy.recommend.sequential import NextItemRecommender
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


def test_places_gain_by_their_age() -> None:
    bias = RepeatBias(4)
    bias.shared.data = torch.tensor([-1.0]) / SCALE
    bias.weight.data = torch.tensor([2.0, 3.0, 4.0, 5.0]) / SCALE
    items, gains = bias.of_places(torch.tensor([[5, 6, 5]]))
    assert items.tolist() == [[[5, 6, 5]] * 3]
    torch.testing.assert_close(gains, torch.tensor([[[1.0, 0, 0], [2, 1, 0], [3, 2, 1]]]))
    scores = bias.add(torch.zeros(3, 7), Histories.of([[5, 6, 5], [], [0]]))
    torch.testing.assert_close(
        scores, torch.tensor([[0.0, 0, 0, 0, 0, 4, 2], [0] * 7, [1, 0, 0, 0, 0, 0, 0]])
    )


def test_what_is_never_taken_again_leaves_the_lists(
    make: Make, config: SequentialOptions, tmp_path: Path
) -> None:
    """Nothing is filtered: the best five of twelve after four items."""
    data, shares = make(people(7)), {}
    for bias in (True, False):
        options = config.model_copy(update={"repeat_bias": bias})
        learnt = NextItemRecommender.fit(data, tmp_path / str(bias), options)
        rows = [learnt.catalogue.histories[user][:4] for user in range(60)]
        best = np.argsort(-learnt.scores_after(Histories.of(rows)), axis=1)[:, :5]
        shares[bias] = np.mean([np.isin(found, row) for found, row in zip(best, rows, strict=True)])
    assert shares[True] < 0.03
    assert shares[False] > 0.1


def test_what_is_taken_again_comes_first(make: Make, config: SequentialOptions, tmp_path: Path) -> None:
    """Everybody takes one item over and over."""
    data = make({f"u{user:02d}": [user % 12] * 6 for user in range(60)})
    learnt = NextItemRecommender.fit(data, tmp_path, config)
    assert learnt.network.repeats is not None
    assert learnt.network.repeats.gains[0] > 1
    first = learnt.recommend(history=["i05", "i05", "i05"], k=1, filter_seen=False)
    assert first["item_id"].to_list() == ["i05"]


def test_without_it_nothing_is_learned(make: Make, config: SequentialOptions, tmp_path: Path) -> None:
    options = config.model_copy(update={"repeat_bias": False, "epochs": 1})
    learnt = NextItemRecommender.fit(make(people(7)), tmp_path / "work", options)
    assert not [name for name in learnt.network.state_dict() if "repeats" in name]
    learnt.save_pretrained(tmp_path / "model")
    assert NextItemRecommender.from_pretrained(tmp_path / "model").network.repeats is None
