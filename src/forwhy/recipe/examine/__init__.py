"""Runs and files of outputs examined together: one table, and which differences are more than chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from forwhy.errors import UserError
from forwhy.evaluate.compare import Comparison, bold_cells
from forwhy.evaluate.controls import RememberingEncoder, known_table
from forwhy.evaluate.document import Examined
from forwhy.evaluate.grounding import GroundingTable
from forwhy.evaluate.registry import NEUTRAL
from forwhy.evaluate.text import Encoder, Features, Measure
from forwhy.progress import track
from forwhy.recipe.examine.comparing import compare_all
from forwhy.recipe.examine.notes import about
from forwhy.recipe.examine.request import SHOWN_LEARNED, SHOWN_RANKING, SHOWN_TEXT, Request, measures
from forwhy.recipe.examine.scoring import Grounders, Result, examined
from forwhy.recipe.examine.subjects import Subject, recorded, subjects
from forwhy.report.tables import shown_ranking
from forwhy.text.encoder import text_encoder

__all__ = ["Examination", "Request", "examine", "recorded"]


@dataclass(frozen=True)
class Examination:
    """Everything that was asked for."""

    examined: list[Examined]
    comparisons: list[Comparison]
    """Of every two on the pairs (or users) they share, corrected for all of these together."""
    bold: set[tuple[str, str]]
    """(name, metric) that beats every other one beyond chance."""
    metrics: tuple[str, ...]
    """Text metrics that are shown and compared."""
    ranking: tuple[str, ...]
    """Ranking metrics that are."""
    notes: list[str]
    """What a reader must know, a sentence each; names in them are strangers' words."""

    def document(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "runs": {one.name: dict(one.document) for one in self.examined},
            "comparisons": [comparison.document() for comparison in self.comparisons],
            "bold": [list(cell) for cell in sorted(self.bold)],
            "notes": self.notes,
        }


def examine(request: Request) -> Examination:
    """Score every run and file beside its controls, and compare every two of them.

    Texts are scored in an order of their own, so a run and a file of its texts get equal numbers. Cost:
    `text_table` for each, vectors of all distinct texts, grounding, and 10,000 permutations for every two.

    Raises:
        UserError: see `Request` and `subjects`; a metric that none of them has; grounding was demanded and
            is not possible.
    """
    refusals: list[str] = []
    found = subjects(request)
    if request.judge is not None:
        request.judge.check([text for one in found if one.texts for text in one.texts.outputs.references])
    wanted = measures(request)
    results = _results(request, found, wanted, refusals)
    pairs = "common" if request.common else "all"
    settings = {
        "encoder": _encoder_name(request, found),
        "measures": [measure.signature for measure in wanted],
        "seed": request.seed,
        "pairs": pairs,
    }
    metrics = _metrics(request, results)
    ranking = shown_ranking([subject.document for subject in found], SHOWN_RANKING)
    comparisons = compare_all(results, (*metrics, *ranking), request.seed, refusals)
    return Examination(
        [examined(result, settings, request.judge) for result in results],
        comparisons,
        bold_cells(comparisons, NEUTRAL),
        metrics,
        ranking,
        [*about(results, comparisons, (*metrics, *ranking)), *refusals],
    )


def _results(
    request: Request, found: Sequence[Subject], wanted: Sequence[Measure], refusals: list[str]
) -> list[Result]:
    encoder, catalogue = _encoder(request, found), _catalogue(found)
    grounders = None if encoder is None else Grounders(encoder, request.seed)
    results = []
    for subject in track(found, "scoring texts"):
        if subject.texts is None:
            results.append(Result(subject, None))
            continue
        of_pairs = subject.texts.features
        features = Features(of_pairs, catalogue) if of_pairs is not None and catalogue else None
        table = known_table(subject.texts, subject.dataset, encoder, request.seed, features, wanted)
        results.append(Result(subject, table, _grounding(request, subject, grounders, refusals)))
    return results


def _encoder_name(request: Request, found: Sequence[Subject]) -> str:
    recipes = [subject.run.recipe for subject in found if subject.run is not None]
    used = [recipe.encoder.name for recipe in recipes if hasattr(recipe, "encoder")]
    return request.encoder or (used or ["minilm"])[0]


def _encoder(request: Request, found: Sequence[Subject]) -> Encoder | None:
    name = _encoder_name(request, found)
    return None if name == "none" else RememberingEncoder(text_encoder(name))


def _catalogue(found: Sequence[Subject]) -> set[str]:
    """Features of all files, so that all are measured against the same ones."""
    lists = [subject.texts.features or [] for subject in found if subject.texts is not None]
    return {word for features in lists for row in features for word in row}


def _grounding(
    request: Request, subject: Subject, grounders: Grounders | None, refusals: list[str]
) -> GroundingTable | None:
    """Where it was demanded an impossible one is an error, else a note."""
    if request.grounding is False:
        return None
    try:
        if grounders is None:
            raise UserError("grounding: needs vectors; give an --encoder other than none")
        if subject.texts is None or subject.dataset is None:
            raise UserError("grounding: nothing is known of the pairs; give --data FOLDER")
        return grounders.measure(subject.texts, subject.dataset)
    except UserError as error:
        if request.grounding:
            raise UserError(f"{subject.name}: {error}") from None
        refusals.append(f"{subject.name}: not measured: {error}")
    return None


def _metrics(request: Request, results: Sequence[Result]) -> tuple[str, ...]:
    measured = {metric for result in results if result.table for metric in result.table.method.corpus}
    for metric in request.metrics:
        if metric not in measured:
            raise UserError(
                f"--metrics {metric}: none of these has it; similarity needs an --encoder, fmr, fcr and div a "
                "column 'features', others the option of their name (forwhy evaluate --help)"
            )
    return tuple(request.metrics) or tuple(
        metric for metric in (*SHOWN_TEXT, *SHOWN_LEARNED) if metric in measured
    )
