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


def test_a_ridge_map_finds_a_line_and_takes_the_penalty_that_predicts_best() -> None:
    generator = np.random.default_rng(0)
    x, wanted = generator.normal(size=(60, 5)), generator.normal(size=(5, 3))
    assert np.allclose(ridge(x, x @ wanted + 2)(x[:4]), x[:4] @ wanted + 2, atol=0.02)
    noisy = x @ wanted + generator.normal(size=(60, 3)) * 5

    def error(penalty: float) -> float:
        """Each row expected from all others, one fit for each."""
        total = 0.0
        for out in range(len(x)):
            kept = np.arange(len(x)) != out
            centre, level = x[kept].mean(axis=0), noisy[kept].mean(axis=0)
            inside = x[kept] - centre
            learnt = np.linalg.solve(
                inside.T @ inside + penalty * np.eye(5), inside.T @ (noisy[kept] - level)
            )
            total += ((noisy[out] - level - (x[out] - centre) @ learnt) ** 2).sum()
        return total

    best = min(PENALTIES, key=error)
    centre, level = x.mean(axis=0), noisy.mean(axis=0)
    learnt = np.linalg.solve(
        (x - centre).T @ (x - centre) + best * np.eye(5), (x - centre).T @ (noisy - level)
    )
    assert np.allclose(ridge(x, noisy)(x), (x - centre) @ learnt + level)
