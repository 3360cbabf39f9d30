"""What two names have in common: literally in both, and rare."""

import polars as pl
import pytest

from forwhy.data.dataset import Dataset, make_dataset
from forwhy.data.histories import Catalogue
from forwhy.explain.facts import Facts
from forwhy.explain.plain import PlainExplainer
from forwhy.recommend.base import PopularityRecommender
from forwhy.text.statements import KnownStatements


def shop(titles: list[str], **more: list[str]) -> Dataset:
    """Things with these titles and more about them, and two people who took all of them."""
    rows = [(user, number, "train") for user in ("ann", "ben") for number in range(len(titles))]
    interactions = pl.DataFrame(rows, ["user_id", "item_id", "split"], orient="row")
    items = pl.DataFrame({"item_id": range(len(titles)), "title": titles, **more})
    return make_dataset("shop", {"interactions": interactions, "items": items})


def facts(titles: list[str]) -> Facts:
    """Of a shop of nothing else."""
    dataset = shop(titles)
    return Facts(Catalogue.of(dataset, dataset.edges("train")), KnownStatements.read(dataset))


@pytest.mark.parametrize(
    ("title", "other", "run"),
    [
        ("Kinky Curly, Knot Today", "the KINKY curly custard", "Kinky Curly"),
        ("A pan for the oven (small)", "A pot for the oven", "oven"),
        ("Steel lid 4", "Lid, steel", "Steel"),
        ("Model in a bottle", "model in a bottle: spray", "Model in a bottle"),
        ("Tape (Kapton)", "1 mil tape (Kapton), wide", "Tape (Kapton)"),
        ("Red pan", "Blue pot", None),
        ("Pan for the", "Pot for the", None),
        ("Remington", "Remingtons", None),
        ("“” <b>", "“” <b>", None),
    ],
)
def test_what_two_names_have_in_common(title: str, other: str, run: str | None) -> None:
    filler = [f"{letter * 5} {letter * 7}" for letter in "abcdefgh"]
    assert facts([title, other, *filler]).named_alike(0, [2, 1, 3]) == (run and (1, run))


def test_a_word_of_many_names_joins_none() -> None:
    """Of nine things three may have it."""
    titles = ["soap red", "soap blue", "soap green", *(f"{letter * 5}" for letter in "abcdef")]
    assert facts(titles).named_alike(0, [1, 2]) == (2, "soap")  # the latest of two that are alike
    titles[3] = "soap grey"
    assert facts(titles).named_alike(0, [1, 2, 3]) is None
    assert facts(titles).named_alike(0, []) is None


def test_a_reason_names_them() -> None:
    titles = ["Zinn cup", "Zinn <b>pan</b>”", "Steel pot", "Steel saw", "Zinn cup", *"abcd"]
    dataset = shop(titles)
    explainer = PlainExplainer(PopularityRecommender(Catalogue.of(dataset, dataset.edges("train"))), dataset)
    found = explainer.explain(history=[1, 2], item=0)
    counted, named = found.claims
    assert counted.text == "2 people took it, as much as anything else."
    assert named.text == "It has “Zinn” in its name, as does “Zinn <b>pan</b>'”, which you took."
    told = {one.id: (one.source, one.about, one.text) for one in found.evidence.statements}
    assert [told[name] for name in named.evidence] == [("title", 0, titles[0]), ("title", 1, titles[1])]
    same = explainer.explain(history=[1, 4], item=0).claims[-1]
    assert same.text == "It has the same name as “Zinn cup”, which you took."
    assert len(explainer.explain(history=[3], item=0).claims) == 1
    assert len(PlainExplainer(explainer.known).explain(history=[1], item=0).claims) == 1


def test_a_name_says_better_than_a_part_of_a_description() -> None:
    titles = ["Zinn cup", "Zinn pan", "Steel cup", "Copper lid", *"abcde"]
    said = ["Only salt free steel."] * 3 + [""] * 6
    dataset = shop(titles, description=said)
    explainer = PlainExplainer(PopularityRecommender(Catalogue.of(dataset, dataset.edges("train"))), dataset)
    both = explainer.explain(history=[1], item=0).claims[-1]
    assert both.text == "It has “Zinn” in its name, as does “Zinn pan”, which you took."
    described = explainer.explain(history=[1], item=2).claims[-1]
    assert described.text.endswith("of it, as of “Zinn pan”, which you took.")
