"""Batches of similar length, in an order decided by the seed and the epoch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from forwhy.bridge.prompt import Row

_POOL = 32


def buckets(rows: Sequence[Row], batch_size: int, seed: int, epoch: int) -> list[list[Row]]:
    """An epoch's batches: rows shuffled, sorted by length within pools of 32 batches, batches shuffled.

    Padding shrinks to a few percent while every epoch still mixes rows anew. Cost: n log n.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(rows))
    lengths = np.array([row.length for row in rows])
    batches = []
    for start in range(0, len(rows), batch_size * _POOL):
        pool = order[start : start + batch_size * _POOL]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches += [pool[first : first + batch_size] for first in range(0, len(pool), batch_size)]
    return [[rows[row] for row in batches[number]] for number in random.permutation(len(batches))]


def longest_first(rows: Sequence[Row]) -> list[int]:
    """Row numbers, the longest row first."""
    return sorted(range(len(rows)), key=lambda number: -rows[number].length)


def sorted_batches(rows: Sequence[Row], batch_size: int) -> list[list[int]]:
    """Row numbers in batches of similar length, the longest first: memory runs out at once or never."""
    order = longest_first(rows)
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def reading_parts(lengths: Sequence[int], positions: int, most: int) -> list[slice]:
    """Runs of at most `most` neighbours that, padded to the longest, take at most `positions`; one at least."""
    parts, first, widest = [], 0, 0
    for row, length in enumerate(lengths):
        widest, count = max(widest, length), row + 1 - first
        if count > 1 and (count > most or widest * count > positions):
            parts.append(slice(first, row))
            first, widest = row, length
    return [*parts, slice(first, len(lengths))]
