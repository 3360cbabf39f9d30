"""RecBole's atomic files, read and written.

NAME.inter, or NAME.train.inter, NAME.valid.inter and NAME.test.inter; NAME.item; NAME.user. Tabs separate the
fields, and the first line names them as ``name:type``.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import polars as pl

from forwhy.atomic import atomic_folder, refuse_foreign
from forwhy.columns import SIDES, SPLITS, Graph
from forwhy.data.bad_rows import BadRow
from forwhy.data.dataset import Dataset
from forwhy.data.sources.files import BOM, RowFile, plain_text, require_folder, text_of
from forwhy.data.sources.reviews import Fact, Review, ReviewFilters, ReviewLog, id_of
from forwhy.data.sources.rows import check_columns
from forwhy.documents import require_file
from forwhy.errors import UserError

TYPES = ("token", "token_seq", "float", "float_seq")
OURS = ("user_id", "item_id", "rating", "timestamp")
MAPPED = (*OURS, "title", "description", "categories")

BREAKING = '[\t\r\n"]'
"""What an id must not hold: RecBole's reader splits at tabs and line breaks and honours quotes."""


class RecBoleFilters(ReviewFilters):
    """A log without texts stays as it is, unless asked."""

    duplicates: Literal["first", "last", "keep"] = "keep"


def import_recbole(
    folder: Path | str,
    *,
    names: Mapping[str, str] = MappingProxyType({}),
    filters: ReviewFilters | None = None,
    name: str | None = None,
    skip_bad: bool = False,
) -> Dataset:
    """Read a folder of atomic files, which have no review texts.

    Files named by split (RecBole's `benchmark_filename`) give the split. Facts of `.item` and `.user` keep their names;
    titles, descriptions and categories are those columns that are called so. Times are kept as they are, cut to whole
    numbers. Memory, time, bad rows and `skip_bad` as in `published.import_reviews`. `names` are their field by our
    column (`user_id`, `item_id`, `rating`, `timestamp`, or a column of `items`); without `filters` all rows stay.
    """
    label, inter, splits = _inter_files(Path(folder))
    logs = [_Atomic.open(path, names) for path in inter]
    first = logs[0]
    for log in logs:
        log.require("user_id", "item_id")
        if "item_id_list" in log.fields:
            raise UserError(f"{log.path}: sequences (item_id_list), not interactions; give the plain .inter")
        if [field in log.fields for field in OURS] != [field in first.fields for field in OURS]:
            raise UserError(f"{log.path}: other fields than {first.path}; give all splits the same")
    about = {side: Path(folder) / f"{label}.{side}" for side in SIDES}
    known = {side: _Atomic.open(path, names) for side, path in about.items() if path.exists()}
    _check_names(names, [*logs, *known.values()])
    for side, table in known.items():
        table.require(f"{side}_id")
    reader = ReviewLog(
        [RowFile(log.path, log.review, header=1) for log in logs],
        {side: names.get(f"{side}_id", f"{side}_id") for side in SIDES},
        {side: [RowFile(table.path, table.fact, header=1)] for side, table in known.items()},
        rated="rating" in first.fields,
        timed="timestamp" in first.fields,
        splits=splits,
    )
    return reader.read("recbole", name or label, filters or RecBoleFilters(), skip_bad)


@dataclass(frozen=True)
class _Atomic:
    """One atomic file by its header."""

    path: Path
    fields: Mapping[str, str]
    """Type of each field by our name, in the file's order."""
    theirs: Mapping[str, str]
    """Their name of a field by ours, where it differs."""
    given: tuple[str, ...]
    """All fields, as the file calls them."""

    @classmethod
    def open(cls, path: Path, names: Mapping[str, str]) -> "_Atomic":
        """Read the header; refuses what is none."""
        require_file(path)
        with path.open("rb") as stream:
            head = stream.readline(1 << 20).removeprefix(BOM).decode("utf-8", "replace").rstrip("\r\n")
        fields = [part.partition(":") for part in head.split("\t")]
        if not head or any(kind not in TYPES for _, _, kind in fields):
            remedy = f"write fields as name:type, tabs between, with types {', '.join(TYPES)}"
            raise UserError(f"{path}: row 0: {head[:60]!r} is no header of atomic files; {remedy}")
        ours = {theirs: our for our, theirs in names.items()}
        check_columns(path, [ours.get(field, field) for field, _, _ in fields])
        given = tuple(field for field, _, _ in fields)
        return cls(path, {ours.get(field, field): kind for field, _, kind in fields}, names, given)

    def require(self, *columns: str) -> None:
        for column in columns:
            if column not in self.fields:
                wrong = f"no field {self.theirs.get(column, column)!r} (it has: {', '.join(self.fields)})"
                raise UserError(f"{self.path}: {wrong}; map it: --map {column}=THEIRS")

    def review(self, line: bytes) -> Review:
        """A row of an .inter file; raises `BadRow`."""
        cells = self._cells(line)
        rating = self._number(cells, "rating") if "rating" in cells else math.nan
        seconds = self._number(cells, "timestamp") if "timestamp" in cells else 0.0
        if not -(2.0**62) < seconds < 2.0**62:
            raise BadRow("no time", self.theirs.get("timestamp", "timestamp"), value=seconds)
        return self._id(cells, "user_id"), self._id(cells, "item_id"), rating, int(seconds), ()

    def fact(self, line: bytes) -> Fact:
        """A row of an .item or .user file; raises `BadRow`."""
        cells = self._cells(line)
        key = f"{self.path.suffix[1:]}_id"
        told: dict[str, Any] = {column: cell for column, cell in cells.items() if column != key}
        for column in told:
            if self.fields[column] == "float":
                told[column] = self._number(cells, column) if cells[column] else None
        return self._id(cells, key), lambda: {
            column: plain_text(value) if isinstance(value, str) else value for column, value in told.items()
        }

    def _cells(self, line: bytes) -> dict[str, str]:
        cells = text_of(line).rstrip("\r\n").split("\t")
        if len(cells) != len(self.fields):
            found = f"{len(cells)} values in a file of {len(self.fields)} fields"
            raise BadRow(found, remedy="separate fields by one tab each")
        return dict(zip(self.fields, cells, strict=True))

    def _id(self, cells: Mapping[str, str], column: str) -> str:
        return id_of(cells[column], self.theirs.get(column, column))

    def _number(self, cells: Mapping[str, str], column: str) -> float:
        try:
            number = float(cells[column])
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise BadRow("not a finite number", self.theirs.get(column, column), value=cells[column])
        return number


def _check_names(names: Mapping[str, str], tables: Sequence[_Atomic]) -> None:
    for ours, theirs in names.items():
        if ours not in MAPPED:
            raise UserError(f"--map {ours}={theirs}: map one of {', '.join(MAPPED)}")
        if not any(theirs in table.given for table in tables):
            has = ", ".join(dict.fromkeys(field for table in tables for field in table.fields))
            raise UserError(f"--map {ours}={theirs}: no file has a field {theirs!r} (there are: {has})")


def _inter_files(folder: Path) -> tuple[str, list[Path], tuple[str, ...] | None]:
    """Label, files and, when they are named by it, their splits."""
    require_folder(folder, "NAME.inter")
    found = sorted(folder.glob("*.inter"))
    stems = [path.name.removesuffix(".inter") for path in found]
    label, _, part = stems[0].rpartition(".") if stems else ("", "", "")
    if stems == sorted(f"{label}.{split}" for split in SPLITS):
        return label, [folder / f"{label}.{split}.inter" for split in SPLITS], SPLITS
    if len(stems) == 1 and part not in SPLITS:
        return stems[0], found, None
    names = ", ".join(path.name for path in found) or "none"
    wanted = "NAME.inter, or NAME.train.inter, NAME.valid.inter and NAME.test.inter,"
    raise UserError(f"{folder}: found {names} where {wanted} are needed; leave one data set in the folder")


def export_recbole(
    dataset: Dataset, folder: Path | str, *, single: bool = False, graph: Graph = "leak-free"
) -> None:
    """Write FOLDER/NAME.train.inter, .valid.inter, .test.inter, NAME.item, NAME.user and NAME.yaml.

    NAME is the folder's own, as RecBole wants it; an earlier export is replaced. The YAML names the splits
    (`benchmark_filename`) and the columns to load. Text loses tabs, line breaks and double quotes. Interactions come
    back equal from `import_recbole`; of other tables only items' and users' facts are written. `single` writes one
    NAME.inter without split, which RecBole splits by its own settings; `graph` as in `Dataset.edges`. Refused: an id
    with a tab, line break or double quote; a folder that holds something else.
    """
    folder = Path(folder)
    name = folder.absolute().name
    refuse_foreign(folder, f"{name}.yaml")
    frame = dataset.tables["interactions"]
    columns = [column for column in OURS if column in frame.columns]
    users, items = dataset.users.numbers(frame["user_id"]), dataset.items.numbers(frame["item_id"])
    hidden = pl.Series(dataset.is_heldout(users, items)) & (frame["split"] == "train")
    rows = frame if graph == "as-published" else frame.filter(~hidden)
    config: dict[str, object] = {"forwhy": "RecBole export", "load_col": {"inter": columns}}
    config |= {} if single else {"benchmark_filename": list(SPLITS)}
    files = {"inter": rows.select(columns)}
    if not single:
        files = {f"{split}.inter": rows.filter(split=split).select(columns) for split in SPLITS}
    files |= {side: dataset.tables[f"{side}s"] for side in SIDES if f"{side}s" in dataset.tables}
    with atomic_folder(folder) as temporary:
        for suffix, part in files.items():
            atomic = [_column(values) for values in part]
            check_columns(f"{suffix} of {dataset.name}", [field.name for field in atomic])
            pl.DataFrame(atomic).write_csv(
                temporary / f"{name}.{suffix}", separator="\t", quote_style="never"
            )
        text = json.dumps(config, indent=2)  # JSON is YAML
        (temporary / f"{name}.yaml").write_text(text + "\n", encoding="utf-8")


def _column(values: pl.Series) -> pl.Series:
    """The column under ``field:type``; a name keeps no colon or space, which would end it."""
    values = values.alias(re.sub(r"[:\s\"]", "_", values.name))
    if values.name.endswith("_id"):
        ids = values.cast(pl.String)
        wrong = ids.filter(ids.str.contains(BREAKING))
        if len(wrong):
            why = "RecBole's files cannot hold an id with a tab, line break or double quote"
            raise UserError(f"{values.name} {wrong[0]!r}: {why}; rename it")
        return ids.alias(f"{values.name}:token")
    if values.dtype == pl.Boolean:
        values = values.cast(pl.Int64)
    if values.dtype.is_numeric():
        return values.alias(f"{values.name}:float")
    text = values.cast(pl.String).str.replace_all('"', "'", literal=True)
    return text.str.replace_all(r"\s+", " ").alias(f"{values.name}:token_seq")
