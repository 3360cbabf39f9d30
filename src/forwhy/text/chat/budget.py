"""What answers cost: counted from the server's own numbers, and stopped before it exceeds the budget."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Condition
from typing import Literal

from forwhy.text.chat.base import Tally


@dataclass(frozen=True)
class Prices:
    """Of a million tokens, in any currency."""

    read: float
    written: float

    def cost(self, tally: Tally) -> float:
        """In that currency."""
        return (tally.input_tokens * self.read + tally.output_tokens * self.written) / 1e6


class Ledger:
    """What was bought, and what may be; safe from several threads.

    A call is held at an upper bound before it is made and booked at what it took afterwards. When the next
    one may not fit, it waits for those under way, and if it still does not, nothing is bought any more: what
    is answered is then the first of what was asked (up to the order of those under way), not the short ones.

    Args:
        budget: In `unit`; None: no limit.
        prices: Where they are known.
        unit: What the budget counts; `money` needs prices.
    """

    def __init__(
        self,
        budget: float | None = None,
        prices: Prices | None = None,
        unit: Literal["calls", "tokens", "money"] = "tokens",
    ) -> None:
        self._budget, self._prices, self._unit = budget, prices, unit
        self._changed = Condition()
        self._held = Tally()
        self.bought, self.cached = Tally(), Tally()
        """By this process, and before it, of the answers that count towards the budget."""
        self.closed = False
        """Whether a call did not fit any more."""

    def cost(self, tally: Tally) -> float | None:
        """In the currency of the prices; None without prices."""
        return None if self._prices is None else self._prices.cost(tally)

    def hold(self, bound: Tally) -> bool:
        """Set `bound` aside for a call, waiting for others where they decide; False: the budget is spent."""
        with self._changed:
            while not self.closed and self._held.calls and not self._fits(bound):
                self._changed.wait()
            self.closed = self.closed or not self._fits(bound)
            if not self.closed:
                self._held += bound
            self._changed.notify_all()
            return not self.closed

    def book(self, bound: Tally, used: Tally) -> None:
        """Replace what was held for a call by what it took."""
        with self._changed:
            self._held -= bound
            self.bought += used
            self._changed.notify_all()

    def _fits(self, bound: Tally) -> bool:
        if self._budget is None:
            return True
        return self._counted(self.bought + self.cached + self._held + bound) <= self._budget

    def _counted(self, tally: Tally) -> float:
        if self._unit == "money" and self._prices is not None:
            return self._prices.cost(tally)
        return tally.calls if self._unit == "calls" else tally.input_tokens + tally.output_tokens
