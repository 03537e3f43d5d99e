"""What a worker has of the driver's: variables for threads, the way to modules, the directory."""

import os
import shlex
import sys
import sysconfig

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


def shell_lines(cores: int) -> list[str]:
    """Shell lines that give workers what the driver has: modules, directory, threads."""
    lines = [f"export {name}={shlex.quote(value)}" for name, value in variables(cores).items()]
    return [*lines, f"cd {shlex.quote(os.getcwd())}"]


def variables(cores: int) -> dict[str, str]:
    """Environment variables that give workers what the driver has: threads and modules."""
    threads = {name: os.environ.get(name) or str(cores) for name in THREAD_VARIABLES}
    return {**threads, "PYTHONPATH": os.pathsep.join(import_path())}


def import_path() -> list[str]:
    """What the driver imports from beside its installed packages, the recipe's directory first."""
    installed = tuple(os.path.realpath(path) + os.sep for path in {sys.prefix, sys.base_prefix}) + (
        os.path.realpath(sysconfig.get_path("stdlib")),
    )
    paths = (os.path.abspath(path) for path in sys.path)
    return list(
        dict.fromkeys(
            path
            for path in paths
            if os.path.exists(path) and not os.path.realpath(path).startswith(installed)
        )
    )
