"""What systems that explain share: a text is kept with the statements that are shown beside it."""

from __future__ import annotations

import pytest

from forwhy.data.dataset import Dataset, Pairs
from forwhy.explain.evidence import Evidence, Explanation, StatementEvidence
from forwhy.systems import explaining
from forwhy.text.encoder import HashEncoder


class Quoting:
    """Says what is known of a pair, or the same without showing it."""

    def __init__(self, shows: bool) -> None:
        self.shows = shows

    def explain(self, pairs: Pairs) -> list[Explanation]:
        found = []
        for item, text in zip(pairs.items.tolist(), pairs.texts, strict=True):
            known = StatementEvidence("i1", "item", text, "review", item, 1.0)
            found.append(Explanation(text, [], Evidence(statements=[known] * self.shows)))
        return found


@pytest.mark.parametrize("shows", [True, False])
def test_evidence_stands_beside_its_text_and_is_judged(tiny_town: Dataset, shows: bool) -> None:
    pairs = tiny_town.pairs("test")
    outputs = explaining._written(tiny_town, Quoting(shows), pairs)  # type: ignore[arg-type]
    assert outputs.evidence == ([[text] for text in outputs.predictions] if shows else None)
    matched = explaining.match("this run", outputs, tiny_town)
    table = explaining._grounded(matched, tiny_town, HashEncoder(), 0)
    assert table is not None
    document = table.document()
    assert document["supported"] == (1.0 if shows else None)
    if shows:
        assert document["controls"]["dealt"]["supported"] < 1
