"""Who stands at the head of the page: drawn by a rule, and nothing of them that is not known."""

from dataclasses import replace

import numpy as np
import pytest

from forwhy.data.because import Because, ItemShare, Share
from forwhy.data.dataset import Ids
from forwhy.data.histories import Catalogue
from forwhy.evaluate.document import Examined, Sample
from forwhy.explain.evidence import Claim, Evidence, Explanation, StatementEvidence, TokenEvidence
from forwhy.report.people import Word, drawn, explained, from_texts, offer, taken


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    """Users 0 to 7 take three items each, the last two nothing."""
    pairs = np.array([(user, item) for user in range(8) for item in (0, 1, 2, 3, 4, user % 5)])
    return Catalogue(
        Ids(tuple(f"u{n}" for n in range(10)), "user"),
        Ids((1, 2, 3, 4, 5), "item"),
        ["a", "b", "", "d", "e"],
        pairs,
    )


def test_people_are_those_with_texts_and_a_history(catalogue: Catalogue) -> None:
    wanted = ["u9", "u5", "u2", "stranger", "u7"]
    assert drawn(catalogue, wanted) == [2, 5, 7]
    some = drawn(catalogue, ["u2"])
    assert len(set(some)) == 3
    assert max(some) < 8, "nobody without a history"
    assert drawn(catalogue, ["u2"]) == some, "always the same"


def test_of_a_few_people_all_are_shown(catalogue: Catalogue) -> None:
    assert drawn(replace(catalogue, taken=catalogue.taken[:6]), []) == [0]


def test_what_somebody_took_goes_back_in_time_without_repeats(catalogue: Catalogue) -> None:
    assert taken(catalogue, 1) == (["b", "e", "d", "3"], 1)


def reason(because: Because | None = None) -> Explanation:
    said = StatementEvidence("i1", "item", "fiery curries", "phrase", 1, 0.9)
    tokens = [TokenEvidence("<u.macro_1>", "user", ["spice"]), TokenEvidence("<i.macro_2>", "item", [])]
    claims = [Claim("hot curries", ["i1", "gone"], 0.9), Claim("free beer", [], 0.1)]
    return Explanation("Has hot curries and free beer.", tokens, Evidence(statements=[said]), because, claims)


def test_a_claim_stands_with_its_statement_and_without_one_it_is_marked() -> None:
    shown = offer("The Bell", reason())
    assert shown.claims == [("hot curries", [("fiery curries", "what is noted")]), ("free beer", [])]
    assert [text for text, marked in shown.reason.view if marked] == ["free beer"]
    assert shown.carried == ""


def test_what_carried_the_score_adds_up_over_slots() -> None:
    met = Share("<u.macro_1>", "<i.macro_2>", 0.2, 0.2)
    because = Because(
        "words", 1.0, [met, Share("<u.x>", "<i.y>", 0.3, 0.3), met], [ItemShare(3, "", 1.0, 1.0)]
    )
    assert (
        offer("x", reason(because)).carried
        == "their “spice” meets its “<i.macro_2>” (40% of the score) and they took 3"
    )
    quarrel = [Share("<u.macro_1>", "<i.macro_2>", 0.5, 50.0), Share("<u.x>", "<i.y>", -0.49, -49.0)]
    small = offer("x", reason(replace(because, score=0.01, shares=quarrel))).carried
    assert small.startswith("their “spice” meets its “<i.macro_2>” (+0.50 to a score of 0.01)")
    assert offer("x", reason(replace(because, score=-1.0))).carried == "", "nothing spoke for it"
    assert offer("x", reason(Because("history", 1.0, [], because.items))).carried == "they took 3"
    assert offer("x", reason(Because("popularity", 9.0, []))).carried == ""


def test_without_runs_people_are_those_whose_texts_are_known() -> None:
    samples = [Sample((f"u{row % 5}", row), "r", f"said {row}") for row in range(20)]
    found = from_texts([Examined("bare", {}), Examined("texts", {}, samples)])
    assert found is not None
    assert found.run == "texts"
    assert [one.name for one in found.people] == ["u0", "u2", "u4"]
    assert [it.title for it in found.people[1].offered] == ["2", "7", "12"]
    assert from_texts([Examined("texts", {}, samples[:1])]).people[0].name == "u0"  # type: ignore[union-attr]
    assert from_texts([Examined("rows", {}, [Sample(("row", "1"), "r", "p")])]) is None


def test_words_are_explained_once_and_only_with_a_gloss() -> None:
    one, two, mute, fourth = (
        Word(name, gloss, 1, []) for name, gloss in [("a", ["x"]), ("b", ["y"]), ("c", []), ("d", ["z"])]
    )
    assert explained([[one, two, fourth], [mute, one]]) == [one, two]
