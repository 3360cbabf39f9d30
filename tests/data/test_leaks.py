"""What could leak is counted as plain sets count it, and each count counts something else."""

import random

import polars as pl
import pytest

from forwhy.data.dataset import Dataset, make_dataset

Row = tuple[int, int, str]


def drawn(seed: int) -> Dataset:
    """Interactions with repeats in several splits, explained pairs with and without interaction."""
    draw = random.Random(seed)
    splits = ("train", "train", "train", "valid", "test")
    visits = [(draw.randrange(9), draw.randrange(7), draw.choice(splits)) for _ in range(70)]
    told = {(draw.randrange(9), draw.randrange(7)): draw.choice(splits) for _ in range(25)}
    away = [pair for pair in ((draw.randrange(9), draw.randrange(7)) for _ in range(4)) if pair not in told]
    tables = {
        "interactions": pl.DataFrame(visits, schema=["user_id", "item_id", "split"], orient="row"),
        "users": pl.DataFrame({"user_id": range(10)}),
        "items": pl.DataFrame({"item_id": range(8)}),
        "explanations": pl.DataFrame(
            [(*pair, "so", split) for pair, split in told.items()],
            schema=["user_id", "item_id", "text", "split"],
            orient="row",
        ),
        "withheld": pl.DataFrame(
            [(*pair, "") for pair in dict.fromkeys(away)],
            schema=["user_id", "item_id", "text"],
            orient="row",
        ),
    }
    return make_dataset("drawn", tables, duplicates="keep")


def rows(dataset: Dataset, table: str) -> list[Row]:
    return list(dataset.tables[table].select("user_id", "item_id", "split").iter_rows())


def counted(dataset: Dataset) -> dict[str, float]:
    """The counts by sets of Python."""
    visits, told = rows(dataset, "interactions"), rows(dataset, "explanations")
    held = {row[:2] for row in told if row[2] != "train"}
    held |= set(dataset.tables["withheld"].select("user_id", "item_id").iter_rows())
    train, tested = ({row[:2] for row in visits if (row[2] == "train") is kind} for kind in (True, False))
    explained = {row[:2] for row in told if row[2] == "train"}
    users, items = ({pair[side] for pair in train - held} for side in (0, 1))
    return {
        "heldout_pairs": len(held),
        "heldout_pairs_in_train_graph": len(held & train),
        "heldout_pairs_in_train_graph_share": round(len(held & train) / len(held), 4),
        "heldout_pairs_in_heldout_interactions": len(held & tested),
        "train_explanations_in_heldout_interactions": len(explained & tested),
        "explanations_in_train_and_heldout": len(explained & held),
        "heldout_interactions_seen_in_train": len(tested & train),
        "profiles_possibly_leaking": False,
        "users_without_training_edges": len(set(range(10)) - users),
        "items_without_training_edges": len(set(range(8)) - items),
        "heldout_users_without_training_edges": len({user for user, _ in held} - users),
        "heldout_items_without_training_edges": len({item for _, item in held} - items),
    }


@pytest.mark.parametrize("seed", range(8))
def test_counts_are_those_of_plain_sets(seed: int) -> None:
    assert drawn(seed).leaks() == counted(drawn(seed))


def test_a_count_of_another_set_would_be_another_number() -> None:
    """Interactions u1 i1 (train and test) and u1 i2 (train and valid) were seen; no explanation is about them."""
    visits = [
        (1, 1, "train"),
        (1, 1, "test"),
        (1, 2, "train"),
        (1, 2, "valid"),
        (2, 1, "train"),
        (2, 2, "test"),
    ]
    told = [(2, 1, "said", "test")]
    frames = {
        "interactions": pl.DataFrame(visits, schema=["user_id", "item_id", "split"], orient="row"),
        "explanations": pl.DataFrame(told, schema=["user_id", "item_id", "text", "split"], orient="row"),
    }
    leaks = make_dataset("seen", frames, duplicates="keep").leaks()
    assert leaks["heldout_interactions_seen_in_train"] == 2
    assert (leaks["heldout_pairs"], leaks["heldout_pairs_in_train_graph"]) == (1, 1)
    assert leaks["heldout_pairs_in_heldout_interactions"] == 0


def test_edges_pairs_and_texts_keep_out_what_is_held() -> None:
    """`Dataset` cuts by the same sets."""
    for seed in range(8):
        dataset = drawn(seed)
        visits, told = rows(dataset, "interactions"), rows(dataset, "explanations")
        held = {tuple(pair) for pair in dataset.heldout_pairs().tolist()}
        tested = {row[:2] for row in visits if row[2] != "train"}
        train = {row[:2] for row in visits if row[2] == "train"}
        assert [tuple(pair) for pair in dataset.edges("train").tolist()] == sorted(train - held)
        assert [tuple(pair) for pair in dataset.edges("train", "as-published").tolist()] == sorted(train)
        clear = dataset.external(dataset.pairs("train", clear_of_interactions=True))
        assert clear == [row[:2] for row in told if row[2] == "train" and row[:2] not in tested]
        readable = dataset.external(dataset.training_texts("explanations"))
        assert readable == [row[:2] for row in told if row[2] == "train" and row[:2] not in tested | held]
        users, items = dataset.heldout_pairs().T
        assert dataset.is_heldout(users, items).all()
        assert dataset.is_heldout(*dataset.edges("train").T).sum() == 0
