"""Which run a directory holds from now on: another one begins, or the one there goes on.

The owner has the lock and no epoch yet, so `check` is asked before anything is replaced: a driver
that is suspended here and taken over must not undo what its successor wrote.
"""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from espnet3.parallel.engine.ledger import read_coverage
from espnet3.parallel.engine.manifest import (
    CONFIG,
    PREVIOUS_CONFIG,
    Manifest,
    code_changed,
    some_of,
)
from espnet3.parallel.engine.marker import take_driver_marker

logger = logging.getLogger(__name__)

PREVIOUS = "manifest.previous.json"
SET_ASIDE = (PREVIOUS, PREVIOUS_CONFIG)


def begin(
    manifest: Manifest, run_dir: Path, identity: Mapping[str, Any], check: Callable[[], None]
) -> None:
    """Let the directory begin a run, another one if there is one.

    Nothing is moved: ledgers and shards of another run do not count, and what was published stays
    until the new run is complete. Then the old shards are removed. Until then the old run comes
    back when its manifest is put back.

    Args:
        manifest: of the run that begins.
        run_dir: the run directory.
        identity: what decides its results.
        check: raises OwnershipLost if another driver has the lock by now.
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
    manifest.write(run_dir, identity, check)


def go_on(
    manifest: Manifest,
    run_dir: Path,
    items: Sequence[Any],
    identity: Mapping[str, Any],
    code: Mapping[str, str] | None,
    accept_changes: bool,
    check: Callable[[], None],
) -> Manifest:
    """Make sure that the run there is the one that is asked for; give its manifest as it is now.

    Raises:
        IdentityChanged: if it is over other items, or was made with another setup that is not
            accepted, or is finished and was made by other code.
        OwnershipLost: from `check`, if another driver has the lock by now.
    """
    manifest.check_items(items, run_dir)
    new_files = manifest.new_files(identity)
    known = {key: value for key, value in identity.items() if key not in new_files}
    edited = manifest.edited(code)
    if accept_changes:
        for line in manifest.changes(known, run_dir):
            logger.warning("accepted: %s", line)
        if edited:
            logger.warning("accepted: edited code of %s", some_of(edited))
    else:
        manifest.check_identity(known, run_dir)
        if edited:
            _check_code(manifest, run_dir, edited)
    if new_files and not read_coverage(run_dir, manifest.run_id).accepted:
        known = dict(identity)  # later they may well be what the run itself writes
    now = manifest.with_identity(known, code)
    if now != manifest or not now.has_config(run_dir):
        now.write(run_dir, known, check)
    return now


def _check_code(manifest: Manifest, run_dir: Path, edited: Sequence[str]) -> None:
    """Editing code is how a bad item is mended, but results that are published do not follow.

    Raises:
        IdentityChanged: if the run is finished.
    """
    coverage = read_coverage(run_dir, manifest.run_id)
    if coverage.sealed and not coverage.failed:
        raise code_changed(run_dir, edited)
    logger.warning(
        "%s edited since this run began or last went on: %s. What is done stays (%d items), the "
        "rest is done with the new code (`run: {resume: false}` does all with it)",
        "1 module was" if len(edited) == 1 else f"{len(edited)} modules were",
        some_of(edited),
        len(coverage.accepted),
    )
