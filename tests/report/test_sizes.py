"""What is drawn of large runs, and what of lost and repeated work; no browser, no Bokeh."""

import numpy as np
import pytest

from espnet3.report import throughput as rates
from espnet3.report import timeline as tl
from espnet3.report.record import DONE, LOST, LeaseLife, RunRecord, Start, Units, WorkerLife
from espnet3.report.running_time import RunningTime
from espnet3.report.unit_times import MOST_POINTS, NAMED, unit_times


def record(**more):
    return RunRecord("test", "/run", "done", "", 0, 0, **more)


def worker(name, epoch=1, up=0.0, built=10.0, gone=100.0, lost=""):
    return WorkerLife(name, epoch, up, up, built, gone, lost)


def lease(name, first, stop, dealt, back, epoch=1, done=None, outcome=DONE):
    done = stop - first if done is None else done
    return LeaseLife(name, epoch, first, stop, dealt, back, done, stop, outcome)


def kinds(row):
    return [(span.kind, round(span.start, 6), round(span.stop, 6)) for span in row.spans]


def test_lost_work_and_its_repetition_are_told_apart():
    seen = tl.timeline(
        record(
            starts=[Start(1, 0.0, 100.0)],
            workers=[worker("a", gone=30.0, lost="killed"), worker("b")],
            leases=[
                lease("a", 0, 10, 10.0, 30.0, done=0, outcome=LOST),
                lease("b", 10, 20, 10.0, 40.0),
                lease("b", 0, 10, 40.0, 90.0),
            ],
        )
    )
    first, second = seen.rows
    assert kinds(first) == [(tl.BUILD, 0, 10), (tl.WASTED, 10, 30)]
    assert kinds(second) == [
        (tl.BUILD, 0, 10),
        (tl.WORK, 10, 40),
        (tl.REPEATED, 40, 90),
        (tl.IDLE, 90, 100),
    ]
    assert seen.busy == pytest.approx(80 / 130)


def test_pauses_between_starts_take_no_room():
    seen = tl.timeline(
        record(
            starts=[Start(1, 0.0, 100.0), Start(2, 5000.0, 5050.0)],
            workers=[worker("a"), worker("a", 2, 5000.0, 5010.0, 5050.0)],
            leases=[lease("a", 0, 5, 10.0, 100.0), lease("a", 5, 9, 5010.0, 5050.0, epoch=2)],
        )
    )
    assert (seen.time.total, seen.time.joints, seen.time.pauses) == (150.0, [100.0], [4900.0])
    assert [row.label for row in seen.rows] == ["a (start 1)", "a (start 2)"]
    assert kinds(seen.rows[1]) == [(tl.BUILD, 100, 110), (tl.WORK, 110, 150)]


def test_of_a_thousand_workers_the_dead_and_the_extremes_are_drawn():
    names = [f"w{n}" for n in range(1000)]
    dead = set(names[500:510])
    done = {name: 20.0 + n % 70 for n, name in enumerate(names)}
    seen = tl.timeline(
        record(
            starts=[Start(1, 0.0, 100.0)],
            workers=[worker(n, lost="killed" if n in dead else "") for n in names],
            leases=[lease(n, i, i + 1, 10.0, done[n]) for i, n in enumerate(names)],
        )
    )
    rows = tl.choose_rows(seen.rows)
    assert len(rows) == tl.MOST_ROWS
    assert {row.label for row in rows if row.lost} == dead
    assert {20.0, 89.0} <= {done[row.label] for row in rows}
    counts = tl.at_work(seen.rows, seen.time.total)
    assert sum(counts.values()) == pytest.approx(np.full(tl.BINS, 1000.0))


def test_a_row_of_many_leases_is_drawn_coarsely_and_keeps_what_was_lost():
    leases = [lease("a", n, n + 1, 10 + n / 100, 10.009 + n / 100) for n in range(9000)]
    leases[4000] = lease("a", 4000, 4001, 50.0, 50.009, done=0, outcome=LOST)
    seen = tl.timeline(record(starts=[Start(1, 0, 100.0)], workers=[worker("a")], leases=leases))
    spans = tl.coarse(seen.rows[0], seen.time.total)
    assert len(spans) <= tl.CELLS
    assert [span.kind for span in spans] == [tl.BUILD, tl.WORK, tl.WASTED, tl.WORK]
    assert spans[0].start == 0
    assert spans[-1].stop == pytest.approx(100.0)


def test_throughput_adds_up_to_what_was_done():
    units = Units(np.arange(40), np.ones(40), np.full(40, 3.0))
    leases = [lease("a", 0, 30, 10.0, 40.0), lease("a", 30, 40, 40.0, 80.0)]
    run = record(starts=[Start(1, 0.0, 100.0)], leases=leases, units=units)
    done = rates.throughput(run, RunningTime(run.starts))
    width = np.diff(done.edges)
    assert (done.items * width).sum() == pytest.approx(40)
    assert (done.audio * width).sum() == pytest.approx(120)
    assert done.items[np.searchsorted(done.edges, 20.0)] == pytest.approx(1.0)
    assert done.items[np.searchsorted(done.edges, 60.0)] == pytest.approx(0.25)


@pytest.mark.parametrize("n", [100, 100_000])
def test_outliers_are_named_and_counted_whatever_else_there_is(n):
    random = np.random.default_rng(0)
    audio = np.exp(random.normal(1.8, 0.6, n))
    seconds = 0.02 + 0.2 * audio * np.exp(random.normal(0, 0.1, n))
    slow = np.arange(12) * (n // 12)
    seconds[slow] *= np.linspace(40, 8, 12)
    times = unit_times(record(units=Units(np.arange(n), seconds, audio), name_of="utt{}".format))
    assert times.n_outliers == 12
    assert {o.name for o in times.outliers} <= {f"utt{i}" for i in slow}
    assert len(times.outliers) == NAMED
    assert times.outliers[0].times > 20
    if n > MOST_POINTS:
        assert times.cells.count.sum() == n
        assert len(times.cells.count) < MOST_POINTS


def test_ten_units_have_no_outliers():
    seconds = np.array([1.0] * 9 + [30.0])
    units = Units(np.arange(10), seconds, np.full(10, 2.0))
    times = unit_times(record(units=units))
    assert (len(times.units), times.n_outliers, times.cells) == (10, 0, None)


def test_without_lengths_the_times_alone_are_counted():
    seconds = np.array([1.0] * 99 + [30.0])
    times = unit_times(record(units=Units(np.arange(100), seconds, np.full(100, np.nan))))
    assert not times.with_audio
    assert times.cells.count.sum() == 100
    assert [o.position for o in times.outliers] == [99]
