"""BEAT's explainers: a frozen language model reads the behaviour tokens of a pair, as vectors or in words.

Shapes: B rows, T words (padded), C candidates, D model width, P pairs of words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from forwhy.artifact import Artifact, Content
from forwhy.bridge.backbone import Backbone
from forwhy.bridge.options import SarConfig
from forwhy.bridge.projectors import Bridge, SideProjector, start_ids
from forwhy.bridge.prompt import Prompt, Row
from forwhy.bridge.reader import Reader
from forwhy.columns import SIDES, Side
from forwhy.data.dataset import Dataset
from forwhy.explain.codes import CodeExplainer
from forwhy.explain.evidence import Subject
from forwhy.explain.options import SERVED, BeatConfig
from forwhy.explain.served import open_served
from forwhy.explain.soft import SoftExplainer
from forwhy.vocabulary.vocabulary import Vocabulary

_START = "start."


class BeatExplainer(CodeExplainer, SoftExplainer[Vocabulary, Bridge]):
    """Reads behaviour tokens: the codes of stage 1, projected to vectors that stand where words do."""

    system, title = "beat", "BEAT"
    config_type: ClassVar[type[BeatConfig]] = BeatConfig
    config: BeatConfig

    def __init__(self, config: BeatConfig | None = None) -> None:
        super().__init__(config)
        self.starts: dict[str, list[int]] = {}
        """Book -> id of the word that each code starts at; -1 for none."""

    def _take_up(self, dataset: Dataset, known: Vocabulary) -> None:
        super()._take_up(dataset, known)
        self.starts = {}

    def _build(self, backbone: Backbone) -> Reader[Bridge]:
        """Projectors at their start: real words of the model, or random."""
        config, known = self.config, self.known
        self.starts = self.starts or _word_starts(known, backbone, config)
        prompt = Prompt(backbone.tokenizer, config.prompt)
        sides: dict[Side, SideProjector] = {}
        for side in SIDES:
            books, slots = known.codebooks, known.slots(side)
            ids_C = torch.tensor([number for book in dict.fromkeys(slots) for number in self.starts[book]])
            words_CD = backbone.embed(ids_C.clamp_min(0)).float().cpu() * (ids_C >= 0)[:, None]
            sides[side] = SideProjector(books, slots, config.projector, words_CD, backbone.word_norm)
        return Reader(backbone, prompt, Bridge.at_start(sides["user"], sides["item"], prompt, backbone))

    def _row(self, subject: Subject) -> Row:
        """A token that was taken out keeps its place, and the model may not look at it."""
        row = super()._row(subject)
        out = tuple(slot for slot, code in enumerate(row.user) if code < 0)
        return replace(row, user=tuple(max(code, 0) for code in row.user), hidden=out) if out else row

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
        words_BTD = reader.backbone.embed(ids_BT.clamp_min(0))
        candidates = reader.bridge.every() if sar.candidates == "codebook" else reader.soft(rows)
        if sar.states == "last":
            words_BTD, candidates = self._encoded(words_BTD), self._encoded(candidates)
        return sar_loss(words_BTD, ids_BT >= 0, candidates, sar)

    def _encoded(self, vectors: Tensor) -> Tensor:
        """Last states of [B, K, D] read in order, or of each of [C, D] alone; first, where all look, stands a word."""
        backbone, alone = self.reader.backbone, vectors.dim() == 2
        start = backbone.prefix(self.reader.prompt.prefix_ids[:1])
        states = backbone.states(start, vectors[:, None] if alone else vectors)
        return states[:, 0] if alone else states

    def content(self) -> Content:
        """Also the word that each code starts at, as a number and, to be read, as text."""
        whole, decode, ids, words = super().content(), self.reader.prompt.decode, {}, {}
        for book, starts in self.starts.items():
            ids[f"{_START}{book}"] = np.asarray(starts, np.int32)
            words[book] = [decode([number]).strip() if number >= 0 else "" for number in starts]
        config = {**whole.config, "start_words": words}
        return replace(whole, config=config, tensors={**whole.tensors, **ids})

    def _reopen(self, stored: Artifact) -> None:
        self.starts = {book: ids.tolist() for book, ids in stored.group(_START).items()}
        if self.starts and any(len(self.starts[it]) != len(own) for it, own in self.known.codebooks.items()):
            raise ValueError("codes and the words that they start at are not as many")
        if self.config.engine in SERVED:
            self._reader = open_served(self.config, self.known, stored)  # type: ignore[assignment]  # it only writes
            self.can_score = False
            return
        super()._reopen(stored)


def _word_starts(vocabulary: Vocabulary, backbone: Backbone, config: BeatConfig) -> dict[str, list[int]]:
    """Every code's start: a keyword of its gloss that is one token of the model; else its neighbour's."""
    if config.projector.start == "none":
        return {book: [-1] * len(codewords_KM) for book, codewords_KM in vocabulary.codebooks.items()}
    return {
        book: _filled(np.array(start_ids(vocabulary.keywords(book), backbone.tokenizer)), codewords_KM)
        for book, codewords_KM in vocabulary.codebooks.items()
    }


def _filled(ids_K: NDArray[np.int64], codewords_KM: NDArray[np.float32]) -> list[int]:
    """A code without a word takes the word of the nearest codeword that has one; all stay -1 when none has."""
    known, missing = np.flatnonzero(ids_K >= 0), np.flatnonzero(ids_K < 0)
    for code in missing if len(known) else ():
        distance = np.square(codewords_KM[known] - codewords_KM[code]).sum(axis=1)
        ids_K[code] = ids_K[known[distance.argmin()]]
    filled: list[int] = ids_K.tolist()
    return filled


# --- Semantic alignment regularisation, BEAT eq. 10 and 11.
#
# Differences to the released code: only words of the explanation count, each pair i < j once and none with itself, the
# mean is over pairs that exist, all in float32.


def sar_loss(words_BTD: Tensor, valid_BT: Tensor, candidates: Tensor, config: SarConfig) -> Tensor:
    """How far the cosines between words are from those of their nearest tokens: mean squared difference over pairs.

    0 where no row has two words; with `config.average = "sum"` the sum, by the number of words and ends (the NLL's
    targets). A row's words come first in `valid_BT`; `candidates` are projected tokens, [B, C, D] per row or [C, D].
    Pairs are drawn from torch's global generator. Cost: B x T x C x D for matching, B x T x T x D for the relations.
    """
    words_BTD = words_BTD.detach().float()
    matched_BTD = _matched(words_BTD, candidates.float(), config.metric)
    left_BP, right_BP, real_BP = _pairs(valid_BT, config.pairs)
    error_BTT = _relations(matched_BTD) - _relations(words_BTD)
    error_BP = error_BTT.flatten(1).gather(1, left_BP * valid_BT.shape[1] + right_BP)
    whole = (error_BP.square() * real_BP).sum()
    targets = valid_BT.sum() + len(valid_BT)
    return whole / (real_BP.sum().clamp_min(1) if config.average == "mean" else targets)


def _matched(words_BTD: Tensor, candidates: Tensor, metric: str) -> Tensor:
    """The nearest candidate of each word (eq. 10), gradient to the candidate only."""
    with torch.no_grad():
        if metric == "cosine":
            score = normalize(words_BTD, dim=-1) @ normalize(candidates, dim=-1).transpose(-1, -2)
        else:
            score = -torch.cdist(words_BTD, candidates.expand(len(words_BTD), -1, -1))
        best_BT = score.argmax(dim=-1)
    if candidates.dim() == 2:
        return candidates[best_BT]
    return candidates.gather(1, best_BT[..., None].expand(-1, -1, candidates.shape[-1]))


def _pairs(valid_BT: Tensor, wanted: int) -> tuple[Tensor, Tensor, Tensor]:
    """Word pairs i < j: all, or `wanted` drawn with replacement per row; and which of them are real."""
    rows, width = valid_BT.shape
    if not wanted:
        left_P, right_P = torch.triu_indices(width, width, offset=1, device=valid_BT.device)
        left_BP, right_BP = left_P.expand(rows, -1), right_P.expand(rows, -1)
        return left_BP, right_BP, valid_BT.gather(1, left_BP) & valid_BT.gather(1, right_BP)
    count_B1 = valid_BT.sum(dim=1, keepdim=True)
    first_BP = (torch.rand(rows, wanted, device=valid_BT.device) * count_B1).long()
    other_BP = (torch.rand(rows, wanted, device=valid_BT.device) * (count_B1 - 1).clamp_min(0)).long()
    other_BP = (other_BP + (other_BP >= first_BP)).clamp_max(width - 1)
    return first_BP.minimum(other_BP), first_BP.maximum(other_BP), (count_B1 > 1).expand(-1, wanted)


def _relations(vectors_BTD: Tensor) -> Tensor:
    """Cosines [B, T, T] between a row's vectors."""
    unit_BTD = normalize(vectors_BTD, dim=-1)
    return unit_BTD @ unit_BTD.transpose(1, 2)
