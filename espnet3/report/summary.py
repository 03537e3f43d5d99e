"""What a run's reader wants to know at once, in sentences."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from espnet3.parallel.engine.progress import audio_pace, duration
from espnet3.parallel.engine.report import KILLED
from espnet3.parallel.wording import first_line
from espnet3.report import timeline as tl
from espnet3.report.record import RunRecord
from espnet3.report.unit_times import FAR, UnitTimes

KINDS_NAMED = 4
ENDED = {
    "failed": "No, it has failed",
    "stopped": "No, it was stopped",
    "dead": "No, its driver is gone",
    "damaged": "Nobody knows, as its files are damaged",
}
MUCH = 0.2  # a share of the workers' time that is worth a word
LONG = 60.0  # seconds; nobody tunes a run that is shorter


@dataclass(frozen=True)
class Summary:
    """Answers, each a sentence or several.

    Attributes:
        verdict: one of `good`, `bad`, `open`, for the colour of the page's head.
        done: is it done?
        failed: what failed and why?
        took: how long did it take?
        busy: how busy were the workers?
        to_do: what to do, most urgent first.
    """

    verdict: str
    done: str
    failed: str
    took: str
    busy: str
    to_do: tuple[str, ...]


def summarise(run: RunRecord, timeline: tl.Timeline, times: UnitTimes | None) -> Summary:
    """Answer the questions from what is known."""
    return Summary(
        _verdict(run),
        _is_it_done(run),
        _what_failed(run),
        _how_long(run, timeline),
        _how_busy(run, timeline),
        tuple(_what_to_do(run, timeline, times)),
    )


def kinds_of(failed: Sequence[Mapping[str, Any]]) -> str:
    """How many failed with which error: `2 OSError, 1 ValueError`."""
    kinds = Counter(str(entry.get("error")) for entry in failed)
    named = [f"{n} {kind}" for kind, n in kinds.most_common(KINDS_NAMED)]
    others = kinds.total() - sum(n for _, n in kinds.most_common(KINDS_NAMED))
    return ", ".join([*named, *([f"{others} of other kinds"] if others else [])])


def _verdict(run: RunRecord) -> str:
    if run.state == "done":
        return "good" if not run.failed else "bad"
    return "bad" if run.failed or run.state in ENDED else "open"


def _is_it_done(run: RunRecord) -> str:
    if run.state == "damaged":
        return f"{ENDED[run.state]}: {run.why}"
    count = f"{run.done} of {run.positions} items are done"
    n = len(run.failed)
    split = f" {_items(run.split)} not done in the planned unit." if run.split else ""
    if run.state == "done" and not n:
        return f"Yes: {_all(run.positions)} done and merged.{split}"
    if run.state == "done":
        return f"Yes, but without {_items(n)} that failed: {count}, and merged.{split}"
    failed = f", {n} failed" if n else ""
    why = f" {run.why[0].upper()}{run.why[1:].rstrip('.')}." if run.why else ""
    how = ENDED.get(run.state, f"Not yet, it is {run.state}")
    return f"{how}: {count}{failed}.{why}{split}"


def _what_failed(run: RunRecord) -> str:
    sentences = []
    if run.failed:
        entry = run.failed[0]
        message = first_line(str(entry.get("message", ""))).rstrip(".")
        sentences.append(
            f"{_items(len(run.failed))} ({kinds_of(run.failed)}). The first is "
            f"{entry.get('utterance')}: {entry.get('error')}: {message}."
        )
    overcome = len(run.attempts) - len(run.failed)
    if overcome > 0:
        n = f"{overcome} attempt{'s' if overcome > 1 else ''}"
        sentences.append(f"{n} more failed, and went well or were split later.")
    died = Counter(worker.lost for worker in run.workers if worker.lost)
    if died:
        named = died.most_common(KINDS_NAMED)
        how = ", ".join(f"{n} {how}" if len(named) > 1 else how for how, n in named)
        sentences.append(f"{died.total()} worker{'s' if died.total() > 1 else ''} died: {how}.")
    return " ".join(sentences) or "Nothing."


def _how_long(run: RunRecord, timeline: tl.Timeline) -> str:
    if not run.starts:
        return "Not known."
    total = timeline.time.total
    first = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run.starts[0].began))
    text = f"{duration(total)}, begun {first}"
    if len(run.starts) > 1:
        pauses = sum(timeline.time.pauses)
        text = f"{duration(total)} in {len(run.starts)} starts, the first at {first}"
        text += f"; {duration(pauses)} of pauses between them are not counted"
    came = [worker.up for worker in run.workers if worker.epoch == run.starts[0].epoch]
    waited = min(came) - run.starts[0].began if came else 0.0
    if waited > max(1.0, MUCH * total):
        text += f". The first worker came after {duration(waited)}"
    audio = float(np.nansum(run.units.audio))
    if audio > 0:
        known = ~np.isnan(run.units.audio)
        text += f". {audio_pace(audio, float(run.units.seconds[known].sum()))}"
        if total > 0:
            text += f"; all workers together {_times(audio / total)} real time"
    return f"{text}."


def _how_busy(run: RunRecord, timeline: tl.Timeline) -> str:
    busy = timeline.busy
    if busy is None:
        return "Not known."
    seconds = timeline.seconds
    total = sum(seconds.values())
    parts = [
        f"{_percent(seconds[kind] / total)} {name}"
        for kind, name in (
            (tl.BUILD, "building envs"),
            (tl.IDLE, "idle"),
            (tl.WASTED, "lost"),
            (tl.REPEATED, "of the work repeated what was lost"),
        )
        if seconds[kind] > 0
    ]
    n = len(run.workers)
    rest = f"; {', '.join(parts)}" if parts else ""
    workers = f"{n} worker{'s' if n > 1 else ''}"
    if len(run.starts) > 1:
        workers += f" in {len(run.starts)} starts"
    return f"{workers}: {_percent(busy)} of their time was work{rest}."


def _what_to_do(run: RunRecord, timeline: tl.Timeline, times: UnitTimes | None) -> list[str]:
    advice = []
    if run.state == "done" and not run.failed:
        advice.append("Nothing: the results are there.")
    elif run.failed:
        advice += _about_failures(run)
    elif run.state == "damaged":
        advice.append("See above.")
    elif run.state in ENDED:
        advice.append("Run the same command again: it does only what is left.")
    else:
        advice.append("Wait. A report made later tells more.")
    if run.memory:
        advice.append(f"Set smaller batches: {run.memory}.")
    return advice + _about_speed(timeline, times)


def _about_failures(run: RunRecord) -> list[str]:
    n_killed = sum(entry.get("error") == KILLED for entry in run.failed)
    advice = []
    if n_killed < len(run.failed):
        advice.append(
            "Mend the cause and run the same command again: it retries just what failed. With "
            "on_error: skip it publishes without them."
        )
    if n_killed:
        advice.append(
            f"{_items(n_killed)} killed the workers, and will not be tried again before max_kills "
            "is raised: look at the workers' logs, and at the memory."
        )
    return advice


def _about_speed(timeline: tl.Timeline, times: UnitTimes | None) -> list[str]:
    advice = []
    seconds = timeline.seconds
    total = sum(seconds.values())
    if timeline.time.total >= LONG and total > 0:
        if seconds[tl.BUILD] > MUCH * total:
            advice.append(
                f"{_percent(seconds[tl.BUILD] / total)} of the workers' time went into building "
                "the env: fewer workers would have done nearly as well."
            )
        if seconds[tl.IDLE] > MUCH * total:
            advice.append(
                f"The workers were idle for {_percent(seconds[tl.IDLE] / total)} of their time: "
                "see in the timeline whether they waited for the last few items (then fewer "
                "workers do) or between leases (then look at the driver's host and disk)."
            )
    if times is not None and times.n_outliers:
        advice.append(
            f"{_units(times.n_outliers)} took {FAR:g} times as long as others of their length, or "
            "more: look at those named below."
        )
    return advice


def _times(factor: float) -> str:
    return f"{factor:.3g} times" if factor < 1000 else f"{factor:,.0f} times"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.01 else "under 1 %"


def _items(n: int) -> str:
    return f"{n} item{'s' if n != 1 else ''}"


def _units(n: int) -> str:
    return f"{n} unit{'s' if n != 1 else ''}"


def _all(n: int) -> str:
    return "the one item is" if n == 1 else f"all {n} items are"
