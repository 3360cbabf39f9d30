"""Unit vectors of the tokens of a text, from one layer of an encoder.

Shapes: b texts; T tokens; D dimensions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from math import log
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from forwhy.errors import UserError
from forwhy.evaluate.controls import deal
from forwhy.evaluate.neural.bartscore import Tokens, batches, padded, token_limit, tokenise
from forwhy.evaluate.overlap import Floats
from forwhy.evaluate.text import TextScores
from forwhy.models import load_text_encoder
from forwhy.progress import Progress

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


# --- BERTScore (Zhang et al. 2020): each token is matched with the most similar token of the other text.
#
# Equal to bert-score 0.3.13 on the same encoder and layer (tests), except where that depends on the batch: it
# raises a negative best cosine to 0 beside a longer text. Special tokens named in a text are plain characters, an
# idf that weighs all tokens of a text 0 gives 0, and a text is empty when no token of its own is left, however
# many the model adds.
#
# Shapes: n pairs; b pairs at once; T, S tokens of predictions and references; D dimensions.


NAMES = ("bertscore_p", "bertscore_r", "bertscore_f")
CHUNK = 1024
"""Pairs whose vectors are in memory at once, remembered ones aside."""
BLOCK_CELLS = 1 << 20
"""Cosines computed at once."""
Weigh = Callable[[Tokens], list[float]]
"""Tokens of a text -> the weight of each."""


class Baseline(NamedTuple):
    """What unrelated texts score; a rescaled score is (score - baseline) / (1 - baseline)."""

    precision: float
    recall: float
    f1: float


class BertScore:
    """BERTScore precision, recall and F1 as `bertscore_p`, `bertscore_r`, `bertscore_f`.

    Precision averages, over the tokens of the prediction, the best cosine with a token of the reference;
    recall the other way round; F1 is their harmonic mean, pair by pair. [CLS] and [SEP] may be matched but
    weigh nothing. An empty side gives 0 (before rescaling). `bertscore_cut` counts the pairs with a side
    longer than the model reads.

    Cost with `minilm`: 0.3 ms of one core per token, once for each distinct text, nearly all of it the
    model's matrix products; 3,000 pairs of 55 words hold 330 MB of vectors, and at most 1 GiB is kept for
    further calls (`hidden.MEMORY_BYTES`).
    """

    def __init__(
        self,
        model: str = "minilm",
        idf: bool = False,
        layer: int | None = None,
        baseline: Baseline | None = None,
        device: str = "cpu",
    ) -> None:
        """Load the encoder.

        Args:
            model: `minilm`, a Hub id or a folder; of an encoder-decoder the encoder is used. Published
                numbers (XRec, BEAT) use `FacebookAI/roberta-large` at layer 17 without idf, rescaled.
            idf: weigh tokens by how few of the call's references have them, log((n + 1) / (df + 1)).
            layer: which layer's vectors; the last by default, 0 for the word embeddings. Layers above it
                are not computed.
            baseline: rescale with these; see `fit_baseline`. bert-score ships them for some 30 models, none
                of them MiniLM (roberta-large at layer 17: 0.8315, 0.8315, 0.8312).
            device: where the model runs.

        Raises:
            UserError: as `forwhy.models.locate`; no such layer; a baseline that is not below 1.
        """
        self.idf, self.baseline = idf, None if baseline is None else _below_one(baseline)
        self._encoder = TokenEncoder(model, layer, device)

    @property
    def signature(self) -> str:
        """What must be the same for two numbers to be comparable."""
        source, baseline = self._encoder.source, self.baseline
        scale = "raw" if baseline is None else "rescaled:" + ",".join(f"{value:.4f}" for value in baseline)
        idf = "idf" if self.idf else "no-idf"
        return f"{source.id}@{source.revision}|L{self._encoder.layer}|{idf}|{scale}"

    def __call__(self, predictions: Sequence[str], references: Sequence[str]) -> TextScores:
        """Score the pairs; idf weights come from these `references`."""
        raw_n3 = self._raw(predictions, references)
        if self.baseline is not None:
            raw_n3 = (raw_n3 - np.array(self.baseline)) / (1 - np.array(self.baseline))
        tokens = self._encoder.tokens([*predictions, *references])
        cut = [tokens[p].cut or tokens[r].cut for p, r in zip(predictions, references, strict=True)]
        return TextScores(dict(zip(NAMES, raw_n3.T, strict=True)), of_all={"bertscore_cut": float(sum(cut))})

    def fit_baseline(self, texts: Sequence[str], pairs: int = 1000, seed: int = 0) -> Baseline:
        """Rescale from now on by the mean scores of random pairs of different `texts`, and return them.

        Give training texts: the baseline then says what two explanations of this data have in common
        before anything is right. (The published baselines are random pairs of Common Crawl sentences.)
        Cost: `pairs` texts encoded.

        Raises:
            UserError: fewer than two different texts, or texts that cannot be told apart.
        """
        distinct = list(dict.fromkeys(text for text in texts if text.strip()))
        if len(distinct) < 2:
            raise UserError(f"BERTScore baseline: {len(distinct)} different texts; give at least two")
        drawn = np.random.default_rng(seed).permutation(len(distinct))[:pairs]
        ours = [distinct[row] for row in drawn]
        raw_n3 = self._raw(ours, [ours[row] for row in deal(len(ours), seed)])
        self.baseline = _below_one(Baseline(*raw_n3.mean(axis=0).tolist()))
        return self.baseline

    def _raw(self, predictions: Sequence[str], references: Sequence[str]) -> Floats:
        """[n, 3] precision, recall, F1 as they are."""
        tokens = self._encoder.tokens([*predictions, *references])
        weigh = self._weigh([tokens[text] for text in references])
        scores_n3 = np.zeros((len(predictions), 3))
        full = [
            bool(tokens[p].content and tokens[r].content)
            for p, r in zip(predictions, references, strict=True)
        ]
        rows = np.flatnonzero(full)
        with Progress("BERTScore", len(rows)) as progress:
            for first in range(0, len(rows), CHUNK):
                chunk = rows[first : first + CHUNK]
                sides = [predictions[row] for row in chunk], [references[row] for row in chunk]
                scores_n3[chunk, :2] = self._chunk(*sides, weigh)
                progress.advance(len(chunk))
        total_n = scores_n3[:, 0] + scores_n3[:, 1]
        product_n = 2 * scores_n3[:, 0] * scores_n3[:, 1]
        np.divide(product_n, total_n, out=scores_n3[:, 2], where=total_n > 0)
        return scores_n3

    def _chunk(self, predictions: Sequence[str], references: Sequence[str], weigh: Weigh) -> Floats:
        """[n, 2] precision and recall of pairs whose sides are not empty."""
        vectors = self._encoder.vectors([*predictions, *references])
        tokens = self._encoder.tokens([*predictions, *references])
        longest = [
            max(len(vectors[p]), len(vectors[r])) for p, r in zip(predictions, references, strict=True)
        ]
        scores_n2 = np.zeros((len(predictions), 2))
        for rows in batches(np.square(longest), BLOCK_CELLS):
            sides = [[texts[row] for row in rows] for texts in (predictions, references)]
            best = best_cosines(*([vectors[text] for text in texts] for texts in sides))
            for column, (texts, best_bT) in enumerate(zip(sides, best, strict=True)):
                scores_n2[rows, column] = _weighted(best_bT, [weigh(tokens[text]) for text in texts])
        return scores_n2

    def _weigh(self, references: Sequence[Tokens]) -> Weigh:
        if self.idf:
            return partial(_idf_weights, document_weights(references), log(len(references) + 1))
        tokenizer = self._encoder.tokenizer
        return partial(_even_weights, {tokenizer.cls_token_id, tokenizer.sep_token_id})


def document_weights(references: Sequence[Tokens]) -> dict[int, float]:
    """Token id -> log((n + 1) / (df + 1)) over the n references; one that none has weighs log(n + 1)."""
    times = Counter(token for reference in references for token in set(reference.ids))
    return {token: log((len(references) + 1) / (found + 1)) for token, found in times.items()}


def best_cosines(
    ours: Sequence[torch.Tensor], theirs: Sequence[torch.Tensor]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Unit vectors [T, D] and [S, D] of b pairs -> [b, longest T] and [b, longest S] best cosines.

    Values beyond a text's end are to be weighed 0; they are finite.
    """
    import torch
    from torch.nn.utils.rnn import pad_sequence

    with torch.inference_mode():
        ours_bTD, theirs_bSD = (pad_sequence(list(side), batch_first=True).float() for side in (ours, theirs))
        cosines_bTS = ours_bTD @ theirs_bSD.transpose(1, 2)
        # Below any cosine, so that nothing is matched with padding.
        cosines_bTS.masked_fill_(_beyond(ours)[:, :, None] | _beyond(theirs)[:, None, :], -2.0)
        return cosines_bTS.amax(2).cpu().numpy(), cosines_bTS.amax(1).cpu().numpy()


def _beyond(texts: Sequence[torch.Tensor]) -> torch.Tensor:
    """[b, longest] True where a text has ended."""
    import torch

    lengths_b = torch.tensor([len(text) for text in texts], device=texts[0].device)
    return torch.arange(int(lengths_b.max()), device=texts[0].device) >= lengths_b[:, None]


def _weighted(best_bT: NDArray[np.float32], weights: Sequence[list[float]]) -> Floats:
    """[b] weighted means; 0 where all weights are 0."""
    weights_bT = np.zeros(best_bT.shape)
    for row, values in zip(weights_bT, weights, strict=True):
        row[: len(values)] = values
    total_b = weights_bT.sum(axis=1)
    sums_b = (best_bT * weights_bT).sum(axis=1)
    means_b: Floats = np.divide(sums_b, total_b, out=np.zeros(len(sums_b)), where=total_b > 0)
    return means_b


def _idf_weights(weights: Mapping[int, float], unseen: float, tokens: Tokens) -> list[float]:
    return [weights.get(token, unseen) for token in tokens.ids]


def _even_weights(frame: set[int | None], tokens: Tokens) -> list[float]:
    return [float(token not in frame) for token in tokens.ids]


def _below_one(baseline: Baseline) -> Baseline:
    if not all(value < 1 for value in baseline):
        raise UserError(f"BERTScore baseline {tuple(baseline)}: not below 1; give what unrelated texts score")
    return Baseline(*baseline)
