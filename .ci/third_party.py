"""Whose code runs with forwhy: `docs/third-party.md` out of what is installed; `--check` compares the names in it.

Direct and indirect dependencies of the base and of the extras that are for running, not for developing. Versions are
those of the environment that wrote the page; `gpu` brings more, which only machines with a GPU have.
"""

import re
import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

PAGE = Path(__file__).resolve().parents[1] / "docs" / "third-party.md"
EXTRAS = ("llm", "chat", "sql", "serve", "otel", "report", "pandas", "tune", "track", "cluster")
GPU = re.compile("nvidia-|cuda-|triton")
"""What only builds of torch for GPUs bring."""
HEAD = f"""# Third parties

Whose code runs with forwhy, and under which licence: direct and indirect dependencies of the base and of the extras
{", ".join(f"`{name}`" for name in EXTRAS)}, as they were installed when this page was written by `.ci/third_party.py`.
The extra `gpu` brings more, as do the GPU builds of torch. Packaged models have their own licences: `forwhy doctor`
names them. The page of `forwhy serve` brings its own third parties, listed in `serve/page/vendor/LICENSES`.

| package | version | licence |
|---|---|---|
"""


def needed() -> dict[str, metadata.Distribution]:
    """Name -> what is installed, found from forwhy on."""
    found: dict[str, metadata.Distribution] = {}
    left = [("forwhy", frozenset(EXTRAS))]
    done: set[tuple[str, frozenset[str]]] = set()
    while left:
        name, extras = one = left.pop()
        if one in done:
            continue
        done.add(one)
        try:
            package = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # of another platform, or of a GPU
            continue
        found[canonical(name)] = package
        for line in package.requires or ():
            wanted = Requirement(line)
            if any(not wanted.marker or wanted.marker.evaluate({"extra": it}) for it in ("", *extras)):
                left.append((wanted.name, frozenset(wanted.extras)))
    return {name: it for name, it in sorted(found.items()) if name != "forwhy" and not GPU.match(name)}


def canonical(name: str) -> str:
    """A package's name as indices spell it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def licence(package: metadata.Distribution) -> str:
    """In a few words, from the field that says it best."""
    told = package.metadata
    kinds = [
        it.rpartition(" :: ")[2] for it in told.get_all("Classifier") or () if it.startswith("License ::")
    ]
    kinds = [kind for kind in kinds if kind != "OSI Approved"]
    short = (told.get("License") or "").strip().partition("\n")[0]
    short = "" if short.startswith("Copyright") else short
    return (
        told.get("License-Expression")
        or (short if 0 < len(short) < 60 else " / ".join(kinds))
        or "see its files"
    )


def main() -> int:
    """Write the page, or say which names differ from it; the exit status."""
    packages = needed()
    if "--check" not in sys.argv:
        rows = (
            f"| {name} | {it.version} | {licence(it).replace('|', '/')} |\n" for name, it in packages.items()
        )
        PAGE.write_text(HEAD + "".join(rows), encoding="utf-8")
        return 0
    listed = set(re.findall(r"^\| ([a-z0-9-]+) \| [0-9]", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    if wrong := sorted(listed ^ set(packages)):
        sys.stderr.write(
            f"{PAGE}: {', '.join(wrong)}: listed or needed, not both; run python .ci/third_party.py\n"
        )
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
