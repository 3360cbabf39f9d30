"""What is kept, replaced, counted and asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from forwhy.data.dataset import Dataset
from forwhy.data.sample import little_town
from forwhy.errors import UserError
from forwhy.text.chat.answers import KeptAnswers
from forwhy.text.mining.language import LanguageMiner
from forwhy.text.mining.mine import mine
from forwhy.text.mining.stage import MiningConfig

Script = Callable[..., Any]


def test_a_second_run_asks_nothing_twice(canaries: Dataset, script: Script, tmp_path: Path) -> None:
    first, second = script(), script()
    config = MiningConfig(kind="profiles")
    found = []
    for chat in (first, second):
        with KeptAnswers(tmp_path / "replies.jsonl") as cache:
            found.append(mine(canaries, config, LanguageMiner(chat, cache)).dataset)
    assert first.asked
    assert second.asked == []
    assert found[0].fingerprint == found[1].fingerprint != canaries.fingerprint


def test_what_fails_is_counted_and_the_rest_kept(canaries: Dataset, script: Script) -> None:
    def answer(question: Any) -> str:  # noqa: ANN401
        kept = "canary-reviews-d-" not in question.messages[1].content
        return '{"preferences": ["good tea"]}' if kept else "I would rather not."

    chat = script(answer)
    with KeptAnswers(None) as cache:
        found = mine(canaries, MiningConfig(kind="intents", side="user"), LanguageMiner(chat, cache, asks=2))
    (stage,) = found.stages
    assert (stage["subjects"], stage["mined"], stage["failed"]) == (5, 4, {"malformed": 1})
    assert stage["examples"] == [{"user": "d", "reason": "malformed"}]
    assert set(found.dataset.phrases("user")) == {0, 1, 2, 4}
    assert len(chat.asked) == 4 + 2
    assert "d" not in set(found.dataset.tables["mined"]["entity_id"])


def test_nothing_mined_at_all_is_an_error(canaries: Dataset, script: Script) -> None:
    with (
        KeptAnswers(None) as cache,
        pytest.raises(UserError, match="nothing was mined .all failed: 5 malformed"),
    ):
        mine(canaries, MiningConfig(kind="intents", side="user"), LanguageMiner(script("no"), cache))


def test_rows_about_others_stay_as_they_were(script: Script) -> None:
    town = little_town(users=20, items=20, visits=6, explanations=(40, 4, 4))
    with KeptAnswers(None) as cache:
        after = mine(town, MiningConfig(kind="intents", limit=3), LanguageMiner(script(), cache)).dataset
    before = town.tables["intents"]
    about = after.tables["mined"].select("side", "entity_id")
    assert about.height == 6
    others = after.tables["intents"].join(about, on=["side", "entity_id"], how="anti")
    assert others.equals(before.join(about, on=["side", "entity_id"], how="anti", maintain_order="left"))
    ours = after.tables["intents"].join(about, on=["side", "entity_id"])
    assert ours.select("rank", "phrase").unique().sort("rank").rows() == [(1, "quiet rooms"), (2, "good tea")]
    same = {name: frame for name, frame in after.tables.items() if name not in ("intents", "mined")}
    assert all(frame.equals(town.tables[name]) for name, frame in same.items())


def test_a_data_set_with_mined_tables_is_saved_and_loaded(
    canaries: Dataset, script: Script, tmp_path: Path
) -> None:
    with KeptAnswers(None) as cache:
        after = mine(canaries, MiningConfig(kind="explanations"), LanguageMiner(script(), cache)).dataset
    after.save(tmp_path / "d")
    back = Dataset.load(tmp_path / "d")
    assert back.fingerprint == after.fingerprint
    assert back.source["mined"] == after.source["mined"]
    assert back.tables["mined"].equals(after.tables["mined"])


def test_a_larger_limit_holds_the_smaller_one(canaries: Dataset, script: Script) -> None:
    town = little_town(users=20, items=20, visits=6, explanations=(40, 4, 4))
    about = []
    for limit in (2, 5, None):
        with KeptAnswers(None) as cache:
            config = MiningConfig(kind="profiles", side="user", limit=limit, seed=7)
            after = mine(town, config, LanguageMiner(script(), cache)).dataset
        about.append(set(after.tables["mined"]["entity_id"]))
    assert len(about[0]) == 2
    assert len(about[1]) == 5
    assert about[0] < about[1] < about[2]


def test_a_sample_of_reviews_depends_on_the_seed_and_nobody_else(script: Script) -> None:
    town = little_town(users=20, items=20, visits=8, explanations=(120, 4, 4))

    def read(**options: Any) -> dict[str, str]:  # noqa: ANN401
        config = MiningConfig(kind="intents", side="item", reviews=2, **options)
        with KeptAnswers(None) as cache:
            rows = mine(town, config, LanguageMiner(script(), cache)).dataset.tables["mined"]
        return dict(zip(rows["entity_id"], rows["sources"], strict=True))

    whole, some, other = read(), read(limit=6), read(seed=1)
    assert some.items() <= whole.items()
    assert whole != other
    assert max(text.count('", "') + 1 for text in whole.values()) == 2


def test_one_explanation_for_a_pair_with_two_reviews(canaries: Dataset, script: Script) -> None:
    more = pl.DataFrame({"user_id": ["e", "f"], "item_id": ["p", "q"], "text": ["again", "never came"]})
    doubled = canaries.derive(
        {**canaries.tables, "reviews": pl.concat([canaries.tables["reviews"], more])}, {}
    )
    chat = script()
    with KeptAnswers(None) as cache:
        (stage,) = mine(doubled, MiningConfig(kind="explanations"), LanguageMiner(chat, cache)).stages
    assert stage["skipped"] == {"no interaction": 1, "withheld": 1, "further reviews": 1}
    assert not any("again</review>" in asked.messages[1].content for asked in chat.asked)


def test_explanations_of_a_data_set_that_had_none_make_its_held_out_pairs(script: Script) -> None:
    visits = pl.DataFrame(
        {"user_id": ["a", "a", "b"], "item_id": ["p", "q", "p"], "split": ["train", "test", "valid"]}
    )
    reviews = visits.select("user_id", "item_id", pl.lit("fine").alias("text"))
    from forwhy.data.dataset import make_dataset

    raw = make_dataset("raw", {"interactions": visits, "reviews": reviews}, {"split": {"interactions": "x"}})
    with KeptAnswers(None) as cache:
        after = mine(raw, MiningConfig(kind="explanations"), LanguageMiner(script(), cache)).dataset
    assert after.summary()["explanations"] == {"train": 1, "valid": 1, "test": 1}
    assert after.source["split"] == {"interactions": "x", "explanations": "that of their interaction"}
    assert after.training_reviews().texts == raw.training_reviews().texts
