"""The vocabulary: names, meanings, newcomers, and the folder it is kept in."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from forwhy.data.because import Share
from forwhy.data.dataset import Dataset
from forwhy.errors import UserError
from forwhy.recommend.behaviour import BehaviourRecommender
from forwhy.testing import artifact_laws, recommender_laws
from forwhy.vocabulary.vocabulary import Vocabulary, perplexity

Learn = Callable[..., Vocabulary]


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
    assert loaded.encoder == vocabulary.encoder


def test_the_recommender_obeys_the_laws(vocabulary: Vocabulary) -> None:
    recommender_laws(BehaviourRecommender(vocabulary), list(vocabulary.catalogue.users.values[:8]))


def test_perplexity_of_even_and_single_use() -> None:
    np.testing.assert_allclose(perplexity(np.arange(16), 16), 16)
    np.testing.assert_allclose(perplexity(np.zeros(9, int), 16), 1)


# --- the exact because


@pytest.fixture(scope="module", params=["concat", "sum"])
def scored(
    request: pytest.FixtureRequest, learn: Learn, tmp_path_factory: pytest.TempPathFactory
) -> BehaviourRecommender:
    """A recommender whose scores are sums over slots, or over slots with the macro word added."""
    folder = tmp_path_factory.mktemp("because")
    return BehaviourRecommender(learn(folder, epochs=1, representation=request.param))


def test_what_pairs_of_words_add_is_the_score(scored: BehaviourRecommender) -> None:
    users, items = scored.catalogue.users.values, scored.catalogue.items.values
    for user, item in zip(users[:20], items[:20], strict=True):
        because = scored.because(user, item)
        assert because.kind == "words"
        added = sum(share.contribution for share in because.shares)
        assert added == pytest.approx(float(scored.score(user, item)[0]), rel=1e-5, abs=1e-5)
        assert because.score == pytest.approx(added)
        assert sum(share.share for share in because.shares) == pytest.approx(1.0)
        assert because.rest == 0.0
    warm = scored.because(None, items[3], history=items[5:9])
    listed = scored.recommend(history=items[5:9], k=10**6, filter_seen=False)
    score = listed.filter(item_id=items[3])["score"].item()
    assert sum(share.contribution for share in warm.shares) == pytest.approx(score, rel=1e-5, abs=1e-5)


def test_items_behind_are_taken_and_have_words_of_the_item(scored: BehaviourRecommender) -> None:
    words, user = scored.behaviour, scored.catalogue.users.values[7]
    assert isinstance(words, Vocabulary)
    for item in scored.recommend(user, k=8)["item_id"]:
        because, number = scored.because(user, item), words.catalogue.items.index(item)
        added = dict.fromkeys(words.token_names("item", number), 0.0)
        for share in because.shares:
            assert isinstance(share, Share)
            added[share.item] += share.contribution
        for one in because.items:
            taken = words.catalogue.items.index(one.item_id)
            assert taken in words.taken_by(7)
            common = set(words.token_names("item", taken)) & set(added)
            assert one.contribution == pytest.approx(sum(added[name] for name in common))
            assert one.contribution > 0
        assert [one.share for one in because.items] == sorted(
            (one.share for one in because.items), reverse=True
        )


def test_without_a_word_the_score_loses_what_it_added(scored: BehaviourRecommender) -> None:
    user, item = scored.catalogue.users.values[4], scored.catalogue.items.values[11]
    before = scored.because(user, item)
    word = before.shares[1].user  # type: ignore[union-attr]
    lost = sum(share.contribution for share in before.shares if share.user == word)  # type: ignore[union-attr]
    after = scored.changed(user, without=[word]).because(user, item)
    assert after.score == pytest.approx(before.score - lost, abs=1e-6)
    assert word not in {share.user for share in after.shares}  # type: ignore[union-attr]
    listed = scored.recommend(user, k=10**6, filter_seen=False, without=[word]).filter(item_id=item)
    assert listed["score"].item() == pytest.approx(after.score, rel=1e-5, abs=1e-5)
    assert scored.because(user, item) == before


def test_a_swapped_word_counts_as_the_other(scored: BehaviourRecommender) -> None:
    words = scored.behaviour
    assert isinstance(words, Vocabulary)
    own = words.token_names("user", 4)
    other = next(name for name in words.token_names("user", 5)[1:] if name not in own)
    user, history = words.catalogue.users.values[4], words.catalogue.items.values[:3]
    changed = scored.changed(user, swap={own[1]: other}).behaviour
    assert isinstance(changed, Vocabulary)
    assert changed.token_names("user", 4) == [other if name == own[1] else name for name in own]
    told = words.names_of("user", words.user_codes(None, [0, 1, 2]))
    asked = scored.changed(history=history, swap={told[0]: "<u.macro_0>"})
    swapped = asked.because(None, words.catalogue.items.values[9], history=history)
    assert swapped.shares[0].user == "<u.macro_0>"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("without", "swap", "reason"),
    [
        (["<u.micro_9999>"], {}, "'<u.micro_9999>': not in this vocabulary; names look like"),
        (["{item}"], {}, "not a word of this person; name one of <u.macro_"),
        (["{other}"], {}, "not a word of this person; name one of <u.macro_"),
        ([], {"{macro}": "{micro}"}, "of another book than <u.macro_.*; name a word like <u.macro_…>"),
        ([], {"{macro}": "{item}"}, "of another book"),
        (["{micro}", "{micro}"], {}, "name each once"),
        (["{micro}"], {"{micro}": "{other}"}, "name each once"),
        (["{all}"], {}, "keep at least one"),
    ],
)
def test_words_that_nobody_could_change_are_named(
    vocabulary: Vocabulary, without: list[str], swap: dict[str, str], reason: str
) -> None:
    own, item = vocabulary.token_names("user", 3), vocabulary.token_names("item", 3)[0]
    other = next(f"<u.micro_{code}>" for code in range(32) if f"<u.micro_{code}>" not in own)
    named = {"macro": own[0], "micro": own[1], "other": other, "item": item}
    given = own if without == ["{all}"] else [word.format(**named) for word in without]
    pairs = {old.format(**named): new.format(**named) for old, new in swap.items()}
    recommender, user = BehaviourRecommender(vocabulary), vocabulary.catalogue.users.values[3]
    for asked in (recommender.recommend, recommender.changed):
        with pytest.raises(UserError, match=reason) as refused:
            asked(user, without=given, swap=pairs)
        assert "\n" not in str(refused.value)
