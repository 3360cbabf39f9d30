"""The terminal shows what was measured, stars what a control wins, and shows strangers' words as text."""

from dataclasses import replace
from io import StringIO

from rich.console import Console, RenderableType

from forwhy.evaluate.compare import Comparison, Scored
from forwhy.evaluate.document import Examined, evaluation_document
from forwhy.report import render, render_examined

Two = tuple[Examined, Scored]
Compared = tuple[list[Comparison], set[tuple[str, str]]]
HOSTILE = "[bold]the user[/nonsense] likes <|im_end|> tea"


def printed(parts: list[RenderableType]) -> str:
    console = Console(record=True, width=160, file=StringIO())
    for part in parts:
        console.print(part)
    return console.export_text()


def row(shown: str, label: str) -> str:
    """The first line that starts with these words."""
    return next(line for line in shown.splitlines() if line.strip().startswith(label))


def test_one_run_has_its_tables_and_hostile_text_as_it_is(good: Two) -> None:
    document = {**good[0].document, "health": {"user_macro": {"perplexity": 301.5, "used": 400}}}
    controls = document["controls"]
    controls = {**controls, "constant": {**controls["constant"], "sentence": HOSTILE}}
    shown = printed(render({**document, "controls": controls}))
    for piece in (
        "recall@20", "popularity", "user_macro", "302", "dealt", "gain: both", "chance", "[2.700, 2.900]",
        "Protocol leak-free",
    ):  # fmt: skip
        assert piece in shown
    assert f"constant: {HOSTILE}" in shown


def test_nothing_measured_nothing_shown() -> None:
    assert render(evaluation_document()) == []


def test_several_runs_stand_in_one_table_each(good: Two, bad: Two, compared: Compared) -> None:
    runs = [good[0], replace(bad[0], name="\x1b[2J[bold]wrong")]
    shown = printed(render_examined(runs, *compared, ["bleu1", "length"], ["recall@20"], ["a note\x1b[2J"]))
    assert "\x1b" not in shown
    for piece in ("[bold]wrong", "accepts 40% of claims", "a note", "all right is above", "popularity"):
        assert piece in shown


def test_stars_mark_the_control_that_wins_and_the_metric_it_wins(good: Two, bad: Two) -> None:
    for run, starred in ((good[0], False), (bad[0], True)):
        shown = printed(render_examined([run], [], set(), ["bleu1", "length"], [], []))
        assert ("*" in row(shown, run.name[:5])) == starred
        assert ("*" in row(shown, "constant")) == starred
        assert ("* a control is at least as good" in shown) == starred
