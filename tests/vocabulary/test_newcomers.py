"""People and items that come later: what is known already is found again, and each word says from whom it came."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from forwhy.columns import Side
from forwhy.data.dataset import Dataset
from forwhy.data.texts import entity_texts
from forwhy.errors import UserError
from forwhy.text.encoder import text_encoder
from forwhy.vocabulary.newcomers import Newcomer, assemble, somebody
from forwhy.vocabulary.texts import text_vectors
from forwhy.vocabulary.vocabulary import Vocabulary

Learn = Callable[..., Vocabulary]
LEVELS = 2


@pytest.fixture(scope="module")
def textual(learn: Learn, tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    return learn(tmp_path_factory.mktemp("textual"), text_first=LEVELS, micro_slots=5, slot_dim=8)


def vectors(town: Dataset, side: Side) -> np.ndarray:
    return text_vectors(entity_texts(town, side), len(town.ids(side)), text_encoder("hash"))


def history(vocabulary: Vocabulary, user: int) -> list[int]:
    return vocabulary.seen[vocabulary.seen[:, 0] == user, 1].tolist()


@pytest.mark.parametrize("side", ["user", "item"])
def test_by_its_own_text_somebody_known_has_the_same_text_words(
    textual: Vocabulary, town: Dataset, side: Side
) -> None:
    found = np.stack([assemble(textual, side, text=vector).codes for vector in vectors(town, side)[:60]])
    assert (found[:, :LEVELS] == textual.codes[side][:60, :LEVELS]).mean() > 0.97


@pytest.mark.parametrize("side", ["user", "item"])
def test_graph_words_of_a_text_are_like_ones_own(textual: Vocabulary, town: Dataset, side: Side) -> None:
    found = np.stack([assemble(textual, side, text=vector).codes for vector in vectors(town, side)])
    own = textual.codes[side]
    agree = (found == own)[:, LEVELS:].mean()
    assert agree > 1.5 * (found == np.roll(own, 1, axis=0))[:, LEVELS:].mean()


def test_a_history_alone_gives_the_words_of_fold_in(textual: Vocabulary, vocabulary: Vocabulary) -> None:
    for words in (textual, vocabulary):
        for user in range(20):
            items = history(words, user)
            found = assemble(words, "user", history=items)
            assert (found.codes == words.codes_for_history(items)).all()
            assert found.tokens == words.names_of("user", found.codes)


def test_words_say_from_whom_they_came(textual: Vocabulary, town: Dataset) -> None:
    text, items = vectors(town, "user")[3], history(textual, 3)
    cases: list[tuple[Newcomer, set[str]]] = [
        (assemble(textual, "user", history=items), {"history"}),
        (assemble(textual, "user", text=text), {"text", "semantic", "collaborative"}),
        (
            assemble(textual, "user", history=items, text=text),
            {"text", "history", "semantic"},
        ),
        (assemble(textual, "item", text=vectors(town, "item")[5]), {"text", "semantic", "collaborative"}),
    ]
    for found, kinds in cases:
        assert {origin.kind for slot in found.origins for origin in slot} == kinds
        for slot in found.origins:
            assert sum(origin.weight for origin in slot) == pytest.approx(1)
            assert [origin.weight for origin in slot] == sorted((it.weight for it in slot), reverse=True)
            assert all((origin.id is None) == (origin.kind == "text") for origin in slot)
    taken = {textual.catalogue.items.values[item] for item in items}
    assert {origin.id for slot in cases[0][0].origins for origin in slot} <= taken


def test_the_text_stands_behind_text_words_and_neighbours_behind_graph_words(
    textual: Vocabulary, town: Dataset
) -> None:
    found = assemble(textual, "item", text=vectors(town, "item")[5])
    assert [[origin.kind for origin in slot] for slot in found.origins[:LEVELS]] == [["text"]] * LEVELS
    near = [origin.id for slot in found.origins[LEVELS:] for origin in slot if origin.kind == "semantic"]
    assert town.items.values[5] in near  # its nearest neighbour is what has this very text


def test_a_text_moves_the_words_of_a_short_history_more_than_of_a_long_one(
    textual: Vocabulary, town: Dataset
) -> None:
    texts, moved = vectors(town, "user"), {1: 0.0, 12: 0.0}
    for user in range(40):
        for length in moved:
            items = (history(textual, user) * 12)[:length]
            alone = assemble(textual, "user", history=items).codes
            other = assemble(textual, "user", history=items, text=texts[(user + 60) % len(texts)]).codes
            moved[length] += float((alone[:LEVELS] != other[:LEVELS]).mean())
    assert moved[1] > moved[12] > 0


def test_loaded_from_a_folder_it_finds_the_same_words(
    textual: Vocabulary, town: Dataset, tmp_path: Path
) -> None:
    textual.save_pretrained(tmp_path / "kept")
    loaded, text = Vocabulary.from_pretrained(tmp_path / "kept"), vectors(town, "item")[7]
    ours, theirs = assemble(textual, "item", text=text), assemble(loaded, "item", text=text)
    assert ours.tokens == theirs.tokens
    for slot, other in zip(ours.origins, theirs.origins, strict=True):
        ours_of, theirs_of = (
            {(origin.kind, origin.side, origin.id): origin.weight for origin in origins}
            for origins in (slot, other)
        )
        assert ours_of == pytest.approx(theirs_of, abs=1e-4)


def test_what_cannot_be_answered_is_refused(textual: Vocabulary, vocabulary: Vocabulary) -> None:
    text = np.ones(128, np.float32)
    with pytest.raises(UserError, match="nothing is known of the new user"):
        assemble(textual, "user")
    with pytest.raises(UserError, match="give a text"):
        assemble(textual, "item", text=0 * text)  # of a blank text
    with pytest.raises(UserError, match="an item has no history"):
        assemble(textual, "item", history=[1], text=text)
    with pytest.raises(UserError, match="text_first"):
        assemble(vocabulary, "user", text=text)


def test_a_dislike_moves_the_words_away(textual: Vocabulary) -> None:
    """What is disliked is less like the person than it would be unsaid."""
    encoder = text_encoder("hash")
    about = "live music and fresh oysters"
    (disliked_V,) = encoder.encode(["live music"])

    def nearness(text: str) -> float:
        codes = somebody(textual, encoder, text).codes
        return float(sum(textual._in_text("user", codes[None])[:LEVELS])[0] @ disliked_V)

    assert nearness(f"likes {about}, dislikes live music") < nearness(about)
