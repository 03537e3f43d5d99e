"""The ``parallel:`` block of an inference config: which command's, and with how many workers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from espnet3.migrate.findings import Fate
from espnet3.migrate.run.options import Option, Options
from espnet3.migrate.run.tasks import TASKS, Task

_LOCAL = ("local", "local_gpu")


@dataclass(frozen=True)
class Blocks:
    """The files of parallel blocks.

    Attributes:
        files: Their names and texts.
        about: What each replaces.
        chosen: The backend that ``cmd.sh`` chooses; "" if it does not say.
        limited: Those whose command limits the jobs that run at once.
    """

    files: Mapping[str, str] = field(default_factory=dict)
    about: Mapping[str, str] = field(default_factory=dict)
    chosen: str = ""
    limited: frozenset[str] = frozenset()

    def of(self, role: str) -> str:
        """The file for a command such as ``decode_cmd``; "" if there is none."""
        mine = f"conf/parallel_{'local' if self.chosen == 'stdout' else self.chosen}"
        names = [
            name for name in self.files if re.match(rf"{re.escape(mine)}(_gpu|_data)?\.", name)
        ]
        # Commands that ask for the same have one file, that of the first of them.
        for candidates in (names, [] if self.chosen else list(self.files)):
            its = [name for name in candidates if self.about.get(name, "").startswith(f"{role} (")]
            if its or candidates:
                return (its or candidates)[0]
        return ""


Tell = Callable[..., None]
"""Called with an option, its fate, where it went and what must be decided."""


def parallel_of(
    script: str, module: str, options: Options, blocks: Blocks, file: str, tell: Tell
) -> dict[str, tuple[Any, str]]:
    """The block for a call: its keys with values and comments.

    Args:
        script: the task script.
        module: the module that it decodes with.
        options: what it goes by.
        blocks: the files of parallel blocks.
        file: the config that it stands in.
        tell: told what became of the options that took part.
    """
    task = TASKS.get(script, Task())
    chose = options.get("ngpu" if task.one_job else "gpu_inference")
    gpu = options.is_true("gpu_inference")
    if task.one_job:
        gpu = options.value("ngpu") != "0"
    source = blocks.of("cuda_cmd" if gpu else "decode_cmd")
    held: dict[str, Any] = {"env": "local"}
    if source:
        held = yaml.safe_load(blocks.files[source])["parallel"]
    elif gpu:
        held = {"env": "local_gpu"}
    where = f"as {source}" if source else "cmd.sh gives no block for this"
    done: dict[str, tuple[Any, str]] = {"env": (held["env"], where)}
    if chose is not None and not task.one_job:
        went = f"parallel.env: {held['env']}, {where}"
        ask = "" if chose.value is not None else "whether GPUs are wanted"
        tell(chose, Fate.UNMAPPED if ask else Fate.MAPPED, went, ask, file)
    most: int | None = held.get("n_workers") if source in blocks.limited else None
    if task.one_job:
        count, why = whole(chose) or 1, f"{script} decoded in one job, with ngpu GPUs; here each"
        place = f" ({chose.place})" if chose is not None else ""
        done["n_workers"] = (count, f"DECIDE: {why} worker has one{place}")
    elif module == "asr_inference_k2":
        done["n_workers"] = (1, "DECIDE: asr.sh decodes with k2 in one job")
    else:
        _pieces(options, held["env"], most, done, file, tell)
    if "n_workers" not in done and held.get("n_workers") is not None:
        done["n_workers"] = (held["n_workers"], where)
    if held.get("options"):
        done["options"] = (held["options"], where)
    return done


def _pieces(
    options: Options,
    env: str,
    most: int | None,
    done: dict[str, tuple[Any, str]],
    file: str,
    tell: Tell,
) -> None:
    """`inference_nj`: as many jobs on a cluster, but on one machine as cores and memory allow."""
    nj = options.get("inference_nj")
    if nj is None:
        return
    number = whole(nj)
    if not number:
        tell(nj, Fate.UNMAPPED, nj.why or "it is no number", f"n_workers in {file}", file)
        return
    count = min(number, most or number)
    what = f"{nj.name} {number} was how many pieces, this is how many processes"
    if env in _LOCAL:
        count = count if most else 1
        what += f"; run.pl ran as many at once as there are {_units(env)}, and each holds a model"
    done["n_workers"] = (count, f"DECIDE: {what} ({nj.place})")
    went = f"parallel.n_workers: {count}; {what}"
    tell(nj, Fate.MAPPED, went, f"n_workers in {file}", file)


def _units(env: str) -> str:
    return "GPUs" if env == "local_gpu" else "cores"


def whole(option: Option | None) -> int:
    """The number that an option says; 0 if it is none."""
    return int(option.value) if option and option.value and option.value.isdecimal() else 0
