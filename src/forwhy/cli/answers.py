"""`forwhy answers export|import`: a language model's kept answers (also a judge's votes) as JSON lines and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from forwhy.cli.console import show

answers_app = typer.Typer(
    no_args_is_help=True, help="Kept answers of a language model, and votes of a judge."
)

Database = Annotated[Path, typer.Argument(metavar="FILE.db", help="As given to --cache or --judge-votes.")]
Lines = Annotated[
    Path, typer.Argument(metavar="FILE.jsonl", help="One JSON object per line; see docs/formats.md.")
]


@answers_app.command("export")
def export(database: Database, lines: Lines) -> None:
    """Write all kept answers as JSON lines."""
    from forwhy.text.chat.answers import export_answers

    show(f"{export_answers(database, lines):,} answers written to {lines}.")


@answers_app.command("import")
def take_in(lines: Lines, database: Database) -> None:
    """Add the answers of a file of JSON lines; those that are kept already stay."""
    from forwhy.text.chat.answers import import_answers

    show(f"{import_answers(lines, database):,} new answers in {database}.")
