"""Reviews of mixed boilerplate add to the words of a shop, or nothing."""

from benchmarks.shop import BOILERPLATE, COMPLAINTS, KINDS, learn, recalls, rows, shop


def test_reviews_do_not_make_words_worse_than_the_catalogue_alone() -> None:
    data = shop(people=150, items=80, orders=2_400, reviews=800)
    read = rows(data)
    found = {
        name: sum(recalls(data, learn(*read[name], codes=32, epochs=1)))
        for name in ("nothing", "catalogue", "catalogue + reviews")
    }
    assert found["catalogue"] > 1.3 * found["nothing"]
    assert found["catalogue + reviews"] > 0.95 * found["catalogue"]


def test_what_is_said_of_anything_is_no_gloss() -> None:
    data = shop(people=150, items=80, orders=2_400, reviews=800)
    mined, config = rows(data)["catalogue + reviews"]
    words = learn(mined, config, codes=16, epochs=1)
    glosses = {phrase for found in words.words["gloss"].to_list() for phrase in found}
    said = {
        phrase
        for table in (mined.phrases("user"), mined.phrases("item"))
        for it in table.values()
        for phrase in it
    }
    offers = " ".join(offer for kind in KINDS.values() for offer in kind)
    assert said & glosses
    for phrase in said | (glosses - set(KINDS)):
        assert phrase in offers, phrase
        assert not any(phrase in text for text in (*BOILERPLATE, *COMPLAINTS)), phrase
