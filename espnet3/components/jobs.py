"""The runs of one stage, one for each part of its data, done one after the other on one cluster."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from espnet3.components.data.offers import check_ids, durations_of
from espnet3.errors import DataError, IdentityChanged, RunFailed
from espnet3.parallel.parallel import get_settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One run over one data set, checked and ready to begin.

    Attributes:
        name: Of the test set, or the split.
        runner: Its ``name_of`` gives an item's utterance id, or is None where nobody knows one.
        n_items: How many there are.
        durations: Seconds of each, where the data set knows them.
    """

    name: str
    runner: Any
    n_items: int
    durations: Sequence[float] | None

    def run(self) -> None:
        """Do it."""
        if self.durations is not None and _takes_durations(self.runner):
            self.runner(range(self.n_items), durations=self.durations)
        else:
            self.runner(range(self.n_items))


def job_over(dataset: Any, name: str, what: str, make_runner: Callable[[], Any]) -> Job:
    """Check a data set, and make it the work of a runner.

    The runner gets from it, as far as the data set tells: durations, the ids of its items, and a
    fingerprint of its content, if it has a place for one.

    Args:
        dataset: As a provider builds it.
        name: Of the test set, or the split.
        what: The same in messages, as ``dataset.train``.
        make_runner: Called once the data set was found to be good.

    Raises:
        DataError: It is empty, an id cannot be one or comes twice, or durations are not as many as
            items.
    """
    if len(dataset) == 0:
        raise DataError(
            f"{what} is empty; look at its entry under dataset, and at what the create_dataset "
            "stage has made"
        )
    check_ids(dataset, what)
    durations = durations_of(dataset, what)
    runner = make_runner()
    utt_id = getattr(dataset, "utt_id", None)
    if callable(utt_id):
        runner.name_of = utt_id
    fingerprint = getattr(dataset, "fingerprint", None)
    if callable(fingerprint) and hasattr(runner, "dataset_fingerprint"):
        runner.dataset_fingerprint = str(fingerprint())
    return Job(name, runner, len(dataset), durations)


def run_jobs(jobs: Sequence[Job], kind: str, how_to_debug: Callable[[Job, RunFailed], str]) -> None:
    """Run all of them; one that fails or is refused does not keep the others from running.

    Args:
        jobs: In order.
        kind: What one is called: ``test set``.
        how_to_debug: Gives the call that does the first failed item of a run alone.

    Raises:
        RunFailed: Items failed. The other runs were done all the same, unless ``on_error`` is
            ``raise``.
        IdentityChanged: A run had begun with another setup, or is finished and its code was edited.
            It is left as it is; the other runs were done.
    """
    failed: dict[str, RunFailed] = {}
    refused: dict[str, IdentityChanged] = {}
    for job in jobs:
        logger.info("%s %s: %d items to %s", kind, job.name, job.n_items, job.runner.run_dir)
        try:
            job.run()
        except RunFailed as error:
            error.debug = how_to_debug(job, error)
            if get_settings()[1].on_error == "raise" or len(jobs) == 1:
                raise
            logger.error("%s %s: %s", kind, job.name, error.summary.partition("\n")[0])
            failed[job.name] = error
        except IdentityChanged as error:
            if len(jobs) == 1:
                raise
            logger.error("%s %s is left as it is, the others go on: %s", kind, job.name, error)
            refused[job.name] = error
    if failed or refused:
        raise _all_of(failed, refused, len(jobs), kind) from [*failed.values(), *refused.values()][
            0
        ]


def _takes_durations(runner: Any) -> bool:
    """ESPnet3's runners, and those that override ``__call__`` like them, take indices alone."""
    return "durations" in inspect.signature(runner).parameters


def _all_of(
    failed: dict[str, RunFailed], refused: dict[str, IdentityChanged], n_jobs: int, kind: str
) -> RunFailed | IdentityChanged:
    """One error for several runs; each failure says which it belongs to."""
    heads = []
    if failed:
        heads.append(f"{len(failed)} of {n_jobs} {kind}s have failed items")
    if refused:
        heads.append(f"{len(refused)} of {n_jobs} {kind}s were refused and left as they are")
    if len(failed) + len(refused) < n_jobs:
        heads.append("the others are complete")
    text = [f"{'; '.join(heads)}."]
    text += [f"{kind} {name}: {error}" for name, error in refused.items()]
    if refused:
        text.append(_ways_on(kind))
    text += [f"{kind} {name}: {error.summary}" for name, error in failed.items()]
    if not failed:
        return IdentityChanged("\n".join(text))
    key = kind.replace(" ", "_")
    entries = [{**entry, key: name} for name, error in failed.items() for entry in error.failures]
    debug = next(iter(failed.values())).debug
    return RunFailed("\n".join(text), failures=entries, debug=debug)


def _ways_on(kind: str) -> str:
    return (
        f"What stands in `run:` is for all {kind}s of a call. There `accept_changes: true` keeps "
        "what is done of each, does the rest, and remembers the setup as it is now (another list "
        "of items is never accepted); `resume: false` starts all over. To start one over alone, "
        "remove its directory and run the same command."
    )
