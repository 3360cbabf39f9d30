"""Writing a data set as RecBole's atomic files, so that its models run on the same split."""

import json
import re
from pathlib import Path

import numpy as np
import polars as pl

from forwhy.atomic import atomic_folder, refuse_foreign
from forwhy.columns import SPLITS, Graph
from forwhy.data.dataset import Dataset
from forwhy.errors import UserError

__all__ = ["export_recbole"]

BREAKING = '[\t\r\n"]'
"""What an id must not hold: RecBole's reader splits at tabs and line breaks and honours quotes."""


def export_recbole(
    dataset: Dataset, folder: Path | str, *, single: bool = False, graph: Graph = "leak-free"
) -> None:
    """Write FOLDER/NAME.train.inter, .valid.inter, .test.inter, NAME.item, NAME.user and NAME.yaml.

    NAME is the folder's own, as RecBole wants it. The YAML names the splits (`benchmark_filename`) and the
    columns to load. Text loses tabs, line breaks and double quotes. Interactions come back equal from
    `import_recbole`; of other tables only items' and users' facts are written.

    Args:
        dataset: What to write.
        folder: Where; replaced when it is an earlier export.
        single: One NAME.inter without split: RecBole splits it by its own settings.
        graph: ``leak-free`` leaves out training pairs whose explanation is held out, as `Dataset.edges` does.

    Raises:
        UserError: an id with a tab, line break or double quote; a folder that holds something else.
    """
    folder = Path(folder)
    name = folder.absolute().name
    refuse_foreign(folder, f"{name}.yaml")
    rows = _interactions(dataset, graph)
    facts = {side: dataset.tables.get(f"{side}s") for side in ("item", "user")}
    config: dict[str, object] = {"forwhy": "RecBole export", "load_col": {"inter": rows.columns[:-1]}}
    with atomic_folder(folder) as temporary:
        if single:
            _write(rows.drop("split"), temporary / f"{name}.inter")
        else:
            config["benchmark_filename"] = list(SPLITS)
            for split in SPLITS:
                part = rows.filter(pl.col("split") == split).drop("split")
                _write(part, temporary / f"{name}.{split}.inter")
        for side, frame in facts.items():
            if frame is not None:
                _write(frame, temporary / f"{name}.{side}")
        text = json.dumps(config, indent=2)  # JSON is YAML
        (temporary / f"{name}.yaml").write_text(text + "\n", encoding="utf-8")


def _interactions(dataset: Dataset, graph: Graph) -> pl.DataFrame:
    """Ids, rating and timestamp where there are such, and the split, last."""
    frame = dataset.tables["interactions"]
    columns = [column for column in ("rating", "timestamp") if column in frame.columns]
    rows = frame.select("user_id", "item_id", *columns, "split")
    if graph == "as-published":
        return rows
    width = len(dataset.items)
    keys = dataset.users.numbers(rows["user_id"]) * width + dataset.items.numbers(rows["item_id"])
    held = dataset.heldout_pairs()
    hidden = pl.Series(np.isin(keys, held[:, 0] * width + held[:, 1]))
    return rows.filter(~(hidden & (rows["split"] == "train")))


def _write(frame: pl.DataFrame, path: Path) -> None:
    columns = [_column(frame[name]) for name in frame.columns]
    pl.DataFrame(columns).write_csv(path, separator="\t", quote_style="never")


def _column(values: pl.Series) -> pl.Series:
    """The column under ``field:type``; a name keeps no colon or space, which would end it."""
    values = values.alias(re.sub(r"[:\s\"]", "_", values.name))
    if values.name.endswith("_id"):
        ids = values.cast(pl.String)
        wrong = ids.filter(ids.str.contains(BREAKING))
        if len(wrong):
            raise UserError(
                f"{values.name} {wrong[0]!r}: RecBole's files cannot hold an id with a tab, line break or "
                "double quote; rename it"
            )
        return ids.alias(f"{values.name}:token")
    if values.dtype == pl.Boolean:
        values = values.cast(pl.Int64)
    if values.dtype.is_numeric():
        return values.alias(f"{values.name}:float")
    text = values.cast(pl.String).str.replace_all('"', "'", literal=True)
    return text.str.replace_all(r"\s+", " ").alias(f"{values.name}:token_seq")
