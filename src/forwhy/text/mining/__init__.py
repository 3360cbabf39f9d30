"""Intents, profiles and explanations out of raw reviews: by asking a language model, or extractively."""

from forwhy.text.mining.extractive import ExtractiveMiner
from forwhy.text.mining.language import LanguageMiner
from forwhy.text.mining.mine import Mining, StageReport, mine
from forwhy.text.mining.subjects import Kind, MiningConfig

__all__ = ["ExtractiveMiner", "Kind", "LanguageMiner", "Mining", "MiningConfig", "StageReport", "mine"]
