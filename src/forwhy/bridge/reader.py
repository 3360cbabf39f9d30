"""The frozen model reading soft tokens: NLL of explanations, and explanations.

Shapes: B rows, S positions after the prefix, K soft tokens per pair, T task tokens, N targets, D model width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import chain
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from forwhy.bridge.backbone import Backbone, Prefix, moved
from forwhy.bridge.generation import (
    Decoding,
    PromptBatch,
    Written,
    most_in_a_pass,
    pieces,
    standing,
    steps,
)
from forwhy.bridge.injection import Injection
from forwhy.bridge.options import GenerationConfig, PromptConfig, finish
from forwhy.bridge.projectors import PairBridge
from forwhy.bridge.prompt import Prompt, Row, RowBatch, longest_first, reading_parts, sorted_batches

BridgeT = TypeVar("BridgeT", bound=PairBridge | None)
ReadT = TypeVar("ReadT", contravariant=True)

_READ_TOGETHER = {True: 256, False: 4096}
"""Positions in a pass over prompts, on a CPU and elsewhere: more would only add padding."""


class PairReader(Protocol[ReadT]):
    """A model that reads rows, pairs in a form of its own, and writes; `Reader` of the bridge is one."""

    def write(self, rows: Sequence[ReadT], config: GenerationConfig) -> list[str]:
        """An explanation for each."""

    def stream(self, row: ReadT, config: GenerationConfig) -> Iterator[str]:
        """The explanation of one in pieces; joined they are what `write` gives."""

    def nll(self, rows: Sequence[ReadT]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """[n] nats of each row's text, and its target tokens."""

    def prompt_length(self, rows: Sequence[ReadT]) -> float | None:
        """Mean tokens of the prompts; None where there are none."""

    def identity(self) -> dict[str, Any]:
        """What names the model: `id`, `revision` and more."""


@dataclass(eq=False)
class Draft:
    """Rows that are written beside each other for one answer; `others` and `guidance` as of :meth:`Reader.write`."""

    reader: Reader[Any]
    """Of these rows; its frozen model and task tokens are those of whoever writes them."""
    rows: Sequence[Row]
    others: Sequence[Row] = ()
    guidance: Sequence[float] = ()
    watched: bool = False
    """Whether its text is told as it grows."""
    wanted: Callable[[], bool] = lambda: True
    """Asked at each step; where nobody waits for it any more, its rows end at once."""
    over: bool = False
    """Set when all of it is written."""

    @property
    def together(self) -> int:
        """Rows that are written for one of its texts."""
        return 2 if self.others else 1

    def asked(self) -> list[Row]:
        """The rows, each with the one that it is led away from."""
        return (
            list(chain.from_iterable(zip(self.rows, self.others, strict=True)))
            if self.others
            else [*self.rows]
        )


class Reader(Generic[BridgeT]):
    """Prompt, bridge and frozen model put together; without a bridge the model reads words only.

    With `injection` the soft tokens' vectors also enter every layer at their positions (XRec eq. 12).
    """

    def __init__(
        self, backbone: Backbone, prompt: Prompt, bridge: BridgeT, injection: Injection | None = None
    ) -> None:
        self.backbone, self.prompt, self.bridge, self.injection = backbone, prompt, bridge, injection

    def identity(self) -> dict[str, Any]:
        """What names the model; see :meth:`Backbone.identity`."""
        return self.backbone.identity()

    def prefix(self) -> Prefix:
        """The constant beginning with the task tokens; differentiable in those. Cost: the task tokens."""
        prefix, bridge = self.backbone.prefix(self.prompt.prefix_ids), self.bridge
        if bridge is None:
            return prefix
        prefix = self.backbone.extend(prefix, bridge.task())
        return moved(prefix, bridge.shifts()) if len(bridge.deep) else prefix

    def prompt_length(self, rows: Sequence[Row]) -> float | None:
        """Mean positions of the rows' prompts, constant beginning and task tokens included; None for no rows."""
        constant = len(self.prompt.prefix_ids) + (len(self.bridge.task_TD) if self.bridge is not None else 0)
        return constant + float(np.mean([len(self.prompt.layout(row)) for row in rows])) if rows else None

    def soft(self, rows: Sequence[Row]) -> Tensor:
        """Soft tokens [B, K, D] of the rows, in prompt order."""
        device = self.backbone.device
        if self.bridge is None:
            return torch.zeros(len(rows), 0, self.backbone.width, device=device, dtype=self.backbone.dtype)
        user_B = torch.tensor([row.user for row in rows], device=device)
        item_B = torch.tensor([row.item for row in rows], device=device)
        tokens_BKD: Tensor = self.bridge(user_B, item_B)
        return tokens_BKD.to(self.backbone.dtype)

    def inputs(self, batch: RowBatch, soft_BKD: Tensor) -> Tensor:
        """Embeddings [B, S, D]: words of the model with the soft tokens written at their places."""
        words_BSD = self.backbone.embed(batch.ids_BS)
        row_B1 = torch.arange(len(words_BSD), device=words_BSD.device)[:, None]
        return words_BSD.index_put((row_B1, batch.soft_BK), soft_BKD)

    def _begun(
        self, rows: Sequence[Row], left: bool = False
    ) -> tuple[RowBatch, Tensor, AbstractContextManager[object]]:
        """A batch, its `inputs`, and in what it is read: the soft tokens enter every layer, where asked for."""
        batch, soft_BKD = self.prompt.collate(rows, left).to(self.backbone.device), self.soft(rows)
        reading = nullcontext() if self.injection is None else self.injection.at(soft_BKD, batch.soft_BK)
        return batch, self.inputs(batch, soft_BKD), reading

    def logits(
        self, rows: Sequence[Row], hidden_BK: Tensor | None = None, prefix: Prefix | None = None
    ) -> tuple[Tensor, RowBatch]:
        """Logits [N, V] for every target of the rows, and the batch that tells which target is which.

        `hidden_BK`: soft tokens (prompt order) that the model may not look at; `prefix`: to share it among batches.
        """
        start = self.prefix() if prefix is None else prefix
        batch, inputs_BSD, reading = self._begun(rows)
        hidden_BS = self._hidden(rows, batch, hidden_BK)
        with reading:
            return self.backbone.logits(start, inputs_BSD, batch.keep_BS, hidden_BS), batch

    def _hidden(self, rows: Sequence[Row], batch: RowBatch, more_BK: Tensor | None = None) -> Tensor | None:
        """[B, S] True at positions that nobody may look at: what the rows hide, and `more_BK`."""
        own_BK = self.prompt.hidden(rows)
        hidden_BK = own_BK if more_BK is None else more_BK if own_BK is None else own_BK | more_BK.cpu()
        if hidden_BK is None:
            return None
        return torch.zeros_like(batch.keep_BS).scatter(1, batch.soft_BK, hidden_BK.to(batch.keep_BS.device))

    def loss(self, rows: Sequence[Row], token_dropout: float = 0.0) -> Tensor:
        """NLL per target token (BEAT eq. 12), each soft token hidden with this probability."""
        hidden_BK = None
        if token_dropout:
            hidden_BK = torch.rand(len(rows), sum(self.prompt.slots(rows[0]).values())) < token_dropout
        logits_NV, batch = self.logits(rows, hidden_BK)
        return cross_entropy(logits_NV, batch.target_N)

    @torch.inference_mode()
    def nll(
        self, rows: Sequence[Row], batch_size: int = 32, hidden: Tensor | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """NLL of each row's explanation, summed over its targets, in nats, and how many targets it has.

        `batch_size`: rows read together; `hidden`: [n, K] True at soft tokens to be left out of a row.
        """
        sums_n = np.zeros(len(rows))
        tokens_n = np.array([len(row.target) for row in rows], dtype=np.int64)
        prefix = self.prefix()
        for numbers in sorted_batches(rows, batch_size):
            out = None if hidden is None else hidden[numbers]
            logits_NV, batch = self.logits([rows[number] for number in numbers], out, prefix)
            nll_N = cross_entropy(logits_NV, batch.target_N, reduction="none").double()
            sums_B = torch.zeros(len(numbers), dtype=torch.float64, device=nll_N.device)
            sums_n[numbers] = sums_B.index_add_(0, batch.row_N, nll_N).cpu().numpy()
        return sums_n, tokens_n

    @torch.inference_mode()
    def attention(self, row: Row) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """What the model looks at when it writes each token of a row's text.

        [N, P + S] shares of all positions, the constant beginning first: mean over layers and heads; and [K] the
        positions of the soft tokens, in prompt order.
        """
        prefix, (batch, inputs_BSD, reading) = self.prefix(), self._begun([row])
        with reading:
            shares_BST = self.backbone.attention(prefix, inputs_BSD)
        return shares_BST[batch.keep_BS].cpu().numpy(), prefix.length + batch.soft_BK[0].cpu().numpy()

    def prompts(self, rows: Sequence[Row], slots: int, together: int = 1) -> Iterator[PromptBatch]:
        """The rows' prompts in their order, best the longest first, as many in a pass as keep the machine busy.

        `slots`: rows that will be written together; `together`: neighbours that are never read apart.
        """
        groups = [rows[first : first + together] for first in range(0, len(rows), together)]
        lengths = [together * max(len(self.prompt.layout(row)) for row in group) for group in groups]
        positions = _READ_TOGETHER[self.backbone.device.type == "cpu"]
        parts = reading_parts(lengths, positions, max(1, most_in_a_pass(slots) // together))
        return (self._read_together([*chain.from_iterable(groups[part])]) for part in parts)

    def _read_together(self, rows: Sequence[Row]) -> PromptBatch:
        batch, inputs_BSD, reading = self._begun(rows, left=True)
        return PromptBatch(inputs_BSD, batch.pad_B, reading, self._hidden(rows, batch))

    def write(
        self,
        rows: Sequence[Row],
        config: GenerationConfig,
        others: Sequence[Row] = (),
        guidance: Sequence[float] = (),
    ) -> list[str]:
        """An explanation for each row, greedily, in the order of `rows`.

        `others`: for each row the one whose text it is led away from, at twice the cost; `guidance`: see `Decoding`.
        """
        texts, order = [""] * len(rows), longest_first(rows)
        decoding = self._decoding(config, [guidance[number] for number in order if guidance])
        draft = Draft(
            self, [rows[number] for number in order], [others[number] for number in order if others]
        )
        written = self.greedy(draft.asked(), decoding, config.batch_size)[:: draft.together]
        for number, row in zip(order, written, strict=True):
            texts[number] = self._finished(row, config)
        return texts

    @torch.inference_mode()
    def greedy(self, rows: Sequence[Row], decoding: Decoding, batch_size: int) -> list[Written]:
        """The tokens of each row, at most `batch_size` rows written together. Cheapest with the longest first."""
        if not rows:
            return []
        together = 2 if decoding.guidance else 1
        slots, written = max(together, min(batch_size, len(rows)) // together * together), []
        prefix, prompts = self.prefix(), self.prompts(rows, slots, together)
        with self.backbone.packed.used(slots):
            for written in steps(self.backbone, prefix, prompts, decoding, slots):  # noqa: B007 - the last one counts
                pass
        return written

    @torch.inference_mode()
    def flow(
        self, drafts: Iterator[Draft | None], config: GenerationConfig, slots: int
    ) -> Iterator[tuple[Draft, list[str]]]:
        """The texts of each draft when all of them are written, of a watched one also as they grow.

        `drafts` is asked at each step, so that a slot that gets free is filled at once: None is nothing now. Ends when
        nothing is being written and nothing is there. All drafts are guided, or none.
        """
        owners: list[Draft] = []
        begun: dict[Draft, slice] = {}
        guidance: list[float] = []

        def prompts() -> Iterator[PromptBatch | None]:
            for draft in drafts:
                if draft is None:
                    yield None
                    continue
                asked = draft.asked()
                begun[draft] = slice(len(owners), len(owners) + len(asked))
                owners.extend([draft] * len(asked))
                guidance.extend(draft.guidance)
                yield from draft.reader.prompts(asked, slots, draft.together)

        decoding = self._decoding(config, guidance, lambda number: not owners[number].wanted())
        with self.backbone.packed.used(slots):
            for written in steps(self.backbone, self.prefix(), prompts(), decoding, slots):
                for draft, rows in list(begun.items()):
                    mine = written[rows][:: draft.together]
                    if len(written) >= rows.stop and all(row.over for row in mine):
                        del begun[draft]
                        draft.over = True
                        yield draft, [self._finished(row, config) for row in mine]
                    elif draft.watched and mine:
                        yield draft, [standing(self.prompt.decode(row.ids), config.max_words) for row in mine]

    def _finished(self, row: Written, config: GenerationConfig) -> str:
        return finish(self.prompt.decode(row.ids), row.ended, config.max_words)

    def stream(self, row: Row, config: GenerationConfig) -> Iterator[str]:
        """The explanation of one row in pieces as they come; joined they are what :meth:`write` returns."""
        return pieces(self._growing(row, config), config.max_words)

    def _growing(self, row: Row, config: GenerationConfig) -> Iterator[tuple[str, bool]]:
        with torch.inference_mode():
            prefix = self.prefix()
        prompts, decoding = self.prompts([row], 1), self._decoding(config)
        for (written,) in steps(self.backbone, prefix, prompts, decoding, 1):
            yield self.prompt.decode(written.ids), written.ended

    def _decoding(
        self,
        config: GenerationConfig,
        guidance: Sequence[float] = (),
        dropped: Callable[[int], bool] = lambda _: False,
    ) -> Decoding:
        """Stop ids and limits; a row with more words than the cap, or a dropped one, needs no more tokens."""

        def enough(row: int, ids: list[int]) -> bool:
            long = len(ids) > config.max_words and len(self.prompt.decode(ids).split()) > config.max_words
            return long or dropped(row)

        limits = self.prompt.stop_ids, config.max_new_tokens
        return Decoding(*limits, enough, config.no_repeat, config.end_bias, guidance)


Parts = Sequence[tuple[str, str, int]]
"""Label, text and most tokens of each part of a prompt in words."""


class TextReader(Reader[None]):
    """Reads words alone; the instruction and the examples are its constant beginning, read once."""

    def __init__(self, backbone: Backbone, config: PromptConfig, examples: Iterable[Parts]) -> None:
        super().__init__(backbone, Prompt(backbone.tokenizer, config, {"user": 0, "item": 0}), None)
        self.prompt.prefix_ids += tuple(number for example in examples for number in self._ids(example))

    def _ids(self, parts: Parts) -> list[int]:
        return [n for label, text, most in parts for n in self.prompt.labelled(f"\n{label}", text, most)]

    def row(self, parts: Parts, text: str | None) -> Row:
        """A pair as ids; its text, where there is one, becomes the targets."""
        return Row((), (), tuple(self._ids(parts)), () if text is None else self.prompt.target(text))
