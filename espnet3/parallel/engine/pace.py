"""How fast a run goes, measured on whole leases, and how long the rest will take.

What a lease costs is the time from its dealing to its report: reading, writing and committing
included. Leases in hand are no bias: neither their items nor their time count before they are back,
but for the time that they have been out, which need not be waited for again.
"""

ENOUGH = 10.0  # seconds of finished leases before which nothing is claimed


class Pace:
    """Counts leases; times are seconds of one clock."""

    def __init__(self) -> None:
        self.done = 0
        self.audio = 0.0
        """Seconds of audio in what is done."""
        self._spent = 0.0
        self._out: dict[int, float] = {}

    @property
    def n_out(self) -> int:
        """Leases in hand, which is to say busy workers."""
        return len(self._out)

    def dealt(self, lease: int, now: float) -> None:
        """A worker has it from now on."""
        self._out[lease] = now

    def back(self, lease: int, now: float, done: int, audio: float) -> None:
        """A lease came back.

        Args:
            lease: its number.
            now: the time.
            done: positions of it that are done.
            audio: seconds of audio in them; 0 if unknown.
        """
        self._spent += max(0.0, now - self._out.pop(lease, now))
        self.done += done
        self.audio += audio

    def left(self, items: int, audio: float, now: float, workers: int) -> float | None:
        """Seconds until all is done; None before that can be told.

        Args:
            items: positions that are neither done nor failed, those in hand included.
            audio: seconds of audio in them; 0 if unknown.
            now: the time.
            workers: that will do it.
        """
        if not items:
            return 0.0
        if self._spent < ENOUGH or not self.done:
            return None
        # Long items come first, so that items alone would count too low at the beginning.
        share = audio / self.audio if audio and self.audio else items / self.done
        spent_on_the_rest = sum(now - began for began in self._out.values())
        work = max(0.0, self._spent * share - spent_on_the_rest)
        return work / max(1, workers)
