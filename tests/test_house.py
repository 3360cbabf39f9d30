"""The house rules that no linter checks: sizes, names, and an import that is light."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

SOURCE = Path(__file__).parents[1] / "src" / "forwhy"
FILES = sorted(SOURCE.rglob("*.py"))


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Name and lines of body, docstring left out, of every function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            yield node.name, (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(SOURCE)) for path in FILES])
def test_sizes(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
    assert [name for name, lines in functions(path) if lines > 60] == []


def test_most_functions_are_short() -> None:
    lengths = sorted(lines for path in FILES for _, lines in functions(path))
    assert lengths[len(lengths) // 2] <= 10
    assert lengths[len(lengths) * 9 // 10] <= 30


def test_no_drawer_modules() -> None:
    assert [path for path in FILES if path.stem in {"utils", "common", "helpers", "misc"}] == []


def test_no_file_leads_back_to_itself() -> None:
    """Imports inside functions and for types alone count too: they are read as well."""
    graph = grimp.build_graph("forwhy", cache_dir=None)
    leads = [(file, to) for file in graph.modules for to in graph.find_modules_directly_imported_by(file)]
    assert [pair for pair in leads if graph.find_shortest_chain(pair[1], pair[0])] == []


HEAVY = {"torch", "transformers", "accelerate", "peft", "openai", "matplotlib", "scipy.stats"}


@pytest.mark.parametrize(
    ("code", "absent", "most"),
    [
        ("import forwhy", HEAVY | {"numpy", "polars", "pydantic", "typer", "rich"}, 0.5),
        ("from forwhy.cli import main; main(['--help'])", HEAVY | {"numpy", "polars", "pydantic"}, 2.0),
        (
            "from forwhy.cli import main; main(['run', 'recipes/xrec-yelp.toml', '--out', 'x', '--set', "
            "'vocabulary.epoch=3'])",
            HEAVY,
            5.0,
        ),
        ("from forwhy.cli import main; main(['data', 'show', 'nowhere'])", HEAVY, 5.0),
        ("import forwhy.artifact, forwhy.progress, forwhy.training, forwhy.testing", HEAVY, 5.0),
    ],
    ids=["import", "help", "mistake", "data", "ground"],
)
def test_what_is_quick_imports_little(code: str, absent: set[str], most: float) -> None:
    """Of a process of its own: no heavy module, and seconds of processor time with room for an old machine."""
    run = subprocess.run(
        [sys.executable, "-c", f"import atexit, sys, time; atexit.register(lambda: print('\\n', "
         f"time.process_time(), *sys.modules, file=sys.stderr)); {code}"],
        capture_output=True, text=True, check=False, cwd=SOURCE.parents[1],
    )  # fmt: skip
    seconds, *modules = run.stderr.splitlines()[-1].split()
    assert absent & set(modules) == set()
    assert float(seconds) < most
