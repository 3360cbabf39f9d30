"""`forwhy explain RUN --user ID --item ID`: the sentence and what it rests on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forwhy.cli.console import JsonFlag, emit, one_of, plain, show

if TYPE_CHECKING:
    from rich.table import Table

    from forwhy.explain.base import Explainer
    from forwhy.explain.evidence import Explanation


def explain(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    item: Annotated[str, typer.Option("--item", "-i", help="Item id, as in your data.")],
    user: Annotated[str | None, typer.Option("--user", "-u", help="User id, as in your data.")] = None,
    history: Annotated[
        list[str] | None, typer.Option("--history", help="Instead of a user: an item they like; repeatable.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Why this person would want this item; the words stream into a terminal as they come."""
    from forwhy.recipe import RunFolder

    one_of({"--user": user, "--history": history})
    explainer = RunFolder.open(run).explainer()
    if sys.stdout.isatty() and not as_json:
        _stream(explainer, user, item, history)
    if user is None:
        explanation = explainer.explain(history=history or [], item=item, contributions=True)
    else:
        explanation = explainer.explain((user, item), contributions=True)
    if as_json:
        words = explainer.known
        number = words.items.index(item)
        emit(
            {"user": user, "item": words.items.values[number], "title": words.titles[number]}
            | explanation.document()
        )
        return
    if not sys.stdout.isatty():
        show(plain(explanation.text))
    show(_evidence(explanation), *_behind(explanation))


def _stream(explainer: Explainer[Any], user: str | None, item: str, history: list[str] | None) -> None:
    pieces = explainer.stream(history=history, item=item) if user is None else explainer.stream((user, item))
    for piece in pieces:
        sys.stdout.write(plain(piece))
        sys.stdout.flush()
    sys.stdout.write("\n")


def _evidence(explanation: Explanation) -> Table:
    """The tokens behind a sentence, and how much each one carried."""
    from rich.table import Table

    table = Table("token", "gloss", "contribution (nats)")
    for token in explanation.tokens:
        carried = "" if token.contribution is None else f"{token.contribution:+.2f}"
        table.add_row(token.token, plain("; ".join(token.gloss[:3])), carried)
    return table


def _behind(explanation: Explanation) -> list[str]:
    """The items of the history most like the explained one."""
    items = explanation.evidence.items
    if not items:
        return []
    named = (f"{item.title or item.item_id} ({item.likeness:.2f})" for item in items)
    return [f"most like it in their history: {plain(', '.join(named))}"]
