"""What LLM-BS reads and writes beside codes: tokens that no text can forge, preferences in words, the text tasks.

Shapes: B rows, T tokens, V vocabulary, D model width, N items.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from forwhy.data.dataset import Dataset
from forwhy.data.histories import Histories
from forwhy.errors import UserError
from forwhy.recommend.base import Ints
from forwhy.recommend.llmbs.network import Tokens
from forwhy.recommend.options import TaskConfig
from forwhy.text.hostile import PlainText
from forwhy.vocabulary.index import ItemIndex

WORD = re.compile(r"[^\W\d_]{3,}")
COMMON = 0.2
"""Words in a greater share of the items say nothing about one."""
CHUNK = 64
"""Rows of like length that are read together."""
PLAIN_TOKENS = 64
"""Of a text that a model writes of itself."""
BEGIN, END, CON = "<begin>", "<end>", "<con>"
ONE_BY_ONE = {"item_to_index", "index_to_item", "plain"}
"""Subtasks whose examples are of one item or text, not of a draw from a history."""
Written = tuple[list[int], list[int]]
"""Prompt and response."""


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
    """Add CON and the index tokens (and begin or end where there is none) behind a tokenizer's last id.

    `instruction` follows the begin token in every history. Refuses a tokenizer that knows some of them already.
    """
    for slot, name in (("bos_token", BEGIN), ("eos_token", END)):
        if getattr(tokenizer, f"{slot}_id") is None:
            tokenizer.add_special_tokens({slot: name})
    names = [CON, *index.tokens]
    if held := sorted(tokenizer.get_vocab().keys() & set(names)):
        raise UserError(f"the tokenizer has {held[0]} already; take the base model, not one with an index")
    tokenizer.add_tokens(names)
    return read_tokens(tokenizer, index, instruction)


def read_tokens(tokenizer: PreTrainedTokenizerBase, index: ItemIndex, instruction: str) -> Tokens:
    """The index's tokens from a tokenizer that has them, in their order, else a UserError."""
    ids = tokenizer.convert_tokens_to_ids(index.tokens)
    if ids != list(range(ids[0] or 0, (ids[0] or 0) + len(ids))):
        raise UserError("the tokenizer does not have the index's tokens in a row: index and model differ")
    prompt = (tokenizer.bos_token_id, *PlainText(tokenizer).exact(instruction))
    con = tokenizer.convert_tokens_to_ids(CON)
    return Tokens.of(index, first=ids[0], prompt=prompt, end=tokenizer.eos_token_id, con=con)


def widen(model: PreTrainedModel, tokens: Tokens, seed: int) -> None:
    """Give a model rows for the index tokens and CON, near the mean of the rows it has; the others stay."""
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


@torch.no_grad()
def of_itself(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, count: int) -> list[list[int]]:
    """`count` texts of `PLAIN_TOKENS` tokens that a model writes behind its begin token, each drawn as it predicts it.

    Their mean loss is least, over all texts of that length, for the model that wrote them: so they hold its language
    where no text of its own training is at hand. From torch's generator.
    """
    found: list[list[int]] = []
    begin = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    length = {"max_new_tokens": PLAIN_TOKENS, "min_new_tokens": PLAIN_TOKENS}
    drawn = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0}
    while len(found) < count:
        begins_B1 = torch.full((min(CHUNK, count - len(found)), 1), begin, device=model.device)
        given = {"attention_mask": torch.ones_like(begins_B1), "pad_token_id": tokenizer.eos_token_id}
        found += model.generate(begins_B1, **given, **length, **drawn)[:, 1:].tolist()
    return found


class PreferenceWords:
    """Preferences of histories and wishes for items; equal input, equal words."""

    def __init__(self, dataset: Dataset, config: TaskConfig) -> None:
        """One pass over titles and categories, O(characters)."""
        self.config = config
        words_N = [list(dict.fromkeys(WORD.findall(text.lower()))) for text in _texts(dataset)]
        self._items_with = Counter(word for words in words_N for word in words)
        most = max(2.0, COMMON * sum(map(bool, words_N)))
        self._words_N = [[word for word in words if self._items_with[word] <= most] for words in words_N]

    def of_history(self, items: Sequence[int]) -> str:
        """What internal items say of who took them: their most frequent words, the rarer of equals first."""
        counts = Counter(word for item in items for word in self._words_N[item])
        order = sorted(counts, key=lambda word: (-counts[word], self._items_with[word], word))
        return ", ".join(order[: self.config.preference_words])

    def of_item(self, item: int) -> str:
        """What one would ask for to get an item: its rarest words that other items share, or else its own."""
        shared = [word for word in self._words_N[item] if self._items_with[word] > 1]
        order = sorted(shared or self._words_N[item], key=lambda word: (self._items_with[word], word))
        return ", ".join(order[: self.config.preference_words])


def _texts(dataset: Dataset) -> list[str]:
    texts = dataset.titles()
    frame = dataset.tables.get("items")
    if frame is None or "categories" not in frame.columns:
        return texts
    for number, value in zip(dataset.items.numbers(frame["item_id"]), frame["categories"], strict=True):
        texts[number] += f" {value}"
    return texts


# --- The comprehensive interaction tasks (LLM-BS section 3.3.2) beside the sequential one, as prompts and responses.
#
# Templates are our own, short enough for small models. Only responses carry loss. Text from data is tokenised as plain
# text, so no title can write a code or end a response.


@dataclass(frozen=True)
class Example:
    """One prompt and its response, as token ids."""

    task: str
    prompt: list[int]
    response: list[int]


class TextTasks:
    """Draws the text examples of an epoch; nothing but seed and epoch decides them."""

    def __init__(
        self,
        dataset: Dataset,
        train: Histories,
        tokens: Tokens,
        tokenizer: PreTrainedTokenizerBase,
        config: TaskConfig,
        window: int,
        seed: int,
        own: Sequence[list[int]] = (),
    ) -> None:
        """`own`: what the model wrote before training (`of_itself`), to be learned too."""
        self.own = own
        self.train, self.tokens, self.plain = train, tokens, PlainText(tokenizer)
        self.config, self.window, self.seed = config, window, seed
        self._template = cache(self.plain.exact)
        self.titles, self.texts = dataset.titles(), dataset.item_texts()
        self.words = PreferenceWords(dataset, config)
        self._title: Callable[[int], list[int]] = cache(lambda item: self._strange(self.titles[item]))
        titled = np.flatnonzero([bool(title.strip()) for title in self.titles])
        spoken = np.flatnonzero([bool(text.strip()) for text in self.texts])
        users = np.flatnonzero(train.lengths >= 2)
        # How many examples an epoch has, from whom, and how one is written: of an item, or of what `_draw` gives.
        self._subtasks: dict[str, tuple[float, Ints, Callable[..., Written | None]]] = {
            "item_to_index": (config.item_to_index, spoken, self._item_to_index),
            "index_to_item": (config.index_to_item, titled, self._index_to_item),
            "history_to_title": (config.fused, users, self._history_to_title),
            "titles_to_index": (config.fused, users, self._titles_to_index),
            "history_to_preference": (config.preference, users, self._history_to_preference),
            "preference_to_index": (config.preference, users, self._preference_to_index),
            "plain": (1.0, np.arange(len(own)), self._plain),
        }

    def epoch(self, epoch: int) -> list[tuple[str, int, int]]:
        """(subtask, entity, number of the draw) of an epoch, in random order."""
        rng = np.random.default_rng((self.seed, epoch, 1))
        drawn = [
            (name, int(entity))
            for name, (weight, entities, _) in self._subtasks.items()
            for entity in _drawn(entities, weight, rng)
        ]
        return [(*drawn[place], number) for number, place in enumerate(rng.permutation(len(drawn)).tolist())]

    def examples(self, drawn: Sequence[tuple[str, int, int]], epoch: int) -> Iterator[Example]:
        """What was drawn, written out; draws that no text answers are left out."""
        for name, entity, number in drawn:
            rng = np.random.default_rng((self.seed, epoch, 2, number))
            _, _, write = self._subtasks[name]
            written = write(entity) if name in ONE_BY_ONE else write(*self._draw(entity, rng))
            if written is not None:
                yield Example(name, *written)

    # --- the subtasks

    def _item_to_index(self, item: int) -> Written:
        return self._joined("Item:", self._strange(self.texts[item]), "\nCode:"), self._codes(item)

    def _index_to_item(self, item: int) -> Written:
        return self._joined("Code: ", self._codes(item), "\nItem:"), self._ended(self._title(item))

    def _history_to_title(self, history: list[int], target: int) -> Written | None:
        title = self._title(target)
        return (self._after(history, "\nTitle of the next:"), self._ended(title)) if title else None

    def _titles_to_index(self, history: list[int], target: int) -> Written | None:
        titles = [title for item in history if (title := self._title(item))][-self.config.titles :]
        listed = [part for title in titles for part in (title, ";")]
        prompt = self._joined("Taken, by title:", *listed, "\nNext code:")
        return (prompt, self._codes(target)) if titles else None

    def _history_to_preference(self, history: list[int], _: int) -> Written | None:
        likes = self._strange(self.words.of_history(history))
        return (self._after(history, "\nWhat they like:"), self._ended(likes)) if likes else None

    def _preference_to_index(self, history: list[int], target: int) -> Written | None:
        wish = self._strange(self.words.of_item(target))
        prompt = self._after(history, "\nWished for:", wish, "\nNext code:")
        return (prompt, self._codes(target)) if wish else None

    def _plain(self, text: int) -> Written:
        return self._joined(), self.own[text]

    # --- what they are written with

    def _draw(self, user: int, rng: np.random.Generator) -> tuple[list[int], int]:
        """A training item that has one before it, and the window before it."""
        row = self.train[user]
        place = int(rng.integers(1, len(row)))
        return row[max(0, place - self.window) : place].tolist(), int(row[place])

    def _strange(self, text: str) -> list[int]:
        """A text from data, with a space before it; nothing of a blank one."""
        return self.plain.ids(text, self.config.text_limit, lead=" ") if text.strip() else []

    def _codes(self, item: int) -> list[int]:
        codes: list[int] = self.tokens.items_NL[item].tolist()
        return codes

    def _joined(self, *parts: str | list[int], begin: Sequence[int] = ()) -> list[int]:
        """`begin` or else the begin token, then templates of ours (text) and tokens."""
        ids = list(begin or self.tokens.prompt[:1])
        for part in parts:
            ids += self._template(part) if isinstance(part, str) else part
        return ids

    def _after(self, history: list[int], *parts: str | list[int]) -> list[int]:
        return self._joined(*parts, begin=self.tokens.history(history))

    def _ended(self, text: list[int]) -> list[int]:
        return [*text, self.tokens.end]


def text_rows(examples: Sequence[Example]) -> Iterator[tuple[Tensor, Tensor]]:
    """Blocks of examples of like length, padded behind: ids [B, T], and True at a response's tokens [B, T]."""
    order = sorted(examples, key=lambda example: len(example.prompt) + len(example.response))
    for start in range(0, len(order), CHUNK):
        block = order[start : start + CHUNK]
        rows = [torch.tensor([*example.prompt, *example.response]) for example in block]
        answers = [torch.arange(len(row)) >= len(one.prompt) for row, one in zip(rows, block, strict=True)]
        yield pad_sequence(rows, batch_first=True), pad_sequence(answers, batch_first=True)


def _drawn(entities: Ints, weight: float, rng: np.random.Generator) -> Ints:
    """All entities as often as the whole part of the weight says, and a random share of them for the rest."""
    whole = int(weight)
    rest = round((weight - whole) * len(entities))
    return np.concatenate([np.tile(entities, whole), rng.permutation(entities)[:rest]])
