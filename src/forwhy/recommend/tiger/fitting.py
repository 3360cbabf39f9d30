"""Fitting: the network from its seed, its training, and the recommender that comes out of it."""

from __future__ import annotations

from pathlib import Path

from forwhy.data.dataset import Dataset
from forwhy.data.sequences import Sequences
from forwhy.recommend.decoding import CodeTrie
from forwhy.recommend.generative.recommender import check_data, loop
from forwhy.recommend.tiger.config import TigerConfig
from forwhy.recommend.tiger.network import TigerNetwork, tiger_tokens
from forwhy.recommend.tiger.recommender import TigerRecommender
from forwhy.recommend.tiger.task import TigerTask
from forwhy.training import seed_everything, train
from forwhy.training.checkpoint import kept_generators
from forwhy.vocabulary.indices import ItemIndex

__all__ = ["fit"]


def fit(
    dataset: Dataset, sequences: Sequences, index: ItemIndex, folder: Path, config: TigerConfig
) -> TigerRecommender:
    """See `TigerRecommender.fit`."""
    check_data(dataset, sequences, index)
    with kept_generators():
        seed_everything(config.seed)
        network = TigerNetwork(tiger_tokens(index), config)
    trie = CodeTrie.from_codes(index.codes, index.sizes)
    validates = bool(len(sequences.evaluated("valid")))
    options = config.model_dump_json(exclude={"device", "checkpoint_seconds", "beam", "normalise"})
    identity = "\n".join((dataset.fingerprint, sequences.fingerprint(), index.fingerprint, options))
    task = TigerTask(network, sequences, trie, config)
    result = train(task, loop(config, validates), folder / "full", "tiger", identity)
    metrics = {"full": result.summary()}
    parts = dataset.users, dataset.items, dataset.titles(), sequences.train
    fitted = TigerRecommender(*parts, index, network, config, metrics)
    fitted.learn_repeats(sequences, config.validation_users, config.seed)
    return fitted
