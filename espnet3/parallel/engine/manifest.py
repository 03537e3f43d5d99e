"""`manifest.json` and `config.yaml`: which run a directory holds, and whether a call may go on."""

import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from espnet3.errors import IdentityChanged, LedgerError
from espnet3.parallel.engine.identity import FILES, changes, config_key, hash_identity
from espnet3.parallel.engine.items import digest_items
from espnet3.utils import durable
from espnet3.utils.masking import mask_argument, mask_secrets

VERSION = 1
CONFIG, PREVIOUS_CONFIG = "config.yaml", "config.previous.yaml"
# Whoever has called the runner knows the directory by another name.
_ELSEWHERE = (
    "another output_dir (in a recipe: another exp_tag, inference_dir or stats_dir; "
    "of format_audio: another out_dir)"
)


@dataclass(frozen=True)
class Manifest:
    """What a run is. Written when the run begins, and when what it remembers is another.

    A few hundred bytes, and forty for each of the user's modules, however many items there are.

    Attributes:
        version: format of the run directory.
        run_id: random; results of another run are told apart by it.
        salt: for the hashes in `identity`.
        positions: number of items.
        items: digest of the item list.
        batch_size: positions of a unit when the run began (a later call may choose another).
        identity: per-key hashes of what decides the results.
        created: local time.
        command: command line of the process that began the run.
        code: per-module hashes of the user's code; None if they were not known.
        order: what tells whether the kept order is this run's (see `order_file`); None where the
            items are done in the order in which they were given.
    """

    version: int
    run_id: str
    salt: str
    positions: int
    items: str
    batch_size: int | None
    identity: dict[str, str]
    created: str
    command: str
    code: dict[str, str] | None = None
    order: dict[str, Any] | None = None

    @classmethod
    def new(
        cls,
        items: Sequence[Any],
        batch_size: int | None,
        identity: Mapping[str, Any],
        code: Mapping[str, str] | None = None,
    ) -> Self:
        """The manifest of a run that begins now."""
        salt = os.urandom(8).hex()
        return cls(
            version=VERSION,
            run_id=os.urandom(8).hex(),
            salt=salt,
            positions=len(items),
            items=digest_items(items),
            batch_size=batch_size,
            identity=hash_identity(identity, salt),
            created=time.strftime("%Y-%m-%d %H:%M:%S"),
            command=shlex.join(mask_argument(a) for a in sys.argv)[:1000],
            code=None if code is None else hash_identity(code, salt),
        )

    @classmethod
    def read(cls, run_dir: Path) -> Self | None:
        """The manifest of `run_dir`, or None if no run began there.

        Raises:
            LedgerError: if the file is damaged or was written by another version.
        """
        path = run_dir / "manifest.json"
        try:
            data = json.loads(path.read_bytes())
            if data["version"] != VERSION:
                raise LedgerError(f"{path} has version {data['version']}, this is {VERSION}")
            return cls(**data)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise LedgerError(
                f"{path} is damaged or was not written by this package. Use another output_dir, "
                "or `resume: false` to set what is there aside and start over."
            ) from error

    def with_identity(self, identity: Mapping[str, Any], code: Mapping[str, str] | None) -> Self:
        """This run, with the changed setup that the user accepts, and the code as it is now."""
        hashed = self.code if code is None else hash_identity(code, self.salt)
        return replace(self, identity=hash_identity(identity, self.salt), code=hashed)

    def known_part(self, identity: Mapping[str, Any]) -> dict[str, Any]:
        """An identity less the files that were not there when this run began.

        Such a file counts as new only where what names it has not changed.
        """
        now = hash_identity(identity, self.salt)

        def as_before(key: str) -> bool:
            return now.get(key) == self.identity.get(key)

        def is_new(key: str) -> bool:
            return key.startswith(FILES) and key not in self.identity and as_before(config_key(key))

        return {key: value for key, value in identity.items() if not is_new(key)}

    def edited(self, code: Mapping[str, str] | None) -> list[str]:
        """The modules whose code is another one now, sorted; none where either is not known."""
        if code is None or self.code is None:
            return []
        now, before = hash_identity(code, self.salt), self.code
        gone = [f"{name} (not used any more)" for name in before.keys() - now.keys()]
        new = [f"{name} (new)" for name in now.keys() - before.keys()]
        other = [name for name in now.keys() & before.keys() if now[name] != before[name]]
        return [*sorted(other), *sorted(new), *sorted(gone)]

    def write(self, run_dir: Path, identity: Mapping[str, Any], check: Callable[[], None]) -> None:
        """Write `config.yaml` (secrets masked), then `manifest.json`.

        Args:
            run_dir: the run directory.
            identity: what `self.identity` is of.
            check: called just before each takes its name; raises if the run is another driver's.
        """
        # JSON is YAML too, and importing a YAML library would be a third of a small run's start.
        text = json.dumps(mask_secrets(dict(identity)), indent=2, sort_keys=True)
        durable.replace(run_dir / CONFIG, f"{self._head}{text}\n".encode(), check)
        text = json.dumps(asdict(self), indent=1)
        durable.replace(run_dir / "manifest.json", text.encode() + b"\n", check)

    def has_config(self, run_dir: Path) -> bool:
        """Whether `config.yaml` is this run's; it is another one's where this one was put back."""
        try:
            with (run_dir / CONFIG).open("rb") as f:
                return f.readline() == self._head.encode()
        except OSError:
            return False

    @property
    def _head(self) -> str:
        return f"# run {self.run_id}\n"

    def check_items(self, items: Sequence[Any], run_dir: Path) -> None:
        """Refuse another item list; that is never accepted.

        Raises:
            IdentityChanged: naming both.
        """
        if self.positions == len(items) and self.items == digest_items(items):
            return
        what = (
            f"{self.positions} items, now {len(items)}"
            if self.positions != len(items)
            else f"the same number of items ({len(items)}) but other ones, or in another order"
        )
        raise IdentityChanged(
            f"{run_dir} holds a run over another item list: it has {what}. Positions of the two "
            f"cannot be mixed. Use `run: {{resume: false}}` to start over, or {_ELSEWHERE}."
        )

    def changes(self, identity: Mapping[str, Any], run_dir: Path) -> list[str]:
        """One line per key of the identity that is another one now, with old and new value."""
        now = hash_identity(identity, self.salt)
        keys = now.keys() | self.identity.keys()
        changed = sorted(key for key in keys if now.get(key) != self.identity.get(key))
        old = {k: v for k, v in self._read_config(run_dir).items() if k in changed}
        new = {k: v for k, v in mask_secrets(dict(identity)).items() if k in changed}
        lines = changes(old, new)
        return lines or [f"{key}: (masked, or not kept)" for key in changed]

    def _read_config(self, run_dir: Path) -> dict[str, Any]:
        for name in (CONFIG, PREVIOUS_CONFIG):
            try:
                head, _, text = (run_dir / name).read_bytes().partition(b"\n")
                data = json.loads(text) if head + b"\n" == self._head.encode() else None
            except (OSError, ValueError):
                continue
            if isinstance(data, dict):
                return data
        return {}

    def check_identity(self, identity: Mapping[str, Any], run_dir: Path) -> None:
        """Refuse to go on with something that gives other results.

        Raises:
            IdentityChanged: naming every key with its old and new value, and the three ways on.
        """
        lines = self.changes(identity, run_dir)
        if not lines:
            return
        raise IdentityChanged(
            f"{run_dir} was begun with another setup; its results and new ones would be mixed:\n"
            + "".join(f"  {line}\n" for line in lines[:20])
            + (f"  ... and {len(lines) - 20} more\n" if len(lines) > 20 else "")
            + f"Start over (`run: {{resume: false}}`), use {_ELSEWHERE}, or go on with what is "
            "there (`run: {accept_changes: true}`)."
        )


def code_changed(run_dir: Path, edited: Sequence[str]) -> IdentityChanged:
    """What refuses to go on with a finished run whose code was edited."""
    return IdentityChanged(
        f"{run_dir} is finished, and its code was edited since: {some_of(edited)}. What is there "
        f"was made by the old code. Start over (`run: {{resume: false}}`), use {_ELSEWHERE}, or "
        "keep what is there (`run: {accept_changes: true}`)."
    )


def order_not_taken(run_dir: Path) -> IdentityChanged:
    """What refuses a runner that would publish a run in the order in which its items were done."""
    return IdentityChanged(
        f"{run_dir} was begun with batches by length, and the runner has a hook or a merge by now "
        "that does not put records back in the order of the items. Let it do so and say "
        f"`per_item_output = True`, start over (`run: {{resume: false}}`), or use {_ELSEWHERE}."
    )


def some_of(names: Sequence[str], most: int = 10) -> str:
    """The first few of many names."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
