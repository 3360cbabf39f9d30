"""Explanations pair by pair, best to worst, each beside its reference and controls."""

import math
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from forwhy.evaluate.document import Examined, Sample
from forwhy.evaluate.registry import METRICS, NEUTRAL
from forwhy.report.tables import SHOWN_TEXT
from forwhy.report.writing import clean, grouped, number

SHOWN, SCORES = 300, 4
"""Pairs on the page (of more, so many evenly spaced from best to worst), and scores of a text."""
VIEW, FOLD = 420, 10_000
"""Characters of a text in view, the rest is folded; and on the page at all, what is left out is counted."""
CLAIMS = 100
"""Unsupported claims of a text that are looked for in it; the others are listed only."""

Segment = tuple[str, bool]
"""A piece of text and whether it is an unsupported claim."""
Row = Mapping[int, Sample]
"""Run -> its sample of one pair."""


class Passage(NamedTuple):
    """A text in two parts."""

    view: list[Segment]
    fold: list[Segment]
    left_out: int
    """Characters that are not on the page."""


def cards(runs: Sequence[Examined]) -> dict[str, Any]:
    """The samples of all runs, put together by pair and reference, as the template reads them.

    `cards`; `of`: how many before `SHOWN` were taken; `metric` and `by`: cards are in the order of this score of this
    run, best first, "" for the order in which they came; `same`: controls that say the same about every pair.
    """
    said = [(at, sample) for at, run in enumerate(runs) for sample in run.samples]
    together = grouped(((sample.pair, sample.reference), (at, sample)) for at, sample in said)
    metrics, same = _metrics(runs), _same(runs)
    metric = next(iter(metrics), "")
    by = next((at for at, sample in said if metric in sample.scores), 0)
    rows = sorted(map(dict, together.values()), key=lambda row: -_rank(row.get(by), metric))
    spread = np.linspace(0, len(rows) - 1, min(len(rows), SHOWN)).round().astype(int)
    chosen = [rows[at] for at in sorted(set(spread.tolist()))]
    found = [_card(row, runs, metrics[:SCORES], same) for row in chosen]
    alike = [_voice(name, text, {}) for name, text in same.items()]
    return {"cards": found, "of": len(rows), "metric": metric, "by": runs[by].name, "same": alike}


def passage(text: str, claims: Sequence[str] = ()) -> tuple[Passage, list[str]]:
    """The text cut for the page with its claims marked, and the claims that are not in it word by word.

    A claim is found whatever its spaces and case.
    """
    whole = clean(text).strip()
    kept = whole[:FOLD]
    marked, unplaced = np.zeros(len(kept), dtype=np.bool_), []
    for claim in claims[:CLAIMS]:
        words = clean(claim).split()
        found = re.search(r"\s+".join(map(re.escape, words)), kept, re.IGNORECASE) if words else None
        if found:
            marked[slice(*found.span())] = True
        else:
            unplaced.append(claim)
    cut = _cut(kept, marked)
    view, fold = _segments(kept[:cut], marked[:cut]), _segments(kept[cut:], marked[cut:])
    return Passage(view, fold, len(whole) - len(kept)), [*unplaced, *claims[CLAIMS:]][:CLAIMS]


def _cut(text: str, marked: NDArray[np.bool_]) -> int:
    """Where the view ends: at a space, not within a claim; a little over `VIEW` is not worth a fold."""
    if len(text) <= VIEW * 1.25:
        return len(text)
    space = text.rfind(" ", VIEW // 2, VIEW)
    cut = space if space > 0 else VIEW
    if not (marked[cut - 1] and marked[cut]):
        return cut
    before = np.flatnonzero(~marked[:cut])
    return int(before[-1]) + 1 if len(before) else cut


def _segments(text: str, marked: NDArray[np.bool_]) -> list[Segment]:
    ends = [0, *(np.flatnonzero(np.diff(marked)) + 1).tolist(), len(text)]
    return [(text[a:b], bool(marked[a])) for a, b in pairwise(ends) if a < b]


def _metrics(runs: Sequence[Examined]) -> list[str]:
    """Scored metrics: the main ones, then the registry's, then others."""
    found = dict.fromkeys(name for run in runs for sample in run.samples for name in sample.scores)
    order = [*(name for name in SHOWN_TEXT if name not in NEUTRAL), *METRICS, *found]
    return [name for name in dict.fromkeys(order) if name in found]


def _same(runs: Sequence[Examined]) -> dict[str, str]:
    samples = [sample for run in runs for sample in run.samples]
    texts = grouped(control for sample in samples for control in sample.controls.items())
    return {name: found[0] for name, found in texts.items() if len(set(found)) == 1 and len(samples) > 1}


def _rank(sample: Sample | None, metric: str) -> float:
    """The score of a sample; below all when it has none."""
    value = -math.inf if sample is None else sample.scores.get(metric, -math.inf)
    return value if math.isfinite(value) else -math.inf


def _card(
    row: Row, runs: Sequence[Examined], metrics: Sequence[str], same: Mapping[str, str]
) -> dict[str, Any]:
    """All that was said about one pair; each distinct control once, named with its run where runs differ."""
    first = row[min(row)]
    owners = grouped((control, run) for run, sample in row.items() for control in sample.controls.items())
    controls = []
    for (name, text), of in owners.items():
        if name not in same:
            label = name if len(of) == len(row) else f"{name}: {', '.join(runs[run].name for run in of)}"
            controls.append(_voice(label, text, row[of[0]].control_scores.get(name, {}), metrics))
    user, item = map(str, first.pair)
    said = [(it.prediction, it.scores, metrics, it.unsupported, run) for run, it in row.items()]
    voices = [_voice(runs[voice[-1]].name, *voice) for voice in said]
    reference = passage(first.reference)[0]
    return {"user": user, "item": item, "reference": reference, "runs": voices, "controls": controls}


def _voice(
    label: str,
    text: str,
    scores: Mapping[str, float],
    metrics: Sequence[str] = (),
    claims: Sequence[str] = (),
    run: int | None = None,
) -> dict[str, Any]:
    """One text about a pair; `unplaced` are unsupported claims that are not in it word by word."""
    cut, unplaced = passage(text, claims)
    found = {name: scores[name] for name in metrics if name in scores}
    shown = [f"{name} {number(value, 1 if abs(value) >= 10 else 2)}" for name, value in found.items()]
    scored = " \u00b7 ".join(shown)
    return {"label": label, "passage": cut, "scores": scored, "run": run, "unplaced": unplaced}
