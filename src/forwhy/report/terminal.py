"""Tables of evaluations for a terminal; names and sentences in them are strangers' words, and never markup."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import rich.table
from rich import box
from rich.console import Group, RenderableType
from rich.text import Text

from forwhy.evaluate.compare import LEVEL, Comparison
from forwhy.evaluate.document import Examined, protocol_in_words
from forwhy.report import tables
from forwhy.report.tables import SHOWN_TEXT, Cell, Table, TableRow, shown_ranking
from forwhy.report.writing import clean

RANKED = {"beat": "behaviour tokens", "xrec": "graph vectors"}
"""System -> what ranks the catalogue, where it is a part of the system."""
BEATEN = "* a control is at least as good"
FILLED = "; one with a text for fewer pairs gives the constant to the others"


def render(document: Mapping[str, Any]) -> list[RenderableType]:
    """One run's own evaluation; what was not measured is left out."""
    run = Examined("forwhy", document)
    system: str = run.protocol.get("system", "beat")
    ranked = replace(run, name=RANKED.get(system, system))
    ranking = [metric for metric in shown_ranking([document]) if metric in run.ranking]
    return [
        *_drawn(tables.ranking_table([ranked], ranking)),
        *_drawn(tables.order_table([ranked])),
        *_drawn(tables.health_table([ranked])),
        *_drawn(tables.text_table([run], [metric for metric in SHOWN_TEXT if metric in run.text]), FILLED),
        *_lines(_constants([run])),
        *_drawn(tables.group_table([run])),
        *_drawn(tables.gain_table([run])),
        *_drawn(tables.grounding_table([run])),
        *_drawn(tables.choice_table([run])),
        *_drawn(tables.profile_table([run])),
        *_drawn(tables.retrieval_table([replace(run, name="macro words")])),
        *_drawn(tables.words_table([replace(run, name="words")])),
        *_lines(protocol_in_words(run.protocol)),
    ]


def render_examined(
    examined: Sequence[Examined],
    comparisons: Sequence[Comparison],
    bold: Collection[tuple[str, str]],
    metrics: Sequence[str],
    ranking: Sequence[str],
    notes: Sequence[str],
) -> list[RenderableType]:
    """Tables of several runs, then what survives and the notes; a star marks a control that is at least as good."""
    return [
        *_drawn(tables.text_table(examined, metrics, bold), FILLED),
        *_drawn(tables.ranking_table(examined, ranking, bold)),
        *_drawn(tables.gain_table(examined)),
        *_drawn(tables.grounding_table(examined)),
        *_drawn(tables.choice_table(examined)),
        *_lines(_constants(examined)),
        *_lines(_survivors(comparisons), style=""),
        *_lines(notes),
    ]


def _drawn(table: Table | None, more: str = "") -> list[RenderableType]:
    """The table, what its stars mean, and its notes; `more` is said with the stars."""
    if table is None:
        return []
    title, lines = _plain(table.caption), box.HORIZONTALS
    drawn = rich.table.Table(title=title, title_justify="left", box=lines, padding=(0, 1, 0, 0))
    drawn.add_column("", no_wrap=True)
    for column in table.columns:
        drawn.add_column(column, justify="right", overflow="fold")
    starred = False
    for run, *below in _blocks(table.rows):
        wins = [any(row.cells[at].mark for row in below) for at, _ in enumerate(run.cells)]
        starred = starred or any(wins)
        drawn.add_row(_plain(run.label), *map(_shown, run.cells, wins))
        for row in below:
            shown = [_shown(cell, bool(cell.mark)) for cell in row.cells]
            drawn.add_row(_plain(f"  {row.label}"), *shown, style="dim" if run.cells else "")
        if below:
            drawn.add_section()
    notes = [f"{', '.join(names)}: {words}" if names else words for names, words in table.notes]
    return [Group(drawn, *_lines([BEATEN + more] * starred + notes))]


def _blocks(rows: Sequence[TableRow]) -> Iterator[list[TableRow]]:
    starts = [at for at, row in enumerate(rows) if row.run is not None]
    for start, end in zip(starts, [*starts[1:], len(rows)], strict=True):
        yield list(rows[start:end])


def _shown(cell: Cell, starred: bool) -> Text:
    if cell.value is None or isinstance(cell.value, str):
        return Text("-" if cell.value is None else cell.value)
    shown = f"{_number(cell.value)}{'*' * starred}"
    if cell.interval is not None:
        low, high = cell.interval
        shown += f"\n[{_number(low, 3)}, {_number(high, 3)}]"
    return Text(shown, style="bold" if cell.bold else "")


def _number(value: float, digits: int = 4) -> str:
    """Shares with their digits, larger numbers with one."""
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.{digits}f}"


def _constants(runs: Sequence[Examined]) -> list[str]:
    controls = [(name, it.get("sentence")) for run in runs for name, it in run.controls.items()]
    return list(dict.fromkeys(f"{name}: {sentence}" for name, sentence in controls if sentence is not None))


def _survivors(comparisons: Sequence[Comparison]) -> list[str]:
    if not comparisons:
        return []
    found = [_in_words(one) for one in comparisons if one.p_holm <= LEVEL]
    return ["Beyond chance:", *found] if found else ["No difference survives the correction."]


def _in_words(one: Comparison) -> str:
    first, second = (one.a, one.b) if one.difference.mean > 0 else (one.b, one.a)
    mean, low, high = one.difference
    ends = ", ".join(map(_number, (low, high) if mean > 0 else (-high, -low)))
    by = f"by {_number(abs(mean))} [{ends}] on {one.pairs:,} (p {one.p_holm:.2g}, effect {abs(one.effect):.2f})"
    return f"  {one.metric}: {first} is above {second} {by}"


def _lines(lines: Iterable[str], style: str = "dim") -> list[RenderableType]:
    shown = [_plain(line).plain for line in lines]
    return [Text("\n".join(shown), style=style)] if shown else []


def _plain(text: str) -> Text:
    """One line without control characters; `Text`, as a bracket in a string would open a markup tag."""
    return Text(clean(text).replace("\n", " "))
