"""Progress shows itself on stderr only, says how long is left, and changes nothing."""

import io
import sys

import pytest

from forwhy import progress
from forwhy.progress import Progress, clock, track


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock_(monkeypatch: pytest.MonkeyPatch) -> Clock:
    fake = Clock()
    monkeypatch.setattr(progress, "time", fake)
    return fake


def test_plain_lines_come_every_fifteen_seconds(clock_: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    seen = []
    for number in track(range(10), "reading"):
        seen.append(number)
        clock_.now += 5.0
    out, err = capsys.readouterr()
    assert seen == list(range(10))
    assert out == ""
    assert err.splitlines() == [
        "reading: 3/10 · 35s left",
        "reading: 6/10 · 20s left",
        "reading: 9/10 · 5s left",
        "reading: 10/10 · took 50s",
    ]


def test_short_work_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track((letter for letter in "abc"), "reading")) == ["a", "b", "c"]
    assert capsys.readouterr() == ("", "")


def test_steps_of_an_earlier_run_do_not_count_as_speed(clock_: Clock) -> None:
    with Progress("training", 100, done=80) as bar:
        assert bar.seconds_left is None
        clock_.now += 10.0
        bar.advance(5, note="loss 1.0")
        assert bar.seconds_left == pytest.approx(30.0)
        bar.total = 90
        assert bar.seconds_left == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "?"), (0.4, "0s"), (59.6, "1m00s"), (185, "3m05s"), (7800, "2h10m")]
)
def test_clock(seconds: float | None, text: str) -> None:
    assert clock(seconds) == text


def test_bars_nest_on_a_terminal_and_markup_is_text(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(progress, "_DRAW_SECONDS", 0.0)
    for _ in track(range(2), "outer [red]"):
        assert list(track(range(3), "inner")) == [0, 1, 2]
    assert "outer [red]" in screen.getvalue()
    assert "inner" in screen.getvalue()
    assert progress._open_bars is None
