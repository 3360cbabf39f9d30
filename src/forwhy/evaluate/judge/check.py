"""Does the judge tell right from wrong? Known answers, graded before anything else is believed."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forwhy.evaluate.significance import Interval, bootstrap_interval, flatten


@dataclass(frozen=True)
class Check:
    """Grades of references beside those of the same references dealt to other pairs."""

    identical: Interval
    """Of each reference against itself, near 100."""
    dealt: Interval
    """Of another pair's reference, low; not 0 where all explanations are alike."""
    difference: Interval
    """Paired, by reference: a judge that tells nothing apart is near 0."""
    auc: float
    """Chance that an identical text is graded above a dealt one, a tie counting half; 0.5: tells nothing."""
    pairs: int
    """References with both grades."""
    excluded: int
    """References without one of them."""

    def document(self) -> dict[str, Any]:
        """As plain JSON values."""
        found = {"identical": self.identical, "dealt": self.dealt, "difference": self.difference}
        return {**flatten(found), "auc": self.auc, "pairs": self.pairs, "excluded": self.excluded}


def checked(same: NDArray[np.int64], other: NDArray[np.int64]) -> Check:
    """From the counts [n, 2] of both rounds, row by row the same reference.

    Raises:
        ValueError: no reference has both grades.
    """
    both = (same[:, 1] > 0) & (other[:, 1] > 0)
    right, wrong = same[both, 0].astype(np.float64), other[both, 0].astype(np.float64)
    return Check(
        bootstrap_interval(right),
        bootstrap_interval(wrong),
        bootstrap_interval(right - wrong),
        float((np.sign(right[:, None] - wrong) + 1).mean() / 2),
        int(both.sum()),
        int((~both).sum()),
    )
