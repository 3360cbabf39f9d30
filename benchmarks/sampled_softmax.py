"""What a step of training costs as a catalogue grows: `python -m benchmarks.sampled_softmax [--negatives 0 2048 8192]`.

SASRec, 128 wide, 256 histories of nine generated items (few are taken often), one thread. Processor seconds of the best
of four steps (loss, gradients, optimiser), for the whole catalogue (0 negatives) and parts of it. Needs no data.
"""

import argparse
import time

import numpy as np
import torch
from benchmarks.catalogue_growth import processor

from forwhy.systems.sasrec import SasRecConfig

HISTORIES, LENGTH, STEPS = 256, 9, 4


def main() -> None:
    """Print a row for each size of the catalogue."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, nargs="+", default=[12_101, 63_355, 316_776])
    parser.add_argument("--negatives", type=int, nargs="+", default=[0, 2048, 8192])
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(processor())
    print("| items | " + " | ".join(f"{count or 'all'}" for count in options.negatives) + " |")
    print("|---" * (1 + len(options.negatives)) + "|")
    for items in options.items:
        cells = [f"{seconds(items, count):.3f}" for count in options.negatives]
        print(f"| {items:,} | " + " | ".join(cells) + " |", flush=True)


def seconds(items: int, negatives: int) -> float:
    """Processor seconds of the best step."""
    drawn = np.random.default_rng(0).zipf(1.3, size=(HISTORIES, LENGTH)) % items
    batch, lengths = torch.from_numpy(drawn), torch.full((HISTORIES,), LENGTH)
    network = SasRecConfig(dims=128, negatives=negatives).build(items).train()
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    best = float("inf")
    for _ in range(STEPS):
        started = time.process_time()
        optimizer.zero_grad()
        network.loss(batch, lengths).backward()
        optimizer.step()
        best = min(best, time.process_time() - started)
    return best


if __name__ == "__main__":
    main()
