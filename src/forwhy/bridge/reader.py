"""The frozen model reading behaviour tokens: NLL of explanations, and explanations.

Shapes: B rows, S positions after the prefix, K behaviour tokens per pair, T task tokens, N targets, D model
    width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from forwhy.bridge.alignment import sar_loss
from forwhy.bridge.backbone import Backbone
from forwhy.bridge.batching import sorted_batches
from forwhy.bridge.cache import Prefix, moved
from forwhy.bridge.config import GenerationConfig, SarConfig
from forwhy.bridge.generation import Decoding, Written, greedy, steps
from forwhy.bridge.projector import Bridge
from forwhy.bridge.prompt import Batch, Prompt, Row
from forwhy.bridge.wording import finish, pieces


class Reader:
    """Prompt, projectors and frozen model put together."""

    def __init__(self, backbone: Backbone, prompt: Prompt, bridge: Bridge) -> None:
        self.backbone, self.prompt, self.bridge = backbone, prompt, bridge

    # --- reading ------------------------------------------------------------------------------------------

    def prefix(self) -> Prefix:
        """The constant beginning with the task tokens; differentiable in those. Cost: the task tokens."""
        prefix = self.backbone.extend(self.backbone.prefix(self.prompt.prefix_ids), self.bridge.task())
        return moved(prefix, self.bridge.shifts()) if len(self.bridge.deep) else prefix

    def inputs(self, rows: Sequence[Row], batch: Batch) -> Tensor:
        """Embeddings [B, S, D]: words of the model with the projected tokens written at their places."""
        words_BSD = self.backbone.embed(batch.ids_BS)
        if not batch.soft_BK.shape[1]:
            return words_BSD
        user_BL = torch.tensor([row.user_codes for row in rows], device=words_BSD.device)
        item_BL = torch.tensor([row.item_codes for row in rows], device=words_BSD.device)
        tokens_BKD = self.bridge(user_BL, item_BL).to(words_BSD.dtype)
        row_B1 = torch.arange(len(rows), device=words_BSD.device)[:, None]
        return words_BSD.index_put((row_B1, batch.soft_BK), tokens_BKD)

    def logits(
        self, rows: Sequence[Row], hidden_BK: Tensor | None = None, prefix: Prefix | None = None
    ) -> tuple[Tensor, Batch]:
        """Logits [N, V] for every target of the rows, and the batch that tells which target is which.

        Args:
            rows: Pairs with targets.
            hidden_BK: Behaviour tokens (prompt order) that the model may not look at.
            prefix: What :meth:`prefix` returned, to share it among batches.
        """
        batch = self.prompt.collate(rows).to(self.backbone.device)
        hidden_BS = None
        if hidden_BK is not None:
            hidden_BS = torch.zeros_like(batch.keep_BS).scatter(
                1, batch.soft_BK, hidden_BK.to(batch.keep_BS.device)
            )
        start = self.prefix() if prefix is None else prefix
        return self.backbone.logits(start, self.inputs(rows, batch), batch.keep_BS, hidden_BS), batch

    def loss(self, rows: Sequence[Row], sar: SarConfig, token_dropout: float) -> dict[str, Tensor]:
        """`loss` = NLL per target token (eq. 12) + gamma x SAR (eq. 11), and both parts."""
        slots = sum(len(codes) for codes in (rows[0].user_codes, rows[0].item_codes))
        hidden_BK = torch.rand(len(rows), slots) < token_dropout if token_dropout else None
        logits_NV, batch = self.logits(rows, hidden_BK)
        nll = cross_entropy(logits_NV, batch.target_N)
        if not sar.gamma:
            return {"loss": nll, "nll": nll.detach()}
        aligned = self._sar(rows, sar)
        return {"loss": nll + sar.gamma * aligned, "nll": nll.detach(), "sar": aligned.detach()}

    def _sar(self, rows: Sequence[Row], sar: SarConfig) -> Tensor:
        """SAR on the words of the explanations, the end token left out."""
        texts = [torch.tensor(row.target[:-1], dtype=torch.long) for row in rows]
        ids_BT = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=-1).to(
            self.backbone.device
        )
        words_BTD = self.backbone.embed(ids_BT.clamp_min(0))
        if sar.candidates == "codebook":
            return sar_loss(words_BTD, ids_BT >= 0, self.bridge.every(), sar)
        user_BL = torch.tensor([row.user_codes for row in rows], device=ids_BT.device)
        item_BL = torch.tensor([row.item_codes for row in rows], device=ids_BT.device)
        return sar_loss(words_BTD, ids_BT >= 0, self.bridge(user_BL, item_BL), sar)

    @torch.inference_mode()
    def nll(
        self, rows: Sequence[Row], batch_size: int, hidden: Tensor | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """NLL of each row's explanation, summed over its targets, in nats, and how many targets it has.

        Args:
            rows: Pairs with targets; batches are made by length, the order of the result is that of `rows`.
            batch_size: Rows read together.
            hidden: [n, K] True at behaviour tokens to be left out of a row.
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

    # --- writing ------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def write(self, rows: Sequence[Row], config: GenerationConfig) -> list[str]:
        """An explanation for each row, greedily, in the order of `rows`."""
        prefix = self.prefix()
        texts = [""] * len(rows)
        for numbers in sorted_batches(rows, config.batch_size):
            chosen = [rows[number] for number in numbers]
            batch = self.prompt.collate(chosen, left=True).to(self.backbone.device)
            inputs_BSD = self.inputs(chosen, batch)
            written = greedy(self.backbone, prefix, inputs_BSD, batch.pad_B, self._decoding(config))
            for number, row in zip(numbers, written, strict=True):
                texts[number] = finish(self.prompt.decode(row.ids), row.ended, config.max_words)
        return texts

    def stream(self, row: Row, config: GenerationConfig) -> Iterator[str]:
        """The explanation of one row in pieces as they come; joined they are what :meth:`write` returns."""
        return pieces(self._growing(row, config), config.max_words)

    def _growing(self, row: Row, config: GenerationConfig) -> Iterator[tuple[str, bool]]:
        with torch.inference_mode():
            batch = self.prompt.collate([row], left=True).to(self.backbone.device)
            inputs_BSD, prefix = self.inputs([row], batch), self.prefix()
        written = [Written([])]
        for _ in steps(self.backbone, prefix, inputs_BSD, batch.pad_B, self._decoding(config), written):
            yield self.prompt.decode(written[0].ids), written[0].ended

    def _decoding(self, config: GenerationConfig) -> Decoding:
        """Stop ids and limits; a row with more words than the cap needs no more tokens."""

        def enough(_: int, ids: list[int]) -> bool:
            return len(ids) > config.max_words and len(self.prompt.decode(ids).split()) > config.max_words

        limits = self.prompt.stop_ids, config.max_new_tokens
        return Decoding(*limits, enough, config.no_repeat, config.end_bias)
