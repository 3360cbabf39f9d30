"""The command line: parse, call, print. A command's module is imported when that command is asked for."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from forwhy.cli.console import app_of, set_up_logging
from forwhy.cli.guard import guarded

COMMANDS = {
    "demo": ("first_steps:demo", "Make a little town, run a system on it, and show what comes out."),
    "doctor": ("first_steps:doctor", "What this machine has: the first thing to put into a report."),
    "data": ("data:data_app", "Import a dataset; show, audit or export one."),
    "mine": ("mine:mine", "Mine intents, profiles or explanations from training reviews."),
    "answers": ("mine:answers_app", "Kept answers of a language model, and votes of a judge."),
    "run": ("run:run", "Bring a run, or a table of runs, up to date."),
    "fit": ("run:fit_app", "Learn from a dataset with a system's defaults."),
    "recommend": ("ask:recommend", "The best items for a person, and why."),
    "explain": ("ask:explain", "Why this person would want this item."),
    "vocabulary": ("ask:vocabulary", "Words with their usage, gloss and nearest words."),
    "indices": ("indices:indices_app", "Build, show or export item indices."),
    "evaluate": ("evaluate:evaluate", "Show evaluations of runs and of texts; measure what is missing."),
}
"""Name -> where it is under `forwhy.cli`, and what the list of commands says of it."""


class Commands(TyperGroup):
    """Lists `COMMANDS` without importing them, so that help is quick, and imports the one that is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401 - click's own types are private to typer
        """Names, in their order."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401
        """The command, or None where there is none of this name."""
        if cmd_name not in COMMANDS:
            return None
        place, about = COMMANDS[cmd_name]
        module, _, name = place.partition(":")
        found = getattr(import_module(f"forwhy.cli.{module}"), name)
        if isinstance(found, typer.Typer):
            group = typer.main.get_command(found)
            group.help = about
            return group
        alone = app_of()
        alone.command(cmd_name)(found)
        return typer.main.get_command(alone)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401
        """The list of commands in the help."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in COMMANDS.items()])


app = app_of(
    name="forwhy",
    cls=Commands,
    help="Recommendations with a because.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


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
