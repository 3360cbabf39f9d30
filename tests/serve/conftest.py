"""An empty database of each kind, its tables made."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

pytest.importorskip("alembic")

from forwhy.data.dataset import Dataset, make_dataset  # noqa: E402
from forwhy.recipe import RunFolder, default_recipe, load_recipe, run  # noqa: E402
from forwhy.serve.database import Database  # noqa: E402
from postgres import Server, new_url  # noqa: E402
from served import EVIL, ODD, Opener, Served  # noqa: E402


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    found = Server("-c fsync=off")
    yield found
    found.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    return new_url(request.param, request)


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    with Database(url) as opened:
        opened.upgrade()
        yield opened


# --- finished runs, and the service over them


@pytest.fixture(scope="session")
def town_run(tiny_recipe: Path) -> Path:
    """A finished run of because over the little town; its model writes word by word. Tests do not change it."""
    folder = tiny_recipe.parent / "runs" / "town"
    run(
        load_recipe(
            tiny_recipe,
            [
                "system=because",
                "explainer.grounding=off",
                *(f"explainer.generation.max_{it}=24" for it in ("new_tokens", "words")),
            ],
        ),
        folder,
    )
    return folder


@pytest.fixture(scope="session")
def plain_run(tiny_recipe: Path) -> Path:
    """A finished run without words and without a model."""
    folder = tiny_recipe.parent / "runs" / "plain"
    RunFolder(folder).start(default_recipe("popularity", tiny_recipe.parent / "town"))
    (folder / "state.json").write_text('{"stages": {}}')  # it has no stage to finish
    return folder


@pytest.fixture
def copied_run(town_run: Path, tmp_path: Path) -> Path:
    """The run where a test may change it."""
    return Path(shutil.copytree(town_run, tmp_path / "runs" / "town"))


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def talk(
    request: pytest.FixtureRequest, town_run: Path, plain_run: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[object]:
    """A service over a database of each kind; every module has its own, and tests in it their own people."""
    pytest.importorskip("fastapi")
    from fastapi.testclient import TestClient

    from forwhy.serve.app import create_app
    from talking import Talk

    lite = f"sqlite:///{tmp_path_factory.mktemp('served')}/serve.db"
    with (
        Database(lite if request.param == "sqlite" else new_url("postgresql", request)) as opened,
        TestClient(create_app([town_run, plain_run], opened), raise_server_exceptions=False) as client,
    ):
        yield Talk(client)


# --- the page in a browser


@pytest.fixture(scope="session")
def hostile_run(tiny_recipe: Path, tiny_town: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The town after somebody wrote markup into a title, a review, a phrase and a name."""
    tables = {name: frame.clone() for name, frame in tiny_town.tables.items()}
    user = tables["interactions"]["user_id"][0]
    tables = {
        name: frame.with_columns(pl.col(column).replace(user, ODD))
        for name, frame in tables.items()
        for column in [next((it for it in ("user_id", "entity_id") if it in frame.columns), "item_id")]
    }
    first = pl.when(pl.int_range(pl.len()) == 0).then(pl.lit(EVIL)).otherwise(pl.col("title"))
    usual = tables["intents"]["phrase"].value_counts(sort=True)["phrase"][0]
    tables["items"] = tables["items"].with_columns(first.alias("title"))
    tables["reviews"] = tables["reviews"].with_columns(pl.lit(EVIL).alias("text"))
    tables["intents"] = tables["intents"].with_columns(pl.col("phrase").replace(usual, EVIL))
    place = tmp_path_factory.mktemp("hostile")
    make_dataset("hostile", tables, duplicates="keep").save(place / "town")
    run(load_recipe(tiny_recipe, [f"data.path={place / 'town'}", "system=because"]), place / "run")
    return place / "run"


@pytest.fixture(scope="session")
def served(hostile_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    found = Served(hostile_run, tmp_path_factory.mktemp("served"))
    yield found
    found.kill(signal.SIGTERM)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no Chromium on this machine (apt-get install chromium)")
    with api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def opener(browser: Any, served: Served) -> Iterator[Opener]:  # noqa: ANN401 - a `Browser`
    """Opens a path; at the end nothing left the origin, nothing broke the policy, nothing failed in the page."""
    contexts: list[Any] = []
    elsewhere: list[str] = []
    failed: list[str] = []

    def opened(path: str, width: int = 1400, scheme: str = "light", of: Served = served) -> Any:  # noqa: ANN401 - a `Page`
        size: Any = {"width": width, "height": 900}
        context = browser.new_context(viewport=size, color_scheme=scheme, reduced_motion="reduce")
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on(
            "request",
            lambda asked: asked.url.startswith((of.url, "blob:", "data:")) or elsewhere.append(asked.url),
        )
        page.on("pageerror", lambda error: failed.append(str(error)))
        page.on(
            "console",
            lambda said: failed.append(said.text) if "Content Security Policy" in said.text else None,
        )
        page.goto(f"{of.url}{path}")
        page.locator("h1").wait_for()
        return page

    yield opened
    for context in contexts:
        context.close()
    assert (elsewhere, failed) == ([], [])
