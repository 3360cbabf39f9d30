"""What the arms of an experiment brought: shares of lists that were clicked, and their difference, with intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_Z = 1.959963984540054
"""Of a two-sided interval of 95%."""


def wilson(hits: int, of: int) -> tuple[float, float]:
    """The interval of a share (Wilson, 1927); from 0 to 1 where nothing was counted."""
    if not of:
        return 0.0, 1.0
    share, z2 = hits / of, _Z * _Z
    middle = (share + z2 / (2 * of)) / (1 + z2 / of)
    half = _Z * math.sqrt(share * (1 - share) / of + z2 / (4 * of * of)) / (1 + z2 / of)
    return max(0.0, middle - half), min(1.0, middle + half)


def newcombe(one: tuple[int, int], other: tuple[int, int]) -> tuple[float, float]:
    """The interval of the difference of two shares, first minus second (Newcombe, 1998, method 10)."""
    rates = [hits / of if of else 0.0 for hits, of in (one, other)]
    (low, high), (low2, high2) = wilson(*one), wilson(*other)
    difference = rates[0] - rates[1]
    down = math.hypot(rates[0] - low, high2 - rates[1])
    up = math.hypot(high - rates[0], rates[1] - low2)
    return difference - down, difference + up


def compared(experiment: Mapping[str, Any], outcomes: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """An experiment as it stands; differences are of each arm and the first.

    A person's lists are not independent of each other, so that with few people intervals are too narrow.
    """
    arms: list[dict[str, Any]] = []
    for name, arm in experiment["arms"].items():
        counted = outcomes[name]
        rate = counted["clicked"] / counted["impressions"] if counted["impressions"] else None
        interval = wilson(counted["clicked"], counted["impressions"])
        about = {"arm": name, "run": arm["run"], "share": arm["share"]}
        arms.append({**about, **counted, "rate": rate, "interval": interval})
    first = arms[0]
    differences = {
        arm["arm"]: newcombe((arm["clicked"], arm["impressions"]), (first["clicked"], first["impressions"]))
        for arm in arms[1:]
        if arm["impressions"] and first["impressions"]
    }
    return {"name": experiment["name"], "arms": arms, "minus_first": differences}
