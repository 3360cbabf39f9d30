"""The page in a real browser over a real service: by mouse and by keyboard, wide and narrow."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

for needed in ("fastapi", "alembic", "playwright.sync_api"):
    pytest.importorskip(needed)

from playwright.sync_api import expect  # noqa: E402

from served import WIDTHS, Opener, Served, fits, reason_ended, someone  # noqa: E402

expect.set_options(timeout=30_000)  # of a busy machine

pytestmark = pytest.mark.slow


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
