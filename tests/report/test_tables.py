"""Each table is built once: its numbers are the documents', and the terminal and the page draw all of them.

Strangers' texts are cleaned, numbers and lists are written the short way.
"""

import re
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from forwhy.evaluate.compare import Comparison, Scored
from forwhy.evaluate.document import Examined
from forwhy.report import render, render_examined, tables, write_report
from forwhy.report.tables import SHOWN_TEXT, Table, shown_ranking, standing
from forwhy.report.writing import UNSHOWN, clean, number

Two = tuple[Examined, Scored]
Compared = tuple[list[Comparison], set[tuple[str, str]]]


def every_table(runs: list[Examined], comparisons: list[Comparison]) -> list[Table]:
    found = [
        tables.text_table(runs, SHOWN_TEXT),
        tables.group_table(runs),
        tables.ranking_table(runs, ["recall@20", "ndcg@20"]),
        tables.order_table(runs),
        tables.gain_table(runs),
        tables.grounding_table(runs),
        tables.retrieval_table(runs),
        tables.words_table(runs),
        tables.health_table(runs),
        tables.comparison_table(comparisons),
    ]
    assert None not in found
    return [table for table in found if table is not None]


@pytest.fixture(scope="module")
def whole(good: Two) -> Examined:
    """With everything that some system measures."""
    document = dict(good[0].document)
    document["order"] = {"given": document["ranking"], "shuffled": document["baselines"]["popularity"]}
    document["health"] = {"user_macro": {"perplexity": 301.5, "used": 400}}
    document["groups"] = {"unseen": {**document["text"], "pairs": 5, "users": 4, "training_texts": (0, 2)}}
    return Examined("whole", document)


@pytest.mark.parametrize(
    ("found", "stands"),
    [
        ({"rougeL": 0.3, "margin": {"intervals": {"rougeL": [0.1, 0.3]}}}, "below"),
        ({"rougeL": 0.51, "margin": {"intervals": {"rougeL": [-0.1, 0.1]}}}, "level"),
        ({"rougeL": 0.7, "margin": {"intervals": {"rougeL": [-0.3, -0.1]}}}, "above"),
        ({"rougeL": 0.5}, "level"),
    ],
)
def test_where_a_control_stands(found: dict, stands: str) -> None:
    assert standing({"rougeL": 0.5}, found, "rougeL") == stands


def test_rows_have_a_cell_for_each_column_or_are_headings(whole: Examined, compared: Compared) -> None:
    for table in every_table([whole], compared[0]):
        assert {len(row.cells) for row in table.rows} <= {0, len(table.columns)}
        assert table.rows[-1].cells


def test_cells_are_the_numbers_of_the_document(good: Two, bad: Two) -> None:
    runs = [good[0], bad[0]]
    table = tables.text_table(runs, ["bleu1", "length"], {("all right", "bleu1")})
    assert table is not None
    own = {row.run: row.cells for row in table.rows if row.run is not None}
    for position, run in enumerate(runs):
        pairs, bleu1, length = own[position]
        assert pairs.value == str(run.text["pairs"])
        assert (bleu1.value, length.value) == (run.text["bleu1"], run.text["length"])
        assert bleu1.interval == run.text["intervals"]["bleu1"]
        assert length.deviation == run.text["std"]["length"]
        assert bleu1.bold == (position == 0)
    marks = {row.label: [cell.mark for cell in row.cells] for row in table.rows[-2:]}
    assert marks["constant"][1:] == ["above", ""], "no control wins by length"


def test_a_run_without_a_part_has_no_row_and_no_other_colour(good: Two, whole: Examined) -> None:
    table = tables.group_table([Examined("bare", {}), whole])
    assert table is not None
    assert [row.run for row in table.rows] == [1, None]
    assert [cell.value for cell in table.rows[1].cells[:3]] == ["0 to 2", "4", "5"]
    assert tables.order_table([good[0]]) is None


def test_terminal_and_page_draw_every_cell(whole: Examined, compared: Compared, tmp_path: Path) -> None:
    console = Console(record=True, width=200, file=StringIO())
    ranking = shown_ranking([whole.document])
    for part in [*render(whole.document), *render_examined([whole], [], set(), SHOWN_TEXT, ranking, [])]:
        console.print(part)
    shown = console.export_text()
    write_report(tmp_path / "r.html", [whole], compared[0], set())
    page = re.sub("<[^>]*>", " ", (tmp_path / "r.html").read_text(encoding="utf-8"))
    for table in every_table([whole], compared[0])[:-1]:
        for row in table.rows:
            assert row.label in page
            for cell in row.cells:
                if isinstance(cell.value, float):
                    wanted = f"{cell.value:.1f}" if abs(cell.value) >= 10 else f"{cell.value:.4f}"
                    assert wanted in shown, (table.caption, row.label)
                    assert f"{cell.value:,.{cell.decimals}f}".replace("-", "\u2212") in page


@given(st.text())
def test_cleaning_leaves_nothing_to_clean_and_can_be_written(text: str) -> None:
    cleaned = clean(text)
    assert clean(cleaned) == cleaned
    assert not UNSHOWN.search(cleaned)
    cleaned.encode()


def test_lone_surrogates_are_replaced() -> None:
    assert clean("a\ud800b\r\nc\td") == "a\ufffdb\nc d"


def test_numbers_have_a_true_minus_and_none_is_a_dash() -> None:
    assert number(-0.5, 2) == "\u22120.50"
    assert number(0.5, 1, sign=True) == "+0.5"
    assert number(float("nan"), 2) == number(None, 2) == "\u2013"
