"""BERTScore (Zhang et al. 2020): each token is matched with the most similar token of the other text.

Equal to bert-score 0.3.13 on the same encoder and layer (tests), except that there a negative best cosine is 0 beside
a longer text of the batch; here special tokens named in a text are plain characters, an idf that weighs all tokens of a
text 0 gives 0, and a text is empty when it has no token of its own.
Shapes: n pairs; b texts at once; T, S tokens of predictions and references; D dimensions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import log
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from forwhy.errors import UserError
from forwhy.evaluate.bartscore import NeuralMeasure, TextTokens, batches, padded
from forwhy.evaluate.controls import deal
from forwhy.evaluate.significance import Floats
from forwhy.evaluate.text import TextScores
from forwhy.models import load_text_encoder
from forwhy.progress import Progress

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

NAMES = ("bertscore_p", "bertscore_r", "bertscore_f")
BATCH_TOKENS = 2048
CHUNK = 1024
"""Pairs whose vectors are in memory at once, remembered ones aside."""
MEMORY_BYTES = 1 << 30
"""Vectors kept from one call to the next: 1.4 million tokens of 384 dimensions."""


class Baseline(NamedTuple):
    """What unrelated texts score; a rescaled score is (score - baseline) / (1 - baseline)."""

    precision: float
    recall: float
    f1: float


class BertScore(NeuralMeasure):
    """BERTScore precision, recall and F1 as `bertscore_p`, `bertscore_r`, `bertscore_f`.

    Precision is the mean, over the tokens of the prediction, of the best cosine with a token of the reference; recall
    the other way round; F1 their harmonic mean, pair by pair. [CLS] and [SEP] may be matched but weigh nothing. An
    empty side gives 0 (before rescaling). `bertscore_cut` counts the pairs with a side longer than the model reads.

    Cost with `minilm`: 0.3 ms of one core per token, once for each distinct text; 3,000 pairs of 55 words hold 330 MB
    of vectors, and at most `MEMORY_BYTES` are kept for further calls.
    """

    def __init__(
        self,
        model: str = "minilm",
        idf: bool = False,
        layer: int | None = None,
        baseline: Baseline | None = None,
        device: str = "cpu",
    ) -> None:
        """Load the encoder: `minilm`, a Hub id or a folder, of an encoder-decoder the encoder.

        `idf`: weigh tokens by how few of the call's references have them, log((n + 1) / (df + 1)). `layer`: whose
        vectors, the last by default, 0 for the word embeddings; layers above it are not computed. `baseline`: rescale
        with these, see `fit_baseline`. Published numbers (XRec, BEAT) use `FacebookAI/roberta-large` at layer 17
        without idf, rescaled by 0.8315, 0.8315, 0.8312.
        A UserError as of `forwhy.models.locate`; for no such layer; for a baseline that is not below 1.
        """
        from transformers import GPT2Tokenizer, RobertaTokenizer

        self.idf, self.baseline = idf, None if baseline is None else _below_one(baseline)
        super().__init__(load_text_encoder(model, device=device), device)
        if self._model.config.is_encoder_decoder:
            self._model = self._model.get_encoder()
        self.layer = _layers(self._model, layer, model)
        # As the reference implementation does, for the pieces of GPT-2 and RoBERTa.
        self._prefix = " " if isinstance(self._tokenizer, GPT2Tokenizer | RobertaTokenizer) else ""
        self._read: dict[str, TextTokens] = {}
        self._vectors: dict[str, torch.Tensor] = {}
        self._room = MEMORY_BYTES

    @property
    def signature(self) -> str:
        """What must be the same for two numbers to be comparable."""
        rescaled = ",".join(f"{value:.4f}" for value in self.baseline or ())
        scale = f"rescaled:{rescaled}" if rescaled else "raw"
        return f"{self._name}|L{self.layer}|{'idf' if self.idf else 'no-idf'}|{scale}"

    def __call__(self, predictions: Sequence[str], references: Sequence[str]) -> TextScores:
        """Score the pairs; idf weights come from these `references`."""
        raw_n3 = self._raw(predictions, references)
        if self.baseline is not None:
            raw_n3 = (raw_n3 - np.array(self.baseline)) / (1 - np.array(self.baseline))
        tokens = self.tokens([*predictions, *references])
        cut = sum(tokens[p].cut or tokens[r].cut for p, r in zip(predictions, references, strict=True))
        return TextScores(dict(zip(NAMES, raw_n3.T, strict=True)), of_all={"bertscore_cut": float(cut)})

    def fit_baseline(self, texts: Sequence[str], pairs: int = 1000, seed: int = 0) -> Baseline:
        """Rescale from now on by the mean scores of random pairs of different `texts`, and return them.

        Of training texts this is what any two explanations of this data have in common. Cost: `pairs` texts encoded.
        A UserError for fewer than two different texts, or texts that cannot be told apart.
        """
        distinct = list(dict.fromkeys(text for text in texts if text.strip()))
        if len(distinct) < 2:
            raise UserError(f"BERTScore baseline: {len(distinct)} different texts; give at least two")
        drawn = np.random.default_rng(seed).permutation(len(distinct))[:pairs]
        ours = [distinct[row] for row in drawn]
        raw_n3 = self._raw(ours, [ours[row] for row in deal(len(ours), seed)])
        self.baseline = _below_one(Baseline(*raw_n3.mean(axis=0).tolist()))
        return self.baseline

    def tokens(self, texts: Iterable[str]) -> dict[str, TextTokens]:
        """Token ids of each distinct text."""
        distinct = dict.fromkeys(texts)
        new = [text for text in distinct if text not in self._read]
        stripped = [self._prefix + text.strip() if text.strip() else "" for text in new]
        self._read.update(zip(new, self._tokens(stripped), strict=True))
        return {text: self._read[text] for text in distinct}

    def vectors(self, texts: Iterable[str]) -> dict[str, torch.Tensor]:
        """[T, D] float16 of norm 1 for each distinct text that has tokens, kept while they fit `MEMORY_BYTES`."""
        import torch

        tokens = self.tokens(texts)
        found = {text: self._vectors[text] for text in tokens if text in self._vectors}
        new = [text for text in tokens if text not in found and tokens[text].ids]
        for rows in batches([len(tokens[text].ids) for text in new], BATCH_TOKENS):
            batch = [new[row] for row in rows]
            fill = self._tokenizer.pad_token_id or 0
            ids_bT, mask_bT = padded([tokens[text].ids for text in batch], fill, self._device)
            with torch.inference_mode():
                hidden_bTD = self._model(input_ids=ids_bT, attention_mask=mask_bT)[0].float()
                unit_bTD = torch.nn.functional.normalize(hidden_bTD, dim=-1).half()
            for text, unit_TD in zip(batch, unit_bTD, strict=True):
                # A clone: a view would keep the whole padded batch alive.
                found[text] = unit_TD[: len(tokens[text].ids)].clone()
        for text in new:
            if found[text].nbytes <= self._room:
                self._vectors[text] = found[text]
                self._room -= found[text].nbytes
        return found

    def _raw(self, predictions: Sequence[str], references: Sequence[str]) -> Floats:
        """[n, 3] precision, recall, F1, not rescaled."""
        tokens = self.tokens([*predictions, *references])
        weights, otherwise = self._weights([tokens[text] for text in references])
        scores_n3 = np.zeros((len(predictions), 3))
        pairs = list(zip(predictions, references, strict=True))
        rows = [row for row, pair in enumerate(pairs) if all(tokens[text].content for text in pair)]
        with Progress("BERTScore", len(rows)) as progress:
            for first in range(0, len(rows), CHUNK):
                chunk = rows[first : first + CHUNK]
                vectors = self.vectors(text for row in chunk for text in pairs[row])
                for row in chunk:
                    ours_TD, theirs_SD = (vectors[text].float() for text in pairs[row])
                    cosines_TS = ours_TD @ theirs_SD.T
                    for column, text in enumerate(pairs[row]):
                        best_T = cosines_TS.amax(1 - column).cpu().numpy()
                        weights_T = np.array([weights.get(token, otherwise) for token in tokens[text].ids])
                        if weights_T.any():
                            scores_n3[row, column] = (best_T * weights_T).sum() / weights_T.sum()
                progress.advance(len(chunk))
        precision_n, recall_n, f1_n = scores_n3.T
        sum_n = precision_n + recall_n
        np.divide(2 * precision_n * recall_n, sum_n, out=f1_n, where=sum_n > 0)
        return scores_n3

    def _weights(self, references: Sequence[TextTokens]) -> tuple[Mapping[int, float], float]:
        """Token id -> its weight, and the weight of any other."""
        if not self.idf:
            return dict.fromkeys((self._tokenizer.cls_token_id, self._tokenizer.sep_token_id), 0.0), 1.0
        times = Counter(token for reference in references for token in set(reference.ids))
        weights = {token: log((len(references) + 1) / (found + 1)) for token, found in times.items()}
        return weights, log(len(references) + 1)


def _layers(model: PreTrainedModel, layer: int | None, name: str) -> int:
    """Drop the layers above `layer`, as the reference implementation does, and return how many are left."""
    from torch.nn import ModuleList

    most = int(model.config.get_text_config().num_hidden_layers)
    if layer is None:
        return most
    if not 0 <= layer <= most:
        raise UserError(f"model '{name}' has no layer {layer}; choose from 0 (word embeddings) to {most}")
    stacks = (module for module in model.modules() if isinstance(module, ModuleList))
    stack = next((stack for stack in stacks if len(stack) == most), None)
    if stack is None:
        raise UserError(f"model '{name}': its layers cannot be told apart; use the last one (layer None)")
    del stack[layer:]
    return layer


def _below_one(baseline: Baseline) -> Baseline:
    if not all(value < 1 for value in baseline):
        raise UserError(f"BERTScore baseline {tuple(baseline)}: not below 1; give what unrelated texts score")
    return Baseline(*baseline)
