"""GPTScore by any OpenAI-compatible judge: fixed wording, checked answers, kept votes, a budget."""

from forwhy.evaluate.judge.judge import Check, Judge, JudgeConfig

__all__ = ["Check", "Judge", "JudgeConfig"]
