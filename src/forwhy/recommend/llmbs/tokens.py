"""Index tokens: what an item's codes are in a language model's vocabulary.

Shapes: V vocabulary, D model width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from forwhy.errors import UserError
from forwhy.recommend.generative.recommender import IndexTokens, level_tokens
from forwhy.text.hostile import PlainText
from forwhy.vocabulary.indices import ItemIndex

__all__ = ["Speech", "Tokens", "add_tokens", "bare_tokens", "learn_tokenizer", "read_tokens"]

BEGIN, END, CON = "<begin>", "<end>", "<con>"


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


class Speech:
    """Texts as token ids that no text can forge: strangers' as plain text, our own templates as they are."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self._plain = PlainText(tokenizer)
        self._own: dict[str, list[int]] = {}

    def own(self, template: str) -> list[int]:
        """Ids of a text of ours."""
        if template not in self._own:
            self._own[template] = self._plain.exact(template)
        return self._own[template]

    def strange(self, text: str, limit: int) -> list[int]:
        """At most `limit` ids of a text from data, with a space before it; none of a blank one."""
        return self._plain.ids(text, limit, lead=" ") if text.strip() else []


def bare_tokens(index: ItemIndex) -> Tokens:
    """Begin, end and CON, then the index tokens: the whole vocabulary of a decoder without text."""
    return _tokens(index, first=3, prompt=(0,), end=1, con=2)


def learn_tokenizer(texts: Sequence[str], size: int) -> PreTrainedTokenizerBase:
    """A byte-level BPE of at most `size` tokens, learnt from texts; deterministic."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=[BEGIN, END], initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token=BEGIN, eos_token=END)


def add_tokens(tokenizer: PreTrainedTokenizerBase, index: ItemIndex, instruction: str) -> Tokens:
    """Add CON and the index tokens (and a begin or end token where there is none) behind a tokenizer's last id.

    `instruction` follows the begin token in every history.

    Raises:
        UserError: the tokenizer knows some of the index tokens already.
    """
    missing = [(slot, name) for slot, name in (("bos", BEGIN), ("eos", END)) if _id(tokenizer, slot) is None]
    for slot, name in missing:
        tokenizer.add_special_tokens({f"{slot}_token": name})
    names = [CON, *index.tokens]
    if tokenizer.add_tokens(names) != len(names):
        raise UserError(
            f"the tokenizer has {index.tokens[0]} or another index token already; take the base model, not one with "
            "an index"
        )
    return read_tokens(tokenizer, index, instruction)


def read_tokens(tokenizer: PreTrainedTokenizerBase, index: ItemIndex, instruction: str) -> Tokens:
    """The same from a tokenizer that has them.

    Raises:
        UserError: it lacks some, or has them in another order.
    """
    ids = tokenizer.convert_tokens_to_ids(index.tokens)
    if ids != list(range(ids[0] or 0, (ids[0] or 0) + len(ids))):
        raise UserError("the tokenizer does not have the index's tokens in a row: index and model differ")
    begin, end = _id(tokenizer, "bos"), _id(tokenizer, "eos")
    assert begin is not None
    assert end is not None
    prompt = (begin, *Speech(tokenizer).own(instruction))
    return _tokens(index, first=ids[0], prompt=prompt, end=end, con=tokenizer.convert_tokens_to_ids(CON))


def extend(model: PreTrainedModel, tokens: Tokens, seed: int) -> None:
    """Give a model rows for the index tokens and CON, near the mean of the rows it has; the others stay.

    The rows are as far from the mean as others are (a tenth of that), so that none stands out before training.
    """
    old = model.get_input_embeddings().weight.shape[0]
    if tokens.size > old:
        model.resize_token_embeddings(tokens.size, mean_resizing=False)
    new = torch.tensor([tokens.con, *range(tokens.first, tokens.first + tokens.count)])
    tables = [model.get_input_embeddings().weight, model.get_output_embeddings().weight]
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for table in tables[: 1 if tables[0] is tables[1] else 2]:
            known = table[: int(new.min())].float()
            noise = torch.randn(len(new), table.shape[1], generator=generator).to(table.device)
            table[new.to(table.device)] = (known.mean(0) + 0.1 * known.std(0) * noise).to(table.dtype)


def _tokens(index: ItemIndex, first: int, prompt: tuple[int, ...], end: int, con: int) -> Tokens:
    items_NL, levels = level_tokens(index, first)
    return Tokens(items_NL, levels, prompt, con, end)


def _id(tokenizer: PreTrainedTokenizerBase, slot: str) -> int | None:
    number: int | None = getattr(tokenizer, f"{slot}_token_id")
    return number
