"""A line now and then about how far a run is."""

SAY_EVERY = 30.0  # seconds


class Progress:
    """Makes the lines; nothing is claimed before it was measured.

    Args:
        goal: positions to do.
        done: positions that were done before this start.
        now: the time, in seconds of some clock.
    """

    def __init__(self, goal: int, done: int, now: float) -> None:
        self._goal = goal
        self._done_before = done
        self._began = self._said = now

    def is_due(self, now: float) -> bool:
        """Whether the last line is old enough for another one."""
        return now - self._said >= SAY_EVERY

    def line(self, done: int, failed: int, now: float) -> str:
        """What to say now.

        Args:
            done: positions done, those of former starts included.
            failed: positions that failed.
            now: the time, by the same clock.
        """
        self._said = now
        rate = (done - self._done_before) / (now - self._began)
        text = f"{done} of {self._goal} items done ({100 * done / self._goal:.0f} %)"
        if failed:
            text += f", {failed} failed"
        if rate > 0:
            left = (self._goal - done - failed) / rate
            text += f", {rate:.3g} items/s, about {duration(left)} left"
        return text


def duration(seconds: float) -> str:
    """Seconds as people write them: `4.2 s`, `42 s`, `7 min`, `3 h 20 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
