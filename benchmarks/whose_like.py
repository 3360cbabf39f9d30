"""Whose like is it? By the words of a history, of people whose likes were not read; by chance .5.

    OMP_NUM_THREADS=1 python -m benchmarks.whose_like out/imdb [--recipe recipes/imdb.toml]

Half of the people lose their likes, a vocabulary is learned without these, and it is asked about them; then the other
half. One JSON line for each; without a data set the little town.
"""

import argparse
import json
import tempfile
import tomllib
from collections.abc import Collection
from pathlib import Path

import numpy as np
import polars as pl

from forwhy.columns import SIDES
from forwhy.data.dataset import Dataset
from forwhy.data.intents import IntentsConfig, entity_phrases
from forwhy.data.sample import little_town
from forwhy.evaluate.choice import two_choice
from forwhy.text.encoder import TextEncoder, text_encoder
from forwhy.vocabulary.options import TokenizerConfig
from forwhy.vocabulary.tokenizer import BehaviourTokenizer
from forwhy.vocabulary.vocabulary import Vocabulary


def without_likes(dataset: Dataset, users: Collection[int]) -> Dataset:
    """The data set without the intents of these users."""
    ids = [str(dataset.users.values[user]) for user in users]
    theirs = (pl.col("side") == "user") & pl.col("entity_id").is_in(ids)
    tables = {**dataset.tables, "intents": dataset.table("intents").filter(~theirs)}
    return dataset.derive(tables, {**dataset.source, "likes_left_out": len(ids)})


def learned(dataset: Dataset, recipe: Path, encoder: TextEncoder) -> Vocabulary:
    """A vocabulary with the options of the recipe."""
    options = tomllib.loads(recipe.read_text(encoding="utf-8"))
    intents = IntentsConfig(**options.get("intents", {}))
    phrases = {side: entity_phrases(dataset, side, intents) for side in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        config = TokenizerConfig(**options.get("vocabulary", {}))
        return BehaviourTokenizer(config).fit(dataset, phrases, encoder, folder)


def main() -> None:
    """Learn twice, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", nargs="?", help="folder that `forwhy data import` wrote")
    parser.add_argument("--recipe", type=Path, default=Path("recipes/imdb.toml"), help="of the vocabulary")
    parser.add_argument("--encoder", default="minilm", help="as for text_encoder")
    options = parser.parse_args()
    dataset = Dataset.load(options.dataset) if options.dataset else little_town()
    encoder = text_encoder(options.encoder)
    everybody = np.random.default_rng(0).permutation(len(dataset.users))
    for half in np.array_split(everybody, 2):
        unread = half.tolist()
        vocabulary = learned(without_likes(dataset, unread), options.recipe, encoder)
        print(json.dumps(two_choice(dataset, encoder, None, vocabulary, unread)), flush=True)


if __name__ == "__main__":
    main()
