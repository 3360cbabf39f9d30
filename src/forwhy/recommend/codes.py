"""A catalogue too large to multiply: short codes find some hundred items, their own vectors rank these. No torch.

Shapes: I items, D width, B queries, C cells, L parts of a code, P = L/2 pairs of parts, W words of a part, A axes of a
part, E = L·A axes in all, N rows, M items of visited cells.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from forwhy.artifact import Artifact, Content, Saved, card, whole_numbers
from forwhy.errors import UserError
from forwhy.progress import Progress
from forwhy.vocabulary.cells import BLOCK, WORDS, CellBook
from forwhy.vocabulary.clusters import Floats, Ints, Vectors

SAMPLE = 1 << 17
"""Vectors that cells and words are learnt from; 32 a cell where that is more."""
CHUNK = 1 << 15
"""Items whose scores are looked up at once: their codes and scores stay in a core's cache beside one table."""
REACH = 2.0
"""Deviations along the query that a cell reaches above its centre: its best items are asked for, not its middle."""
TALLEST = (1 << 15) - 1
"""Tables hold two bytes a number, so that all of them stay in a core's cache; a step is far below what codes miss."""
LOOKED_AT = 64
"""Rows by which vectors are known again."""


@dataclass(frozen=True, repr=False)
class CodedCatalogue(Saved):
    """The items with the largest inner product with a query, out of 10^5 to 10^7, without a look at most of them.

    Items lie in cells (k-means). What a vector differs from its cell's centre by is told in L bytes: its principal axes
    are dealt to L parts, and each part names the nearest of 256 words. A query visits the cells that promise most: its
    product with the centre, and `REACH` deviations of the cell along it. There an item's score is its cell's, and one
    look-up for each two bytes in a table of 65,536 sums. The best are scored anew, exactly, by their own vectors.

    Memory: L + 4 bytes an item, and 64 KiB·L of tables while it is asked. Time of a query: about 10 ns for each item of
    visited cells where L = 16, and the read of a row for each that is ranked anew; docs/results.md has both, beside
    faiss. Vectors may lie on disk: `numpy.load(path, mmap_mode="r")`. A recommender asks it where it is told to
    (`NextItemRecommender.with_codes`).

    Sources: Jégou et al. 2011 (cells and product codes of residuals), Ge et al. 2013 (the rotation).
    """

    kind: ClassVar[str] = "coded-catalogue"
    book: CellBook
    starts: Ints
    """[C + 1] where each cell's items begin."""
    order_I: NDArray[np.int32]
    """Items, cell by cell, by number within one."""
    pairs_PI: NDArray[np.uint16]
    """Two bytes of their codes at once, in this order."""
    seen: str
    """A digest of some rows of the vectors."""
    vectors_ID: Vectors | None = None
    """None: codes alone rank."""

    @classmethod
    def fit(cls, vectors_ID: Vectors, cells: int | None = None, size: int = 16, seed: int = 0) -> Self:
        """Learn cells and words from a sample, then read all vectors once, `BLOCK` rows at a time.

        The same vectors and seed give the same codes. Memory beside the codes: a sample of 131,072 vectors (more above
        4,096 cells) and a block. Time O(I·D·C): 10^7 items of 128 numbers in 3,162 cells take minutes of one core.

        Args:
            vectors_ID: floats, an array or a memory map, row i of item i; kept for ranking anew, never copied.
            cells: C; None: the root of the number of items.
            size: L, bytes of a code, even.
            seed: of the sample and of the first centres.

        Raises:
            UserError: no table of finite floats (names the first bad row), an odd size, no cell.
        """
        items = _checked(vectors_ID)
        cells = min(round(items**0.5) if cells is None else cells, items)
        if size < 2 or size % 2 or cells < 1:
            raise UserError(
                f"codes of {size} bytes in {cells} cells: give an even number of bytes, one cell or more"
            )
        random = np.random.default_rng(seed)
        some = np.sort(random.choice(items, min(items, max(SAMPLE, 32 * cells)), replace=False))
        book = CellBook.learn(_rows(vectors_ID, some), cells, size, random)
        cell_I, pairs_IP = np.empty(items, np.int32), np.empty((items, size // 2), np.uint16)
        with Progress("coding items", items) as progress:
            for start in range(0, items, BLOCK):
                block = np.arange(start, min(start + BLOCK, items))
                cell_I[block], pairs_IP[block] = book.codes(_rows(vectors_ID, block))
                progress.advance(len(block))
        order_I = cell_I.argsort(kind="stable").astype(np.int32)
        starts = np.concatenate([[0], np.cumsum(np.bincount(cell_I, minlength=cells))])
        pairs_PI = np.stack([pairs_I[order_I] for pairs_I in pairs_IP.T])
        return cls(book, starts, order_I, pairs_PI, _digest(vectors_ID), vectors_ID)

    def _shown(self) -> Mapping[str, int | str]:
        return {
            "items": len(self.order_I),
            "cells": len(self.starts) - 1,
            "bytes each": 2 * len(self.pairs_PI),
        }

    def search(
        self, queries_BD: Vectors, k: int = 100, probes: int | None = None, rerank: int = 2000
    ) -> tuple[Floats, Ints]:
        """[B, k] scores and items with the largest inner products, best first, equal ones by number.

        Where all cells are visited and all items ranked anew, this is the exact list. Products are summed in float64
        and told in float32. Behind a list that has ended stand -inf and -1.

        Args:
            queries_BD: one row a query.
            k: length of a list.
            probes: cells that a query visits; None: all.
            rerank: items that are scored by their own vectors, at least `k`; without vectors the codes' scores stay.

        Raises:
            UserError: queries that are not finite or of another width, k or probes below 1.
        """
        queries_BD = self._queries(queries_BD, k, probes)
        scores_Bk = np.full((len(queries_BD), k), -np.inf, np.float32)
        items_Bk = np.full((len(queries_BD), k), -1, np.int64)
        for row, query_D in enumerate(queries_BD):
            places, scores = self._candidates(query_D.astype(np.float32), probes, max(rerank, k))
            items = self.order_I[places].astype(np.int64)
            if self.vectors_ID is not None:
                items.sort()
                scores = (np.asarray(self.vectors_ID[items], np.float64) @ query_D).astype(np.float32)
            best = np.lexsort((items, -scores))[:k]
            scores_Bk[row, : len(best)], items_Bk[row, : len(best)] = scores[best], items[best]
        return scores_Bk, items_Bk

    def _queries(self, queries_BD: Vectors, k: int, probes: int | None) -> NDArray[np.float64]:
        found, dims = np.asarray(queries_BD, np.float64), self.book.centres_CD.shape[1]
        if found.ndim != 2 or found.shape[1] != dims or not np.isfinite(found).all():
            raise UserError(
                f"queries of shape {found.shape}: give rows of {dims} finite numbers, one a query"
            )
        if k < 1 or (probes is not None and probes < 1):
            raise UserError(f"k is {k}, probes {probes}: ask for at least one item of one cell")
        return found

    def _candidates(self, query_D: Floats, probes: int | None, most: int) -> tuple[Ints, Floats]:
        """Places in `order_I`, at most so many, and scores by codes: the best of the cells that promise most."""
        turned_E, coarse_C = query_D @ self.book.turn_DE, self.book.centres_CD @ query_D
        promise_C = coarse_C + REACH * np.sqrt(self.book.spread_CE @ turned_E**2)
        # The best first: what is kept is soon hard to beat.
        cells = np.argsort(-promise_C, kind="stable")[:probes]
        tables = self._tables(turned_E)
        places, scores, least = np.empty(0, np.int64), np.empty(0, np.float32), -np.inf
        chunks = np.cumsum(np.diff(self.starts)[cells]) // CHUNK
        for some in np.split(cells, np.flatnonzero(np.diff(chunks)) + 1):
            found_M = self._looked_up(some, coarse_C, *tables)
            hits = np.flatnonzero(found_M > least)
            places = np.concatenate([places, self._places(some, hits)])
            scores = np.concatenate([scores, found_M[hits]])
            if len(scores) > most:
                kept = np.argpartition(scores, len(scores) - most)[-most:]
                places, scores = places[kept], scores[kept]
                least = scores.min()
        return places, scores

    def _tables(self, turned_E: Floats) -> tuple[NDArray[np.int16], np.float32]:
        """[P, W²] what each pair of words adds to a score, in steps, and the step. No sum of all pairs overflows."""
        words_LWA = self.book.words_LWA
        sums_LW = np.einsum("lwa,la->lw", words_LWA, turned_E.reshape(len(words_LWA), -1))
        step = np.float32(max(np.abs(sums_LW).max(1).sum() / (TALLEST - len(sums_LW)), 1e-30))
        steps_LW = np.rint(sums_LW / step).astype(np.int16)
        return (steps_LW[1::2, :, None] + steps_LW[::2, None]).reshape(len(self.pairs_PI), -1), step

    def _looked_up(
        self, cells: Ints, coarse_C: Floats, tables_PW: NDArray[np.int16], step: np.float32
    ) -> Floats:
        """[M] scores by codes of all items of some cells."""
        spans = zip(self.starts[cells].tolist(), self.starts[cells + 1].tolist(), strict=True)
        pairs_PM = np.concatenate([self.pairs_PI[:, start:stop] for start, stop in spans], axis=1)
        steps_M = np.zeros(pairs_PM.shape[1], np.int16)
        for table_W, pairs_M in zip(tables_PW, pairs_PM, strict=True):
            steps_M += table_W.take(pairs_M, mode="clip")  # nothing to clip; refusing would cost time
        return steps_M * step + np.repeat(coarse_C[cells], self.starts[cells + 1] - self.starts[cells])

    def _places(self, cells: Ints, hits: Ints) -> Ints:
        """Where hits among the items of some cells lie in `order_I`."""
        lengths = self.starts[cells + 1] - self.starts[cells]
        ends = np.cumsum(lengths)
        which = np.searchsorted(ends, hits, "right")
        return np.asarray(hits - (ends - lengths)[which] + self.starts[cells[which]])

    def content(self) -> Content:
        """All but the vectors, which are the caller's."""
        arrays = {"starts": self.starts, "order_I": self.order_I, "pairs_PI": self.pairs_PI}
        text = (
            f"{len(self.order_I):,} items in {len(self.starts) - 1:,} cells, {2 * len(self.pairs_PI)} bytes each. Load "
            "with `forwhy.CodedCatalogue.from_pretrained(folder, vectors=...)`; without vectors, codes alone rank."
        )
        about = card("Coded catalogue", text, {}, "retrieval")
        return Content({"seen": self.seen}, asdict(self.book) | arrays, {}, about)

    @classmethod
    def restore(cls, stored: Artifact, **where: Any) -> Self:  # noqa: ANN401
        """Make it again, with `vectors` where they are given; others than those that were coded are refused."""
        vectors_ID: Vectors | None = where.get("vectors")
        arrays = stored.tensors
        book = CellBook(*(arrays[name] for name in CellBook.__dataclass_fields__))
        kept = arrays["starts"], arrays["order_I"], arrays["pairs_PI"]
        found = cls(book, *kept, stored.config["seen"], vectors_ID)
        found._check()
        if vectors_ID is not None and _checked(vectors_ID) and _digest(vectors_ID) != found.seen:
            raise UserError(
                f"{stored.folder}: the vectors are not those that were coded; give those, or fit anew"
            )
        return found

    def _check(self) -> None:
        """A ValueError where arrays do not fit together, as in a folder made by hand."""
        items, (cells, dims) = len(self.order_I), self.book.centres_CD.shape
        parts, words, axes = self.book.words_LWA.shape
        shapes = [self.book.turn_DE.shape, self.book.spread_CE.shape, self.pairs_PI.shape, words]
        if shapes != [(dims, parts * axes), (cells, parts * axes), (parts // 2, items), WORDS]:
            raise ValueError(f"codes and words of shapes {shapes}")
        whole_numbers(self.pairs_PI, (parts // 2, items), [WORDS**2])
        whole_numbers(self.order_I, (items,), [items])
        whole_numbers(self.starts, (cells + 1,), [items + 1])
        if self.starts[0] or self.starts[-1] != items or (np.diff(self.starts) < 0).any():
            raise ValueError("cells that do not lie side by side")


def _checked(vectors_ID: Vectors) -> int:
    """How many items a table of floats has."""
    shape, kind = vectors_ID.shape, vectors_ID.dtype
    if len(shape) != 2 or not all(shape) or kind.kind != "f" or shape[0] >= 1 << 31:
        raise UserError(f"vectors: shape {shape} of {kind}, not a table of floats; give one row per item")
    return int(shape[0])


def _rows(vectors_ID: Vectors, rows: Ints) -> Floats:
    """[N, D] some vectors, in memory."""
    with np.errstate(over="ignore"):  # refused below
        x_ND = np.array(vectors_ID[rows], np.float32)
    bad = np.flatnonzero(~np.isfinite(x_ND).all(1))
    if len(bad):
        raise UserError(f"vectors: row {rows[bad[0]]} (from 0) holds NaN or infinity; make them again")
    return x_ND


def _digest(vectors_ID: Vectors) -> str:
    rows = np.linspace(0, len(vectors_ID) - 1, min(LOOKED_AT, len(vectors_ID))).astype(np.int64)
    said = f"{vectors_ID.shape} {vectors_ID.dtype}".encode()
    return hashlib.sha256(said + np.ascontiguousarray(vectors_ID[rows]).tobytes()).hexdigest()
