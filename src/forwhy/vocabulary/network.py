"""The trained part of the tokenizer, the terms of its loss, and its optimiser.

Source: BEAT eq. 2 to 8. Legend: B pairs or entities, N all entities of a side, S slots, A micro slots, D slot width,
M codeword width, Q width of q, L phrases, V text width, R rows with a gradient.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from forwhy.columns import SIDES, Side
from forwhy.graph.bipartite import Bipartite
from forwhy.graph.lightgcn import Propagation
from forwhy.vocabulary.options import TokenizerConfig
from forwhy.vocabulary.phrases import PhraseBook, spectral_start
from forwhy.vocabulary.quantizer import Quantizer
from forwhy.vocabulary.texts import TextWords

States = Mapping[Side, Tensor]
"""Side -> [N, table slots · D]."""


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


def info_nce(text_BV: Tensor, words_BV: Tensor, temperature: float, average: str = "mean") -> Tensor:
    """Eq. 6: each text against the fused macro words of all pairs in the batch, by cosine."""
    cosines = F.normalize(text_BV, dim=1) @ F.normalize(words_BV, dim=1).T
    targets = torch.arange(len(cosines), device=cosines.device)
    return F.cross_entropy(cosines / temperature, targets, reduction=average)


def draw_mask(present_BL: Tensor, ratio: float) -> Tensor:
    """[B, L] which phrases to hide: a random share of those present, at least one per entity, drawn per row."""
    noise = torch.rand(present_BL.shape, device=present_BL.device).masked_fill(~present_BL, 2.0)
    ranks = noise.argsort(1).argsort(1)
    hidden = (present_BL.sum(1, keepdim=True) * ratio).floor().clamp_min(1)
    return (ranks < hidden) & present_BL


class MaskedIntents(nn.Module):
    """Visible intents ask the behaviour words for the hidden ones (eq. 8), by cross-attention, alike on both sides."""

    def __init__(self, width: int, ratio: float, distance: Literal["sum", "mean"] = "sum") -> None:
        super().__init__()
        self.ratio, self.distance = ratio, distance
        self.mask_token = nn.Parameter(torch.randn(width) * 0.02)
        self.context = nn.MultiheadAttention(width, 4, batch_first=True)
        self.cross = nn.MultiheadAttention(width, 1, batch_first=True)

    def forward(self, words_BAV: Tensor, intents_BLV: Tensor, present_BL: Tensor) -> Tensor:
        """Mean over hidden intents of their squared distance from the reconstruction, summed or averaged over V."""
        hidden_BL = draw_mask(present_BL, self.ratio)
        seen_BLV = torch.where(hidden_BL[..., None], self.mask_token, intents_BLV)
        context_BLV, _ = self.context(*[seen_BLV] * 3, key_padding_mask=~present_BL, need_weights=False)
        rebuilt_BLV, _ = self.cross(context_BLV, words_BAV, words_BAV, need_weights=False)
        summed = F.mse_loss(rebuilt_BLV[hidden_BL], intents_BLV[hidden_BL], reduction="sum") / hidden_BL.sum()
        return summed if self.distance == "sum" else summed / intents_BLV.shape[2]


class EntityWords(NamedTuple):
    """The words of B entities."""

    words_BSM: Tensor
    codes_BS: Tensor
    loss: Tensor
    """Sum of the VQ losses of the books used, plus orthogonality."""


class TokenizerNetwork(nn.Module):
    """Tables → (propagation) → slots → projection → nearest words, from a start drawn from torch's global generator."""

    log_frequency: Tensor
    """[I] log share of training interactions that an item has; items without any count as having one."""

    def __init__(
        self, graph: Bipartite, config: TokenizerConfig, book: PhraseBook, text: TextWords | None = None
    ) -> None:
        """`text`: the words of the text-first slots, which stay as they are; None without such slots."""
        super().__init__()
        self.config, self.text = config, text
        self._propagation = Propagation(graph) if config.propagate == "every-step" else None
        self._full = config.macro and config.macro_source == "full"
        self._table_slots = config.slots - int(self._full) - config.text_first
        basis = None
        if config.start == "spectral":
            start, basis = spectral_start(graph, book, config)
            tables = {side: torch.from_numpy(slots).flatten(1).clone() for side, slots in start.items()}
        else:
            counts, width = {"user": graph.users, "item": graph.items}, self._table_slots * config.slot_dim
            tables = {side: nn.init.xavier_uniform_(torch.empty(counts[side], width)) for side in SIDES}
        self.tables = nn.ParameterDict({side: nn.Parameter(table) for side, table in tables.items()})
        self.width = tables["user"].shape[1] // self._table_slots
        self.code_dim = config.code_dim or self.width + (config.text_dims if text else 0)
        names = [name for name in config.books if text is None or name not in text.books]
        self.projections = nn.ModuleDict({name: self._projection(name) for name in names})
        restart = max(len(graph.edges) // config.batch_size, 10) if config.restart_dead else 0
        books = {
            name: Quantizer(
                config.codes, self.code_dim, commitment=config.commitment, update=config.codebook_update,
                decay=config.decay, estimator=config.estimator, restart_after=restart,
            )
            for name in names
        }  # fmt: skip
        self.quantizers = cast("Mapping[str, Quantizer]", nn.ModuleDict(books))
        basis = basis if config.code_dim is None else None
        weights = torch.ones(self.code_dim)
        if basis is not None or text is not None:
            weights[config.slot_dim :] = 0.1  # text coordinates weigh less in q_u·q_i until learnt otherwise
        self.log_weight = nn.Parameter(weights.log())
        self.log_scale = nn.Parameter(torch.zeros(()))
        text_width = book.vectors.shape[1]
        self.heads = nn.ModuleDict({name: self._head(text_width, basis) for name in names})
        reads = config.micro and config.beta and text is None
        self.masked = MaskedIntents(text_width, config.mask_ratio, config.masked_distance) if reads else None
        if text is not None:
            for side in SIDES:
                read = [text.books[book] for book in config.text_books(side)]
                words_LKM = F.pad(torch.from_numpy(np.stack(read)), (self.width, 0)) * config.text_weight
                codes_NL = torch.from_numpy(text.codes[side])
                self.register_buffer(f"text_words_{side}", words_LKM, persistent=False)
                self.register_buffer(f"text_codes_{side}", codes_NL, persistent=False)
        share_I = np.log(np.maximum(graph.item_degrees, 1) / max(len(graph.edges), 1)).astype(np.float32)
        self.register_buffer("log_frequency", torch.from_numpy(share_I), persistent=False)
        if config.codebook_start == "kmeans":
            self._start_codebooks(torch.Generator().manual_seed(config.seed))
        self._start_scale(graph.edges)

    def _projection(self, name: str) -> nn.Module:
        if self.config.code_dim is None:
            return nn.Identity()
        slots = self._table_slots if self._full and name.endswith("macro") else 1
        linear = nn.Linear(self.width * slots, self.code_dim, bias=False)
        nn.init.xavier_uniform_(linear.weight)
        return linear

    def _head(self, text_width: int, text_basis_VT: NDArray[np.float32] | None) -> nn.Module:
        """From a word to the text encoder's space; starts as the way back from text coordinates."""
        if self.code_dim == text_width and self.config.start == "xavier":
            return nn.Identity()
        head = nn.Linear(self.code_dim, text_width, bias=False)
        if text_basis_VT is not None:
            nn.init.zeros_(head.weight)
            back_VT = torch.from_numpy(text_basis_VT) / self.config.text_weight
            head.weight.data[:, self.config.slot_dim :] = back_VT
        return head

    @torch.no_grad()
    def _start_codebooks(self, generator: torch.Generator) -> None:
        """k-means of all entities' projected slots."""
        for side, state in self.states().items():
            for name, slots in self.slots(state, side).items():
                self.quantizers[name].start_at(slots.flatten(0, 1), generator)

    @torch.no_grad()
    def _start_scale(self, edges: NDArray[np.int64]) -> None:
        """Scale of the softmax: the best of a grid on a sample of edges; learnt from there."""
        # Of 32 bits, which may pass the last of 17 million edges or more.
        rows = torch.linspace(0, len(edges) - 1, min(len(edges), 2048)).long().clamp_max(len(edges) - 1)
        users, items = torch.from_numpy(edges)[rows].T
        found, frequency = self.all_words(), self.log_frequency[items]
        q_users = self.represent(found["user"].words_BSM[users])
        q_items = self.represent(found["item"].words_BSM[items])
        scales = torch.logspace(-2, 1, 13) / (q_users @ q_items.T).std().clamp_min(1e-6)
        losses = [reconstruction_softmax(q_users, q_items, items, frequency, scale) for scale in scales]
        self.log_scale.fill_(float(scales[int(torch.stack(losses).argmin())].log()))

    def states(self) -> dict[Side, Tensor]:
        """Side -> [N, table slots · D], after eq. 3."""
        user, item = self.tables["user"], self.tables["item"]
        if self._propagation is not None:
            user, item = self._propagation(user, item, self.config.layers)
        return {"user": user, "item": item}

    def slots(self, rows: Tensor, side: Side) -> dict[str, Tensor]:
        """Book -> projected quantizer inputs of B table rows: macro [B, 1, M], micro [B, A, M]."""
        cut = rows.view(len(rows), self._table_slots, self.width)
        own_macro = int(self.config.macro and not self._full and self.text is None)
        cut = F.pad(cut, (0, self.code_dim - self.width)) if self.text else cut
        macro = cut[:, :1] if own_macro else rows[:, None]
        parts = {f"{side}_macro": macro, f"{side}_micro": cut[:, own_macro:]}
        read = {name: self.projections[name](parts[name]) for name in parts if name in self.quantizers}
        if self.config.unit_inputs:
            return {name: F.normalize(slots, dim=2) for name, slots in read.items()}
        return read

    def words(self, entities: Tensor, side: Side, states: States, learn: bool = False) -> EntityWords:
        """The words of some entities; with `learn`, in training mode, they move the codebooks."""
        lone = self._propagation is None
        rows = F.embedding(entities.to(states[side].device), states[side], sparse=lone)
        return self._quantise(rows, side, entities, learn)

    def all_words(self) -> dict[Side, EntityWords]:
        """The words of everybody; no codebook moves."""
        return {side: self._quantise(state, side, slice(None)) for side, state in self.states().items()}

    def _quantise(self, rows: Tensor, side: Side, whose: Tensor | slice, learn: bool = False) -> EntityWords:
        """Quantise the table rows of B entities (eq. 4), after their text-first words."""
        words, codes, losses = [], [], []
        if self.text is not None:
            words_LKM, codes_NL = (getattr(self, f"text_{kind}_{side}") for kind in ("words", "codes"))
            codes.append(codes_NL[whose])
            words.append(words_LKM[torch.arange(len(words_LKM), device=words_LKM.device), codes[0]])
        for name, slots in self.slots(rows, side).items():
            out = self.quantizers[name](slots.flatten(0, 1), learn)
            words.append(out.vectors.view(slots.shape))
            codes.append(out.codes.view(slots.shape[:2]))
            losses.append(out.loss)
        loss = torch.stack(losses).sum()
        if self.config.orthogonality and self.config.micro:
            loss = loss + self.config.orthogonality * self._overlap(rows)
        return EntityWords(torch.cat(words, 1), torch.cat(codes, 1), loss)

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


class LazyAdam(Optimizer):
    """Adam for dense gradients, and its lazy form (torch's SparseAdam) for sparse ones: O(R·D) for a table [N, D]."""

    def __init__(self, parameters: Iterable[Tensor], lr: float) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002 (of torch's interface)
        """Update every parameter that has a gradient."""
        first, second, eps = 0.9, 0.999, 1e-8
        for group in self.param_groups:
            for parameter in group["params"]:
                gradient, rows = parameter.grad, cast("Any", ...)
                if gradient is None:
                    continue
                state = self.state[parameter]
                if not state:
                    moments = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
                    state.update(step=0, **moments)
                state["step"] += 1
                if gradient.is_sparse:
                    gradient = gradient.coalesce()
                    rows, gradient = gradient.indices()[0], gradient.values()
                mean = state["exp_avg"][rows].lerp_(gradient, 1 - first)
                square = state["exp_avg_sq"][rows].mul_(second).addcmul_(gradient, gradient, value=1 - second)
                state["exp_avg"][rows], state["exp_avg_sq"][rows] = mean, square
                size = group["lr"] / (1 - first ** state["step"])
                parameter[rows] -= size * mean / ((square / (1 - second ** state["step"])).sqrt() + eps)
