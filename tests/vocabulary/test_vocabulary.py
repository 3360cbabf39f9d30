"""The vocabulary: names, meanings, newcomers, and the folder it is kept in."""

from pathlib import Path

import numpy as np
import pytest

from forwhy.data.dataset import Dataset
from forwhy.errors import UserError
from forwhy.recommend.base import BehaviourRecommender
from forwhy.testing import artifact_laws, recommender_laws
from forwhy.vocabulary.vocabulary import Vocabulary, perplexity


def test_glosses_are_phrases_of_the_owners(vocabulary: Vocabulary, town: Dataset) -> None:
    phrases = town.phrases("item")
    for code, gloss in enumerate(vocabulary.glosses("item_macro")):
        owners = np.flatnonzero(vocabulary.codes["item"][:, 0] == code)
        known = {phrase for owner in owners for phrase in phrases.get(int(owner), [])}
        assert not known or set(gloss) <= known
    assert sum(bool(words) for words in vocabulary.keywords("item_micro")) > 24


def test_words_of_a_history_are_like_the_persons_own(vocabulary: Vocabulary, town: Dataset) -> None:
    agree, chance = [], []
    for user in range(0, 60):
        items = vocabulary.seen[vocabulary.seen[:, 0] == user, 1]
        folded = vocabulary.codes_for_history(items.tolist())
        agree.append((folded == vocabulary.codes["user"][user]).mean())
        chance.append((folded == vocabulary.codes["user"][user + 60]).mean())
    assert np.mean(agree) > 2 * np.mean(chance) + 0.05


def test_an_empty_history_is_refused(vocabulary: Vocabulary) -> None:
    with pytest.raises(UserError, match="at least one item"):
        vocabulary.codes_for_history([])


def test_tokens_have_names_and_rows(vocabulary: Vocabulary) -> None:
    names = vocabulary.token_names("user", 0)
    assert names[0] == f"<u.macro_{vocabulary.codes['user'][0, 0]}>"
    assert [vocabulary.word(name)["token"] for name in names] == names
    with pytest.raises(UserError, match="<u.macro_9999>"):
        vocabulary.word("<u.macro_9999>")


def test_the_artifact_obeys_the_laws(vocabulary: Vocabulary, tmp_path: Path) -> None:
    artifact_laws(lambda: vocabulary, tmp_path / "vocabulary")


def test_saved_and_loaded_it_recommends_the_same(vocabulary: Vocabulary, tmp_path: Path) -> None:
    vocabulary.save_pretrained(tmp_path / "v")
    loaded = Vocabulary.from_pretrained(tmp_path / "v")
    users = list(vocabulary.catalogue.users.values[:5])
    ours, theirs = BehaviourRecommender(vocabulary), BehaviourRecommender(loaded)
    assert ours.recommend(users, k=5).equals(theirs.recommend(users, k=5))
    assert loaded.words.equals(vocabulary.words)


def test_the_recommender_obeys_the_laws(vocabulary: Vocabulary) -> None:
    recommender_laws(BehaviourRecommender(vocabulary), list(vocabulary.catalogue.users.values[:8]))


def test_perplexity_of_even_and_single_use() -> None:
    np.testing.assert_allclose(perplexity(np.arange(16), 16), 16)
    np.testing.assert_allclose(perplexity(np.zeros(9, int), 16), 1)
