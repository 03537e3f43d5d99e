"""A line now and then about how far a run is."""

SAY_EVERY = 30.0  # seconds


class Progress:
    """Makes the lines; nothing is claimed before it was measured.

    Args:
        goal: positions to do.
        done: positions that were done before this start.
        now: the time, in seconds of some clock.
        audio: seconds of audio in what is to be done from now on; 0 if unknown.
    """

    def __init__(self, goal: int, done: int, now: float, audio: float = 0.0) -> None:
        self._goal = goal
        self._done_before = done
        self._audio = audio
        self._began = self._said = now

    def is_due(self, now: float) -> bool:
        """Whether the last line is old enough for another one."""
        return now - self._said >= SAY_EVERY

    def line(
        self, done: int, failed: int, now: float, heard: float = 0.0, ahead: float = 0.0
    ) -> str:
        """What to say now.

        Args:
            done: positions done, those of former starts included.
            failed: positions that failed.
            now: the time, by the same clock.
            heard: seconds of audio done since the beginning of this start.
            ahead: seconds of audio in what is neither done nor failed.
        """
        self._said = now
        took = now - self._began
        rate = (done - self._done_before) / took
        text = f"{done} of {self._goal} items done ({100 * done / self._goal:.0f} %)"
        if failed:
            text += f", {failed} failed"
        if rate > 0:
            text += f", {rate:.3g} items/s"
            left = (self._goal - done - failed) / rate
            if heard:
                # Long items come first, so that items are counted too low at the beginning.
                left = ahead * took / heard
                text += f", {duration(heard)} of {duration(self._audio)} of audio"
                text += f" at {heard / took:.3g} times real time"
            text += f", about {duration(max(0.0, left))} left"
        return text


def audio_pace(audio: float, worked: float) -> str:
    """How much audio took how long: `1 h 40 min of audio, RTF 0.12`.

    Args:
        audio: its seconds.
        worked: seconds that all workers together spent on it; the RTF is that over `audio`.
    """
    return f"{duration(audio)} of audio, RTF {worked / audio:.3g}"


def duration(seconds: float) -> str:
    """Seconds as people write them: `4.2 s`, `42 s`, `7 min`, `3 h 20 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
