"""Constrained decoding: a language model's codes become items that exist. Needs torch and transformers."""

from forwhy.recommend.decoding.beams import BeamDecoder, Beams
from forwhy.recommend.decoding.head import Normalise
from forwhy.recommend.decoding.trie import CodeTrie

__all__ = ["BeamDecoder", "Beams", "CodeTrie", "Normalise"]
