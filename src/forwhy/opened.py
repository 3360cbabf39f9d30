"""A finished run as it is asked: `forwhy.open("runs/shop")`. Notebooks and the command line ask the same object."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any, Unpack

import polars as pl

from forwhy.atomic import atomic_file
from forwhy.errors import UserError
from forwhy.explain.evidence import Asked, Explanation, is_single
from forwhy.frames import Id, Shown, Table, ids_of, pairs_of
from forwhy.progress import track
from forwhy.recipe import RunFolder
from forwhy.recommend.base import Recommender
from forwhy.recommend.rules import Rules
from forwhy.vocabulary.newcomers import Newcomer

SINKS: Mapping[str, Callable[..., object]] = {
    ".parquet": pl.LazyFrame.sink_parquet,
    ".csv": pl.LazyFrame.sink_csv,
    ".jsonl": pl.LazyFrame.sink_ndjson,
    ".ndjson": pl.LazyFrame.sink_ndjson,
}
"""Extension of a file of everybody's lists -> what writes it, a piece at a time."""
TOGETHER, EXPLAINED_TOGETHER = 1024, 32
"""People whose lists are made, or made and explained, between two pieces that are kept."""
BEHIND = 3
"""Items of the history that are named beside a reason."""
TITLE = 120
"""Characters of the title of an item that is known by its text."""


def open(path: Path | str, unavailable: Any = None) -> OpenRun:  # noqa: A001, ANN401 - as people guess it
    """A run, ready to be asked; any system's.

    Args:
        path: The folder given to `forwhy run --out`.
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
        self.folder = folder
        self._parts: dict[str, Any] = {}
        recommender = folder.recommender()
        self.recommender: Recommender = recommender.under(Rules.of(recommender.catalogue.items, unavailable))

    def _shown(self) -> Mapping[str, int | str]:
        return {
            "run": str(self.folder.path),
            "system": self.folder.recipe.system,
            **self.recommender._shown(),
        }

    def _part(self, name: str, make: Callable[[], Any]) -> Any:  # noqa: ANN401 - of any system
        if name not in self._parts:
            self._parts[name] = make()
        return self._parts[name]

    # --- asking

    def recommend(
        self,
        users: Any = None,  # noqa: ANN401
        k: int = 10,
        *,
        history: Any = None,  # noqa: ANN401
        about: str | None = None,
        explain: bool = False,
        **rules: Any,  # noqa: ANN401
    ) -> Table:
        """The `k` best items of each user, or of somebody new with a history or a text about them.

        Arguments as of `Recommender.recommend` (`rules`: `exclude`, `only`, `boost`, `filter_seen`, `without`, `swap`).
        `explain`: also why, in `explanation`, and in `because` which items of the history carried the score most.

        Raises:
            UserError: An unknown id, nobody named, somebody whom the system cannot serve.
        """
        if about is not None:
            taken = [] if history is None else history
            return self.meeting(about, taken).recommend(users, k, history=taken, explain=explain, **rules)
        table = self.recommender.recommend(users, history=history, k=k, **rules)
        if not explain:
            return table
        changes = {name: rules[name] for name in ("without", "swap") if name in rules}
        named = None if history is not None else table["user_id"].to_list()
        told = self.reasons(named, history, table["item_id"].to_list(), **changes)
        return Table(table.with_columns(_columns(told)))

    def explain(
        self,
        pairs: Any = None,  # noqa: ANN401
        *,
        history: Any = None,  # noqa: ANN401
        item: Id | None = None,
        about: str | None = None,
        **how: Unpack[Asked],
    ) -> Any:  # noqa: ANN401 - one `Explanation` or `Explanations`
        """Why a user would want an item: an `Explanation` of one (user, item), `Explanations` of several.

        `pairs` may be a frame with `user_id` and `item_id`, such as what `recommend` gives. `history`, a text `about`
        somebody, or both stand instead of a user, with `item`. The rest is as of `Explainer.explain`. Where nothing is
        trained, or nothing known of an item, the reason is a plain sentence of what carried the score.

        Raises:
            UserError: An unknown id, nobody or nothing named, somebody whom the system cannot serve.
        """
        if about is not None:
            taken = [] if history is None else history
            return self.meeting(about, taken).explain(history=taken, item=item, **how)
        if pairs is None:
            if history is None or item is None:
                raise UserError("explain: give pairs, or history=[items the user likes] together with item=…")
            return self.reasons(None, history, [item], **how)[0]
        wanted = pairs_of([pairs] if is_single(pairs) else pairs)
        told = self.reasons([user for user, _ in wanted], None, [item for _, item in wanted], **how)
        return told[0] if is_single(pairs) else Explanations(told, wanted)

    def reasons(
        self,
        users: Sequence[Id] | None,
        history: Any,  # noqa: ANN401
        items: Sequence[Id],
        **how: Unpack[Asked],
    ) -> list[Explanation]:
        """Why each user, or somebody with a history, would want each item."""
        if users is None:
            taken = ids_of(history, "item_id")
            return [self.reasoner(item).explain(history=taken, item=item, **how) for item in items]
        found: dict[int, Explanation] = {}
        reasoners = [self.reasoner(item) for item in items]
        for one in {id(reasoner): reasoner for reasoner in reasoners}.values():
            rows = [row for row, reasoner in enumerate(reasoners) if reasoner is one]
            told = one.explain([(users[row], items[row]) for row in rows], **how)
            found |= zip(rows, told, strict=True)
        return [found[row] for row in range(len(items))]

    def reasoner(self, item: Id) -> Any:  # noqa: ANN401 - of any system
        """What says why somebody would want an item: plain sentences where the explainer knows nothing of it."""
        found = self._part("explainer", self.folder.reasons)
        knows = getattr(found.known, "knows_item", None)
        if knows is not None and not knows(found.known.catalogue.items.index(item)):
            found = self._part("plain", lambda: self.folder.recipe.plain_reasons(self.folder))
        newcomer = self.recommender.newcomer
        return found if newcomer is None else found.meeting(newcomer)

    def meeting(self, about: str, history: Any = ()) -> OpenRun:  # noqa: ANN401
        """This run, to which any `history`, also an empty one, is that of somebody new whom a text is about."""
        met, mine = copy(self), self.recommender
        met.recommender = mine.meeting(mine.newcomer_of(about, ids_of(history, "item_id"))).under(mine.rules)
        return met

    def offering(self, text: str) -> tuple[OpenRun, Newcomer]:
        """This run with an item more, the catalogue's last, by its text, its title in the first line; and its words."""
        title, _, rest = text.strip().removeprefix("Title:").strip().partition("\n")
        found, title = copy(self), title.strip()[:TITLE]
        found.recommender, words = self.recommender.offering(title, text)
        explainer = self._part(
            "explainer", self.folder.explainer
        )  # of a system with words, as its recommender offers
        found._parts = {"explainer": explainer.offering(title, rest, words)}
        return found, words

    # --- what it learned

    def words(self) -> Table:
        """The vocabulary: each word with its book, usage, gloss and nearest words."""
        return Table(self.folder.vocabulary().words)

    def history(self) -> Table:
        """The curves of all trainings: stage, step, epoch, seconds, and `train.…` and `valid.…` of each."""
        lines = self.folder.history()
        return Table(pl.json_normalize(lines, infer_schema_length=None) if lines else {})

    # --- everybody

    def recommend_all(
        self,
        out: Path | str,
        k: int = 10,
        *,
        explain: bool = False,
        filter_seen: bool = True,
        exclude: Any = None,  # noqa: ANN401
        only: Any = None,  # noqa: ANN401
        boost: Any = None,  # noqa: ANN401
    ) -> int:
        """Lists of all users who can be served, in a file of the kind that its extension says (`SINKS`); how many.

        Memory is that of a block of users. The file is there whole or not at all; a killed call, made again, goes on.

        Raises:
            UserError: Another extension, a full disk, nobody to serve, as `recommend`.
        """
        out, users = Path(out), self.recommender.served()
        if out.suffix not in SINKS or out.is_dir():
            raise UserError(
                f"{out}: everybody's lists go into a file that ends in {', '.join(SINKS)}; name one"
            )
        if not users:
            raise UserError(f"{self.folder.path}: nobody to recommend to: no user has training interactions")
        asked, size = copy(self), EXPLAINED_TOGETHER if explain else TOGETHER
        items = self.recommender.catalogue.items
        asked.recommender = self.recommender.under(Rules.of(items, exclude, only, boost))
        parts = asked._kept(out, k, explain, filter_seen, size)
        for start in track(range(0, len(users), size), "recommending"):
            part = parts / f"{start:012}.parquet"
            if not part.exists():
                some = users[start : start + size]
                listed = asked.recommend(some, k, explain=explain, filter_seen=filter_seen)
                if explain and out.suffix == ".csv":  # which has no lists
                    texts = [json.dumps(ids) for ids in listed["because"].to_list()]
                    listed = Table(listed.with_columns(pl.Series("because", texts, pl.String)))
                with atomic_file(part) as temporary:
                    listed.write_parquet(temporary)
        with atomic_file(out) as temporary:
            SINKS[out.suffix](pl.scan_parquet(parts / "*.parquet"), temporary)
        shutil.rmtree(parts)
        return len(users)

    def _kept(self, out: Path, *question: int) -> Path:
        """Where finished blocks of just this question lie; those of others are removed."""
        rules = self.recommender.rules
        digest = hashlib.sha256(self.recommender.catalogue.taken.tobytes())
        if rules is not None:
            digest.update(rules.open_I.tobytes() + rules.bonus_I.tobytes())
        known = [out.suffix, question, self.folder.state(), self.folder.recipe.model_dump(mode="json")]
        digest.update(json.dumps(known, sort_keys=True).encode())
        kept = out.with_name(f".{out.name}.{digest.hexdigest()[:16]}.parts")
        for other in set(out.parent.glob(f".{out.name}.*.parts")) - {kept}:
            shutil.rmtree(other)
        return kept


def _columns(told: Sequence[Explanation]) -> list[pl.Series]:
    """Texts, and the items of the history that carried each score most."""
    behind = [[] if one.because is None else one.because.items[:BEHIND] for one in told]
    ids = [[str(share.item_id) for share in shares] for shares in behind]
    texts = pl.Series("explanation", [one.text for one in told], pl.String)
    return [texts, pl.Series("because", ids, pl.List(pl.String))]
