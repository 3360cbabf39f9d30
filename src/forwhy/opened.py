"""A finished run as it is asked: `forwhy.open("runs/shop")`. Notebooks and the command line ask the same object."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Unpack

import polars as pl

from forwhy.atomic import atomic_file, refuse_other
from forwhy.errors import NoAnswer, UserError
from forwhy.explain.asking import AskedWho, Explains, is_single, pairs_alone
from forwhy.explain.evidence import Evidence, Explanation
from forwhy.frames import Id, Shown, Table, ids_of, pairs_of, scan_parquet
from forwhy.recipe import RunFolder
from forwhy.recommend.base import Given, Recommender
from forwhy.recommend.rules import Rules
from forwhy.shards import EngineName, Shards, Work, do, shard_of

SINKS: Mapping[str, Callable[..., object]] = {
    ".parquet": pl.LazyFrame.sink_parquet,
    ".csv": pl.LazyFrame.sink_csv,
    ".jsonl": pl.LazyFrame.sink_ndjson,
    ".ndjson": pl.LazyFrame.sink_ndjson,
}
"""Extension of a file of everybody's lists -> what writes it, a piece at a time."""
IN_A_SHARD = 256
"""Pairs of a shard in the mean: minutes of a small model on one core, all that a crash can cost."""
TOGETHER, EXPLAINED_TOGETHER = 1024, 32
"""People whose lists are made, or made and explained, between two pieces that are kept."""
BEHIND = 3
"""Items of the history that are named beside a reason."""


def open(path: Path | str, unavailable: Any = None) -> OpenRun:  # noqa: A001, ANN401 - as people guess it
    """A run, ready to be asked; any system's.

    Args:
        path: The folder given to `forwhy run --out`, or the name of a pushed one, such as `me/model`.
        unavailable: Items that no list holds: ids, a frame with `item_id`, or the `Path` of a file of them.

    Raises:
        UserError: The folder is missing or no run; an unknown id.
    """
    return OpenRun(RunFolder.open(path), unavailable)


class Explanations(Shown, list[Explanation]):
    """Reasons of several pairs, in their order."""

    def __init__(self, told: Sequence[Explanation], pairs: Sequence[tuple[Id, Id]]) -> None:
        super().__init__(told)
        self.pairs = pairs

    def to_polars(self) -> Table:
        """user_id, item_id, the text, and which items of the history carried the score most."""
        users, items = zip(*self.pairs, strict=True) if self.pairs else ((), ())
        return Table(pl.DataFrame({"user_id": users, "item_id": items}).with_columns(_columns(self)))

    def to_pandas(self) -> Any:  # noqa: ANN401 - pandas is an extra
        """The same as a pandas frame."""
        return self.to_polars().to_pandas()

    def _repr_html_(self) -> str:
        return self.to_polars()._repr_html_()


class OpenRun(Shown):
    """A run: lists for people, reasons, words, the curves of its training. Models are loaded when first asked for.

    Users, items and pairs come as ids, lists, arrays, or frames of pandas or polars with `user_id` and `item_id`.
    """

    def __init__(self, folder: RunFolder, unavailable: Any = None) -> None:  # noqa: ANN401 - as `open`
        self.folder, self._unavailable = folder, unavailable

    @cached_property
    def recommender(self) -> Recommender:
        """What lists items."""
        found = self.folder.recommender()
        return found.under(Rules.of(found.catalogue.items, self._unavailable))

    @cached_property
    def trained(self) -> Explains:
        """What says why: an explainer; plain sentences where none is trained."""
        return self.folder.explainer() if self.folder.recipe.explains(self.folder) else self.plain

    @cached_property
    def plain(self) -> Explains:
        """Sentences of what was counted and read, without a model."""
        return self.folder.recipe.plain_reasons(self.folder, self.recommender)

    def reasoner(self, item: Id | None = None) -> Any:  # noqa: ANN401 - of any system
        """What says why; plain sentences where no explainer is trained, or where it knows nothing of this item."""
        return self.trained if item is None or self.trained.knows(item) else self.plain

    def _shown(self) -> Mapping[str, int | str]:
        run = str(self.folder.path)
        return {"run": run, "system": self.folder.recipe.system, **self.recommender._shown()}

    def under(self, **rules: Given) -> OpenRun:
        """This run, whose lists keep to these rules too: `exclude`, `only`, `boost`, as of `Recommender.recommend`."""
        found = copy(self)
        found.recommender = self.recommender.under(Rules.of(self.recommender.catalogue.items, **rules))
        return found

    # --- asking

    def recommend(
        self,
        users: Given = None,
        k: int = 10,
        *,
        history: Given = None,
        about: str | None = None,
        explain: bool = False,
        **rules: Given,
    ) -> Table:
        """The `k` best items of each user, or of somebody new with a history or a text about them.

        Arguments and errors as of `Recommender.recommend` (`rules`: `exclude`, `only`, `boost`, `filter_seen`,
        `without`, `swap`). `explain`: also why, in `explanation`, and in `because` the items of the history that
        carried the score most.
        """
        table = self.recommender.recommend(users, history=history, about=about, k=k, **rules)
        if not explain:
            return table
        named = table["user_id"].to_list() if history is None and about is None else None
        changes = {name: rules[name] for name in ("without", "swap") if name in rules}
        told = self.reasons(table["item_id"].to_list(), named, history=history, about=about, **changes)
        return Table(table.with_columns(_columns(told)))

    def explain(self, pairs: Any = None, **asked: Unpack[AskedWho]) -> Any:  # noqa: ANN401
        """Why a user would want an item: an `Explanation` of one (user, item), `Explanations` of several.

        Args:
            pairs: (user, item), several, or a frame with `user_id` and `item_id`, such as what `recommend` gives.
            **asked: Instead of pairs `history`, `about` or both, with `item`, as of `Explainer.explain`.

        Raises:
            UserError: An unknown id, nobody or nothing named, somebody whom the system cannot serve.
        """
        if pairs is None:
            return self.reasoner(asked.get("item")).explain(**_with_ids(asked))
        pairs_alone(asked)
        wanted = pairs_of([pairs] if is_single(pairs) else pairs)
        told = self.reasons([item for _, item in wanted], [user for user, _ in wanted], **asked)
        return told[0] if is_single(pairs) else Explanations(told, wanted)

    def reasons(
        self, items: Sequence[Id], users: Sequence[Id] | None = None, **asked: Unpack[AskedWho]
    ) -> list[Explanation]:
        """Why each of these users, or else one person with a history or a text, would want each item."""
        found: dict[int, Explanation] = {}
        reasoners = [self.reasoner(item) for item in items]
        for one in {id(reasoner): reasoner for reasoner in reasoners}.values():
            rows = [row for row, reasoner in enumerate(reasoners) if reasoner is one]
            if users is not None:
                told = one.explain([(users[row], items[row]) for row in rows], **asked)
            else:
                host, who = one.introduced(**_with_ids(asked))
                told = [host.explain(**who, item=items[row]) for row in rows]
            found |= zip(rows, told, strict=True)
        return [found[row] for row in range(len(items))]

    def explain_all(
        self,
        pairs: Given,
        out: Path | str,
        engine: EngineName = "local",
        address: str | None = None,
        workers: int = 0,
    ) -> int:
        """Why, for many pairs, in parquet files of a folder; how many pairs that are.

        Each pair stands once: `user_id`, `item_id`, `explanation`, `because` as of `recommend`, and `refused`: why
        somebody or something cannot be explained, else null. A killed call, made again, goes on; what is asked of
        another run, or of other pairs, needs another folder. `engine` "ray" spreads it over the cluster at `address`
        (None: one on this machine), by `workers` processes of one core (0: all cores), each with a model of its own;
        the run has to lie at the same path on every node.
        """
        catalogue = self.recommender.catalogue
        named = {
            (
                catalogue.users.values[catalogue.users.index(user)],
                catalogue.items.values[catalogue.items.index(item)],
            )
            for user, item in pairs_of(pairs)
        }
        wanted = sorted(named)
        identity = hashlib.sha256(self._question(wanted)).hexdigest()
        shards = Shards(Path(out), max(1, -(-len(wanted) // IN_A_SHARD)), identity)
        parts: list[list[tuple[Id, Id]]] = [[] for _ in range(shards.count)]
        for pair, number in zip(wanted, shard_of(wanted, shards.count).tolist(), strict=True):
            parts[number].append(pair)
        do(shards, parts, _Explaining(self.folder.path.absolute()), engine, address, workers)
        return len(wanted)

    # --- what it learned

    def words(self) -> Table:
        """The vocabulary: each word with its book, usage, gloss and nearest words."""
        return Table(self.folder.vocabulary().words)

    def history(self) -> Table:
        """The curves of all trainings: stage, step, epoch, seconds, and `train.…` and `valid.…` of each."""
        lines = self.folder.history()
        return Table(pl.json_normalize(lines, infer_schema_length=None) if lines else {})

    def _reasons_of(self, pairs: Sequence[tuple[Id, Id]]) -> pl.DataFrame:
        """A row for each pair; where one cannot be explained, the others are, one by one."""
        refused: list[str | None] = [None] * len(pairs)
        try:
            told = self.reasons([item for _, item in pairs], [user for user, _ in pairs])
        except NoAnswer:
            raise
        except UserError:
            told = []
            for row, (user, item) in enumerate(pairs):
                try:
                    told += self.reasons([item], [user])
                except NoAnswer:
                    raise
                except UserError as error:
                    refused[row] = str(error)
                    told.append(Explanation("", [], Evidence([], [])))
        sides = {"user_id": self.recommender.catalogue.users, "item_id": self.recommender.catalogue.items}
        kinds = {name: pl.Int64 if ids.whole else pl.String for name, ids in sides.items()}
        table = pl.DataFrame(list(pairs), kinds, orient="row")
        return table.with_columns(*_columns(told), pl.Series("refused", refused, pl.String))

    # --- everybody

    def recommend_all(
        self,
        out: Path | str,
        k: int = 10,
        *,
        explain: bool = False,
        filter_seen: bool = True,
        engine: EngineName = "local",
        address: str | None = None,
        workers: int = 0,
        **rules: Given,
    ) -> int:
        """Lists of all users who can be served, in a file of the kind that its extension says (`SINKS`); how many.

        `rules`: `exclude`, `only` and `boost`, as of `Recommender.recommend`; memory is that of a block of users. The
        file is there whole or not at all; a killed call, made again, goes on. `engine`, `address` and `workers` as of
        `explain_all`. Refuses another extension, and nobody to serve.
        """
        out, users = Path(out), self.recommender.served()
        if out.suffix not in SINKS or out.is_dir():
            raise UserError(
                f"{out}: everybody's lists go into a file that ends in {', '.join(SINKS)}; name one"
            )
        _refuse_other_lists(out)
        if not users:
            raise UserError(f"{self.folder.path}: nobody to recommend to: no user has training interactions")
        asked, size = self.under(**rules), EXPLAINED_TOGETHER if explain else TOGETHER
        blocks = [users[start : start + size] for start in range(0, len(users), size)]
        parts = asked._kept(out, k, explain, filter_seen, size, "in shards")
        shards = Shards(parts, len(blocks), parts.name)
        listing = _Listing(
            asked.folder.path.absolute(), asked.recommender.rules, k, explain, filter_seen, out.suffix
        )
        do(
            shards,
            blocks,
            listing if engine == "ray" else lambda: listing.of(asked),
            engine,
            address,
            workers,
        )
        with atomic_file(out) as temporary:
            whole = [shards.path(number) for number in range(shards.count)]
            SINKS[out.suffix](pl.scan_parquet(whole, glob=False), temporary)
        shutil.rmtree(parts)
        return len(users)

    def _question(self, *asked: object) -> bytes:
        """What is asked, and of what: the run as it is now."""
        known = [*asked, self.folder.state(), self.folder.recipe.model_dump(mode="json")]
        return json.dumps(known, sort_keys=True).encode()

    def _kept(self, out: Path, *question: object) -> Path:
        """Where finished blocks of just this question lie; those of others are removed."""
        rules = self.recommender.rules
        digest = hashlib.sha256(self.recommender.catalogue.taken.tobytes())
        if (also_taken := self.recommender.also_taken) is not None:
            digest.update(also_taken.items.tobytes() + also_taken.offsets.tobytes())
        if rules is not None:
            digest.update(rules.open_I.tobytes() + rules.bonus_I.tobytes())
        digest.update(self._question(out.suffix, question))
        kept = out.with_name(f".{out.name}.{digest.hexdigest()[:16]}.parts")
        for other in out.parent.iterdir() if out.parent.is_dir() else ():
            ours = other.name.startswith(f".{out.name}.") and other.suffix == ".parts"
            if ours and other != kept:
                shutil.rmtree(other)
        return kept


@dataclass(frozen=True)
class _Explaining:
    """Opens a run where it is called."""

    run: Path

    def __call__(self) -> Work:
        return _opened_here(self.run)._reasons_of


@dataclass(frozen=True)
class _Listing:
    """Opens a run where it is called, and lists for a block of users."""

    run: Path
    rules: Rules | None
    k: int
    explain: bool
    filter_seen: bool
    suffix: str

    def __call__(self) -> Work:
        opened = _opened_here(self.run)
        opened.recommender = opened.recommender.under(self.rules)
        return self.of(opened)

    def of(self, opened: OpenRun) -> Work:
        """The work of a run that is open already."""
        return partial(self._listed, opened)

    def _listed(self, opened: OpenRun, users: Sequence[Id]) -> pl.DataFrame:
        listed = opened.recommend(users, self.k, explain=self.explain, filter_seen=self.filter_seen)
        if self.explain and self.suffix == ".csv":  # which has no lists
            texts = [json.dumps(ids) for ids in listed["because"].to_list()]
            return listed.with_columns(pl.Series("because", texts, pl.String))
        return listed


def _opened_here(run: Path) -> OpenRun:
    if not run.is_dir():
        raise UserError(f"{run}: no such folder; put the run at this path on every machine")
    opened = open(run)
    _ = opened.recommender, opened.trained  # a model that is missing refuses everything, not each pair
    return opened


def _refuse_other_lists(out: Path) -> None:
    """A UserError for a file that is there and holds no lists."""
    columns = ("user_id", "item_id", "score", "rank")

    def ours(begin: bytes) -> bool:
        if out.suffix == ".parquet":
            return {*columns} <= {*scan_parquet(out)[0].collect_schema().names()}
        return begin.startswith((",".join(columns).encode(), b'{"user_id":')) and b"score" in begin

    refuse_other(out, ours)


def _with_ids(asked: AskedWho) -> AskedWho:
    history = asked.get("history")
    return asked if history is None else {**asked, "history": ids_of(history, "item_id")}


def _columns(told: Sequence[Explanation]) -> list[pl.Series]:
    behind = [[] if one.because is None else one.because.items[:BEHIND] for one in told]
    ids = [[str(share.item_id) for share in shares] for shares in behind]
    texts = pl.Series("explanation", [one.text for one in told], pl.String)
    return [texts, pl.Series("because", ids, pl.List(pl.String))]
