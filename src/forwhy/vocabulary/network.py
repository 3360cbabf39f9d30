"""Losses of the tokenizer on quantised representations.

Source: BEAT eq. 5 (reconstruction) and 6 (macro supervision).
Legend: B pairs, Q width of q, V text width.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from forwhy.graph.bipartite import Bipartite
from forwhy.graph.lightgcn import Propagation
from forwhy.vocabulary.config import TokenizerConfig
from forwhy.vocabulary.phrases import Start
from forwhy.vocabulary.quantizer import Quantizer, kmeans, nearest


def reconstruction_rmse(positive_B: Tensor, negative_B: Tensor, scaled: bool) -> Tensor:
    """Eq. 5: root mean square of I - q_u·q_i over positive (I = 1) and sampled negative (I = 0) pairs.

    `scaled`: scores are min-max scaled over the batch first (released code), with a guard where all are equal.
    """
    scores = torch.cat([positive_B, negative_B])
    if scaled:
        low = scores.min()
        scores = (scores - low) / (scores.max() - low).clamp_min(1e-6)
    labels = torch.cat([torch.ones_like(positive_B), torch.zeros_like(negative_B)])
    return (labels - scores).square().mean().clamp_min(1e-12).sqrt()


def reconstruction_softmax(
    q_users_BQ: Tensor, q_items_BQ: Tensor, items_B: Tensor, log_frequency_B: Tensor, scale: Tensor
) -> Tensor:
    """Cross-entropy of each pair's item among the batch's items.

    Scores are corrected by the items' log sampling frequency, so that the optimum is that of the full softmax
    (Yi et al. 2019); repeats of the right item in the batch are not negatives. O(B²·Q).
    """
    scores = scale * (q_users_BQ @ q_items_BQ.T) - log_frequency_B
    repeats = items_B[:, None] == items_B[None, :]
    repeats.fill_diagonal_(False)
    scores = scores.masked_fill(repeats, float("-inf"))
    return F.cross_entropy(scores, torch.arange(len(scores), device=scores.device))


def info_nce(
    text_BV: Tensor, words_BV: Tensor, temperature: float, average: Literal["mean", "sum"] = "mean"
) -> Tensor:
    """Eq. 6: each text against the fused macro words of all pairs in the batch, by cosine."""
    cosines = F.normalize(text_BV, dim=1) @ F.normalize(words_BV, dim=1).T
    targets = torch.arange(len(cosines), device=cosines.device)
    return F.cross_entropy(cosines / temperature, targets, reduction=average)


# --- Micro supervision: masked intents rebuilt from behaviour words by cross-attention (BEAT eq. 8).
#
# Legend: B entities, L phrases, A micro words, V text width.


def draw_mask(present_BL: Tensor, ratio: float) -> Tensor:
    """[B, L] which phrases to hide: a random share of those present, at least one per entity, drawn per row."""
    noise = torch.rand(present_BL.shape, device=present_BL.device).masked_fill(~present_BL, 2.0)
    ranks = noise.argsort(1).argsort(1)
    hidden = (present_BL.sum(1, keepdim=True) * ratio).floor().clamp_min(1)
    return (ranks < hidden) & present_BL


class MaskedIntents(nn.Module):
    """Visible intents ask the behaviour words for the hidden ones; one module for both sides."""

    def __init__(self, width: int, ratio: float, heads: int = 4) -> None:
        super().__init__()
        self.ratio = ratio
        self.mask_token = nn.Parameter(torch.randn(width) * 0.02)
        self.context = nn.MultiheadAttention(width, heads, batch_first=True)
        self.cross = nn.MultiheadAttention(width, 1, batch_first=True)

    def forward(self, words_BAV: Tensor, intents_BLV: Tensor, present_BL: Tensor) -> Tensor:
        """Mean squared L2 distance between hidden intents and their reconstruction."""
        hidden_BL = draw_mask(present_BL, self.ratio)
        seen_BLV = torch.where(hidden_BL[..., None], self.mask_token, intents_BLV)
        context_BLV = self.context(
            seen_BLV, seen_BLV, seen_BLV, key_padding_mask=~present_BL, need_weights=False
        )[0]
        rebuilt_BLV = self.cross(context_BLV, words_BAV, words_BAV, need_weights=False)[0]
        return F.mse_loss(rebuilt_BLV[hidden_BL], intents_BLV[hidden_BL], reduction="sum") / hidden_BL.sum()


# --- The trained part of the tokenizer: entity tables, projections, four codebooks, text heads.
#
# Source: BEAT eq. 2 to 5. Legend: B entities, N all entities of a side, S slots, A micro slots, D slot width,
# M codeword width, V text width.


SIDES = ("user", "item")


@dataclass(frozen=True)
class Tokens:
    """The words of B entities."""

    words_BSM: Tensor
    codes_BS: Tensor
    loss: Tensor
    """Mean VQ loss over the books used, plus orthogonality."""


class TokenizerNetwork(nn.Module):
    """Tables → (propagation) → slots → projection → nearest words."""

    def __init__(
        self, graph: Bipartite, config: TokenizerConfig, text_width: int, start: Start | None
    ) -> None:
        super().__init__()
        self.config, self.text_width = config, text_width
        self._propagation = Propagation(graph) if config.propagate == "every-step" else None
        counts = {"user": graph.users, "item": graph.items}
        self.width = start.tables["user"].shape[2] if start else config.slot_dim
        self.tables = nn.ParameterDict({side: self._table(counts[side], side, start) for side in SIDES})
        self.code_dim = config.code_dim or self.width
        self.projections = nn.ModuleDict(
            {f"{side}_{kind}": self._projection(kind) for side, kind in self._books()}
        )
        self.quantizers = nn.ModuleDict(
            {f"{side}_{kind}": self._quantizer(graph) for side, kind in self._books()}
        )
        basis = start.text_basis if start is not None and config.code_dim is None else None
        self.log_weight = nn.Parameter(self._score_weights(basis).log())
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.heads = nn.ModuleDict({f"{side}_{kind}": self._head(basis) for side, kind in self._books()})
        self.masked = MaskedIntents(text_width, config.mask_ratio) if config.micro and config.beta else None

    def _books(self) -> list[tuple[str, str]]:
        kinds = [kind for kind, on in (("macro", self.config.macro), ("micro", self.config.micro)) if on]
        return [(side, kind) for side in SIDES for kind in kinds]

    def book(self, name: str) -> Quantizer:
        """The quantizer of a codebook."""
        return cast(Quantizer, self.quantizers[name])

    def head(self, name: str, words: Tensor) -> Tensor:
        """Words of a codebook in the text encoder's space."""
        return cast(Tensor, self.heads[name](words))

    @property
    def _table_slots(self) -> int:
        full = self.config.macro_source == "full" and self.config.macro
        return self.config.slots - int(full)

    def _table(self, count: int, side: str, start: Start | None) -> nn.Parameter:
        if start is not None:
            return nn.Parameter(torch.from_numpy(start.tables[side]).flatten(1).clone())
        return nn.Parameter(nn.init.xavier_uniform_(torch.empty(count, self._table_slots * self.width)))

    def _projection(self, kind: str) -> nn.Module:
        if self.config.code_dim is None:
            return nn.Identity()
        full = kind == "macro" and self.config.macro_source == "full"
        linear = nn.Linear(self.width * (self._table_slots if full else 1), self.code_dim, bias=False)
        nn.init.xavier_uniform_(linear.weight)
        return linear

    def _quantizer(self, graph: Bipartite) -> Quantizer:
        config = self.config
        epoch_steps = max(1, len(graph.edges) // config.batch_size)
        return Quantizer(
            config.codes, self.code_dim, commitment=config.commitment, update=config.codebook_update,
            decay=config.decay, estimator=config.estimator,
            restart_after=max(epoch_steps, 10) if config.restart_dead else 0,
        )  # fmt: skip

    def _score_weights(self, text_basis_VT: NDArray[np.float32] | None) -> Tensor:
        weights = torch.ones(self.code_dim)
        if text_basis_VT is not None:
            weights[self.config.slot_dim :] = max(self.config.text_score, 1e-4)
        return weights

    def _head(self, text_basis_VT: NDArray[np.float32] | None) -> nn.Module:
        """From a word to the text encoder's space; starts as the way back from text coordinates."""
        if self.code_dim == self.text_width and self.config.start == "xavier":
            return nn.Identity()
        head = nn.Linear(self.code_dim, self.text_width, bias=False)
        if text_basis_VT is not None:
            nn.init.zeros_(head.weight)
            head.weight.data[:, self.config.slot_dim :] = (
                torch.from_numpy(text_basis_VT) / self.config.text_weight
            )
        return head

    def states(self) -> dict[str, Tensor]:
        """Side -> [N, table slots · D], after eq. 3."""
        user, item = self.tables["user"], self.tables["item"]
        if self._propagation is not None:
            user, item = self._propagation(user, item, self.config.layers)
        return {"user": user, "item": item}

    def rows(self, states: Mapping[str, Tensor], side: str, entities: Tensor) -> Tensor:
        """[B, table slots · D] of some entities. Without propagation only these rows get a gradient."""
        lone = self._propagation is None and not torch.distributed.is_initialized()
        return F.embedding(entities, states[side], sparse=lone)

    def slots(self, rows: Tensor, side: str) -> tuple[Tensor | None, Tensor | None]:
        """Projected quantizer inputs of B table rows: macro [B, 1, M], micro [B, A, M]."""
        cut = rows.view(len(rows), self._table_slots, self.width)
        own_macro = self.config.macro and self.config.macro_source == "slot"
        macro = cut[:, :1] if own_macro else rows[:, None]
        micro = cut[:, int(own_macro) :]
        return (
            self._project(macro, f"{side}_macro") if self.config.macro else None,
            self._project(micro, f"{side}_micro") if self.config.micro else None,
        )

    def _project(self, slots: Tensor, book: str) -> Tensor:
        projected: Tensor = self.projections[book](slots)
        return F.normalize(projected, dim=2) if self.config.unit_inputs else projected

    def tokens(self, rows: Tensor, side: str, learn: bool = False) -> Tokens:
        """Quantise B table rows (eq. 4); with `learn`, in training mode, they move the codebooks."""
        words, codes, losses = [], [], []
        for kind, slots in zip(("macro", "micro"), self.slots(rows, side), strict=True):
            if slots is None:
                continue
            out = self.book(f"{side}_{kind}")(slots.flatten(0, 1), learn)
            words.append(out.vectors.view(slots.shape))
            codes.append(out.codes.view(slots.shape[:2]))
            losses.append(out.loss)
        loss = torch.stack(losses).sum()
        if self.config.orthogonality and self.config.micro:
            loss = loss + self.config.orthogonality * self._overlap(rows)
        return Tokens(torch.cat(words, 1), torch.cat(codes, 1), loss)

    def _overlap(self, rows: Tensor) -> Tensor:
        """Mean squared cosine between different micro slots, before projection."""
        cut = rows.view(len(rows), self._table_slots, self.width)[:, -self.config.micro_slots :]
        cosines = torch.einsum("bsd,btd->bst", F.normalize(cut, dim=2), F.normalize(cut, dim=2))
        count = cosines.shape[1]
        off = cosines.square().sum((1, 2)) - cosines.diagonal(dim1=1, dim2=2).square().sum(1)
        return (off / max(count * (count - 1), 1)).mean()

    def represent(self, words_BSM: Tensor) -> Tensor:
        """Q of eq. 5, [B, width]: weighted words, concatenated or with the macro word added to each micro word."""
        weighted = words_BSM * (0.5 * self.log_weight).exp()
        if self.config.representation == "sum":
            weighted = weighted[:, 1:] + weighted[:, :1]
        return weighted.flatten(1)

    @torch.no_grad()
    def start_codebooks(self, generator: torch.Generator) -> None:
        """k-means of all entities' projected slots."""
        states = self.states()
        for side in SIDES:
            for kind, slots in zip(("macro", "micro"), self.slots(states[side], side), strict=True):
                if slots is not None:
                    flat = slots.flatten(0, 1)
                    centres = kmeans(flat, self.config.codes, generator)
                    self.book(f"{side}_{kind}").start_at(centres, nearest(flat, centres))

    @torch.no_grad()
    def start_scale(self, edges: NDArray[np.int64], log_frequency: Tensor) -> None:
        """Scale of the softmax: the best of a grid on a sample of edges; learnt from there."""
        rows = torch.linspace(0, len(edges) - 1, min(len(edges), 2048)).long()
        users, items = torch.from_numpy(edges)[rows].T
        tokens = self.assign()
        q_users = self.represent(tokens["user"].words_BSM[users])
        q_items = self.represent(tokens["item"].words_BSM[items])
        scales = torch.logspace(-2, 1, 13) / (q_users @ q_items.T).std().clamp_min(1e-6)
        losses = [
            reconstruction_softmax(q_users, q_items, items, log_frequency[items], scale) for scale in scales
        ]
        self.log_scale.fill_(float(scales[int(torch.stack(losses).argmin())].log()))

    @torch.no_grad()
    def assign(self) -> Mapping[str, Tokens]:
        """The words of everybody, in evaluation mode."""
        was_training = self.training
        self.eval()
        tokens = {side: self.tokens(state, side) for side, state in self.states().items()}
        self.train(was_training)
        return tokens
