"""Grounding: which statements of an explanation are supported by what is known of the item and the user.

An explanation is cut into claims, and each is matched with the statements about its pair (`text.statements`). The
support of a claim is how well the best statement matches it: a cosine of embeddings, corrected for chance, or the
probability of a caller's entailment model. The threshold is fitted on training explanations: their claims are *right*
beside the other texts of their user and item, *wrong* beside those of a random other pair. Both error rates bound the
matcher's own from above: other texts need not mention what is true, and "friendly staff" is true of many places.

Shapes: n pairs; c claims of one text, C of all; s statements; D dimensions.
"""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from forwhy.data.dataset import Dataset, Pairs
from forwhy.errors import UserError
from forwhy.evaluate.controls import RememberingEncoder, best_constant, deal
from forwhy.evaluate.reading import Outputs
from forwhy.evaluate.significance import Floats, Interval, Ints, bootstrap_interval, flatten
from forwhy.evaluate.specificity import ROUNDING, TfIdf, name_words
from forwhy.evaluate.text import Encoder
from forwhy.text.statements import KnownStatements, PairStatements, claims

Flags = NDArray[np.bool_]
Vectors = NDArray[np.float32]
Group = tuple[Sequence[str], Sequence[str]]
"""Claims and the statements that may support them."""
Support = Callable[[Sequence[Group]], list[Floats]]
"""Groups -> for each, [c] the best score of each claim; -inf where there are no statements."""
Entails = Callable[[list[str], list[str]], Sequence[float] | NDArray[np.floating]]
"""Premises and hypotheses, row by row -> [rows] probabilities that the premise entails the hypothesis."""

Sides = Literal["either", "item", "user"]
PRECISIONS: dict[Sides, str] = {"either": "precision", "item": "precision_item", "user": "precision_user"}
SUPPORTED = 0.5
"""Of `word_support`: at least half of what a claim says is in one statement."""
ENDING = re.compile(r"(?:(?:ing|ness|ed|ly)s?|ies?|e?s|e|y)$")
CALIBRATED = 500
BLOCK = 1024
"""Claims compared at once: a text of 10,000 claims costs time, not memory."""


@dataclass(frozen=True)
class Calibration:
    """A threshold of support and how often it is wrong, by side of the evidence (that some training pair has).

    `missed`: share of right claims below it; `accepted`: of claims that another pair's evidence supports; `claims`:
    right ones behind the shares.
    """

    threshold: float
    missed: dict[str, float]
    accepted: dict[str, float]
    claims: dict[str, int]


@dataclass(frozen=True)
class Grounding:
    """Grounding of n explanations."""

    per_pair: dict[str, Floats]
    """[n] each, NaN where a pair does not count: what `registry.OTHERS` says of `precision`, `precision_item`,
    `precision_user`, `recall`, `claims` and, of texts with evidence beside them, `supported` (by `word_support`)."""
    unsupported: list[list[str]]
    """[n] claims that neither side supports; empty where `precision` is NaN."""
    excluded: dict[str, int]
    """Pairs that do not count: for precision `no_evidence`, then `no_claims` in the text; for recall
    `no_reference_claims`."""

    def intervals(self) -> dict[str, Interval]:
        """Means over the pairs that count; a metric without such pairs is absent."""
        counted = {name: values[np.isfinite(values)] for name, values in self.per_pair.items()}
        return {name: bootstrap_interval(values) for name, values in counted.items() if len(values)}

    def margins(self, other: "Grounding") -> dict[str, Interval]:
        """Ours minus the other's, on the pairs that count for both."""
        less = {name: values - other.per_pair[name] for name, values in self.per_pair.items()}
        return replace(self, per_pair=less).intervals()

    def document(self) -> dict[str, Any]:
        """As plain JSON values; `pairs` counts behind each number."""
        pairs = {name: int(np.isfinite(values).sum()) for name, values in self.per_pair.items()}
        return {**flatten(self.intervals()), "pairs": pairs, "excluded": self.excluded}


@dataclass(frozen=True)
class Grounder:
    """What is known, a way to match claims with it, and the fitted threshold."""

    known: KnownStatements
    support: Support
    calibration: Calibration
    judge: Support
    """Of evidence that is shown: another matcher than `support`, by which a system may have chosen it."""

    @classmethod
    def fit(
        cls, known: KnownStatements, pairs: Pairs, support: Support, limit: int = CALIBRATED, seed: int = 0
    ) -> "Grounder":
        """Fit the threshold on at most `limit` training pairs that have evidence besides their own text.

        A UserError for fewer than two such pairs, or none whose evidence could be dealt to another.
        """
        order = np.random.default_rng(seed).permutation(len(pairs)).tolist()
        told = (row for row in order if known.of(int(pairs.users[row]), int(pairs.items[row])).has("either"))
        chosen = pairs.select(list(islice(told, limit)))
        if len(chosen) < 2:
            needs = "the threshold needs two training explanations whose user or item has other text"
            found = f"found {len(chosen)}; add reviews, item descriptions or intents"
            raise UserError(f"grounding: {needs}, {found}")
        return cls(known, support, _calibrate(known, chosen, support, seed), word_support(pairs.texts))

    def score(
        self, texts: Sequence[str], pairs: Pairs, shown: Sequence[Sequence[str]] | None = None
    ) -> Grounding:
        """Ground `texts[k]` as the explanation of pair k, whose own text is the reference; a ValueError for fewer.

        `shown`: the evidence beside each text, from which `supported` follows.
        Cost: claims times statements of each pair, and one encoding per distinct statement.
        """
        if len(texts) != len(pairs):
            raise ValueError(f"{len(texts)} texts for {len(pairs)} pairs")
        said, wanted = [claims(text) for text in texts], [claims(text) for text in pairs.texts]
        scores, has = _scored(self.support, said, self.known.of_pairs(pairs))
        threshold, every = self.calibration.threshold, np.ones(len(pairs), dtype=bool)
        held = {side: scores_C >= threshold for side, scores_C in scores.items()}
        per_pair = {name: _shares(held[side], said, has[side]) for side, name in PRECISIONS.items()}
        per_pair["recall"] = _shares(_best(self.support, wanted, said) >= threshold, wanted, every)
        if shown is not None:
            per_pair["supported"] = _shares(_best(self.judge, said, shown) >= SUPPORTED, said, every)
        per_pair["claims"] = np.array([len(row) for row in said], dtype=np.float64)
        unsupported: list[list[str]] = [[] for _ in said]
        for row, claim, yes in zip(_rows(said), chain(*said), held["either"], strict=True):
            if has["either"][row] and not yes:
                unsupported[row].append(claim)
        without = {"no_evidence": ~has["either"], "no_claims": has["either"] & (per_pair["claims"] == 0)}
        excluded = {reason: int(rows.sum()) for reason, rows in without.items()}
        excluded["no_reference_claims"] = sum(not row for row in wanted)
        return Grounding(per_pair, unsupported, excluded)


@dataclass(frozen=True)
class GroundingTable:
    """A method's grounding beside its controls, on the same pairs."""

    method: Grounding
    controls: dict[str, Grounding]
    """As `registry.CONTROLS` says: `reference`, `constant` (the `sentence`), and `dealt` to pairs of other items."""
    sentence: str
    calibration: Calibration

    def document(self) -> dict[str, Any]:
        """As plain JSON values; `margin` is the method minus the control on the pairs that count for both.

        First in short: the method's `precision` and `supported`, the `margin` of its precision over its own texts
        dealt, each with its interval; null where nothing counts.
        """
        own, margins = self.method.intervals(), self.method.margins(self.controls["dealt"])
        short: dict[str, Interval] = {name: own[name] for name in ("precision", "supported") if name in own}
        short |= {"margin": margins["precision"]} if "precision" in margins else {}
        controls = {name: control.document() for name, control in self.controls.items()}
        for name, control in self.controls.items():
            controls[name]["margin"] = flatten(self.method.margins(control))
        return {
            **dict.fromkeys(("precision", "margin", "supported")),
            **flatten(short),
            "method": self.method.document(),
            "controls": controls,
            "sentence": self.sentence,
            "calibration": vars(self.calibration),
        }


def grounding_table(
    predictions: Sequence[str],
    pairs: Pairs,
    grounder: Grounder,
    train_texts: Sequence[str],
    seed: int = 0,
    shown: Sequence[Sequence[str]] | None = None,
) -> GroundingTable:
    """Score predictions and all controls; the constant is picked on `train_texts`. Cost: four times `score`.

    `shown`: the evidence beside each prediction; the controls are held against it too, which says what chance supports.
    """
    dealt = [predictions[row] for row in deal(len(predictions), seed, pairs.items)]
    sentence = best_constant(train_texts, seed=seed)
    controls = {"reference": pairs.texts, "constant": [sentence] * len(pairs), "dealt": dealt}
    scored = {name: grounder.score(texts, pairs, shown) for name, texts in controls.items()}
    return GroundingTable(grounder.score(predictions, pairs, shown), scored, sentence, grounder.calibration)


def ground(outputs: Outputs, dataset: Dataset, grounder: Grounder, seed: int = 0) -> GroundingTable:
    """`grounding_table` of the outputs that are held-out pairs of the data set; a UserError for fewer than two."""
    rows, pairs = outputs.held_out()
    if len(rows) < 2:
        raise UserError(f"grounding: {len(rows)} rows are held-out pairs of {dataset.name!r}; two are needed")
    held, told = outputs.take(rows), dataset.pairs("train").texts
    return grounding_table(held.predictions, pairs, grounder, told, seed, held.evidence)


def fitted(dataset: Dataset, encoder: Encoder, seed: int = 0) -> Grounder:
    """A grounder for a data set, with chance-corrected cosines. Cost: vectors of some thousand short statements.

    A UserError where the data set says too little besides the explanations themselves.
    """
    known, train = KnownStatements.read(dataset), dataset.pairs("train")
    return Grounder.fit(known, train, cosine_support(encoder, known.background(train, seed=seed)), seed=seed)


def cosine_support(encoder: Encoder, background: Sequence[str] = ()) -> Support:
    """Support as the best cosine, or with a `background` the probability that it is no accident.

    By the cosine alone a constant sentence beats the references (docs/results.md). Of the background statements the
    share p is nearer than the best of the pair's m statements; the score is (1 - p)^m, the probability that none of m
    random ones is nearer. Cost: for each claim its statements and the background; each text is encoded once.
    """
    memory = RememberingEncoder(encoder)

    def best(groups: Sequence[Group]) -> list[Floats]:
        texts = list(dict.fromkeys(chain(*(chain(*group) for group in groups), background)))
        vectors = memory.encode(texts) if texts else np.zeros((0, 1), dtype=np.float32)
        row = {text: position for position, text in enumerate(texts)}
        every = (background, *chain(*groups))
        background_bD, *sides = (vectors[[row[text] for text in side]] for side in every)
        return [_nearest(*group, background_bD) for group in zip(sides[::2], sides[1::2], strict=True)]

    return best


def _nearest(said_cD: Vectors, known_sD: Vectors, background_bD: Vectors) -> Floats:
    """[c] scores of `cosine_support`."""
    best_c = np.full(len(said_cD), -np.inf)
    for start in range(0, len(said_cD) if len(known_sD) else 0, BLOCK):
        block = slice(start, start + BLOCK)
        best_c[block] = (said_cD[block] @ known_sD.T).max(axis=1)
        if len(background_bD):
            nearer = said_cD[block] @ background_bD.T > best_c[block, None] + ROUNDING
            best_c[block] = (1 - nearer.mean(axis=1)) ** len(known_sD)
    return best_c


def word_support(texts: Sequence[str]) -> Support:
    """Support as the part of a claim's words, weighed by idf in `texts`, that one statement has: 0 to 1.

    Words are compared without their endings; synonyms are not seen, so true claims are missed, but hardly one is
    accepted by accident: on XRec-Yelp 2.6% of claims beside another item's profile reach `SUPPORTED`, where 14.5% have
    a MiniLM cosine of that size.
    """
    idf = TfIdf(texts)

    def stem(word: str) -> str:
        return ENDING.sub("", word) if len(word) > 4 else word

    def share(claim: str, there: Collection[str]) -> float:
        weights = [(idf.weight(word), stem(word) in there) for word in name_words(claim)]
        whole = sum(weight for weight, _ in weights)
        return sum(weight for weight, held in weights if held) / whole if whole else 0.0

    def best(said: Sequence[str], known: Sequence[str]) -> Floats:
        stems = [set(map(stem, name_words(text))) for text in known]
        return np.array([max((share(claim, there) for there in stems), default=-np.inf) for claim in said])

    return lambda groups: [best(*group) for group in groups]


def entailment_support(entails: Entails) -> Support:
    """Support as the highest probability that a statement entails the claim; one call for each group.

    When used, a UserError where the model returns something else than one probability per row.
    """

    def best(said: Sequence[str], known: Sequence[str]) -> Floats:
        if not said or not known:
            return np.full(len(said), -np.inf)
        premises, hypotheses = list(known) * len(said), [claim for claim in said for _ in known]
        found = np.asarray(entails(premises, hypotheses), dtype=np.float64)
        if found.shape != (len(premises),) or not ((found >= 0) & (found <= 1)).all():
            gave = f"gave shape {found.shape} for {len(premises)} rows, or values that are no probabilities"
            remedy = "return one number in [0, 1] per premise and hypothesis"
            raise UserError(f"entailment model: {gave}; {remedy}")
        return np.asarray(found.reshape(len(said), len(known)).max(axis=1))

    return lambda groups: [best(*group) for group in groups]


def balanced_threshold(right: Floats, wrong: Floats) -> float:
    """The observed score at which the shares of `right` below it and of `wrong` from it on differ least."""
    tried = np.unique(np.concatenate([right, wrong]))
    missed = np.searchsorted(np.sort(right), tried) / len(right)
    accepted = 1 - np.searchsorted(np.sort(wrong), tried) / len(wrong)
    return float(tried[np.argmin(np.abs(missed - accepted))])


def _calibrate(known: KnownStatements, pairs: Pairs, support: Support, seed: int) -> Calibration:
    said, own = [claims(text) for text in pairs.texts], known.of_pairs(pairs)
    dealt = deal(len(pairs), seed, pairs.items)
    # Another pair of the same user or item may hold the claim's own text.
    strange = (pairs.users != pairs.users[dealt]) & (pairs.items != pairs.items[dealt])

    def beside(statements: Sequence[PairStatements], kept: Flags) -> dict[Sides, Floats]:
        """Side -> support of the claims of the kept pairs that have that side."""
        scores, has = _scored(support, said, statements)
        return {side: scores[side][(has[side] & kept)[_rows(said)]] for side in scores}

    right = beside(own, np.ones_like(strange))
    wrong = beside([own[row] for row in dealt], strange)
    if not len(right["either"]) or not len(wrong["either"]):
        needs = "training explanations with claims, of two users and two items"
        raise UserError(f"grounding: the threshold needs {needs}; give it more training pairs")
    threshold = balanced_threshold(right["either"], wrong["either"])
    sides = [side for side in PRECISIONS if len(right[side]) and len(wrong[side])]
    missed: dict[str, float] = {side: float((right[side] < threshold).mean()) for side in sides}
    accepted: dict[str, float] = {side: float((wrong[side] >= threshold).mean()) for side in sides}
    return Calibration(threshold, missed, accepted, {side: len(right[side]) for side in sides})


def _scored(
    support: Support, said: Sequence[Sequence[str]], known: Sequence[PairStatements]
) -> tuple[dict[Sides, Floats], dict[Sides, Flags]]:
    """Side -> [C] support of all claims, one pair after another; side -> [n] whether the pair has it."""
    texts = [[statement.text for statement in pair[side]] for side in (0, 1) for pair in known]
    item_C, user_C = np.split(_best(support, [*said, *said], texts), 2)
    scores: dict[Sides, Floats] = {"either": np.maximum(item_C, user_C), "item": item_C, "user": user_C}
    return scores, {side: np.array([pair.has(side) for pair in known], dtype=bool) for side in scores}


def _best(support: Support, said: Sequence[Sequence[str]], known: Sequence[Sequence[str]]) -> Floats:
    """[C] support of all claims, each by the statements of its row."""
    return np.concatenate([np.empty(0), *support(list(zip(said, known, strict=True)))])


def _rows(said: Sequence[Sequence[str]]) -> Ints:
    """[C] the pair of each claim."""
    return np.repeat(np.arange(len(said)), [len(row) for row in said])


def _shares(held_C: Flags, said: Sequence[Sequence[str]], counted_n: Flags) -> Floats:
    """[n] share of each pair's claims that are held; NaN without claims and where a pair does not count."""
    held_n = np.bincount(_rows(said), held_C, len(said))
    claims_n = np.array([len(row) for row in said])
    return np.where(counted_n & (claims_n > 0), held_n / np.maximum(claims_n, 1), np.nan)
