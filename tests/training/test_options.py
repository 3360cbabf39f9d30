"""Learning rates over a training."""

from __future__ import annotations

import pytest

from forwhy.training.options import LoopConfig


def test_cosine_with_warmup_has_the_hand_computed_rates() -> None:
    schedule = LoopConfig(schedule="cosine", warmup=0.2)
    rates = [schedule.rate(step, 10) for step in (0, 1, 2, 6, 10, 99)]
    assert rates == pytest.approx([0.5, 1.0, 1.0, 0.5, 0.0, 0.0])
    assert LoopConfig(warmup=0.5).rate(0, 4) == 0.5
    assert LoopConfig().rate(3, 4) == 1.0
