"""BLEURT (Sellam et al. 2020): a model trained on people's ratings reads reference and prediction together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from forwhy.evaluate.neural.tokens import batches, is_longer, readable, token_limit
from forwhy.evaluate.text import Floats, Measured
from forwhy.models import load_regressor
from forwhy.progress import Progress

BATCH_TOKENS = 4096


class Bleurt:
    """The number that a regression checkpoint gives for "reference, prediction", as `bleurt`.

    The order and the longest-first cutting are those of google-research/bleurt. There is no default:
    checkpoints differ in scale (BLEURT-20 lies mostly in 0..1, `bleurt-tiny` around 0 and below), so only
    numbers of one checkpoint compare. Any transformers sequence classification folder with one output works;
    it needs safetensors and no code of its own. `bleurt_cut` counts the pairs longer than the model reads.

    Cost: one forward pass over both texts per pair.
    """

    def __init__(self, model: str, device: str = "cpu") -> None:
        """Load the checkpoint, a Hub id or a folder.

        Raises:
            UserError: as `forwhy.models.load_regressor`: not found, no safetensors, a head of another shape.
        """
        loaded = load_regressor(model, device=device)
        self._source, self._tokenizer, self._model = loaded.source, loaded.tokenizer, loaded.model
        self._device = device
        self.limit = token_limit(loaded.tokenizer, loaded.model)

    @property
    def signature(self) -> str:
        """What must be the same for two numbers to be comparable."""
        return f"{self._source.id}@{self._source.revision}|{self.limit} tokens"

    def __call__(self, predictions: Sequence[str], references: Sequence[str]) -> Measured:
        """Score the pairs."""
        left, right = ([readable(text) for text in side] for side in (references, predictions))
        inputs = self._tokenizer(
            left, right, truncation="longest_first", max_length=self.limit, split_special_tokens=True
        )
        lengths_n = [len(ids) for ids in inputs["input_ids"]]
        scores_n = np.zeros(len(predictions))
        with Progress("BLEURT", len(predictions)) as progress:
            for rows in batches(lengths_n, BATCH_TOKENS):
                scores_n[rows] = self._batch({key: [inputs[key][row] for row in rows] for key in inputs})
                progress.advance(len(rows))
        full = [row for row, length in enumerate(lengths_n) if length == self.limit]
        cut = sum(is_longer(self._tokenizer, self.limit, left[row], right[row]) for row in full)
        return Measured({"bleurt": scores_n}, of_all={"bleurt_cut": float(cut)})

    def _batch(self, inputs: dict[str, list[list[int]]]) -> Floats:
        import torch

        batch = self._tokenizer.pad(inputs, return_tensors="pt").to(self._device)
        with torch.inference_mode():
            return np.asarray(self._model(**batch).logits[:, 0].double().cpu().numpy())
