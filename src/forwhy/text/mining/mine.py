"""Mining from end to end: a data set in, the same with mined tables and their provenance out."""

from dataclasses import dataclass
from typing import Any

from forwhy.data.dataset import Dataset
from forwhy.errors import UserError
from forwhy.text.mining.config import MiningConfig
from forwhy.text.mining.output import with_mined
from forwhy.text.mining.stage import Miner, StageReport, report, stage_of

__all__ = ["Mining", "mine"]


@dataclass(frozen=True)
class Mining:
    """What mining came to."""

    dataset: Dataset
    """With the rows that were mined; a row about the same entity or pair was replaced, others were kept."""
    model: str
    stages: tuple[StageReport, ...]

    def document(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "model": self.model,
            "stages": [stage.document() for stage in self.stages],
            "fingerprint": self.dataset.fingerprint,
        }


def mine(dataset: Dataset, config: MiningConfig, miner: Miner) -> Mining:
    """Mine one kind of text for the configured sides, items first.

    Nothing about a pair that is held out is read, except that an explanation is written from its pair's own
    review (`subjects`). What cannot be mined is counted and left as it was. Cost: one question per subject,
    or for an extractive miner O(words).

    Raises:
        UserError: nothing to read, nothing mined at all, a prompt file that is none, or what the miner raises.
    """
    for side in config.sides:
        miner.check(config, side)
    reports = []
    for side in config.sides:
        stage = stage_of(dataset, side, config)
        found, prompt = miner.find(stage), miner.check(config, side)
        reports.append(report(stage, found, prompt))
        dataset = with_mined(stage, found.outcomes, miner.model, reports[-1])
    _refuse_nothing(dataset, reports)
    return Mining(dataset, miner.model, tuple(reports))


def _refuse_nothing(dataset: Dataset, reports: list[StageReport]) -> None:
    if any(stage.mined for stage in reports):
        return
    reasons = [f"{count} {reason}" for stage in reports for reason, count in stage.failed.items()]
    why = f"all failed: {', '.join(reasons)}" if reasons else "no text that may be read"
    raise UserError(f"data set '{dataset.name}': nothing was mined ({why}); the data set is as it was")
