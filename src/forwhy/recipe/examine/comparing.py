"""Every two of the runs and files, on the pairs and users they share."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from forwhy.errors import UserError
from forwhy.evaluate.compare import LEVEL, Comparison, Scored, compare, corrected
from forwhy.progress import track
from forwhy.recipe.examine.scoring import Result
from forwhy.recipe.examine.subjects import ranking

PERMUTATIONS = 10_000


def compare_all(
    results: Sequence[Result], metrics: Sequence[str], seed: int, refusals: list[str]
) -> list[Comparison]:
    """All comparisons that are possible, corrected together; what is not possible is said in `refusals`."""
    texts = [_texts(result) for result in results if result.table is not None]
    runs = [result for result in results if result.subject.run is not None]
    ranked = [ranking(result.subject) for result in runs] if len(runs) > 1 else []
    twos = [*combinations(texts, 2), *combinations([one for one in ranked if one is not None], 2)]
    # The least p is 1 / (draws + 1): times all comparisons it must still be well below the level.
    draws = max(PERMUTATIONS, round(2 * len(twos) * len(metrics) / LEVEL))
    found: list[Comparison] = []
    for two in track(twos, "comparing"):
        try:
            found += compare(two, metrics, seed, draws)
        except UserError as error:
            refusals.append(f"not compared: {error}")
    return corrected(found)


def _texts(result: Result) -> Scored:
    assert result.table is not None
    assert result.subject.texts is not None
    scores = result.table.method
    return Scored(result.subject.name, result.subject.texts.keys, scores.per_pair, scores.counts)
