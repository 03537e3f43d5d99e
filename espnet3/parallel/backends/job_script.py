"""The script of a batch job, for people: nothing is submitted."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from espnet3.parallel.backends.job import job_class
from espnet3.parallel.backends.jobqueue import check_size, job_options
from espnet3.parallel.credentials import KeyFiles

DRIVER = "<driver>:<port>"
"""Stands for the driver's address, which nobody knows before it listens."""


def job_script(env: str, options: Mapping[str, Any], logs: Path, secure: bool = True) -> str:
    """The job script of one worker, but for the driver's address and the name of the TLS key.

    Raises:
        ConfigError: if options are wrong, or no node is large enough for the job.
    """
    given = job_options(env, options, logs)
    place = Path(given.pop("shared_temp_directory", logs))
    job_logs = given["log_directory"]
    for key in ("scheduler_options", "silence_logs"):
        given.pop(key, None)
    if secure:
        given |= {"security": KeyFiles.stand_in(place).security(), "protocol": "tls"}
    with TemporaryDirectory() as stand_in:  # Dask's class makes the directory that it is given
        given["log_directory"] = stand_in
        job = job_class(env, None)(driver_address(secure), f"{env}-0", **given)
        script: str = job.job_script().replace(stand_in, str(job_logs))
    check_size(env, script)
    return script


def driver_address(secure: bool) -> str:
    """A stand-in for it."""
    return f"{'tls' if secure else 'tcp'}://{DRIVER}"
