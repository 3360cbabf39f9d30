"""A fitted TIGER as a folder: its weights and its index."""

from __future__ import annotations

from pathlib import Path

import forwhy.artifact as artifact
from forwhy.graph.known import id_tables, read_ids
from forwhy.recommend.generative.recommender import (
    index_part,
    metric_rows,
    own_index,
    tensors_of,
    train_histories,
)
from forwhy.recommend.tiger.config import TigerConfig
from forwhy.recommend.tiger.network import TigerNetwork, tiger_tokens
from forwhy.recommend.tiger.recommender import TigerRecommender
from forwhy.training import resolve_device
from forwhy.training.checkpoint import kept_generators

__all__ = ["KIND", "load", "save"]

KIND = "tiger"
NETWORK = "network."


def save(folder: Path, fitted: TigerRecommender) -> None:
    """Write the artifact."""
    state = fitted.network.state_dict()
    tensors = {f"{NETWORK}{name}": value.cpu().numpy() for name, value in state.items()}
    tensors |= {"train.items": fitted.train.items, "train.offsets": fitted.train.offsets}
    config = {
        "options": fitted.config.model_dump(mode="json"),
        "index": fitted.index.fingerprint,
        "metrics": fitted.metrics,
        "repeat_gain": fitted.repeat_gain,
    }
    tables = id_tables(fitted.users, fitted.items, fitted.titles)
    with index_part(fitted.index) as parts:
        artifact.save(folder, KIND, config, tensors, tables, _card(fitted), parts)


def load(folder: Path, device: str) -> TigerRecommender:
    """Read the artifact; see `TigerRecommender.from_pretrained`."""
    stored = artifact.load(folder, KIND)
    config = TigerConfig.model_validate(stored.config["options"])
    index = own_index(folder, stored)
    with kept_generators():
        network = TigerNetwork(tiger_tokens(index), config)
    network.load_state_dict(tensors_of(stored, NETWORK))
    network.to(resolve_device(device))
    users, items, titles = read_ids(stored.tables)
    train = train_histories(stored)
    learnt = stored.config["metrics"], stored.config["repeat_gain"]
    return TigerRecommender(users, items, titles, train, index, network, config, *learnt)


def _card(fitted: TigerRecommender) -> str:
    return (
        "---\nlibrary_name: forwhy\ntags: [recommendation, generative-recommendation]\n---\n# TIGER\n\n"
        f"Writes the codes of the next of {len(fitted.items):,} items after the last {fitted.config.window} of a "
        "history. Load with `forwhy.recommend.tiger.TigerRecommender.from_pretrained(folder)`.\n\n"
        f"| stage | measured in training | |\n|---|---|---|\n{metric_rows(fitted.metrics)}\n"
    )
