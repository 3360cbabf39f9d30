"""Explanations into claims: sentences written for this test, laws, and hostile text."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwhy.evaluate.overlap import words
from forwhy.text.statements import claims, likes_and_dislikes

SENTENCES = {
    "You would enjoy Lola because of its friendly service, tasty tacos and a cozy patio.":
        ["friendly service", "tasty tacos", "cozy patio"],
    "The user would enjoy the business for its warm and friendly staff.": ["warm and friendly staff"],
    "The user would enjoy this bakery because they love sourdough and the owner is kind.":
        ["bakery", "sourdough", "owner is kind"],
    "The user would enjoy the quiet garden, fair prices, and quick service.":
        ["quiet garden", "fair prices", "quick service"],
    "The reader would enjoy the book because of its slow-burning plot, dry humor, and flawed hero.":
        ["slow-burning plot", "dry humor", "flawed hero"],
    "The user would enjoy Harbor House for its oysters, despite the long wait at the door.":
        ["oysters", "long wait at the door"],
    "The user may not enjoy the business because of the slow kitchen and rude host.":
        ["slow kitchen", "rude host"],
    "You would love this place for dishes like pho and banh mi.": ["dishes", "pho and banh mi"],
    "The user would enjoy the cafe as it feels like home.": ["cafe", "feels like home"],
    "The user would enjoy Mill & Vine due to its fresh, seasonal, and inventive plates.":
        ["fresh, seasonal, and inventive plates"],
    "The staff is patient. The rooms are spotless!": ["staff is patient", "rooms are spotless"],
    "They will appreciate Dr. Ito's gentle manner; parking is free.":
        ["Dr. Ito's gentle manner", "parking is free"],
    "The user would enjoy the business because it offers mac and cheese, ribs, and live jazz on Fridays.":
        ["mac and cheese", "ribs", "live jazz on Fridays"],
    "The user would enjoy Oak Room for a relaxed brunch, making it a lovely spot for families.":
        ["relaxed brunch", "lovely spot for families"],
    "With strong coffee and big windows, the user would like Juniper for long mornings of work.":
        ["strong coffee", "big windows", "long mornings of work"],
    "The user would enjoy this hotel for its rooftop pool as well as the walk to the river.":
        ["hotel", "rooftop pool", "walk to the river"],
    "The user would enjoy the business for no reservation policy and no dress code.":
        ["no reservation policy", "no dress code"],
    "Pizza, pasta and salads": ["Pizza", "pasta and salads"],
    "The friendly barista adds to the calm mood.": ["friendly barista", "calm mood"],
    "The user would enjoy the business for its large patio with heated benches.":
        ["large patio", "heated benches"],
    "The user would enjoy chatting with the cooks": ["chatting", "cooks"],
    "You would enjoy Nine Lanes because it has $1,000 prizes, cheap beer, and arcade games.":
        ["$1,000 prizes", "cheap beer", "arcade games"],
    "The user would enjoy this business for its vegan menu, including ramen and bao.":
        ["vegan menu", "ramen and bao"],
    "The user would enjoy the business because the singer was great, although the sound was thin.":
        ["singer was great", "sound was thin"],
    "The user would buy the book because it offers a slow plot and a dry wit.": ["slow plot", "dry wit"],
    "The user would buy the book The Salt Line for its brave heroine.": ["brave heroine"],
    "The reader will choose The Salt Line because they love the coast of Maine.": ["coast of Maine"],
    "Additionally, the user would appreciate the low fees and the clear advice.":
        ["low fees", "clear advice"],
    "The user would enjoy \"The Copper Pot\" for its smoky chili.": ["smoky chili"],
    "The user would enjoy the business for its tasty food, as mentioned in the review.": ["tasty food"],
    "Good food, good food, GOOD FOOD": ["Good food"],
    "The user would enjoy the business.": [],
    "You would enjoy Blue Door.": [],
    "服务很好。食物美味\uff0c价格便宜": ["服务很好", "食物美味", "价格便宜"],
    "A": [], "": [], " \x00\t": [], "😀😀": [], "…!?": [], "12,5": [],
    "tacos 🌮, beer 🍺": ["tacos 🌮", "beer 🍺"],
}  # fmt: skip

HOSTILE = (
    "a. ", ", ", " ", "the ", "the user would enjoy ", ".", "and ", "x and ", "adds to ", "'", "good, ", "a", "(",
    "服务很好。", "\x00", "😀", "in addition, ", "for ", "based on ", "with x ", "very ", "St. ", "d like ", "-",
)  # fmt: skip


@pytest.mark.parametrize("text", SENTENCES)
def test_hand_made_sentences(text: str) -> None:
    assert claims(text) == SENTENCES[text]


@given(st.text(max_size=300) | st.lists(st.sampled_from(HOSTILE)).map("".join))
def test_claims_add_no_word_and_repeat_nothing(text: str) -> None:
    found = claims(text)
    assert len({claim.casefold() for claim in found}) == len(found)
    assert all(claim == claim.strip() and any(c.isalpha() for c in claim) for claim in found)
    letters = "".join(c for c in text if c.isalnum())
    assert all(
        word in letters
        for claim in found
        for word in "".join(c if c.isalnum() else " " for c in claim).split()
    )


@settings(deadline=None)
@given(st.sampled_from(sorted(SENTENCES)))
def test_a_claim_of_a_list_is_its_own_claim(text: str) -> None:
    """Cutting again what was cut changes little: no claim grows."""
    for claim in claims(text):
        assert sum(len(words(again)) for again in claims(claim)) <= len(words(claim))


@pytest.mark.parametrize("piece", HOSTILE)
def test_long_text_takes_linear_time(piece: str) -> None:
    text = piece * (100_000 // len(piece))
    start = time.perf_counter()
    claims(text)
    assert time.perf_counter() - start < 3


@pytest.mark.parametrize(
    ("about", "likes", "dislikes"),
    [
        ("likes slow novels, dislikes gore", ["likes slow novels"], ["gore"]),
        ("I do not like garden furniture. I like seeds.", ["seeds"], ["garden furniture"]),
        ("I can't stand loud bars but I love jazz", ["jazz"], ["loud bars"]),
        ("Loves jazz. She doesn't eat meat.", ["jazz"], ["meat"]),
        ("I'm not a big fan of horror, however I enjoy thrillers", ["thrillers"], ["horror"]),
        ("Ich mag keine Gartenmöbel, aber ich mag Saatgut", ["likes Saatgut"], ["Gartenmöbel"]),
        ("quiet cafés and live jazz", ["quiet cafés", "live jazz"], []),
        ("hates crowds", [], ["crowds"]),
    ],
)
def test_what_is_denied_is_disliked(about: str, likes: list[str], dislikes: list[str]) -> None:
    assert likes_and_dislikes(about) == (likes, dislikes)
