"""Comparing runs: what must hold for any two, and against tests that are written out."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from forwhy.errors import UserError
from forwhy.evaluate.compare import Comparison, Scored, bold_cells, compare
from forwhy.evaluate.ranking import rank_all
from forwhy.evaluate.significance import Interval
from forwhy.evaluate.text import score_texts

WORDS = ["good", "cake", "and", "a", "quiet", "bar", "with", "friendly", "people", "who", "know", "tea"]


def texts(seed: int, n: int = 40) -> list[str]:
    generator = np.random.default_rng(seed)
    return [" ".join(generator.choice(WORDS, generator.integers(3, 9))) for _ in range(n)]


def text_run(name: str, seed: int, n: int = 40) -> Scored:
    scores = score_texts(texts(seed, n), texts(99, n))
    return Scored(name, [(f"u{row}", row) for row in range(n)], scores.per_pair, scores.counts)


def run(name: str, keys: list[int], **values: np.ndarray) -> Scored:
    return Scored(name, keys, values)


def by_metric(found: list[Comparison]) -> dict[str, Comparison]:
    return {one.metric: one for one in found}


def test_a_run_against_itself_differs_by_nothing() -> None:
    again = text_run("again", 1)
    for one in compare([text_run("one", 1), again]):
        assert one.difference == Interval(0, 0, 0)
        assert (one.p, one.p_holm, one.effect) == (1, 1, 0)


def test_corpus_bleu_and_means_are_the_metrics_of_the_runs() -> None:
    ours, theirs = text_run("ours", 1), text_run("theirs", 2)
    a, b = score_texts(texts(1), texts(99)).corpus, score_texts(texts(2), texts(99)).corpus
    found = by_metric(compare([ours, theirs]))
    assert {"bleu4", "peter_bleu1", "sacrebleu", "rougeL", "length"} <= set(found)
    assert set(found) == set(score_texts(texts(1), texts(99)).intervals())
    for metric, one in found.items():
        assert one.difference.mean == pytest.approx(a[metric] - b[metric])
        assert one.difference.low <= one.difference.mean <= one.difference.high
        assert (one.pairs, one.left_out) == (40, (0, 0))


def test_swapping_runs_flips_the_sign_and_keeps_p() -> None:
    ours, theirs = text_run("ours", 1), text_run("theirs", 2)
    there, back = by_metric(compare([ours, theirs])), by_metric(compare([theirs, ours]))
    for metric, one in there.items():
        other = back[metric]
        assert (one.a, one.b) == (other.b, other.a)
        assert (one.p, one.p_holm) == (other.p, other.p_holm)
        assert one.effect == pytest.approx(-other.effect)
        assert one.difference == pytest.approx(
            (-other.difference.mean, -other.difference.high, -other.difference.low)
        )


@given(st.permutations(range(12)), st.permutations(range(12)))
@settings(max_examples=15, deadline=None)
def test_order_of_rows_does_not_matter(left: list[int], right: list[int]) -> None:
    ours, theirs = text_run("ours", 1, 12), text_run("theirs", 2, 12)
    moved = [
        Scored(
            run.name,
            [run.keys[row] for row in order],
            {metric: values[order] for metric, values in run.per_pair.items()},
            {kind: counts[order] for kind, counts in run.counts.items()},
        )
        for run, order in ((ours, left), (theirs, right))
    ]
    assert compare(moved, n=200) == compare([ours, theirs], n=200)


def test_corpus_bleu_is_permuted_by_swapping_texts() -> None:
    """Every one of 2^8 swaps, scored as texts, gives the exact p."""
    ours, theirs, references = texts(1, 8), texts(2, 8), texts(99, 8)

    def difference(swapped: int) -> float:
        sides = [
            (t, o) if swapped >> row & 1 else (o, t)
            for row, (o, t) in enumerate(zip(ours, theirs, strict=True))
        ]
        left, right = zip(*sides, strict=True)
        return score_texts(left, references).corpus["bleu1"] - score_texts(right, references).corpus["bleu1"]

    observed = abs(difference(0))
    exact = np.mean([abs(difference(swapped)) >= observed - 1e-12 for swapped in range(256)])
    (found,) = compare([text_run("ours", 1, 8), text_run("theirs", 2, 8)], ["bleu1"])
    assert found.difference.mean == pytest.approx(difference(0))
    assert found.p == pytest.approx(exact, abs=0.02)


def test_means_equal_scipys_permutation_and_cohen() -> None:
    generator = np.random.default_rng(3)
    a, b = generator.normal(0.3, 1, 60), generator.normal(0, 1, 60)
    (found,) = compare([run("a", list(range(60)), x=a), run("b", list(range(60)), x=b)])
    theirs = stats.permutation_test(
        (a, b), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=20_000, rng=0
    )
    assert found.p == pytest.approx(theirs.pvalue, abs=0.02)
    assert found.effect == pytest.approx(stats.ttest_rel(a, b).statistic / np.sqrt(60))


def test_pseudo_values_of_a_mean_are_its_values() -> None:
    """One-word texts against one-word references: corpus BLEU-1 is nearly the mean over pairs, and so its effect."""
    references = ["tea"] * 60
    ours, theirs = ["tea"] * 45 + ["bar"] * 15, ["bar"] * 20 + ["tea"] * 40
    left, right = score_texts(ours, references), score_texts(theirs, references)
    runs = [Scored(name, list(range(60)), s.per_pair, s.counts) for name, s in (("a", left), ("b", right))]
    found = by_metric(compare(runs, ["bleu1", "rougeL"]))
    assert found["bleu1"].difference == pytest.approx(found["rougeL"].difference)
    assert found["bleu1"].p == found["rougeL"].p
    assert found["bleu1"].effect == pytest.approx(found["rougeL"].effect)


def test_common_keys_only_and_how_many_are_left_out() -> None:
    values = np.arange(10.0)
    ours = run("ours", [*range(10)], x=values + 1)
    theirs = run("theirs", [*range(12, 3, -1)], x=np.arange(12.0, 3.0, -1.0))
    (found,) = compare([ours, theirs])
    assert (found.pairs, found.left_out) == (6, (4, 3))
    assert found.difference == pytest.approx((1, 1, 1))
    assert found.effect == np.inf
    document = json.loads(json.dumps(found.document(), allow_nan=False))
    assert document.pop("interval") == pytest.approx([1, 1])
    assert document == {
        "a": "ours",
        "b": "theirs",
        "metric": "x",
        "difference": 1.0,
        "effect": None,
        "p": found.p,
        "p_holm": found.p,
        "pairs": 6,
        "left_out": [4, 3],
    }


def test_correction_covers_all_runs_and_metrics_shown() -> None:
    generator = np.random.default_rng(0)
    keys = list(range(50))
    runs = [run(name, keys, x=generator.normal(size=50), y=generator.normal(size=50)) for name in "abc"]
    runs[0] = run("a", keys, x=runs[1].per_pair["x"] + 5, y=runs[0].per_pair["y"])
    found = compare(runs)
    assert [(one.a, one.b, one.metric) for one in found] == [
        (a, b, metric) for a, b in ("ab", "ac", "bc") for metric in "xy"
    ]
    assert all(one.p_holm >= one.p for one in found)
    ordered = sorted(found, key=lambda one: one.p)
    assert all(one.p_holm <= later.p_holm for one, later in zip(ordered, ordered[1:], strict=False))
    assert found[0].p_holm == pytest.approx(6 * found[0].p)
    (alone,) = (one for one in compare(runs[:2], ["x"]))
    assert alone.p_holm == alone.p == pytest.approx(1 / 10_001)


def test_a_large_family_can_still_reach_significance() -> None:
    keys = list(range(30))
    noise = np.random.default_rng(0).normal(size=(16, 30))
    runs = [run(f"r{i:02}", keys, **{f"m{j}": noise[i] + 9 * i for j in range(3)}) for i in range(16)]
    found = compare(runs, n=100)  # 120 pairs of runs x 3 metrics
    assert max(one.p_holm for one in found) <= 0.05


def test_false_positives_of_a_family_stay_at_the_level() -> None:
    """Families of 3 runs x 2 metrics without any difference: raw p err in about a fifth, corrected in at most 5%."""
    generator = np.random.default_rng(7)
    corrected = raw = 0
    for seed in range(300):
        people = generator.normal(size=30)
        runs = [
            run(name, list(range(30)), x=people + generator.normal(size=30), y=generator.normal(size=30) ** 3)
            for name in "abc"
        ]
        found = compare(runs, seed=seed, n=400)
        corrected += min(one.p_holm for one in found) <= 0.05
        raw += min(one.p for one in found) <= 0.05
    assert 300 * 0.01 < corrected < stats.binom.ppf(0.999, 300, 0.05)
    assert raw > 300 * 0.12


def test_ranking_results_compare_by_user() -> None:
    generator = np.random.default_rng(0)
    users, items = generator.normal(size=(80, 6)), generator.normal(size=(60, 6))
    none, test = (
        np.empty((0, 2), np.int64),
        np.stack([np.arange(80), (users @ items.T).argmax(axis=1)], axis=1),
    )
    right, chance = rank_all(users, items, none, test), rank_all(users[::-1], items, none, test)
    found = compare([Scored(name, r.users.tolist(), r.per_user) for name, r in (("r", right), ("c", chance))])
    assert bold_cells(found, ()) == {("r", metric) for metric in right.per_user}


def compared(a: str, b: str, metric: str, difference: float, p: float) -> Comparison:
    return Comparison(a, b, metric, Interval(difference, difference, difference), 0.0, p, p, 10, (0, 0))


def test_bold_is_who_beats_every_other() -> None:
    assert bold_cells([], ()) == set()
    clear = [
        compared("a", "b", "x@5", 1, 0.01),
        compared("a", "c", "x@5", 1, 0.05),
        compared("b", "c", "x@5", 1, 0.9),
    ]
    assert bold_cells(clear, ()) == {("a", "x@5")}
    assert bold_cells(clear, neutral={"x"}) == set()
    assert bold_cells([*clear[:1], compared("a", "c", "x@5", 1, 0.051), clear[2]], ()) == set()
    assert bold_cells([compared("a", "b", "x", 0, 0.01)], ()) == set()


def test_refusals() -> None:
    keys, values = [0, 1, 2], np.arange(3.0)
    ours = run("ours", keys, x=values)
    with pytest.raises(UserError, match="0 of 3 and 3 pairs in common"):
        compare([ours, run("theirs", [3, 4, 5], x=values)])
    with pytest.raises(UserError, match="0 of 3 and 3 pairs in common"):
        compare([ours, Scored("theirs", ["0", "1", "2"], {"x": values})])
    with pytest.raises(UserError, match="share no metric of y"):
        compare([ours, run("theirs", keys, x=values)], ["y"])
    with pytest.raises(UserError, match="own name"):
        compare([ours, ours])
    with pytest.raises(UserError, match="cannot compare ours"):
        compare([ours])
    with pytest.raises(UserError, match="1 occurs twice"):
        run("ours", [0, 1, 1], x=values)
    with pytest.raises(ValueError, match="'ours', x: 3 finite"):
        run("ours", keys, x=np.array([0, 1, np.nan]))
    with pytest.raises(ValueError, match="'ours', x: 2 finite"):
        run("ours", [0, 1], x=values)


def test_sentence_bleu_is_not_compared_with_corpus_bleu() -> None:
    ours = text_run("ours", 1)
    theirs = Scored("theirs", ours.keys, ours.per_pair)
    shared = {one.metric for one in compare([ours, theirs], n=100)}
    assert shared == {metric for metric in ours.per_pair if "bleu" not in metric}
    assert "rougeL" in shared
    both = compare([Scored("ours", ours.keys, ours.per_pair), theirs], ["bleu1"], n=100)
    assert [one.metric for one in both] == ["bleu1"]
