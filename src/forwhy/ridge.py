"""Ridge regression with the penalty under which left-out rows are told best.

Shapes: n and a rows, D coordinates of x, V of y, r the rank of x.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""Tried by `ridge`, for vectors of norm 1."""


class LinearMap(NamedTuple):
    """From rows of x to rows of y: (x - centre) @ slope + mean."""

    centre_D: NDArray[np.float64]
    slope_DV: NDArray[np.float64]
    mean_V: NDArray[np.float64]

    def __call__(self, rows_aD: NDArray[np.floating]) -> NDArray[np.float64]:
        """[a, V] what is expected for rows of x."""
        return np.asarray((rows_aD - self.centre_D) @ self.slope_DV + self.mean_V)


def ridge(x_nD: NDArray[np.floating], y_nV: NDArray[np.floating]) -> LinearMap:
    """The map from x to y with the penalty of `PENALTIES` whose leave-one-out error is least.

    Both are centred. Cost: one singular value decomposition of x.
    """
    x_D, y_V = x_nD.mean(axis=0, dtype=np.float64), y_nV.mean(axis=0, dtype=np.float64)
    left_nr, size_r, right_rD = np.linalg.svd(x_nD - x_D, full_matrices=False)
    along_rV = left_nr.T @ (y_nV - y_V)

    def error(penalty: float) -> float:
        kept_r = size_r**2 / (size_r**2 + penalty)
        own_n = 1 / len(x_nD) + (left_nr**2) @ kept_r  # how much each row's expectation is its own doing
        return float((((y_nV - y_V - (left_nr * kept_r) @ along_rV) / (1 - own_n)[:, None]) ** 2).sum())

    penalty = min(PENALTIES, key=error)
    slope_DV = right_rD.T @ ((size_r / (size_r**2 + penalty))[:, None] * along_rV)
    return LinearMap(x_D, slope_DV, y_V)
