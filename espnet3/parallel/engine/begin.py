"""Which run a directory holds from now on: another one begins, or the one there goes on.

The owner has the lock and no epoch yet, so `check` is asked before anything is replaced: a driver
that is suspended here and taken over must not undo what its successor wrote.
"""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from espnet3.parallel.engine.coverage import Coverage
from espnet3.parallel.engine.ledger import read_coverage
from espnet3.parallel.engine.manifest import (
    CONFIG,
    PREVIOUS_CONFIG,
    Manifest,
    code_changed,
    order_not_taken,
    some_of,
)
from espnet3.parallel.engine.marker import take_driver_marker
from espnet3.parallel.engine.order import AS_GIVEN, Order
from espnet3.parallel.engine.order_file import write_order

logger = logging.getLogger(__name__)

PREVIOUS = "manifest.previous.json"
SET_ASIDE = (PREVIOUS, PREVIOUS_CONFIG)


def begin(
    manifest: Manifest,
    run_dir: Path,
    identity: Mapping[str, Any],
    check: Callable[[], None],
    order: Order = AS_GIVEN,
) -> Manifest:
    """Let the directory begin a run, another one if there is one.

    Nothing is moved: ledgers and shards of another run do not count, and what was published stays
    until the new run is complete. Then the old shards are removed. Until then the old run comes
    back when its manifest is put back.

    Args:
        manifest: of the run that begins.
        run_dir: the run directory.
        identity: what decides its results.
        check: raises OwnershipLost if another driver has the lock by now.
        order: of its items, once and for all.

    Returns:
        The manifest as it was written: it names the order.
    """
    check()
    take_driver_marker(run_dir)  # whoever died, it was not this run's item
    old, config = run_dir / "manifest.json", run_dir / CONFIG
    if old.exists():
        # A complete run is worth more than one that has begun.
        keep = not (run_dir / PREVIOUS).exists()
        check()
        if keep and config.exists():
            os.replace(config, run_dir / PREVIOUS_CONFIG)
        os.replace(old, run_dir / PREVIOUS) if keep else old.unlink()
        logger.info("%s: starting over; the old run is kept until this one is complete", run_dir)
    kept = write_order(run_dir, manifest.run_id, order, check)
    manifest = replace(manifest, order=kept)
    manifest.write(run_dir, identity, check)
    return manifest


def go_on(
    manifest: Manifest,
    run_dir: Path,
    items: Sequence[Any],
    identity: Mapping[str, Any],
    code: Mapping[str, str] | None,
    accept_changes: bool,
    check: Callable[[], None],
    any_order: bool,
) -> Manifest:
    """Make sure that the run there is the one that is asked for; give its manifest as it is now.

    Raises:
        IdentityChanged: if it is over other items, or was made with another setup that is not
            accepted, or is finished and was made by other code.
        OwnershipLost: from `check`, if another driver has the lock by now.
        LedgerError: if a ledger is damaged.
    """
    known = manifest.known_part(identity)

    @cache
    def coverage() -> Coverage:
        return read_coverage(run_dir, manifest.run_id)

    for line in compare(manifest, run_dir, items, known, code, accept_changes, coverage, any_order):
        logger.warning("%s", line)
    if len(known) < len(identity) and not coverage().accepted:
        known = dict(identity)  # later they may well be what the run itself writes
    now = manifest.with_identity(known, code)
    if now != manifest or not now.has_config(run_dir):
        coverage()  # a damaged ledger refuses this start, and then nothing is to be changed
        now.write(run_dir, known, check)
    return now


def compare(
    manifest: Manifest,
    run_dir: Path,
    items: Sequence[Any],
    known: Mapping[str, Any],
    code: Mapping[str, str] | None,
    accept_changes: bool,
    coverage: Callable[[], Coverage],
    any_order: bool,
) -> list[str]:
    """What a start warns of that goes on with the run there.

    Editing code is how a bad item is mended, but results that are published do not follow.

    Args:
        known: `manifest.known_part` of the identity.
        coverage: reads what is done; it is asked only if code was edited.
        any_order: as of `Work`.

    Raises:
        IdentityChanged: as `go_on` says.
    """
    manifest.check_items(items, run_dir)
    if manifest.order is not None and not any_order:
        raise order_not_taken(run_dir)
    edited = manifest.edited(code)
    if accept_changes:
        lines = [f"accepted: {line}" for line in manifest.changes(known, run_dir)]
        return [*lines, f"accepted: edited code of {some_of(edited)}"] if edited else lines
    manifest.check_identity(known, run_dir)
    if not edited:
        return []
    found = coverage()
    if found.sealed and not found.failed:
        raise code_changed(run_dir, edited)
    modules = "1 module was" if len(edited) == 1 else f"{len(edited)} modules were"
    return [
        f"{modules} edited since this run began or last went on: {some_of(edited)}. What is done "
        f"stays ({len(found.accepted)} items), the rest is done with the new code (`run: {{resume: "
        "false}` does all with it)"
    ]
