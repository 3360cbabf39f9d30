"""A run that is opened answers as its parts do, in every form that people ask, and writes everybody's lists whole."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import forwhy
from forwhy import Explanation, Explanations, OpenRun, RunFolder, UserError
from forwhy.data.dataset import Dataset
from forwhy.errors import NoAnswer
from forwhy.recipe import default_recipe


@pytest.fixture(scope="module")
def opened(tiny_run: Path) -> OpenRun:
    return forwhy.open(tiny_run)


@pytest.fixture(scope="module")
def popular(tiny_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> OpenRun:
    """A run without a model, a vocabulary or a curve."""
    folder = tmp_path_factory.mktemp("popular") / "run"
    data = tiny_recipe.parent / "town"
    recipe = default_recipe("popularity", data)
    RunFolder(folder).start(recipe)
    return forwhy.open(folder)


@pytest.fixture(scope="module")
def users(opened: OpenRun) -> list[Any]:
    return opened.recommender.served()[:3]


def test_lists_are_the_recommenders(opened: OpenRun, tiny_run: Path, users: list[Any]) -> None:
    expected = RunFolder.open(tiny_run).recommender().recommend(users, k=4)
    pandas = pytest.importorskip("pandas")
    frame = pl.DataFrame({"user_id": users})
    for given in (users, np.array(users), frame, frame["user_id"], pandas.DataFrame({"user_id": users})):
        assert opened.recommend(given, 4).equals(expected)
    assert opened.recommend(users[0], k=4).equals(expected.filter(user_id=users[0]))


def test_reasons_stand_beside_lists(opened: OpenRun, users: list[Any]) -> None:
    listed = opened.recommend(users, 2, explain=True)
    told = opened.explain(listed)
    assert isinstance(told, Explanations)
    assert listed["explanation"].to_list() == [one.text for one in told]
    assert opened.explain(listed.to_pandas()) == told
    pairs = list(listed.select("user_id", "item_id").iter_rows())
    assert opened.explain(pairs) == told
    one = opened.explain(pairs[0])
    assert isinstance(one, Explanation)
    assert one == told[0]
    assert [(row["user_id"], row["item_id"]) for row in told.to_polars().iter_rows(named=True)] == pairs
    assert told.to_pandas()["explanation"].tolist() == listed["explanation"].to_list()
    assert one.because is not None
    assert listed["because"][0].to_list() == [str(share.item_id) for share in one.because.items[:3]]
    assert repr(told) == f"<Explanations: {len(told)} entries>"
    assert "<table" in told._repr_html_()


def test_somebody_new_by_a_history(opened: OpenRun) -> None:
    first, second = opened.recommender.catalogue.items.values[:2]
    listed = opened.recommend(history=[first, second], k=2, explain=True)
    assert listed["user_id"].to_list() == [None, None]
    told = opened.explain(history=pl.Series([first, second]), item=listed["item_id"][0])
    assert told.text == listed["explanation"][0]


def test_pairs_say_whom_it_is_about(opened: OpenRun, users: list[Any]) -> None:
    with pytest.raises(UserError, match="leave out history, or the pairs"):
        opened.explain((users[0], opened.recommender.catalogue.items.values[0]), history=[])
    with pytest.raises(UserError, match="give pairs, or one of user="):
        opened.explain()


def test_an_item_that_nobody_took_has_a_plain_reason(tiny_run: Path, users: list[Any]) -> None:
    """The trained explainer knows nothing of it; the order of pairs stays."""
    opened = forwhy.open(tiny_run)
    explainer = opened.folder.explainer()
    known = explainer.known
    explainer._known = replace(known, seen=known.seen[known.seen[:, 1] != 0])
    opened.trained = explainer
    new, other = known.catalogue.items.values[:2]
    told = opened.explain([(users[0], new), (users[0], other), (users[1], new)])
    assert [bool(one.claims) for one in told] == [True, False, True]
    assert told[0].text.endswith(".")


def test_words_and_curves(opened: OpenRun, popular: OpenRun) -> None:
    assert {"token", "book", "usage", "gloss"} <= set(opened.words().columns)
    curves = opened.history()
    assert set(curves["stage"]) == {"vocabulary", "explainer"}
    assert curves["valid.recall@20"].drop_nulls().len() > 0
    assert len(curves.to_pandas()) == curves.height
    assert popular.history().height == 0
    with pytest.raises(UserError, match="has no behaviour vocabulary"):
        popular.words()
    with pytest.raises(UserError, match="not a run folder"):
        forwhy.open("nowhere")


def test_any_system_is_asked_alike(popular: OpenRun, users: list[Any]) -> None:
    listed = popular.recommend(users, 2, explain=True)
    assert listed.height == 6
    assert all(text.endswith(".") for text in listed["explanation"])
    assert popular.recommend(history=[], k=1).height == 1
    assert popular.reasoner().known is popular.recommender, "it is in memory once"
    with pytest.raises(UserError, match="reads no text about people"):
        popular.recommend(about="likes puzzles")


def test_unavailable_items_are_in_no_list(
    tiny_run: Path, opened: OpenRun, users: list[Any], tmp_path: Path
) -> None:
    best = opened.recommend(users[0], 2)["item_id"].to_list()
    (tmp_path / "gone.csv").write_text(f"item_id\n{best[0]}\n")
    without = forwhy.open(tiny_run, unavailable=tmp_path / "gone.csv")
    assert without.recommend(users[0], 1)["item_id"].to_list() == best[1:]
    assert without.recommend(users[0], 1, exclude=best[1])["item_id"][0] not in best
    assert best[0] not in without.recommend(history=[best[1]], k=40, filter_seen=False)["item_id"].to_list()


def test_it_is_shown_by_counts(opened: OpenRun, tiny_run: Path) -> None:
    assert repr(opened).startswith(f"<OpenRun: run '{tiny_run}', system 'beat', 40 users, 30 items, ")
    assert "<th>system</th><td>beat</td>" in opened._repr_html_()
    vocabulary = opened.folder.vocabulary()
    assert repr(vocabulary).endswith("4 books, 32 words>")
    assert repr(opened.folder.explainer()).startswith("<BeatExplainer: model '")
    assert (
        len(repr(opened.explain((opened.recommender.served()[0], vocabulary.catalogue.items.values[0]))))
        < 300
    )


READ = {".parquet": pl.read_parquet, ".csv": pl.read_csv, ".jsonl": pl.read_ndjson, ".ndjson": pl.read_ndjson}


@pytest.mark.parametrize("suffix", list(READ))
def test_everybody_into_a_file(
    opened: OpenRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """In blocks, the same as all at once; reasons too, where the kind of file has no lists as JSON."""
    monkeypatch.setattr("forwhy.opened.TOGETHER", 7)
    out, served = tmp_path / f"all{suffix}", opened.recommender.served()
    boost = {opened.recommender.catalogue.items.values[0]: 1.5}
    assert opened.recommend_all(out, 3, boost=boost) == len(served)
    expected = opened.recommend(served, 3, boost=boost)
    assert (
        READ[suffix](out)
        .select("user_id", "item_id", "rank")
        .equals(expected.select("user_id", "item_id", "rank"))
    )
    only = opened.recommender.catalogue.items.values[1]
    opened.recommend_all(out, 1, explain=True, only=only)
    found, told = READ[suffix](out), opened.recommend(served, 1, explain=True, only=only)
    assert found["explanation"].to_list() == told["explanation"].to_list()
    because = (
        [json.loads(text) for text in found["because"]] if suffix == ".csv" else found["because"].to_list()
    )
    assert because == told["because"].to_list()
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_a_killed_call_goes_on(opened: OpenRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was there stays until the new file is whole; finished blocks are not made again; another question is new."""
    monkeypatch.setattr("forwhy.opened.TOGETHER", 10)
    out, asked = tmp_path / "all.parquet", list[int]()
    pl.DataFrame({"user_id": ["a"], "item_id": ["b"], "score": [0.0], "rank": [1]}).write_parquet(out)
    yesterday = out.read_bytes()
    whole = OpenRun.recommend

    def dies(self: OpenRun, users: list[Any], k: int, **how: object) -> pl.DataFrame:
        asked.append(len(users))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return whole(self, users, k, **how)

    monkeypatch.setattr(OpenRun, "recommend", dies)
    with pytest.raises(KeyboardInterrupt):
        opened.recommend_all(out, 2)
    assert out.read_bytes() == yesterday
    opened.recommend_all(out, 2)
    served = opened.recommender.served()
    assert len(asked) == 3 + -(-len(served) // 10) - 2
    assert pl.read_parquet(out).equals(whole(opened, served, 2))
    asked[:] = [0, 0]
    with pytest.raises(KeyboardInterrupt):
        opened.recommend_all(out, 2)
    asked[:] = [0, 0, 0]
    opened.recommend_all(out, 2, exclude=opened.recommender.catalogue.items.values[0])
    assert len(asked) == 3 + -(-len(served) // 10)
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_everybody_on_a_cluster_is_as_here(
    opened: OpenRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rules travel with the work."""
    pytest.importorskip("ray", reason="pip install 'forwhy[cluster]'")
    monkeypatch.setattr("forwhy.opened.TOGETHER", 20)
    first, second = opened.recommender.catalogue.items.values[:2]
    rules = {"boost": {first: 1.5}, "exclude": second}
    here, there = tmp_path / "here.jsonl", tmp_path / "there.jsonl"
    assert opened.recommend_all(here, 2, **rules) == opened.recommend_all(
        there, 2, engine="ray", workers=1, **rules
    )
    assert here.read_bytes() == there.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [here.name, there.name]


def test_everybody_needs_a_file_of_a_known_kind(opened: OpenRun, tmp_path: Path) -> None:
    for out in (tmp_path / "all.xlsx", tmp_path):
        with pytest.raises(
            UserError, match=r"a file that ends in \.parquet, \.csv, \.jsonl, \.ndjson; name one"
        ):
            opened.recommend_all(out)
    assert list(tmp_path.iterdir()) == []


def test_many_pairs_are_explained_once_each(
    opened: OpenRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one by one; a killed call goes on; who cannot be explained is named beside the others."""
    monkeypatch.setattr("forwhy.opened.IN_A_SHARD", 3)
    pairs = opened.recommend(opened.recommender.served()[:5], 2).select("user_id", "item_id").rows()
    assert opened.explain_all([*pairs, pairs[0]], tmp_path / "texts") == len(pairs)
    found = pl.read_parquet(tmp_path / "texts" / "*.parquet").sort("user_id", "item_id")
    told = dict(zip(sorted(pairs), opened.explain(sorted(pairs)), strict=True))
    assert [(row["user_id"], row["item_id"]) for row in found.iter_rows(named=True)] == [*told]
    assert found["explanation"].to_list() == [one.text for one in told.values()]
    assert found["refused"].null_count() == len(pairs)
    next((tmp_path / "texts").glob("part-*")).unlink()
    opened.explain_all(pairs, tmp_path / "texts")
    assert pl.read_parquet(tmp_path / "texts" / "*.parquet").sort("user_id", "item_id").equals(found)
    with pytest.raises(UserError, match="other pairs; give a new or empty folder"):
        opened.explain_all(pairs[:2], tmp_path / "texts")
    with pytest.raises(UserError, match="unknown user id 'nobody'"):
        opened.explain_all([("nobody", pairs[0][1])], tmp_path / "none")
    assert not (tmp_path / "none").exists()
    whole = OpenRun.reasons

    def refuses(self: OpenRun, items: list[Any], users: list[Any] | None = None, **how: Any) -> Any:  # noqa: ANN401
        if pairs[0][0] in (users or ()):
            raise UserError("nothing is known; ask later")
        return whole(self, items, users, **how)

    monkeypatch.setattr(OpenRun, "reasons", refuses)
    opened.explain_all(pairs, tmp_path / "some")
    some = pl.read_parquet(tmp_path / "some" / "*.parquet").sort("user_id", "item_id")
    theirs = pl.col("user_id") == pairs[0][0]
    assert set(some.filter(theirs)["refused"]) == {"nothing is known; ask later"}
    assert some.filter(~theirs).equals(found.filter(~theirs))
    shards = list[int]()

    def silent(self: OpenRun, items: list[Any], users: list[Any] | None = None, **how: Any) -> Any:  # noqa: ANN401
        shards.append(len(items))
        if len(shards) > 1:
            raise NoAnswer("the server is away; start it")
        return whole(self, items, users, **how)

    monkeypatch.setattr(OpenRun, "reasons", silent)
    with pytest.raises(NoAnswer, match="the server is away; start it"):
        opened.explain_all(pairs, tmp_path / "half")
    assert len(shards) == 2
    monkeypatch.setattr(OpenRun, "reasons", whole)
    opened.explain_all(pairs, tmp_path / "half")
    assert pl.read_parquet(tmp_path / "half" / "*.parquet").sort("user_id", "item_id").equals(found)


def test_a_model_that_is_missing_refuses_all_pairs_and_writes_none(
    opened: OpenRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(_: OpenRun) -> Any:  # noqa: ANN401
        raise UserError("model 'm': no such folder; use another")

    pairs = opened.recommend(opened.recommender.served()[:1], 2)
    monkeypatch.setattr(OpenRun, "trained", property(missing))
    with pytest.raises(UserError, match="model 'm': no such folder"):
        opened.explain_all(pairs, tmp_path / "texts")
    assert not [*(tmp_path / "texts").glob("part-*")]


def test_artifacts_are_found_in_the_run(tiny_run: Path, tiny_town: Dataset) -> None:
    assert repr(forwhy.Vocabulary.from_pretrained(tiny_run)) == repr(RunFolder.open(tiny_run).vocabulary())
    pair = tiny_town.external(tiny_town.pairs("train").select([0]))[0]
    explainer = forwhy.BeatExplainer.from_pretrained(tiny_run)
    assert explainer.explain(pair) == forwhy.open(tiny_run).explain(pair)


def test_lists_for_people_hold_nothing_that_they_took_in_any_split(popular: OpenRun, tmp_path: Path) -> None:
    """The held-out purchases of everybody; where the data set is gone those of training alone."""
    town = Dataset.load(popular.folder.recipe.data.path)
    bought = town.tables["interactions"].select("user_id", "item_id")
    assert set(town.tables["interactions"]["split"]) == {"train", "valid", "test"}
    users = popular.recommender.served()
    everything = popular.recommend(users, k=10**6)
    assert everything.join(bought, on=["user_id", "item_id"]).height == 0
    popular.recommend_all(tmp_path / "all.parquet", k=10**6)
    assert pl.read_parquet(tmp_path / "all.parquet").equals(everything)
    seen = popular.recommend(users, k=10**6, filter_seen=False)
    assert seen.join(bought, on=["user_id", "item_id"], how="semi").height == bought.unique().height
    person, item = bought.row(-1)
    assert item not in popular.recommend(person, 10**6, history=[bought["item_id"][0]])["item_id"].to_list()
    assert item in popular.recommend(history=[bought["item_id"][0]], k=10**6)["item_id"].to_list()


def test_without_its_data_set_a_run_hides_what_it_learned_from(
    tiny_run: Path, opened: OpenRun, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(tiny_run, tmp_path / "run")
    recipe = tmp_path / "run" / "recipe.toml"
    recipe.write_text(recipe.read_text().replace(opened.folder.recipe.data.path, str(tmp_path / "gone")))
    moved = forwhy.open(tmp_path / "run")
    users = moved.recommender.served()
    assert "lists leave out only what people took in training" in caplog.text
    assert moved.recommend(users, k=10**6).height > opened.recommend(users, k=10**6).height
