"""What a reader of the table must know: what was left out, what is missing, how much was compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from forwhy.evaluate.compare import Comparison
from forwhy.recipe.examine.scoring import Result

REASONS = {
    "no_prediction": "without a prediction",
    "no_reference": "without a reference",
    "duplicates": "that repeat another",
    "unknown_user": "of users the data set does not know",
    "unknown_item": "of items it does not know",
    "not_held_out": "of pairs that it does not hold out",
}


def about(results: Sequence[Result], comparisons: Sequence[Comparison], metrics: Sequence[str]) -> list[str]:
    """One sentence for each thing."""
    notes = [note for result in results for note in _of(result)]
    fingerprints = {result.subject.dataset.fingerprint for result in results if result.subject.dataset}
    if len(fingerprints) > 1:
        notes.append("These are about different data sets: only pairs and users of equal ids are compared.")
    notes += _unequal(comparisons)
    if comparisons:
        notes.append(
            f"Compared by {', '.join(metrics)}, where both have it: {len(comparisons)} comparisons, p corrected "
            "for all of them (Holm). Bold beats every other one at 5%."
        )
    return notes


def _of(result: Result) -> list[str]:
    texts, table, name = result.subject.texts, result.table, result.subject.name
    if result.subject.document.get("protocol", {}).get("task") == "next-item":
        return []
    if texts is None or table is None:
        return [f"{name}: no texts: nothing was explained."]
    counts = texts.exclusions
    notes = [f"{name}: left out: {n:,} rows {REASONS[reason]}." for reason, n in counts.items() if n]
    if table.method.of_all["empty"]:
        notes.append(f"{name}: {table.method.of_all['empty']:,.0f} predictions without a word; they score 0.")
    if texts.found:
        unmatched = len(texts.matched) < len(texts)
        notes.append(f"{name}: {_found(texts.found, unmatched)}")
    if "constant" not in table.controls:
        notes.append(
            f"{name}: no training texts are known, so constant_halves picks a sentence for each half of the pairs "
            "on the other half's references, and there are no neighbours; give --data FOLDER."
        )
    return notes


def _found(found: Mapping[str, int], unmatched: bool) -> str:
    """What the file's references are; a training text among those that are scored favours the controls."""
    said = (
        f"of the file's references {found['test']:,} are the text of a test pair, {found['valid']:,} of a valid "
        f"one, {found['train']:,} of a training pair, {found['ambiguous']:,} of several pairs or rows, "
        f"{found['unknown']:,} of none."
    )
    return f"{said} Controls were picked on the training ones too." if unmatched and found["train"] else said


def _unequal(comparisons: Sequence[Comparison]) -> list[str]:
    """Where two were compared on fewer pairs than they have."""
    parts = {(one.a, one.b, one.pairs): one.left_out for one in comparisons if any(one.left_out)}
    return [
        f"{a} and {b} share {pairs:,} pairs or users, on which they are compared; {out[0]:,} and {out[1]:,} are "
        "the one's own."
        for (a, b, pairs), out in parts.items()
    ]
