"""BARTScore and BLEURT, and what neural measures share: token ids within a model's limit, batches of like length.

The name of a special token in a text is plain characters. What is longer than the model reads is cut and counted.
Shapes: n pairs; b pairs at once; S, T tokens of source and target; V words of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from forwhy.errors import UserError
from forwhy.evaluate.significance import Floats, Ints
from forwhy.evaluate.text import TextScores
from forwhy.models import LoadedModel, load_lm, load_regressor
from forwhy.progress import Progress

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

DEFAULT_LIMIT, UNLIMITED = 512, 1_000_000
"""Tokens that are read by a model which names no limit, or a number above the second one."""


@dataclass(frozen=True)
class TextTokens:
    """One text as a model reads it; `content`: how many tokens are its own; `cut`: whether there were more."""

    ids: list[int]
    content: int
    cut: bool


def _positions(model: PreTrainedModel) -> int | None:
    for name, module in model.named_modules():
        # RoBERTa counts positions from after its padding index, so that not all of its rows are for text.
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            return int(module.num_embeddings) - int(module.padding_idx) - 1
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


class NeuralMeasure:
    """A frozen model with its tokenizer that scores pairs of texts, in batches of nearly equal length."""

    def __init__(self, loaded: LoadedModel, device: str) -> None:
        self._tokenizer, self._model, self._device = loaded.tokenizer, loaded.model, device
        self._name = f"{loaded.source.id}@{loaded.source.revision}"
        said = (loaded.tokenizer.model_max_length, _positions(loaded.model))
        known = [int(limit) for limit in said if limit and 0 < limit < UNLIMITED]
        self.limit = min(known, default=DEFAULT_LIMIT)
        """Most tokens that both the tokenizer and the model's positions allow."""

    def _tokens(self, texts: Sequence[str], frame: bool = True) -> list[TextTokens]:
        """Token ids of each text, at most `limit`; `frame` adds the model's own special tokens."""
        if not texts:  # which no tokenizer takes
            return []
        clean, cut = [readable(text) for text in texts], {"truncation": True, "max_length": self.limit}
        read = {"add_special_tokens": frame, "split_special_tokens": True, "return_special_tokens_mask": True}
        found = self._tokenizer(clean, **cut, **read)
        rows = zip(clean, found["input_ids"], found["special_tokens_mask"], strict=True)
        return [
            TextTokens(ids, len(ids) - sum(special), len(ids) == self.limit and self._is_cut(text))
            for text, ids, special in rows
        ]

    def _is_cut(self, *texts: str) -> bool:
        """Whether a text, or a pair of them, has more tokens than `limit`."""
        # Lists, as transformers takes an empty second text outside of a list for none.
        found = self._tokenizer(*([text] for text in texts), split_special_tokens=True, verbose=False)
        return len(found["input_ids"][0]) > self.limit

    def _in_batches(
        self, title: str, lengths_n: Sequence[int], cells: int, score: Callable[[list[int]], torch.Tensor]
    ) -> Floats:
        """[n] what `score` gives for rows; rows times longest length stay within `cells`."""
        import torch

        scores_n = np.zeros(len(lengths_n))
        with torch.inference_mode(), Progress(title, len(lengths_n)) as progress:
            for rows in batches(lengths_n, cells):
                scores_n[rows] = score(rows.tolist()).double().cpu().numpy()
                progress.advance(len(rows))
        return scores_n


def readable(text: str) -> str:
    """The text with "?" for lone surrogates, which no tokenizer takes."""
    return text.encode("utf-8", "replace").decode("utf-8")


def batches(lengths_n: Sequence[int], cells: int) -> Iterator[Ints]:
    """Rows [b], short ones first, in batches whose rows times longest length stay within `cells` (or of one row)."""
    order_n = np.argsort(lengths_n, kind="stable")
    sorted_n = np.asarray(lengths_n)[order_n]
    first = 0
    while first < len(order_n):
        widths = sorted_n[first:] * np.arange(1, len(order_n) - first + 1)
        last = first + max(1, int(np.searchsorted(widths, cells, side="right")))
        yield order_n[first:last]
        first = last


def padded(rows: Sequence[Sequence[int]], fill: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """[b, longest] int64 filled up on the right, and [b, longest] 1 where a row goes on."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    ids_b = [torch.tensor(row, dtype=torch.long) for row in rows]
    mask_bT = pad_sequence([torch.ones_like(ids) for ids in ids_b], batch_first=True)
    return pad_sequence(ids_b, True, fill).to(device), mask_bT.to(device)


# --- BARTScore (Yuan et al. 2021): how probable a model finds one text after it has read the other.
#
# A seq2seq model reads one text and is scored on the other with the special tokens its tokenizer adds, as in the
# authors' code. A causal model reads "source, JOINT, target, END", each tokenised alone, after its tokenizer's start
# token. It is scored on target and END, or the end token where the tokenizer knows no line break.

Direction = Literal["precision", "recall"]
DIRECTIONS: tuple[Direction, ...] = ("precision", "recall")

JOINT, END = "\nIn other words:\n", "\n"
SIDE_TOKENS = 1024
"""Most tokens of a source or a target, as in the authors' code."""
LOGITS = 1 << 26
"""Logits in memory at once (256 MB), unless one pair has more."""
IGNORED = -100

Rows = Sequence[list[int]]


class BartScore(NeuralMeasure):
    """Mean log-probability per target token: `bartscore_p`, `bartscore_r` and their mean `bartscore_f`.

    Precision is p(prediction | reference), recall p(reference | prediction), in nats per token, at most 0; F is their
    arithmetic mean (the paper's section 3.3). XRec and BEAT report recall under `facebook/bart-large-cnn` tuned on
    ParaBank2. `bartscore_cut` counts the pairs with a side longer than the model reads.

    Cost: one forward pass over both texts per pair and direction. With `smollm2-135m`, 5 ms of one core per token:
    3,000 pairs of 55 words take some 20 minutes on two cores in one direction.
    """

    def __init__(self, model: str, directions: Sequence[Direction] = DIRECTIONS, device: str = "cpu") -> None:
        """Load a language model: `smollm2-135m`, `gemma3-270m`, a Hub id or a folder. F needs both directions.

        A UserError for no such model, or an unknown direction or none.
        """
        wrong = sorted(set(directions) - set(DIRECTIONS))
        if wrong or not directions:
            raise UserError(f"BARTScore directions {wrong or '[]'}: choose from {', '.join(DIRECTIONS)}")
        super().__init__(load_lm(model, device=device), device)
        self._directions = directions
        self._vocabulary = int(self._model.config.get_text_config().vocab_size)
        self._causal = not self._model.config.is_encoder_decoder
        joint, end = (self._tokenizer(text, add_special_tokens=False)["input_ids"] for text in (JOINT, END))
        framed = self._tokenizer("")["input_ids"][:1]
        self._start = framed if framed == [self._tokenizer.bos_token_id] else []
        self._joint, self._end = joint, end or [self._tokenizer.eos_token_id]
        if self._causal:
            self.limit = (self.limit - len(self._start + self._joint + self._end)) // 2
        self.limit = min(self.limit, SIDE_TOKENS)
        kind = "causal" if self._causal else "seq2seq"
        self.signature = f"{self._name}|{kind}|{self.limit} tokens a side"

    def __call__(self, predictions: Sequence[str], references: Sequence[str]) -> TextScores:
        """Score the pairs."""
        ours, theirs = (self._tokens(texts, frame=not self._causal) for texts in (predictions, references))
        read = {"precision": (theirs, ours), "recall": (ours, theirs)}
        asked = [direction for direction in DIRECTIONS if direction in self._directions]
        found = {f"bartscore_{direction[0]}": self._score(*read[direction]) for direction in asked}
        if len(found) == 2:
            found["bartscore_f"] = (found["bartscore_p"] + found["bartscore_r"]) / 2
        cut = sum(p.cut or r.cut for p, r in zip(ours, theirs, strict=True))
        return TextScores(found, of_all={"bartscore_cut": float(cut)})

    def _score(self, sources: Sequence[TextTokens], targets: Sequence[TextTokens]) -> Floats:
        """[n] mean log-probabilities of the targets."""
        lengths_n = [len(s.ids) + len(t.ids) for s, t in zip(sources, targets, strict=True)]
        read = self._read_causal if self._causal else self._read_seq2seq

        def score(rows: list[int]) -> torch.Tensor:
            return read([sources[row].ids for row in rows], [targets[row].ids for row in rows])

        return self._in_batches("BARTScore", lengths_n, LOGITS // self._vocabulary, score)

    def _read_seq2seq(self, sources: Rows, targets: Rows) -> torch.Tensor:
        end = [self._model.config.eos_token_id]
        # A tokenizer without a frame gives no token at all for "".
        sources, targets = ([row or end for row in side] for side in (sources, targets))
        ids_bS, mask_bS = padded(sources, self._tokenizer.pad_token_id or 0, self._device)
        labels_bT, _ = padded(targets, IGNORED, self._device)
        logits_bTV = self._model(input_ids=ids_bS, attention_mask=mask_bS, labels=labels_bT).logits
        return _mean_log_probability(logits_bTV, labels_bT)

    def _read_causal(self, sources: Rows, targets: Rows) -> torch.Tensor:
        prefixes = [self._start + source + self._joint for source in sources]
        endings = [target + self._end for target in targets]
        first = min(map(len, prefixes))
        # Right padding: no token of a text sees the tokens after it.
        ids_bT, mask_bT = padded([p + e for p, e in zip(prefixes, endings, strict=True)], 0, self._device)
        labels = [[IGNORED] * (len(p) - first) + e for p, e in zip(prefixes, endings, strict=True)]
        labels_bT, _ = padded(labels, IGNORED, self._device)
        kept = {"use_cache": False, "logits_to_keep": ids_bT.shape[1] - first + 1}
        logits_bTV = self._model(input_ids=ids_bT, attention_mask=mask_bT, **kept).logits
        return _mean_log_probability(logits_bTV[:, :-1], labels_bT)


def _mean_log_probability(logits_bTV: torch.Tensor, labels_bT: torch.Tensor) -> torch.Tensor:
    """[b] over the labels that are not ignored."""
    from torch.nn.functional import cross_entropy

    losses_bT = cross_entropy(logits_bTV.mT.float(), labels_bT, ignore_index=IGNORED, reduction="none")
    return -losses_bT.sum(1) / (labels_bT != IGNORED).sum(1)


# --- BLEURT (Sellam et al. 2020): a model trained on people's ratings reads reference and prediction together.

BATCH_TOKENS = 4096


class Bleurt(NeuralMeasure):
    """The number that a regression checkpoint gives for "reference, prediction", as `bleurt`.

    Order and longest-first cutting are those of google-research/bleurt. Only numbers of one checkpoint compare
    (BLEURT-20 lies mostly in 0..1, `bleurt-tiny` around 0 and below), so there is no default: any transformers sequence
    classification folder with one output and safetensors. `bleurt_cut`: pairs longer than it reads. Cost: a pass each.
    """

    def __init__(self, model: str, device: str = "cpu") -> None:
        """Load the checkpoint, a Hub id or a folder; a UserError without safetensors or a head of one output."""
        super().__init__(load_regressor(model, device=device), device)
        self.signature = f"{self._name}|{self.limit} tokens"

    def __call__(self, predictions: Sequence[str], references: Sequence[str]) -> TextScores:
        """Score the pairs."""
        left, right = ([readable(text) for text in side] for side in (references, predictions))
        cut = {"truncation": "longest_first", "max_length": self.limit}
        inputs = self._tokenizer(left, right, **cut, split_special_tokens=True)

        def score(rows: list[int]) -> torch.Tensor:
            some = {key: [inputs[key][row] for row in rows] for key in inputs}
            batch = self._tokenizer.pad(some, return_tensors="pt").to(self._device)
            return cast("torch.Tensor", self._model(**batch).logits[:, 0])

        lengths_n = [len(ids) for ids in inputs["input_ids"]]
        scores_n = self._in_batches("BLEURT", lengths_n, BATCH_TOKENS, score)
        full = [row for row, length in enumerate(lengths_n) if length == self.limit]
        longer = sum(self._is_cut(left[row], right[row]) for row in full)
        return TextScores({"bleurt": scores_n}, of_all={"bleurt_cut": float(longer)})
