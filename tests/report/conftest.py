"""Small examined runs with everything in them, among it what strangers write."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from forwhy.evaluate.compare import Comparison, Scored, bold_cells, compare
from forwhy.evaluate.controls import TextTable, text_table
from forwhy.evaluate.document import Examined, Sample, evaluation_document
from forwhy.evaluate.gain import text_retrieval
from forwhy.evaluate.ranking import rank_all
from forwhy.evaluate.registry import NEUTRAL
from forwhy.evaluate.significance import Interval, flatten

HOSTILE = (
    '<script>alert(1)</script><img src=x onerror=alert(2)> & "quoted" \x00\x1b[31m\u202egnol\u202c 😀 שלום'
)
N = 12
REFERENCES = [f"a quiet bar with number {row} on the door and good tea" for row in range(N)]
TRAIN = ["a quiet bar with good tea", "noisy place", "cheap cake and tea on the door"]


def gain(user: float, item: float) -> dict[str, object]:
    """As `measure_gain` gives it; intervals half as wide as 0.04."""
    sides = {"user": user, "item": item, "both": item}
    found = {side: Interval(value, value - 0.02, value + 0.02) for side, value in sides.items()}
    return {"information_gain": {**flatten(found), "pairs": N}, "nll": 2.8, "nll_interval": [2.7, 2.9]}


def grounding(precision: float) -> dict:
    """As `GroundingTable.document` makes it; the constant is better supported, dealt outputs less."""

    def shares(value: float) -> dict:
        ends = [value - 0.1, value + 0.1]
        shares = dict.fromkeys(("precision", "recall", "supported"), value)
        return {**shares, "intervals": {"precision": ends, "supported": ends}}

    def control(value: float) -> dict:
        margin = precision - value
        return {
            **shares(value),
            "margin": {"precision": margin, "intervals": {"precision": [margin - 0.01, margin + 0.01]}},
        }

    return {
        **shares(precision),
        "method": {**shares(precision), "excluded": {"no_evidence": 3, "no_claims": 0}},
        "controls": {"reference": control(0.9), "constant": control(0.7), "dealt": control(0.3)},
        "sentence": TRAIN[0],
        "calibration": {
            "threshold": 0.61, "missed": {"either": 0.41}, "accepted": {"either": 0.4}, "claims": {"either": 50},
        },
    }  # fmt: skip


def samples(predictions: Sequence[str], table: TextTable) -> list[Sample]:
    """One for each pair; the constant is the same for all."""
    scores = {name: control.scores.per_pair for name, control in table.controls.items()}
    return [
        Sample(
            (f"user {row}", row),
            REFERENCES[row],
            text,
            {"constant": TRAIN[0], "dealt": predictions[row - 1]},
            {metric: float(values[row]) for metric, values in table.method.per_pair.items()},
            ("good tea",) if row % 2 else (),
            {name: {m: float(values[row]) for m, values in found.items()} for name, found in scores.items()},
        )
        for row, text in enumerate(predictions)
    ]


def examined(name: str, predictions: Sequence[str], precision: float) -> tuple[Examined, Scored]:
    """A run with every part, and its scores for comparing."""
    table = text_table(predictions, REFERENCES, TRAIN)
    generator = np.random.default_rng(0)
    items = generator.normal(size=(60, 8))
    items /= np.linalg.norm(items, axis=1, keepdims=True)
    users = items[:30]
    none, test = np.empty((0, 2), dtype=np.int64), np.stack([np.arange(30), np.arange(30)], axis=1)
    document = evaluation_document(
        ranking=rank_all(users, items, none, test),
        baselines={"popularity": rank_all(np.ones((30, 1)), items[:, :1], none, test)},
        text=table,
        gain=gain(0.0, 0.08),
        explained={"item": 0.1, "user": 0.0, "both": 0.1, "pairs": 30, "controls": {"title": {"item": 0.13}}},
        retrieval=text_retrieval(users, users),
        protocol={"dataset": "town", "graph": "leak-free", "fingerprint": "f00d" * 16, "seed": 3},
    )
    document["grounding"] = grounding(precision)
    found, ends = {"text by model": 0.6, "text by profile": 0.55}, [0.5, 0.7]
    document["two_choice"] = {
        **found,
        "intervals": dict.fromkeys(found, ends),
        "choices": dict.fromkeys(found, 31),
    }
    document["specificity"] = {
        "mrr": 0.3,
        "intervals": {"mrr": [0.2, 0.4]},
        "among": 100.0,
        "chance": {"mrr": 0.052},
    }
    document["groups"] = {"unseen users": {**document["text"], "pairs": 5}}
    document["exclusions"] = {"empty_prediction": 2}
    document["judge"] = {"model": "a judge", "cost": {"tokens": 12}}
    history = [
        {"stage": "vocabulary", "step": 0, "valid": {"hr@20": 0.2, "perplexity/user_macro": 7.0}},
        {"stage": "vocabulary", "step": 4, "train": {"loss": 8.1}},
        {"stage": "explainer", "step": 4, "train": {"nll": 8.2}},
        *(
            {"stage": "explainer", "step": step, "valid": {"nll": 26 / step, "gain": None}}
            for step in (2, 4, 8)
        ),
    ]
    pairs = samples(predictions, table)
    run = Examined(name, document, pairs, history, {"user_macro": [9, 3, 0, 1]})
    return run, Scored(name, [sample.pair for sample in pairs], table.method.per_pair, table.method.counts)


@pytest.fixture(scope="session")
def good() -> tuple[Examined, Scored]:
    """Every text is right."""
    return examined("all right", REFERENCES, 0.8)


@pytest.fixture(scope="session")
def bad() -> tuple[Examined, Scored]:
    """Every text is wrong, and an attack."""
    texts = [f"{HOSTILE} {row}" for row in range(N - 2)]
    return examined(f"wrong {HOSTILE}", [*texts, "", "wording " * 10_000], 0.5)


@pytest.fixture(scope="session")
def compared(
    good: tuple[Examined, Scored], bad: tuple[Examined, Scored]
) -> tuple[list[Comparison], set[tuple[str, str]]]:
    """Both runs by some metrics, and what may be bold."""
    found = compare([good[1], bad[1]], ["bleu1", "rougeL", "length"], n=200)
    return found, bold_cells(found, NEUTRAL)
