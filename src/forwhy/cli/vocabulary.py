"""`forwhy vocabulary RUN`: the words of a behaviour vocabulary."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forwhy.cli.console import JsonFlag, emit, plain, show

if TYPE_CHECKING:
    from rich.table import Table

    from forwhy.vocabulary.vocabulary import Vocabulary


def vocabulary(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    token: Annotated[str | None, typer.Option(help="One word, e.g. '<u.macro_17>'.")] = None,
    top: Annotated[
        int, typer.Option("--top", "-n", min=1, help="Words shown per book (terminal only).")
    ] = 10,
    as_json: JsonFlag = False,
) -> None:
    """Words with their usage, gloss and nearest words."""
    from forwhy.recipe import RunFolder

    words = RunFolder.open(run).vocabulary()
    if token is not None:
        _one(words.word(token), as_json)
    elif as_json:
        emit({"health": words.health(), "words": words.words.to_dicts()})
    else:
        show(_health(words), *(_book(words, book, top) for book in words.codebooks))


def _one(word: dict[str, Any], as_json: bool) -> None:
    if as_json:
        emit(word)
    else:
        show("\n".join(f"{key}: {_joined(value)}" for key, value in word.items()))


def _health(words: Vocabulary) -> Table:
    from rich.table import Table

    table = Table("book", "words", "used", "perplexity", title="health")
    for book, state in words.health().items():
        size = len(words.codebooks[book])
        table.add_row(book, str(size), str(state["used"]), f"{state['perplexity']:.0f}")
    return table


def _book(words: Vocabulary, book: str, top: int) -> Table:
    """The most used words of one book."""
    import polars as pl
    from rich.table import Table

    table = Table("token", "used by", "gloss", "nearest", title=book)
    rows = words.words.filter(pl.col("book") == book).sort("usage", descending=True).head(top)
    for row in rows.iter_rows(named=True):
        table.add_row(row["token"], str(row["usage"]), _joined(row["gloss"][:4]), _joined(row["nearest"][:3]))
    return table


def _joined(value: object) -> str:
    return plain("; ".join(map(str, value)) if isinstance(value, list | tuple) else value)
