"""Explanations pair by pair, best to worst, each beside its reference and controls.

Shapes: r runs; m metrics; n pairs shown.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from forwhy.evaluate.document import Examined, Sample
from forwhy.evaluate.registry import METRICS, NEUTRAL
from forwhy.report.cells import clean, number
from forwhy.report.tables import SHOWN_TEXT

SHOWN = 300
"""Pairs on the page; of more, so many evenly spaced from best to worst."""
VIEW = 420
"""Characters of a text in view; the rest is folded."""
FOLD = 10_000
"""Characters of a text on the page; what is left out is counted."""
CLAIMS = 100
"""Unsupported claims of a text that are looked for in it; the others are listed only."""
SCORES = 4
"""Scores of a text on a card."""

Segment = tuple[str, bool]
"""A piece of text and whether it is an unsupported claim."""


@dataclass(frozen=True)
class Passage:
    """A text in two parts."""

    view: list[Segment]
    fold: list[Segment]
    left_out: int
    """Characters that are not on the page."""


@dataclass(frozen=True)
class Voice:
    """One text about a pair."""

    label: str
    passage: Passage
    scores: str
    run: int | None = None
    unplaced: Sequence[str] = ()
    """Unsupported claims that are not in the text word by word."""


@dataclass(frozen=True)
class Card:
    """All that was said about one pair."""

    user: str
    item: str
    reference: Passage
    runs: list[Voice]
    controls: list[Voice]
    unsupported: int


@dataclass
class Cards:
    """The browsable part of the page."""

    cards: list[Card] = field(default_factory=list)
    of: int = 0
    """Pairs before `SHOWN` of them were taken."""
    metric: str = ""
    """The cards are in its order, best first; "" for the order in which they came."""
    same: list[Voice] = field(default_factory=list)
    """Controls that say the same about every pair."""
    metrics: list[str] = field(default_factory=list)
    scores: list[list[list[float | None]]] = field(default_factory=list)
    """[r][m][n] for sorting."""


def cards(runs: Sequence[Examined]) -> Cards:
    """The samples of all runs, put together by pair and reference."""
    together: dict[tuple[Any, str], dict[int, Sample]] = {}
    for position, run in enumerate(runs):
        for sample in run.samples:
            together.setdefault((sample.pair, sample.reference), {})[position] = sample
    metrics = _metrics(runs)
    rows = list(together.values())
    metric = next(iter(metrics), "")
    rows.sort(key=lambda row: -_first(row, metric))
    chosen = [rows[at] for at in _spread(len(rows))]
    same = _same(runs)
    return Cards(
        [_card(row, runs, metrics[:SCORES], same) for row in chosen],
        len(rows),
        metric,
        [_voice(name, text, {}, []) for name, text in same.items()],
        metrics,
        [[[_value(row.get(run), name) for row in chosen] for name in metrics] for run, _ in enumerate(runs)],
    )


def passage(text: str, claims: Sequence[str] = ()) -> tuple[Passage, list[str]]:
    """The text cut for the page with its claims marked, and the claims that are not in it word by word."""
    whole = clean(text).strip()
    kept = whole[:FOLD]
    spans, unplaced = _places(kept, claims)
    cut = _cut(kept, spans)
    segments = _segments(kept, spans)
    view, fold = _split(segments, cut)
    return Passage(view, fold, len(whole) - len(kept)), unplaced


def _metrics(runs: Sequence[Examined]) -> list[str]:
    """Scored metrics: the main ones, then the registry's, then others."""
    found = dict.fromkeys(name for run in runs for sample in run.samples for name in sample.scores)
    order = [*(name for name in SHOWN_TEXT if name not in NEUTRAL), *METRICS, *found]
    return [name for name in dict.fromkeys(order) if name in found]


def _first(row: dict[int, Sample], metric: str) -> float:
    """The score of the first run that has this pair; below all when it has none."""
    value = _value(row[min(row)], metric)
    return -math.inf if value is None else value


def _value(sample: Sample | None, metric: str) -> float | None:
    value = None if sample is None else sample.scores.get(metric)
    return round(value, 4) if value is not None and math.isfinite(value) else None


def _spread(n: int) -> list[int]:
    return sorted(set(np.linspace(0, n - 1, min(n, SHOWN)).round().astype(int).tolist()))


def _same(runs: Sequence[Examined]) -> dict[str, str]:
    """Controls with one text for all pairs of all runs."""
    texts: dict[str, set[str]] = {}
    samples = [sample for run in runs for sample in run.samples]
    for sample in samples:
        for name, text in sample.controls.items():
            texts.setdefault(name, set()).add(text)
    return {name: found.pop() for name, found in texts.items() if len(found) == 1 and len(samples) > 1}


def _card(
    row: dict[int, Sample], runs: Sequence[Examined], metrics: Sequence[str], same: dict[str, str]
) -> Card:
    first = row[min(row)]
    voices = [
        _voice(runs[run].name, sample.prediction, _shown(sample.scores, metrics), sample.unsupported, run)
        for run, sample in row.items()
    ]
    return Card(
        str(first.pair[0]),
        str(first.pair[1]),
        reference=passage(first.reference)[0],
        runs=voices,
        controls=_controls(row, runs, metrics, same),
        unsupported=sum(len(sample.unsupported) for sample in row.values()),
    )


def _controls(
    row: dict[int, Sample], runs: Sequence[Examined], metrics: Sequence[str], same: dict[str, str]
) -> list[Voice]:
    """Each distinct control once, named with its run where runs differ."""
    found: dict[tuple[str, str], tuple[list[int], Sample]] = {}
    for run, sample in row.items():
        for name, text in sample.controls.items():
            if name not in same:
                found.setdefault((name, text), ([], sample))[0].append(run)
    voices = []
    for (name, text), (owners, sample) in found.items():
        label = name if len(owners) == len(row) else f"{name}: {', '.join(runs[run].name for run in owners)}"
        voices.append(_voice(label, text, _shown(sample.control_scores.get(name, {}), metrics), []))
    return voices


def _shown(scores: Mapping[str, float], metrics: Sequence[str]) -> dict[str, float]:
    return {name: scores[name] for name in metrics if name in scores}


def _voice(
    label: str, text: str, scores: Mapping[str, float], claims: Sequence[str], run: int | None = None
) -> Voice:
    cut, unplaced = passage(text, claims)
    shown = [f"{name} {number(value, 1 if abs(value) >= 10 else 2)}" for name, value in scores.items()]
    return Voice(label, cut, " \u00b7 ".join(shown), run, unplaced)


def _places(text: str, claims: Sequence[str]) -> tuple[list[tuple[int, int]], list[str]]:
    """Where claims stand in the text, whatever its spaces and case; those that don't."""
    spans, unplaced = [], []
    for claim in claims[:CLAIMS]:
        words = clean(claim).split()
        found = re.search(r"\s+".join(map(re.escape, words)), text, re.IGNORECASE) if words else None
        if found:
            spans.append(found.span())
        else:
            unplaced.append(claim)
    return _merged(spans), [*unplaced, *claims[CLAIMS:]][:CLAIMS]


def _merged(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged


def _segments(text: str, spans: Sequence[tuple[int, int]]) -> list[Segment]:
    segments, at = [], 0
    for start, end in spans:
        segments += [(text[at:start], False), (text[start:end], True)]
        at = end
    return [segment for segment in [*segments, (text[at:], False)] if segment[0]]


def _cut(text: str, spans: Sequence[tuple[int, int]]) -> int:
    """Where the view ends: at a space, not within a claim; a little over `VIEW` is not worth a fold."""
    if len(text) <= VIEW * 1.25:
        return len(text)
    space = text.rfind(" ", VIEW // 2, VIEW)
    cut = space if space > 0 else VIEW
    return next((start for start, end in spans if start < cut < end and start > 0), cut)


def _split(segments: Sequence[Segment], cut: int) -> tuple[list[Segment], list[Segment]]:
    view: list[Segment] = []
    fold: list[Segment] = []
    at = 0
    for text, marked in segments:
        inside = max(0, min(len(text), cut - at))
        view += [(text[:inside], marked)] if inside else []
        fold += [(text[inside:], marked)] if inside < len(text) else []
        at += len(text)
    return view, fold
