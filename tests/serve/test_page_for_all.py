"""The page for everybody: hostile texts, keys, mistakes, what axe-core finds; what is shipped and shown of it."""

from __future__ import annotations

import json
import os
import urllib.request
from pathlib import Path

import pytest

for needed in ("fastapi", "alembic", "playwright.sync_api"):
    pytest.importorskip(needed)

import polars as pl  # noqa: E402
from playwright.sync_api import Page, expect  # noqa: E402

from forwhy.data.dataset import Dataset, make_dataset  # noqa: E402
from forwhy.recipe import load_recipe, run  # noqa: E402
from served import EVIL, Opener, Served, fits, reason_ended, someone  # noqa: E402

expect.set_options(timeout=30_000)  # of a busy machine

pytestmark = pytest.mark.slow

ASSETS = Path(__file__).parents[2] / "docs" / "assets"
AXE = Path(__file__).parent / "vendor" / "axe.min.js"
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
        key = own.add_key()
        page = opener("/words", of=own)
        expect(page.get_by_role("heading", level=1)).to_have_text("A key, please")
        page.get_by_label("Key").fill("fw_wrong")
        page.get_by_role("button", name="Go on").click()
        expect(page.get_by_text("unknown or revoked")).to_be_visible()
        page.get_by_label("Key").fill(key)
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


def sent(*events: tuple[str, object]) -> str:
    """As server-sent events."""
    return "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in events)


def test_claims_are_marked_by_what_backs_them(opener: Opener, served: Served) -> None:
    text = "You like fish, and the chairs are soft, and it flies."
    claims = [
        {"text": "You like fish", "evidence": ["u1"], "support": 0.9},
        {"text": "the chairs are soft", "evidence": ["i1"], "support": 0.5},
        {"text": "it flies", "evidence": [], "support": 0.0},
        {"text": "not in the text", "evidence": [], "support": 0.0},
    ]
    known = {"source": "review", "about": "a", "support": 0.5}
    statements = [
        {"id": "u1", "side": "user", "text": "fish", **known},
        {"id": "i1", "side": "item", "text": "soft chairs", **known},
    ]
    shares = [
        {"user": "<u.macro_1>", "item": "<i.macro_1>", "contribution": 0.5, "share": 1.25},
        {"user": "<u.macro_2>", "item": "<i.macro_2>", "contribution": -0.1, "share": -0.25},
    ]
    because = {"kind": "words", "score": 0.4, "shares": shares, "items": [], "rest": 0.0}
    told = {"id": "x", "text": text, "claims": claims, "because": because, "tokens": []}
    evidence = {"items": [], "phrases": [], "statements": statements}
    begun = [
        ("because", {"because": because, "tokens": []}),
        ("evidence", evidence),
        ("words", {"text": text}),
    ]
    page = opener("/")
    whole = sent(*begun, ("claims", {**told, "evidence": evidence}), ("end", {"written": "model"}))
    broken = sent(*begun[:2], ("problem", {"title": "Not possible", "detail": "no words; train again"}))
    answers = iter([whole, broken, sent(*begun)])
    page.route(
        "**/v1/explain",
        lambda route: route.fulfill(content_type="text/event-stream", body=next(answers)),
    )
    page.locator(".row").nth(2).click()
    for kind, marked in (
        ("backed", "You like fish1"),
        ("partly", "the chairs are soft2"),
        ("unbacked", "it flies?"),
    ):
        expect(page.locator(f".sentence .{kind}")).to_have_text(marked)
    expect(page.locator(".against")).to_have_count(1)
    page.locator(".suggestion-head").nth(1).click()
    expect(page.locator(".suggestion .mistake")).to_contain_text("What helps: train again")
    page.locator(".suggestion-head").nth(2).click()  # cut off before its end
    expect(page.locator(".suggestion .mistake")).to_contain_text("The service does not answer")


def test_what_is_typed_stays_while_answers_come(opener: Opener, served: Served) -> None:
    page = opener("/")
    user = someone(served)
    slow = lambda route: (page.wait_for_timeout(250), route.continue_())  # noqa: E731
    page.route("**/v1/users?**", slow)
    page.get_by_label("Find a person").press_sequentially(user, delay=110)
    expect(page.get_by_label("Find a person")).to_have_value(user)
    expect(page.locator(".row")).to_have_count(1)


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


def test_a_run_without_words_promises_none(opener: Opener, tmp_path: Path) -> None:
    rows = [
        (f"ann {user}", f"i{(user * 3 + step) % 20}", step, split)
        for user in range(30)
        for step, split in enumerate(["train"] * 6 + ["valid", "test"])
    ]
    took = pl.DataFrame(rows, ["user_id", "item_id", "timestamp", "split"], orient="row")
    make_dataset("steps", {"interactions": took}).save(tmp_path / "data")
    recipe, folder = tmp_path / "hybrid.toml", tmp_path / "hybrid"
    recipe.write_text(
        f"""
        name = "hybrid"
        system = "hybrid"
        data = {{ path = "{tmp_path / "data"}" }}
        behaviour = {{ epochs = 1 }}
        mixture = {{ experts = ["sasrec", "item-knn"] }}
        """
    )
    run(load_recipe(recipe), folder, until="mixture")
    own = Served(folder, tmp_path)
    try:
        user = someone(own)
        page = opener(f"/people/{user}", of=own)
        expect(page.locator(".experts")).to_contain_text("what is taken together")
        expect(page.locator(".experts")).to_contain_text("the order of what they took")
        expect(page.locator("main")).not_to_contain_text("All in all")  # what is lost without each is no sum
        expect(page.get_by_role("link", name="Words", exact=True)).to_have_count(0)
        taken = page.locator(".history a").first
        title, address = taken.inner_text(), taken.get_attribute("href")
        for path in ("/", "/test", "/people/nobody-yet", str(address)):
            page.goto(f"{own.url}{path}")
            expect(page.locator("h1")).to_be_visible()
            expect(page.locator("main .waiting")).to_have_count(0)
            assert "words" not in page.locator("main").inner_text().casefold(), path
        page.goto(f"{own.url}/test")
        page.get_by_label("What they took").fill(title)
        expect(page.locator(".suggestion")).to_have_count(8)
    finally:
        own.kill()


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (390, "dark"), (1400, "dark")])
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
        books = [word["book"] for word in own.ask("GET", "/v1/words?limit=1000")["words"]]
        book = min((it for it in books if it.startswith("user")), key=lambda it: not it.endswith("macro"))
        quoted = urllib.request.quote
        shots = {
            "person": (f"/people/{user}", ".written", 1150),
            "steer": (f"/people/{user}?without={quoted(fine)}", ".side-why", 1320),
            "words": (f"/words?view=map&book={book}", ".map-one text", 1180),
            "test": (
                "/test?text=" + quoted("I like black-and-white films, and a good espresso before noon."),
                ".suggestion",
                1000,
            ),
        }
        for name, (path, there, high) in shots.items():
            shoot(opener(path, 1120, of=own), name, there, high)
        shoot(opener(f"/people/{user}", 390, "dark", of=own), "phone", ".written", 844)
    finally:
        own.kill()


def shoot(page: Page, name: str, there: str, high: int) -> None:
    expect(page.locator(there).first).to_be_visible(timeout=60_000)
    expect(page.locator(".waiting")).to_have_count(0)
    page.set_viewport_size({"width": page.viewport_size["width"], "height": high})  # type: ignore[index]
    page.wait_for_timeout(500)
    file = ASSETS / f"serve-{name}.png"
    page.screenshot(path=file)
    assert file.stat().st_size < 200_000
