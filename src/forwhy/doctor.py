"""What this machine has and what a run would miss; the first thing to put into a report of a problem."""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forwhy.artifact import CONFIG, load
from forwhy.data.dataset import MARKER, Dataset
from forwhy.errors import UserError, need
from forwhy.explain.served import BAKED, read_baked
from forwhy.models import cache_folder
from forwhy.wheels import PACKAGED, state

if TYPE_CHECKING:
    from rich.console import RenderableType

Findings = dict[str, Any]
LIBRARIES = "numpy polars pydantic safetensors scipy torch transformers accelerate bitsandbytes"
GIB = 1 << 30
FREE_DISK_GIB = 4.0
"""Below this the packaged models do not fit beside their downloads."""


def examine(verify: bool = False) -> Findings:
    """Return a JSON-ready account of interpreter, packages, machine, disk and models; fetches nothing.

    Takes 2 s where torch is installed. `verify` compares the SHA-256 of every packaged model once more (a second per
    gigabyte).
    """
    cache, models = _cache(cache_folder()), {}
    for alias, model in PACKAGED.items():
        about = {"title": model.title, "licence": model.licence, "revision": model.revision}
        models[alias] = {**about, "state": state(model, cache_folder(), again=verify)}
    torch = _torch()
    counts_pages = "SC_PHYS_PAGES" in getattr(os, "sysconf_names", ())
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB if counts_pages else None
    return {
        "forwhy": _version("forwhy"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": {name: _version(name) for name in LIBRARIES.split()},
        "torch": torch,
        "cores": os.cpu_count(),
        "memory_gib": memory and round(memory, 1),
        "cache": cache,
        "models": models,
        "advice": _advice(torch is not None, cache, models),
    }


def verify(places: Sequence[Path]) -> dict[str, str]:
    """Every artifact, data set and baked model in here -> `whole`, or what is wrong with it; reads them all."""
    found: dict[str, str] = {}
    for place in places:
        markers = CONFIG, MARKER, BAKED
        ours = [path for marker in markers for path in sorted(place.rglob(marker)) if _is_ours(path)]
        found |= {str(path.parent): _wrong(path) or "whole" for path in ours}
        if not ours:
            found[str(place)] = "holds no artifact and no data set"
    return found


def measured_engines() -> Findings:
    """How fast each `explainer.engine` writes here, of the packaged model; `auto` takes the best one from now on."""
    need("transformers", "llm")
    from forwhy.bridge.measured import measured

    return measured()


def _is_ours(path: Path) -> bool:
    """Whether forwhy wrote it; what cannot be read may be ours."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return True
    return isinstance(document, dict) and "forwhy" in document


def _wrong(path: Path) -> str:
    try:
        if path.name == MARKER:
            Dataset.load(path.parent)
        elif path.name == BAKED:
            read_baked(path.parent)
        else:
            load(path.parent, str(json.loads(path.read_bytes()).get("kind")))
    except (UserError, OSError, ValueError, RecursionError) as error:
        return str(error)
    return ""


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _torch() -> Findings | None:
    if _version("torch") is None:
        return None
    import torch

    devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {"threads": torch.get_num_threads(), "cuda": torch.version.cuda, "devices": devices}


def _cache(folder: Path) -> Findings:
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    used = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {
        "folder": str(folder),
        "writable": os.access(existing, os.W_OK),
        "used_gib": round(used / GIB, 2),
        "free_gib": round(shutil.disk_usage(existing).free / GIB, 1),
    }


def _advice(has_torch: bool, cache: Findings, models: Mapping[str, Findings]) -> list[str]:
    advice = []
    if not has_torch:
        advice.append("torch is not installed: `pip install 'forwhy[llm]'` brings it")
    if not cache["writable"]:
        advice.append(f"{cache['folder']} cannot be written: set FORWHY_CACHE to a folder that can")
    elif cache["free_gib"] < FREE_DISK_GIB:
        free, needed = cache["free_gib"], f"{FREE_DISK_GIB:.0f}"
        advice.append(f"{cache['folder']}: {free} GiB free; {needed} are needed for the models")
    missing = [alias for alias, model in models.items() if model["state"] != "ready"]
    if missing:
        advice.append(f"models not at hand: `python -m forwhy.models {' '.join(missing)}` fetches them")
    return advice


def render(findings: Mapping[str, object]) -> RenderableType:
    """Return the findings as a table for a terminal."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for name, value in findings.items():
        entries = value.items() if isinstance(value, dict) else [("", value)]
        for position, (key, entry) in enumerate(entries):
            named = Text("" if position else name, style="bold")
            table.add_row(named, Text(str(key)), Text(_plain(entry)))
    return table


def _plain(value: object) -> str:
    if isinstance(value, dict) and "of 16" in value:
        return f"{value['alone']} tokens/s of one text, {value['of 16']} of 16 together"
    if isinstance(value, dict):
        return f"{value['state']}: {value['title']}, {value['licence']}" if "state" in value else str(value)
    if isinstance(value, list):
        return "; ".join(str(entry) for entry in value) or "none"
    return "absent" if value is None else str(value)
