"""The command line: parse, call, print. One file per command, imports inside functions."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from forwhy.cli.answers import answers_app
from forwhy.cli.console import set_up_logging
from forwhy.cli.data import data_app
from forwhy.cli.demo import demo
from forwhy.cli.doctor import doctor
from forwhy.cli.evaluate import evaluate
from forwhy.cli.explain import explain
from forwhy.cli.fit import fit_app
from forwhy.cli.guard import guarded
from forwhy.cli.indices import indices_app
from forwhy.cli.mine import mine
from forwhy.cli.recommend import recommend
from forwhy.cli.run import run
from forwhy.cli.vocabulary import vocabulary

app = typer.Typer(
    name="forwhy",
    help="Recommendations with a because.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(answers_app, name="answers")
app.add_typer(data_app, name="data")
app.add_typer(fit_app, name="fit")
app.add_typer(indices_app, name="indices")
for command in (demo, mine, run, recommend, explain, vocabulary, evaluate, doctor):
    app.command()(command)


def _show_version(wanted: bool) -> None:
    if wanted:
        from forwhy import __version__

        typer.echo(f"forwhy {__version__}")
        raise typer.Exit


@app.callback()
def options(
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Warnings and errors only.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Version.")
    ] = False,
) -> None:
    """Recommendations with a because."""
    set_up_logging(quiet)


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script. Exit status 0: done; 2: the caller's mistake; 1: ours; 130: interrupted."""
    given = None if arguments is None else list(arguments)
    # Commands that write down how they were called find their words in `context.obj`.
    words = sys.argv[1:] if given is None else given
    sys.exit(guarded(lambda: app(args=given, prog_name="forwhy", standalone_mode=False, obj=words)))
