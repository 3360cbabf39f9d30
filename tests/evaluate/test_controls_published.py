"""The facts of XRec's published outputs (reference beat-and-xrec section 5.1) come out of our metrics."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from forwhy.evaluate.compare import Scored, bold_cells, compare
from forwhy.evaluate.controls import best_constant, deal
from forwhy.evaluate.reading import read_outputs
from forwhy.evaluate.text import score_texts

SHARED = Path(os.environ.get("FORWHY_SHARED", Path(__file__).parents[3] / "shared"))
DOMAINS = {"xrec-amazon": (0.416, 0.385), "xrec-yelp": (0.386, 0.352)}
"""BLEU-1 of the outputs, and of the same outputs dealt to random pairs, under a regex tokenizer."""
PAIRS = 1000
"""Of 3,000: enough for the second decimal."""


def published(domain: str) -> tuple[Sequence[str], Sequence[str]]:
    """XRec's outputs and references."""
    folder = SHARED / "data" / domain
    if not (folder / "tst_pred.pkl").exists():
        pytest.skip("no published outputs here")
    found = read_outputs(folder / "tst_pred.pkl", folder / "tst_ref.pkl")
    assert len(found) == 3000
    drawn = found.take(np.random.default_rng(0).permutation(len(found))[:PAIRS].tolist())
    return drawn.predictions, drawn.references


@pytest.mark.parametrize("domain", DOMAINS)
def test_scores_equal_the_packages(domain: str) -> None:
    sacrebleu = pytest.importorskip("sacrebleu.metrics.bleu").BLEU()
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(["rouge1", "rouge2"])
    outputs, references = published(domain)
    found = score_texts(outputs, references)
    wanted = sacrebleu.corpus_score(outputs, [references]).score
    assert found.corpus["sacrebleu"] == pytest.approx(wanted, rel=1e-12)
    for row in range(100):
        rouge = scorer.score(references[row], outputs[row])
        for kind in ("rouge1", "rouge2"):
            assert found.per_pair[kind][row] == pytest.approx(rouge[kind].fmeasure)


@pytest.mark.parametrize("domain", DOMAINS)
def test_bleu1_hardly_sees_personalisation(domain: str) -> None:
    outputs, references = published(domain)
    right = score_texts(outputs, references).corpus["bleu1"]
    dealt = score_texts([outputs[row] for row in deal(len(outputs), 0)], references).corpus["bleu1"]
    assert (right, dealt) == pytest.approx(DOMAINS[domain], abs=0.01)
    assert 0 < right - dealt < 0.05


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_constant_beats_them_beyond_chance(domain: str) -> None:
    """The constant is the best of the references themselves: the mark that a training text would be short of."""
    outputs, references = published(domain)
    texts = {
        "outputs": outputs,
        "dealt": [outputs[row] for row in deal(len(outputs), 0)],
        "constant": [best_constant(references)] * len(outputs),
    }
    scored = {name: score_texts(given, references) for name, given in texts.items()}
    runs = [Scored(name, range(len(outputs)), s.per_pair, s.counts) for name, s in scored.items()]
    found = compare(runs, ["bleu1", "length"], n=2000)
    assert bold_cells(found, neutral={"length"}) == {("constant", "bleu1")}
    (own,) = (one for one in found if (one.a, one.b, one.metric) == ("outputs", "dealt", "bleu1"))
    assert own.p_holm < 0.01
    assert own.difference.mean > 0
