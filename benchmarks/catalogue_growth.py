"""Top 100 of 10^5 to 10^7 items by codes and exact ranking anew, beside faiss at equal bytes, one thread each.

    python -m benchmarks.catalogue_growth RUN [--items 100000 1000000 10000000] [--cells 0] [--size 16] [--work FOLDER]

RUN is a folder of a run whose network scores by state · vector (`forwhy run recipes/sasrec.toml --out RUN`). Its items
are the first of the catalogue. Every further one is a real item moved by half the difference of another item and one of
its ten nearest: the small is shaped as the large is (the idea of Belletti et al. 2019). Queries: states of users.
Vectors lie in a float16 memory map of FOLDER, 2.6 GB for 10^7 items of 128 numbers.

faiss is no requirement: `pip install --target FOLDER faiss-cpu`, then PYTHONPATH=FOLDER; without it its rows are left
out. *faiss* learns cells and words itself, from as many vectors in as many rounds. *faiss, our codes* reads ours, so
that only the search differs. Of each stands the cheapest setting that reaches the recall. Times are of the processor,
medians of single queries; ranking anew is the same for all.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from forwhy.recommend.codes import BLOCK, SAMPLE, CodedCatalogue  # noqa: E402
from forwhy.vocabulary.cells import ROUNDS  # noqa: E402

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Search = Callable[[Floats, int, int], Ints]
"""Items of lists after queries, probes and how many are ranked anew."""

K, QUERIES, BATCH, RECALL, ANEW = 100, 256, 64, 0.99, (1000, 2000, 4000)
FLAGS = ("avx2", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16")
HEAD = ["items", "search", "fit s", "bytes an item", "probes", "ranked anew", "recall@100"]
HEAD += ["ms a query", "ms in a batch of 64"]


def main() -> None:
    """Measure every size and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--items", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--cells", type=int, default=0, help="0: the root of the number of items")
    parser.add_argument("--size", type=int, default=16, help="bytes of a code")
    parser.add_argument("--moved", type=float, default=0.5, help="how far from its real item one lies")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()))
    options = parser.parse_args()
    real, queries = real_vectors(options.run)
    print(f"{processor()}; {real.shape[1]} numbers a vector, {len(queries)} queries, one thread\n")
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}")
    for items in options.items:
        with tempfile.TemporaryDirectory(dir=options.work) as folder:
            vectors = grown(real, items, options.moved, Path(folder) / "vectors.npy")
            for row in measured(vectors, queries, options.cells or round(items**0.5), options.size):
                print(f"| {items:,} | {' | '.join(row)} |", flush=True)


def real_vectors(run: Path) -> tuple[Floats, Floats]:
    """Vectors of the run's items, and states of some users."""
    from forwhy.recommend.sequential import NextItemRecommender

    recommender = NextItemRecommender.from_pretrained(run)
    histories = recommender.catalogue.histories
    asked = np.sort(
        np.random.default_rng(0).choice(np.flatnonzero(histories.lengths), QUERIES, replace=False)
    )
    return recommender.item_vectors(), recommender.network.states_after(histories.take(asked)).numpy()


def grown(real: Floats, items: int, by: float, path: Path) -> NDArray[np.float16]:
    """The memory map of a catalogue of so many items."""
    random, squares = np.random.default_rng(1), np.einsum("nd,nd->n", real, real)
    near = np.empty((len(real), 10), np.int64)
    for start in range(0, len(real), BLOCK):
        far = squares - 2.0 * real[start : start + BLOCK] @ real.T
        far[np.arange(len(far)), start + np.arange(len(far))] = np.inf
        near[start : start + BLOCK] = np.argpartition(far, 9, axis=1)[:, :10]
    vectors = np.lib.format.open_memmap(path, "w+", np.float16, (items, real.shape[1]))
    for start in range(0, items, 1 << 16):
        new = np.arange(start, min(start + (1 << 16), items))
        other = random.integers(0, len(real), len(new))
        moved = by * (real[other] - real[near[other, random.integers(0, 10, len(new))]])
        vectors[new] = real[new % len(real)] + moved * (new >= len(real))[:, None]
    vectors.flush()
    return np.load(path, mmap_mode="r")


def exact(vectors: NDArray[np.float16], queries: Floats) -> Ints:
    """[B, K] the true lists, block by block."""
    scores, items = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
    for start in range(0, len(vectors), 1 << 15):
        found = queries @ np.asarray(vectors[start : start + (1 << 15)], np.float32).T
        number = np.broadcast_to(start + np.arange(found.shape[1]), found.shape)
        scores, items = np.concatenate([scores, found], 1), np.concatenate([items, number], 1)
        best = np.argpartition(-scores, K - 1, axis=1)[:, :K]
        scores, items = np.take_along_axis(scores, best, 1), np.take_along_axis(items, best, 1)
    return items


def measured(vectors: NDArray[np.float16], queries: Floats, cells: int, size: int) -> Iterator[list[str]]:
    """Rows of one size: nothing but products, ours, and faiss twice."""
    start = time.process_time()
    exact(vectors, queries[:1])
    alone = time.process_time() - start
    truth = exact(vectors, queries)
    each = str(2 * vectors.shape[1])
    yield ["all products", "", each, "", "", "1", f"{1000 * alone:,.0f}", ""]
    start = time.process_time()
    ours = CodedCatalogue.fit(vectors, cells, size)
    fit = time.process_time() - start
    kept = sum(array.nbytes for array in ours.content().tensors.values()) / len(vectors)
    yield [
        "**forwhy**",
        f"{fit:.0f}",
        f"{kept:.1f}",
        *fastest(lambda *ask: searched(ours, *ask), truth, queries, cells),
    ]
    try:
        import faiss
    except ImportError:
        return
    faiss.omp_set_num_threads(1)
    start = time.process_time()
    theirs, _kept = trained(faiss, vectors, cells, size)
    fit = time.process_time() - start
    found = fastest(lambda *ask: searched_by_faiss(theirs, vectors, *ask), truth, queries, cells)
    yield ["faiss IVF-PQ", f"{fit:.0f}", told(faiss, theirs), *found]
    same, _kept_too = with_our_codes(faiss, ours)
    turned = lambda asked, *more: searched_by_faiss(same, vectors, asked, *more, ours.book.turn_DE)  # noqa: E731
    yield ["faiss, our codes", "", told(faiss, same), *fastest(turned, truth, queries, cells)]


def fastest(search: Search, truth: Ints, queries: Floats, cells: int) -> list[str]:
    """Probes, ranked anew, recall, ms alone and in a batch of the cheapest setting that reaches the recall."""
    tried = []
    for anew in ANEW:
        for probes in sorted({min(round(16 * 2 ** (step / 2)), cells) for step in range(24)}):
            milliseconds, recall = asked(search, truth, queries, probes, anew)
            if recall >= RECALL:
                tried.append((milliseconds, probes, anew))
                break
    if not tried:
        return [str(cells), str(ANEW[-1]), f"{recall:.4f}", "not reached", ""]
    _, probes, anew = min(tried)
    milliseconds, recall = asked(
        search, truth, queries, probes, anew
    )  # again, as the least of three flatters
    start = time.process_time()
    search(queries[:BATCH], probes, anew)
    batch = 1000 * (time.process_time() - start) / BATCH
    return [str(probes), str(anew), f"{recall:.4f}", f"{milliseconds:.1f}", f"{batch:.1f}"]


def asked(search: Search, truth: Ints, queries: Floats, probes: int, anew: int) -> tuple[float, float]:
    """Median milliseconds of single queries, and mean recall."""
    seconds, hits = [], 0
    for query, right in zip(queries, truth, strict=True):
        start = time.process_time()
        (found,) = search(query[None], probes, anew)
        seconds.append(time.process_time() - start)
        hits += len(np.intersect1d(found, right))
    return 1000 * float(np.median(seconds)), hits / truth.size


def searched(catalogue: CodedCatalogue, queries: Floats, probes: int, anew: int) -> Ints:
    """Items by ours."""
    return catalogue.search(queries, K, probes, anew)[1]


def searched_by_faiss(
    index: Any,  # noqa: ANN401
    vectors: NDArray[np.float16],
    queries: Floats,
    probes: int,
    anew: int,
    turn: Floats | None = None,
) -> Ints:
    """Items by faiss, ranked anew as ours are."""
    index.nprobe = probes
    _, found = index.search(queries if turn is None else queries @ turn, anew)
    lists = []
    for query, items in zip(queries, found, strict=True):
        items = np.sort(items[items >= 0])
        scores = np.asarray(vectors[items], np.float64) @ query.astype(np.float64)
        lists.append(items[np.lexsort((items, -scores))[:K]])
    return np.stack(lists)


def trained(faiss: Any, vectors: NDArray[np.float16], cells: int, size: int) -> tuple[Any, Any]:  # noqa: ANN401
    """IVF-PQ by inner product whose cells are learnt and filled by distance and visited by product.

    With faiss's own choice, filled by product, the largest centres would take in most items.
    """
    dims = vectors.shape[1]
    index = faiss.IndexIVFPQ(faiss.IndexFlatL2(dims), dims, cells, size, 8, faiss.METRIC_INNER_PRODUCT)
    index.cp.niter, index.cp.spherical = ROUNDS, False
    index.cp.max_points_per_centroid = index.pq.cp.max_points_per_centroid = SAMPLE
    index.pq.cp.niter = ROUNDS
    some = np.random.default_rng(0).choice(
        len(vectors), min(len(vectors), max(SAMPLE, 32 * cells)), replace=False
    )
    index.train(np.asarray(vectors[np.sort(some)], np.float32))
    for start in range(0, len(vectors), 1 << 15):
        index.add(np.asarray(vectors[start : start + (1 << 15)], np.float32))
    visited = faiss.IndexFlatIP(dims)
    visited.add(index.quantizer.reconstruct_n(0, cells))
    kept = index.quantizer, visited  # faiss holds no reference to them
    index.quantizer = visited
    return index, kept


def with_our_codes(faiss: Any, ours: CodedCatalogue) -> tuple[Any, Any]:  # noqa: ANN401
    """The same cells, words and codes in faiss; it reads turned queries."""
    (parts, _, axes), cells = ours.book.words_LWA.shape, len(ours.book.centres_CD)
    visited = faiss.IndexFlatIP(parts * axes)
    visited.add(ours.book.centres_CD @ ours.book.turn_DE)
    index = faiss.IndexIVFPQ(visited, parts * axes, cells, parts, 8, faiss.METRIC_INNER_PRODUCT)
    faiss.copy_array_to_vector(ours.book.words_LWA.ravel(), index.pq.centroids)
    index.is_trained, index.ntotal = True, len(ours.order_I)
    for cell, (start, stop) in enumerate(zip(ours.starts, ours.starts[1:], strict=False)):
        items = ours.order_I[start:stop].astype(np.int64)
        codes = np.ascontiguousarray(ours.pairs_PI[:, start:stop].T.astype("<u2")).view(np.uint8)
        if len(items):
            index.invlists.add_entries(cell, len(items), faiss.swig_ptr(items), faiss.swig_ptr(codes))
    index.precompute_table()
    return index, visited


def told(faiss: Any, index: Any) -> str:  # noqa: ANN401
    """Bytes an item, tables and centres included."""
    return f"{len(faiss.serialize_index(index)) / index.ntotal:.1f}"


def processor() -> str:
    """Its name and the flags that matter here."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "a processor that says nothing of itself"
    told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = told.get("flags", "").split()
    return f"{told.get('model name', '?')}, {' '.join(flag for flag in FLAGS if flag in flags)}"


if __name__ == "__main__":
    main()
