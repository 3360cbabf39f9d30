"""Every block of every page is run as it is printed, or says why not; what a page shows is what comes out."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import random
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import tomli_w
from pydantic import BaseModel

from documents import DOCUMENTS, ROOT, Block, Shell, blocks_of
from fake_llm import FakeLLM, Response, completion, serving
from forwhy.data.dataset import Dataset, make_dataset
from forwhy.data.sample import little_town
from forwhy.models import cache_folder
from forwhy.options import inner_model
from forwhy.recipe import RunFolder
from forwhy.systems import find_system
from forwhy.wheels import PACKAGED, state
from ports import free_port

USERS, ITEMS = 40, 30
ITEM_IDS = [9, 12, 17, 41, 57, 233, *range(300, 324)]
"""Of the town's places; the pages name the first ones."""
REASONS = ("a GPU", "a server", "a database", "an account", "part of a file", "tests/")
"""What a block that is not run may need, or the test that runs it elsewhere."""
MOST_LEFT = 12
EVENING = ROOT / "docs" / "evening.md"
BECAUSE = "forwhy run recipes/because.toml --set data.path=out/mine --out runs/mine"
PREPARED = (
    BECAUSE,
    "forwhy run recipes/xrec-yelp-xrec.toml --set data.path=out/mine --out runs/other",
    "forwhy data import lcrec ../shared/data/amazon-beauty out/beauty",
    "forwhy run recipes/amazon-beauty.toml --out runs/beauty",
    "python docs/shop.py shop",
    "forwhy data import tables out/shop --interactions shop/orders.csv --items shop/products.csv"
    " --reviews shop/reviews.csv",
    "forwhy run recipes/shop.toml --out runs/shop",
)
"""What a reader of a page has done before."""
STAND_INS: Mapping[str, str] = {
    # A file of orders alone would leave the rest of the page without texts; the data set is there.
    "import tables --interactions ratings.csv --map interactions.user_id=customer --out": "show",
    # Its recipe names the real models; the first evening runs such a one.
    "forwhy run recipe.toml --out runs/mine": BECAUSE,
    "--trials 30": "--trials 2",
    "--bertscore minilm": "",
    # A run that is finished trains nothing, so it has nothing to track.
    "--out runs/mine --track tensorboard": "--out runs/tracked --track tensorboard",
    "tensorboard --logdir runs/mine/tensorboard": "ls runs/tracked/tensorboard",
    "push runs/mine me/model --private": "push runs/mine me/model --dry-run runs/again",
    "forwhy recommend me/model": "forwhy recommend runs/pushed",
    "export lcrec out/mine": "export lcrec out/beauty",
    "--index runs/llm-bs/index": "--index runs/beauty/index",
}
"""What a page prints -> what a test runs in its place: without network, a large model or an account."""
SMALL: Mapping[str, Any] = {
    "encoder": {"name": "hash"},
    "vocabulary": {
        "codes": 64,
        "text_first": 3,
        "slot_dim": 2,
        "text_dims": 4,
        "epochs": 1,
        "batch_size": 256,
        "text_batch": 16,
    },
    "collaborative": {"dims": 8, "epochs": 1},
    "explainer": {
        "epochs": 1,
        "train_pairs": 16,
        "validation_pairs": 4,
        "evaluate_every": 0,
        "batch_size": 8,
        "describe": 4,
        "prompt": {"instruction": "Say why.", "task_tokens": 2},
        "generation": {"max_new_tokens": 8, "max_words": 8},
    },
    "behaviour": {"dims": 8, "epochs": 1},
    "index": {"width": 4},
    "recommender": {
        "epochs": 1,
        "dims": 8,
        "layers": 1,
        "heads": 2,
        "beam": 8,
        "batch_size": 64,
        "backbone": {"layers": 1, "dims": 32, "heads": 2, "feedforward": 32, "text_tokens": 300},
        "annealing": {"epochs": 1},
    },
    "evaluation": {"pairs": 4, "generate": 4, "shuffled_users": 4},
}
"""What recipes are made of here: small models, and one look at the data."""


def shrunk(kind: type[BaseModel], section: Mapping[str, Any], small: Mapping[str, Any]) -> dict[str, Any]:
    """A section with the small values of what its model has."""
    found = dict(section)
    for key, value in small.items():
        field = kind.model_fields.get(key)
        if field is None:
            continue
        usual = field.get_default(call_default_factory=True)
        named = (
            {"network": getattr(usual, "network", None)} | found.get(key, {})
            if isinstance(value, dict)
            else {}
        )
        below = inner_model(field.annotation, named)
        if below is None:
            found[key] = value
        elif isinstance(value, dict):
            found[key] = shrunk(below, found.get(key, {}), value)
    return found


def small_recipe(values: dict[str, Any], model: Path) -> dict[str, Any]:
    """A recipe, or a table of them, whose trainings take a second."""
    if "rows" in values:
        for name, row in values["rows"].items():
            kind = find_system(row.get("system", "beat"))
            own = {key: SMALL[key] for key in row if key in SMALL}
            if "vocabulary" in row:  # without some of its words there is no place for those of text
                own["vocabulary"] = {**SMALL["vocabulary"], "text_first": 0}
            row = values["rows"][name] = shrunk(kind, row, own)
            if "model" in row.get("explainer", {}):
                row["explainer"]["model"] = str(model)
        return values
    values = shrunk(find_system(values.get("system", "beat")), values, SMALL)
    if "explainer" in values:
        values["explainer"]["model"] = str(model)
    if (backbone := values.get("recommender", {}).get("backbone", {})).get("name", "scratch") != "scratch":
        backbone["name"] = str(model)
    return values


def write_lcrec(folder: Path) -> None:
    """A trio of LC-Rec's layout, under the path at which the pages expect the published one."""
    folder.mkdir(parents=True)
    chance = random.Random(0)
    histories = {str(user): [chance.randrange(60) for _ in range(8)] for user in range(USERS)}
    histories["0"] = list(range(60))
    facts = {
        str(item): {"title": f"Soap {item}", "description": "It smells of oranges"} for item in range(60)
    }
    (folder / "Beauty.inter.json").write_text(json.dumps(histories))
    (folder / "Beauty.item.json").write_text(json.dumps(facts))


def write_raw_reviews(folder: Path) -> None:
    """Amazon's files, dense enough for a 5-core."""
    said = ("The glaze is smooth and the handle is sturdy.", "I like the fresh scent of oranges.")
    rows = [
        {"rating": 5.0, "title": "Good", "text": said[(user + item) % 2], "parent_asin": f"B{item}", "asin": f"B{item}",
         "user_id": f"A{user}", "timestamp": 1_588_687_728_923 + 1000 * user + item}
        for user in range(7) for item in range(7)
    ]  # fmt: skip
    facts = [{"parent_asin": f"B{item}", "title": f"Soap {item}", "description": []} for item in range(7)]
    for name, lines in (("All_Beauty", rows), ("meta_All_Beauty", facts)):
        with gzip.open(folder / f"{name}.jsonl.gz", "wt") as file:
            file.writelines(f"{json.dumps(line)}\n" for line in lines)


def write_tables(folder: Path, town: Dataset) -> None:
    """The files that the pages call a reader's own."""
    taken, items = town.tables["interactions"], town.tables["items"]
    taken.select(customer="user_id", product="item_id").unique(maintain_order=True).write_csv(
        folder / "ratings.csv"
    )
    items.select(sku="item_id", label="title").write_ndjson(folder / "products.jsonl")
    town.tables["explanations"].select("user_id", "item_id", "text", "split").write_csv(
        folder / "reasons.csv"
    )
    texts = town.tables["explanations"].filter(pl.col("split") == "test")
    theirs = texts.select("user_id", "item_id", prediction="text", reference="text")
    theirs.write_csv(folder / "theirs.csv")
    for name in ("tst_pred", "tst_ref"):
        (folder / f"{name}.pkl").write_bytes(pickle.dumps(texts["text"].to_list()))


def numbered(town: Dataset) -> Dataset:
    """The town with whole numbers as ids: people from 0, places as the pages call them."""
    users = {name: number for number, name in enumerate(town.users.values)}
    items = dict(zip(town.items.values, ITEM_IDS, strict=True))
    tables = {}
    for name, table in town.tables.items():
        columns = {
            column: pl.col(column).replace_strict(ids, return_dtype=pl.Int64)
            for column, ids in (("user_id", users), ("item_id", items))
            if column in table.columns
        }
        if "entity_id" in table.columns:
            both = {**users, **items}
            columns["entity_id"] = pl.col("entity_id").replace_strict(both, return_dtype=pl.Int64)
        tables[name] = table.with_columns(**columns)
    return make_dataset("mine", tables)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """What a reader of the pages has: own files, recipes with small models, a data set and a run of it."""
    folder = tmp_path_factory.mktemp("docs") / "world"
    town = numbered(little_town(users=USERS, items=ITEMS, visits=8, explanations=(60, 10, 10)))
    town.save(folder / "out" / "mine")
    write_tables(folder, town)
    write_raw_reviews(folder)
    for name in ("amazon-beauty", "amazon-industrial"):
        write_lcrec(folder.parent / "shared" / "data" / name)
    (folder / "recipes").mkdir()
    for recipe in sorted((ROOT / "recipes").glob("*.toml")):
        values = small_recipe(tomllib.loads(recipe.read_text(encoding="utf-8")), tiny_model)
        (folder / "recipes" / recipe.name).write_text(tomli_w.dumps(values))
    (folder / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "shop.py", folder / "docs")
    shell = Shell(folder, {})
    for line in PREPARED:
        shell.run(line)
    return folder


class Page(Shell):
    """A shell whose words are those of a small run: `<u.micro_35>` is one that person 17 has."""

    def put(self, text: str) -> str:
        """As printed, but for what stands in."""
        text = super().put(text)
        if "<u.micro_35>" in text:
            words = RunFolder.open(self.folder / "runs" / "mine").vocabulary()
            person = words.catalogue.users.index(17)
            own = words.names_of("user", words.codes["user"][person])
            text = text.replace("<u.micro_35>", next(name for name in own if name.startswith("<u.micro_")))
        return text


RUN_PAGES = [page for page in DOCUMENTS if page != EVENING and page.name != "CONTRIBUTING.md"]


@pytest.mark.parametrize("page", RUN_PAGES, ids=[str(page.relative_to(ROOT)) for page in RUN_PAGES])
def test_page_runs(page: Path, world: Path, tmp_path: Path) -> None:
    """Every block of a page, in order: commands, Python with one set of names, TOML and JSON lines that parse."""
    blocks = list(blocks_of(page))
    shutil.copytree(world.parent, tmp_path / "all")
    with serving(FakeLLM()) as server:
        server.behave = explained
        shell = Page(tmp_path / "all" / world.name, {**STAND_INS, "http://127.0.0.1:8000/v1": server.url})
        for block in blocks:
            if block.why_not is None:
                RUN[block.language](shell, block)


SERVED = "tests/test_docs.py serves it"


def test_the_service_answers_as_its_page_says(world: Path, tmp_path: Path) -> None:
    """Every request of docs/serving.md, in order, to the service over three runs; an answer of 4xx or 5xx fails."""
    pytest.importorskip("fastapi")
    if shutil.which("curl") is None:
        pytest.skip("no curl on this machine")
    folder = tmp_path / "all" / world.name
    shutil.copytree(world.parent, tmp_path / "all")
    for name in ("a", "b"):
        shutil.copytree(folder / "runs" / "mine", folder / "runs" / name)
    place = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "forwhy", "serve", "runs/mine", "runs/a", "runs/b", "--port", place[10:]]
    lines = [
        line
        for block in blocks_of(ROOT / "docs" / "serving.md")
        for line in block.lines()
        if block.why_not == SERVED and not line.startswith(("pip", "forwhy serve runs"))
    ]
    shell = Page(
        folder, {"localhost:8000": place, "curl -": "curl --fail-with-body -", "<u.micro_3>": "<u.micro_35>"}
    )
    with subprocess.Popen(command, cwd=folder) as service:
        try:
            subprocess.run(
                [
                    "curl",
                    "-s",
                    "--retry",
                    "60",
                    "--retry-delay",
                    "1",
                    "--retry-connrefused",
                    f"{place}/ready",
                ],
                check=True,
            )
            for line in lines:
                shell.run(line)
        finally:
            service.terminate()
    assert service.returncode == -signal.SIGTERM  # after what was open had ended
    assert len(lines) > 15


def explained(_: FakeLLM, text: str) -> Response:
    """An explanation, to whatever is asked."""
    return completion(json.dumps({"explanation": "The user would enjoy the smooth glaze."}))


RUN: Mapping[str, Callable[[Shell, Block], object]] = {
    "bash": lambda shell, block: [shell.run(line) for line in block.lines()],
    "python": lambda shell, block: shell.python(block.text),
    "toml": lambda shell, block: tomllib.loads(block.text),
    "jsonl": lambda shell, block: [json.loads(line) for line in block.text.splitlines()],
    "tsv": lambda shell, block: pl.read_csv(block.text.encode(), separator="\t"),
    "text": lambda shell, block: None,
    "": lambda shell, block: None,
}
"""Language of a block -> how it is tried; a language that is not here fails."""


def test_what_is_not_run_says_why() -> None:
    """Few blocks are left out, each for a reason that is known."""
    left = [(page.name, block.why_not) for page in DOCUMENTS for block in blocks_of(page) if block.why_not]
    assert [(page, why) for page, why in left if not any(why.startswith(reason) for reason in REASONS)] == []
    assert sum(not why.startswith("tests/") for _, why in left) <= MOST_LEFT


def test_stand_ins_are_printed() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in DOCUMENTS)
    assert [printed for printed in STAND_INS if printed not in text] == []


# --- the first evening, as it is


@pytest.fixture(scope="module")
def shop(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first evening as the page prints it, with the real encoder of texts."""
    if state(PACKAGED["minilm"], cache_folder()) != "ready":
        pytest.skip("minilm is not at hand: make setup")
    folder = tmp_path_factory.mktemp("evening")
    shutil.copytree(ROOT / "recipes", folder / "recipes")
    (folder / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "shop.py", folder / "docs")
    return folder


def masked(text: str) -> list[str]:
    """Words alone: numbers, units of time and lines of tables depend on the machine."""
    return re.findall(r"[A-Za-z][A-Za-z-]{4,}", text)


def shown(text: str) -> str:
    """Text as a reader compares it: spaces at the ends of lines do not show."""
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines())


def test_evening(shop: Path) -> None:
    """Each command of the first evening runs, and prints what stands below it."""
    shell, compared = Shell(shop, {}), []
    for block in blocks_of(EVENING):
        assert block.why_not is None
        if block.language == "bash":
            printed = "".join(map(shell.run, block.lines()))
            if "data import" in block.text:
                printed = shell.told + printed  # which columns were taken
        elif block.language == "text":
            compared.append((block, shown(printed)))
    if os.environ.get("FORWHY_WRITE_DOCS"):
        EVENING.write_text(rewritten(EVENING.read_text(encoding="utf-8"), compared), encoding="utf-8")
        return
    assert len(compared) >= 6
    for block, now in compared:
        read = masked if block.numbers_differ else shown
        assert read(block.text) == read(now)


def rewritten(text: str, compared: list[tuple[Block, str]]) -> str:
    """The page with what came out now."""
    for block, now in reversed(compared):
        text = f"{text[: block.start]}{now}\n{text[block.end :]}"
    return text
