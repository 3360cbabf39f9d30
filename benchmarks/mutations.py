"""Whether the tests see mistakes: `python -m benchmarks.mutations`.

Forty seeded mutations of the numerical heart, of the leak rules and of the resume rules: an operator turned around, a
constant moved, a condition negated, a name left out of a set. Each is made in a copy of the source, and the tests that
should see it run against that copy. A mutation is killed when one of them fails. Survivors are named with file, line
and change; exit status 1 when more than four survive. About fifteen minutes of two cores; `--only PART` narrows to
files whose path holds it, `--count`, `--seed` draw others, `--list` runs nothing.
"""

import argparse
import ast
import copy
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "forwhy"
HEART, LEAKS, RESUME = "numerical heart", "leak rules", "resume rules"
SHARES = {HEART: 0.6, LEAKS: 0.2, RESUME: 0.2}
"""Of all mutations."""
TESTS: dict[str, dict[str, list[str]]] = {
    HEART: {
        "vocabulary/quantizer.py": ["tests/vocabulary", "tests/laws/test_quantizers.py"],
        "vocabulary/network.py": ["tests/vocabulary"],
        "graph/bipartite.py": ["tests/graph"],
        "graph/lightgcn.py": ["tests/graph"],
        "bridge/projectors.py": ["tests/bridge", "tests/explain"],
        "bridge/injection.py": ["tests/bridge"],
        "recommend/trie.py": ["tests/recommend"],
        "recommend/beams.py": ["tests/recommend"],
        "systems/din.py": ["tests/recommend/test_din.py", "tests/recommend/test_sequential.py"],
        "systems/sasrec.py": ["tests/systems/test_sasrec.py", "tests/recommend/test_sequential.py"],
        "systems/item_knn.py": ["tests/recommend/test_item_knn.py"],
        "evaluate/ranking.py": ["tests/evaluate"],
        "evaluate/significance.py": ["tests/evaluate"],
        "evaluate/overlap.py": ["tests/evaluate"],
        "evaluate/gain.py": ["tests/evaluate"],
    },
    LEAKS: {
        "data/leaks.py": ["tests/data", "tests/test_protocol_runs.py", "tests/text/mining"],
        "data/split.py": ["tests/data", "tests/test_protocol_runs.py"],
        "data/intents.py": ["tests/data", "tests/test_protocol_runs.py"],
    },
    RESUME: {
        "recipe/runner.py": ["tests/test_recipe.py", "tests/test_grid.py"],
        "training/loop.py": ["tests/training"],
        "training/checkpoint.py": ["tests/training"],
    },
}
OPERATORS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
SPOKEN = {"UserError", "ValueError", "info", "warning", "track", "spinner", "Progress", "Field"}
"""Calls whose arguments are words for people, or limits of options."""


@dataclass(frozen=True)
class Mutation:
    """One change of one file."""

    part: str
    file: str
    line: int
    change: str
    source: str
    """The whole mutated file."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line} ({self.part}): {self.change}"


def mutations(file: str, part: str) -> list[Mutation]:
    """Every mutation of a file, in order."""
    tree = ast.parse((SOURCE / file).read_text(encoding="utf-8"))
    found = []
    for site in range(sum(1 for _ in _sites(tree))):
        changed = copy.deepcopy(tree)
        node = next(it for number, it in enumerate(_sites(changed)) if number == site)
        before = ast.unparse(node)
        _mutate(node)
        found.append(
            Mutation(part, file, node.lineno, f"{before} -> {ast.unparse(node)}", ast.unparse(changed))
        )
    return found


def _sites(tree: ast.AST) -> Iterator[ast.expr]:
    """Expressions that can be mutated: not in docstrings, annotations, messages, imports or constants of a module."""
    for node in _code(tree):
        if _joins_text(node):
            continue
        operator = getattr(node, "op", None) or (getattr(node, "ops", None) or [None])[0]
        if (
            isinstance(node, ast.BinOp | ast.BoolOp | ast.Compare)
            and type(operator) in OPERATORS
            or isinstance(node, ast.UnaryOp)
            and isinstance(node.op, ast.Not)
            or isinstance(node, ast.Constant)
            and isinstance(node.value, bool | int | float)
            or isinstance(node, ast.Set)
            and len(node.elts) > 1
        ):
            yield node


def _code(node: ast.AST) -> Iterator[ast.expr]:
    for name, value in ast.iter_fields(node):
        if name in {"annotation", "returns", "decorator_list", "type_params"}:
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or _is_spoken(child):
                continue
            if isinstance(child, ast.expr) and not isinstance(node, ast.JoinedStr | ast.FormattedValue):
                yield child
            yield from _code(child)


def _joins_text(node: ast.expr) -> bool:
    """Whether an operator joins texts or paths."""
    sides = [node.left, node.right] if isinstance(node, ast.BinOp) else []
    names = [getattr(side, "attr", getattr(side, "id", "")) for side in sides]
    texts = [
        isinstance(side, ast.JoinedStr) or isinstance(getattr(side, "value", None), str) for side in sides
    ]
    return any(texts) or any(name in {"path", "folder", "work", "out"} for name in names)


def _is_spoken(node: ast.AST) -> bool:
    """Words for people, layout of a file, an option's default, or a constant of the module, whose value is a choice."""
    if isinstance(node, ast.keyword):
        return node.arg in {"indent", "parents", "exist_ok", "ignore_errors", "dirs_exist_ok", "encoding"}
    if isinstance(node, ast.Call):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        return name in SPOKEN
    if isinstance(node, ast.Assign | ast.AnnAssign):
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Constant):
            return True
        return isinstance(target, ast.Name) and target.id.isupper() and not isinstance(node.value, ast.Set)
    return isinstance(node, ast.Raise | ast.Import | ast.ImportFrom | ast.JoinedStr)


def _mutate(node: ast.expr) -> None:
    """Changes a site in place."""
    if isinstance(node, ast.Compare):
        node.ops[0] = OPERATORS[type(node.ops[0])]()  # type: ignore[assignment]
    elif isinstance(node, ast.BinOp | ast.BoolOp):
        node.op = OPERATORS[type(node.op)]()  # type: ignore[assignment]
    elif isinstance(node, ast.UnaryOp):
        node.op, node.operand = ast.Not(), ast.UnaryOp(ast.Not(), node.operand)
    elif isinstance(node, ast.Set):
        del node.elts[-1]
    elif isinstance(node, ast.Constant):
        value = node.value
        node.value = (
            not value if isinstance(value, bool) else value + 1 if isinstance(value, int) else value * 2 + 1
        )


def drawn(count: int, seed: int, only: str = "") -> list[Mutation]:
    """So many mutations, each part by its share, each file of a part as likely as the others."""
    random = np.random.default_rng(seed)
    found: list[Mutation] = []
    for part, files in TESTS.items():
        chosen = [file for file in files if only in file and (SOURCE / file).exists()]
        if not chosen:
            continue
        order = [chosen[place] for place in random.permutation(len(chosen))]
        sites = {file: mutations(file, part) for file in order}
        for number in range(round(count * SHARES[part])):
            file = order[number % len(order)]
            found.append(sites[file].pop(int(random.integers(len(sites[file])))))
    return found


def is_killed(mutation: Mutation) -> bool:
    """Whether one of the tests that should see it fails."""
    with tempfile.TemporaryDirectory() as temporary:
        package = Path(temporary) / "forwhy"
        shutil.copytree(SOURCE, package, ignore=shutil.ignore_patterns("__pycache__"))
        (package / mutation.file).write_text(mutation.source, encoding="utf-8")
        environment = {
            **os.environ,
            "PYTHONPATH": temporary,
            "OMP_NUM_THREADS": "1",
            "FORWHY_SHARED": "/nowhere",
        }
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly"]
        tests = TESTS[mutation.part][mutation.file]
        done = subprocess.run([*command, *tests], cwd=ROOT, env=environment, capture_output=True, timeout=900)
    return done.returncode != 0


def main() -> int:
    """Draws, runs, names the survivors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--list", action="store_true")
    given = parser.parse_args()
    chosen = drawn(given.count, given.seed, given.only)
    if given.list:
        print(*chosen, sep="\n")
        return 0
    survivors = []
    with ThreadPoolExecutor(given.jobs) as pool:
        for mutation, killed in zip(
            chosen, map(str, chosen) if given.list else pool.map(is_killed, chosen), strict=True
        ):
            print(f"{'listed' if given.list else 'killed' if killed else 'SURVIVES'}: {mutation}", flush=True)
            survivors += [] if killed else [mutation]
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} killed")
    return int(len(survivors) > len(chosen) // 10)


if __name__ == "__main__":
    sys.exit(main())
