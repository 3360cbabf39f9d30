"""Sparsity groups: every tested user in one, equal in size, in order of what was read of them."""

from collections import Counter

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwhy.data.dataset import Dataset, make_dataset
from forwhy.evaluate.gain import LEAST, SEEN, UNSEEN, sparsity_groups, text_groups, warm_group
from forwhy.evaluate.reading import Outputs
from forwhy.evaluate.text import TextScores, score_texts
from forwhy.text.encoder import HashEncoder

TEXTS = ("quiet cafés and tea", "a bar, loud and late", "books", "good cake; slow service")
SEVERAL = 3


def dataset(told: dict[int, tuple[int, int]], visits: dict[int, int] | None = None) -> Dataset:
    """User -> explanations in train and in test, each about another item; and more visits."""
    rows = [
        (user, item, "train" if item < train else "test")
        for user, (train, test) in told.items()
        for item in range(train + test)
    ]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "split"], orient="row")
    more = [(user, 100 + k, "train") for user, count in (visits or {}).items() for k in range(count)]
    shop = [(user, 99, "train") for user in told]
    return make_dataset(
        "told",
        {
            "interactions": pl.DataFrame([*rows, *shop, *more], schema=frame.schema, orient="row"),
            "explanations": frame.with_columns(
                pl.Series("text", [f"{TEXTS[(u + i) % 4]} {i}" for u, i, _ in rows])
            ),
        },
    )


def outputs(data: Dataset) -> Outputs:
    pairs = data.pairs("test")
    said = [TEXTS[(user + 2 * item) % 4] for user, item in data.external(pairs)]
    return Outputs.of(data.external(pairs), said, pairs.texts)


def scored(written: Outputs) -> TextScores:
    return score_texts(written.predictions, written.references, HashEncoder())


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(
        st.integers(0, 60), st.tuples(st.integers(0, 4), st.integers(0, 2)), min_size=1, max_size=25
    ).filter(lambda told: any(map(sum, told.values())))
)
def test_groups_are_equal_parts_in_order(told: dict[int, tuple[int, int]]) -> None:
    data = dataset(told)
    groups = sparsity_groups(data)
    assert tuple(groups) == (*SEEN, UNSEEN)
    members = [data.users.values[user] for group in groups.values() for user in group]
    assert sorted(members) == sorted(user for user, (_, test) in told.items() if test)
    sizes = [len(groups[name]) for name in SEEN]
    assert max(sizes) - min(sizes) <= 1
    counts = [told[data.users.values[user]][0] for name in SEEN for user in groups[name]]
    assert counts == sorted(counts)
    assert all(counts)
    assert {told[data.users.values[user]][0] for user in groups[UNSEEN]} <= {0}


def test_tied_users_are_ranked_by_their_interactions() -> None:
    data = dataset({user: (1, 1) for user in range(5)}, visits={0: 4, 1: 0, 2: 3, 3: 1, 4: 2})
    ranked = [data.users.values[group[0]] for name, group in sparsity_groups(data).items() if name in SEEN]
    assert ranked == [1, 3, 4, 2, 0]


@pytest.fixture(scope="module")
def many() -> Dataset:
    """Three users a group, each with two test pairs; tst1 learnt from 1 text a user, tst5 from 5."""
    told = {user: (user // SEVERAL, 2) for user in range(6 * SEVERAL)}
    return dataset(told | {99: (3, 0)})


def test_a_group_s_numbers_are_those_of_its_pairs_alone(many: Dataset) -> None:
    written = outputs(many)
    groups = text_groups(many, written, scored(written))
    for name, learnt in zip((UNSEEN, *SEEN), range(6), strict=True):
        users = {user for user in range(6 * SEVERAL) if user // SEVERAL == learnt}
        rows = [row for row, (user, _) in enumerate(written.pairs) if user in users]
        alone = scored(written.take(rows))
        group = groups[name]
        assert group.scores is not None
        assert (group.pairs, group.users, group.training_texts) == (6, 3, (learnt, learnt))
        assert group.scores.corpus == pytest.approx(alone.corpus)
        assert group.scores.intervals() == alone.intervals()
        assert group.scores.stds() == alone.stds()
    assert sum(group.pairs for group in groups.values()) == len(written)


def test_few_pairs_give_a_count_and_no_numbers(many: Dataset) -> None:
    written = outputs(many)
    unseen = np.isin(many.users.numbers(user for user, _ in written.pairs), sparsity_groups(many)[UNSEEN])
    kept = written.take(np.flatnonzero(unseen)[: LEAST + 1].tolist())
    groups = text_groups(many, kept, scored(kept), least=LEAST + 2)
    assert Counter(group.scores for group in groups.values()) == {None: 6}
    assert groups[UNSEEN].pairs == LEAST + 1
    assert (groups["tst5"].pairs, groups["tst5"].users, groups["tst5"].training_texts) == (0, 0, (0, 0))


def test_pairs_of_strangers_are_in_no_group(many: Dataset) -> None:
    written = outputs(many)
    pairs = [(12345, 1), (99, 0), *written.pairs[2:]]
    strange = Outputs.of(pairs, written.predictions, written.references)
    groups = text_groups(many, strange, scored(strange))
    assert sum(group.pairs for group in groups.values()) == len(written) - 2


def test_warm_pairs_are_scored_on_their_own(many: Dataset) -> None:
    written = outputs(many)
    group = warm_group(many, written, HashEncoder())
    assert (group.pairs, group.users, group.training_texts) == (36, 18, (0, 5))
    assert group.scores is not None
    assert group.scores.corpus == scored(written).corpus
    assert warm_group(many, written.take(range(LEAST - 1))).scores is None
