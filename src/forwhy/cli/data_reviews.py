"""`forwhy data import amazon|yelp|google|recbole` and `forwhy data export recbole`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from forwhy.cli.console import JsonFlag, emit, plain, show
from forwhy.cli.data_saving import Name, Out, Target, place_of, summary_table

if TYPE_CHECKING:
    from rich.table import Table

    from forwhy.data.dataset import Dataset
    from forwhy.data.sources.reviews import ReviewFilters

export_app = typer.Typer(
    help="Write a dataset in another library's layout.", no_args_is_help=True, rich_markup_mode=None
)

DAY = ["%Y-%m-%d"]

Reviews = Annotated[list[Path], typer.Option("--reviews", help="JSON lines, plain or gzip; repeatable.")]
Meta = Annotated[
    list[Path] | None, typer.Option("--meta", help="Facts about the items, as the reviews; repeatable.")
]
Since = Annotated[datetime | None, typer.Option(formats=DAY, help="First day (UTC) that counts.")]
Until = Annotated[datetime | None, typer.Option(formats=DAY, help="First day (UTC) that counts no more.")]
Duplicates = Annotated[
    Literal["first", "last", "keep"],
    typer.Option(help="Which of a user's several rows about one item stays, by time."),
]
Identical = Annotated[
    Literal["keep", "user", "anyone"],
    typer.Option("--identical-texts", help="Keep the earliest of equal texts only: one user's, or anyone's."),
]
MinRating = Annotated[float | None, typer.Option(help="Least rating that counts as an interaction.")]
Users = Annotated[int | None, typer.Option(min=1, help="How many users to draw.")]
Sample = Annotated[float | None, typer.Option(min=0.0, max=1.0, help="Share of the users to draw.")]
Core = Annotated[int, typer.Option(min=1, help="Least number of rows of each user and item that stays.")]
Split = Annotated[
    Literal["leave-one-out", "time", "random"] | None,
    typer.Option(help="Default: as the files say, else leave-one-out, or random without times."),
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the sample of users and of a random split.")]
SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="Leave rows out that cannot be read: counted, the first few named.")
]


def _reviews_command(source: str, about: str) -> Callable[..., None]:
    """One command; the sources differ in their field names only."""

    def command(
        reviews: Reviews,
        target: Target = None,
        out: Out = None,
        meta: Meta = None,
        since: Since = None,
        until: Until = None,
        duplicates: Duplicates = "last",
        identical: Identical = "keep",
        min_rating: MinRating = None,
        users: Users = None,
        sample: Sample = None,
        core: Core = 1,
        split: Split = None,
        seed: Seed = 0,
        skip_bad: SkipBad = False,
        name: Name = None,
        as_json: JsonFlag = False,
    ) -> None:
        from forwhy.data.sources import SOURCES

        place = place_of(target, out)
        filters = _filters(since, until, duplicates, identical, min_rating, users, sample, core, split, seed)
        dataset = SOURCES[source](
            reviews, meta or (), filters=filters, name=name or place.absolute().name, skip_bad=skip_bad
        )
        _keep(dataset, place, as_json)

    command.__doc__ = about
    return command


import_amazon = _reviews_command("amazon", "Amazon Reviews 2023 or 2018: review and meta files.")
import_yelp = _reviews_command("yelp", "Yelp's review (--reviews) and business (--meta) files.")
import_google = _reviews_command("google", "Google Local's review and meta files.")


def import_recbole(
    folder: Annotated[Path, typer.Argument(help="Folder with NAME.inter, or NAME.train.inter and so on.")],
    target: Target = None,
    out: Out = None,
    fields: Annotated[
        list[str] | None, typer.Option("--map", help="OURS=THEIRS, e.g. item_id=business_id; repeatable.")
    ] = None,
    since: Since = None,
    until: Until = None,
    duplicates: Duplicates = "keep",
    min_rating: MinRating = None,
    users: Users = None,
    sample: Sample = None,
    core: Core = 1,
    split: Split = None,
    seed: Seed = 0,
    skip_bad: SkipBad = False,
    name: Name = None,
    as_json: JsonFlag = False,
) -> None:
    """RecBole's atomic files, with or without its benchmark split."""
    from forwhy.data.sources import import_recbole as read

    place = place_of(target, out)
    filters = _filters(since, until, duplicates, "keep", min_rating, users, sample, core, split, seed)
    dataset = read(folder, names=_names(fields or []), filters=filters, name=name, skip_bad=skip_bad)
    _keep(dataset, place, as_json)


@export_app.command("recbole")
def export_recbole(
    folder: Annotated[Path, typer.Argument(help="Dataset folder.")],
    target: Annotated[Path, typer.Argument(help="Folder to write; its name becomes RecBole's dataset.")],
    single: Annotated[
        bool, typer.Option("--single", help="One .inter without the split; RecBole makes its own.")
    ] = False,
    graph: Annotated[
        Literal["leak-free", "as-published"],
        typer.Option(help="leak-free: no training pair whose explanation is held out."),
    ] = "leak-free",
) -> None:
    """RecBole's atomic files with our split, and a YAML that names it."""
    from forwhy.data.dataset import Dataset
    from forwhy.data.sources.recbole import export_recbole as write

    write(Dataset.load(folder), target, single=single, graph=graph)
    show(*(str(path) for path in sorted(target.iterdir())))


def _filters(
    since: datetime | None,
    until: datetime | None,
    duplicates: Literal["first", "last", "keep"],
    identical: Literal["keep", "user", "anyone"],
    min_rating: float | None,
    users: int | None,
    sample: float | None,
    core: int,
    split: Literal["leave-one-out", "time", "random"] | None,
    seed: int,
) -> ReviewFilters:
    from forwhy.data.sources.reviews import ReviewFilters
    from forwhy.errors import UserError

    if sample == 0:
        raise UserError("--sample 0: draws nobody; give a share above 0")
    return ReviewFilters(
        since=since.date() if since else None,
        until=until.date() if until else None,
        duplicates=duplicates,
        identical_texts=identical,
        min_rating=min_rating,
        users=users,
        share=sample,
        core=core,
        split=split,
        seed=seed,
    )


def _names(fields: Sequence[str]) -> dict[str, str]:
    from forwhy.errors import UserError

    names: dict[str, str] = {}
    for entry in fields:
        ours, _, theirs = entry.partition("=")
        if not (ours and theirs):
            raise UserError(f"--map {entry}: expected OURS=THEIRS, e.g. item_id=business_id")
        names[ours.strip()] = theirs
    return names


def _keep(dataset: Dataset, out: Path, as_json: bool) -> None:
    """Save and show, with what every step took away and which rows were bad."""
    dataset.save(out)
    summary, source = dataset.summary(), dataset.source
    if as_json:
        emit(summary | {"steps": source["steps"], "bad_rows": source["bad_rows"]})
        return
    said = [f"bad row: {plain(place)}" for place in source["bad_rows"]["first"]]
    show(_steps(source["steps"], source["bad_rows"]), *said, summary_table(summary))


def _steps(steps: Sequence[Mapping[str, Any]], bad: Mapping[str, Any]) -> Table:
    """One row per step."""
    from rich.table import Table

    table = Table("step", "dropped", "rows left", "users left", "items left")
    for reason, count in bad["reasons"].items():
        table.add_row(plain(f"bad rows: {reason}"), f"{count:,}", "", "", "")
    for step in steps:
        counts = (f"{step[key]:,}" for key in ("dropped", "rows", "users", "items"))
        table.add_row(plain(step["step"]), *counts)
    return table
