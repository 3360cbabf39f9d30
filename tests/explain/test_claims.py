"""What is known of pairs in words: what supports a claim, and the dislikes that a caveat may speak of."""

from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from forwhy.data.dataset import Dataset
from forwhy.errors import UserError
from forwhy.explain.claims import PairKnowledge
from forwhy.explain.evidence import StatementEvidence, Subject
from forwhy.explain.options import MOST_SHOWN, ShownConfig
from forwhy.text.encoder import text_encoder
from forwhy.text.statements import STATEMENTS, KnownStatements, claims, of_person
from forwhy.vocabulary.vocabulary import Vocabulary

MINE, THEIRS = ["love stories", "films with messy timelines"], "messy and hard to follow timelines"


@pytest.mark.parametrize(
    ("mine", "theirs", "told"),
    [
        (MINE, [THEIRS, "a family in Maine"], [MINE[1], THEIRS]),
        (MINE, ["sad love stories"], [MINE[0], "sad love stories"]),
        (MINE, ["a family in Maine"], []),
        ([], [THEIRS], []),
        (MINE, [], []),
    ],
)
def test_a_caveat_speaks_of_the_dislikes_that_are_nearest(
    mine: list[str], theirs: list[str], told: list[str], vocabulary: Vocabulary
) -> None:
    rows = [
        (side, 0, text, "dislike", None, None)
        for side, said in (("user", mine), ("item", theirs))
        for text in said
    ]
    statements = KnownStatements(pl.DataFrame(rows, STATEMENTS, orient="row"))
    known = PairKnowledge(statements, vocabulary, text_encoder("minilm"))
    found: list[StatementEvidence] = known.caveat(Subject(0, 0, ""))
    assert [one.text for one in found] == told
    assert all(one.support >= 0.6 for one in found)
    assert known.caveat(Subject(None, 0, "")) == []


def _told(texts: list[str]) -> list[StatementEvidence]:
    return [
        StatementEvidence(f"i{place}", "item", text, "review", "a", 1.0) for place, text in enumerate(texts)
    ]


@pytest.mark.parametrize(
    ("said", "by"), [("Volume 3", ["i1"]), ("Volume 1", []), ("the volumes", ["i0", "i1"])]
)
def test_a_number_is_supported_by_the_same_number_alone(
    said: str, by: list[str], vocabulary: Vocabulary
) -> None:
    nothing = KnownStatements(pl.DataFrame([], STATEMENTS, orient="row"))
    known = PairKnowledge(nothing, vocabulary, text_encoder("minilm"))
    (claim,) = known.checked(said, _told(["Volume 2", "Volume 3"]))
    assert sorted(claim.evidence) == by


def test_a_statement_that_has_all_words_of_a_claim_supports_it(vocabulary: Vocabulary) -> None:
    nothing = KnownStatements(pl.DataFrame([], STATEMENTS, orient="row"))
    known = PairKnowledge(nothing, vocabulary, text_encoder("minilm"), threshold=0.8)
    told = _told(["cozy mysteries with a touch of humor", "a touch of class"])
    (claim,) = known.checked("touch of Humor", told)
    assert (claim.evidence, claim.support) == (["i0"], 1.0)


@pytest.mark.parametrize(
    ("text", "by"),
    [
        ("You love live music.", ["u0"]),
        ("You would enjoy the live music.", ["i0", "u0"]),
        ("There is live music.", ["i0", "u0"]),
        ("You look out on the harbour.", []),
        ("It looks out on the harbour.", ["i1"]),
    ],
)
def test_what_a_person_does_or_likes_is_supported_by_what_is_said_of_them_alone(
    text: str, by: list[str], vocabulary: Vocabulary
) -> None:
    nothing = KnownStatements(pl.DataFrame([], STATEMENTS, orient="row"))
    known = PairKnowledge(nothing, vocabulary, text_encoder("minilm"), threshold=0.8)
    theirs = StatementEvidence("u0", "user", "live music", "explanation", "someone", 1.0)
    (claim,) = known.checked(text, [*_told(["live music", "looks out on the harbour"]), theirs])
    assert sorted(claim.evidence) == by


@pytest.mark.parametrize(
    ("text", "of_them"),
    [
        ("You love jazz, long walks and live music.", ["jazz", "long walks", "live music"]),
        (
            "The reader enjoys witty novels, a slow plot, and also likes maps.",
            ["witty novels", "slow plot", "likes maps"],
        ),
        ("You love jazz, and the live music is loud.", ["jazz"]),
        ("You love jazz, and you would enjoy its live music and cold drinks.", ["jazz"]),
        ("It has live music, cold drinks and jazz.", []),
        ("", []),
    ],
)
def test_a_list_of_what_somebody_likes_is_of_them_to_its_end(text: str, of_them: list[str]) -> None:
    said = claims(text)
    assert [claim for claim, personal in zip(said, of_person(text, said), strict=True) if personal] == of_them


@pytest.mark.parametrize(("nearest", "fitted"), [(0.7, 0.63), (0.5, 0.5), (0.99, 0.8)])
def test_the_threshold_lets_one_in_ten_claims_of_others_through(
    nearest: float, fitted: float, town: Dataset, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Claims beside another pair's statements reach from 0 to `nearest`, evenly; its bounds hold it."""
    known = PairKnowledge(KnownStatements.read(town), vocabulary, text_encoder("minilm"), 0.6)
    known.calibrate([])
    assert known.threshold == 0.6
    asked = list[Sequence[StatementEvidence]]()

    def support(text: str, told: Sequence[StatementEvidence]) -> NDArray[np.float64]:
        asked.append(told)
        return np.linspace(0, nearest, 101)

    monkeypatch.setattr(known, "support", support)
    subjects = [Subject(user, user + 1, "", text="") for user in range(3)]
    known.calibrate(subjects)
    assert known.threshold == pytest.approx(fitted)
    assert asked == [known.of(subjects[other]) for other in (1, 2, 0)]


@pytest.mark.parametrize("kind", ["item", "user", "taken"])
def test_the_prompt_is_offered_no_more_statements_than_there_are(kind: str) -> None:
    most = MOST_SHOWN[kind]
    assert getattr(ShownConfig(**{kind: most}), kind) == most
    with pytest.raises(UserError, match=f"less than or equal to {most}"):
        ShownConfig(**{kind: most + 1})
