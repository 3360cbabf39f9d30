"""Options of the judge."""

from typing import ClassVar

from pydantic import Field

from forwhy.text.chat.budget import Ledger
from forwhy.text.chat.config import AskingConfig, Speaker

JUDGE = Speaker("judge", "FORWHY_JUDGE_URL", "FORWHY_JUDGE_KEY", schema_name="grade")


class JudgeConfig(AskingConfig):
    """Who judges (`url` or FORWHY_JUDGE_URL, key in FORWHY_JUDGE_KEY), and what it may cost."""

    speaker: ClassVar[Speaker] = JUDGE

    budget: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Most that the votes of one evaluation may cost, whenever they were bought: in the currency of the
    prices, without prices in calls. The call that could exceed it is not made."""

    max_tokens: int = Field(default=64, ge=16)
    """Most tokens of an answer. A score needs ten; a judge that thinks aloud first needs thousands."""

    def ledger(self) -> Ledger:
        """A fresh account under this budget."""
        return Ledger(self.budget, self.prices, "calls" if self.prices is None else "money")
