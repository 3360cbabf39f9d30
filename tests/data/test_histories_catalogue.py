"""A catalogue comes back from its tables and tensors, and says what each user took."""

from pathlib import Path

import numpy as np
import pytest

from forwhy import artifact
from forwhy.data.dataset import Dataset
from forwhy.data.histories import Catalogue, Histories
from forwhy.data.sample import little_town


@pytest.fixture(scope="module")
def town() -> Dataset:
    return little_town(users=30, items=40, visits=6)


def test_it_comes_back_from_an_artifact(town: Dataset, tmp_path: Path) -> None:
    known = Catalogue.of(town, town.edges("train"))
    content = artifact.Content(tensors=known.tensors(), tables=known.tables())
    artifact.save(tmp_path / "a", "known", content)
    again = Catalogue.read(artifact.load(tmp_path / "a", "known"))
    assert (again.users, again.items, list(again.titles)) == (known.users, known.items, known.titles)
    assert again.taken.tolist() == known.taken.tolist()
    assert again.ids("user") == town.users
    assert again.ids("item") == town.items


def test_histories_are_what_each_user_took(town: Dataset) -> None:
    edges = town.edges("train")
    known = Catalogue.of(town, edges)
    assert len(known.histories) == len(town.users)
    for user in range(len(town.users)):
        assert known.histories[user].tolist() == edges[edges[:, 0] == user, 1].tolist()
    for number, side in enumerate(("user", "item")):
        assert np.flatnonzero(known.has_history[side]).tolist() == np.unique(edges[:, number]).tolist()


def test_histories_and_their_pairs_make_the_same_catalogue(town: Dataset) -> None:
    rows = Histories.of([[3, 1, 3]] + [[]] * (len(town.users) - 2) + [[2]])
    known = Catalogue.of(town, rows)
    assert known.taken.tolist() == [[0, 3], [0, 1], [0, 3], [len(town.users) - 1, 2]]
    assert known.histories.items.tolist() == rows.items.tolist()
    assert known.histories.offsets.tolist() == rows.offsets.tolist()
