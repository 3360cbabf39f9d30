"""What explainers cost: processor time and peak memory, in training and in writing, of the rows of a table.

    python -m benchmarks.explainers_cost runs/explainers/* [--train 24 72] [--write 32]

Each figure is of a process of its own, one thread. Training: one epoch of the row's own recipe on two numbers of pairs
and hardly any validation; the difference is what a pair costs in an epoch, what is left is spent once, whatever the
number (a table of texts, an alignment, the start of a model). Explainers without a language model are so fast that they
train on 30 times as many. Writing: texts of held-out pairs after one to warm up, in the run's own way of writing. Peak
memory is of the whole process, its data set and libraries included. Three minutes for a row with a language model.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from forwhy.recipe import load_recipe
from forwhy.recipe.runner import RunFolder

WITHOUT_MODEL = 30
"""Times as many training pairs where no language model reads them."""


def train(run: RunFolder, pairs: int) -> float:
    """Processor seconds of a training on so many pairs, from the run's own first stage."""
    budget = {"train_pairs": pairs, "validation_pairs": 2, "epochs": 1, "patience": 0}
    explainer = run.recipe.explainer.model_copy(update=budget)  # type: ignore[attr-defined]
    recipe = run.recipe.model_copy(update={"explainer": explainer})
    dataset, known = run.dataset(), recipe.load_representations(run)
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        recipe.new_explainer().fit(dataset, known, Path(folder))  # type: ignore[attr-defined]
    return time.process_time() - start


def write(run: RunFolder, pairs: int) -> float:
    """Processor seconds of one text, the mean of those of so many test pairs."""
    explainer, held = run.explainer(), run.dataset().pairs("test")
    held = held.select(np.flatnonzero(explainer.supported(held))[: pairs + 1])
    list(explainer.explain(held.select([0])))
    start = time.process_time()
    texts = list(explainer.explain(held.select(np.arange(1, len(held)))))
    return (time.process_time() - start) / len(texts)


def measure(what: Callable[[RunFolder, int], float], folder: Path, pairs: int) -> tuple[float, float]:
    """Processor seconds, and the GiB that were resident at most in this process."""
    import torch

    torch.set_num_threads(1)
    seconds = what(RunFolder.open(folder), pairs)
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measured(*asked: object) -> tuple[float, float]:
    """The same in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, asked)


def row(folder: Path, sizes: tuple[int, int], written: int) -> str:
    """Of one run, in markdown."""
    explainer = load_recipe(folder / "recipe.toml").explainer  # type: ignore[attr-defined]
    few, many = (size * (1 if explainer.base_model else WITHOUT_MODEL) for size in sizes)
    small, _ = measured(train, folder, few)
    large, learning = measured(train, folder, many)
    a_text, writing = measured(write, folder, written)
    a_pair = (large - small) / (many - few)
    once = max(small - few * a_pair, 0.0)
    costs = f"{1000 * a_pair:,.1f} | {once:,.0f} | {learning:.2f} | {1000 * a_text:,.1f} | {writing:.2f}"
    return f"| {folder.name} | {costs} |"


def main() -> None:
    """A table, a row for each run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--train", nargs=2, type=int, default=(24, 72), metavar="PAIRS")
    parser.add_argument("--write", type=int, default=32, metavar="PAIRS")
    asked = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}  # read by numpy in the processes to come
    print("| | training: s per 1,000 pairs, an epoch | s once | GiB | writing: s per 1,000 texts | GiB |")
    print("|---|---|---|---|---|---|")
    for folder in asked.runs:
        if (folder / "explainer").is_dir():
            print(row(folder, tuple(asked.train), asked.write), flush=True)


if __name__ == "__main__":
    main()
