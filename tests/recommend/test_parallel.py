"""Parallel codes: scores are sums of the heads' log-probabilities, whoever asks; a ring is learned; odd catalogues."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch

from forwhy.data.dataset import Dataset
from forwhy.data.histories import Histories, Sequences
from forwhy.errors import UserError
from forwhy.recipe import RunFolder, load_recipe, run
from forwhy.recommend.sequential import NextItemRecommender, NextItemTask, made
from forwhy.systems.parallel import Parallel, ParallelConfig, ParallelNetwork
from forwhy.testing import artifact_laws, recommender_laws
from forwhy.vocabulary.index import IndexConfig, ItemIndex
from forwhy.vocabulary.indexing import build_index

from ..test_next_item_run import ring, told, written
from .conftest import ITEMS, SMALL_NETWORK

TINY = """
name = "tiny"
system = "parallel"
[data]
path = "{data}"
[encoder]
name = "hash"
[behaviour]
dims = 6
[index]
width = 4
depth = 3
[recommender]
dims = 16
window = 4
dropout = 0.0
learning_rate = 1e-2
batch_size = 16
epochs = 40
device = "cpu"
[evaluation]
ks = [1, 5, 8]
shuffled_users = 20
"""


def coded(data: Dataset, seed: int = 0) -> ItemIndex:
    """Four codes of three of random vectors, and one more where they collide."""
    vectors = np.random.default_rng(7).normal(size=(len(data.items), 8))
    options = IndexConfig(source="semantic", method="product", width=3, depth=4, seed=seed)
    return build_index(data.items, options, vectors)


def fitted(data: Dataset, folder: Path, **changes: object) -> NextItemRecommender:
    config = ParallelConfig.model_validate(SMALL_NETWORK | changes)
    return NextItemRecommender.fit(data, folder, config, attributes_IM=codes_of(coded(data)))


def codes_of(index: ItemIndex) -> torch.Tensor:
    return torch.from_numpy(index.token_rows)


@pytest.fixture(scope="module")
def parallel(chain: Dataset, tmp_path_factory: pytest.TempPathFactory) -> NextItemRecommender:
    return fitted(chain, tmp_path_factory.mktemp("parallel"))


def network_of(learnt: NextItemRecommender) -> ParallelNetwork:
    assert isinstance(learnt.network, ParallelNetwork)
    return learnt.network


ROWS = [[1], [2, 3, 4, 5, 6, 7, 8, 9], [5, 5], [0, 1, 2]]


def summed(network: ParallelNetwork, state_D: np.ndarray) -> np.ndarray:
    """[I] each item's log-probability, head by head and code by code, in float64."""
    sizes, words = coded(ring()).sizes, network.words.weight.detach().double().numpy()
    found = np.zeros(ITEMS)
    for item, row in enumerate(network.attributes_IM.tolist()):
        first = 0
        for size, code in zip(sizes, row, strict=True):
            logits = words[first : first + size] @ state_D / np.sqrt(len(sizes))
            found[item] += logits[code - first] - np.log(np.exp(logits).sum())
            first += size
    return found


def test_scores_are_sums_of_log_probabilities_but_for_one_number_a_person(
    parallel: NextItemRecommender,
) -> None:
    network, histories = network_of(parallel), Histories.of(ROWS)
    scores = network.scores_after(histories)
    assert scores.shape == (len(ROWS), ITEMS)
    for state, row in zip(network.states_after(histories).double().numpy(), scores, strict=True):
        rest = row - summed(network, state)
        assert np.ptp(row) > 1
        np.testing.assert_allclose(rest, rest.mean(), atol=1e-4)


def test_the_loss_is_that_of_the_softmax_of_these_sums(parallel: NextItemRecommender) -> None:
    network, items, lengths = network_of(parallel), [[3, 1, 4, 1], [5, 9, 0, 0]], [4, 2]
    with torch.no_grad():
        loss = network.loss(torch.tensor(items), torch.tensor(lengths))
        states = network(torch.tensor(items)[:, :-1]).double().numpy()
    wanted = []
    for row, place, target in ((0, 0, 1), (0, 1, 4), (0, 2, 1), (1, 0, 9)):
        sums = summed(network, states[row, place])
        wanted.append(np.log(np.exp(sums).sum()) - sums[target])
    assert float(loss) == pytest.approx(np.mean(wanted), abs=1e-4)


def test_what_is_predicted_follows_the_weights() -> None:
    """Validation after a step of the optimiser does not see the vectors of before it."""
    data = ring()
    config, sequences = ParallelConfig.model_validate(SMALL_NETWORK), Sequences.from_dataset(data)
    task = NextItemTask(made(ITEMS, config, codes_of(coded(data))), sequences)
    optimizer, network = task.optimizer(), task.network
    assert isinstance(network, ParallelNetwork)
    with torch.no_grad():
        assert network.eval().table.any()
    network.train()
    task.loss(task.batches(0)[0])["loss"].backward()
    optimizer.step()
    network.eval()
    with torch.no_grad():
        wanted = network.states_after(sequences.train) @ network.vectors(network.attributes_IM).T
        torch.testing.assert_close(next(network.validated(sequences.train)), wanted)


def test_the_laws_hold(chain: Dataset, parallel: NextItemRecommender, tmp_path: Path) -> None:
    train = Sequences.from_dataset(chain).train
    users = list(chain.users.values)[:12]
    seen = {user: {chain.items.values[it] for it in train[row]} for row, user in enumerate(users)}
    recommender_laws(parallel, users, seen)
    artifact_laws(lambda: parallel, tmp_path)
    parallel.save_pretrained(tmp_path / "model")
    loaded = NextItemRecommender.from_pretrained(tmp_path / "model")
    histories = Histories.of(ROWS)
    assert loaded.scores_after(histories).tobytes() == parallel.scores_after(histories).tobytes()
    assert loaded.item_vectors().tobytes() == parallel.item_vectors().tobytes()


def test_neither_batch_nor_padding_nor_later_items_matter(parallel: NextItemRecommender) -> None:
    together = parallel.scores_after(Histories.of([*ROWS, *ROWS, [], *ROWS, [4, 4, 4]]))
    for row, scores in zip(ROWS, together, strict=False):
        np.testing.assert_allclose(
            parallel.scores_after(Histories.of([row]))[0], scores, rtol=1e-5, atol=1e-6
        )
    assert not together[8].any()
    items = torch.randint(0, ITEMS, (7, 6), generator=torch.Generator().manual_seed(1))
    changed = items.clone()
    changed[:, 3:] = (changed[:, 3:] + 5) % ITEMS
    with torch.no_grad():
        before, after = parallel.network(items), parallel.network(changed)
    torch.testing.assert_close(before[:, :3], after[:, :3], rtol=1e-5, atol=1e-6)
    assert (before[:, 3] - after[:, 3]).abs().max() > 1e-3


def test_the_same_seed_gives_the_same_bytes(chain: Dataset, tmp_path: Path) -> None:
    first, same, other = (
        fitted(chain, tmp_path / str(number), epochs=2, seed=seed).item_vectors().tobytes()
        for number, seed in enumerate((0, 0, 1))
    )
    assert first == same != other


def test_other_codes_do_not_go_on_from_a_checkpoint(chain: Dataset, tmp_path: Path) -> None:
    fitted(chain, tmp_path, epochs=1)
    config, other = (
        ParallelConfig.model_validate(SMALL_NETWORK | {"epochs": 1}),
        codes_of(coded(chain, seed=3)),
    )
    again = NextItemRecommender.fit(chain, tmp_path, config, attributes_IM=other)
    assert torch.equal(network_of(again).attributes_IM, other)


# --- whole runs


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    run(load_recipe(written(folder, TINY, ring())), folder / "run")
    return folder / "run"


def test_a_ring_is_learned_and_explained(tiny: Path) -> None:
    document = RunFolder.open(tiny).evaluation()
    assert document["ranking"]["recall@1"] > 0.95
    assert document["protocol"]["codes"] >= 6
    listed = told("recommend", tiny, "--history", "i03,i04", "-k", 20, "--with-seen")["items"]
    assert listed[0]["item_id"] == "i05"  # type: ignore[index]
    assert len(listed) == ITEMS  # type: ignore[arg-type]
    assert (
        told("explain", tiny, "--history", "i03,i04", "--item", "i05")["because"]["kind"] == "leave-one-out"
    )  # type: ignore[index]


@pytest.mark.parametrize("titles", [[], ["red soap", "", ""], [""] * 3, ["soap"] * 3])
@pytest.mark.parametrize("items", [1, 3])
def test_small_catalogues_with_and_without_text(items: int, titles: list[str], tmp_path: Path) -> None:
    data = ring(items, titles=False)
    if titles:
        names = [f"i{number:02}" for number in range(items)]
        data = data.derive(
            {**data.tables, "items": pl.DataFrame({"item_id": names, "title": titles[:items]})}, {}
        )
    recipe = load_recipe(written(tmp_path, TINY, data), ["recommender.epochs=1", "evaluation.ks=[1]"])
    run(recipe, tmp_path / "run")
    found = RunFolder.open(tmp_path / "run")
    scores = found.recommender().scores(np.arange(5))
    assert scores.shape == (5, items)
    assert np.isfinite(scores).all()
    sources = ItemIndex.from_pretrained(found.path / "index").sources
    assert ("semantic" in sources) == bool("".join(titles[:items]))


def test_attributes_are_read_also_where_there_is_no_text(tmp_path: Path) -> None:
    names = [f"i{number:02}" for number in range(ITEMS)]
    kinds = pl.DataFrame({"item_id": names, "attributes": [f"{number % 3}, 7" for number in range(ITEMS)]})
    plain = ring(titles=False)
    data = plain.derive({**plain.tables, "items": kinds}, {})
    recipe = load_recipe(written(tmp_path, TINY, data), ["recommender.epochs=1", "index.width=3"])
    run(recipe, tmp_path / "run")
    index = ItemIndex.from_pretrained(tmp_path / "run" / "index")
    said = index.codes[:, [source == "attributes" for source in index.sources]]
    alike = (said[:, None] == said).mean(2)
    kind = np.arange(ITEMS) % 3
    assert alike[kind[:, None] == kind].mean() > 0.3 + alike[kind[:, None] != kind].mean()


def test_an_index_of_other_items_is_refused(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = load_recipe(tiny / "recipe.toml")
    monkeypatch.setattr(Parallel, "load_index", lambda *_: coded(ring(5)))
    with pytest.raises(UserError, match="build the index on this data set"):
        system.make_recommender(SimpleNamespace(dataset=ring, work=tmp_path))  # type: ignore[attr-defined]
