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
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
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
    """Processor seconds that so many texts of test pairs take."""
    explainer, held = run.explainer(), run.dataset().pairs("test")
    held = held.select(np.flatnonzero(explainer.supported(held))[: pairs + 1])
    list(explainer.explain(held.select([0])))
    start = time.process_time()
    texts = list(explainer.explain(held.select(np.arange(1, len(held)))))
    return (time.process_time() - start) / len(texts) * pairs


def child(what: str, folder: str, pairs: int) -> None:
    """One measurement, said as JSON in the last line."""
    import torch

    torch.set_num_threads(1)
    seconds = {"train": train, "write": write}[what](RunFolder.open(folder), pairs)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"seconds": seconds, "gib": peak}))


def measured(what: str, folder: Path, pairs: int) -> dict[str, float]:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.explainers_cost", "--child", what, str(folder), str(pairs)]
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(command, env={**os.environ, **threads}, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def row(folder: Path, sizes: tuple[int, int], written: int) -> str:
    """Of one run, in markdown."""
    explainer = load_recipe(folder / "recipe.toml").explainer  # type: ignore[attr-defined]
    few, many = (size * (1 if explainer.base_model else WITHOUT_MODEL) for size in sizes)
    small, large = (measured("train", folder, size) for size in (few, many))
    of_pair = (large["seconds"] - small["seconds"]) / (many - few)
    once = max(small["seconds"] - few * of_pair, 0.0)
    told = measured("write", folder, written)
    trained = f"{1000 * of_pair:,.1f} | {once:,.0f} | {large['gib']:.2f}"
    return f"| {folder.name} | {trained} | {1000 * told['seconds'] / written:,.1f} | {told['gib']:.2f} |"


def main() -> None:
    """A table, a row for each run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--train", nargs=2, type=int, default=(24, 72), metavar="PAIRS")
    parser.add_argument("--write", type=int, default=32, metavar="PAIRS")
    parser.add_argument("--child", nargs=3, metavar=("WHAT", "RUN", "PAIRS"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        return child(asked.child[0], asked.child[1], int(asked.child[2]))
    print("| | training: s per 1,000 pairs, an epoch | s once | GiB | writing: s per 1,000 texts | GiB |")
    print("|---|---|---|---|---|---|")
    for folder in asked.runs:
        if (folder / "explainer").is_dir():
            print(row(folder, tuple(asked.train), asked.write), flush=True)
    return None


if __name__ == "__main__":
    main()
