"""What every bridge has: two sides in prompt order, and task tokens.

Shapes: T task tokens, D model width, H key-value heads, P prefix positions, E head width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import dropout, softplus

from forwhy.bridge.backbone import Backbone
from forwhy.bridge.options import AdapterConfig, ProjectorConfig
from forwhy.bridge.prompt import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class PairBridge(nn.Module):
    """All that is trained: a module per side and the task tokens. The language model is not part of it."""

    def __init__(
        self,
        user: nn.Module,
        item: nn.Module,
        task_TD: Tensor,
        order: str,
        word_norm: float,
        states: Sequence[tuple[Tensor, Tensor]] = (),
    ) -> None:
        """`user` and `item` map ids or vectors to the model's width; task tokens start at word embeddings `task_TD`.

        `states`: keys and values [1, H, P, E] of each layer, where task tokens are trained in all of them.
        """
        super().__init__()
        self.user, self.item = user, item
        self._size = word_norm / task_TD.shape[1] ** 0.5
        self.task_TD = nn.Parameter(task_TD.detach().float() / self._size)
        self._order = order.split("-")
        shapes = [(2, keys.shape[1], len(task_TD), keys.shape[3]) for keys, _ in states]
        self.deep = nn.ParameterList(map(torch.zeros, shapes))
        self._spreads = [[float(part.float().std()) for part in layer] for layer in states]

    @classmethod
    def at_start(cls, user: nn.Module, item: nn.Module, prompt: Prompt, backbone: Backbone) -> Self:
        """With the task tokens at the words that the prompt names, on the model's device."""
        task_TD = backbone.embed(torch.tensor(prompt.task_ids, dtype=torch.long)).cpu()
        deep = prompt.task_ids and prompt.config.task_depth == "every-layer"
        states = backbone.prefix(prompt.prefix_ids).layers if deep else ()
        made = cls(user, item, task_TD, prompt.config.order, backbone.word_norm, states)
        return made.to(backbone.device)

    def shifts(self) -> list[Tensor]:
        """What is added to the task tokens' keys and values, [2, H, T, E] per layer."""
        sized = zip(self.deep, self._spreads, strict=True)
        return [deep * deep.new_tensor(spread)[:, None, None, None] for deep, spread in sized]

    def task(self) -> Tensor:
        """Task tokens [T, D]. The parameter is in units of a word's coordinate, alike for every model."""
        task_TD: Tensor = self.task_TD * self._size
        return task_TD

    def forward(self, user_B: Tensor, item_B: Tensor) -> Tensor:
        """Soft tokens [B, K, D] of pairs in prompt order, from the codes [B, L] or vectors [B, d] of their sides."""
        tokens, width = {"user": self.user(user_B), "item": self.item(item_B)}, self.task_TD.shape[1]
        return torch.cat([tokens[side].reshape(len(user_B), -1, width) for side in self._order], dim=1)


# --- Codes to vectors that a frozen model reads in place of words (BEAT, "Behavior Tokens Comprehension").
#
# Shapes: B rows, L slots of one side, C codes of one side's books together, M codeword width, D model width.


_SMALL = 1e-8


class SideProjector(nn.Module):
    """One side's two-layer network, on the codeword (plus the slot's vector), added to the code's start word."""

    codewords_CM: Tensor
    start_CD: Tensor
    offset_L: Tensor
    slots_CL: Tensor

    def __init__(
        self,
        books: Mapping[str, NDArray[np.float32]],
        slots: Sequence[str],
        config: ProjectorConfig,
        start_CD: Tensor,
        word_norm: float,
    ) -> None:
        """The codes C are those of the books that slots name, one book after the other as they are first named.

        `start_CD`: the word vector that each code starts at; 0 for none.
        """
        super().__init__()
        self.config, self.word_norm = config, word_norm
        read = {name: books[name].astype(np.float32) for name in slots}
        sizes = [len(book) for book in read.values()]
        first = dict(zip(read, np.cumsum([0, *sizes[:-1]]), strict=True))
        offset_L = np.array([first[name] for name in slots], dtype=np.int64)
        reads_CL = (np.repeat(list(first.values()), sizes)[:, None] == offset_L).astype(np.float32)
        books_KM = [_standardised(book) if config.standardise else book for book in read.values()]
        codewords_CM = np.concatenate(books_KM)
        given = {
            "codewords_CM": torch.from_numpy(codewords_CM),
            "start_CD": start_CD.float(),
            "offset_L": torch.from_numpy(offset_L),
            # Weights of the mean over the slots that read a code's book.
            "slots_CL": torch.from_numpy(reads_CL / reads_CL.sum(axis=1, keepdims=True)),
        }
        if config.train_codebooks:
            self.register_parameter("codewords_CM", nn.Parameter(given.pop("codewords_CM")))
        for name, value in given.items():
            self.register_buffer(name, value, persistent=False)
        wide = codewords_CM.shape[1]
        self.network = _network(config, wide, start_CD)
        self.slot_LM = nn.Parameter(torch.zeros(len(slots), wide)) if config.slot_embedding else None
        self.shift_CD = nn.Parameter(torch.zeros_like(start_CD)) if config.code_offsets else None

    def forward(self, codes_BL: Tensor) -> Tensor:
        """Vectors [B, L, D] of codes, macro slot first as in the vocabulary."""
        rows_BL = codes_BL + self.offset_L
        inputs_BLM = self.codewords_CM[rows_BL]
        if self.slot_LM is not None:
            inputs_BLM = inputs_BLM + self.slot_LM
        return self._finish(inputs_BLM, rows_BL)

    def of_slot(self, slot: int, codes: int) -> Tensor:
        """Vectors [codes, D] of the first `codes` of a slot's book, as this slot reads them."""
        rows_K = self.offset_L[slot] + torch.arange(codes, device=self.offset_L.device)
        inputs_KM = self.codewords_CM[rows_K]
        return self._finish(inputs_KM if self.slot_LM is None else inputs_KM + self.slot_LM[slot], rows_K)

    def every(self) -> Tensor:
        """Vectors [C, D] of all codes; a code read by several slots takes the mean of their vectors."""
        inputs_CM = self.codewords_CM
        if self.slot_LM is not None:
            inputs_CM = inputs_CM + self.slots_CL @ self.slot_LM
        return self._finish(inputs_CM, slice(None))

    def _finish(self, inputs: Tensor, rows: Tensor | slice) -> Tensor:
        """Start word + alpha x network, at the size of a word."""
        config, width = self.config, self.start_CD.shape[1]
        size = 1.0 if config.scale == "raw" else self.word_norm / width**0.5
        out: Tensor = self.start_CD[rows] + config.alpha * size * self.network(inputs)
        if self.shift_CD is not None:
            out = out + size * self.shift_CD[rows]
        if config.scale == "word-norm":
            out = out * (self.word_norm / out.norm(dim=-1, keepdim=True).clamp_min(_SMALL))
        return out


class Bridge(PairBridge):
    """BEAT's: both sides are projectors of codes."""

    user: SideProjector
    item: SideProjector

    def every(self) -> Tensor:
        """All projected codes of both sides: the set that BEAT eq. 10 searches."""
        return torch.cat([self.user.every(), self.item.every()])


def _network(config: ProjectorConfig, wide: int, start_CD: Tensor) -> nn.Sequential:
    """Its last layer starts at zero only where every code has a start word: otherwise its output had no direction."""
    width = start_CD.shape[1]
    hidden = config.hidden or (wide + width) // 2
    between = [nn.GELU()] if config.kind == "mlp" else []
    last = nn.Linear(hidden, width)
    if config.zero_last and config.start == "words" and bool(start_CD.any(dim=1).all()):
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(wide, hidden), *between, last)


def _standardised(book_KM: NDArray[np.float32]) -> NDArray[np.float32]:
    """A book's codewords centred and divided by their overall deviation: directions keep their meaning."""
    centred_KM: NDArray[np.float32] = book_KM - book_KM.mean(axis=0)
    centred_KM /= max(float(centred_KM.std()), _SMALL)
    return centred_KM


# --- A mixture of linear experts: graph vectors to the width of a language model (XRec, following Hou et al. 2022).
#
# Shapes: B rows, N entities, E experts, d width of a graph vector, D model width.


class ExpertAdapter(nn.Module):
    """sum_k g_k W_k (dropout(x) - b_k), with a gate g that is noisy in training. One for users, one for items.

    The gate is the softmax of x G, plus, in training, normal noise of size softplus(x H) + floor. G and H start at
    zero, so all experts begin with equal shares. Parameters: E x d x (D + 3), 2.1 million for 8 from 64 to 4096.
    """

    mean_d: Tensor
    deviation: Tensor

    def __init__(self, config: AdapterConfig, vectors_Nd: Tensor, width: int, word_norm: float) -> None:
        """Draws the experts from torch's generator; the mean and deviation of `vectors_Nd` are kept in the state."""
        super().__init__()
        self.config, inner = config, vectors_Nd.shape[1]
        self._size = 1.0 if config.scale == "raw" else word_norm / width**0.5
        self.register_buffer("mean_d", torch.zeros(inner))
        self.register_buffer("deviation", torch.ones(()))
        if config.standardise:
            self.mean_d = vectors_Nd.detach().float().mean(dim=0)
            self.deviation = (vectors_Nd.detach() - self.mean_d).std(unbiased=False).clamp_min(_SMALL)
        self.weight_EdD = nn.Parameter(torch.randn(config.experts, inner, width) * config.start_std)
        self.bias_Ed = nn.Parameter(torch.zeros(config.experts, inner))
        self.gate_dE = nn.Parameter(torch.zeros(inner, config.experts))
        self.noise_dE = nn.Parameter(torch.zeros(inner, config.experts)) if config.noise else None

    def gate(self, inputs_Bd: Tensor) -> Tensor:
        """Shares [B, E] of the experts, summing to one, for inputs that are standardised already."""
        logits_BE = inputs_Bd @ self.gate_dE
        if self.noise_dE is not None and self.training:
            size_BE = softplus(inputs_Bd @ self.noise_dE) + self.config.noise_floor
            logits_BE = logits_BE + torch.randn_like(logits_BE) * size_BE
        if self.config.top:
            chosen_BT = logits_BE.topk(self.config.top, dim=-1).indices
            left_out_BE = torch.ones_like(logits_BE, dtype=torch.bool).scatter(1, chosen_BT, value=False)
            logits_BE = logits_BE.masked_fill(left_out_BE, float("-inf"))
        return logits_BE.softmax(dim=-1)

    def forward(self, vectors_Bd: Tensor) -> Tensor:
        """Vectors [B, D]. One matrix product for all experts; each drops its own coordinates."""
        inputs_Bd = (vectors_Bd - self.mean_d) / self.deviation
        copies_BEd = inputs_Bd[:, None].expand(-1, self.config.experts, -1)
        read_BEd = dropout(copies_BEd, self.config.dropout, self.training) - self.bias_Ed
        shared_BEd = self.gate(inputs_Bd)[:, :, None] * read_BEd
        out_BD: Tensor = shared_BEd.flatten(1) @ self.weight_EdD.flatten(0, 1)
        return self._size * out_BD


# --- Which real word each code starts at. Not a mean of several, which is foreign to a frozen model (design §5).


_TRIED = 30


def start_ids(keywords: Sequence[Sequence[str]], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """One token id per code: the first of its keywords, the most particular first, that is one token; -1 where none is.

    A word counts as it stands inside a sentence, with its leading space, as written or as a name (keywords are
    lower-case: italian, bbq).
    """
    control = set(tokenizer.all_special_ids)

    @cache
    def token(word: str) -> int | None:
        for spelled in dict.fromkeys((word, word.capitalize(), word.upper())):
            ids = tokenizer(f" {spelled}", add_special_tokens=False)["input_ids"]
            if len(ids) == 1 and ids[0] not in control:
                return int(ids[0])
        return None

    tokens = ((token(word.strip()) for word in words[:_TRIED]) for words in keywords)
    return [next((number for number in found if number is not None), -1) for found in tokens]
