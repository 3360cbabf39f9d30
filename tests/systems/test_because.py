"""`because`: profiles are scored on people of whom the explainer read nothing."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest

from forwhy.data.dataset import Dataset
from forwhy.evaluate.document import evaluation_document
from forwhy.report import render
from forwhy.systems.because import Because


class Teller:
    """Tells of each user what they are, or of everybody the same."""

    def __init__(self, dataset: Dataset, described: set[int], knows: bool) -> None:
        self.dataset, self.described, self.knows = dataset, described, knows
        self.known = SimpleNamespace(seen=dataset.edges("train"))
        self.asked: list[int] = []

    def describe(self, users: Sequence[str]) -> list[str]:
        self.asked = [self.dataset.users.index(user) for user in users]
        told = self.dataset.phrases("user")
        return ["; ".join(told[user]) if self.knows else "a person" for user in self.asked]


@pytest.fixture
def system() -> Because:
    return Because.model_validate({"name": "b", "data": {"path": "town"}, "encoder": {"name": "hash"}})


@pytest.mark.parametrize("knows", [True, False])
def test_profiles_are_of_people_who_were_not_read(tiny_town: Dataset, system: Because, knows: bool) -> None:
    read = set(range(0, len(tiny_town.users), 2))
    teller = Teller(tiny_town, read, knows)
    found = system._profiles(tiny_town, teller)  # type: ignore[arg-type]
    assert found is not None
    assert 4 < len(teller.asked) == found["people"] <= 40
    assert not read & set(teller.asked)
    if knows:
        assert found["intervals"]["right"][0] > found["shuffled"]
    else:
        assert found["right"] == pytest.approx(0, abs=1e-6)
    shown = render({**evaluation_document(), "profiles": found})
    assert len(shown) > len(render(evaluation_document()))


def test_nobody_is_asked_about_without_descriptions(tiny_town: Dataset, system: Because) -> None:
    for read in (set(), set(np.arange(len(tiny_town.users)).tolist())):
        teller = Teller(tiny_town, read, knows=True)
        assert system._profiles(tiny_town, teller) is None  # type: ignore[arg-type]
        assert teller.asked == []
