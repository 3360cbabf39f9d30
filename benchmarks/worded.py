"""Do explainers that know numbers alone find what there is to find? `python -m benchmarks.worded [SYSTEM…]`.

On a little town where everybody is explained (150 people, 100 places, 2,400 training explanations), and on the usual
one (600, 400 and 900, so one or two texts of each). Options are the preset's, chosen on validation pairs of the first.
Those with a language model take a thousand times as long for a pair, so theirs is a town of few people (60, 60 and 480:
eight texts of each), read five times; all but PEPLER read a vector of who took what. Of test pairs: nats per word (or
per token of the language model), what the right user and item are worth, BLEU-1; and seconds of one thread, training
and writing. Two minutes for a system, fifteen for one with a language model.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
import torch

from forwhy.data.dataset import Dataset, make_dataset
from forwhy.data.sample import little_town
from forwhy.errors import UserError
from forwhy.evaluate.gain import measure_gain
from forwhy.evaluate.text import score_texts
from forwhy.graph.lightgcn import learn_vectors
from forwhy.graph.representations import CollaborativeConfig, CollaborativeVectors
from forwhy.systems import find_system

SYSTEMS = ("att2seq", "nrt", "peter", "peter-plus")
WITH_MODEL = ("pepler", "tea-glm", "graphgpt", "time-llm")
TOWNS = {
    "all explained": {"users": 150, "items": 100, "visits": 30, "explanations": (2400, 100, 100)},
    "usual": {},
    "few people": {"users": 60, "items": 60, "visits": 20, "explanations": (480, 40, 60)},
}
BUDGET = {"epochs": 5, "precision": "bf16"}
"""Of those with a language model; the others have their preset's."""


def profiled(town: Dataset) -> Dataset:
    """With the intents of each place as its profile."""
    rows = [
        ("item", str(town.items.values[item]), "; ".join(said)) for item, said in town.phrases("item").items()
    ]
    profiles = pl.DataFrame(rows, schema=["side", "entity_id", "text"], orient="row")
    return make_dataset(town.name, {**town.tables, "profiles": profiles}, town.source)


def measure(system: str, town: Dataset, known: CollaborativeVectors) -> str:
    """A row of the table."""
    options = {"explainer": BUDGET} if system in WITH_MODEL else {}
    recipe = find_system(system).model_validate({"name": system, "data": {"path": "town"}, **options})
    explainer = recipe.new_explainer()  # type: ignore[attr-defined]
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        explainer.fit(town, known, Path(folder))
    trained, pairs = time.process_time() - start, town.pairs("test")
    pairs = pairs.select(np.flatnonzero(explainer.supported(pairs)))
    found = measure_gain(explainer, pairs)
    gain, start = found["information_gain"], time.process_time()
    texts = [told.text for told in explainer.explain(pairs)]
    written, scores = time.process_time() - start, score_texts(texts, list(pairs.texts)).corpus
    return (
        f"{explainer.metrics['nll']:.3f} | {found['nll']:.3f} | {gain['user']:.3f} | {gain['item']:.3f} | "  # type: ignore[index]
        f"{scores['bleu1']:.3f} | {len(set(texts))} of {len(texts)} | {trained:.0f} + {written:.1f}"
    )


def main(systems: list[str]) -> None:
    """Each town, a row for each system that learns there."""
    torch.set_num_threads(1)
    systems = systems or [*SYSTEMS, *WITH_MODEL]
    if unknown := set(systems) - {*SYSTEMS, *WITH_MODEL}:
        raise UserError(f"{', '.join(unknown)}: none of {', '.join((*SYSTEMS, *WITH_MODEL))}")
    print("| town | system | valid NLL | NLL | gain of user | of item | BLEU-1 | texts | seconds |")
    for name, options in TOWNS.items():
        here = [it for it in systems if it in (WITH_MODEL if name == "few people" else SYSTEMS)]
        if not here:
            continue
        town = profiled(little_town(**options))  # type: ignore[arg-type]
        with tempfile.TemporaryDirectory() as folder:
            known = learn_vectors(town, Path(folder), CollaborativeConfig(epochs=1))
        for system in here:
            print(f"| {name} | `{system}` | {measure(system, town, known)} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
