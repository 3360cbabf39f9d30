"""Drawings: the same bytes for the same numbers, colours of the page, and words for those who cannot see them."""

from dataclasses import replace

import pytest

from forwhy.evaluate.compare import Scored
from forwhy.evaluate.document import Examined
from forwhy.report import figures
from forwhy.report.figures import Panel

Two = tuple[Examined, Scored]


def every_panel(runs: list[Examined]) -> list[Panel]:
    return [
        *figures.interval_panels(runs),
        *figures.gain_panel(runs),
        *figures.distribution_panels(runs),
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
