"""The same first steps of every cluster whose jobs a `Watch` looks after."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from espnet3.errors import RunStopped
from espnet3.parallel.backends.job import Submissions
from espnet3.parallel.config import ParallelConfig


@contextmanager
def closed_on_error(cluster: Any) -> Iterator[None]:
    """Leave no job behind if something goes wrong before the cluster is handed on."""
    try:
        yield
    except BaseException:
        cluster.close()
        raise


def submit_first(cluster: Any, submissions: Submissions, config: ParallelConfig, what: str) -> None:
    """Submit the first jobs, and have the cluster's `watch` look after them from now on.

    Returns as soon as one is accepted.

    Raises:
        RunStopped: if all were refused; it says why `what` was, in the scheduler's words.
    """
    cluster.scale(config.n_at_first)
    submissions.wait(config.n_at_first)
    if not submissions.n_accepted:
        words = "\n".join(dict.fromkeys(submissions.refusals()))
        raise RunStopped(f"{config.env} refuses the {what}: {words}")
    cluster.watch.start()
