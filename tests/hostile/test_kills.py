"""Whatever moment a command is killed at: run again it ends as if nothing had happened, and leaves nothing behind."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from forwhy.cli import main
from forwhy.data.dataset import Dataset, make_dataset
from forwhy.data.sample import little_town
from killing import Ended, Killer, contents, left_behind

KILLED = -9
MANY = 6
"""Chains of kills of a command that takes no time."""
CHAIN = 4
"""Kills of one command before it is let to its end: each begins on what the one before left."""


@dataclass(frozen=True)
class Scenario:
    """A command, and what has to be there before it."""

    words: Sequence[str]
    before: Sequence[Sequence[str]] = ()
    """Commands that are not killed."""
    chains: int = 1
    moments: int = 1
    """Kills at a random moment, after which it is let to its end."""


NETWORK = (
    "recommender.dims=8", "recommender.epochs=3", "recommender.batch_size=32", "recommender.device=cpu",
    "recommender.window=6",
)  # fmt: skip
DECODER = (
    "encoder.name=hash", "index.width=8", "recommender.epochs=2", "recommender.batch_size=16", "recommender.beam=8",
    "recommender.device=cpu",
)  # fmt: skip
LAYERS = (
    "recommender.backbone={layers=1, dims=32, heads=2, feedforward=32, text_tokens=300}",
    "behaviour={dims=8, epochs=2}",
)


def fit(system: str, *options: str, base: str = "popularity.toml") -> list[str]:
    """`forwhy run` of a system on the town."""
    sets = [f"system={system}", "data.path=SOURCE/ring", *options]
    return ["run", base, "--out", "out", *(word for it in sets for word in ("--set", it))]


def named(system: str, *options: str) -> Scenario:
    return Scenario(fit(system, *options))


def explained(system: str, *options: str, base: str = "tiny.toml") -> Scenario:
    """`forwhy run` of an explainer on the town."""
    sets = [f"system={system}", *options]
    return Scenario(["run", base, "--out", "out", *(word for it in sets for word in ("--set", it))])


TABLES = ["data", "import", "tables", "--interactions", "raw/interactions.csv", "--items", "raw/items.csv"]
MINE = ["mine", "intents", "town", "--extractive", "--out", "out"]
OUTPUTS = ["evaluate", "--outputs", "raw/outputs.csv", "--encoder", "hash", "--report", "out/page.html"]
BAKED = [*explained("beat", "explainer.preset=baked").words, "--until", "explainer"]
SCENARIOS = {
    "import": Scenario([*TABLES, "--out", "out"], chains=MANY),
    "import over an older one": Scenario(
        [*TABLES, "--out", "out", "--duplicates", "first"], [["data", "import", "lcrec", "raw/Toys", "out"]], MANY
    ),
    "import lcrec": Scenario(["data", "import", "lcrec", "raw/Toys", "out"], chains=MANY),
    "index": Scenario(
        ["indices", "build", "town", "--source", "random", "--out", "out/Town.index.json"], chains=MANY
    ),
    "popularity": Scenario(fit("popularity"), chains=MANY),
    "item-knn": Scenario(fit("item-knn"), chains=MANY),
    "content-knn": named("content-knn", "encoder.name=hash"),
    **{name: named(name, *NETWORK) for name in ("sasrec", "gru4rec", "caser", "hgn", "bert4rec", "fdsa", "s3-rec")},
    "din": named("din", "recommender.dims=8", "recommender.epochs=2", "recommender.batch_size=32"),
    "parallel": named("parallel", "encoder.name=hash", *NETWORK[1:]),
    "hybrid": named("hybrid", "encoder.name=hash"),
    "llm-bs": Scenario(fit("llm-bs", *DECODER, *LAYERS)),
    "tiger": named("tiger", *DECODER),
    "letter": named("letter", *DECODER, "behaviour={dims=8, epochs=2}"),
    "p5-cid": named("p5-cid", *DECODER, LAYERS[0]),
    "lc-rec": named("lc-rec", *DECODER, LAYERS[0]),
    **{name: explained(name) for name in ("beat", "because", "graphgpt", "tea-glm", "time-llm")},
    **{name: explained(name, base="no-words.toml") for name in ("xrec", "pepler")},
    **{name: explained(name, base="by-number.toml") for name in ("att2seq", "nrt", "peter")},
    "xrec-profile": explained("xrec-profile", "data.path=SOURCE/profiled", base="no-words.toml"),
    "peter-plus": explained("peter-plus", "data.path=SOURCE/profiled", base="by-number.toml"),
    "evaluate again": Scenario(["evaluate", "out", "--again"], [fit("item-knn")], MANY),
    "report of a run": Scenario(["evaluate", "out", "--report", "out.html"], [fit("popularity")], MANY),
    "report of texts": Scenario(OUTPUTS, chains=MANY),
    "bake": Scenario(["bake", "out", "--out", "model", "--examples", "2"], [BAKED]),
    "explain many": Scenario(["explain", "out", "--pairs", "raw/pairs.csv", "--out", "texts"], [fit("popularity")]),
    "export": Scenario(["export", "out", "--out", "vectors"], [fit("sasrec", *NETWORK)]),
    "mine extractive": Scenario(MINE, chains=MANY),
    "mine in place": Scenario(["mine", "profiles", "out", "--extractive"], [MINE], MANY),
}  # fmt: skip


@pytest.fixture(scope="module")
def killer() -> Iterator[Killer]:
    with Killer({"HF_HUB_OFFLINE": "1"}) as made:
        yield made


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, tiny_recipe: Path) -> Path:
    """What commands read: data sets, raw files, recipes."""
    folder = tmp_path_factory.mktemp("source")
    town = little_town(users=30, items=20, visits=8, explanations=(24, 6, 6))
    town.save(folder / "town")
    town.save(folder / "profiled")
    with pytest.raises(SystemExit, match="0"):
        main(["mine", "profiles", str(folder / "profiled"), "--extractive"])
    ring().save(folder / "ring")
    raw(folder / "raw", town)
    text = tiny_recipe.read_text()
    (folder / "tiny.toml").write_text(text)
    without = section(text, "vocabulary")
    (folder / "no-words.toml").write_text(without)
    small = (
        '[explainer]\nepochs = 2\ntrain_pairs = 16\nvalidation_pairs = 4\nbatch_size = 8\ndevice = "cpu"\n\n'
    )
    (folder / "by-number.toml").write_text(
        section(without, "explainer").replace("[evaluation]", small + "[evaluation]")
    )
    return folder


def section(text: str, name: str) -> str:
    """A recipe without one of its sections."""
    return re.sub(rf"(?ms)^\[{name}\]\n.*?(?=^\[)", "", text)


def ring(people: int = 24, items: int = 10, length: int = 6) -> Dataset:
    """People who take item after item around a ring; the last two are left out."""
    splits = ["train"] * (length - 2) + ["valid", "test"]
    rows = [
        (f"u{user}", f"i{(user + step) % items}", step, splits[step])
        for user in range(people)
        for step in range(length)
    ]
    columns = ["user_id", "item_id", "timestamp", "split"]
    titles = pl.DataFrame(
        [(f"i{item}", f"thing {item}") for item in range(items)], ["item_id", "title"], orient="row"
    )
    interactions = pl.DataFrame(rows, columns, orient="row")
    return make_dataset("ring", {"interactions": interactions, "items": titles}, duplicates="keep")


def raw(folder: Path, town: Dataset) -> None:
    """The town as somebody's files."""
    toys = folder / "Toys"
    toys.mkdir(parents=True)
    town.tables["interactions"].write_csv(folder / "interactions.csv")
    town.tables["items"].write_csv(folder / "items.csv")
    histories = {str(user): [(user + step) % 9 for step in range(5)] for user in range(8)}
    (toys / "Toys.inter.json").write_text(json.dumps(histories))
    (folder / "pairs.csv").write_text("user_id,item_id\nu1,i1\nu2,i5\nu3,i7\n")
    lines = [f'"text {number}","truth {number}"' for number in range(12)]
    (folder / "outputs.csv").write_text("\n".join(["prediction,reference", *lines]))


def told_where(words: Sequence[str], source: Path) -> list[str]:
    """A recipe keeps where its data are, so that they are the same for all."""
    return [word.replace("SOURCE", str(source)) for word in words]


def copy(source: Path, place: Path) -> Path:
    shutil.copytree(source, place)
    return place


def ended_well(ended: Ended) -> Ended:
    assert ended.status == 0, ended.told[-2000:]
    return ended


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_killed_command_run_again_ends_as_if_undisturbed(
    name: str, killer: Killer, source: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    scenario, draw = SCENARIOS[name], random.Random(name)  # noqa: S311 - the same kills every time
    command = told_where(scenario.words, source)
    ready = copy(source, tmp_path / "ready")
    for words in scenario.before:
        ended_well(killer.run(told_where(words, source), ready))
    whole = copy(ready, tmp_path / "whole")
    calls = ended_well(killer.run(command, whole)).calls
    wanted = contents(whole)
    kills = 0
    for chain in range(scenario.chains):
        place = copy(ready, tmp_path / f"chain{chain}")
        for _ in range(CHAIN):
            kills += killer.run(command, place, at=draw.randint(1, calls)).status == KILLED
        ended_well(killer.run(command, place))
        assert contents(place) == wanted
        assert left_behind(place) == []
    for moment in range(scenario.moments):
        place = copy(ready, tmp_path / f"moment{moment}")
        kills += killer.run(command, place, after=draw.uniform(0.0, 0.6)).status == KILLED
        ended_well(killer.run(command, place))
        assert contents(place) == wanted
    assert kills >= scenario.chains
    record_property("kills", kills)
