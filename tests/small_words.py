"""Small networks with words of their own, trained in a second."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from forwhy.explain.worded import WordedExplainer
from forwhy.systems import find_system

SMALL: Mapping[str, Mapping[str, object]] = {
    "att2seq": {"hidden": 32},
    "nrt": {"dims": 16, "hidden": 16},
    "peter": {"dims": 16, "feedforward": 16},
    "peter-plus": {"dims": 16, "feedforward": 16, "sentence": 4},
}
"""System -> sizes."""


def worded(system: str, **options: object) -> WordedExplainer[Any]:
    """A small network of words, not fitted."""
    quick = {"epochs": 6, "batch_size": 8, "lr": 1e-2, "generation": {"max_words": 12}}
    values = {"name": "x", "data": {"path": "x"}, "explainer": {**quick, **SMALL[system], **options}}
    made = find_system(system).model_validate(values).new_explainer()  # type: ignore[attr-defined]
    assert isinstance(made, WordedExplainer)
    return made
