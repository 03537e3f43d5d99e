"""Real schedulers on this machine, brought up for the tests and taken down after them.

They take over parts of the machine, so this refuses to run on one that is not meant for it.
"""

import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest

from espnet3.parallel.parallel import reset_parallel

LABS = Path(__file__).with_name("labs")
WORKLOADS = Path(__file__).parents[1] / "parallel"
sys.path[:0] = [str(WORKLOADS), str(Path(__file__).parent)]

CONFIGURED = {
    "slurm": (
        {"slurmctld", "slurmd", "munged"},
        ("/etc/slurm/slurm.conf", "/etc/slurm-llnl/slurm.conf"),
        ("SLURM_CONF", "SLURM_JOB_ID"),
    ),
    "sge": ({"sge_qmaster", "sge_execd"}, (), ("SGE_ROOT",)),
    "ssh": (set(), (), ()),
    "oar": ({"Almighty"}, (), ("OAR_JOB_ID",)),
}
"""Daemons, files and variables that tell of a scheduler that is not ours."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With `--dist loadfile`, all files on one lab, such as `test_slurm*.py`, go to one process."""
    from xdist.scheduler import LoadFileScheduling

    class LoadLabScheduling(LoadFileScheduling):
        def _split_scope(self, nodeid):
            return Path(nodeid.partition("::")[0]).stem.split("_")[1]

    return LoadLabScheduling(config, log) if config.getvalue("dist") == "loadfile" else None


def refusal(name):
    """Why no lab of that name may be brought up here; None if it may."""
    if os.environ.get("CI") != "true" and os.environ.get("LAB") != "1":
        return "these tests start schedulers on this machine: set LAB=1 if it is meant for that"
    if os.geteuid() != 0:
        return "schedulers are started as root"
    daemons, files, variables = CONFIGURED[name]
    found = [path for path in files if Path(path).exists()]
    found += [f"${variable}" for variable in variables if variable in os.environ]
    found += sorted(daemons & set(running()))
    return f"this host has {name} already: {', '.join(found)}" if found else None


def running():
    """Names of all processes; those that only wait to be reaped have no command line."""
    for path in Path("/proc").glob("[0-9]*/comm"):
        with suppress(OSError):  # it has just ended
            if path.with_name("cmdline").read_bytes():
                yield path.read_text().strip()


@pytest.fixture(scope="session")
def lab_dir():
    with tempfile.TemporaryDirectory(prefix="espnet3-lab-") as path:
        os.chmod(path, 0o755)
        yield Path(path)


def lab(name, lab_dir, **variables):
    """Start and stop one lab; meanwhile, these environment variables are set."""
    why = refusal(name)
    if why:
        pytest.fail(why)
    environ = {**os.environ, "LAB_DIR": str(lab_dir)}

    def call(verb):
        done = subprocess.run(
            ["bash", str(LABS / f"{name}.sh"), verb], env=environ, capture_output=True, text=True
        )
        if done.returncode:
            pytest.fail(f"{name}.sh {verb}: {done.stdout}{done.stderr}")

    call("install")
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in variables.items():
            patch.setenv(variable, value)
        try:
            call("start")
            yield
        finally:
            call("stop")


@pytest.fixture(scope="session")
def slurm_lab(lab_dir):
    yield from lab("slurm", lab_dir, SLURM_CONF=str(lab_dir / "slurm" / "slurm.conf"))


@pytest.fixture(scope="session")
def sge_lab(lab_dir):
    yield from lab("sge", lab_dir, SGE_ROOT="/var/lib/gridengine", SGE_CELL="default")


@pytest.fixture(scope="session")
def ssh_lab(lab_dir):
    """The `ssh` command that reaches 127.0.0.1 to 127.0.0.4."""
    for _ in lab("ssh", lab_dir):
        yield f"ssh -F {lab_dir / 'ssh' / 'ssh_config'} -o BatchMode=yes"


@pytest.fixture
def queue_is_left_empty():
    """What every test on Slurm shows: its jobs end with it."""
    from drivers import await_that
    from slurm_jobs import call, queue

    yield
    try:
        await_that(lambda: not queue())
    finally:
        call("scancel", "--state=PENDING")
        call("scancel", "--state=RUNNING")


@pytest.fixture(scope="session")
def oar_lab(lab_dir):
    yield from lab("oar", lab_dir)


@pytest.fixture(autouse=True)
def _nothing_is_set():
    reset_parallel()
    yield
    reset_parallel()


@pytest.fixture(autouse=True)
def _by_value(by_value):
    """For every test here."""


@pytest.fixture
def log(tmp_path):
    """Where workloads note what they did."""
    path = tmp_path / "log"
    path.mkdir()
    return path


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def start_driver(log, out):
    """Start a driver in a process of its own."""
    from drivers import drivers

    with drivers(Path(__file__).with_name("run_logged.py"), out, log) as start:
        yield start
