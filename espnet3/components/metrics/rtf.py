"""Real-time factor."""

from __future__ import annotations


def real_time_factor(forward_seconds: float | None, audio_seconds: float | None) -> float | None:
    """Return seconds spent in ``forward`` per second of audio; `None` where either is unknown.

    The seconds of all workers are added up, so the factor does not say how long the run took.
    Building the model and writing files are not in it; reading audio is, and so is waiting for a
    processor that others use.
    """
    if forward_seconds is None or not audio_seconds:
        return None
    return round(forward_seconds / audio_seconds, 4)
