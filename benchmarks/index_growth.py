"""How indexing grows with the catalogue: seconds (of the clock, of the cores) and peak memory on generated items.

Each size runs in a process of its own, as peak memory never falls. Vectors are drawn around 1,000 centres.

    python benchmarks/index_growth.py [--items 10000 100000 1000000] [--width 256|auto] [--dims 64] [--threads 2]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def measure(items: int, width: str, dims: int) -> dict[str, float | str]:
    """Index so many generated items once, in this process."""
    import numpy as np

    from forwhy.vocabulary.clusters import hierarchical_codes, tree_shape

    random = np.random.default_rng(0)
    centres = random.standard_normal((1000, dims), np.float32)
    noise = random.standard_normal((items, dims), np.float32)
    vectors = centres[random.integers(0, 1000, items)] + 0.5 * noise
    del noise
    codes, depth = tree_shape(items, "auto" if width == "auto" else int(width), "auto")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, work = time.perf_counter(), time.process_time()
    found = hierarchical_codes(vectors, codes, depth)
    seconds, work = time.perf_counter() - start, time.process_time() - work
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert len(np.unique(found, axis=0)) == items
    return {
        "items": items,
        "shape": f"{depth} x {codes}",
        "seconds": round(seconds, 2),
        "cpu seconds": round(work, 2),
        "peak GiB": round(peak / 2**20, 2),
        "of it before": round(before / 2**20, 2),
    }


def main() -> None:
    """Measure every size and print a table with the growth between neighbours."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--width", default="256")
    parser.add_argument("--dims", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        print(json.dumps(measure(given.items[0], given.width, given.dims)))
        return
    print(
        f"{'items':>10} {'shape':>9} {'seconds':>9} {'cpu s':>7} {'growth':>7} {'peak GiB':>9} {'before':>7}"
    )
    last = 0.0
    for items in given.items:
        row = _aside(items, given)
        growth = f"x{row['seconds'] / last:.1f}" if last else ""
        last = row["seconds"]
        print(
            f"{items:>10,} {row['shape']:>9} {last:>9.1f} {row['cpu seconds']:>7.1f} {growth:>7} "
            f"{row['peak GiB']:>9.2f} {row['of it before']:>7.2f}",
            flush=True,
        )


def _aside(items: int, given: argparse.Namespace) -> dict:
    command = [sys.executable, __file__, "--inside", "--items", str(items), "--width", given.width]
    environment = os.environ | dict.fromkeys(THREADS, str(given.threads))
    done = subprocess.run(
        [*command, "--dims", str(given.dims)], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()
