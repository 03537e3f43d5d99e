"""What a worker must know of a run, sent to it once."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from espnet3.parallel.engine.plan import Plan
from espnet3.parallel.engine.shards import ShardNaming

if TYPE_CHECKING:
    from espnet3.parallel.hooks import RunnerHooks


@dataclass(frozen=True)
class Job:
    """One run, as its workers see it.

    Attributes:
        runner: the runner class; its hooks are static or class methods.
        provider: name of the provider, for messages.
        output_dir: as the user gave it.
        shard_subdir: below it, or "".
        run_dir: the same directory, as an absolute path.
        run_id: of the manifest.
        plan: the units.
        model_key: runs with the same key have the same model; None if nobody can say.
        naming: of this epoch's shard directories.
        prefetch: as in the `run:` block.
    """

    runner: "type[RunnerHooks]"
    provider: str
    output_dir: str
    shard_subdir: str
    run_dir: Path
    run_id: str
    plan: Plan
    model_key: str | None
    naming: ShardNaming
    prefetch: bool | None = None

    @property
    def token(self) -> str:
        """Names this start of this run; an env is kept for as long as its token is asked for."""
        return f"{self.run_id}.{self.naming.epoch}"
