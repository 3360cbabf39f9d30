"""The sentences follow from the numbers: what is claimed, and what chance may have made."""

from dataclasses import replace
from typing import Any

import pytest

from forwhy.evaluate.compare import Comparison
from forwhy.evaluate.document import Examined
from forwhy.evaluate.significance import Interval
from forwhy.report import findings, tables
from forwhy.report.findings import Finding


def said(*runs: Examined, comparisons: tuple[Comparison, ...] = ()) -> list[Finding]:
    return findings.findings(runs, comparisons)


def ranked(value: float, low: float, name: str = "ours", **more: Any) -> Examined:  # noqa: ANN401
    ranking = {"recall@20": value, "intervals": {"recall@20": [low, 2 * value - low]}, "users": 9}
    simple = {"recall@20": 0.04, "intervals": {"recall@20": [0.03, 0.05]}}
    return Examined(name, {"ranking": ranking, "baselines": {"popularity": simple}}, **more)


def written(own: float, *controls: tuple[str, float, float, float], pairs: int = 300) -> Examined:
    """Controls: name, value, and the interval of the run minus it."""
    text = {"rougeL": own, "pairs": pairs, "intervals": {"rougeL": [own - 0.1, own + 0.1]}}
    held = {
        name: {"rougeL": value, "margin": {"rougeL": own - value, "intervals": {"rougeL": [low, high]}}}
        for name, value, low, high in controls
    }
    return Examined("ours", {"text": text, "controls": held})


def comparison(difference: float, p_holm: float, metric: str = "rougeL") -> Comparison:
    ends = Interval(difference, difference - 0.01, difference + 0.01)
    return Comparison("a", "b", metric, ends, 0.4, p_holm / 2, p_holm, 30, (0, 0))


BELOW, LEVEL, ABOVE = ("constant", 0.3, 0.1, 0.3), ("profile", 0.51, -0.1, 0.1), ("lookup", 0.7, -0.3, -0.1)


@pytest.mark.parametrize(
    ("low", "value", "tone", "end"),
    [
        (0.2, 0.27, "good", "; one list of favourites for everybody has 4."),
        (0.049, 0.06, "open", " has 4 (the difference may be chance)."),
        (0.01, 0.03, "bad", " has 4."),
    ],
)
def test_lists_are_held_against_favourites(low: float, value: float, tone: str, end: str) -> None:
    (one,) = said(ranked(value, low))
    assert one.tone == tone
    assert one.words.startswith(
        f"Of 100 things that people took and the system had not seen, {100 * value:.0f} are"
    )
    assert one.words.endswith(end)


def test_of_several_runs_it_is_said_who_is_surely_better() -> None:
    (one,) = said(ranked(0.27, 0.2, "town"), ranked(0.06, 0.04, "xrec"))
    assert "27 (town) and 6 (xrec) are among" in one.words
    assert one.words.endswith("has 4 (surely better: town).")
    assert one.tone == "open"
    (many,) = said(*(ranked(0.1 + number / 100, 0.09, str(number)) for number in range(5)))
    assert "between 14 (4) and 10 (0) are" in many.words


def test_next_items_are_said_of_ten_places() -> None:
    run = ranked(0.2, 0.1)
    ranking = {"recall@10": 0.1, "recall@20": 0.2, "users": 9}
    (one,) = said(replace(run, document={"ranking": ranking, "protocol": {"task": "next-item"}}))
    assert "Of 100 next things" in one.words
    assert "10 are among the first 10" in one.words


@pytest.mark.parametrize(
    ("protocol", "why"),
    [
        ({"task": "next-item", "evaluated": "test"}, "after different histories"),
        ({"fingerprint": "other"}, "on different data"),
        ({"evaluated": "valid"}, "on different held-out items"),
    ],
)
def test_what_cannot_be_compared_is_not(protocol: dict[str, str], why: str) -> None:
    ours, theirs = ranked(0.2, 0.1), ranked(0.3, 0.2, "theirs")
    theirs = replace(theirs, document={**theirs.document, "protocol": protocol})
    (one,) = said(ours, theirs)
    assert one == Finding("open", f"The lists of ours, theirs cannot be compared: they were measured {why}.")
    table = tables.ranking_table([ours, theirs], ["recall@20"])
    assert table is not None
    assert table.notes == [((), one.words)]


def test_three_training_steps_are_no_success() -> None:
    history = [{"stage": "explainer", "step": step} for step in (1, 3)] + [
        {"stage": "vocabulary", "step": 900}
    ]
    trial, lists = said(ranked(0.27, 0.2, history=history))
    assert trial.tone == "bad"
    assert trial.words.endswith("not how well: a training of 3 steps.")
    assert lists.tone == "open", "nothing is green of a trial"
    assert said(ranked(0.27, 0.2, history=[{"stage": "explainer", "step": findings.FEW}]))[0].tone == "good"


def test_a_control_that_wins_is_said_in_words() -> None:
    assert said(written(0.5, BELOW))[0] == Finding(
        "good",
        "The texts are nearer to what people wrote than any simple trick, such as one sentence for everybody.",
    )
    assert said(written(0.5, BELOW, LEVEL))[0] == Finding(
        "open", "The texts are not provably nearer to what people wrote than the catalogue's description."
    )
    bad = said(written(0.5, BELOW, LEVEL, ABOVE))[0]
    assert bad.tone == "bad"
    assert "looking up an old text by the title" in bad.words


def test_few_texts_make_a_trial() -> None:
    trial, _ = said(written(0.5, BELOW, pairs=6))
    assert trial.words.endswith(": 6 measured texts.")


@pytest.mark.parametrize(
    ("item", "user", "words"),
    [
        (0.05, 0.02, "on the thing and on the person"),
        (0.05, -0.01, "on the thing, not measurably on the person"),
        (-0.1, 0.02, "on the person, not measurably on the thing"),
        (-0.1, -0.1, "measurably on neither the thing nor the person"),
    ],
)
def test_what_is_read_follows_from_the_intervals(item: float, user: float, words: str) -> None:
    gain = {"item": 0.1, "user": 0.0, "intervals": {"item": [item, 0.15], "user": [user, 0.03]}}
    (one,) = said(Examined("ours", {"information_gain": gain}))
    assert one.words == f"What the model writes depends {words}."
    assert one.tone == ("good" if min(item, user) > 0 else "open")


def test_support_is_held_against_dealt_texts() -> None:
    method = {"supported": 0.9, "precision": 0.5, "intervals": {"supported": [0.8, 0.95]}}
    grounding = {"method": method, "controls": {"dealt": {"supported": 0.2}}}
    (one,) = said(Examined("ours", {"grounding": grounding}))
    assert one == Finding(
        "good",
        "Of 100 claims in the texts, 90 are backed by what is shown beside them; dealt to other people, 20 would.",
    )
    grounding["controls"] = {"dealt": {"supported": 0.85}}
    assert said(Examined("ours", {"grounding": grounding}))[0].tone == "bad"


def test_runs_are_apart_after_correction_only() -> None:
    some = (comparison(-0.2, 0.04), comparison(0.2, 0.06, "bleu1"), comparison(3.0, 0.001, "length"))
    (one,) = said(comparisons=some)
    assert one.words == "Of 2 comparisons between the runs, b is ahead in 1, beyond chance."
    (none,) = said(comparisons=some[1:])
    assert none.words == "Of 1 comparison between the runs, none is beyond chance."
    assert said(comparisons=some[2:]) == [], "more of a neutral metric is no finding"


def test_there_are_five_at_most(good: tuple[Examined, object], bad: tuple[Examined, object]) -> None:
    found = said(good[0], bad[0], comparisons=(comparison(0.2, 0.01),))
    assert len(found) == findings.MOST
    assert found[0].words.startswith("A trial")


def test_runs_alike_are_introduced_together() -> None:
    ours = written(0.5, BELOW, pairs=30)
    [told] = findings.subject([ours, replace(ours, name="theirs")])
    assert told == (["ours", "theirs"], "30 texts measured.")
