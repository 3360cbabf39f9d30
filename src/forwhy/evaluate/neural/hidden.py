"""Unit vectors of the tokens of a text, from one layer of an encoder.

Shapes: b texts; T tokens; D dimensions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from forwhy.errors import UserError
from forwhy.evaluate.neural.tokens import Tokens, batches, padded, token_limit, tokenise
from forwhy.models import load_text_encoder

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BATCH_TOKENS = 2048
MEMORY_BYTES = 1 << 30
"""Vectors kept from one call to the next: 1.4 million tokens of 384 dimensions."""


class TokenEncoder:
    """Texts to token vectors; each distinct text is read once as long as the vectors fit `MEMORY_BYTES`.

    Vectors are float16: a cosine differs by some 1e-5 from float32, for half the memory (768 bytes a token
    with `minilm`).
    """

    def __init__(self, model: str, layer: int | None, device: str) -> None:
        """Load `model` with its first `layer` layers, or all of them; errors as `load_text_encoder`."""
        loaded = load_text_encoder(model, device=device)
        self.source, self.tokenizer = loaded.source, loaded.tokenizer
        self.limit = token_limit(loaded.tokenizer, loaded.model)
        self._model = _encoder(loaded.model)
        self.layer = _layers(self._model, layer, model)
        self._device = device
        self._spaced = _reads_a_leading_space(loaded.tokenizer)
        self._tokens: dict[str, Tokens] = {}
        self._vectors: dict[str, torch.Tensor] = {}
        self._room = MEMORY_BYTES

    def tokens(self, texts: Iterable[str]) -> dict[str, Tokens]:
        """Token ids of each distinct text."""
        distinct = dict.fromkeys(texts)
        new = [text for text in distinct if text not in self._tokens]
        prefix = " " if self._spaced else ""
        stripped = [prefix + text.strip() if text.strip() else "" for text in new]
        self._tokens.update(zip(new, tokenise(self.tokenizer, stripped, self.limit), strict=True))
        return {text: self._tokens[text] for text in distinct}

    def vectors(self, texts: Iterable[str]) -> dict[str, torch.Tensor]:
        """[T, D] float16 of norm 1 for each distinct text that has tokens."""
        tokens = self.tokens(texts)
        found = {text: self._vectors[text] for text in tokens if text in self._vectors}
        new = [text for text in tokens if text not in found and tokens[text].ids]
        for rows in batches([len(tokens[text].ids) for text in new], BATCH_TOKENS):
            batch = [new[row] for row in rows]
            found.update(zip(batch, self._read([tokens[text].ids for text in batch]), strict=True))
        self._remember({text: found[text] for text in new})
        return found

    def _read(self, rows: Sequence[list[int]]) -> list[torch.Tensor]:
        import torch

        ids_bT = padded(rows, self.tokenizer.pad_token_id or 0).to(self._device)
        lengths_b = torch.tensor([len(row) for row in rows], device=self._device)
        mask_bT = (torch.arange(ids_bT.shape[1], device=self._device) < lengths_b[:, None]).long()
        with torch.inference_mode():
            hidden_bTD = self._model(input_ids=ids_bT, attention_mask=mask_bT)[0].float()
            unit_bTD = torch.nn.functional.normalize(hidden_bTD, dim=-1).half()
        # Clones: a view would keep the whole padded batch alive.
        return [unit_TD[: len(row)].clone() for unit_TD, row in zip(unit_bTD, rows, strict=True)]

    def _remember(self, vectors: dict[str, torch.Tensor]) -> None:
        for text, vectors_TD in vectors.items():
            size = vectors_TD.numel() * vectors_TD.element_size()
            if size <= self._room:
                self._vectors[text] = vectors_TD
                self._room -= size


def _encoder(model: PreTrainedModel) -> PreTrainedModel:
    return model.get_encoder() if model.config.is_encoder_decoder else model


def _layers(model: PreTrainedModel, layer: int | None, name: str) -> int:
    """Drop the layers above `layer`, as the reference implementation does, and return how many are left."""
    from torch.nn import ModuleList

    stacks = [module for module in model.modules() if isinstance(module, ModuleList)]
    most = int(model.config.get_text_config().num_hidden_layers)
    if layer is None:
        return most
    if not 0 <= layer <= most:
        raise UserError(f"model '{name}' has no layer {layer}; choose from 0 (word embeddings) to {most}")
    stack = next((stack for stack in stacks if len(stack) == most), None)
    if stack is None:
        raise UserError(f"model '{name}': its layers cannot be told apart; use the last one (layer None)")
    del stack[layer:]
    return layer


def _reads_a_leading_space(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the reference implementation puts a space before each text: for GPT-2's and RoBERTa's pieces."""
    from transformers import GPT2Tokenizer, RobertaTokenizer

    return isinstance(tokenizer, GPT2Tokenizer | RobertaTokenizer)
