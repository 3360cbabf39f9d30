"""Progress shows itself on stderr only, says how long is left, and changes nothing."""

import io
import sys
from types import ModuleType, SimpleNamespace

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


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """A stand-in for IPython in a kernel: what each cell output has shown, the latest last."""
    cells: list[list[str]] = []

    def display(html: str, display_id: bool) -> SimpleNamespace:
        assert display_id
        cells.append([html])
        return SimpleNamespace(update=cells[-1].append)

    top, inner = ModuleType("IPython"), ModuleType("IPython.display")
    top.get_ipython = lambda: SimpleNamespace(kernel=object())  # type: ignore[attr-defined]
    inner.display, inner.HTML = display, str  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", top)
    monkeypatch.setitem(sys.modules, "IPython.display", inner)
    return cells


def test_a_notebook_shows_bars(
    clock_: Clock, notebook: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Each bar is one output that changes; texts are escaped, and nothing goes to stderr."""
    with Progress("reading <b>", 1_000) as bar:
        clock_.now += 10.0
        bar.advance(500, note="loss <1")
        assert list(track(range(2), "inner")) == [0, 1]
        bar.advance(500)
    assert capsys.readouterr() == ("", "")
    outer, inner = notebook
    assert outer[0].startswith('<div>reading &lt;b&gt; <progress value="0" max="1000">')
    assert "500/1,000 · 10s left · loss &lt;1" in outer[1]
    assert 'value="1000"' in outer[-1]
    assert 'value="2" max="2"' in inner[-1]


def test_a_notebook_does_not_know_the_end_of_everything(notebook: list[list[str]]) -> None:
    assert list(track(iter("ab"), "reading")) == ["a", "b"]
    assert all("<progress></progress>" in shown for shown in notebook[0])


def test_ipython_in_a_terminal_is_no_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    shell = ModuleType("IPython")
    shell.get_ipython = lambda: SimpleNamespace()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", shell)
    assert not progress.in_notebook()
