"""All text metrics of 3,000 pairs beside their controls, and BERTScore: `python benchmarks/text_metrics.py`.

Pairs: XRec's published Yelp outputs where they are (FORWHY_SHARED), else drawn sentences of their length; for
BERTScore then texts of the little town, 55 words each.
Features: frequent long words. Controls: a constant, a second one picked by vectors of drawn numbers (its
encoder costs nothing, so that no model is timed), the outputs dealt.
Prints two JSON lines: processor and wall seconds of the metrics, of their intervals and margins, of both (one
core); then those of BERTScore on MiniLM, all texts encoded (as many cores as torch takes; OMP_NUM_THREADS
sets them), with the machine's load. The second is left out where MiniLM is not cached.
"""

import argparse
import json
import os
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from forwhy.data.sample import little_town
from forwhy.evaluate.bertscore import BertScore
from forwhy.evaluate.controls import text_table
from forwhy.evaluate.document import evaluation_document
from forwhy.evaluate.overlap import words
from forwhy.evaluate.reading import read_outputs
from forwhy.evaluate.text import Features
from forwhy.models import cache_folder
from forwhy.wheels import PACKAGED, state

SHARED = Path(os.environ.get("FORWHY_SHARED", Path(__file__).resolve().parents[2] / "shared"))


class DrawnVectors:
    """Unit vectors that say nothing."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """[n, 8]."""
        rows = np.random.default_rng(0).standard_normal((len(texts), 8), dtype=np.float32)
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=3000)
    options = parser.parse_args()
    source, outputs, references = pairs(options.pairs)
    # Texts of other pairs than the evaluated: half of one sentence and half of another.
    training = [f"{a[: len(a) // 2]} {b[len(b) // 2 :]}" for a, b in zip(references, outputs, strict=True)]
    clock = [(time.process_time(), time.perf_counter())]
    table = text_table(outputs, references, training, DrawnVectors(), features=features(references))
    clock.append((time.process_time(), time.perf_counter()))
    document = evaluation_document(text=table)
    clock.append((time.process_time(), time.perf_counter()))
    cpu, wall = (np.diff([stamp[kind] for stamp in clock]) for kind in (0, 1))
    measured = {
        "benchmark": "text_metrics", "pairs": len(outputs), "source": source,
        "metrics": len(table.method.corpus), "scorings": 1 + len(document["controls"]),
        "metrics_cpu_seconds": round(cpu[0], 2), "intervals_cpu_seconds": round(cpu[1], 2),
        "cpu_seconds": round(cpu.sum(), 2), "wall_seconds": round(wall.sum(), 2), "target": 5.0,
    }  # fmt: skip
    print(json.dumps(measured))
    if state(PACKAGED["minilm"], cache_folder()) == "ready":
        texts = town(options.pairs) if source == "drawn" else (source, outputs, references)
        print(json.dumps(bertscore(*texts)))


def bertscore(source: str, outputs: Sequence[str], references: Sequence[str]) -> dict[str, object]:
    """Of outputs against references, the model loaded before."""
    import torch

    score, load = BertScore("minilm"), os.getloadavg()[0]
    cpu, wall = time.process_time(), time.perf_counter()
    found = score(outputs, references)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {
        "benchmark": "bertscore", "pairs": len(outputs), "source": source, "model": score.signature,
        "words": sum(len(text.split()) for text in (*outputs, *references)),
        "bertscore_f": round(float(found.per_pair["bertscore_f"].mean()), 4),
        "threads": torch.get_num_threads(), "load_before": round(load, 1),
        "cpu_seconds": round(cpu, 2), "wall_seconds": round(wall, 2), "target": 60.0,
    }  # fmt: skip


def pairs(n: int) -> tuple[str, list[str], list[str]]:
    """Where from, outputs, references."""
    folder = SHARED / "data" / "xrec-yelp"
    if (folder / "tst_pred.pkl").exists():
        found = read_outputs(folder / "tst_pred.pkl", folder / "tst_ref.pkl")
        return folder.name, found.predictions[:n], found.references[:n]
    generator = np.random.default_rng(0)
    return "drawn", *([sentence(generator) for _ in range(n)] for _ in range(2))


def town(n: int) -> tuple[str, list[str], list[str]]:
    """As `pairs`: explanations of the little town, three joined and cut to 55 words."""
    texts = little_town().tables["explanations"]["text"].to_list()
    generator = np.random.default_rng(0)

    def joined() -> str:
        return " ".join(" ".join(generator.choice(texts, 3)).split()[:55])

    return "little town", *([joined() for _ in range(n)] for _ in range(2))


def sentence(generator: np.random.Generator) -> str:
    """Some 38 words of a vocabulary with a long tail."""
    drawn = generator.zipf(1.3, size=generator.integers(25, 52)).clip(max=20_000)
    return " ".join(f"word{number}," if number % 7 == 0 else f"word{number}" for number in drawn) + "."


def features(references: Sequence[str]) -> Features:
    """The 500 most frequent words of six letters or more."""
    texts = [{word for word in words(text) if word.isalnum() and len(word) > 5} for text in references]
    times = Counter(word for text in texts for word in text)
    catalogue = {word for word, _ in times.most_common(500)}
    return Features([text & catalogue for text in texts], catalogue)


if __name__ == "__main__":
    main()
