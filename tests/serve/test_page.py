"""The page in a real browser over a real service: by mouse and by keyboard, wide and narrow, light and dark."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

for needed in ("fastapi", "alembic", "playwright.sync_api"):
    pytest.importorskip(needed)

from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright  # noqa: E402

from forwhy.data.dataset import Dataset, make_dataset  # noqa: E402
from forwhy.recipe import load_recipe, run  # noqa: E402

pytestmark = pytest.mark.slow

ASSETS = Path(__file__).parents[2] / "docs" / "assets"
AXE = Path(__file__).parent / "vendor" / "axe.min.js"
WIDTHS = (1400, 390)
EVIL = "<img src=x onerror=\"document.title='taken'\"> </script><script>document.title='taken'</script>"
ODD = "o'brien & <b>søn</b>"
VIEWS = (
    "/",
    "/words",
    "/words?view=map",
    "/test?text=fresh+fish+and+quiet+mornings",
    "/items",
    "/runs",
    "/experiments",
)
VIEWS += ("/events", "/docs", "/runs/at/all")


class Served:
    """The service as a process of its own, on a port that stays."""

    def __init__(self, folder: Path, place: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.database = f"sqlite:///{place / 'serve.db'}"
        self.log, self.folder = place / "log", folder
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "forwhy", "serve", str(self.folder), "--port", str(self.port)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--database", self.database], stdout=log, stderr=subprocess.STDOUT
            )
        for _ in range(600):
            if self.process.poll() is not None:
                pytest.fail(f"the service ended {self.process.returncode}: {self.log.read_text()[-2000:]}")
            try:
                urllib.request.urlopen(f"{self.url}/ready", timeout=1).close()
                return
            except OSError:
                time.sleep(0.1)
        pytest.fail("the service was not ready within a minute")

    def kill(self, how: int = signal.SIGKILL) -> None:
        self.process.send_signal(how)
        self.process.wait(20)

    def ask(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(
            f"{self.url}{path}", data, {"content-type": "application/json"}, method=method
        )
        with urllib.request.urlopen(asked, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text else None


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
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no Chromium on this machine (apt-get install chromium)")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield found
        found.close()


Opener = Callable[..., Page]


@pytest.fixture
def opener(browser: Browser, served: Served) -> Iterator[Opener]:
    """Opens a path; at the end nothing left the origin, nothing broke the policy, nothing failed in the page."""
    contexts: list[BrowserContext] = []
    elsewhere: list[str] = []
    failed: list[str] = []

    def opened(path: str, width: int = 1400, scheme: str = "light", of: Served = served) -> Page:
        size: Any = {"width": width, "height": 900}
        context = browser.new_context(viewport=size, color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
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
        expect(page.locator("h1")).to_be_visible()
        return page

    yield opened
    for context in contexts:
        context.close()
    assert (elsewhere, failed) == ([], [])


def someone(served: Served) -> str:
    return next(
        one["id"]
        for one in served.ask("GET", "/v1/users")["users"]
        if one["id"].isascii() and "'" not in one["id"]
    )


def fits(page: Page) -> bool:
    """Whether nothing sticks out to the right."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


def reason_ended(page: Page) -> None:
    expect(page.locator(".written")).to_be_visible(timeout=60_000)


# --- a person, and steering


@pytest.mark.parametrize("width", WIDTHS)
def test_a_person_by_mouse(opener: Opener, served: Served, width: int) -> None:
    user = someone(served)
    page = opener("/", width)
    page.get_by_label("Find a person").fill(user)
    page.get_by_role("link", name=re.compile(re.escape(user))).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(user)
    expect(page.locator(".chip")).not_to_have_count(0)
    expect(page.locator(".suggestion")).to_have_count(10)
    reason_ended(page)
    assert page.locator(".legend li").count() > 0
    assert page.locator(".history a").count() > 0
    assert fits(page)
    page.locator(".suggestion").nth(2).get_by_role("button", name="Why?").click()
    reason_ended(page)
    assert "item=" in page.url
    page.get_by_role("button", name="Helpful").click()
    expect(page.get_by_text("Kept, thank you.")).to_be_visible()
    assert fits(page)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_person_by_keyboard(opener: Opener, served: Served, width: int) -> None:
    user = someone(served)
    page = opener("/words", width)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.goto(f"{served.url}/")
    expect(page.locator(".row").first).to_be_visible()
    page.keyboard.press("/")
    page.keyboard.type(user)
    expect(page.locator(".row")).to_have_count(1)
    page.keyboard.press("ArrowDown")
    expect(page.locator(".row")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    expect(page.locator(".suggestion")).to_have_count(10)
    page.locator(".suggestion-head").first.focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator(".suggestion-head").nth(1)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(".suggestion-head").nth(1)).to_have_attribute("aria-expanded", "true")
    reason_ended(page)
    page.locator(".chip-main").first.focus()
    page.keyboard.press("Enter")
    expect(page.locator(".side.after .compact-row").first).to_be_visible()
    page.go_back()
    expect(page.locator(".suggestion")).to_have_count(10)


@pytest.mark.parametrize("width", WIDTHS)
def test_steering(opener: Opener, served: Served, width: int) -> None:
    user = someone(served)
    page = opener(f"/people/{user}", width)
    page.locator(".chip-main").first.click()
    expect(page.locator(".side .compact-row").first).to_be_visible()
    expect(page.locator(".side")).to_have_count(2)
    expect(page.locator(".side-why .sentence")).to_have_count(2)
    expect(page.locator(".chip-main").first).to_have_attribute("aria-pressed", "false")
    assert "without=" in page.url
    assert fits(page)
    page.get_by_role("button", name="Let the model say it, too").click()
    expect(page.locator(".side-why .written")).to_have_count(2, timeout=60_000)
    page.get_by_role("button", name=re.compile("^Swap")).nth(1).click()
    page.locator(".choice").first.click()
    expect(page.locator(".chip.swapped")).to_have_count(1)
    assert "swap=" in page.url
    shared = page.url
    again = opener(shared.removeprefix(served.url), width)
    expect(again.locator(".chip.swapped")).to_have_count(1)
    expect(again.locator(".side .compact-row").first).to_be_visible()
    again.locator(".side.after .compact-row").nth(3).click()
    expect(again.locator(".side.after .compact-row").nth(3)).to_have_attribute("aria-pressed", "true")
    again.get_by_role("button", name="Put everything back").click()
    expect(again.locator(".suggestion")).to_have_count(10)


def test_who_leaves_stops_the_writing(opener: Opener, served: Served) -> None:
    page = opener("/")
    stopped: list[str] = []
    page.on("requestfailed", lambda asked: stopped.append(asked.url))
    page.route("**/v1/explain", lambda route: None)  # it never answers
    with page.expect_request("**/v1/explain"):
        page.locator(".row").nth(1).click()
    page.get_by_role("link", name="Runs").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Runs")
    page.wait_for_timeout(300)
    assert [url.rsplit("/", 1)[-1] for url in stopped] == ["explain"]


# --- words


@pytest.mark.parametrize("width", WIDTHS)
def test_words(opener: Opener, served: Served, width: int) -> None:
    page = opener("/words", width)
    expect(page.locator("table.words tbody tr").first).to_be_visible()
    phrase = page.locator("table.words tbody th a").nth(3).inner_text()
    page.get_by_label("Find a word").fill(phrase)
    expect(page.locator("table.words tbody th a").first).to_contain_text(phrase)
    assert "q=" in page.url
    page.get_by_label("Question").select_option("stock")
    page.get_by_role("button", name="Map").click()
    expect(page.locator(".map-small").first).to_be_visible()
    page.locator(".map-small").first.click()
    expect(page.locator(".map-one circle").first).to_be_visible()
    before = page.locator(".map-one").get_attribute("viewBox")
    page.get_by_role("button", name="Come nearer").click()
    assert page.locator(".map-one").get_attribute("viewBox") != before
    assert fits(page)
    page.goto(f"{served.url}/words")
    page.get_by_role("button", name="A word by chance").click()
    expect(page.get_by_text("What it stands for")).to_be_visible()


def test_one_word(opener: Opener, served: Served) -> None:
    token = served.ask("GET", "/v1/words?limit=1")["words"][0]["token"]
    page = opener(f"/words/{token.strip('<>')}", 390)
    expect(page.locator(".facts")).to_contain_text(token.strip("<>"))
    expect(page.locator(".chips .chip").first).to_be_visible()
    page.get_by_label("A better name").fill("what we call it")
    page.get_by_role("button", name="Rename").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("What we call it")
    expect(page.locator(".renamed")).to_contain_text("by this machine")
    with page.expect_download() as got:
        page.get_by_role("link", name="Owners as CSV").click()
    assert Path(got.value.path()).read_text().startswith("id,title")
    assert fits(page)


def test_words_light_up(opener: Opener, served: Served) -> None:
    page = opener("/test")
    page.get_by_label("In their own words").fill("Quiet mornings with fresh fish.")
    expect(page.locator(".chip.lit").first).to_be_visible()
    expect(page.locator(".suggestion").first).to_be_visible()
    title = served.ask("GET", "/v1/items?limit=9")["items"][5]["title"]
    page.get_by_label("What they took, one a line").fill(f"{title}\nno such thing")
    expect(page.get_by_text("Nothing here is called “no such thing”")).to_be_visible()
    assert "history=" in page.url
    page.locator(".suggestion").first.get_by_role("button").click()
    reason_ended(page)


# --- what else is served


def test_items_runs_and_experiments(opener: Opener, served: Served) -> None:
    arm = {"run": "run", "share": 0.5}
    served.ask("PUT", "/v1/experiments/first", {"arms": {"a": arm, "b": arm}})
    for user in [one["id"] for one in served.ask("GET", "/v1/users?limit=12")["users"]]:
        shown = served.ask("POST", "/v1/recommend", {"user": user, "k": 3})
        served.ask("POST", "/v1/feedback", {"impression": shown["impression"], "kind": "clicked"})
    page = opener("/experiments")
    expect(page.locator(".chart .rate")).to_have_count(2)
    expect(page.locator("table.arms tbody tr")).to_have_count(2)
    served.ask("DELETE", "/v1/experiments/first")
    page.get_by_role("link", name="Items", exact=True).click()
    page.locator(".row").nth(2).click()
    expect(page.locator(".similar li").first).to_be_visible()
    page.get_by_role("link", name="Runs").click()
    expect(page.locator("table.books tbody tr").first).to_be_visible()
    page.get_by_role("button", name="Report").click()
    expect(page.locator(".report .mistake, .report iframe").first).to_be_visible()


def test_events_come_back_after_the_service_was_killed(
    opener: Opener, hostile_run: Path, tmp_path: Path
) -> None:
    own = Served(hostile_run, tmp_path)
    try:
        page = opener("/events", of=own)
        expect(page.locator(".state.on")).to_be_visible()
        item = own.ask("GET", "/v1/items?limit=1")["items"][0]["id"]
        page.get_by_label("Person").fill("somebody-new")
        page.get_by_label("Took").fill(item)
        page.get_by_role("button", name="Send").click()
        expect(page.locator(".events li")).to_have_count(1)
        own.kill()
        expect(page.get_by_text("Connection lost")).to_be_visible()
        own.start()
        own.ask("POST", "/v1/events", {"key": "late", "user": "late-comer", "item": item})
        expect(page.get_by_text("Listening again")).to_be_visible()
        expect(page.locator(".events li")).to_have_count(2)
        page.get_by_role("link", name="late-comer").click()
        expect(page.get_by_text("New since training")).to_be_visible()
    finally:
        own.kill()


def test_what_others_wrote_is_text(opener: Opener, served: Served, tiny_town: Dataset) -> None:
    item = str(tiny_town.tables["items"]["item_id"][0])
    page = opener(f"/items/{item}")
    expect(page.get_by_role("heading", level=1)).to_contain_text("<img src=x")
    served.ask("PUT", "/v1/items/evil", {"title": EVIL, "text": EVIL})
    page.goto(f"{served.url}/items/evil")
    expect(page.locator(".item-text")).to_contain_text("</script>")
    reviewer = str(tiny_town.tables["reviews"]["user_id"][0])
    for path in (
        f"/people/{reviewer}?item={item}",
        "/people/o'brien%20&%20%3Cb%3Es%C3%B8n%3C%2Fb%3E",
        "/words?q=img",
    ):
        page.goto(f"{served.url}{path}")
        expect(page.locator("h1")).to_be_visible()
        page.wait_for_timeout(1500)
        assert page.title().endswith("forwhy")
        assert page.locator("main img, main script, main b").count() == 0
        if path.startswith(f"/people/{reviewer}"):
            expect(page.locator(".evidence")).to_contain_text("<img src=x")
    expect(page.locator("table.words")).to_contain_text("<img src=x")


def test_a_key_is_asked_for(opener: Opener, hostile_run: Path, tmp_path: Path) -> None:
    own = Served(hostile_run, tmp_path)
    try:
        made = subprocess.run(
            [
                sys.executable,
                "-m",
                "forwhy",
                "serve",
                "keys",
                "add",
                "eve",
                "--role",
                "read",
                "--database",
                own.database,
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        key = re.search(r"fw_\S+", made.stdout + made.stderr)
        assert key is not None
        time.sleep(6)  # for so long the service remembers that there were none
        page = opener("/words", of=own)
        expect(page.get_by_role("heading", level=1)).to_have_text("A key, please")
        page.get_by_label("Key").fill("fw_wrong")
        page.get_by_role("button", name="Go on").click()
        expect(page.get_by_text("unknown or revoked")).to_be_visible()
        page.get_by_label("Key").fill(key[0])
        page.get_by_role("button", name="Go on").click()
        expect(page.locator("table.words tbody tr").first).to_be_visible()
        page.locator("table.words tbody th a").first.click()
        expect(page.get_by_text("What it stands for")).to_be_visible()
        assert page.get_by_role("button", name="Rename").count() == 0
        with page.expect_download() as got:
            page.get_by_role("link", name="Owners as CSV").click()
        assert Path(got.value.path()).read_text().startswith("id,title")
    finally:
        own.kill()


def test_mistakes_say_what_helps(opener: Opener, hostile_run: Path, tmp_path: Path) -> None:
    own = Served(hostile_run, tmp_path)
    try:
        page = opener("/people/nobody-at-all", of=own)
        expect(page.locator(".mistake")).to_contain_text("neither training nor an event knows them")
        page.goto(f"{own.url}/words?q=zzzzzz")
        expect(page.get_by_text("No word says that")).to_be_visible()
    finally:
        own.kill()
    page.get_by_role("link", name="Items", exact=True).click()
    expect(page.locator(".mistake")).to_contain_text("What helps")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_everybody_can_use_it(opener: Opener, served: Served, width: int, scheme: str) -> None:
    user = someone(served)
    token = served.ask("GET", "/v1/words?limit=1")["words"][0]["token"].strip("<>")
    chip = served.ask("GET", f"/v1/users/{user}")["tokens"][0]["token"]
    steered = f"/people/{user}?without={urllib.request.quote(chip)}"
    page = opener(f"/people/{user}", width, scheme)
    reason_ended(page)
    found = serious(page)
    for path in (steered, f"/words/{token}", "/words?view=map&book=user_macro", *VIEWS):
        page.goto(f"{served.url}{path}")
        expect(page.locator("h1")).to_be_visible()
        expect(page.locator(".waiting")).to_have_count(0)
        found += serious(page)
        assert fits(page), path
    assert "\n".join(found) == ""


def serious(page: Page) -> list[str]:
    """What axe-core finds that shuts somebody out."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{page.url}: {one['id']}: {one['nodes'][0]['html'][:200]} {one['nodes'][0]['failureSummary'][:300]}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]


def test_colours_can_be_chosen(opener: Opener) -> None:
    page = opener("/")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.get_by_role("button", name="Colours").click()
    assert page.evaluate(ground) != light
    page.reload()
    expect(page.get_by_role("button", name="Colours: dark")).to_be_visible()
    assert page.evaluate(ground) != light


# --- what is shipped and shown


def test_the_wheel_carries_the_page(tmp_path: Path) -> None:
    wheel = pytest.importorskip("hatchling.builders.wheel")
    from zipfile import ZipFile

    root = Path(__file__).parents[2]
    (built,) = wheel.WheelBuilder(str(root)).build(directory=str(tmp_path), versions=["standard"])
    page = root / "src" / "forwhy" / "serve" / "page"
    wanted = {
        f"forwhy/serve/page/{it.relative_to(page).as_posix()}" for it in page.rglob("*") if it.is_file()
    }
    with ZipFile(built) as found:
        assert wanted <= set(found.namelist())
    assert len(wanted) > 20


@pytest.mark.skipif(
    os.environ.get("FORWHY_WRITE_DOCS") != "1", reason="FORWHY_WRITE_DOCS=1 writes docs/assets/serve-*.png"
)
def test_screenshots(opener: Opener, tmp_path: Path) -> None:
    """Of the demo's town: FORWHY_DOCS_RUN names its run folder, demo/run if left out."""
    own = Served(Path(os.environ.get("FORWHY_DOCS_RUN", "demo/run")), tmp_path)
    try:
        user = someone(own)
        fine = own.ask("GET", f"/v1/users/{user}")["tokens"][-1]["token"]
        books = {word["book"]: None for word in own.ask("GET", "/v1/words?limit=1000")["words"]}
        book = next(it for it in books if it.startswith("user"))
        quoted = urllib.request.quote
        shots = {
            "person": (f"/people/{user}", ".written", 1000),
            "steer": (f"/people/{user}?without={quoted(fine)}", ".side-why", 1200),
            "words": (f"/words?view=map&book={book}", ".map-one text", 1000),
            "test": (
                "/test?text=" + quoted("I like black-and-white films, and a good espresso before noon."),
                ".suggestion",
                1000,
            ),
        }
        for name, (path, there, high) in shots.items():
            shoot(opener(path, 1200, of=own), name, there, high)
        shoot(opener(f"/people/{user}", 390, "dark", of=own), "phone", ".written", 844)
    finally:
        own.kill()


def shoot(page: Page, name: str, there: str, high: int) -> None:
    expect(page.locator(there).first).to_be_visible(timeout=60_000)
    page.set_viewport_size({"width": page.viewport_size["width"], "height": high})  # type: ignore[index]
    page.wait_for_timeout(500)
    file = ASSETS / f"serve-{name}.png"
    page.screenshot(path=file)
    assert file.stat().st_size < 200_000
