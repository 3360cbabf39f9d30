"""What is known of pairs in words: the dislikes that a caveat may speak of."""

import polars as pl
import pytest

from forwhy.errors import UserError
from forwhy.explain.claims import PairKnowledge
from forwhy.explain.evidence import StatementEvidence, Subject
from forwhy.explain.options import MOST_SHOWN, ShownConfig
from forwhy.text.encoder import text_encoder
from forwhy.text.statements import STATEMENTS, KnownStatements
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


@pytest.mark.parametrize("kind", ["item", "user", "taken"])
def test_the_prompt_is_offered_no_more_statements_than_there_are(kind: str) -> None:
    most = MOST_SHOWN[kind]
    assert getattr(ShownConfig(**{kind: most}), kind) == most
    with pytest.raises(UserError, match=f"less than or equal to {most}"):
        ShownConfig(**{kind: most + 1})
