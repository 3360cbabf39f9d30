"""The table of metrics is complete, and every metric keeps to its scale."""

from collections.abc import Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwhy.evaluate.controls import text_table
from forwhy.evaluate.registry import METRICS, NEURAL, NEUTRAL, OF_LISTS, is_overlap
from forwhy.evaluate.text import OWN, Features, TextScores, score_texts
from forwhy.report.tables import SHOWN_TEXT

ELSEWHERE = {*NEURAL, *OWN, "own_among"}
"""Metrics with tests of their own."""
TEXTS = st.text(alphabet="ab 😀é.,'\n", max_size=20)
PAIRS = st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=6)


class LengthEncoder:
    """Unit vectors by the parity of the length."""

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        return np.eye(2, dtype=np.float32)[[len(text) % 2 for text in texts]]


def votes(predictions: Sequence[str], references: Sequence[str]) -> TextScores:
    """A judge that sees equal texts, and has no grade where the reference is empty."""
    rows = zip(predictions, references, strict=True)
    counts = np.array([[100 * (p == r), 1] if r else [0, 0] for p, r in rows])
    return TextScores({}, {"gptscore": counts}, {"unjudged": float((counts[:, 1] == 0).sum())})


def scores(pairs: list[tuple[str, str]]) -> TextScores:
    features = Features([{"a"} if "a" in r else () for _, r in pairs], {"a", "b"})
    return score_texts([p for p, _ in pairs], [r for _, r in pairs], LengthEncoder(), features, None, [votes])


def test_every_metric_is_in_the_table() -> None:
    assert set(scores([("a b", "a c")]).corpus) == METRICS.keys() - ELSEWHERE
    assert set(SHOWN_TEXT) <= set(METRICS)


@given(PAIRS, st.randoms())
@settings(max_examples=60, deadline=None)
def test_metrics_keep_to_their_scale_and_ignore_order(pairs: list[tuple[str, str]], random: Random) -> None:
    found, mixed = scores(pairs), list(pairs)
    random.shuffle(mixed)
    assert scores(mixed).corpus == pytest.approx(found.corpus)
    for name, value in found.corpus.items():
        top = METRICS[name].top
        assert 0 <= value <= (float("inf") if top is None else top + 1e-9), name


def test_a_long_text_against_itself_reaches_the_top() -> None:
    found = scores([("a b a b b a a a", "a b a b b a a a")]).corpus
    for name, metric in METRICS.items():
        if metric.better == "higher" and name not in ELSEWHERE:
            assert found[name] == pytest.approx(metric.top), name


def test_dealing_leaves_what_is_neutral_as_it_is() -> None:
    """Neutral metrics look at the outputs alone, so no control may win by them."""
    texts = ["a b", "b b c", "a", "d e f g"]
    features = Features([{"a"}, {"b"}, {"a"}, ()], {"a", "b"})
    table = text_table(texts, texts, ["a b c"], features=features, measures=[votes])
    dealt = table.controls["dealt"].scores.corpus
    same = {name for name, value in table.method.corpus.items() if dealt[name] == pytest.approx(value)}
    assert same == NEUTRAL - OF_LISTS - ELSEWHERE


def test_bleurt_is_no_overlap() -> None:
    assert [is_overlap(name) for name in ("bleu1", "peter_bleu4", "sacrebleu", "rougeL")] == [True] * 4
    assert not is_overlap("bleurt")
