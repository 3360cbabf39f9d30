"""What the documents say is executed, parsed or looked up."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import typer

from documents import DOCUMENTS, ROOT, Shell, blocks
from forwhy.cli import app
from forwhy.columns import TABLES
from forwhy.explain.options import BeatConfig, XRecConfig
from forwhy.graph.representations import CollaborativeConfig
from forwhy.systems import find_system, names
from forwhy.vocabulary.options import TokenizerConfig

Preset = type[TokenizerConfig] | type[BeatConfig] | type[CollaborativeConfig] | type[XRecConfig]
PRESETS: tuple[Literal["paper", "official", "forwhy"], ...] = ("paper", "official", "forwhy")
GENERATED = {"options.md", "commands.md"}
"""Pages that docs/hooks.py makes; their links are checked by `make docs`."""


def commands(path: Path) -> list[str]:
    """Every `forwhy …` command of a document, in blocks and in the text, that is more than a name."""
    lines = [line for block in blocks(path, "bash") for line in block.lines()]
    return [line for line in lines if line.startswith("forwhy ")]


SHOWN = [(path, command) for path in DOCUMENTS for command in commands(path)]


def test_tour_runs(tmp_path: Path, tiny_model: Path) -> None:
    """The tour as printed, with a smaller town and tiny stand-ins for the two models."""
    (tour,) = blocks(ROOT / "README.md", "python")
    assert len(tour.lines()) <= 20
    stand_ins = {
        "little_town()": "little_town(users=40, items=30, visits=8, explanations=(30, 8, 8))",
        '"minilm"': '"hash"',
        '"smollm2-135m"': repr(str(tiny_model)),
        "codes=64, epochs=10": "codes=8, epochs=1, slot_dim=2, text_dims=4",
    }
    shell = Shell(tmp_path, stand_ins)
    shell.python(tour.text)
    assert shell.used == set(stand_ins)
    assert shell.names["explanation"].tokens
    assert (tmp_path / "out" / "explainer" / "config.json").is_file()


def test_the_page_about_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_run: Path) -> None:
    """Its blocks as printed, one after the other, on a tiny run."""
    pytest.importorskip("pyarrow")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "shop").symlink_to(tiny_run)
    shell = Shell(tmp_path, {})
    for block in blocks(ROOT / "docs" / "python.md", "python"):
        shell.python(block.text)
    names = shell.names
    monkeypatch.chdir(tmp_path)
    assert len(names["why"]) == names["top"].height == 15
    assert names["first"] not in names["today"].recommend(names["users"], k=30)["item_id"].to_list()
    assert (tmp_path / "recommendations.parquet").is_file()


def test_the_two_commands_come_first() -> None:
    first = blocks(ROOT / "README.md", "bash")[0]
    assert [line.split("#")[0].strip() for line in first.lines()] == ["make demo", "make test"]


@pytest.mark.parametrize(("path", "command"), SHOWN, ids=[command[:60] for _, command in SHOWN])
def test_shown_command_parses(path: Path, command: str) -> None:
    arguments = shlex.split(command, comments=True)[1:]
    level: Any = typer.main.get_command(app)
    context = level.make_context("forwhy", arguments)
    while hasattr(level, "resolve_command"):
        rest = [*context._protected_args, *context.args]
        name, level, rest = level.resolve_command(context, rest)
        context = level.make_context(name, rest, parent=context)
    for override in context.params.get("overrides") or ():
        section, _, key = override.partition("=")[0].partition(".")
        fields = [
            kind.model_fields[section] for kind in map(find_system, names()) if section in kind.model_fields
        ]
        assert fields
        assert not key or any(key in field.annotation.model_fields for field in fields)


@pytest.mark.parametrize("path", DOCUMENTS, ids=[str(path.relative_to(ROOT)) for path in DOCUMENTS])
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text(encoding="utf-8")):
        if "://" not in target and Path(target).name not in GENERATED:
            assert (path.parent / target).exists(), target


def test_formats_name_every_column_and_section() -> None:
    text = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    for table, columns in TABLES.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| `{table}` |"))
        assert [column.name for column in columns if f"`{column.name}`" not in row] == []
    sections = {name for kind in map(find_system, names()) for name in kind.model_fields}
    assert [n for n in sections - {"name", "system", "seed"} if f"| `[{n}]` |" not in text] == []


def test_make_targets_exist() -> None:
    named = {
        name
        for path in DOCUMENTS
        for block in blocks(path, "bash")
        for name in re.findall(r"\bmake (\w+)\b", block.text)
    }
    for name in named:
        subprocess.run(["make", "--dry-run", name], cwd=ROOT, check=True, capture_output=True)


def test_extras_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
    text = "\n".join(path.read_text(encoding="utf-8") for path in DOCUMENTS)
    named = {
        name for found in re.findall(r"(?:forwhy|\.)\[([a-z, ]+)\]", text) for name in re.split(", *", found)
    }
    assert {"llm", "report", "tune"} <= named <= set(extras)


def differences(config: Preset) -> dict[str, list[str]]:
    """Option -> its value under each preset, where those are not all equal."""

    def flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
        for key, value in values.items():
            yield from (
                flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(prefix + key, str(value))]
            )

    columns = [dict(flat(config(preset=preset).model_dump())) for preset in PRESETS]
    rows = {key: [column[key] for column in columns] for key in columns[0] if key != "preset"}
    return {key: values for key, values in rows.items() if len(set(values)) > 1}


@pytest.mark.parametrize(
    ("stage", "config"),
    [
        ("vocabulary", TokenizerConfig),
        ("explainer", BeatConfig),
        ("collaborative", CollaborativeConfig),
        ("explainer, xrec", XRecConfig),
    ],
)
def test_every_difference_of_a_preset_has_its_line(stage: str, config: Preset) -> None:
    text = (ROOT / "docs" / "decisions" / "0002-presets.md").read_text(encoding="utf-8")
    section = text.split(f"`[{stage}]`")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \| `([^`]+)` \| `([^`]+)` \|", section, re.MULTILINE)
    assert {key: list(values) for key, *values in rows} == differences(config)
