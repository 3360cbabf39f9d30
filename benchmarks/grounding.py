"""Grounding of XRec-Yelp's references: `python -m benchmarks.grounding DATASET_FOLDER [--profiles]`.

The references of held-out pairs are scored as if they were outputs, beside the controls: what a writer who
knows each visit reaches, and what text about other pairs and one constant sentence reach. Prints two JSON
lines: support corrected for chance, and the bare cosine. `seconds_N` is the time for N pairs (copies of these)
whose vectors are at hand.
"""

import argparse
import json
import time
from typing import Any

import numpy as np

from forwhy.data.dataset import Dataset
from forwhy.data.intents import IntentsConfig
from forwhy.evaluate.evidence import Evidence
from forwhy.evaluate.grounding import Grounder, Support, cosine_support, grounding_table
from forwhy.text.encoder import text_encoder


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", help="folder that `forwhy data import xrec` wrote")
    parser.add_argument("--pairs", type=int, default=300, help="held-out pairs, the first ones of test")
    parser.add_argument("--profiles", action="store_true", help="also read the items' shipped profiles")
    parser.add_argument("--encoder", default="minilm", help="as for text_encoder")
    parser.add_argument(
        "--copies", type=int, default=10, help="of the pairs, for the timing without encoding"
    )
    options = parser.parse_args()
    dataset = Dataset.load(options.dataset)
    phrases = IntentsConfig(source="profiles" if options.profiles else "auto")
    evidence, encoder = Evidence.from_dataset(dataset, phrases), text_encoder(options.encoder)
    common = evidence.background(dataset.pairs("train"))
    for name, support in (
        ("chance", cosine_support(encoder, common)),
        ("cosine", cosine_support(encoder)),
    ):
        print(
            json.dumps(
                {"support": name} | measured(dataset, evidence, support, options.pairs, options.copies)
            )
        )


def measured(
    dataset: Dataset, evidence: Evidence, support: Support, count: int, copies: int
) -> dict[str, Any]:
    """The table of the references, and seconds."""
    train, test = dataset.pairs("train"), dataset.pairs("test")
    rows = np.arange(min(count, len(test)))
    pairs = test.select(rows)
    start = time.perf_counter()
    grounder = Grounder.fit(evidence, train, support)
    table = grounding_table(pairs.texts, pairs, grounder, train.texts)
    seconds = time.perf_counter() - start
    many = pairs.select(np.tile(rows, copies))
    start = time.perf_counter()
    grounder.score(many.texts, many)
    timed = {"seconds": round(seconds, 1), f"seconds_{len(many)}": round(time.perf_counter() - start, 1)}
    return {**table.document(), **timed}


if __name__ == "__main__":
    main()
