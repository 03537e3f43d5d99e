"""How far a run is, in a line that is true: nothing is claimed before it was measured."""

from dataclasses import dataclass

SAY_EVERY = 30.0  # seconds between two lines where they are logged


@dataclass(frozen=True)
class Standing:
    """How far a run is at one moment.

    Attributes:
        goal: positions to do.
        done: positions that are done, those of former starts included.
        failed: positions that failed.
        at: the moment, in seconds of the run's clock.
        took: seconds since the first lease.
        new: positions that were done since then.
        audio: seconds of audio to do since then; 0 if unknown.
        heard: seconds of audio done since then.
        worked: seconds in `forward` for that.
        left: seconds until all is done; None before that can be told.
        workers: that are there; None where the driver does the work itself.
        wanted: workers that there are to be.
        lost: workers that died.
    """

    goal: int
    done: int
    failed: int
    at: float
    took: float
    new: int
    audio: float = 0.0
    heard: float = 0.0
    worked: float = 0.0
    left: float | None = None
    workers: int | None = None
    wanted: int = 0
    lost: int = 0


def line(s: Standing, now: float, in_hand: int = 0) -> str:
    """What to say of a standing.

    Args:
        s: the standing.
        now: the time, by the run's clock.
        in_hand: positions that are done since, and not committed yet.
    """
    done = min(s.goal, s.done + in_hand)
    parts = [f"{done} of {s.goal} items done ({100 * done / max(1, s.goal):.0f} %)"]
    if s.failed:
        parts.append(f"{s.failed} failed")
    took = max(s.took, 1e-9)
    if s.new:
        parts.append(f"{s.new / took:.3g} items/s")
    if s.audio:
        parts.append(f"{duration(s.heard)} of {duration(s.audio)} of audio")
        if s.heard:
            parts[-1] += f" at {s.heard / took:.3g} times real time (RTF {s.worked / s.heard:.3g})"
    if s.done + s.failed < s.goal:
        if s.left is None:
            parts.append("time left: measuring")
        else:
            parts.append(f"about {duration(max(0.0, s.left - (now - s.at)))} left")
    if s.workers is not None:
        parts.append(workers(s.workers, s.wanted, s.lost))
    return ", ".join(parts)


def workers(there: int, wanted: int, lost: int) -> str:
    """How many workers there are, of how many, and how many died: `3 of 4 workers (1 lost)`."""
    many = max(there, wanted) != 1
    text = f"{there} of {wanted} worker" if there < wanted else f"{there} worker"
    return f"{text}{'s' * many}" + (f" ({lost} lost)" if lost else "")


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
