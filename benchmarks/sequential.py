"""Next-item baselines by leave-one-out and full ranking: `python -m benchmarks.sequential DATA OUT`.

DATA is a data set folder (`forwhy data import lcrec`), OUT keeps checkpoints and models: a killed run continues, a
finished model is only ranked again. Validation ranks are printed unless `--split test`. `shuffled` is NDCG@10 after
the very same windows in random order: what is lost to it is what order was worth. Seconds are of training with its
validations, and of ranking.
"""

import argparse
import json
import time
from pathlib import Path

import torch

from forwhy.data.dataset import Dataset
from forwhy.data.histories import Heldout, Histories, Sequences
from forwhy.evaluate.ranking import RankingResult, rank_sequences
from forwhy.recommend.base import PopularityRecommender, Recommender
from forwhy.recommend.networks import kind
from forwhy.recommend.sequential import NextItemRecommender
from forwhy.systems.item_knn import ItemKnnRecommender, KnnConfig

METRICS = ("recall@1", "recall@5", "recall@10", "recall@20", "ndcg@5", "ndcg@10", "ndcg@20", "mrr")
SHUFFLE = 0
"""Seed of the order-shuffle check."""


def main() -> None:
    """Train what is not trained yet, rank, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--models", default="popularity,item-knn,gru4rec,sasrec", help="of these and din")
    parser.add_argument("--split", choices=["valid", "test"], default="valid")
    parser.add_argument(
        "--options", type=json.loads, default={}, help="options of the models' configs, as JSON"
    )
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    dataset = Dataset.load(options.data)
    sequences = Sequences.from_dataset(dataset)
    print(
        f"{dataset.name}, {options.split}: {len(sequences.evaluated(options.split)):,} users, "
        f"{sequences.skipped(options.split):,} without a left-out item, {sequences.n_items:,} items, "
        f"{len(sequences.train.items):,} training items, fingerprint {sequences.fingerprint()[:16]}\n"
    )
    print("| model | " + " | ".join(METRICS) + " | shuffled | seconds |")
    print("|---" * (len(METRICS) + 3) + "|")
    for name in options.models.split(","):
        model, seconds = made(name, dataset, options.out / name, options.options)
        print(line(name, model, seconds, sequences, options.split), flush=True)


def made(name: str, dataset: Dataset, folder: Path, options: dict[str, object]) -> tuple[Recommender, float]:
    """The fitted model, and the seconds that its training took (all runs of it together)."""
    start = time.perf_counter()
    if name == "popularity":
        model: Recommender = PopularityRecommender.fit(dataset)
    elif name == "item-knn":
        model = ItemKnnRecommender.fit(dataset, KnnConfig(**options))
    else:
        learnt = NextItemRecommender.fit(dataset, folder, kind(name)(**options))
        learnt.save_pretrained(folder / "model")
        return learnt, float(learnt.metrics["seconds"])
    return model, time.perf_counter() - start


def line(name: str, model: Recommender, seconds: float, sequences: Sequences, split: Heldout) -> str:
    """One row of the table: means with their 95% intervals over users."""
    histories = sequences.histories(split).last()
    start = time.perf_counter()
    result = ranked(model, histories, sequences, split)
    ranking = time.perf_counter() - start
    shuffled = ranked(model, histories.shuffled(SHUFFLE), sequences, split).mean()["ndcg@10"]
    found = result.intervals()
    cells = [f"{found[name].mean:.4f} [{found[name].low:.4f}, {found[name].high:.4f}]" for name in METRICS]
    return f"| {name} | " + " | ".join(cells) + f" | {shuffled:.4f} | {seconds:.0f} + {ranking:.0f} |"


def ranked(model: Recommender, histories: Histories, sequences: Sequences, split: Heldout) -> RankingResult:
    """Full ranking after these histories of all users."""
    return rank_sequences(lambda users: model.scores_after(histories.take(users)), sequences, split)


if __name__ == "__main__":
    main()
