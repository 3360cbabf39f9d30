"""Full ranking of XRec-Yelp's size against the plain way and ranx, in one process: `python -m benchmarks.ranking`.

The plain way scores, masks and argsorts one user after another, on a sample of users, and is extrapolated.
ranx is given finished lists of the best 50, compiled beforehand: only its dictionaries and its metrics are timed.
Ours is the whole: scores, ranks, all metrics, lists included.
Prints one JSON line: seconds, ratio, peak memory (MiB) of the ranking, seconds to compare it with a second
run of the same size, and whether all agree.
"""

import argparse
import json
import os
import resource
import time

import numpy as np
from numpy.typing import NDArray

from forwhy.evaluate.compare import Scored, compare
from forwhy.evaluate.ranking import RankingResult, rank_all, top_items

USERS, ITEMS, EDGES, TEST = 15_962, 14_085, 315_000, 40_000
KS = (5, 10, 20, 50)

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--dimensions", type=int, default=384, help="numbers per user and item: 6 words of 64"
    )
    parser.add_argument("--sample", type=int, default=200, help="users ranked the plain way")
    options = parser.parse_args()
    users, items, seen, test = generated(options.dimensions)
    start = time.perf_counter()
    result = rank_all(users, items, seen, test, KS)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sample = np.random.default_rng(1).choice(result.users, options.sample, replace=False)
    start = time.perf_counter()
    recall = naive_recall(users, items, seen, test, sample, 20)
    naive = (time.perf_counter() - start) * len(result.users) / options.sample
    ours = result.per_user["recall@20"][np.searchsorted(result.users, sample)]
    measured = {
        "benchmark": "ranking", "users": USERS, "items": ITEMS, "dimensions": options.dimensions,
        "seconds": round(seconds, 2), "naive_seconds": round(naive, 2), "ratio": round(naive / seconds, 1),
        "peak_mib": round(peak), "equal": bool(np.allclose(ours, recall)), "cores": os.cpu_count(),
        "compare_seconds": compared(result), **against_ranx(users, items, seen, test, result),
    }  # fmt: skip
    print(json.dumps(measured))


def generated(dimensions: int) -> tuple[Floats, Floats, Ints, Ints]:
    """Vectors of users and items, training pairs, test pairs: sizes of XRec-Yelp, all drawn."""
    generator = np.random.default_rng(0)
    users = generator.standard_normal((USERS, dimensions), dtype=np.float32)
    items = generator.standard_normal((ITEMS, dimensions), dtype=np.float32)
    seen = np.stack([generator.integers(0, USERS, EDGES), generator.integers(0, ITEMS, EDGES)], axis=1)
    test = np.stack([generator.integers(0, USERS, TEST), generator.integers(0, ITEMS, TEST)], axis=1)
    return users, items, seen, test


def naive_recall(users: Floats, items: Floats, seen: Ints, test: Ints, sample: Ints, k: int) -> Floats:
    """Recall@k of a sample of users: score, mask, argsort, look up, one user at a time."""
    taken: dict[int, set[int]] = {}
    right: dict[int, set[int]] = {}
    for table, pairs in ((taken, seen), (right, test)):
        for user, item in pairs[np.isin(pairs[:, 0], sample)].tolist():
            table.setdefault(user, set()).add(item)
    values = []
    for user in sample.tolist():
        scores = items @ users[user]
        scores[list(taken.get(user, ()))] = -np.inf
        wanted = right[user] - taken.get(user, set())
        values.append(len(wanted & set(np.argsort(-scores)[:k].tolist())) / len(wanted))
    return np.array(values, dtype=np.float32)


def compared(result: RankingResult) -> float:
    """Seconds to compare all metrics of two runs by user; the second run is the first one's values, shuffled."""
    shuffled = np.random.default_rng(0).permutation(len(result.users))
    keys = result.users.tolist()
    other = {metric: values[shuffled] for metric, values in result.per_user.items()}
    start = time.perf_counter()
    compare([Scored("ours", keys, result.per_user), Scored("other", keys, other)])
    return round(time.perf_counter() - start, 2)


def against_ranx(
    users: Floats, items: Floats, seen: Ints, test: Ints, result: RankingResult
) -> dict[str, object]:
    """Seconds of ranx for recall, NDCG, HR, MRR and MAP at all KS, and whether its recall@20 is ours."""
    import ranx

    scores = users[result.users] @ items.T
    position = np.full(USERS, -1)
    position[result.users] = np.arange(len(result.users))
    known = seen[position[seen[:, 0]] >= 0]
    scores[position[known[:, 0]], known[:, 1]] = -np.inf
    lists = top_items(scores, max(KS))
    values = np.take_along_axis(scores, lists, axis=1)
    right: dict[int, dict[int, int]] = {user: {} for user in result.users.tolist()}
    for user, item in {*map(tuple, test.tolist())} - {*map(tuple, seen.tolist())}:
        right[user][item] = 1
    metrics = [f"{name}@{k}" for name in ("recall", "ndcg", "hit_rate", "mrr", "map") for k in KS]
    seconds, found = 0.0, {}
    for _ in range(2):  # the first time compiles
        start = time.perf_counter()
        run = {
            user: dict(zip(row, scored, strict=True))
            for user, row, scored in zip(right, lists.tolist(), values.tolist(), strict=True)
        }
        found = ranx.evaluate(right, run, metrics)
        seconds = time.perf_counter() - start
    equal = np.isclose(found["recall@20"], result.mean()["recall@20"], atol=1e-6)
    return {"ranx_seconds": round(seconds, 2), "ranx_equal": bool(equal)}


if __name__ == "__main__":
    main()
