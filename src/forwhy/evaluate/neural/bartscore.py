"""Texts to token ids within a model's limit, and rows of nearly equal length for one forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from forwhy.errors import UserError
from forwhy.evaluate.overlap import Floats
from forwhy.evaluate.text import TextScores
from forwhy.models import load_lm, load_regressor
from forwhy.progress import Progress

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


DEFAULT_LIMIT = 512
"""Tokens read by a model that names no limit of its own."""
UNLIMITED = 1_000_000
"""A tokenizer without a limit says a number above this one."""


@dataclass(frozen=True)
class Tokens:
    """One text as a model reads it."""

    ids: list[int]
    content: int
    """How many of them stand for the text, not for its frame ([CLS], [SEP], ...)."""
    cut: bool
    """Whether the text had more tokens than the limit."""


def token_limit(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> int:
    """Most tokens that both the tokenizer and the model's positions allow."""
    said = [tokenizer.model_max_length, _positions(model)]
    return min((int(limit) for limit in said if limit and 0 < limit < UNLIMITED), default=DEFAULT_LIMIT)


def _positions(model: PreTrainedModel) -> int | None:
    for name, module in model.named_modules():
        # RoBERTa counts positions from after its padding index, so that not all of its rows are for text.
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            return int(module.num_embeddings) - int(module.padding_idx) - 1
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


def tokenise(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], limit: int, frame: bool = True
) -> list[Tokens]:
    """Token ids of each text, at most `limit`; `frame` adds the model's own special tokens."""
    if not texts:
        return []
    clean = [readable(text) for text in texts]
    found = tokenizer(
        clean,
        add_special_tokens=frame,
        truncation=True,
        max_length=limit,
        split_special_tokens=True,
        return_special_tokens_mask=True,
    )
    rows = zip(clean, found["input_ids"], found["special_tokens_mask"], strict=True)
    return [
        Tokens(ids, len(ids) - sum(special), len(ids) == limit and is_longer(tokenizer, limit, text))
        for text, ids, special in rows
    ]


def is_longer(tokenizer: PreTrainedTokenizerBase, limit: int, *texts: str) -> bool:
    """Whether a text, or a pair of them, has more tokens than `limit`."""
    # Lists, as transformers takes an empty second text outside of a list for none.
    found = tokenizer(*([text] for text in texts), split_special_tokens=True, verbose=False)
    return len(found["input_ids"][0]) > limit


def readable(text: str) -> str:
    """The text with "?" for lone surrogates, which no tokenizer takes."""
    return text.encode("utf-8", "replace").decode("utf-8")


def batches(lengths_n: Sequence[int] | NDArray[np.int64], cells: int) -> Iterator[NDArray[np.int64]]:
    """Rows [b], short ones first, in batches whose rows times longest length stay within `cells`.

    A row that is longer than `cells` makes a batch alone.
    """
    lengths_n = np.asarray(lengths_n)
    order_n = np.argsort(lengths_n, kind="stable")
    first = 0
    while first < len(order_n):
        widths = lengths_n[order_n[first:]] * np.arange(1, len(order_n) - first + 1)
        last = first + max(1, int(np.searchsorted(widths, cells, side="right")))
        yield order_n[first:last]
        first = last


def padded(rows: Sequence[Sequence[int]], fill: int) -> torch.Tensor:
    """[b, longest] int64, filled up on the right."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    return pad_sequence([torch.tensor(row, dtype=torch.long) for row in rows], True, fill)


# --- BARTScore (Yuan et al. 2021): how probable a model finds one text after it has read the other.
#
# A seq2seq model reads one text and is scored on the other with the frame its tokenizer adds, as in the
# authors' code. A causal model reads "source, JOINT, target, END" (each tokenised alone, after the start token
# that its tokenizer puts first) and is scored on target and END, or the model's end token where the tokenizer knows no
# line break.
#
# Shapes: n pairs; b pairs at once; S, T tokens of source and target; V words of the model.


Direction = Literal["precision", "recall"]
DIRECTIONS: tuple[Direction, ...] = ("precision", "recall")

JOINT, END = "\nIn other words:\n", "\n"
SIDE_TOKENS = 1024
"""Most tokens of a source or a target, as in the authors' code."""
LOGITS = 1 << 26
"""Logits in memory at once (256 MB), unless one pair has more."""
IGNORED = -100

Rows = Sequence[list[int]]
Read = Callable[[Rows, Rows], "torch.Tensor"]
"""Ids of b sources and targets -> [b] mean log-probability of the target's tokens."""


class BartScore:
    """Mean log-probability per target token: `bartscore_p`, `bartscore_r` and their mean `bartscore_f`.

    Precision is p(prediction | reference), recall p(reference | prediction), both in nats per token, at most
    0; F is their arithmetic mean (the paper's section 3.3). XRec and BEAT report recall under
    `facebook/bart-large-cnn` tuned on ParaBank2. The paper's faithfulness, p(prediction | source), needs a
    source document, which these pairs do not have. `bartscore_cut` counts the pairs with a side longer than
    the model reads.

    Cost: one forward pass over both texts per pair and direction, nothing shared between controls. With
    `smollm2-135m`, 5 ms of one core per token: 3,000 pairs of 55 words take some 20 minutes on two cores in
    one direction.
    """

    def __init__(self, model: str, directions: Sequence[Direction] = DIRECTIONS, device: str = "cpu") -> None:
        """Load a seq2seq or causal language model: `smollm2-135m`, `gemma3-270m`, a Hub id or a folder.

        Args:
            model: which one; whether it is causal, its configuration says.
            directions: what to compute; one halves the cost, F needs both.
            device: where the model runs.

        Raises:
            UserError: as `forwhy.models.locate`, or an unknown direction or none.
        """
        wrong = sorted(set(directions) - set(DIRECTIONS))
        if wrong or not directions:
            raise UserError(f"BARTScore directions {wrong or '[]'}: choose from {', '.join(DIRECTIONS)}")
        loaded = load_lm(model, device=device)
        self._source, self._tokenizer, self._model = loaded.source, loaded.tokenizer, loaded.model
        self._directions, self._device = tuple(directions), device
        self._vocabulary = int(self._model.config.get_text_config().vocab_size)
        self._causal = not self._model.config.is_encoder_decoder
        self._start, self._joint, self._end = self._between()
        self.limit = self._side_limit()

    @property
    def signature(self) -> str:
        """What must be the same for two numbers to be comparable."""
        kind = "causal" if self._causal else "seq2seq"
        return f"{self._source.id}@{self._source.revision}|{kind}|{self.limit} tokens a side"

    def __call__(self, predictions: Sequence[str], references: Sequence[str]) -> TextScores:
        """Score the pairs."""
        ours, theirs = self._tokens(predictions), self._tokens(references)
        found: dict[str, Floats] = {}
        if "precision" in self._directions:
            found["bartscore_p"] = self._score(theirs, ours)
        if "recall" in self._directions:
            found["bartscore_r"] = self._score(ours, theirs)
        if len(found) == 2:
            found["bartscore_f"] = (found["bartscore_p"] + found["bartscore_r"]) / 2
        cut = sum(p.cut or r.cut for p, r in zip(ours, theirs, strict=True))
        return TextScores(found, of_all={"bartscore_cut": float(cut)})

    def _tokens(self, texts: Sequence[str]) -> list[Tokens]:
        return tokenise(self._tokenizer, texts, self.limit, frame=not self._causal)

    def _between(self) -> tuple[list[int], list[int], list[int]]:
        """Ids of the start token that the tokenizer puts first, of JOINT, and of END or else the end token."""
        joint, end = (self._tokenizer(text, add_special_tokens=False)["input_ids"] for text in (JOINT, END))
        framed = self._tokenizer("")["input_ids"][:1]
        start = framed if framed == [self._tokenizer.bos_token_id] else []
        return start, joint, end or [self._tokenizer.eos_token_id]

    def _side_limit(self) -> int:
        limit = token_limit(self._tokenizer, self._model)
        if self._causal:
            limit = (limit - len(self._start + self._joint + self._end)) // 2
        return min(limit, SIDE_TOKENS)

    def _score(self, sources: Sequence[Tokens], targets: Sequence[Tokens]) -> Floats:
        """[n] mean log-probabilities of the targets."""
        pairs = [(source.ids, target.ids) for source, target in zip(sources, targets, strict=True)]
        lengths_n = [len(source) + len(target) for source, target in pairs]
        read = self._read_causal if self._causal else self._read_seq2seq
        scores_n = np.zeros(len(pairs))
        with Progress("BARTScore", len(pairs)) as progress:
            for rows in batches(lengths_n, LOGITS // self._vocabulary):
                scores_n[rows] = self._batch(read, [pairs[row] for row in rows])
                progress.advance(len(rows))
        return scores_n

    def _batch(self, read: Read, pairs: Sequence[tuple[list[int], list[int]]]) -> NDArray[np.float32]:
        import torch

        with torch.inference_mode():
            sources, targets = zip(*pairs, strict=True)
            return read(sources, targets).cpu().numpy()

    def _read_seq2seq(self, sources: Rows, targets: Rows) -> torch.Tensor:
        end = [self._model.config.eos_token_id]
        # A tokenizer without a frame gives no token at all for "".
        sources, targets = ([row or end for row in side] for side in (sources, targets))
        ids_bS = padded(sources, self._tokenizer.pad_token_id or 0).to(self._device)
        mask_bS = padded([[1] * len(row) for row in sources], 0).to(self._device)
        labels_bT = padded(targets, IGNORED).to(self._device)
        logits_bTV = self._model(input_ids=ids_bS, attention_mask=mask_bS, labels=labels_bT).logits
        return _mean_log_probability(logits_bTV, labels_bT)

    def _read_causal(self, sources: Rows, targets: Rows) -> torch.Tensor:
        prefixes = [self._start + source + self._joint for source in sources]
        endings = [target + self._end for target in targets]
        rows = [prefix + ending for prefix, ending in zip(prefixes, endings, strict=True)]
        # Right padding: no token of a text sees what stands after it.
        ids_bT = padded(rows, 0).to(self._device)
        mask_bT = padded([[1] * len(row) for row in rows], 0).to(self._device)
        labels = [[IGNORED] * len(p) + e for p, e in zip(prefixes, endings, strict=True)]
        first = min(map(len, prefixes))
        labels_bT = padded(labels, IGNORED)[:, first:].to(self._device)
        logits_bTV = self._model(
            input_ids=ids_bT,
            attention_mask=mask_bT,
            use_cache=False,
            logits_to_keep=ids_bT.shape[1] - first + 1,
        ).logits
        return _mean_log_probability(logits_bTV[:, :-1], labels_bT)


def _mean_log_probability(logits_bTV: torch.Tensor, labels_bT: torch.Tensor) -> torch.Tensor:
    """[b] over the labels that are not ignored."""
    from torch.nn.functional import cross_entropy

    losses_bT = cross_entropy(
        logits_bTV.transpose(1, 2).float(), labels_bT, ignore_index=IGNORED, reduction="none"
    )
    return -losses_bT.sum(1) / (labels_bT != IGNORED).sum(1)


# --- BLEURT (Sellam et al. 2020): a model trained on people's ratings reads reference and prediction together.


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

    def __call__(self, predictions: Sequence[str], references: Sequence[str]) -> TextScores:
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
        return TextScores({"bleurt": scores_n}, of_all={"bleurt_cut": float(cut)})

    def _batch(self, inputs: dict[str, list[list[int]]]) -> Floats:
        import torch

        batch = self._tokenizer.pad(inputs, return_tensors="pt").to(self._device)
        with torch.inference_mode():
            return np.asarray(self._model(**batch).logits[:, 0].double().cpu().numpy())
