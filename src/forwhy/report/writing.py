"""How a report writes its values, names and strangers' texts."""

import math
import re
from collections.abc import Hashable, Iterable, Sequence
from typing import TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

# Spaces of any kind keep words apart; the rest could hide, reverse or break what is shown.
SPACES = re.compile("[\t\x0b\x0c\r\x1c-\x1f\x85\u2028\u2029]")
UNSHOWN = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")

MARKS = dict.fromkeys((0x61C, 0x200E, 0x200F))
"""Marks of direction, which are nothing to see."""


def clean(text: str) -> str:
    """The text without control characters, lone surrogates and bidirectional overrides; lines are kept."""
    return UNSHOWN.sub("\ufffd", SPACES.sub(" ", text.replace("\r\n", "\n"))).translate(MARKS)


def digits(values: Iterable[float]) -> int:
    """Decimals that suit all of a column's values."""
    most = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    return 1 if most >= 10 else 2 if most >= 1 else 3 if most >= 0.05 else 4


def number(value: float | None, decimals: int, sign: bool = False) -> str:
    """A value with a true minus; a dash for none."""
    if value is None or not math.isfinite(value):
        return "\u2013"
    return f"{value:{'+' if sign else ''},.{decimals}f}".replace("-", "\u2212")


def interval(ends: Sequence[float], decimals: int) -> str:
    """Both ends in brackets."""
    return f"[{number(ends[0], decimals)}, {number(ends[1], decimals)}]"


def with_interval(value: float, ends: Sequence[float]) -> str:
    """A value in running text."""
    decimals = digits([value, *ends])
    return f"{number(value, decimals)} {interval(ends, decimals)}"


def percent(share: float) -> str:
    """A share in running text."""
    return f"{share:.0%}" if share >= 0.1 or share == 0 else f"{share:.1%}"


def joined(words: Sequence[str]) -> str:
    """As in "a, b and c"."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]])) if words else ""


def counted(n: int, noun: str) -> str:
    """As in "1 pair", "1,200 pairs"."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def grouped(pairs: Iterable[tuple[K, V]]) -> dict[K, list[V]]:
    """Key -> its values; both in the order in which they came."""
    found: dict[K, list[V]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return found
