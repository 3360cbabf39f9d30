"""The first pass over a log: every row as a few numbers, so that millions of them fit into memory.

Legend: n rows, U users, I items, F files.
"""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from forwhy.data.sources.layouts import Fact, Review
from forwhy.data.sources.lines import BadRow, BadRows, RowFile

__all__ = ["FactIndex", "Scan", "digest", "index_facts", "scan_reviews"]

T = TypeVar("T")

NOTHING = bytes(8)
"""Digest of a review without a text."""


@dataclass(frozen=True)
class Places(Generic[T]):
    """Where rows stand: position in the scan against file and row."""

    files: tuple[RowFile[T], ...]
    starts_F: NDArray[np.int64]
    """Position of each file's first row."""
    rows_n: NDArray[np.int64]

    def by_file(self, positions: NDArray[np.int64]) -> Iterator[tuple[RowFile[T], NDArray[np.int64]]]:
        """Each file with the rows that rising positions have in it."""
        bounds = np.searchsorted(positions, np.append(self.starts_F, len(self.rows_n)))
        for number, file in enumerate(self.files):
            yield file, self.rows_n[positions[bounds[number] : bounds[number + 1]]]

    def place(self, position: int) -> tuple[RowFile[T], int]:
        """File and row of a position."""
        number = int(np.searchsorted(self.starts_F, position, side="right")) - 1
        return self.files[number], int(self.rows_n[position])


@dataclass(frozen=True)
class Scan:
    """A log of n rows in file order; 44 bytes a row, 8 more with text digests."""

    places: Places[Review]
    users_n: NDArray[np.int32]
    items_n: NDArray[np.int32]
    users_U: NDArray[np.uint64]
    """Digest of each user's id."""
    items_I: NDArray[np.uint64]
    ratings_n: NDArray[np.float64]
    times_n: NDArray[np.int64]
    texts_n: NDArray[np.uint64] | None
    """Digest of each text, 0 for none; None when nobody asked for it."""

    def __len__(self) -> int:
        """How many rows."""
        return len(self.times_n)


@dataclass(frozen=True)
class FactIndex:
    """Which row tells about which item (or user): the first one about each."""

    places: Places[Fact]
    ids: NDArray[np.uint64]
    """Distinct digests, sorted."""
    positions: NDArray[np.int64]
    """Where each of them is told of."""


def digest(text: str) -> bytes:
    """64 bits of BLAKE2b.

    Ten million ids share one with a chance of 3 in a million; two such users would be filtered as one. Tables
    hold the ids themselves.
    """
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def scan_reviews(files: Sequence[RowFile[Review]], bad: BadRows, with_texts: bool) -> Scan:
    """Read and check every row once; `bad` counts what is not a row. About 15 us a row."""
    users, items, texts = bytearray(), bytearray(), bytearray()
    ratings, times, rows = array("d"), array("q"), array("q")
    starts = []
    for file in files:
        starts.append(len(rows))
        for row, review in file.rows(bad):
            users += digest(review.user)
            items += digest(review.item)
            ratings.append(review.rating)
            times.append(review.seconds)
            rows.append(row)
            if with_texts:
                texts += digest("\n".join(review.texts)) if review.texts else NOTHING
    user_codes, user_digests = _coded(users)
    item_codes, item_digests = _coded(items)
    return Scan(
        Places(tuple(files), np.array(starts, dtype=np.int64), np.frombuffer(rows, dtype=np.int64)),
        user_codes,
        item_codes,
        user_digests,
        item_digests,
        np.frombuffer(ratings, dtype=np.float64),
        np.frombuffer(times, dtype=np.int64),
        np.frombuffer(texts, dtype="<u8") if with_texts else None,
    )


def index_facts(files: Sequence[RowFile[Fact]], column: str, bad: BadRows) -> FactIndex:
    """Read and check every row about items (or users) once; a second one about the same is a bad row."""
    ids, rows, starts = bytearray(), array("q"), []
    for file in files:
        starts.append(len(rows))
        for row, fact in file.rows(bad):
            ids += digest(fact.id)
            rows.append(row)
    places = Places(tuple(files), np.array(starts, dtype=np.int64), np.frombuffer(rows, dtype=np.int64))
    digests = np.frombuffer(ids, dtype="<u8")
    unique, first = np.unique(digests, return_index=True)
    repeated = np.ones(len(digests), dtype=bool)
    repeated[first] = False
    for position in np.flatnonzero(repeated).tolist():
        file, row = places.place(position)
        bad.add(file.path, row, BadRow(column, "told of in an earlier row", "drop one of the two"))
    return FactIndex(places, unique, first)


def _coded(digests: bytearray) -> tuple[NDArray[np.int32], NDArray[np.uint64]]:
    """Numbers from 0 for digests, and the distinct digests by number; frees the buffer."""
    unique, codes = np.unique(np.frombuffer(bytes(digests), dtype="<u8"), return_inverse=True)
    digests.clear()
    return codes.astype(np.int32), unique
