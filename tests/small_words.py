"""Small networks with words of their own, trained in a second."""

from __future__ import annotations

from typing import Any

from forwhy.explain.worded import WordedExplainer
from forwhy.systems import find_system


def worded(system: str, **options: object) -> WordedExplainer[Any]:
    """A small network of words, not fitted."""
    quick = {"epochs": 6, "batch_size": 8, "lr": 1e-2, "hidden": 16, "generation": {"max_words": 12}}
    values = {"name": "x", "data": {"path": "x"}, "explainer": {**quick, **options}}
    made = find_system(system).model_validate(values).new_explainer()  # type: ignore[attr-defined]
    assert isinstance(made, WordedExplainer)
    return made
