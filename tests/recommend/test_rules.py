"""Rules of a shop hold before a list is cut; whatever is given that is no rule is told by its row."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from forwhy.data.dataset import Ids
from forwhy.data.histories import Catalogue
from forwhy.errors import UserError
from forwhy.recommend.base import PopularityRecommender, Recommender
from forwhy.recommend.rules import Rules
from forwhy.recommend.tiger import TigerRecommender

from .conftest import dataset, index_of, ring, tiny_tiger

ITEMS = Ids(tuple(f"i{number:02}" for number in range(12)), "item")
CHAIN = dataset(ring(30, 12, 7), [f"thing {number}" for number in range(12)])


@pytest.fixture(scope="module")
def popular() -> Recommender:
    return PopularityRecommender.fit(CHAIN)


@pytest.fixture(scope="module", params=["legal", "vocab", "level"])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    """A model that writes lists, with as many beams as items, so that they are exact."""
    config = tiny_tiger(normalise=request.param, beam=12)
    found = TigerRecommender.fit(CHAIN, index_of(CHAIN), tmp_path_factory.mktemp("tiger"), config)
    assert found.config.decoding == request.param
    return found


def wanted(recommender: Recommender, user: str, k: int, rules: dict[str, Any]) -> list[tuple[str, float]]:
    """The list by its definition: score everything, add, leave out, cut."""
    number = recommender.catalogue.users.index(user)
    scores = dict(zip(ITEMS.values, recommender.scores(np.array([number]))[0].tolist(), strict=True))
    taken = {ITEMS.values[item] for item in recommender.catalogue.histories[number].tolist()}
    some = [
        (item, score + (rules.get("boost") or {}).get(item, 0.0))
        for item, score in scores.items()
        if item not in taken
        and item not in rules.get("exclude", ())
        and item in (rules.get("only") or scores)
    ]
    return sorted(some, key=lambda one: -one[1])[:k]


RULES: list[dict[str, Any]] = [
    {"exclude": ["i03", "i05"]},
    {"only": ["i01", "i02", "i03", "i08"]},
    {"boost": {"i07": 30.0, "i02": -30.0}},
    {"exclude": ["i07"], "only": ["i01", "i02", "i07", "i09", "i10"], "boost": {"i10": 30.0, "i07": 30.0}},
    {"only": ["i01", "i10"], "boost": {"i10": 0.5, "i01": -0.5}},
]


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("k", [2, 12])
def test_lists_are_cut_after_the_rules(
    popular: Recommender, written: Recommender, rules: dict[str, Any], k: int
) -> None:
    for recommender in (popular, written):
        for user in ("u0", "u1"):
            table = recommender.recommend(user, k=k, **rules)
            expected = wanted(recommender, user, k, rules)
            assert table["item_id"].to_list() == [item for item, _ in expected]
            np.testing.assert_allclose(table["score"], [score for _, score in expected], rtol=1e-4, atol=1e-4)
            assert ("boost" in table.columns) == ("boost" in rules)


def test_rules_hold_for_whoever_is_asked_for(popular: Recommender) -> None:
    """People by a history, several at once, and a recommender that is under rules already."""
    assert "i03" not in popular.recommend(history=["i00"], k=12, exclude=["i03"])["item_id"].to_list()
    alone = [popular.recommend(user, k=4, only=["i01", "i02", "i04"]) for user in ("u0", "u2")]
    both = popular.recommend(["u0", "u2"], k=4, only=["i01", "i02", "i04"])
    assert pl.concat(alone).equals(both)
    under = popular.under(Rules.of(ITEMS, exclude="i01"))
    assert set(under.recommend(history=["i00"], k=12, only=["i01", "i02"])["item_id"]) == {"i02"}
    assert popular.rules is None


@pytest.mark.parametrize("name", ["gone.csv", "gone.tsv", "gone.jsonl", "gone.parquet"])
def test_rules_from_a_file(tmp_path: Path, name: str) -> None:
    path, frame = tmp_path / name, pl.DataFrame({"item_id": ["i03", "i05"], "why": ["old", "gone"]})
    match path.suffix:
        case ".csv":
            frame.write_csv(path)
        case ".tsv":
            frame.write_csv(path, separator="\t")
        case ".jsonl":
            frame.write_ndjson(path)
        case _:
            frame.write_parquet(path)
    from_file = Rules.of(ITEMS, exclude=path)
    for given in (frame, ["i03", "i05"], frame["item_id"]):
        rules = Rules.of(ITEMS, exclude=given)
        assert rules is not None
        assert from_file is not None
        np.testing.assert_array_equal(rules.open_I, from_file.open_I)
        assert np.flatnonzero(~rules.open_I).tolist() == [3, 5]


def test_bonuses_from_anything(tmp_path: Path) -> None:
    (tmp_path / "push.csv").write_text("item_id,boost\ni03,0.5\ni05,-2\n")
    frame = pl.DataFrame({"item_id": ["i03", "i05"], "boost": [0.5, -2]})
    for given in (tmp_path / "push.csv", frame, {"i03": 0.5, "i05": -2}):
        rules = Rules.of(ITEMS, boost=given)
        assert rules is not None
        assert rules.bonus_I[[3, 5]].tolist() == [0.5, -2.0]
        assert rules.boosted.tolist() == [3, 5]
    whole = Rules.of(Ids((3, 7), "item"), only=np.array([7]), boost={7: 1})
    assert whole is not None
    assert (whole.open_I.tolist(), whole.bonus_I.tolist()) == ([False, True], [0.0, 1.0])
    assert Rules.of(ITEMS) is None


@pytest.mark.parametrize(
    ("content", "option", "said"),
    [
        ("item_id\ni03\nx99\n", "exclude", r"rules\.csv: row 2: unknown item id 'x99'; use one of"),
        ("item_id\ni03\ni0\n", "only", r"rules\.csv: row 2: unknown item id 'i0'; nearest: i"),
        ("article_title\ni03\n", "exclude", r"rules\.csv: no column 'item_id'; a file for this has item_id"),
        ("item_id\ni03\n", "boost", r"rules\.csv: no column 'boost'; a file for this has item_id and boost"),
        ("item_id,boost\ni03,much\n", "boost", r"rules\.csv: row 1: 'much' is no boost"),
        (
            "item_id,boost\ni03,1\ni03,2\n",
            "boost",
            r"row 2: '2' is no boost, or the second one of item 'i03'",
        ),
        ("item_id\n", "exclude", r"rules\.csv: no rows"),
    ],
)
def test_what_is_no_rule_is_told_by_its_row(tmp_path: Path, content: str, option: str, said: str) -> None:
    (tmp_path / "rules.csv").write_text(content)
    with pytest.raises(UserError, match=said):
        Rules.of(ITEMS, **{option: tmp_path / "rules.csv"})


def test_files_as_shops_write_them(tmp_path: Path) -> None:
    path = tmp_path / "schub.csv"
    path.write_text("Artikel-Nr;boost\ni03;0,5\ni05;-1,25\n", encoding="cp1252")
    rules = Rules.of(ITEMS, boost=path, only=path)
    assert rules is not None
    assert rules.bonus_I[[3, 5]].tolist() == [0.5, -1.25]
    with pytest.raises(UserError, match=r"exclude: '.*schub\.csv' is an id here; .* exclude=Path\("):
        Rules.of(ITEMS, exclude=str(path))


def test_what_is_no_rule_in_python() -> None:
    with pytest.raises(UserError, match="exclude: row 2: unknown item id 'x99'"):
        Rules.of(ITEMS, exclude=["i03", "x99"])
    with pytest.raises(UserError, match="boost: row 1: 'nan' is no boost"):
        Rules.of(ITEMS, boost={"i03": float("nan")})
    for wrong in (["i03"], "i03", pl.DataFrame({"item_id": ["i03"]})):
        with pytest.raises(
            UserError, match=r"boost: give numbers by item, .* or a frame with item_id and boost"
        ):
            Rules.of(ITEMS, boost=wrong)
    with pytest.raises(UserError, match="leave no item to list"):
        Rules.of(ITEMS, only=["i03"], exclude=["i03"])
    with pytest.raises(UserError, match=r"nowhere\.csv: no such file"):
        Rules.of(ITEMS, only=Path("nowhere.csv"))


def test_who_can_be_named_is_who_is_served() -> None:
    catalogue = Catalogue(Ids(("ann", "ben")), ITEMS, [""] * 12, np.array([[1, 3]]))

    class Known(PopularityRecommender):
        capabilities = PopularityRecommender.capabilities.__class__(hot=True)

    assert Known(catalogue).served() == ["ben"]
    assert PopularityRecommender(catalogue).served() == ["ann", "ben"]
