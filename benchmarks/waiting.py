"""What one person waits for: from a cold start to the first word and the end of an explanation, and for the next one.

Each round is a process of its own, which imports, opens the run and streams what `forwhy explain` would. Seconds are
of its processor time, which other work on the machine disturbs less than the clock; the least of the rounds.

    python -m benchmarks.waiting RUN --user U --item I [--rounds 3]

RUN explains, e.g. the folder of `forwhy run recipes/because.toml`; its `explainer.engine` is what writes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time

from forwhy.bridge.engines import named


def waited(run: str, user: str, item: str) -> dict[str, float]:
    """Of this process since it began; `warm` is a second explanation alone."""
    import forwhy

    explainer = forwhy.open(run).reasoner(item)
    pieces = explainer.stream(user=user, item=item)
    text = next(pieces)
    first = time.process_time()
    text += "".join(pieces)
    whole = time.process_time()
    explainer.explain(user=user, item=item)
    warm = time.process_time() - whole
    return {"first word": first, "whole text": whole, "warm": warm, "words": float(len(text.split()))}


def main() -> None:
    """Print the seconds as one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--user", required=True)
    parser.add_argument("--item", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(waited(options.run, options.user, options.item)))
        return
    asked = [sys.executable, "-m", "benchmarks.waiting", options.run, "--user", options.user]
    asked += ["--item", options.item, "--one"]
    single = {**os.environ, "OMP_NUM_THREADS": "1"}
    rounds = [
        json.loads(subprocess.run(asked, check=True, capture_output=True, env=single).stdout)
        for _ in range(options.rounds)
    ]
    least = {name: round(min(each[name] for each in rounds), 2) for name in rounds[0]}
    print(json.dumps({"processor": named(), "seconds of processor time": least}, indent=2))


if __name__ == "__main__":
    main()
