"""What the site shows beside its pages: options from the option models, commands from the command line.

mkdocs calls `on_files` and `on_page_markdown`; `mkdocs.yml` names this file.
"""

import re
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from forwhy.cli import app
from forwhy.systems import find_system, names

NETWORKS = ("sasrec", "gru4rec", "din", "caser", "hgn", "bert4rec", "fdsa", "s3-rec")
WRITERS = ("llm-bs", "tiger", "letter", "lc-rec", "p5-cid", "parallel")
ORDER = ("because", "beat", "xrec", *WRITERS, *NETWORKS, "item-knn", "popularity")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the generated pages; a file of the same name in docs/ would be refused as a duplicate."""
    for name, text in (("options.md", options_page()), ("commands.md", commands_page())):
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Remarks for the tests, and for readers of the plain files, are not shown."""
    return re.sub(
        r"<!-- (not run: [^>]+|numbers differ) -->\n|, on a page that `make docs` makes", "", markdown
    )


# --- options


def options_page() -> str:
    """Every option of every system, section by section; one that several systems share stands once."""
    told: dict[str, str] = {}
    pages = []
    for name in [*ORDER, *(it for it in names() if it not in ORDER)]:
        system = find_system(name)
        pages += [f'## `system = "{name}"`\n', first_sentence(system), ""]
        for section, field in system.model_fields.items():
            pages += section_lines(name, section, field, told)
    return "\n".join([INTRODUCTION, *pages])


INTRODUCTION = """# Options

This page is generated. Its texts are those of the option models in the source.

An option belongs to a *section* of the recipe. Set it in the recipe file, or on the command line:

```toml
[vocabulary]
codes = 32
```

```bash
forwhy run recipes/because.toml --set vocabulary.codes=32 --set data.path=out/mine --out runs/mine
```

A preset changes several defaults at once. The [presets](decisions/0002-presets.md) page lists what they change.
"""


def section_lines(system: str, section: str, field: FieldInfo, told: dict[str, str]) -> Iterator[str]:
    """A section of a system: its table, or where the same table stands."""
    rows = list(option_rows(field.annotation, ""))
    if not rows:
        return
    text = "\n".join(rows)
    if text in told:
        yield f"`[{section}]`: the same as that of [{told[text]}](#{told[text]}-{section}).\n"
        return
    yield f"### `[{section}]` of {system} {{#{system}-{section}}}\n"
    told[text] = system
    yield "| option | default | what it does |\n|---|---|---|"
    yield text + "\n"


def option_rows(annotation: object, place: str) -> Iterator[str]:
    """A row for each option, those of inner sections behind it."""
    for kind in sections_of(annotation):
        for name, field in kind.model_fields.items():
            key = f"{place}{name}"
            if sections_of(field.annotation):
                yield from option_rows(field.annotation, f"{key}.")
            else:
                yield f"| `{key}` | {default_of(field)} | {described(field)} |"


def sections_of(annotation: object) -> list[type[BaseModel]]:
    """The option models that a field may hold; several where a choice of them is given."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for inner in get_args(annotation) for found in sections_of(inner)]


def default_of(field: FieldInfo) -> str:
    """The default as one writes it in a recipe."""
    if field.is_required():
        return "must be given"
    value = field.get_default(call_default_factory=True)
    shown = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    shown = shown if len(shown) < 40 else f"{shown[:36].rstrip()} …"
    return f"`{shown}`" if shown else "none"


def described(field: FieldInfo) -> str:
    """The text of a field, and its choices."""
    choices = ""
    if get_origin(field.annotation) is Literal and len(get_args(field.annotation)) > 1:
        choices = "One of " + ", ".join(f"`{it}`" for it in get_args(field.annotation)) + "."
    return escaped(" ".join((field.description or "").split()) + f" {choices}").strip()


def escaped(text: str) -> str:
    """Text in a cell of a table."""
    return text.replace("|", "\\|").replace("<", "&lt;")


def first_sentence(kind: type) -> str:
    """What a docstring says first."""
    return " ".join((kind.__doc__ or "").strip().partition("\n\n")[0].split())


# --- commands


def commands_page() -> str:
    """Every command with its options, as `--help` tells them."""
    lines = [
        "# Commands\n",
        "This page is generated from the command line itself. `forwhy COMMAND --help` says the same.\n",
        "Results go to stdout, everything else to stderr. `--json` prints one document.",
        "Exit status: 0 done, 2 your mistake (one line names it and what to do), 1 ours, 130 interrupted.\n",
    ]
    return "\n".join([*lines, *command_lines(typer.main.get_command(app), None, "")])


def command_lines(command: Any, parent: Any, name: str) -> Iterator[str]:  # noqa: ANN401 - private to typer
    """A command and those below it."""
    context = command.make_context(name or "forwhy", [], parent=parent, resilient_parsing=True)
    if hasattr(command, "list_commands"):
        for below in command.list_commands(context):
            yield from command_lines(command.get_command(context, below), context, f"{name} {below}".strip())
        return
    about = " ".join((command.help or "").split())
    yield f"## `forwhy {name}`\n\n{escaped(about)}\n\n| | |\n|---|---|"
    for parameter in command.params:
        spelled = (
            ", ".join(parameter.opts) if parameter.param_type_name == "option" else parameter.name.upper()
        )
        if parameter.name != "help":
            yield f"| `{spelled}` | {escaped(' '.join((getattr(parameter, 'help', '') or '').split()))} |"
    yield ""
