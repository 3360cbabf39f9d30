"""What the judge costs: counted from its server's own numbers, and stopped before it exceeds the budget."""

from dataclasses import dataclass
from threading import Condition

from forwhy.evaluate.judge.config import JudgeConfig


@dataclass(frozen=True)
class Tally:
    """Calls and their tokens."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    estimated: int = 0
    """Calls of whose tokens only an upper bound is known: answered without `usage`, or never to the end."""

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.calls + other.calls,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.estimated + other.estimated,
        )

    def __sub__(self, other: "Tally") -> "Tally":
        return self + Tally(-other.calls, -other.input_tokens, -other.output_tokens, -other.estimated)


class Ledger:
    """What was bought, and what may be; safe from several threads.

    A call is held at an upper bound before it is made and booked at what it took afterwards. When the next
    one may not fit, it waits for those under way, and if it still does not, nothing is bought any more: the
    pairs judged are then the first ones (up to the order of those under way), not the short ones.
    """

    def __init__(self, config: JudgeConfig) -> None:
        self._config, self._changed = config, Condition()
        self._held = Tally()
        self.bought, self.cached = Tally(), Tally()
        """By this process, and before it, of the votes that it uses."""
        self.closed = False
        """Whether a call did not fit any more."""

    def cost(self, tally: Tally) -> float | None:
        """In the currency of the prices; None without prices."""
        config = self._config
        if config.input_price is None or config.output_price is None:
            return None
        return (tally.input_tokens * config.input_price + tally.output_tokens * config.output_price) / 1e6

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
        total = self.bought + self.cached + self._held + bound
        cost = self.cost(total)
        return self._config.budget is None or (total.calls if cost is None else cost) <= self._config.budget
