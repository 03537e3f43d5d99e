"""A random life of one run in real processes, from a seed: stormy starts, then calm ones."""

import random
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import Any

import promises
import storm
import vandal
from fragile import deaths, forwards, tell
from place import Broken, Place
from rivals import meet_rival
from start import Start
from truth import CELL, ERRORS, Truth

from espnet3.parallel.engine.coverage import Coverage
from espnet3.parallel.engine.ledger import find_epochs

UNIT_TIMEOUT = 2.0
COMMAND = "python tests/faults/run.py"


class Life:
    """One run, from its first start until it is complete.

    Args:
        root: a new directory for everything.
        seed: all draws come from it; when exactly a signal arrives is up to the machine.
        echo: tell what happens while it happens.
    """

    def __init__(self, root: Path, seed: int, *, echo: bool = False) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.truth = Truth.draw(self.rng)
        self.place = Place(root, echo=echo)
        self.max_kills = self.rng.choice([2, 2, 3])
        self.repeats = promises.Repeats()
        self.starts: list[Start] = []
        self.paces: dict[int, float] = {}

    def play(self) -> None:
        """Live through it.

        Raises:
            Broken: if the product broke one of its promises; with the trace in its notes.
        """
        try:
            self._live()
        except BaseException as error:
            error.add_note("\n".join([*self.place.trace, f"repeat it: {COMMAND} {self.seed}"]))
            for start in self.starts:
                start.kill_all()
            self.place.keep()
            raise

    def _live(self) -> None:
        rng, place = self.rng, self.place
        place.say(f"seed {self.seed}: {self.truth}")
        if rng.random() < 0.15 and not place.mount():
            place.say("mounting a small disk is not permitted here; the disk never fills")
        self.truth.tell(place.log)
        for _ in range(rng.randint(1, 4)):
            self._stormy_start()
            if rng.random() < 0.4:
                self._vandalise()
        self._finish_all_but_bad_ones()
        self._publish_without_bad_ones()
        self._mend()
        self._measure()

    def new_start(self, **more: Any) -> Start:
        """Begin the next start."""
        run = {"max_kills": self.max_kills, **more.pop("run", {})}
        if self.truth.hangs:
            run["unit_timeout"] = UNIT_TIMEOUT
        if self.truth.by_length:  # no start begins a run by count, or one whose windows end early
            more["batch_size"] = more.get("batch_size") or CELL
            run["limit"] = None
        start = Start(
            self.place,
            len(self.starts) + 1,
            self.truth.items,
            self.truth.by_length,
            run=run,
            **more,
        )
        self.starts.append(start)
        self.paces[start.number] = start.pace
        self.place.counts["starts"] += 1
        if not start.resume:
            self.repeats.begin_anew(start.number)
        return start

    def end(self, start: Start, before: set[int], allowed: tuple[str, ...] = ()) -> str:
        """Await the end of a start and check what must hold then; gives what it ended with."""
        status = start.wait()
        self.repeats.killed |= start.killed
        if start.disk_was_full:
            self.repeats.thrown_away.add(start.number)
        promises.check_status(start, status, allowed, self.truth)
        coverage = promises.check_ledger(self.place)
        self.repeats.check(self.place, self.truth, before, start)
        kind = str(start.outcome["kind"])
        if coverage is not None:
            self._check_failed(coverage, start)
            if kind == "done" and start.run.get("limit") is None:
                self._check_published(coverage)
        return kind

    def _stormy_start(self) -> None:
        rng, place = self.rng, self.place
        place.free_disk()
        workers = rng.choices([1, 2, 3], [5, 4, 1])[0]
        resume = rng.random() < 0.93
        before = promises.committed(place) if resume else set()
        epoch = max(find_epochs(place.out), default=0)
        start = self.new_start(
            workers=workers,
            batch_size=rng.choice([None, None, 1, 4, 8]),
            pace=rng.choice([0.0005, 0.002, 0.005]),
            resume=resume,
            run={
                "on_error": rng.choice(["finish", "finish", "skip", "raise"]),
                "lease_seconds": rng.choice([1e-6, 0.01, 0.1, 60.0]),
                "limit": rng.choice([None, None, None, rng.randint(1, self.truth.n_items)]),
            },
        )
        acts: list[tuple[storm.Moment, storm.Act]] = [
            (storm.Moment.draw(rng, self.truth.n_items, workers), self._draw_act(workers))
            for _ in range(rng.randint(0, 3))
        ]
        storm.blow(start, acts, rng, epoch)
        self.end(start, before, ("OwnershipLost",) if start.superseded else ())

    def _draw_act(self, workers: int) -> storm.Act:
        acts = list(storm.ON_DRIVER)
        if workers > 1:
            acts += storm.ON_WORKERS * 2
        if self.place.small_disk is not None:
            acts += [storm.fill_disk] * 6
        acts.append(lambda start, rng: meet_rival(self, start, rng))
        return self.rng.choice(acts)

    def _vandalise(self) -> None:
        self.place.free_disk()
        kept = promises.committed(self.place)
        damages = vandal.vandalise(self.place.out, self.rng)
        for damage in damages:
            self.place.count("torn or stray files", damage.what)
            self.repeats.excused |= damage.lost
            kept -= damage.lost
        run = {"allow_overwrite_lock": any(damage.foreign_lock for damage in damages)}
        if any(damage.refused for damage in damages):
            self._be_refused(run)
        elif any(damage.begins_anew for damage in damages):
            self.repeats.begin_anew(len(self.starts) + 1)
            self.end(self.new_start(run=run), set())
        elif run["allow_overwrite_lock"]:
            self.end(self.new_start(run=run), kept)

    def _be_refused(self, run: dict[str, Any]) -> None:
        """A damaged run is never guessed at: the driver says so and changes nothing."""
        before = promises.listing(self.place)
        start = self.new_start(run=run)
        if (start.wait(), start.outcome["kind"]) != (1, "LedgerError"):
            raise Broken(f"start {start.number} went on from a damaged run:\n{start.text}")
        if promises.listing(self.place) != before:
            raise Broken(f"start {start.number} was refused, but changed the directory")
        self.end(self.new_start(run=run, resume=False), set())

    def _calm_start(self, **run: Any) -> str:
        self.place.free_disk()
        before = promises.committed(self.place)
        workers = 2 if self.rng.random() < 0.15 else 1
        batch_size = self.rng.choice([None, 8])
        start = self.new_start(workers=workers, batch_size=batch_size, run=run)
        return self.end(start, before)

    def _finish_all_but_bad_ones(self) -> None:
        """Calm starts until all but the bad items are done; then the error names just these."""
        for _ in range(4 + 4 * len(self.truth.bad | self.truth.moods)):
            kind = self._calm_start(on_error="finish")
            if kind == "done" or (
                kind == "RunFailed" and self.truth.bad.keys() == self._failed().keys()
            ):
                break
            if kind == "RunFailed" and not self.truth.bad.keys() - self._failed().keys():
                break  # innocent items that were set aside; `_check_failed` has looked at them
        else:
            raise Broken(f"it does not come to an end; the last start: {self.starts[-1].text}")
        if self.truth.bad.keys() - self._failed().keys():
            raise Broken(f"bad items were published: {self.truth.bad} {self._failed()}")

    def _publish_without_bad_ones(self) -> None:
        for _ in range(1 + 3 * len(self.truth.bad)):
            if self._calm_start(on_error="skip") == "done":
                return
        raise Broken(f"it is not published: {self.starts[-1].text}")

    def _mend(self) -> None:
        """All items are good now, and deaths are forgiven: everything is published."""
        self.truth.mend(self.place.log)
        self.max_kills = 1000
        if self._calm_start() != "done":
            raise Broken(f"it is not completed: {self.starts[-1].text}")
        if self._failed():
            raise Broken(f"mended items are still failed: {self._failed()}")

    def _failed(self) -> dict[int, str]:
        coverage = promises.check_ledger(self.place)
        return {p: e["error"] for p, e in coverage.failed.items()} if coverage else {}

    def _check_failed(self, coverage: Coverage, start: Start) -> None:
        """What is called failed is bad or moody, or several workers died in it."""
        for position, entry in coverage.failed.items():
            told = self.truth.bad.get(position, self.truth.moods.get(position, ""))
            if entry["error"] == ERRORS.get(told.removesuffix(" once")):
                continue
            if entry["error"] == "WorkerKilled" and self._deaths_in(position) >= self.max_kills:
                continue
            if entry["error"] == "UnitTimeout":
                continue  # a machine that is too busy; it is tried again
            raise Broken(f"position {position} ({told or 'good'}) is called failed: {entry}")

    def _deaths_in(self, position: int) -> int:
        """How many processes that were ended had this position in their last unit."""
        last = {f.pid: f.first for f in forwards(self.place.log)}
        killed = self.repeats.killed | deaths(self.place.log)
        units = {(f.pid, f.first) for f in forwards(self.place.log) if f.item == position}
        return sum(last[pid] == first for pid, first in units if pid in killed)

    def _check_published(self, coverage: Coverage) -> None:
        """What is published is what a calm run in one process gives, without the failed items."""
        expected = calm_files(self.truth.items, frozenset(coverage.failed))
        for name, data in expected.items():
            if (self.place.out / name).read_bytes() != data:
                raise Broken(f"{name} is not what a calm run gives")
        if all(start.over for start in self.starts):  # workers of a suspended driver still write
            promises.check_nothing_left_over(self.place, coverage)

    def _measure(self) -> None:
        """Count what was done again because somebody was killed."""
        done = forwards(self.place.log)
        killed = self.repeats.killed | deaths(self.place.log)
        self.repeats.kept_from = 0
        again = [f for f in self.repeats.repeated(done) if f.pid in killed]
        counts = self.place.counts
        counts["item killed its process"] += len(deaths(self.place.log))
        counts["_kills"] += len(killed & {f.pid for f in done})
        counts["_positions"] += len(again)
        counts["_microseconds"] += round(1e6 * sum(self.paces[f.start] for f in again))
        counts["bad items"] += len(self.truth.bad)
        counts["moody items"] += len(self.truth.moods)


def live(root: Path, seed: int, *, echo: bool = False) -> Counter[str]:
    """One life; returns what was done in it, by kind. What a broken promise left is kept.

    Raises:
        Broken: with its trace and the command that repeats it.
    """
    life = Life(root, seed, echo=echo)
    began = time.monotonic()
    life.play()
    life.place.remove()
    life.place.counts["_longest"] = round(time.monotonic() - began)
    return life.place.counts


@lru_cache(maxsize=32)
def calm_files(items: tuple[int, ...], without: frozenset[int]) -> dict[str, bytes]:
    """What a calm run publishes, in one process, one by one and without some items."""
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        place = Place(root / "calm")
        for item in without:
            tell(place.log, item, "raise")
        run = {"on_error": "skip", "max_failures": len(items)}
        start = Start(place, 1, items, run=run)
        if start.wait():
            raise RuntimeError(f"a calm run failed: {start.text}")
        return {name: (place.out / name).read_bytes() for name in ("text", "ids")}
