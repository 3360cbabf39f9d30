"""Results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, RenderableType

from forwhy.atomic import plain_json
from forwhy.errors import UserError

if TYPE_CHECKING:
    from forwhy.recipe.examine import Examination

log = logging.getLogger("forwhy.cli")

_FILE_WIDTH = 120
"""Columns of tables that go into a file or a pipe."""

JsonFlag = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


def app_of(**more: Any) -> typer.Typer:  # noqa: ANN401 - as `typer.Typer` takes them
    """An application, or a group of commands in it, that prints plain text and lets errors through."""
    return typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        **more,
    )


def set_up_logging(quiet: bool) -> None:
    """Sends forwhy's own log lines, bare, to stderr."""
    logger = logging.getLogger("forwhy")
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    for old in list(logger.handlers):
        logger.removeHandler(old)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    logger.propagate = False


def one_of(options: Mapping[str, object]) -> None:
    """Refuses a command that got none of these options, or several.

    Raises:
        UserError: Naming them.
    """
    given = [name for name, value in options.items() if value]
    if len(given) != 1:
        raise UserError(f"{' and '.join(given) or 'nobody named'}: give one of {', '.join(options)}")


def plain(text: object) -> str:
    """Text from data for a terminal: without control characters, which could move the cursor or worse."""
    return "".join(letter if letter.isprintable() or letter == "\n" else " " for letter in str(text))


def one_line(text: object) -> str:
    """`plain` without line breaks, for a cell or a line among others."""
    return " ".join(plain(text).split())


def emit(document: object) -> None:
    """Writes one JSON document; not-a-number becomes null, as JSON has none."""
    sys.stdout.write(json.dumps(plain_json(document), ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def show(*renderables: RenderableType) -> None:
    """Writes text and tables for a reader; text from data is not read as markup."""
    width = None if sys.stdout.isatty() else _FILE_WIDTH
    console = Console(file=sys.stdout, markup=False, highlight=False, width=width)
    for renderable in renderables:
        console.print(renderable)


def show_evaluation(document: Mapping[str, Any]) -> None:
    """Writes one evaluation as tables."""
    from forwhy.report import render

    show(*render(document))


def show_examination(found: Examination) -> None:
    """Writes several evaluations as one table each of texts, rankings, gain and grounding."""
    from forwhy.report import render_examined

    show(
        *render_examined(
            found.examined, found.comparisons, found.bold, found.metrics, found.ranking, found.notes
        )
    )
