"""How far a training has come, in words."""

import time


class Pace:
    """Tells of a training that has just begun, or goes on, how fast it is.

    Args:
        most: records that it makes at most.
        time_of_step: what a step adds to its time.
        time_unit: `flow` or `steps`.
    """

    def __init__(self, most: int, time_of_step: float, time_unit: str):
        self._most, self._time_of_step, self._flows = most, time_of_step, time_unit == "flow"
        self._first: tuple[int, float] | None = None

    def __call__(self, done: int, loss: float) -> str:
        """Steps done, time, loss, rate and time left.

        Args:
            done: records made so far.
            loss: of the last of them.
        """
        now = time.monotonic()
        words = f"step {done - 1} of at most {self._most - 1}"
        words += f", flow time {(done - 1) * self._time_of_step:.4g}" if self._flows else ""
        words += f", loss {loss:.4g}"
        if self._first is None:
            # what came before it was compiling
            self._first = done, now
            return words
        first, begun = self._first
        rate = (done - first) / max(now - begun, 1e-9)
        if rate <= 0:
            return words
        return f"{words}, {rate:.3g} steps/s, at most {duration((self._most - done) / rate)} left"


def duration(seconds: float) -> str:
    """A time in words of one unit.

    Example:
        >>> duration(0.2), duration(75.0), duration(600.0), duration(3600.0 * 5)
        ('1 s', '75 s', '10 min', '5.0 h')
    """
    if seconds < 100:
        return f"{max(round(seconds), 1)} s" if seconds > 0 else "0 s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
