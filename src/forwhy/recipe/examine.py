"""Runs and files of outputs side by side: read, scored beside their controls, compared, and put into one document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forwhy.errors import UserError
from forwhy.evaluate.compare import LEVEL, Comparison, Scored, bold_cells, compare, corrected
from forwhy.evaluate.controls import RememberingEncoder, known_table
from forwhy.evaluate.document import Examined, Sample, evaluation_document, ranked_as
from forwhy.evaluate.grounding import Grounder, GroundingTable, fitted, ground
from forwhy.evaluate.judge import Judge
from forwhy.evaluate.ranking import UNSEEN
from forwhy.evaluate.reading import COLUMNS
from forwhy.evaluate.registry import NEUTRAL
from forwhy.evaluate.text import Encoder, Features, Measure
from forwhy.progress import track
from forwhy.recipe.evaluated import Evaluated, Request, read_all
from forwhy.recipe.runner import RunFolder
from forwhy.report.tables import SHOWN_NEXT_ITEM, shown_ranking
from forwhy.text.encoder import text_encoder

COMPARED_TEXT = ("bleu1", "bleu4", "rougeL", "similarity", "own_mrr", "own_tfidf")
COMPARED_LEARNED = ("bertscore_f", "bartscore_f", "bleurt", "gptscore")
"""Text metrics that are shown and compared where none were asked for; the learned ones where they were measured."""
COMPARED_RANKING = ("recall@20", "ndcg@20")
Lists = Mapping[str, tuple[Sequence[str], Mapping[str, NDArray[np.float64]]]]
"""Run -> users, and what their lists gave each, by metric."""
PERMUTATIONS = 10_000
REASONS = {
    "no_prediction": "without a prediction",
    "no_reference": "without a reference",
    "duplicates": "that repeat another",
    "unknown_user": "of users the data set does not know",
    "unknown_item": "of items it does not know",
    "not_held_out": "of pairs that it does not hold out",
}
"""Why a row was left out."""


@dataclass(frozen=True)
class Examination:
    """What came of a `Request`."""

    examined: list[Examined]
    comparisons: list[Comparison]
    """Of every two on the pairs (or users) they share, corrected for all of these together."""
    bold: set[tuple[str, str]]
    """(name, metric) that beats every other one beyond chance."""
    metrics: tuple[str, ...]
    """Text metrics that are shown and compared."""
    ranking: tuple[str, ...]
    """Ranking metrics that are shown and compared."""
    notes: list[str]
    """What a reader must know, a sentence each; names in them come from data and recipes."""
    runs: dict[str, RunFolder]
    """Of those examined the runs, by name."""

    def document(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "runs": {one.name: dict(one.document) for one in self.examined},
            "comparisons": [comparison.document() for comparison in self.comparisons],
            "bold": [list(cell) for cell in sorted(self.bold)],
            "notes": self.notes,
        }


def examine(request: Request, judge: Judge | None = None) -> Examination:
    """Score every run and file beside its controls (with a `judge` by GPTScore too), and compare every two of them.

    Cost: `text_table` for each, vectors of all distinct texts, grounding, and 10,000 permutations for every two.
    Refuses what `read_all` does, a metric that none of them has, and grounding that is demanded and not possible.
    """
    refusals: list[str] = []
    found = read_all(request)
    if judge is not None:
        judge.check([text for one in found for text in one.texts.references])
    measures, encoder = _measures(request, judge), _encoder_name(request, found)
    _score(request, found, encoder, measures, refusals)
    lists = _lists(found, refusals)
    metrics = _metrics(request, found)
    ranking = shown_ranking([one.document for one in found], COMPARED_RANKING)
    new = tuple(f"{UNSEEN}{metric}" for metric in ranking if ranking == SHOWN_NEXT_ITEM)
    compared = (*metrics, *ranking, *new)
    comparisons = _compare(found, lists, compared, request.seed, refusals)
    settings = {
        "encoder": encoder,
        "measures": [measure.signature for measure in measures],
        "seed": request.seed,
        "pairs": "common" if request.common else "all",
    }
    return Examination(
        [_examined(one, settings, judge) for one in found],
        comparisons,
        bold_cells(comparisons, NEUTRAL),
        metrics,
        ranking,
        [*_notes(found, comparisons, compared), *refusals],
        {one.name: one.run for one in found if one.run is not None},
    )


# --- scores


def _measures(request: Request, judge: Judge | None) -> list[Measure]:
    asked: list[Measure] = []
    if request.bertscore or request.bartscore or request.bleurt:
        from forwhy.evaluate.bartscore import BartScore, Bleurt
        from forwhy.evaluate.bertscore import BertScore

        models = ((BertScore, request.bertscore), (BartScore, request.bartscore), (Bleurt, request.bleurt))
        asked = [kind(model) for kind, model in models if model]
    return asked if judge is None else [*asked, judge]


def _encoder_name(request: Request, found: Sequence[Evaluated]) -> str:
    protocols = [one.document.get("protocol") or {} for one in found if one.run is not None]
    used = [it["encoder"] for it in protocols if it.get("encoder") and it.get("task") != "next-item"]
    return request.encoder or (used or ["minilm"])[0]


def _score(
    request: Request, found: Sequence[Evaluated], name: str, measures: Sequence[Measure], refusals: list[str]
) -> None:
    """Scores all texts; the catalogue of features is that of all files, evidence is fitted once for a data set."""
    features = {word for one in found for row in one.texts.features or [] for word in row}
    vectors = None if name == "none" else RememberingEncoder(text_encoder(name))
    grounders: dict[str, Grounder] = {}
    for one in track(found, "scoring texts"):
        if not len(one.texts):
            continue
        own = one.texts.features
        among = Features(own, features) if own is not None and features else None
        one.table = known_table(one.texts, one.dataset, vectors, request.seed, among, measures)
        if request.grounding is False:
            continue
        try:
            one.grounding = _ground(one, vectors, request.seed, grounders)
        except UserError as error:
            if request.grounding:
                raise UserError(f"{one.name}: {error}") from None
            refusals.append(f"{one.name}: not measured: {error}")


def _ground(one: Evaluated, encoder: Encoder | None, seed: int, known: dict[str, Grounder]) -> GroundingTable:
    """Which claims of the texts of held-out pairs are supported; refused where too little is known."""
    if encoder is None:
        raise UserError("grounding: needs vectors; give an --encoder other than none")
    if one.dataset is None:
        raise UserError("grounding: nothing is known of the pairs; give --data FOLDER")
    if one.dataset.fingerprint not in known:
        known[one.dataset.fingerprint] = fitted(one.dataset, encoder, seed)
    return ground(one.texts, one.dataset, known[one.dataset.fingerprint], seed)


def _metrics(request: Request, found: Sequence[Evaluated]) -> tuple[str, ...]:
    measured = {metric for one in found if one.table for metric in one.table.method.corpus}
    for metric in request.metrics:
        if metric not in measured:
            raise UserError(
                f"--metrics {metric}: none of these has it; similarity needs an --encoder, fmr, fcr and div a "
                "column 'features', others the option of their name (forwhy evaluate --help)"
            )
    usual = tuple(metric for metric in (*COMPARED_TEXT, *COMPARED_LEARNED) if metric in measured)
    return tuple(request.metrics) or usual


# --- comparisons


def _lists(found: Sequence[Evaluated], notes: list[str]) -> Lists:
    """Of runs that can be compared by them; one of the next item is ranked anew beside others, which it then says."""
    ranked = [one for one in found if one.run is not None and one.document.get("ranking")]
    ways = {ranked_as(one.document) for one in ranked}
    lists: dict[str, Any] = {}
    for one in ranked if len(ranked) > 1 and len({(data, items) for data, _, items in ways}) == 1 else ():
        assert one.run is not None
        (data, task, _), run, dataset = ranked_as(one.document), one.run, one.run.dataset()
        if task is None or len(ways) == 1:
            lists[one.name] = run.recipe.user_metrics(run)
        elif data not in (dataset.who_took_what, dataset.fingerprint):
            continue  # it was made anew since
        elif result := run.recipe.rank_after_training(run):
            lists[one.name] = [str(dataset.users.values[user]) for user in result.users], result.per_user
            anew = evaluation_document(ranking=result, protocol=one.document["protocol"] | {"asked": None})
            one.document |= {part: it for part, it in anew.items() if it is not None}
            way = "ranked as the others are, by training items alone, which are not offered"
            notes.append(f"{one.name}: {way}; its own figures: forwhy evaluate {run.path}.")
    return {name: of_users for name, of_users in lists.items() if of_users is not None}


def _compare(
    found: Sequence[Evaluated], lists: Lists, metrics: Sequence[str], seed: int, refusals: list[str]
) -> list[Comparison]:
    """All comparisons that are possible, corrected together; what is not possible is said in `refusals`."""
    texts = [
        Scored(one.name, one.texts.keys, one.table.method.per_pair, one.table.method.counts)
        for one in found
        if one.table is not None
    ]
    rankings = [Scored(name, *of_users) for name, of_users in lists.items()]
    twos = [*combinations(texts, 2), *combinations(rankings, 2)]
    # The least p is 1 / (draws + 1): times all comparisons it must still be well below the level.
    draws = max(PERMUTATIONS, round(2 * len(twos) * len(metrics) / LEVEL))
    compared: list[Comparison] = []
    for two in track(twos, "comparing"):
        try:
            compared += compare(two, metrics, seed, draws)
        except UserError as error:
            refusals.append(f"not compared: {error}")
    return corrected(compared)


# --- what comes out


def _examined(one: Evaluated, settings: Mapping[str, object], judge: Judge | None) -> Examined:
    """Everything measured of it; `settings`: how the texts were scored now, which the run may have done otherwise."""
    data = one.dataset
    about = {} if data is None else {"dataset": data.name, "fingerprint": data.fingerprint}
    document = dict(one.document) or evaluation_document(protocol=about)
    if one.table is not None:
        document["protocol"] = {**document["protocol"], "texts": dict(settings)}
        fresh = evaluation_document(text=one.table)
        document |= {name: fresh[name] for name in ("text", "controls", "specificity")}
        document |= {"exclusions": one.texts.exclusions, "matched": one.texts.found}
        document |= {} if judge is None else {"judge": judge.document()}
    document["grounding"] = None if one.grounding is None else one.grounding.document()
    history = [] if one.run is None else one.run.history()
    return Examined(one.name, document, _samples(one), history, _usage(one))


def _samples(one: Evaluated) -> list[Sample]:
    if one.table is None:
        return []
    unsupported: dict[int, Sequence[str]] = {}
    if one.grounding is not None:
        held, _ = one.texts.held_out()
        unsupported = dict(zip(held, one.grounding.method.unsupported, strict=True))
    rows = one.texts.frame.select(pl.col(COLUMNS).cast(pl.String))
    scores = one.table.method.of_pairs()
    controls = {name: (it.texts, it.scores.of_pairs()) for name, it in one.table.controls.items()}
    return [
        Sample(
            (user, item),
            reference,
            prediction,
            {name: texts[row] for name, (texts, _) in controls.items()},
            _of_row(scores, row),
            unsupported.get(row, ()),
            {name: _of_row(values, row) for name, (_, values) in controls.items()},
        )
        for row, (user, item, prediction, reference) in enumerate(rows.rows())
    ]


def _of_row(scores: Mapping[str, NDArray[np.float64]], row: int) -> dict[str, float]:
    return {metric: float(values[row]) for metric, values in scores.items() if np.isfinite(values[row])}


def _usage(one: Evaluated) -> dict[str, list[int]]:
    """Book -> slots that each of its words fills, of a run that has a vocabulary."""
    if one.run is None or not one.document.get("health"):
        return {}
    vocabulary = one.run.vocabulary()
    words = vocabulary.words.sort("code")
    return {book: words.filter(book=book)["usage"].to_list() for book in vocabulary.codebooks}


# --- what a reader must know: what was left out, what is missing, how much was compared


def _notes(
    found: Sequence[Evaluated], comparisons: Sequence[Comparison], metrics: Sequence[str]
) -> Iterator[str]:
    for one in found:
        yield from (f"{one.name}: {words}" for words in _said(one))
    if len({one.dataset.fingerprint for one in found if one.dataset is not None}) > 1:
        yield "These are about different data sets: only texts of pairs of equal ids are compared."
    for a, b, pairs, (of_a, of_b) in dict.fromkeys((it.a, it.b, it.pairs, it.left_out) for it in comparisons):
        if of_a or of_b:
            yield (
                f"{a} and {b} share {pairs:,} pairs or users, on which they are compared; {of_a:,} and {of_b:,} are "
                "the one's own."
            )
    if comparisons:
        yield (
            f"Compared by {', '.join(metrics)}, where both have it: {len(comparisons)} comparisons, p corrected "
            "for all of them (Holm). Bold beats every other one at 5%."
        )


def _said(one: Evaluated) -> Iterator[str]:
    if one.document.get("protocol", {}).get("task") == "next-item":
        return
    if one.table is None:
        yield "no texts: nothing was explained."
        return
    for reason, n in one.texts.exclusions.items():
        if n:
            yield f"left out: {n:,} rows {REASONS[reason]}."
    if one.table.method.of_all["empty"]:
        yield f"{one.table.method.of_all['empty']:,.0f} predictions without a word; they score 0."
    if "constant" not in one.table.controls:
        yield (
            "no training texts are known, so constant_halves picks a sentence for each half of the pairs on the "
            "other half's references, and there are no neighbours; give --data FOLDER."
        )
    yield from _matched(one, one.table.method.counts.get("own_tfidf"))


def _matched(one: Evaluated, specific: NDArray[np.float64] | None) -> Iterator[str]:
    """Which rows are pairs of the data set, and what that means; `specific`: [n, 2] counts of a metric of these."""
    found, unmatched = one.texts.found, one.texts.frame["user"].null_count()
    if found:
        favoured = " Controls were picked on the training ones too." if unmatched and found["train"] else ""
        yield (
            f"of the file's references {found['test']:,} are the text of a test pair, {found['valid']:,} of a "
            f"valid one, {found['train']:,} of a training pair, {found['ambiguous']:,} of several pairs or rows, "
            f"{found['unknown']:,} of none.{favoured}"
        )
    if specific is None:
        yield "no titles are known that could be taken out, so there is no own_mrr and own_tfidf; give --data FOLDER."
    elif unmatched:
        yield (
            f"own_mrr, own_hit@10 and own_tfidf are of the {specific[:, 1].sum():,.0f} rows that are a held-out pair; "
            "of the others no title is known."
        )
