"""The documents as a reader uses them: fenced blocks, and a shell that runs those of one page in one folder."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forwhy.cli import main

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(
    r"(?:<!-- not run: (?P<why>[^>]+) -->\n+|(?P<differ><!-- numbers differ -->)\n+)?"
    r"^(?P<mark>```+)(?P<language>\w*)[^\n]*\n(?P<text>.*?)^(?P=mark)$",
    re.MULTILINE | re.DOTALL,
)
ENVIRONMENT = re.compile(
    r"make \w+.*|bash \.ci/run|\. \.venv/bin/activate|(python -m )?pip install .*|cd \S+|export \w+=.*|#.*|"
)
"""Lines that make an environment: targets and extras are looked up (`test_readme.py`), nothing is installed."""


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    language: str
    text: str
    why_not: str | None
    """What the comment above says of why it is not run."""
    numbers_differ: bool
    """Whether the comment above says that numbers, and what is chosen by them, depend on the machine."""
    start: int
    end: int
    """Where its text is in the page."""

    def lines(self) -> list[str]:
        """Its commands: a line that ends with a backslash goes on in the next; quotes may hold several lines."""
        return [line for line in self.text.replace("\\\n", " ").splitlines() if line.strip()]


def blocks_of(page: Path) -> Iterator[Block]:
    """The blocks of a page, in order."""
    for found in FENCE.finditer(page.read_text(encoding="utf-8")):
        differ = found["differ"] is not None
        yield Block(
            found["language"], found["text"], found["why"], differ, found.start("text"), found.end("text")
        )


def blocks(page: Path, language: str) -> list[Block]:
    """The blocks of a page that are in a language."""
    return [it for it in blocks_of(page) if it.language == language]


class Shell:
    """Runs lines in a folder; `forwhy` in this process, so that torch is imported once."""

    def __init__(self, folder: Path, stand_ins: Mapping[str, str]) -> None:
        self.folder, self.stand_ins = folder, dict(stand_ins)
        self.used: set[str] = set()
        self.names: dict[str, Any] = {}
        self.told = ""
        """What the last command told on stderr."""

    def put(self, text: str) -> str:
        """The text as it is run: what a test can't do replaced."""
        for printed, instead in self.stand_ins.items():
            if printed in text:
                self.used.add(printed)
                text = text.replace(printed, instead)
        return text

    def run(self, line: str) -> str:
        """What a line prints on stdout; it must succeed."""
        line = self.put(line)
        if ENVIRONMENT.fullmatch(line.strip()):
            return ""
        if line.startswith("forwhy ") and not re.search(r"[|<>&;](?=\s|$)", re.sub(r"'[^']*'", "", line)):
            return self._call(self._words(line))
        environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        done = subprocess.run(
            ["bash", "-ceu", line], cwd=self.folder, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, (line, done.stderr)
        return done.stdout

    def _words(self, line: str) -> list[str]:
        """The arguments of a `forwhy` command, as bash reads them."""
        script = f"forwhy() {{ printf '%s\\0' \"$@\"; }}; {line}"
        printed = subprocess.run(["bash", "-ceu", script], cwd=self.folder, capture_output=True, check=True)
        return printed.stdout.decode().split("\0")[:-1]

    def _call(self, words: list[str]) -> str:
        out, told = io.StringIO(), io.StringIO()
        status: object = 0
        with chdir(self.folder), redirect_stdout(out), redirect_stderr(told):
            try:
                main(words)
            except SystemExit as leaving:
                status = leaving.code
        self.told = told.getvalue()
        assert status in (0, None), (words, self.told[-3000:])
        return out.getvalue()

    def python(self, text: str) -> str:
        """What a block of Python prints; the blocks of a page share their names."""
        out = io.StringIO()
        with chdir(self.folder), redirect_stdout(out):
            exec(self.put(text), self.names)  # noqa: S102 - our own documents
        return out.getvalue()
