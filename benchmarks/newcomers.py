"""How far below known ones are people and items that come later? People and items are held out whole, then found again.

One vocabulary is learned without any interaction, text or explanation of the held-out ones, another one with all. The
held-out people are then known by their history, by their profile, by both; the held-out items by their text. Recall@20
is over the whole catalogue, on test interactions of the held-out; R2 is of the vectors of explanations of the held-out
items, by a map that is fitted on those of others. Prints one JSON document.

    OMP_NUM_THREADS=1 python benchmarks/newcomers.py DATASET --work FOLDER
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forwhy.columns import SIDES, Side
from forwhy.data.dataset import Dataset, Pairs, make_dataset
from forwhy.data.intents import IntentsConfig
from forwhy.data.texts import entity_texts
from forwhy.evaluate.controls import ridge
from forwhy.evaluate.ranking import rank_all
from forwhy.text.encoder import TextEncoder, text_encoder
from forwhy.vocabulary.newcomers import assemble
from forwhy.vocabulary.options import TokenizerConfig
from forwhy.vocabulary.texts import text_vectors
from forwhy.vocabulary.tokenizer import BehaviourTokenizer
from forwhy.vocabulary.vocabulary import Vocabulary

Ints = NDArray[np.int64]
Texts = Mapping[Side, Mapping[int, Sequence[str]]]


def drawn(among: Ints, count: int, seed: int) -> Ints:
    """Some of these numbers."""
    return np.sort(np.random.default_rng(seed).permutation(np.unique(among))[:count])


def without(dataset: Dataset, held: Mapping[Side, Ints]) -> Dataset:
    """The data set as if the held-out had come later: nothing of them is left but what they are tested on."""
    known = pl.lit(True)
    for side in SIDES:
        gone = [dataset.ids(side).values[number] for number in held[side].tolist()]
        known = known & ~pl.col(f"{side}_id").is_in(gone)
    tables = dict(dataset.tables)
    for name in ("interactions", "explanations"):
        tables[name] = tables[name].filter(known | (pl.col("split") == "test"))
    tables["users"] = pl.DataFrame({"user_id": list(dataset.users.values)})
    return make_dataset(dataset.name, tables)


def learned(dataset: Dataset, texts: Texts, encoder: TextEncoder, folder: Path, epochs: int) -> Vocabulary:
    """The vocabulary in the folder, learned first where there is none."""
    if (folder / "config.json").exists():
        return Vocabulary.from_pretrained(folder)
    config = TokenizerConfig(text_first=3, micro_slots=7, epochs=epochs, device="cpu")
    found = BehaviourTokenizer(config).fit(dataset, {}, encoder, folder.with_suffix(".work"), texts=texts)
    found.save_pretrained(folder)
    return found


def recall(vocabulary: Vocabulary, dataset: Dataset, test: Ints) -> float:
    """Recall@20 of these interactions."""
    q = {side: vocabulary.representation(side) for side in SIDES}
    seen = dataset.edges("train", "as-published")
    return round(rank_all(q["user"], q["item"], seen, test).mean()["recall@20"], 4)


def with_words(
    vocabulary: Vocabulary, side: Side, numbers: Ints, codes: Sequence[NDArray[np.int32]]
) -> Vocabulary:
    """With these words for those that come later."""
    whole = vocabulary.codes[side].copy()
    whole[numbers] = np.stack(codes)
    return replace(vocabulary, codes={**vocabulary.codes, side: whole})


def explained(vocabulary: Vocabulary, fitted: Pairs, tested: Pairs, encoder: TextEncoder) -> float:
    """R2 of explanations from what the words of their items say."""
    said, told, wanted = vocabulary.said("item"), encoder.encode(fitted.texts), encoder.encode(tested.texts)
    expected = ridge(said[fitted.items], told)(said[tested.items])
    return round(float(1 - np.square(wanted - expected).sum() / np.square(wanted - told.mean(0)).sum()), 4)


def main() -> None:
    """Learn both vocabularies, find the held-out again, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--people", type=int, default=800)
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--encoder", default="minilm")
    options = parser.parse_args()
    dataset, encoder = Dataset.load(options.dataset), text_encoder(options.encoder)
    config = IntentsConfig(source="profiles")
    texts: dict[Side, dict[int, list[str]]] = {side: entity_texts(dataset, side, config) for side in SIDES}
    train, test, profiles = dataset.edges("train"), dataset.edges("test"), dataset.profiles("user")
    told = [dataset.pairs(split) for split in ("train", "valid", "test")]
    pairs = Pairs(
        np.concatenate([one.users for one in told]),
        np.concatenate([one.items for one in told]),
        tuple(text for one in told for text in one.texts),
    )
    can = {
        "user": np.intersect1d(np.intersect1d(train[:, 0], test[:, 0]), list(profiles)),
        "item": np.intersect1d(np.intersect1d(pairs.items, test[:, 1]), list(texts["item"])),
    }
    held: dict[Side, Ints] = {
        "user": drawn(can["user"], options.people, 0),
        "item": drawn(can["item"], options.items, 1),
    }
    left = {
        side: {k: v for k, v in texts[side].items() if k not in set(held[side].tolist())} for side in SIDES
    }
    hot = learned(dataset, texts, encoder, options.work / "hot", options.epochs)
    late = learned(without(dataset, held), left, encoder, options.work / "late", options.epochs)

    of_people = test[np.isin(test[:, 0], held["user"]) & ~np.isin(test[:, 1], held["item"])]
    old = train[~np.isin(train[:, 1], held["item"])]
    told_by = encoder.encode([profiles[user] for user in held["user"].tolist()])
    popular = np.bincount(old[:, 1], minlength=len(dataset.items)).astype(np.float32)[:, None]
    ones = np.ones((len(dataset.users), 1), np.float32)
    seen = dataset.edges("train", "as-published")
    people = {"known": recall(hot, dataset, of_people)}
    people["popularity"] = round(rank_all(ones, popular, seen, of_people).mean()["recall@20"], 4)
    for name, reads in {"history": (1, 0), "profile": (0, 1), "both": (1, 1)}.items():
        found = [
            assemble(
                late,
                "user",
                history=old[old[:, 0] == user, 1].tolist() if reads[0] else (),
                text=told_by[row] if reads[1] or not (old[:, 0] == user).any() else None,
            ).codes
            for row, user in enumerate(held["user"].tolist())
        ]
        people[name] = recall(with_words(late, "user", held["user"], found), dataset, of_people)

    of_items = test[np.isin(test[:, 1], held["item"]) & ~np.isin(test[:, 0], held["user"])]
    vectors = text_vectors(texts["item"], len(dataset.items), encoder)[held["item"]]
    codes = [assemble(late, "item", text=vector).codes for vector in vectors]
    found_again = with_words(late, "item", held["item"], codes)
    outside = ~np.isin(pairs.items, held["item"])
    fitted, tested = (pairs.select(np.flatnonzero(rows)) for rows in (outside, ~outside))
    items = {
        "recall@20": {
            "known": recall(hot, dataset, of_items),
            "text": recall(found_again, dataset, of_items),
        },
        "R2": {
            "known": explained(hot, fitted, tested, encoder),
            "text": explained(found_again, fitted, tested, encoder),
        },
        "pairs": len(tested),
        "interactions": len(of_items),
    }
    print(
        json.dumps({"people": people, "held_out": {s: len(held[s]) for s in SIDES}, "items": items}, indent=1)
    )


if __name__ == "__main__":
    main()
