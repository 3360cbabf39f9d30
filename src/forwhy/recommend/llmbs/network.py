"""LLM-BS's language model under training: packed histories, text examples, and what CON's state says of an item.

All prefixes of a history are learnt in one pass, with the loss that they have one by one. A history is one row: the
prompt, then the codes of its items; the states that predict item i's codes have read what a row of their own would
hold, at the same positions. Beyond the window that fails: item i's row would begin later. Those targets get rows of
the last window + 1 items, `stride` targets each; with stride 1 every target has its full window.

CON tokens stand behind the longest row of a batch, one per target: each sees the prompt and all codes up to its
target's, and is seen by nobody, at the position behind these codes.

Shapes: B rows, I items of a row, L levels, P prompt tokens, T tokens (of the contrast: targets), C items with a CON
token, N predicted tokens (of the contrast: items), M negatives, D model width, E width of a source's vectors, W codes
of a level.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from forwhy.data.histories import Histories
from forwhy.errors import UserError
from forwhy.recommend.base import Ints
from forwhy.recommend.beams import BeamDecoder
from forwhy.recommend.causal import TreeModel
from forwhy.recommend.generative import GenerativeNetwork, IndexTokens, Vectors
from forwhy.recommend.halves import HalvesDecoder
from forwhy.recommend.head import PlainHead
from forwhy.recommend.options import BackboneConfig, ContrastConfig, GenerativeOptions
from forwhy.recommend.trie import CodeTrie
from forwhy.vocabulary.index import ItemIndex

LONGEST = 2048
"""Positions of a scratch decoder."""


@dataclass(frozen=True)
class Tokens(IndexTokens):
    """Token ids of an index in a language model's vocabulary."""

    con: int
    """The token that sums up a target in training; never decoded."""
    end: int
    """Ends a text response."""

    @property
    def size(self) -> int:
        """Rows that the model's embedding needs at least."""
        return max(self.first + self.count, self.con + 1, self.end + 1, max(self.prompt) + 1)

    def level_of(self, ids: Tensor) -> Tensor:
        """The level of each token, -1 for those that are no codes; the shape of `ids`."""
        starts = torch.tensor([int(level[0]) for level in self.levels], device=ids.device)
        levels = torch.searchsorted(starts, ids, right=True) - 1
        return levels.masked_fill((ids < self.first) | (ids >= self.first + self.count), -1)


def bare_tokens(index: ItemIndex) -> Tokens:
    """Begin, end and CON, then the index tokens: the whole vocabulary of a decoder without text."""
    return Tokens.of(index, first=3, prompt=(0,), end=1, con=2)


@dataclass(frozen=True)
class Packed:
    """One batch of pieces."""

    items_BI: Tensor
    """[B, I] internal items, padded behind."""
    lengths_B: Tensor
    context_B: Tensor

    @property
    def targets_BI(self) -> Tensor:
        """[B, I] True where an item is a target."""
        places_I = torch.arange(self.items_BI.shape[1], device=self.items_BI.device)
        return (places_I < self.lengths_B[:, None]) & (places_I >= self.context_B[:, None])

    def to(self, device: torch.device) -> Self:
        """On another device."""
        return type(self)(*(part.to(device) for part in vars(self).values()))


@dataclass(frozen=True)
class Pieces:
    """Histories cut so that every training item is a target once."""

    histories: Histories
    """What each piece reads; its last item is only a target."""
    context: Ints
    """[pieces] items at a piece's beginning that are no targets of its own."""

    def __len__(self) -> int:
        return len(self.context)

    def take(self, rows: Ints) -> Packed:
        """Some pieces as one batch."""
        chosen = self.histories.take(rows)
        arrays = chosen.padded(), chosen.lengths, self.context[rows]
        return Packed(*(torch.from_numpy(array) for array in arrays))


def cut(train: Histories, window: int, stride: int) -> Pieces:
    """Pieces of at most window + 1 items; the first of a history has all its items as targets; none without items."""
    beyond = np.maximum(train.lengths - window - 1, 0)
    counts = (train.lengths > 0) + -(-beyond // stride)
    rows = np.repeat(np.arange(len(train)), counts)
    number = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    stops = np.minimum(window + 1 + number * stride, train.lengths[rows])
    starts = np.maximum(stops - window - 1, 0)
    done = np.where(number > 0, window + 1 + (number - 1) * stride, 0)
    return Pieces(train.spans(train.offsets[:-1][rows] + starts, stops - starts), done - starts)


def layout(packed: Packed, tokens: Tokens, con: bool, cut: int = 0) -> tuple[Tensor, Tensor, Tensor | None]:
    """Token ids [B, T], positions [T], and whether a token sees another [T, T] (None: all before it).

    `cut`: levels of the first half where halves are decoded in parallel. Then the second half of each item stands once
    more behind the row, less its last code, as if it followed the history: it sees the codes before its item.
    With `con` a CON token of each item comes last. Without either, nothing follows what the last code is predicted
    from.
    """
    device, levels = packed.items_BI.device, tokens.items_NL.shape[1]
    prompt_P = torch.tensor(tokens.prompt, device=device)
    rows, items = packed.items_BI.shape
    codes_BIL = tokens.items_NL.to(device)[packed.items_BI]
    ids_BT = torch.cat([prompt_P.expand(rows, -1), codes_BIL.flatten(1)], dim=1)
    places_T = torch.arange(ids_BT.shape[1], device=device)
    again = max(0, levels - cut - 1) if cut else 0
    if not con and not again:
        return ids_BT[:, :-1], places_T[:-1], None
    starts_I = len(prompt_P) + levels * torch.arange(items + 1, device=device)
    branch_IH = starts_I[:-1, None] + torch.arange(again, device=device)
    con_I = starts_I[1:] if con else starts_I[:0]
    con_BI = ids_BT.new_full((rows, len(con_I)), tokens.con)
    ids_BT = torch.cat([ids_BT, codes_BIL[:, :, levels - 1 - again : -1].flatten(1), con_BI], dim=1)
    positions_T = torch.cat([places_T, branch_IH.flatten(), con_I])
    # What a token sees of the row ends at itself, at its target's begin (branches), or at its target's end (CON).
    ends_T = torch.cat([places_T, starts_I[:-1].repeat_interleave(again) - 1, con_I - 1])
    extra_E = torch.arange(len(positions_T) - len(places_T), device=device)
    # Extras see those of their own target that come before; a CON token is a target of its own.
    target_E = torch.where(extra_E < items * again, extra_E // max(again, 1), extra_E)
    seen_TT = positions_T <= ends_T[:, None]
    seen_TT[:, len(places_T) :] = False
    own_EE = (target_E == target_E[:, None]) & (extra_E <= extra_E[:, None])
    seen_TT[len(places_T) :, len(places_T) :] = own_EE
    return ids_BT, positions_T, seen_TT


# --- Global contrast decompression: the state of CON tells its item's vectors from other items' (LLM-BS eq. 5).


class Contrast(nn.Module):
    """One projector per source, and the sources' vectors; all of it is dropped after training."""

    def __init__(self, width: int, items: int, vectors: Vectors, config: ContrastConfig) -> None:
        """`vectors`: source -> [N, E], finite, a row per item; those of weight 0 are left out."""
        super().__init__()
        self.config = config
        self.weights = {source: weight for source, weight in config.weights.items() if source in vectors}
        self.projectors = nn.ModuleDict()
        for source in self.weights:
            table = vectors[source]
            if len(table) != items:
                found = f"{len(table):,} {source} vectors for {items:,} items"
                raise UserError(f"contrast: {found}; give one row per item")
            if not np.isfinite(table).all():
                item = int(np.argwhere(~np.isfinite(table))[0, 0])
                raise UserError(
                    f"contrast: the {source} vector of item number {item} is not finite; make it again"
                )
            normal_NE = F.normalize(torch.tensor(np.asarray(table, np.float32)), dim=1)
            self.register_buffer(f"{source}_NE", normal_NE, persistent=False)
            self.projectors[source] = nn.Linear(width, table.shape[1])

    def forward(self, states_TD: Tensor, targets_T: Tensor, negatives_M: Tensor) -> dict[str, Tensor]:
        """The parts and, as `contrast`, their weighted sum; zeros without targets."""
        normal_TD = F.normalize(states_TD.float(), dim=1)
        others_M = torch.cat([negatives_M, targets_T]) if self.config.in_batch else negatives_M
        rest = (targets_T, torch.unique(others_M), self.config.temperature)
        parts = {
            source: info_nce(self.projectors[source](normal_TD), getattr(self, f"{source}_NE"), *rest)
            for source in self.weights
        }
        total = torch.stack([weight * parts[source] for source, weight in self.weights.items()]).sum()
        return {"contrast": total, **{source: part.detach() for source, part in parts.items()}}


def info_nce(x_TE: Tensor, z_NE: Tensor, targets_T: Tensor, others_M: Tensor, temperature: float) -> Tensor:
    """Mean over targets of -log of the target's share among itself and the other items, by cosine; eq. 5. O(T M E).

    `z_NE` has rows of norm 1. Where the target is among the others it counts once.
    """
    x_TE = F.normalize(x_TE, dim=1)
    own_T1 = (x_TE * z_NE[targets_T]).sum(1, keepdim=True)
    apart_TM = (x_TE @ z_NE[others_M].T).masked_fill(others_M[None] == targets_T[:, None], -torch.inf)
    logits = torch.cat([own_T1, apart_TM], dim=1) / temperature
    return (logits.logsumexp(1) - logits[:, 0]).sum() / max(len(targets_T), 1)


class LlmBsNetwork(GenerativeNetwork):
    """A causal language model with an index in its vocabulary."""

    tokens: Tokens
    share: float = 0.5
    """The weight of the second half where the halves are decoded in parallel."""

    def __init__(
        self, lm: PreTrainedModel, tokens: Tokens, softmax: str, con: Contrast | None = None, cut: int = 0
    ) -> None:
        """`con`: what reads CON, if anything does; `cut`: levels of the first of two halves, 0 where all are one.

        Refuses a model without beams or a linear head.
        """
        super().__init__()
        self.reader: TreeModel = TreeModel(lm.eval())
        if not isinstance(self.reader.head, PlainHead):
            raise UserError(f"{type(lm).__name__}: its head is no plain linear layer; take another backbone")
        self.lm, self.contrast, self.tokens, self.softmax, self.cut = lm, con, tokens, softmax, cut
        self._head = self.reader.head
        self._parted: tuple[CodeTrie | None, list[CodeTrie]] = (None, [])

    def beams(self, trie: CodeTrie, config: GenerativeOptions, beam: int) -> BeamDecoder | HalvesDecoder:
        """What finds items of this trie; the tries of its halves are kept for the next call."""
        if not self.cut:
            return super().beams(trie, config, beam)
        if self._parted[0] is not trie:
            sizes, halves = [depth.width for depth in trie.depths], (slice(self.cut), slice(self.cut, None))
            tries = [CodeTrie.from_codes(trie.codes_NL[:, half], sizes[half]) for half in halves]
            self._parted = (trie, tries)
        tokens, normalise = self.tokens.levels, config.decoding
        return HalvesDecoder(self.reader, self._parted[1], tokens, normalise, beam, self.share)

    def forward(
        self, packed: Packed, negatives_M: Tensor | None = None, texts: Iterable[tuple[Tensor, Tensor]] = ()
    ) -> dict[str, Tensor]:
        """Equation 7: `loss`, the mean over all predicted tokens, with `generation` and CON's parts.

        `negatives_M`: items that CON tells targets apart from. `texts`: examples of the text tasks, of `text_rows`.
        """
        device, parts = self.lm.device, dict[str, Tensor]()
        packed = packed.to(device)
        states_BTD = self._states(*layout(packed, self.tokens, self.contrast is not None, self.cut))
        total, count = self._of_codes(states_BTD, packed)
        if self.contrast is not None:
            assert negatives_M is not None
            targets_BI = packed.targets_BI
            con_ND = states_BTD[:, -packed.items_BI.shape[1] :][targets_BI]
            parts = self.contrast(con_ND, packed.items_BI[targets_BI], negatives_M.to(device))
        for ids_BT, answers_BT in texts:
            total = total + self._of_texts(ids_BT.to(device), answers_BT.to(device))
            count += int(answers_BT.sum())
        generation = total / max(count, 1)
        loss = generation + parts["contrast"] if parts else generation
        return {"loss": loss, "generation": generation.detach(), **{k: v.detach() for k, v in parts.items()}}

    def _of_codes(self, states_BTD: Tensor, packed: Packed) -> tuple[Tensor, int]:
        """The sum of the losses of all targets' codes, and how many there are."""
        levels = len(self.tokens.levels)
        first, places = len(self.tokens.prompt) - 1, packed.items_BI.shape[1] * levels
        # The state before each code, whichever token it stands at: the prompt's last or the code before.
        before, targets_BI = states_BTD[:, first : first + places], packed.targets_BI
        before_BILD = before.reshape(len(before), -1, levels, before.shape[2])
        if self.cut:
            # The second half follows the history too: its first code the state before the item, others the branch's.
            again = levels - self.cut - 1
            branch = states_BTD[:, first + 1 + places :][:, : packed.items_BI.shape[1] * again]
            branch_BIHD = branch.reshape(*before_BILD.shape[:2], again, before.shape[2])
            before_BILD = torch.cat([before_BILD[:, :, : self.cut], before_BILD[:, :, :1], branch_BIHD], 2)
        states_NLD = before_BILD[targets_BI]
        codes_NL = self.tokens.items_NL.to(states_BTD.device)[packed.items_BI[targets_BI]]
        return self._summed(states_NLD.flatten(0, 1), codes_NL.flatten()), codes_NL.numel()

    def _of_texts(self, ids_BT: Tensor, answers_BT: Tensor) -> Tensor:
        positions_T = torch.arange(ids_BT.shape[1] - 1, device=ids_BT.device)
        states_ND = self._states(ids_BT[:, :-1], positions_T, None)[answers_BT[:, 1:]]
        return self._summed(states_ND, ids_BT[:, 1:][answers_BT[:, 1:]])

    def _summed(self, states_ND: Tensor, ids_N: Tensor) -> Tensor:
        """The sum of the losses of tokens: a code against its level or the vocabulary, text against the vocabulary."""
        levels_N = self.tokens.level_of(ids_N) if self.softmax == "level" else torch.full_like(ids_N, -1)
        total = states_ND.new_zeros((), dtype=torch.float32)
        for level in torch.unique(levels_N).tolist():
            at, first = levels_N == level, 0
            if level < 0:
                logits_NW = self._head.vocabulary(states_ND[at])
            else:
                codes_W = self.tokens.levels[level].to(states_ND.device)
                logits_NW, first = self._head.rows(states_ND[at], codes_W), int(codes_W[0])
            total = total + F.cross_entropy(logits_NW, ids_N[at] - first, reduction="sum")
        return total

    def _states(self, ids_BT: Tensor, positions_T: Tensor, seen_TT: Tensor | None) -> Tensor:
        places_1T = positions_T[None]
        masks = None if seen_TT is None else self.reader.masks(seen_TT[None], places_1T, places_1T)
        states: Tensor = self._head.base(
            input_ids=ids_BT, position_ids=places_1T, attention_mask=masks, use_cache=False
        ).last_hidden_state
        return states


def scratch_model(config: BackboneConfig, vocabulary: int) -> PreTrainedModel:
    """A Llama decoder with random weights from torch's generator; input and output tokens share a table."""
    shape = LlamaConfig(
        vocab_size=vocabulary, max_position_embeddings=LONGEST, tie_word_embeddings=True, attn_implementation="sdpa",
        hidden_size=config.dims, intermediate_size=config.feedforward, num_hidden_layers=config.layers,
        num_attention_heads=config.heads, num_key_value_heads=config.heads,
        bos_token_id=0, eos_token_id=1, pad_token_id=None,
    )  # fmt: skip
    model = LlamaForCausalLM(shape)

    def drop(module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        return F.dropout(output, config.dropout, module.training)

    # By hooks, because Llama has no such dropout; parameters and their names stay.
    if config.dropout:
        parts = [model.get_input_embeddings()]
        for layer in model.model.layers:
            parts += [layer.self_attn.o_proj, layer.mlp.down_proj]
        for part in parts:
            part.register_forward_hook(drop)
    return model
