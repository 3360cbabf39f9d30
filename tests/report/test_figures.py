"""Drawings: the same bytes for the same numbers, colours of the page, and words for those who cannot see them."""

import re
from dataclasses import replace

import pytest

from forwhy.evaluate.compare import Scored
from forwhy.evaluate.document import Examined
from forwhy.report import figures
from forwhy.report.drawing import Panel

Two = tuple[Examined, Scored]


def every_panel(runs: list[Examined]) -> list[Panel]:
    return [
        *figures.interval_panels(runs),
        *figures.gain_panel(runs),
        *figures.curve_panels(runs),
        *figures.usage_panels(runs),
    ]


@pytest.fixture(scope="module")
def panels(good: Two, bad: Two) -> list[Panel]:
    return every_panel([good[0], bad[0]])


def test_equal_numbers_give_equal_bytes(good: Two, bad: Two, panels: list[Panel]) -> None:
    assert every_panel([good[0], bad[0]]) == panels
    assert len({panel.svg for panel in panels}) == len(panels)


def test_colours_are_those_of_the_page(panels: list[Panel]) -> None:
    for panel in panels:
        assert "var(--run0)" in panel.svg
        assert "#0" not in panel.svg, "no stand-in is left"


def test_words_say_what_is_drawn(good: Two, panels: list[Panel]) -> None:
    said = {panel.title: panel.words for panel in panels}
    assert said["Nats per token, by side"].startswith(
        "all right, item: 0.080 [0.060, 0.100]; all right, user: "
    )
    assert "all right: 3 of 4 words in use, the fullest fills 69%" in said["user macro"]
    assert "over 8 steps" in said["Explainer: NLL on validation pairs, nats per token"]


def test_what_was_not_measured_is_not_drawn(good: Two) -> None:
    assert every_panel([Examined("bare", {})]) == []
    assert figures.usage_panels([replace(good[0], usage={})]) == []


def test_what_says_no_more_than_its_numbers_is_not_drawn(bad: Two) -> None:
    run = bad[0]
    curves = {panel.title for panel in figures.curve_panels([run])}
    assert curves == {"Explainer: NLL on validation pairs, nats per token"}, (
        "the others have one or two points"
    )
    flat = [{"stage": "explainer", "step": n, "valid": {"nll": 3 + n / 1000}} for n in range(5)]
    assert figures.curve_panels([replace(run, history=flat)]) == []
    alone = replace(run, document={**run.document, "controls": {}})
    assert len(figures.interval_panels([run])) > len(figures.interval_panels([alone])) == 0


def test_books_of_all_sizes_lie_on_one_scale(good: Two) -> None:
    def paths(*books: list[int]) -> list[list[float]]:
        runs = [replace(good[0], name=str(n), usage={"book": book}) for n, book in enumerate(books)]
        (panel,) = figures.usage_panels(runs)
        drawn = re.findall(r'<path d="([^"]*)"[^>]*var\(--run\d\)', panel.svg)
        return [[float(value) for value in re.findall(r"[\d.]+", line)] for line in drawn]

    even_small, even_large = paths([5] * 4, [700] * 64)
    assert set(even_small[1::2]) == set(even_large[1::2]), (
        "even use is one height, whatever the size and the counts"
    )
    assert max(even_small[::2]) - min(even_small[::2]) > 0.7 * (max(even_large[::2]) - min(even_large[::2]))
