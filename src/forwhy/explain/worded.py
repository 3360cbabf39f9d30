"""Explainers that know users and items by number alone and write with words of their training texts (Att2Seq, PETER).

What they share: vocabulary, rows, training, saving; a system adds its network. No torch before `fit`.

Shapes: T words of a text, C columns of what is looked at.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Generic, cast

import numpy as np
import polars as pl

from forwhy.artifact import Artifact, Content
from forwhy.columns import SIDES, Side
from forwhy.data.dataset import Dataset
from forwhy.errors import UserError
from forwhy.explain.evidence import Attention, ExternalPair, Subject, TokenEvidence
from forwhy.explain.learned import LearnedExplainer
from forwhy.explain.options import WordedConfig
from forwhy.explain.words import EOS, STARS, ConfigT, WordNetwork, WordRow, Words, cut
from forwhy.graph.representations import CollaborativeVectors
from forwhy.lazy import Network, torch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from forwhy.explain.reading import ReadingTask
    from forwhy.explain.wording import WordReader

log = logging.getLogger(__name__)
ANYONE = 0
"""The row of users (items) of whom no training pair is explained."""
_NETWORK = "network."


class WordedExplainer(LearnedExplainer[CollaborativeVectors, WordRow], Generic[ConfigT]):
    """Learns vectors of users and items and words at once, from explained pairs alone.

    Users and items without an explained training pair are read as "anyone"; who is new is refused. The NLL is per word
    of this vocabulary, <unk> counted as a word: explainers with other vocabularies, or with the tokens of a language
    model, have another NLL of the same text, but what the right user and item are worth (information gain) compares.
    """

    part, stands, known_by = "collaborative", "vectors of known users and items", "number"
    config_type: ClassVar[type[WordedConfig]]
    known_type = CollaborativeVectors
    network_type: ClassVar[type[WordNetwork[Any]]]
    reads_ratings: ClassVar[bool] = False

    def __init__(self, config: ConfigT | None = None) -> None:
        super().__init__(config)
        self._reader: WordReader | None = None
        self._words: Words | None = None
        self._rows_of: dict[Side, dict[int, int]] = {}
        """Side -> internal number -> row of the table; absent: `ANYONE`."""
        self._ratings: dict[tuple[int, int], float] = {}

    @property
    def _settings(self) -> ConfigT:
        return cast("ConfigT", self.config)

    @property
    def reader(self) -> WordReader:
        """The network and its words."""
        return self._fitted(self._reader)

    @property
    def words(self) -> Words:
        """The vocabulary."""
        return self._fitted(self._words)

    @property
    def learning(self) -> Network:
        """The whole network."""
        return self.reader.network

    def _begin(self, dataset: Dataset) -> None:
        config, pairs = self._settings, self._usable(dataset, "train", self.config.train_pairs)
        self._words = Words.of(pairs.texts, config.vocabulary, config.least)
        for side, numbers in zip(SIDES, (pairs.users, pairs.items), strict=True):
            self._rows_of[side] = {it: row for row, it in enumerate(np.unique(numbers).tolist(), ANYONE + 1)}
        if self.reads_ratings:
            self._ratings = _stars(dataset)
            if not self._ratings:
                log.info(
                    "%s: data set '%s' has no ratings; their term is left out", self.system, dataset.name
                )
        self._open(bool(self._ratings))
        long = np.mean([len(cut(text)) > config.words for text in pairs.texts])
        if long:
            log.info(
                "%s: %.1f%% of training texts are cut to %d words", self.system, 100 * long, config.words
            )

    def _open(self, rated: bool) -> None:
        """The network at its start, from `config.seed`; the caller's random generators are left as they were."""
        from forwhy.explain.wording import WordReader

        users, items = (1 + len(self._rows_of[side]) for side in SIDES)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            network = self.network_type(users, items, len(self.words), rated, self.config)
        self._reader = WordReader(network, self.words, self._settings)

    def _task_type(self) -> type[ReadingTask]:
        from forwhy.explain.wording import WordTask

        return WordTask

    def _loss(self, rows: list[WordRow]) -> Mapping[str, Tensor]:
        """The network's, some users and items read as anyone."""
        batch, chance = self.reader.batch(rows), self._settings.anyone
        kept_2B = torch.rand(2, len(rows)).to(batch.user_B.device) >= chance
        batch = replace(batch, user_B=batch.user_B * kept_2B[0], item_B=batch.item_B * kept_2B[1])
        return self.reader.network.losses(batch)

    def _row(self, subject: Subject) -> WordRow:
        pair, most, target = (cast("int", subject.user), subject.item), self._settings.words, list[int]()
        if subject.text is not None:
            target = [*self.words.numbers(subject.text), EOS]
            target = target if len(target) <= most + 1 else target[:most]
        user, item = (self._rows_of[side].get(it, ANYONE) for side, it in zip(SIDES, pair, strict=True))
        return WordRow(
            user, item, tuple(target), self._shown_words(subject), self._ratings.get(pair, float("nan"))
        )

    def _shown_words(self, subject: Subject) -> tuple[int, ...]:
        """Words that are read before writing; none by default."""
        return ()

    def _worth(self, subjects: Sequence[Subject]) -> Sequence[NDArray[np.float64] | None]:
        """By how much each text gets less likely when the user (item) is anyone."""
        if not subjects:
            return []
        rows = self._rows(subjects)
        nobody = [replace(row, user=ANYONE) for row in rows], [replace(row, item=ANYONE) for row in rows]
        true, *others = (self.reader.nll(part)[0] for part in (rows, *nobody))
        return list(np.stack(others, axis=1) - true[:, None])

    def attention(self, pair: ExternalPair) -> Attention:
        """Of each word and sign of the text; the words before are the rest. Refused where nothing is attended to."""
        if not hasattr(self.reader.network, "shares"):
            return super().attention(pair)
        _, (subject,) = self._subjects(pair, {})
        (told,) = self._told([subject], contributions=True)
        row = self._row(replace(subject, text=told.text))
        words, shares_TC = self.reader.attention(row)
        others = [*["profiles"] * bool(row.shown), "rest"]
        return Attention(*pair, words, told.tokens, others, shares_TC.tolist())

    def _tokens(self, subject: Subject) -> list[TokenEvidence]:
        return [TokenEvidence(f"<{side[0]}.vector>", side, []) for side in SIDES]

    def content(self) -> Content:
        """Network, words, who has a vector, what is known and options."""
        whole, network = super().content(), self.reader.network
        tensors = {
            f"{_NETWORK}{name}": it.detach().cpu().numpy() for name, it in network.state_dict().items()
        }
        tensors |= {f"{side}s": np.fromiter(self._rows_of[side], np.int64) for side in SIDES}
        tables = {**whole.tables, "words": self.words.table}
        return replace(whole, config={**whole.config, "rated": network.rated}, tensors=tensors, tables=tables)

    def _reopen(self, stored: Artifact) -> None:
        self._words = Words(stored.tables["words"])
        if (found := self._words.fingerprint) != (wanted := stored.config["base_model"]["words"]):
            raise UserError(
                f"{stored.folder}: words.parquet is another vocabulary ({found[:12]}) than the network learned "
                f"({wanted[:12]}); fit it again"
            )
        for side in SIDES:
            numbers = stored.tensors[f"{side}s"].tolist()
            self._rows_of[side] = {it: row for row, it in enumerate(numbers, ANYONE + 1)}
        self._open(stored.config["rated"])
        state = {name: torch.from_numpy(value) for name, value in stored.group(_NETWORK).items()}
        self.reader.network.load_state_dict(state)


def _stars(dataset: Dataset) -> dict[tuple[int, int], float]:
    """Rating of each training interaction, from 1 to `STARS`; of one that came twice, the mean."""
    table = dataset.table("interactions")
    if "rating" not in table.columns:
        return {}
    rating = pl.col("rating").cast(pl.Float64)
    rated = table.filter(pl.col("split") == "train").filter(rating.is_finite())
    low, high = (
        rated.select(rating.min().alias("low"), rating.max().alias("high")).row(0) if rated.height else (0, 0)
    )
    if low == high:
        return {}
    rated = rated.group_by("user_id", "item_id", maintain_order=True).agg(rating.mean())
    stars = 1 + (STARS - 1) * (rated["rating"].to_numpy() - low) / (high - low)
    users, items = dataset.users.numbers(rated["user_id"]), dataset.items.numbers(rated["item_id"])
    return dict(zip(zip(users.tolist(), items.tolist(), strict=True), stars.tolist(), strict=True))
