"""What strict grounding makes of a run's texts: those that `prefer` chose, held to their statements.

    python -m benchmarks.strict runs/because --data out/yelp

Strict mode takes the candidate that `prefer` takes and leaves out what no statement supports, so nothing is written
again here. Supported: share of claims of which at least half the words, weighed by how rare they are, stand in one
statement beside the text (`evaluate.grounding.word_support`); another judge than the encoder that chose. Prints JSON.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import polars as pl

from forwhy.data.dataset import Dataset
from forwhy.evaluate.grounding import SUPPORTED, word_support
from forwhy.evaluate.significance import bootstrap_interval
from forwhy.evaluate.text import score_texts
from forwhy.explain.because import BecauseExplainer
from forwhy.text.encoder import text_encoder
from forwhy.text.statements import claims


def main() -> None:
    """Hold the texts, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    given = parser.parse_args()
    dataset, explainer = Dataset.load(given.data), BecauseExplainer.from_pretrained(given.run / "explainer")
    rows = pl.read_parquet(given.run / "outputs.parquet")
    pairs = list(zip(rows["user_id"].to_list(), rows["item_id"].to_list(), strict=True))
    subjects = explainer._subjects(pairs, None, None)
    explainer.knowledge.remember(subjects)
    known = [explainer.knowledge.of(subject) for subject in subjects]
    prefer = rows["prediction"].to_list()
    strict = [explainer._held(*parts) for parts in zip(prefer, known, subjects, strict=True)]
    judge, encoder = word_support(dataset.pairs("train").texts), text_encoder("minilm")
    found = {}
    for name, texts in {"prefer": prefer, "strict": strict}.items():
        groups = [(claims(text), [one.text for one in told]) for text, told in zip(texts, known, strict=True)]
        held = [float((scores >= SUPPORTED).mean()) for scores in judge(groups) if len(scores)]
        scored = score_texts(texts, rows["reference"].to_list(), encoder=encoder).corpus
        found[name] = {
            "supported": list(bootstrap_interval(np.array(held))),
            "texts without a claim": len(texts) - len(held),
            "unchanged": float(np.mean([a == b for a, b in zip(texts, prefer, strict=True)])),
            **{
                metric: scored[metric]
                for metric in ("similarity", "bleu1", "rougeL", "length")
                if metric in scored
            },
        }
    print(json.dumps({"run": given.run.name, **found, "samples": strict[:20]}, indent=1, default=float))


if __name__ == "__main__":
    main()
