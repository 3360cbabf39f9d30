"""Which real word each code starts at: a keyword of its gloss that is one token of the model.

Not a mean of several: a vector between words is foreign to a frozen model (design §5: the information
survives, the NLL doubles).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from transformers import PreTrainedTokenizerBase

_TRIED = 30


def start_ids(
    keywords: Sequence[Sequence[str]], tokenizer: PreTrainedTokenizerBase, distinct: bool = True
) -> list[int]:
    """One token id per code; -1 where no keyword is a single token.

    Args:
        keywords: Per code its words, the most particular first.
        tokenizer: The language model's.
        distinct: Prefer a word that no earlier code took.
    """
    known: dict[str, int] = {}
    taken: set[int] = set()
    chosen = []
    for words in keywords:
        ids = [number for number in _single(words, tokenizer, known) if number >= 0]
        fresh = [number for number in ids if number not in taken] if distinct else ids
        chosen.append((fresh or ids or [-1])[0])
        taken.add(chosen[-1])
    return chosen


def _single(words: Iterable[str], tokenizer: PreTrainedTokenizerBase, known: dict[str, int]) -> list[int]:
    """Ids of those words that are one token as a word inside a sentence (with its leading space); else -1."""
    out = []
    for word in list(words)[:_TRIED]:
        if word not in known:
            known[word] = _token(word.strip(), tokenizer)
        out.append(known[word])
    return out


def _token(word: str, tokenizer: PreTrainedTokenizerBase) -> int:
    """The word's one token, as written or as a name (keywords are lower-case: italian, bbq); -1 for none."""
    control = set(tokenizer.all_special_ids)
    for spelled in dict.fromkeys((word, word.capitalize(), word.upper())):
        ids = tokenizer(f" {spelled}", add_special_tokens=False)["input_ids"]
        if len(ids) == 1 and ids[0] not in control:
            return int(ids[0])
    return -1
