"""The command line: results on stdout, everything else on stderr. A command is imported when it is asked for."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import shlex
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, RenderableType
from rich.text import Text
from typer import Option
from typer.core import TyperGroup

from forwhy import __version__
from forwhy.documents import plain_json
from forwhy.errors import UserError, shortened
from forwhy.errors import plain as plain  # also of the commands

if TYPE_CHECKING:
    from forwhy.recipe.examine import Examination

log = logging.getLogger("forwhy.cli")

JsonFlag = Annotated[bool, Option("--json", help="One JSON document on stdout.")]
LONGEST, LONGEST_LOG = 290, 1_000
"""Letters of a refusal behind the program's name, and of a line of the log; what it quotes is cut in the middle."""
SECRET = re.compile(r"(://[^:/@\s]*:)[^@\s]*@")
"""The password of a URL."""
FILE_WIDTH, FILE_LINE = 120, 80
"""Columns of tables, and of lines of text that are cut, which go into a file or a pipe."""

COMMANDS = {
    "demo": ("run:demo", "Make a little town, run a system on it, and show what comes out."),
    "doctor": ("run:doctor", "What this machine has: the first thing to put into a report."),
    "data": ("data:data_app", "Import a dataset; show, audit or export one."),
    "mine": ("mine:mine", "Mine intents, profiles or explanations from training reviews."),
    "init": ("run:init", "Write a recipe that fits a dataset, each value with its reason."),
    "run": ("run:run", "Bring a run, or a table of runs, up to date."),
    "recommend": ("ask:recommend", "The best items for a person, and why."),
    "explain": ("ask:explain", "Why this person would want this item."),
    "profile": ("words:profile", "What kind of person somebody's tokens are."),
    "attention": ("words:attention", "What the model looks at while it writes why."),
    "vocabulary": ("words:vocabulary", "Words with their usage, gloss and nearest words."),
    "serve": (
        "serve:serve_app",
        "Serve finished runs over HTTP, with a page; options: forwhy serve run --help.",
    ),
    "evaluate": ("evaluate:evaluate", "Show evaluations of runs and of texts; measure what is missing."),
    "tune": ("run:tune", "Try options of a recipe and keep the best by validation."),
    "export": ("share:export", "Vectors and codes of a run as parquet and .npy."),
    "prompt": ("ask:prompt", "What a baked model is asked to say why."),
    "bake": ("share:bake", "A run's language model with its words in it, for any engine."),
    "push": ("share:push", "Upload what a run has learned to a hub, with a card."),
    "fit": ("run:fit_app", "Learn from a dataset with a system's defaults, without a recipe."),
    "indices": ("data:indices_app", "Build, show or export item indices."),
    "answers": ("mine:answers_app", "Kept answers of a language model, and votes of a judge."),
}
"""Name -> where it is under `forwhy.cli`, and what the list of commands says of it; in the order one needs them."""


class Group(TyperGroup):
    """Commands of one kind; the list in its help has their first sentences whole."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401 - click's own types are private to typer
        """What is read in comes first."""
        return sorted(super().list_commands(ctx), key=lambda name: name != "import")

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401
        """The list of commands in the help."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.about(ctx, name)) for name in self.list_commands(ctx)])

    def about(self, ctx: Any, name: str) -> str:  # noqa: ANN401
        """What the list says of a command."""
        said: str = getattr(self.get_command(ctx, name), "help", None) or ""
        return " ".join(said.partition("\n\n")[0].split())


class Commands(Group):
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

    def about(self, ctx: Any, name: str) -> str:  # noqa: ANN401
        """What `COMMANDS` says of it."""
        return COMMANDS[name][1]


def app_of(**more: Any) -> typer.Typer:  # noqa: ANN401 - as `typer.Typer` takes them
    """An application, or a group of commands in it, that prints plain text and lets errors through."""
    return typer.Typer(
        **{"cls": Group, **more},
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )


app = app_of(
    name="forwhy",
    cls=Commands,
    help="Recommendations with a because.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"forwhy {__version__}")
        raise typer.Exit


class _Lines(logging.Formatter):
    """A message is a line, without letters that a terminal would obey: it quotes names and ids of anybody."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - of logging
        """The message alone."""
        return shortened(one_line(record.getMessage()), LONGEST_LOG)


@app.callback()
def set_up(
    quiet: Annotated[bool, Option("--quiet", "-q", help="Warnings and errors only.")] = False,
    version: Annotated[
        bool, Option("--version", callback=_show_version, is_eager=True, help="Version.")
    ] = False,
) -> None:
    """Recommendations with a because."""
    logger, handler = logging.getLogger("forwhy"), logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    logger.handlers, logger.propagate = [handler], False


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script. Exit status 0: done; 2: the caller's mistake; 1: ours; 130 or 143: stopped by a signal."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    # Commands that write down how they were called find their words in `context.obj`.
    with _stopped_by_sigterm(unless=words[:1] == ["serve"]):
        sys.exit(
            guarded(lambda: app(args=words, prog_name="forwhy", standalone_mode=False, obj=words), words)
        )


@contextmanager
def _stopped_by_sigterm(unless: bool) -> Iterator[None]:
    """Lets SIGTERM end a command as Ctrl-C does, by an exception, so that what it began is put away."""
    if unless or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def guarded(command: Callable[[], object], words: Sequence[str] = ()) -> int:
    """Runs a command, which was called by these words, and answers with the exit status; never raises."""
    try:
        status = command()
        return _left(status if isinstance(status, int) else 0)
    except typer.Exit as leaving:
        return _left(leaving.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return _left(130)
    except UserError as error:
        return _refuse(str(error), words)
    except (BrokenPipeError, SystemExit) as error:
        if isinstance(error, SystemExit) and error.code == 128 + signal.SIGTERM:
            return _left(128 + signal.SIGTERM)
        # Typer turns a broken pipe into SystemExit before it gets here.
        if not any(isinstance(it, BrokenPipeError) for it in (error, error.__context__)):
            return 1
        # The reader of our output left (`| head`): nothing more can be written, and nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except BaseException as error:  # a panic of polars is no Exception
        return _tell(error, words)


def _left(status: int) -> int:
    """Typer answers Ctrl-C with a status."""
    if status not in (130, 128 + signal.SIGTERM):
        return status
    return _say(status, "stopped; what was done is kept: the same command goes on from there")


def _tell(error: BaseException, words: Sequence[str]) -> int:
    """A path, a disk, memory and an option are the caller's to mend; all else is ours."""
    if hasattr(error, "format_message"):  # Typer's own errors; their class is private to it
        message, context = str(error.format_message()), getattr(error, "ctx", None)
        if message.startswith("Usage: "):  # of a group that was named alone: its whole help
            sys.stderr.write(f"{message}\n")
            return 2
        remedy = "" if context is None else f"; see: {context.command_path} --help"
        return _say(2, f"{message.rstrip('.')}{remedy}") if message else 2
    if isinstance(error, OSError) and error.filename is not None:
        return _refuse(f"{os.fsdecode(error.filename)}: {_of_system(error)}", words)
    said, place = f"{type(error).__name__}: {error}", _keep(error, words)
    if why := _beyond(error):
        called = shortened(shlex.join(words), 100)
        return _say(2, f"forwhy {called}: {why} ({shortened(plain(said), 60)}){place}")
    return _say(1, f"internal error: {said}; please report it{place}")


def _of_system(error: OSError) -> str:
    """What the system did not do, and what to do about it."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full; free some space and run the same command again"
    remedies = {
        errno.ENAMETOOLONG: "give a shorter name",
        errno.EISDIR: "name a file",
        errno.ENOTDIR: "a part of the path is no folder: give another",
        errno.EEXIST: "a part of the path is no folder: give another",
        errno.ELOOP: "its links lead back to themselves: name the thing itself",
    }
    allowed = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
    remedy = "choose a path that you may read and write" if allowed else "check the path"
    return f"{error.strerror or error}; {remedies.get(error.errno or 0, remedy)}"


def _beyond(error: BaseException) -> str:
    """What of the caller's is too much, too deep or no text for what reads it; "" where that is not what is wrong."""
    said = str(error)
    if isinstance(error, MemoryError) or "allocate memory" in said:
        return "not enough memory; give smaller numbers or files"
    if isinstance(error, RecursionError):
        return "something given is nested too deeply; give less of it"
    if isinstance(error, UnicodeError):
        return "something given is no text; give it in UTF-8"
    if isinstance(error, OverflowError) or "integer string conversion" in said:
        return "a number is too large; give a smaller one"
    if isinstance(error, ValueError) and "null byte" in said:
        return "a path holds a NUL; give another"
    return f"{_of_system(error)}" if isinstance(error, OSError) else ""


def _keep(error: BaseException, words: Sequence[str]) -> str:
    """Where the trace was written, for a report: a file that only its owner can read."""
    called = SECRET.sub(r"\1***@", shlex.join(words))
    trace = "".join(traceback.format_exception(error))
    try:
        handle, path = tempfile.mkstemp(".txt", "forwhy-")
        with open(handle, "w", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(f"forwhy {__version__}, Python {sys.version}\nforwhy {called}\n{trace}")
    except OSError:
        return ""
    return f"; the trace is in {path}"


def _refuse(message: str, words: Sequence[str]) -> int:
    """The caller's mistake, always with something to do about it."""
    group = f"{words[0]} " if words and words[0] in COMMANDS else ""
    return _say(2, message if ";" in message else f"{message}; see: forwhy {group}--help")


def _say(status: int, message: str) -> int:
    masked = SECRET.sub(r"\1***@", one_line(message))
    sys.stderr.write(f"forwhy: {shortened(masked, LONGEST)}\n")
    return status


def one_of(options: Mapping[str, object]) -> None:
    """Refuses, naming them, a command that got none of these options, or several."""
    given = [name for name, value in options.items() if value]
    if len(given) != 1:
        raise UserError(f"{' and '.join(given) or 'nobody named'}: give one of {', '.join(options)}")


def one_line(text: object) -> str:
    """`plain` without line breaks, for a cell or a line among others."""
    return " ".join(plain(text).split())


def emit(document: object) -> None:
    """Writes one JSON document; not-a-number becomes null, as JSON has none, and unseen letters are escaped."""
    text = json.dumps(plain_json(document), ensure_ascii=False, indent=2, allow_nan=False)
    if not text.replace("\n", "").isprintable():
        text = "".join(it if it.isprintable() or it == "\n" else json.dumps(it)[1:-1] for it in text)
    sys.stdout.write(f"{text}\n")


def show(*renderables: RenderableType) -> None:
    """Writes text and tables for a reader; text from data is not read as markup."""
    console = _console()
    for renderable in renderables:
        console.print(renderable)


def line_width() -> int:
    """Columns of a line that is cut rather than wrapped."""
    return _console().width if sys.stdout.isatty() else FILE_LINE


def cut(line: str, width: int) -> str:
    """A line without control characters that is no wider."""
    line = plain(line).replace("\n", " ")
    return line if len(line) <= width else f"{line[: width - 1].rstrip()}…"


def half_width() -> int:
    """Columns of text in a table of two columns."""
    return (_console().width - 7) // 2


class _Console(Console):
    """Texts, also those in cells, without letters that a terminal would obey."""

    def render_str(self, text: str, **how: Any) -> Text:  # noqa: ANN401 - as of rich
        """A text for a line or a cell."""
        return super().render_str(plain(text), **how)


def _console() -> Console:
    width = None if sys.stdout.isatty() else FILE_WIDTH
    return _Console(file=sys.stdout, markup=False, highlight=False, width=width)


def show_evaluation(document: Mapping[str, Any]) -> None:
    """Writes one evaluation as tables."""
    from forwhy.report import render

    show(*render(document))


def show_examination(found: Examination) -> None:
    """Writes several evaluations as one table each of texts, rankings, gain and grounding."""
    from forwhy.report import render_examined

    compared = found.comparisons, found.bold, found.metrics, found.ranking
    show(*render_examined(found.examined, *compared, found.notes))
