"""Did text reach the tokens? Rank of a held-out pair's own text among all held-out texts.

Shapes: n held-out pairs, D dimensions of the text space.
"""

import numpy as np
from numpy.typing import NDArray

from forwhy.evaluate.significance import Interval, bootstrap_means, bootstrap_median, flatten

BLOCK_ROWS = 1024


def text_ranks(queries: NDArray[np.floating], texts: NDArray[np.floating]) -> NDArray[np.int64]:
    """[n] rank from 1 of texts[k] for queries[k], by cosine, ties counted against us.

    `queries` [n, D]: the fused macro vectors of the pairs, projected to text space; `texts` [n, D].
    Cost: n x n x D. A zero vector has cosine 0 with everything.
    """
    if queries.shape != texts.shape or queries.ndim != 2:
        raise ValueError(f"queries {queries.shape} and texts {texts.shape} must both be [n, D]")
    queries_nd, texts_nd = _unit(queries), _unit(texts)
    ranks = [
        _ranks(queries_nd[start : start + BLOCK_ROWS] @ texts_nd.T, start)
        for start in range(0, len(texts_nd), BLOCK_ROWS)
    ]
    return np.concatenate(ranks)


def text_retrieval(
    queries: NDArray[np.floating], texts: NDArray[np.floating], seed: int = 0
) -> dict[str, object]:
    """Median rank, mean reciprocal rank and hit@10 of `text_ranks`, with intervals and chance.

    `{"median_rank", "mrr", "hit@10", "intervals": {...}, "chance": {the same three}, "pairs": n}`.
    """
    ranks = text_ranks(queries, texts)
    found = retrieval_intervals(ranks, seed)
    return {**flatten(found), "chance": chance(len(ranks)), "pairs": len(ranks)}


def retrieval_intervals(ranks: NDArray[np.int64], seed: int = 0) -> dict[str, Interval]:
    """The three numbers of given ranks, bootstrap over pairs."""
    values = {"mrr": 1.0 / ranks, "hit@10": (ranks <= 10).astype(np.float64)}
    return {"median_rank": bootstrap_median(ranks.astype(np.float64), seed), **bootstrap_means(values, seed)}


def chance(n: int) -> dict[str, float]:
    """What uniformly random ranks among n texts give in expectation."""
    reciprocal = float((1.0 / np.arange(1, n + 1)).mean())
    return {"median_rank": (n + 1) / 2, "mrr": reciprocal, "hit@10": min(10, n) / n}


def _ranks(cosine_bn: NDArray[np.float64], start: int) -> NDArray[np.int64]:
    rows = np.arange(len(cosine_bn))
    right_b = cosine_bn[rows, rows + start]
    # Equal texts may differ in the last bit of a product: within 1e-9 is a tie.
    return np.asarray((cosine_bn >= right_b[:, None] - 1e-9).sum(axis=1))


def _unit(rows_nd: NDArray[np.floating]) -> NDArray[np.float64]:
    wide = rows_nd.astype(np.float64)
    if not np.isfinite(wide).all():
        raise ValueError("a vector is not finite: the tokenizer or the text encoder produced NaN or infinity")
    return np.asarray(wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12))
