"""What is made of the event log: workers that die, work thrown away, lines of other versions."""

from espnet3.parallel.engine.coverage import Shard
from espnet3.parallel.engine.shards import ShardNaming, shard_name
from espnet3.report.lives import lives
from espnet3.report.record import DONE, LOST, OUT
from espnet3.runs import Event


def log(*events):
    """Events as (epoch, time, name, fields)."""
    return [Event(time, epoch, name, fields) for epoch, time, name, fields in events]


def lease(number, worker, first, stop):
    return {"lease": number, "worker": worker, "first": first, "stop": stop}


UP = [
    (1, 0.0, "start", {"host": "h", "command": ["run.py", "-x"], "backend": "local"}),
    (1, 2.0, "worker_up", {"worker": "a.7", "host": "h"}),
    (1, 6.0, "env_built", {"worker": "a.7", "seconds": 3.0}),
    (1, 6.0, "dealt", lease(0, "a.7", 0, 10)),
]


def outcomes(seen):
    return [(each.first, each.done, each.begun, each.outcome) for each in seen.leases]


def test_a_worker_that_dies_takes_what_it_had_begun():
    seen = lives(
        log(
            *UP,
            (1, 9.0, "worker_lost", {"worker": "a.7", "why": "killed by signal 9 (SIGKILL)"}),
            (1, 9.0, "lost", {**lease(0, "a.7", 0, 10), "in_flight": 4, "done": 0}),
            (1, 20.0, "state", {"state": "failed"}),
        ),
        10,
        {},
        None,
    )
    (worker,) = seen.workers
    assert (worker.up, worker.building, worker.built, worker.gone) == (2.0, 3.0, 6.0, 9.0)
    assert worker.lost == "killed by signal 9 (SIGKILL)"
    assert outcomes(seen) == [(0, 0, 5, LOST)]
    assert (seen.starts[0].command, seen.starts[0].ended) == ("run.py -x", 20.0)


def test_what_a_dead_worker_had_committed_counts():
    lost = (1, 9.0, "lost", {**lease(0, "a.7", 0, 10), "in_flight": None, "done": 6})
    assert outcomes(lives(log(*UP, lost), 10, {}, None)) == [(0, 6, 6, DONE)]


def test_a_shard_that_was_thrown_away_is_lost():
    back = {**lease(0, "a.7", 0, 10), "next": 6, "done": 0, "redo": [0, 5]}
    seen = lives(log(*UP, (1, 9.0, "reported", back)), 10, {}, None)
    assert outcomes(seen) == [(0, 0, 6, LOST)]


def test_a_lease_that_is_out_is_lost_only_with_its_driver():
    events = log(*UP)
    assert outcomes(lives(events, 10, {}, now=30.0)) == [(0, 0, 0, OUT)]
    assert outcomes(lives(events, 10, {}, now=None)) == [(0, 0, 10, LOST)]
    name = shard_name(ShardNaming(10, 1).shard_id(0, 0))
    taken_over = lives(events, 10, {name: Shard(name, 0, 7)}, now=None)
    assert outcomes(taken_over) == [(0, 8, 8, DONE)]


def test_events_of_another_version_are_left_out():
    strange = [
        (1, 7.0, "dealt", {"number": 5}),
        (1, 7.0, "reported", lease(99, "b", 0, 1)),
        (1, 7.0, "no such event", {}),
        (1, 7.0, "env_built", {"worker": "nobody"}),
    ]
    assert outcomes(lives(log(*UP, *strange), 10, {}, None)) == [(0, 0, 10, LOST)]
