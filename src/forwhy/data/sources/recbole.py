"""RecBole's atomic files: NAME.inter, or NAME.train.inter, NAME.valid.inter and NAME.test.inter; .item; .user."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from forwhy.columns import SIDES, SPLITS
from forwhy.data.dataset import Dataset
from forwhy.data.sources.files import plain_text
from forwhy.data.sources.layouts import Fact, Review, id_in
from forwhy.data.sources.lines import BOM, BadRow, RowFile, text_of
from forwhy.data.sources.reviews import FactFiles, ReviewFilters, ReviewLog
from forwhy.errors import UserError

__all__ = ["import_recbole"]

TYPES = ("token", "token_seq", "float", "float_seq")
CORRECT = "correct the row"

OURS = ("user_id", "item_id", "rating", "timestamp")
MAPPED = (*OURS, "title", "description", "categories")
NO_NAMES: Mapping[str, str] = MappingProxyType({})


def import_recbole(
    folder: Path | str,
    *,
    names: Mapping[str, str] = NO_NAMES,
    filters: ReviewFilters | None = None,
    name: str | None = None,
    skip_bad: bool = False,
) -> Dataset:
    """Read a folder of atomic files, which have no review texts.

    Files named by split (RecBole's `benchmark_filename`) give the split. Facts of `.item` and `.user` keep
    their names; titles, descriptions and categories are those columns that are called so. Times are kept as
    they are, cut to whole numbers. Memory and time as in `published.import_amazon`.

    Args:
        folder: Where the files are; one data set only.
        names: Their field by ours (`user_id`, `item_id`, `rating`, `timestamp`, or one of the items').
        filters: Which rows stay, and the split; all, repeated pairs too, when there are none.
        name: Label; theirs by default.
        skip_bad: Count bad rows, name the first few in `source`, and leave them out.

    Raises:
        UserError: missing or foreign files, the first bad row (file, row, column, remedy).
    """
    label, inter, splits = _inter_files(Path(folder))
    tables = [_Atomic.open(path, names) for path in inter]
    first = tables[0]
    for table in tables:
        table.check(first)
    about = {side: Path(folder) / f"{label}.{side}" for side in SIDES}
    known = {side: _Atomic.open(path, names) for side, path in about.items() if path.is_file()}
    _check_names(names, [*tables, *known.values()])
    log = ReviewLog(
        "recbole",
        [RowFile(table.path, table.review, header=1) for table in tables],
        {side: names.get(f"{side}_id", f"{side}_id") for side in SIDES},
        {side: _facts(table, f"{side}_id") for side, table in known.items()},
        rated="rating" in first.at,
        timed="timestamp" in first.at,
        splits=splits,
    )
    return log.read(name or label, filters or ReviewFilters(duplicates="keep"), skip_bad)


@dataclass(frozen=True)
class _Atomic:
    """One atomic file's header."""

    path: Path
    at: Mapping[str, int]
    """Position of each field, by our name."""
    types: Sequence[str]
    """Type of each field, by position."""
    theirs: Mapping[str, str]

    @classmethod
    def open(cls, path: Path, names: Mapping[str, str]) -> "_Atomic":
        """Read the header; refuses what is none."""
        with path.open("rb") as stream:
            head = stream.readline(1 << 20).removeprefix(BOM).decode("utf-8", "replace").rstrip("\r\n")
        fields = [part.partition(":") for part in head.split("\t")]
        if not head or any(kind not in TYPES for _, _, kind in fields):
            raise UserError(
                f"{path}: row 0: {head[:60]!r} is no header of atomic files; write fields as name:type, "
                f"tabs between, with types {', '.join(TYPES)}"
            )
        ours = {theirs: our for our, theirs in names.items()}
        at = {ours.get(field, field): number for number, (field, _, _) in enumerate(fields)}
        return cls(path, at, [kind for _, _, kind in fields], names)

    def check(self, first: "_Atomic") -> None:
        """Refuse an .inter file without ids, of sequences, or unlike the first one."""
        self.require("user_id", "item_id")
        if "item_id_list" in self.at:
            raise UserError(f"{self.path}: sequences (item_id_list), not interactions; give the plain .inter")
        if [name in self.at for name in OURS] != [name in first.at for name in OURS]:
            raise UserError(f"{self.path}: other fields than {first.path}; give all splits the same")

    def require(self, *columns: str) -> None:
        """Refuse a header without these columns."""
        for column in columns:
            if column not in self.at:
                has = ", ".join(self.at)
                raise UserError(
                    f"{self.path}: no field {self.theirs.get(column, column)!r} (it has: {has}); "
                    f"map it: --map {column}=THEIRS"
                )

    def values(self, line: bytes) -> list[str]:
        """One row's cells; raises `BadRow`."""
        cells = text_of(line).rstrip("\r\n").split("\t")
        if len(cells) != len(self.types):
            found = f"{len(cells)} values in a file of {len(self.types)} fields"
            raise BadRow("", found, "separate fields by one tab each")
        return cells

    def review(self, line: bytes) -> Review:
        """A row of an .inter file."""
        cells = self.values(line)
        seconds = self._number(cells, "timestamp", 0.0)
        if not -(2.0**62) < seconds < 2.0**62:
            raise BadRow(self.theirs.get("timestamp", "timestamp"), "no time", CORRECT, seconds)
        return Review(
            self._id(cells, "user_id"),
            self._id(cells, "item_id"),
            self._number(cells, "rating"),
            int(seconds),
        )

    def fact(self, line: bytes, key: str) -> Fact:
        """A row of an .item or .user file."""
        cells = self.values(line)
        values = {column: cells[number] for column, number in self.at.items() if column != key}
        checked = {column: self._value(cells, column) for column in values}
        return Fact(self._id(cells, key), checked)

    def _value(self, cells: list[str], column: str) -> object:
        number = self.at[column]
        if self.types[number] == "float" and cells[number]:
            return self._number(cells, column)
        return None if self.types[number] == "float" else cells[number]

    def _id(self, cells: list[str], column: str) -> str:
        theirs = self.theirs.get(column, column)
        return id_in({theirs: cells[self.at[column]]}, theirs)

    def _number(self, cells: list[str], column: str, absent: float = float("nan")) -> float:
        if column not in self.at:
            return absent
        cell = cells[self.at[column]]
        try:
            number = float(cell)
        except ValueError:
            number = float("nan")
        if number - number != 0:  # NaN or infinite
            raise BadRow(self.theirs.get(column, column), "not a finite number", CORRECT, cell)
        return number


def _facts(table: _Atomic, key: str) -> FactFiles:
    table.require(key)
    file = RowFile(table.path, lambda line: table.fact(line, key), header=1)
    return FactFiles([file], table.theirs.get(key, key), _clean)


def _check_names(names: Mapping[str, str], tables: Sequence[_Atomic]) -> None:
    """Refuse a mapping that would change nothing."""
    for ours, theirs in names.items():
        if ours not in MAPPED:
            raise UserError(f"--map {ours}={theirs}: map one of {', '.join(MAPPED)}")
        if not any(ours in table.at for table in tables):
            has = ", ".join(dict.fromkeys(field for table in tables for field in table.at))
            raise UserError(f"--map {ours}={theirs}: no file has a field {theirs!r} (there are: {has})")


def _clean(fact: Fact) -> dict[str, Any]:
    return {
        column: plain_text(value) if isinstance(value, str) else value
        for column, value in fact.values.items()
    }


def _inter_files(folder: Path) -> tuple[str, list[Path], tuple[str, ...] | None]:
    """Label, files and, when they are named by it, their splits."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give the folder with NAME.inter")
    found = {path.name.removesuffix(".inter"): path for path in sorted(folder.glob("*.inter"))}
    parts = [(stem.rpartition("."), path) for stem, path in found.items()]
    by_split = {part: path for (_, _, part), path in parts if part in SPLITS}
    labels = {label for (label, _, part), _ in parts if part in SPLITS}
    if len(labels) == 1 and set(by_split) == set(SPLITS) and len(found) == len(SPLITS):
        return labels.pop(), [by_split[split] for split in SPLITS], SPLITS
    if len(found) == 1 and not labels:
        label, path = found.popitem()
        return label, [path], None
    names = ", ".join(path.name for path in found.values()) or "none"
    raise UserError(
        f"{folder}: found {names} where NAME.inter, or NAME.train.inter, NAME.valid.inter and "
        "NAME.test.inter, are needed; leave one data set in the folder"
    )
