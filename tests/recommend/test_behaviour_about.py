"""Recommending to somebody new by a text about them: the words of `assemble`, and clear refusals."""

from typing import Any

import pytest

from forwhy.columns import SIDES
from forwhy.data.sample import little_town
from forwhy.data.texts import entity_texts
from forwhy.errors import UserError
from forwhy.recommend.base import PopularityRecommender
from forwhy.recommend.behaviour import BehaviourRecommender
from forwhy.recommend.rules import Rules
from forwhy.text.encoder import text_encoder
from forwhy.vocabulary.newcomers import assemble
from forwhy.vocabulary.options import TokenizerConfig
from forwhy.vocabulary.tokenizer import BehaviourTokenizer
from forwhy.vocabulary.vocabulary import Vocabulary

TOWN = little_town(users=40, items=30, visits=8, explanations=(30, 8, 8))
TEXT = "likes slow novels and coffee"


@pytest.fixture(scope="module", params=[0, 2])
def words(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    config = TokenizerConfig(
        codes=16, slot_dim=6, text_dims=12, epochs=1, micro_slots=5, text_first=request.param, device="cpu"
    )
    phrases = {side: TOWN.phrases(side) for side in SIDES}
    texts = {side: entity_texts(TOWN, side) for side in SIDES} if request.param else None
    folder = tmp_path_factory.mktemp("words")
    return BehaviourTokenizer(config).fit(TOWN, phrases, text_encoder("hash"), folder, texts=texts)


def test_a_text_gives_the_words_of_assemble(words: Vocabulary) -> None:
    """Read by the encoder that the vocabulary was learned with, which it records."""
    assert words.encoder == text_encoder("hash").name
    recommender, items = BehaviourRecommender(words), list(words.catalogue.items.values[:3])
    if not words.text_means:
        with pytest.raises(UserError, match=r"vocabulary.text_first = 3"):
            recommender.recommend(about=TEXT)
        return
    (vector,) = text_encoder("hash").encode([TEXT])
    for history in ([], items):
        found = recommender.newcomer_of(TEXT, history)
        numbers = [words.catalogue.items.index(item) for item in history]
        assert (found.codes == assemble(words, "user", history=numbers, text=vector).codes).all()
        met = recommender.meeting(found)
        scores = met.behaviour.representation_for_history([]) @ words.representation("item").T
        shown = recommender.recommend(about=TEXT, history=history, k=4)
        assert not set(history) & set(shown["item_id"])
        best = [words.catalogue.items.index(item) for item in shown["item_id"]]
        assert shown["score"].to_list() == pytest.approx(scores[best].tolist(), rel=1e-4)
        without = recommender.recommend(about=TEXT, history=history, k=4, without=[found.tokens[-1]])
        assert without["score"].to_list() != shown["score"].to_list()


def test_what_they_dislike_is_no_liking(words: Vocabulary) -> None:
    """It moves the words away (tests/vocabulary/test_newcomers.py), however it is said."""
    if words.text_means:
        tokens = [
            BehaviourRecommender(words).newcomer_of(text).tokens
            for text in (
                "likes coffee, dislikes live jazz",
                "Likes coffee. I do not like live jazz.",
                "likes coffee, likes live jazz",
            )
        ]
        assert tokens[0] == tokens[1] != tokens[2]


def test_a_history_alone_is_answered_as_before(words: Vocabulary) -> None:
    recommender, items = BehaviourRecommender(words), list(words.catalogue.items.values[:3])
    scores = words.representation_for_history([0, 1, 2]) @ words.representation("item").T
    shown = recommender.recommend(history=items, k=3)
    assert shown["score"].to_list() == pytest.approx(sorted(scores[3:], reverse=True)[:3], rel=1e-4)
    popular = PopularityRecommender(words.catalogue).recommend(history=[], k=3)
    assert recommender.recommend(history=[], k=3).equals(popular), "of whom nothing is known"


@pytest.mark.parametrize(
    "text", ["coffee " * 15000, "<|im_end|> [INST] coffee \x00\x1b[2J </s>", "\ud800 coffee"]
)
def test_hostile_texts_are_answered(words: Vocabulary, text: str) -> None:
    if words.text_means:
        assert len(BehaviourRecommender(words).recommend(about=text, k=3)) == 3


def test_what_cannot_be_answered_is_refused(words: Vocabulary) -> None:
    recommender = BehaviourRecommender(words)
    for blank in ("", " \n"):
        with pytest.raises(UserError, match="is blank: say what they like"):
            recommender.recommend(about=blank)
    with pytest.raises(
        UserError, match="vocabulary.text_first" if not words.text_means else "say what they like, too"
    ):
        recommender.recommend(about="hates jazz")
    with pytest.raises(UserError, match="leave out the user"):
        recommender.recommend(words.catalogue.users.values[0], about=TEXT)
    with pytest.raises(UserError, match="ask a run of because"):
        PopularityRecommender(words.catalogue).recommend(about=TEXT)


def test_rules_stay_with_somebody_new_and_with_other_words(words: Vocabulary) -> None:
    """An item more leaves none: they are about the items before it."""
    recommender, own = BehaviourRecommender(words), words.names_of("user", words.codes["user"][0])
    asked: list[dict[str, Any]] = [{"users": words.catalogue.users.values[0], "without": own[-1:]}]
    if words.text_means:
        met = recommender.newcomer_of(TEXT).tokens
        asked += [{"about": TEXT}, {"about": TEXT, "without": met[-1:]}]
    for how in asked:
        first, second = recommender.recommend(k=2, **how)["item_id"]
        ruled = recommender.under(Rules.of(words.catalogue.items, exclude=first))
        assert ruled.recommend(k=1, **how)["item_id"].to_list() == [second]
        assert recommender.recommend(k=1, exclude=first, **how)["item_id"].to_list() == [second]
        both = ruled.recommend(k=1, boost={second: 2.0}, **how)
        assert both["boost"].to_list() == [2.0], "once"
    if words.text_means:
        assert ruled.offering("Title: A Teapot")[0].rules is None
