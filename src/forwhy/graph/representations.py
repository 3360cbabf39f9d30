"""What stage 1 leaves: users and items as vectors whose inner product is a score; and how XRec's are trained.

No torch here. Legend: N entities of a side, I items, E edges, W width of a representation, D width of a vector.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from forwhy.artifact import Artifact, Content, Saved, card
from forwhy.columns import SIDES, Side
from forwhy.data.because import Because, of_history
from forwhy.data.histories import Catalogue, Histories
from forwhy.errors import UserError
from forwhy.options import Presets, TrainingOptions

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

_PUBLISHED = {
    "start": "xavier", "negatives": 1, "negative_choice": "all", "batch_size": 1024, "learning_rate": 1e-3,
    "epochs": 300,
}  # fmt: skip
_PRESETS: Presets = {
    "forwhy": {},
    "paper": {**_PUBLISHED, "layers": 3},
    "official": {
        **_PUBLISHED, "layers": 4, "combine": "sum", "regulariser": "propagated", "regulariser_weight": 1.024e-3,
        "mask_train": False,
    },
}  # fmt: skip
"""What each preset changes against the defaults of :class:`CollaborativeConfig` (see docs/decisions/0002)."""


class CollaborativeConfig(TrainingOptions):
    """How interactions become vectors. The defaults are the preset `forwhy`; options given win over the preset."""

    presets: ClassVar[Presets] = _PRESETS
    preset: Literal["forwhy", "paper", "official"] = "forwhy"
    """`paper`: XRec's equations 7 to 11. `official`: its released code's choices without its defects. `forwhy`: what
    measured best."""
    dims: PositiveInt = 64
    """d: width of a vector."""
    layers: PositiveInt = 1
    """K: propagation layers (eq. 7)."""
    combine: Literal["mean", "sum"] = "mean"
    """Final vectors are the mean (eq. 8) or the sum of layers 0 to K."""
    start: Literal["spectral", "xavier"] = "spectral"
    """Layer 0 starts from a truncated SVD of the normalised adjacency (`graph.bipartite`), or from noise. Entities
    without training interactions start at zero under both."""
    learning_rate: PositiveFloat = 1e-2
    """Of Adam."""
    batch_size: PositiveInt | None = None
    """Interactions per step; None: a tenth of them, at least 1024. A step propagates over the whole graph once whatever
    its batch, so few large steps make a cheap epoch."""
    negatives: PositiveInt = 8
    """J: uniform items that the user did not take, drawn anew for each interaction in every epoch (eq. 9)."""
    negative_choice: Literal["all", "hardest"] = "hardest"
    """Whether all of them count, as a mean, or the one that the model ranks highest at that moment (Zhang et al. 2013),
    which a ranking by its first items asks for."""
    regulariser: Literal["layer-0", "propagated"] = "layer-0"
    """Whose squared norms are added: the trained vectors (eq. 10) or the final ones."""
    regulariser_weight: NonNegativeFloat = 1e-4
    """lambda of eq. 10, on the mean over the batch of |u|² + |i|² + |j|²; where several negatives count, their mean."""
    epochs: NonNegativeInt = 100
    """At most; a spectral start is evaluated before the first."""
    patience: NonNegativeInt = 10
    mask_train: bool = True
    """Validation leaves a user's training items out of their ranking."""


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Representations(Saved):
    """Vectors of users and items, learnt from interactions: what recommenders rank by and explainers read."""

    catalogue: Catalogue
    """`catalogue.taken`: all training pairs, also those cut out of the graph; they are never recommended as new."""
    seen: Ints
    """[E, 2] internal (user, item) edges of the graph that the vectors were learnt on."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """The options of the training."""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """Of the best epoch on validation, with `best_epoch`, `steps` and `seconds`."""

    def _shown(self) -> Mapping[str, int | str]:
        return self.catalogue._shown()

    @cached_property
    def has_history(self) -> Mapping[str, NDArray[np.bool_]]:
        """Side -> [N] whether the graph has an edge of them; without one nothing could be learnt."""
        return replace(self.catalogue, taken=self.seen).has_history

    @abstractmethod
    def representation(self, side: Side) -> Floats:
        """[N, W] for everybody on a side; the score of a pair is the inner product."""

    @abstractmethod
    def representation_for_history(self, items: Sequence[int]) -> Floats:
        """[W] for a warm user: somebody known only by these internal items.

        Raises:
            UserError: no item.
        """

    @abstractmethod
    def item_vectors(self, items: Sequence[int]) -> Floats:
        """[n, D] of internal items, one row each; their cosines say which items are alike."""

    @abstractmethod
    def because(self, user: int | None, item: int, history: Sequence[int] = ()) -> Because:
        """What carries the score of a user (None: somebody known by `history` alone) and an item; all internal."""

    def knows_item(self, item: int) -> bool:
        """Whether something was learnt of an internal item."""
        return bool((self.seen[:, 1] == item).any())

    def taken_by(self, user: int | None, history: Sequence[int] = ()) -> list[int]:
        """Distinct items of the graph that the user has taken; of a newcomer, those of the history."""
        taken = history if user is None else self._histories[user].tolist()
        return list(dict.fromkeys(taken))

    @cached_property
    def _histories(self) -> Histories:
        """[users] items of the graph, in its order: sorted once, not searched for each user."""
        order = np.argsort(self.seen[:, 0], kind="stable")
        return replace(self.catalogue, taken=self.seen[order]).histories


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class CollaborativeVectors(Representations):
    """What LightGCN learnt: final vectors, whose inner product is the score of a pair (XRec eq. 7, 8)."""

    kind = "collaborative"

    vectors: Mapping[str, Floats]
    """side -> [N, D] final (propagated). A user without training interactions has zeros. An item without any starts at
    zeros, too, and is only moved when it is drawn as a negative."""
    fold_in: Floats
    """[I, D] what each item adds to a new user; see `representation_for_history`."""

    @property
    def dims(self) -> int:
        """D."""
        return int(self.vectors["user"].shape[1])

    def representation(self, side: Side) -> Floats:
        """[N, D] the final vectors of a side."""
        return self.vectors[side]

    def item_vectors(self, items: Sequence[int]) -> Floats:
        """[n, D] the final vectors of items."""
        return self.vectors["item"][list(items)]

    def representation_for_history(self, items: Sequence[int]) -> Floats:
        """[D] for a new user N known only by distinct internal items (a warm user); repeats count once.

        One aggregation of equation 7 over the items' known layers, none of which the newcomer changes:

            e = 1/(K+1) · sum over i in N of (e_i^(0) + … + e_i^(K-1)) / (sqrt|N| sqrt|N_i|)

        (without 1/(K+1) when layers are summed): a training user's own vector less its share of layer 0.

        Raises:
            UserError: no item, or one that does not exist.
        """
        rows = np.unique(np.asarray(items, np.int64))
        if not len(rows):
            raise UserError("history: empty; give at least one item id")
        last = len(self.catalogue.items) - 1
        if len(unknown := rows[(rows < 0) | (rows > last)]):
            raise UserError(f"history: item numbers run from 0 to {last}, got {unknown[0]}")
        return np.asarray(self.fold_in[rows].sum(0) / np.sqrt(len(rows)), np.float32)

    def because(self, user: int | None, item: int, history: Sequence[int] = ()) -> Because:
        """The score as the sum over the history that gives a newcomer their vector: exact for them.

        A known user's own vector is that sum and their share of layer 0, which is the `rest`.
        """
        taken = self.taken_by(user, history)
        vector = self.representation_for_history(taken) if user is None else self.vectors["user"][user]
        towards = self.vectors["item"][item].astype(np.float64)
        added = self.fold_in[taken] @ towards / np.sqrt(max(len(taken), 1))
        return of_history("history", self.catalogue, taken, added, float(vector @ towards))

    def content(self) -> Content:
        """Vectors and graph as tensors, ids and titles as tables."""
        text = (
            f"{len(self.catalogue.users):,} users and {len(self.catalogue.items):,} items as vectors of {self.dims} "
            "numbers (LightGCN, the first part of XRec). Load with "
            "`forwhy.graph.representations.CollaborativeVectors.from_pretrained(folder)`."
        )
        tensors = {f"vectors.{side}": self.vectors[side] for side in SIDES} | self.catalogue.tensors()
        return Content(
            {"options": self.config, "metrics": self.metrics},
            {**tensors, "fold_in": self.fold_in, "seen": self.seen},
            self.catalogue.tables(),
            card("Collaborative vectors", text, self.metrics, "explainable", "lightgcn"),
        )

    @classmethod
    def restore(cls, stored: Artifact, **_: object) -> Self:
        """Back from a folder."""
        return cls(
            catalogue=Catalogue.read(stored),
            seen=stored.tensors["seen"],
            config=stored.config["options"],
            metrics=stored.config["metrics"],
            vectors={side: stored.tensors[f"vectors.{side}"] for side in SIDES},
            fold_in=stored.tensors["fold_in"],
        )
