"""Texts of one subject scored beside its controls, pair by pair, and held against what is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from forwhy.data.dataset import Dataset
from forwhy.errors import UserError
from forwhy.evaluate.controls import TextTable
from forwhy.evaluate.document import Examined, Sample, evaluation_document
from forwhy.evaluate.evidence import Evidence
from forwhy.evaluate.grounding import Grounder, GroundingTable, cosine_support, grounding_table
from forwhy.evaluate.reading import Reading
from forwhy.evaluate.text import Encoder
from forwhy.recipe.examine.subjects import Subject

if TYPE_CHECKING:
    from forwhy.evaluate.judge import Judge


@dataclass(frozen=True)
class Result:
    """A subject and what was measured of its texts."""

    subject: Subject
    table: TextTable | None
    grounding: GroundingTable | None = None


class Grounders:
    """One fitted grounder for each data set, so that subjects are held against the same evidence."""

    def __init__(self, encoder: Encoder, seed: int) -> None:
        """Nothing fitted yet; an encoder that remembers is asked once, however many subjects there are."""
        self._encoder, self._seed = encoder, seed
        self._fitted: dict[str, Grounder] = {}

    def measure(self, texts: Reading, dataset: Dataset) -> GroundingTable:
        """Grounding of the rows that are held-out pairs.

        Raises:
            UserError: fewer than two such rows, or a data set that says too little; see `Grounder.fit`.
        """
        rows, pairs = texts.pairs()
        if len(rows) < 2:
            raise UserError(
                f"grounding: {len(rows)} rows are held-out pairs of {dataset.name!r}; two are needed"
            )
        predictions = [texts.outputs.predictions[row] for row in rows]
        training = dataset.pairs("train").texts
        return grounding_table(predictions, pairs, self._of(dataset), training, self._seed)

    def _of(self, dataset: Dataset) -> Grounder:
        if dataset.fingerprint not in self._fitted:
            train, evidence = dataset.pairs("train"), Evidence.from_dataset(dataset)
            support = cosine_support(self._encoder, evidence.background(train, seed=self._seed))
            self._fitted[dataset.fingerprint] = Grounder.fit(evidence, train, support, seed=self._seed)
        return self._fitted[dataset.fingerprint]


def examined(result: Result, settings: Mapping[str, object], judge: Judge | None) -> Examined:
    """All of it as one document, with the pairs one by one, the training history and the use of words.

    `settings`: how the texts were scored now, which may not be how the run once did; into the protocol.
    """
    subject = result.subject
    document = dict(subject.document) or evaluation_document(protocol=_protocol(subject))
    if result.table is not None and subject.texts is not None:
        document["protocol"] = {**document["protocol"], "texts": dict(settings)}
        fresh = evaluation_document(text=result.table)
        document |= {name: fresh[name] for name in ("text", "controls")}
        document |= {"exclusions": subject.texts.exclusions, "matched": subject.texts.found}
        document |= {} if judge is None else {"judge": judge.document()}
    document["grounding"] = None if result.grounding is None else result.grounding.document()
    history = [] if subject.run is None else subject.run.history()
    return Examined(subject.name, document, _samples(result), history, _usage(subject))


def _protocol(subject: Subject) -> dict[str, object]:
    dataset = subject.dataset
    if dataset is None:
        return {}
    return {"dataset": dataset.name, "fingerprint": dataset.fingerprint}


def _samples(result: Result) -> list[Sample]:
    """Every pair, in the order of the reading."""
    if result.table is None or result.subject.texts is None:
        return []
    outputs, controls = result.subject.texts.outputs, result.table.controls
    unsupported, scores = _unsupported(result), result.table.method.of_pairs()
    others = {name: control.scores.of_pairs() for name, control in controls.items()}
    return [
        Sample(
            pair,
            outputs.references[row],
            outputs.predictions[row],
            {name: control.texts[row] for name, control in controls.items()},
            _of_row(scores, row),
            unsupported.get(row, ()),
            {name: _of_row(values, row) for name, values in others.items()},
        )
        for row, pair in enumerate(outputs.pairs)
    ]


def _of_row(scores: Mapping[str, NDArray[np.float64]], row: int) -> dict[str, float]:
    return {metric: float(values[row]) for metric, values in scores.items() if np.isfinite(values[row])}


def _unsupported(result: Result) -> dict[int, Sequence[str]]:
    if result.grounding is None or result.subject.texts is None:
        return {}
    rows, _ = result.subject.texts.pairs()
    return dict(zip(rows, result.grounding.method.unsupported, strict=True))


def _usage(subject: Subject) -> dict[str, list[int]]:
    vocabulary = subject.vocabulary
    if vocabulary is None:
        return {}
    rows = {book: vocabulary.words.filter(book=book).sort("code") for book in vocabulary.codebooks}
    return {book: frame["usage"].to_list() for book, frame in rows.items()}
