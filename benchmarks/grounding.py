"""Grounding on held-out pairs: `python benchmarks/grounding.py [FOLDER] [--profiles] [--xrec FOLDER]`.

FOLDER: a data set such as XRec-Yelp; without it the little town, so that `make bench` needs no data. By default
the references are scored as if they were outputs: what a writer who knows each visit reaches, beside text about
other pairs and one constant sentence. With `--xrec` the outputs that XRec publishes are scored, on the pairs
whose reference is among theirs. Prints two JSON lines: support corrected for chance, and the bare cosine.
`seconds_N` is the time for N pairs (copies of these) whose vectors are at hand.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from forwhy.data.dataset import Dataset, Pairs
from forwhy.data.intents import IntentsConfig
from forwhy.data.sample import little_town
from forwhy.evaluate.grounding import Grounder, Support, cosine_support, grounding_table
from forwhy.evaluate.reading import match, read_outputs
from forwhy.text.encoder import text_encoder
from forwhy.text.statements import KnownStatements


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", nargs="?", help="folder that `forwhy data import` wrote")
    parser.add_argument("--profiles", action="store_true", help="also read the items' shipped profiles")
    parser.add_argument("--xrec", type=Path, help="folder with tst_pred.pkl and tst_ref.pkl")
    parser.add_argument("--encoder", default="minilm", help="as for text_encoder")
    parser.add_argument(
        "--copies", type=int, default=10, help="of the pairs, for the timing without encoding"
    )
    options = parser.parse_args()
    dataset = Dataset.load(options.dataset) if options.dataset else little_town()
    train, pairs = dataset.pairs("train"), dataset.pairs("test")
    outputs: Sequence[str] = pairs.texts
    if options.xrec:
        pairs, outputs = published(options.xrec, dataset)
    phrases = IntentsConfig(source="profiles" if options.profiles else "auto")
    evidence, encoder = KnownStatements.read(dataset, phrases), text_encoder(options.encoder)
    supports = {
        "chance": cosine_support(encoder, evidence.background(train)),
        "cosine": cosine_support(encoder),
    }
    for name, support in supports.items():
        measured = measure(evidence, support, train, pairs, outputs, options.copies)
        print(json.dumps({"support": name} | measured))


def published(folder: Path, dataset: Dataset) -> tuple[Pairs, list[str]]:
    """The held-out pairs whose reference XRec publishes an output for, and that output."""
    found = match("xrec", read_outputs(folder / "tst_pred.pkl", folder / "tst_ref.pkl"), dataset)
    rows, pairs = found.held_out()
    return pairs, [found.predictions[row] for row in rows]


def measure(
    evidence: KnownStatements,
    support: Support,
    train: Pairs,
    pairs: Pairs,
    outputs: Sequence[str],
    copies: int,
) -> dict[str, Any]:
    """The table of the outputs, and seconds."""
    start = time.perf_counter()
    grounder = Grounder.fit(evidence, train, support)
    table = grounding_table(outputs, pairs, grounder, train.texts)
    seconds = time.perf_counter() - start
    many = pairs.select(np.tile(np.arange(len(pairs)), copies))
    start = time.process_time()
    grounder.score(many.texts, many)
    cpu = time.process_time() - start
    timed = {"seconds": round(seconds, 1), f"cpu_seconds_{len(many)}": round(cpu, 1)}
    return {**table.document(), **timed}


if __name__ == "__main__":
    main()
