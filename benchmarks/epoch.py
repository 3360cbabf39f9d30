"""An epoch of LLM-BS' training, packed, against a row for every target: `python -m benchmarks.epoch [DATA]`.

Both sides learn the same targets with the same model in one process: ours with all targets of a history in one pass,
the plain way as a language model is trained by hand, a padded row per target whose last tokens carry the loss. Both
take steps of some batches drawn from an epoch; seconds are scaled to all its targets. DATA is a data set folder
(`forwhy data import lcrec`); without it histories of Beauty's number and mean length are drawn. No contrast, no texts.
Prints one JSON line: seconds per epoch of both (wall and processor) and their ratio.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor
from torch.nn import functional as F

from forwhy.data.dataset import Dataset, make_dataset
from forwhy.data.histories import Sequences
from forwhy.recommend.llmbs.network import LlmBsNetwork, bare_tokens, scratch_model
from forwhy.recommend.llmbs.training import Batch, LlmBsTask
from forwhy.recommend.options import BackboneConfig, ContrastConfig, LlmBsConfig
from forwhy.recommend.trie import CodeTrie
from forwhy.vocabulary.index import IndexConfig
from forwhy.vocabulary.indexing import build_index

USERS, ITEMS, MEAN = 22_363, 12_101, 6.9
"""Beauty's training histories."""

Step = Callable[[], float]
"""Learns something and says how many targets it had."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--dims", type=int, default=256)
    parser.add_argument("--feedforward", type=int, default=768)
    parser.add_argument("--levels", type=int, default=4, help="codes per item")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--steps", type=int, default=12)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    task = task_of(drawn() if options.data is None else Dataset.load(options.data), options)
    total = int((task.pieces.histories.lengths - task.pieces.context).sum())
    rows = steps_of(task, options)
    ours, plain = (measured(steps, total) for steps in rows)
    line = {
        "targets": total,
        "threads": options.threads,
        "precision": options.precision,
        "ours": ours,
        "plain": plain,
        "ratio": round(plain["seconds"] / ours["seconds"], 1),
    }
    print(json.dumps(line))


def drawn() -> Dataset:
    """Histories of geometric lengths, all for training."""
    rng = np.random.default_rng(0)
    lengths = np.minimum(rng.geometric(1 / (MEAN - 2), USERS) + 2, 200)
    users = np.repeat(np.arange(USERS), lengths)
    frame = pl.DataFrame(
        {
            "user_id": users,
            "item_id": rng.integers(ITEMS, size=len(users)),
            "timestamp": np.arange(len(users)),
            "split": ["train"] * len(users),
        }
    )
    items = pl.DataFrame({"item_id": np.arange(ITEMS)})
    return make_dataset("drawn", {"interactions": frame, "items": items}, {}, duplicates="keep")


def task_of(dataset: Dataset, options: argparse.Namespace) -> LlmBsTask:
    """The small decoder with random codes, before training."""
    index = build_index(dataset.items, IndexConfig(source="random", width="auto", depth=options.levels))
    config = LlmBsConfig(
        backbone=BackboneConfig(layers=options.layers, dims=options.dims, feedforward=options.feedforward),
        contrast=ContrastConfig(semantic=0.0, behaviour=0.0),
    )
    tokens = bare_tokens(index)
    torch.manual_seed(0)
    network = LlmBsNetwork(scratch_model(config.backbone, tokens.size), tokens, config.softmax)
    trie = CodeTrie.from_codes(index.codes, index.sizes)
    return LlmBsTask(network, Sequences.from_dataset(dataset), trie, config)


def steps_of(task: LlmBsTask, options: argparse.Namespace) -> tuple[list[Step], list[Step]]:
    """As many steps of either way; those of ours are spread over an epoch, since lengths are sorted within it."""
    epoch, optimizer = task.batches(0), task.optimizer()
    task.network.train()

    def learnt(loss: Callable[[], Tensor], targets: float) -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bf16"):
            value = loss()
        torch.autograd.backward(value)
        torch.nn.utils.clip_grad_norm_(task.network.parameters(), task.config.gradient_clip)
        optimizer.step()
        optimizer.zero_grad()
        return targets

    def packed(batch: Batch) -> float:
        return learnt(lambda: task.loss(batch)["loss"], float(batch.packed.targets_BI.sum()))

    def alone(part: Sequence[int]) -> float:
        return learnt(lambda: row_loss(task, [rows[at] for at in part]), float(len(part)))

    chosen = np.linspace(0, len(epoch) - 1, options.steps).astype(int).tolist()
    batches = [epoch[number] for number in chosen]
    rows = [one for batch in batches for one in rows_of(task, batch.packed.items_BI, batch.packed.targets_BI)]
    order = np.random.default_rng(0).permutation(len(rows))[: options.steps * task.config.batch_size]
    parts = [part.tolist() for part in np.array_split(order, options.steps)]
    return [partial(packed, batch) for batch in batches], [partial(alone, part) for part in parts]


def rows_of(task: LlmBsTask, items_BI: Tensor, targets_BI: Tensor) -> list[list[int]]:
    """Prompt, codes of the history and codes of the target, for every target of a batch."""
    window = task.config.window
    return [
        task.network.tokens.history(items_BI[row, max(0, place - window) : place + 1].tolist())
        for row, place in torch.nonzero(targets_BI).tolist()
    ]


def row_loss(task: LlmBsTask, rows: Sequence[list[int]]) -> Tensor:
    """The model's own forward over padded rows; the last codes of each carry the loss."""
    levels, longest = len(task.network.tokens.levels), max(map(len, rows))
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    labels = torch.full_like(ids, -100)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
        labels[number, len(row) - levels : len(row)] = torch.tensor(row[-levels:])
    logits = task.network.lm(input_ids=ids, use_cache=False).logits
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)


def measured(steps: Sequence[Step], total: int) -> dict[str, float]:
    """Seconds that all targets would take, after one step that is not counted."""
    steps[0]()
    wall, processor = time.perf_counter(), time.process_time()
    targets = sum(step() for step in steps)
    share = total / targets
    return {
        "seconds": round((time.perf_counter() - wall) * share, 1),
        "processor_seconds": round((time.process_time() - processor) * share, 1),
    }


if __name__ == "__main__":
    main()
