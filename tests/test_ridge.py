"""Ridge regression against its own normal equations, and its penalty against leaving rows out one by one."""

import numpy as np
import pytest

from forwhy.ridge import PENALTIES, ridge


def by_hand(x: np.ndarray, y: np.ndarray, penalty: float) -> np.ndarray:
    """The slope by the normal equations of centred rows."""
    centred, wanted = x - x.mean(0), y - y.mean(0)
    return np.linalg.solve(centred.T @ centred + penalty * np.eye(x.shape[1]), centred.T @ wanted)


def test_it_is_the_penalised_solution_with_the_least_leave_one_out_error() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 6))
    y = x @ rng.normal(size=(6, 3)) + rng.normal(size=(30, 3)) + 5.0

    def left_out(penalty: float) -> float:
        """Each row told by the others; the centre and mean of all stay, as in the closed form."""
        total = 0.0
        centred, wanted = x - x.mean(0), y - y.mean(0)
        hat = centred @ np.linalg.solve(centred.T @ centred + penalty * np.eye(6), centred.T) + 1 / len(x)
        for row in range(len(x)):
            error = wanted[row] - (hat[row] - 1 / len(x)) @ wanted
            total += float(((error / (1 - hat[row, row])) ** 2).sum())
        return total

    best = min(PENALTIES, key=left_out)
    found = ridge(x, y)
    assert found.slope_DV == pytest.approx(by_hand(x, y, best))
    assert found(x.mean(0)[None])[0] == pytest.approx(y.mean(0))
