"""GPTScore by any OpenAI-compatible judge: fixed wording, checked answers, kept votes, a budget."""

from forwhy.evaluate.judge.check import Check
from forwhy.evaluate.judge.config import JudgeConfig
from forwhy.evaluate.judge.measure import Judge

__all__ = ["Check", "Judge", "JudgeConfig"]
