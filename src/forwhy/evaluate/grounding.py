"""Grounding: which statements of an explanation are supported by what is known of the item and the user.

An explanation is cut into claims (`claims.py`), each is matched against the statements of its pair
(`evidence.py`). The support of a claim is how well the best statement matches it: a cosine of embeddings,
corrected for chance, or the probability of a caller's entailment model. The threshold is fitted on training
pairs: the claims of a training explanation are *right* beside the other texts of its user and item, and
*wrong* beside those of a random other pair. Both error rates stand beside every number. They bound the
matcher's own error from above: other texts need not mention what is true, and "friendly staff" is true of
many places.

Shapes: n pairs; c claims of one text.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from forwhy.errors import UserError
from forwhy.evaluate.claims import claims
from forwhy.evaluate.controls import RememberingEncoder, best_constant, deal
from forwhy.evaluate.evidence import Evidence, PairEvidence
from forwhy.evaluate.significance import Interval, bootstrap_interval, flatten
from forwhy.evaluate.text import Encoder

if TYPE_CHECKING:
    from forwhy.data.ids import Pairs

__all__ = [
    "Calibration",
    "Grounder",
    "Grounding",
    "GroundingTable",
    "balanced_threshold",
    "cosine_support",
    "entailment_support",
    "grounding_table",
]

Floats = NDArray[np.float64]
Group = tuple[Sequence[str], Sequence[str]]
"""Claims and the statements that may support them."""
Support = Callable[[Sequence[Group]], list[Floats]]
"""Groups -> for each, [c] the best score of each claim; -inf where there are no statements."""
Entails = Callable[[list[str], list[str]], Sequence[float] | NDArray[np.floating]]
"""Premises and hypotheses, row by row -> [rows] probabilities that the premise entails the hypothesis."""

Sides = Literal["either", "item", "user"]
SIDES: tuple[Sides, ...] = ("either", "item", "user")
PRECISIONS: dict[str, Sides] = {"precision": "either", "precision_item": "item", "precision_user": "user"}
CALIBRATION_PAIRS = 500
BLOCK = 1024
"""Claims compared at once: a text of 10,000 claims costs time, not memory."""
ROUNDING = 1e-6
"""Cosines of equal texts differ by less."""


@dataclass(frozen=True)
class Calibration:
    """A threshold of support and how often it is wrong, by side of the evidence."""

    threshold: float
    missed: dict[str, float]
    """`either`, `item`, `user` -> share of right claims below the threshold; a side that no training pair
    has is absent."""
    accepted: dict[str, float]
    """The same keys -> share of claims that another pair's evidence supports."""
    claims: dict[str, int]
    """The same keys -> right claims behind the shares."""

    def document(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "threshold": self.threshold,
            "missed": self.missed,
            "accepted": self.accepted,
            "claims": self.claims,
        }


@dataclass(frozen=True)
class Grounding:
    """Grounding of n explanations."""

    per_pair: dict[str, Floats]
    """[n] each: `precision` (share of claims that either side supports), `precision_item`, `precision_user`
    (of one side, where the pair has it), `recall` (share of the reference's claims that some claim of the
    text supports), `claims` (their number). NaN where a pair is not counted."""
    unsupported: list[list[str]]
    """[n] claims that neither side supports; empty where `precision` is NaN."""
    excluded: dict[str, int]
    """Pairs that do not count: for precision `no_evidence`, then `no_claims` in the text; for recall
    `no_reference_claims`."""

    def intervals(self, seed: int = 0, n: int = 2000) -> dict[str, Interval]:
        """Means over the pairs that count, with bootstrap 95% intervals; a metric without pairs is absent."""
        return _intervals(self.per_pair, seed, n)

    def margins(self, other: "Grounding", seed: int = 0, n: int = 2000) -> dict[str, Interval]:
        """Ours minus the other's, on the pairs that count for both."""
        return _intervals(
            {name: self.per_pair[name] - other.per_pair[name] for name in self.per_pair}, seed, n
        )


@dataclass(frozen=True)
class Grounder:
    """Evidence, a way to match, and its fitted threshold."""

    evidence: Evidence
    support: Support
    calibration: Calibration

    @classmethod
    def fit(
        cls,
        evidence: Evidence,
        pairs: "Pairs",
        support: Support,
        limit: int = CALIBRATION_PAIRS,
        seed: int = 0,
    ) -> "Grounder":
        """Fit the threshold on at most `limit` training pairs that have evidence besides their own text.

        Raises:
            UserError: fewer than two such pairs, or none whose evidence could be dealt to another.
        """
        order = np.random.default_rng(seed).permutation(len(pairs)).tolist()
        known = (row for row in order if _known(evidence, pairs.select([row]))[0].has("either"))
        chosen = pairs.select(list(islice(known, limit)))
        if len(chosen) < 2:
            raise UserError(
                "grounding: the threshold needs two training explanations whose user or item has other "
                f"text, found {len(chosen)}; add reviews, item descriptions or intents"
            )
        return cls(evidence, support, _calibrate(evidence, chosen, support, seed))

    def score(self, texts: Sequence[str], pairs: "Pairs") -> Grounding:
        """Grounding of `texts[k]` as the explanation of pair k, whose own text is the reference.

        Cost: linear in claims times statements of each pair, and one encoding per distinct statement.

        Raises:
            ValueError: not as many texts as pairs.
        """
        if len(texts) != len(pairs):
            raise ValueError(f"{len(texts)} texts for {len(pairs)} pairs")
        said, wanted = [claims(text) for text in texts], [claims(text) for text in pairs.texts]
        known = _known(self.evidence, pairs)
        scores = _best(self.support, said, known)
        scores["recall"] = self.support(list(zip(wanted, said, strict=True)))
        held = {name: [row >= self.calibration.threshold for row in rows] for name, rows in scores.items()}
        per_pair = {
            name: _shares(held[side], [evidence.has(side) for evidence in known])
            for name, side in PRECISIONS.items()
        }
        per_pair["recall"] = _shares(held["recall"], [True] * len(known))
        per_pair["claims"] = np.array([len(row) for row in said], dtype=np.float64)
        return Grounding(per_pair, _unsupported(said, held["either"], known), _excluded(said, wanted, known))


@dataclass(frozen=True)
class GroundingTable:
    """A method's grounding beside its controls, on the same pairs."""

    method: Grounding
    controls: dict[str, Grounding]
    """`reference`: the pairs' own texts, what a perfect writer reaches under this matcher; `constant`: one
    training sentence for all; `dealt`: the method's outputs, each given to another pair."""
    sentence: str
    """The constant."""
    calibration: Calibration

    def document(self) -> dict[str, Any]:
        """As plain JSON values; `margin` is the method minus the control on the pairs that count for both."""
        return {
            "method": _document(self.method),
            "controls": {
                name: {**_document(control), "margin": flatten(self.method.margins(control))}
                for name, control in self.controls.items()
            },
            "sentence": self.sentence,
            "calibration": self.calibration.document(),
        }


def grounding_table(
    predictions: Sequence[str],
    pairs: "Pairs",
    grounder: Grounder,
    train_texts: Sequence[str],
    seed: int = 0,
) -> GroundingTable:
    """Score predictions and all controls; the constant is picked on `train_texts` only.

    Outputs are dealt to pairs of another item. Cost: four times `Grounder.score`.
    """
    dealt = [predictions[row] for row in deal(len(predictions), seed, pairs.items)]
    sentence = best_constant(train_texts, seed=seed)
    controls = {"reference": pairs.texts, "constant": [sentence] * len(pairs), "dealt": dealt}
    scored = {name: grounder.score(texts, pairs) for name, texts in controls.items()}
    return GroundingTable(grounder.score(predictions, pairs), scored, sentence, grounder.calibration)


def cosine_support(encoder: Encoder, background: Sequence[str] = ()) -> Support:
    """Support as the best cosine, or with a `background` the probability that it is no accident.

    Among many statements one is always near, and a vague claim is near everything: a constant sentence beats
    the references by the cosine alone (docs/results.md). With the share p of background statements that are
    nearer than the best of the pair's m statements, the score is (1 - p)^m: the probability that none of m
    random statements is nearer. A claim that is literally there scores 1.

    Every distinct text is encoded once and kept as long as the function. Cost for each claim: its statements
    plus the background.
    """
    memory = RememberingEncoder(encoder)

    def best(groups: Sequence[Group]) -> list[Floats]:
        texts = list(
            dict.fromkeys([*(text for group in groups for side in group for text in side), *background])
        )
        vectors = memory.encode(texts) if texts else np.zeros((0, 1), dtype=np.float32)
        row = {text: position for position, text in enumerate(texts)}

        def rows(side: Sequence[str]) -> NDArray[np.float32]:
            return vectors[[row[text] for text in side]]

        common = rows(background)

        def nearest(said: Sequence[str], known: Sequence[str]) -> Floats:
            cosines: Floats = (rows(said) @ rows(known).T).max(axis=1).astype(np.float64)
            if not background:
                return cosines
            nearer = (rows(said) @ common.T > cosines[:, None] + ROUNDING).mean(axis=1)
            return np.asarray((1 - nearer) ** len(known), dtype=np.float64)

        def in_blocks(said: Sequence[str], known: Sequence[str]) -> Floats:
            starts = range(0, len(said), BLOCK)
            return np.concatenate([nearest(said[start : start + BLOCK], known) for start in starts])

        return [in_blocks(said, known) if said and known else _none(said) for said, known in groups]

    return best


def entailment_support(entails: Entails) -> Support:
    """Support as the highest probability that a statement entails the claim; one call for each group.

    Raises:
        UserError: (when used) the model returns something else than one probability per row.
    """

    def best(groups: Sequence[Group]) -> list[Floats]:
        return [_entailed(entails, said, known) if said and known else _none(said) for said, known in groups]

    return best


def balanced_threshold(right: Floats, wrong: Floats) -> float:
    """The score at which the share of `right` below and of `wrong` not below differ least. O(n log n).

    Only observed scores are tried; the lowest of equals wins.
    """
    tried = np.unique(np.concatenate([right, wrong]))
    missed = np.searchsorted(np.sort(right), tried) / len(right)
    accepted = 1 - np.searchsorted(np.sort(wrong), tried) / len(wrong)
    return float(tried[np.argmin(np.abs(missed - accepted))])


def _calibrate(evidence: Evidence, pairs: "Pairs", support: Support, seed: int) -> Calibration:
    said, own = [claims(text) for text in pairs.texts], _known(evidence, pairs)
    dealt = deal(len(pairs), seed, pairs.items)
    others = [own[row] for row in dealt]
    # Another pair of the same user or item may hold the claim's own text.
    strange = (pairs.users != pairs.users[dealt]) & (pairs.items != pairs.items[dealt])
    right = _flat(_best(support, said, own), own, np.ones(len(pairs), dtype=bool))
    wrong = _flat(_best(support, said, others), others, strange)
    if not len(right["either"]) or not len(wrong["either"]):
        raise UserError(
            "grounding: the threshold needs training explanations with claims, of two users and two items; "
            "give it more training pairs"
        )
    threshold = balanced_threshold(right["either"], wrong["either"])
    sides = [side for side in SIDES if len(right[side]) and len(wrong[side])]
    return Calibration(
        threshold,
        {side: float((right[side] < threshold).mean()) for side in sides},
        {side: float((wrong[side] >= threshold).mean()) for side in sides},
        {side: len(right[side]) for side in sides},
    )


def _known(evidence: Evidence, pairs: "Pairs") -> list[PairEvidence]:
    return [evidence.of(int(user), int(item)) for user, item in zip(pairs.users, pairs.items, strict=True)]


def _best(
    support: Support, said: Sequence[Sequence[str]], known: Sequence[PairEvidence]
) -> dict[str, list[Floats]]:
    """Side -> pair -> [c] scores."""
    groups = [
        (row, [statement.text for statement in side])
        for sides in (0, 1)
        for row, side in zip(said, (evidence[sides] for evidence in known), strict=True)
    ]
    scores = support(groups)
    item, user = scores[: len(said)], scores[len(said) :]
    return {
        "item": item,
        "user": user,
        "either": [np.maximum(*both) for both in zip(item, user, strict=True)],
    }


def _flat(
    scores: Mapping[str, list[Floats]], known: Sequence[PairEvidence], kept: NDArray[np.bool_]
) -> dict[str, Floats]:
    """Side -> scores of all claims of the kept pairs that have that side."""
    return {
        side: np.concatenate(
            [np.empty(0)]
            + [
                row
                for row, evidence, keep in zip(scores[side], known, kept, strict=True)
                if keep and evidence.has(side)
            ]
        )
        for side in SIDES
    }


def _none(said: Sequence[str]) -> Floats:
    return np.full(len(said), -np.inf)


def _entailed(entails: Entails, said: Sequence[str], known: Sequence[str]) -> Floats:
    premises, hypotheses = list(known) * len(said), [claim for claim in said for _ in known]
    found = np.asarray(entails(premises, hypotheses), dtype=np.float64)
    if found.shape != (len(premises),) or not ((found >= 0) & (found <= 1)).all():
        raise UserError(
            f"entailment model: gave shape {found.shape} for {len(premises)} rows, or values that are no "
            "probabilities; return one number in [0, 1] per premise and hypothesis"
        )
    best: Floats = found.reshape(len(said), len(known)).max(axis=1)
    return best


def _shares(held: Sequence[NDArray[np.bool_]], counted: Sequence[bool]) -> Floats:
    return np.array(
        [row.mean() if use and len(row) else np.nan for row, use in zip(held, counted, strict=True)],
        dtype=np.float64,
    )


def _unsupported(
    said: Sequence[list[str]], held: Sequence[NDArray[np.bool_]], known: Sequence[PairEvidence]
) -> list[list[str]]:
    return [
        [claim for claim, yes in zip(row, is_held, strict=True) if not yes] if evidence.has("either") else []
        for row, is_held, evidence in zip(said, held, known, strict=True)
    ]


def _excluded(
    said: Sequence[list[str]], wanted: Sequence[list[str]], known: Sequence[PairEvidence]
) -> dict[str, int]:
    return {
        "no_evidence": sum(not evidence.has("either") for evidence in known),
        "no_claims": sum(
            not row and evidence.has("either") for row, evidence in zip(said, known, strict=True)
        ),
        "no_reference_claims": sum(not row for row in wanted),
    }


def _intervals(columns: Mapping[str, Floats], seed: int, n: int) -> dict[str, Interval]:
    counted = {name: values[np.isfinite(values)] for name, values in columns.items()}
    return {name: bootstrap_interval(values, seed, n) for name, values in counted.items() if len(values)}


def _document(scores: Grounding) -> dict[str, Any]:
    pairs = {name: int(np.isfinite(values).sum()) for name, values in scores.per_pair.items()}
    return {**flatten(scores.intervals()), "pairs": pairs, "excluded": scores.excluded}
