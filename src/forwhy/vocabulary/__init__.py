"""The behaviour vocabulary: quantizer, tokenizer (BEAT stage 1), and the words themselves.

:class:`Vocabulary` and :class:`TokenizerConfig` import no torch; the tokenizer that learns one does.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from forwhy.vocabulary.config import TokenizerConfig
from forwhy.vocabulary.vocabulary import BOOKS, Vocabulary

if TYPE_CHECKING:
    from forwhy.vocabulary.tokenizer import BehaviorTokenizer

__all__ = ["BOOKS", "BehaviorTokenizer", "TokenizerConfig", "Vocabulary"]


def __getattr__(name: str) -> object:
    if name == "BehaviorTokenizer":
        return import_module("forwhy.vocabulary.tokenizer").BehaviorTokenizer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
