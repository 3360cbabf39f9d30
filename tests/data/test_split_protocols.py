"""Protocols: the graph stays, text of the drawn goes, the rest is as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from forwhy.data.dataset import Dataset, make_dataset
from forwhy.data.split import ProtocolConfig, apply_protocol
from forwhy.errors import UserError

USERS, ITEMS = 12, 9
Rows = set[tuple[object, ...]]


def random_dataset(seed: int, explained: int = 40) -> Dataset:
    """Every table, text about anybody; the first user and item are tested and have a profile, the last two of
    each side are never tested, so that something is left whoever is drawn."""
    rng = np.random.default_rng(seed)
    pairs = [divmod(int(key), ITEMS) for key in rng.permutation(USERS * ITEMS)[:70]]
    fixed = {(0, 0): "test", (10, 7): "train", (11, 8): "valid"}
    told = [*fixed, *(pair for pair in pairs if pair not in fixed)][:explained]
    chosen = rng.choice(["train", "valid", "test"], len(told), p=[0.6, 0.2, 0.2]).tolist()
    chosen = ["train" if u >= 10 or i >= 7 else split for (u, i), split in zip(told, chosen, strict=True)]
    splits = [fixed.get(pair, split) for pair, split in zip(told, chosen, strict=True)]
    entities = [("user", 0), ("item", 0)] + [("user", k) for k in range(1, 6)] + [("item", k) for k in (3, 4)]

    def frame(rows: list[tuple[int, int]], **columns: list[str]) -> pl.DataFrame:
        users, items = zip(*rows, strict=True)
        return pl.DataFrame({"user_id": users, "item_id": [f"i{item}" for item in items], **columns})

    def described(**columns: list[object]) -> pl.DataFrame:
        ids = [str(k) if side == "user" else f"i{k}" for side, k in entities]
        return pl.DataFrame({"side": [side for side, _ in entities], "entity_id": ids, **columns})

    everyone = [(user, user % ITEMS) for user in range(USERS)] + [(0, item) for item in range(ITEMS)]
    visited = list(dict.fromkeys([*pairs, *everyone]))
    tables = {
        "interactions": frame(visited, split=rng.choice(["train", "valid", "test"], len(visited)).tolist()),
        "items": pl.DataFrame({"item_id": [f"i{k}" for k in range(ITEMS)], "title": ["a title"] * ITEMS}),
        "explanations": frame(told, split=splits, text=[f"why {u} {i}" for u, i in told]),
        "reviews": frame(pairs[5:30], text=[f"review {u} {i}" for u, i in pairs[5:30]]),
        "profiles": described(text=[f"profile {side} {k}" for side, k in entities]),
        "intents": described(rank=[1] * len(entities), phrase=[f"phrase {k}" for _, k in entities]),
    }
    return make_dataset("random", tables, {"importer": "test"})


def drawing(users: float = 0.0, items: float = 0.0, seed: int = 0) -> ProtocolConfig:
    return ProtocolConfig(protocol="zero-shot", zero_shot_users=users, zero_shot_items=items, seed=seed)


def drawn(dataset: Dataset, config: ProtocolConfig) -> tuple[set[object], set[object]]:
    """Ids of users and items drawn: those of the test pairs left when only their side is drawn from."""
    found: list[set[object]] = []
    for side, share in (("user", config.zero_shot_users), ("item", config.zero_shot_items)):
        found.append(set())
        if share:
            one = apply_protocol(dataset, drawing(**{f"{side}s": share}, seed=config.seed))
            found[-1] = {value for (value,) in rows(one, "explanations", "test", side)}
    return found[0], found[1]


def rows(dataset: Dataset, table: str, split: str | None = None, side: str | None = None) -> Rows:
    frame = dataset.tables[table]
    if split is not None:
        frame = frame.filter(pl.col("split") == split)
    return set((frame if side is None else frame.select(f"{side}_id")).iter_rows())


SHARES = st.sampled_from([(0.3, 0.0), (0.0, 0.4), (0.3, 0.3), (0.6, 0.1)])


def applied(seed: int, shares: tuple[float, float]) -> tuple[Dataset, Dataset, set[object], set[object]]:
    whole, config = random_dataset(seed), drawing(*shares, seed=seed)
    return whole, apply_protocol(whole, config), *drawn(whole, config)


laws = settings(max_examples=12, deadline=None)


@laws
@given(st.integers(0, 10**6), SHARES)
def test_nobody_s_interactions_change(seed: int, shares: tuple[float, float]) -> None:
    whole, stripped, _, _ = applied(seed, shares)
    for split in ("train", "valid", "test"):
        for graph in ("leak-free", "as-published"):
            assert stripped.edges(split, graph).tolist() == whole.edges(split, graph).tolist()
    assert (stripped.users, stripped.items) == (whole.users, whole.items)
    assert stripped.heldout_pairs().tolist() == whole.heldout_pairs().tolist()
    assert stripped.titles() == whole.titles()


@laws
@given(st.integers(0, 10**6), SHARES)
def test_the_drawn_lose_all_text_and_nobody_else_any(seed: int, shares: tuple[float, float]) -> None:
    whole, stripped, users, items = applied(seed, shares)
    for table in ("reviews", "explanations"):
        read = {row for row in rows(whole, table) if row[-1] != "test"}
        kept = {row for row in read if row[0] not in users and row[1] not in items}
        assert {row for row in rows(stripped, table) if row[-1] != "test"} == kept
    lost = {("user", str(user)) for user in users} | {("item", str(item)) for item in items}
    for table in ("profiles", "intents"):
        assert rows(stripped, table) == {row for row in rows(whole, table) if row[:2] not in lost}


@laws
@given(st.integers(0, 10**6), SHARES)
def test_the_test_is_the_pairs_of_the_drawn_and_the_rest_is_set_aside(
    seed: int, shares: tuple[float, float]
) -> None:
    whole, stripped, users, items = applied(seed, shares)
    test = rows(stripped, "explanations", "test")
    assert test
    assert all(row[0] in users or row[1] in items for row in test)
    warm = {(u, i, t, "test") for u, i, t in rows(stripped, "withheld") if t}
    assert not any(row[0] in users or row[1] in items for row in warm)
    assert test | warm == rows(whole, "explanations", "test")
    assert len(stripped.warm_pairs()) == len(warm)
    silent = {(u, i) for u, i, t in rows(stripped, "withheld") if not t}
    touched = {r for r in rows(whole, "explanations", "valid") if r[0] in users or r[1] in items}
    assert silent == {row[:2] for row in touched}


@laws
@given(st.integers(0, 10**6), SHARES)
def test_the_record_counts_what_was_done(seed: int, shares: tuple[float, float]) -> None:
    whole, stripped, users, items = applied(seed, shares)
    record = stripped.source["protocol"]
    assert (record["users_drawn"], record["items_drawn"]) == (len(users), len(items))
    assert record["test_pairs"] == len(stripped.pairs("test"))
    assert record["warm_pairs"] == len(stripped.warm_pairs())
    removed = {
        "train_explanations": len(whole.pairs("train")) - len(stripped.pairs("train")),
        "valid_explanations": len(whole.pairs("valid")) - len(stripped.pairs("valid")),
        **{
            name: len(rows(whole, name) - rows(stripped, name)) for name in ("reviews", "profiles", "intents")
        },
    }
    assert record["removed"] == removed
    assert stripped.source["importer"] == "test"


@laws
@given(st.integers(0, 10**6), st.floats(0.05, 1), st.floats(0.05, 1))
def test_a_larger_share_draws_whom_a_smaller_one_draws(seed: int, first: float, second: float) -> None:
    whole, (small, large) = random_dataset(seed, explained=60), sorted((first, second))
    for side, ids in (("users", 0), ("items", 1)):
        less, more = (drawn(whole, drawing(**{side: share}, seed=seed))[ids] for share in (small, large))
        assert less <= more
        assert len(more) == max(1, round(large * len(drawn(whole, drawing(**{side: 1.0}, seed=seed))[ids])))


def test_a_share_of_one_draws_everybody_tested_who_has_text() -> None:
    whole = random_dataset(1)
    users, _ = drawn(whole, drawing(1.0))
    train = {user for (user,) in rows(whole, "explanations", "train", "user")}
    held = {(row[0], row[1]) for row in rows(whole, "explanations") if row[-1] != "train"}
    held |= {row[:2] for row in rows(whole, "interactions") if row[2] != "train"}
    reviewers = {user for user, item, _ in rows(whole, "reviews") if (user, item) not in held}
    tested = {user for (user,) in rows(whole, "explanations", "test", "user")}
    assert users == tested & (train | reviewers | set(range(6)))


def test_who_is_drawn_depends_on_the_seed_only() -> None:
    whole = random_dataset(2, explained=60)
    draws = [drawn(whole, drawing(0.5, 0.5, seed)) for seed in range(8)]
    assert drawn(random_dataset(2, explained=60), drawing(0.5, 0.5, 3)) == draws[3]
    assert len({frozenset(users) for users, _ in draws}) > 1
    assert len({frozenset(items) for _, items in draws}) > 1
    prints = {apply_protocol(whole, drawing(0.5, seed=seed)).fingerprint for seed in (0, 0, 1)}
    assert len(prints) == 2
    assert whole.fingerprint not in prints


def test_other_protocols_leave_the_data_as_it_is() -> None:
    whole = random_dataset(0)
    for name, graph in (("leak-free", "leak-free"), ("as-published", "as-published")):
        config = ProtocolConfig(protocol=name)
        assert config.graph == graph
        assert apply_protocol(whole, config) is whole
    assert drawing(0.5).graph == "leak-free"
    assert not len(whole.warm_pairs())


def test_a_share_of_nobody_is_refused() -> None:
    with pytest.raises(UserError, match="zero-shot draws nobody"):
        drawing(0.0, 0.0)


def test_applied_again_it_is_the_same_and_another_is_refused(tmp_path: Path) -> None:
    stripped = apply_protocol(random_dataset(3), drawing(0.5))
    assert apply_protocol(stripped, drawing(0.5)) is stripped
    stripped.save(tmp_path / "saved")
    loaded = Dataset.load(tmp_path / "saved")
    assert apply_protocol(loaded, drawing(0.5)) is loaded
    assert loaded.edges("train").tolist() == random_dataset(3).edges("train").tolist()
    for other in (drawing(0.4), ProtocolConfig()):
        with pytest.raises(UserError, match="made by protocol"):
            apply_protocol(stripped, other)


def without(dataset: Dataset, **filters: pl.Expr | None) -> Dataset:
    kept = {name: table for name, table in dataset.tables.items() if filters.get(name, 0) is not None}
    kept = {name: frame.filter(filters[name]) if name in filters else frame for name, frame in kept.items()}
    return make_dataset("less", kept)


@pytest.mark.parametrize(
    ("filters", "config", "said"),
    [
        ({"explanations": None}, drawing(0.5), "no test explanations, so zero-shot has nothing to test"),
        ({"explanations": pl.col("split") != "test"}, drawing(0.5), "no test explanations"),
        (
            {"explanations": pl.col("split") == "test", "reviews": None, "profiles": None, "intents": None},
            drawing(0, 0.5),
            "no item of a test pair has text to lose; set data.zero_shot_items = 0",
        ),
        (
            {"explanations": (pl.col("split") == "test") | (pl.col("user_id") == 0)},
            drawing(1.0),
            "zero-shot leaves no train explanation; draw smaller shares",
        ),
    ],
)
def test_what_cannot_be_drawn_is_said_in_one_line(
    filters: dict[str, pl.Expr | None], config: ProtocolConfig, said: str
) -> None:
    with pytest.raises(UserError, match=said) as refused:
        apply_protocol(without(random_dataset(4, explained=60), **filters), config)
    assert "\n" not in str(refused.value)


def test_a_dataset_with_few_tables_will_do() -> None:
    few = without(random_dataset(5), reviews=None, profiles=None, intents=None)
    stripped = apply_protocol(few, drawing(0.3))
    assert set(stripped.source["protocol"]["removed"]) == {"train_explanations", "valid_explanations"}
    assert stripped.source["protocol"]["removed"]["train_explanations"] > 0


def test_the_keys_former_name_is_read_and_both_are_refused() -> None:
    assert ProtocolConfig.model_validate({"graph": "as-published"}).protocol == "as-published"
    with pytest.raises(ValidationError, match="graph"):
        ProtocolConfig.model_validate({"graph": "as-published", "protocol": "leak-free"})
