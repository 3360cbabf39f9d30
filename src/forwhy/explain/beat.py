"""BEAT's explainer: behaviour tokens of a user and an item in front of a frozen language model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from forwhy.bridge.backbone import Backbone
from forwhy.bridge.projectors import Bridge
from forwhy.bridge.prompt import Numbers, Row
from forwhy.bridge.reader import Reader
from forwhy.bridge.sar import sar_loss
from forwhy.columns import Side
from forwhy.explain.assembly import beat_reader, word_starts
from forwhy.explain.base import TokenEvidence
from forwhy.explain.config import BeatConfig
from forwhy.explain.soft import SoftExplainer
from forwhy.explain.store import Stored
from forwhy.vocabulary.vocabulary import Vocabulary

_START = "start."


class BeatExplainer(SoftExplainer[BeatConfig, Vocabulary, Bridge]):
    """Reads behaviour tokens: the codes of stage 1, projected to vectors that stand where words do."""

    system = "beat"
    title = "BEAT"
    part = "vocabulary"
    stands = "behaviour tokens"
    config_type = BeatConfig

    def __init__(self, config: BeatConfig | None = None) -> None:
        super().__init__(config or BeatConfig())
        self.starts: dict[str, list[int]] = {}
        self._glosses: dict[str, list[list[str]]] = {}

    @property
    def vocabulary(self) -> Vocabulary:
        """The vocabulary whose tokens it reads."""
        return self.known

    @classmethod
    def _read_known(cls, folder: Path) -> Vocabulary:
        return Vocabulary.from_pretrained(folder)

    def _build(self, backbone: Backbone) -> Reader[Bridge]:
        if not self.starts:
            self.starts = word_starts(self.known, backbone, self.config)
        return beat_reader(self.config, self.known, backbone, self.starts)

    def _loss(self, rows: list[Row]) -> Mapping[str, Tensor]:
        """Equation 12 + gamma x equation 11."""
        sar = self.config.sar
        nll = self.reader.loss(rows, self.config.projector.token_dropout)
        if not sar.gamma:
            return {"loss": nll, "nll": nll.detach()}
        aligned = self._aligned(rows)
        return {"loss": nll + sar.gamma * aligned, "nll": nll.detach(), "sar": aligned.detach()}

    def _aligned(self, rows: Sequence[Row]) -> Tensor:
        """SAR on the words of the explanations, the end token left out."""
        reader, sar = self.reader, self.config.sar
        texts = [torch.tensor(row.target[:-1], dtype=torch.long) for row in rows]
        padded_BT = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=-1)
        ids_BT = padded_BT.to(reader.backbone.device)
        candidates = reader.bridge.every() if sar.candidates == "codebook" else reader.soft(rows)
        return sar_loss(reader.backbone.embed(ids_BT.clamp_min(0)), ids_BT >= 0, candidates, sar)

    def _standing(self, side: Side, entity: int) -> Numbers:
        codes_L: NDArray[np.int32] = self.known.codes[side][entity]
        return codes_L

    def _newcomer(self, seen: Sequence[int]) -> Numbers:
        return self.known.codes_for_history(seen)

    def _vectors(self, items: Sequence[int]) -> NDArray[np.float32]:
        return self.known.item_vectors(items)

    def _tokens(self, row: Row, worth: NDArray[np.float64] | None) -> list[TokenEvidence]:
        sides: tuple[tuple[Side, tuple[float, ...]], ...] = (("user", row.user), ("item", row.item))
        named = [
            (side, name, self._gloss(book, code))
            for side, codes in sides
            for name, book, code in zip(
                self.known.names_of(side, [int(code) for code in codes]),
                self.known.slots(side),
                codes,
                strict=True,
            )
        ]
        return [
            TokenEvidence(name, side, list(gloss), None if worth is None else float(worth[slot]))
            for slot, (side, name, gloss) in enumerate(named)
        ]

    def _gloss(self, book: str, code: float) -> list[str]:
        """What a code means, the best phrase first."""
        if not self._glosses:
            self._glosses = {name: self.known.glosses(name) for name in self.known.codebooks}
        return self._glosses[book][int(code)]

    def extra(self) -> dict[str, NDArray[np.int32]]:
        """The word that each code starts at."""
        return {f"{_START}{book}": np.asarray(ids, dtype=np.int32) for book, ids in self.starts.items()}

    def _restore(self, stored: Stored) -> None:
        super()._restore(stored)
        self.starts = {name.removeprefix(_START): ids.tolist() for name, ids in stored.extra.items()}
