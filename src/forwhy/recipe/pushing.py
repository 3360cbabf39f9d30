"""What of a run goes to a hub: what was learned and a card; no row of the data but what the artifacts hold."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from forwhy.artifact import CARD, CONFIG, card
from forwhy.atomic import atomic_folder
from forwhy.documents import read_json
from forwhy.errors import UserError
from forwhy.frames import scan_parquet
from forwhy.hub import NAME
from forwhy.recipe.runner import RunFolder
from forwhy.recipe.schema import dump_model
from forwhy.report.tables import SHOWN_TEXT, shown_ranking
from forwhy.report.writing import clean
from forwhy.systems import METRICS

log = logging.getLogger(__name__)

SAMPLES = 3
"""Generated texts on the card."""
WRITTEN = "Texts are generated and can be wrong about an item. "


def write_push(run: RunFolder, target: Path, name: str) -> None:
    """Write the folder that is uploaded as `name`: finished stages, the recipe without paths, metrics and a card.

    Evaluations and outputs stay here, as they quote people. Refuses a run that has learned nothing.
    """
    if not NAME.fullmatch(name):
        raise UserError(f"{name}: no name of a repository; write it as me/model")
    learned = [step.name for step in run.recipe.plan()[:-1] if run.has(step.name)]
    if not learned:
        raise UserError(f"{run.path}: holds nothing that was learned; push a run of a system that trains")
    taken = target.is_file() or (target.is_dir() and any(target.iterdir()))
    if taken and not (target / "recipe.toml").is_file():
        raise UserError(f"{target}: holds something else; give a new or empty folder")
    recipe, dataset = run.recipe, run.dataset()
    hidden = recipe.model_copy(update={"data": recipe.data.model_copy(update={"path": dataset.name})})
    with atomic_folder(target) as folder:
        for stage in learned:
            shutil.copytree(run.output(stage), folder / stage)
        for file in ("state.json", METRICS):
            shutil.copyfile(run.path / file, folder / file)
        about = "without the path of the data; `forwhy run` needs one"
        (folder / "recipe.toml").write_text(dump_model(hidden, about), encoding="utf-8")
        (folder / CARD).write_text(_card(run, folder, name), encoding="utf-8")


def _card(run: RunFolder, folder: Path, name: str) -> str:
    recipe, dataset = run.recipe, run.dataset()
    document = run.evaluation() if run.has("evaluation") else {}
    slug = re.sub(r"[^\w.-]+", "-", dataset.name).strip("-.") or "data"
    rows, samples = list(_results(document)), list(_samples(run, document))
    configs = [read_json(file)["config"] for file in folder.glob(f"*/{CONFIG}")]
    bases = sorted({it["id"] for config in configs if (it := config.get("base_model")) and it["id"]})
    for base in (base for base in bases if Path(base).is_dir()):
        log.warning("%s is a folder of this machine: who loads this gives their own, as model=FOLDER", base)
    about = (Path(__file__).parent / "card.md").read_text(encoding="utf-8")
    text = about.format(
        bases=", ".join(bases) or "none",
        system=recipe.system,
        name=name,
        data=clean(dataset.name),
        fingerprint=dataset.fingerprint,
        users=len(dataset.users),
        items=len(dataset.items),
        held="\n".join(_held(folder)) or "- none",
        samples="\n".join(samples) or "None: this run writes no texts.",
        written=WRITTEN if samples else "",
    )
    found = {
        "task": {"type": "recommendation", "name": "recommendation"},
        "dataset": {"type": slug, "name": dataset.name},
        "metrics": [{"type": row["metric"], "value": row["this run"]} for row in rows],
    }
    front: dict[str, Any] = {"datasets": [slug], "metrics": [row["metric"] for row in rows]}
    front["model-index"] = [{"name": recipe.name, "results": [found]}]
    if hub_ids := [one for one in bases if NAME.fullmatch(one)]:
        front |= {"base_model": hub_ids, "base_model_relation": "adapter"}
    return card(clean(recipe.name), text, rows, recipe.system, **front)


def _results(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A row for each main metric, beside its control."""
    parts = (
        ("ranking", shown_ranking([document]) if document else (), "baselines", "popularity"),
        ("text", SHOWN_TEXT, "controls", "constant"),
    )
    for part, metrics, others, control in parts:
        values, beside = document.get(part) or {}, (document.get(others) or {}).get(control) or {}
        for metric in metrics:
            if values.get(metric) is not None:
                known = f"{control} {beside[metric]:.4f}" if beside.get(metric) is not None else ""
                yield {"metric": metric, "this run": round(values[metric], 4), "control": known}


def _samples(run: RunFolder, document: Mapping[str, Any]) -> Iterator[str]:
    """Texts that the run generated, without whom they were written for."""
    outputs = run.outputs() if document.get("text") else None
    if outputs is not None:
        dataset = run.dataset()
        titles = dict(zip(map(str, dataset.items.values), dataset.titles(), strict=True))
        for key, words in list(zip(outputs.keys, outputs.predictions, strict=True))[:SAMPLES]:
            item = key[1] if isinstance(key, tuple) else key
            said = f"- {titles.get(str(item)) or item}: {words}"
            yield " ".join(clean(said).split())


def _held(folder: Path) -> Iterator[str]:
    """Which tables hold words or ids, and of how many rows."""
    for file in sorted(folder.rglob("*.parquet")):
        lazy, rows = scan_parquet(file)
        schema = lazy.collect_schema()
        words = [column for column, kind in schema.items() if kind in (pl.String, pl.List(pl.String))]
        if words and rows:
            yield f"- `{file.relative_to(folder)}`: {', '.join(words)} of {rows:,} rows"
