"""Nobody but the driver and its workers gets through the ports of a run, and no key is left."""

import asyncio
import datetime
import logging
import os
import signal
import stat
import sys
from pathlib import Path

import psutil
import pytest
from cryptography import x509
from drivers import DEADLINE, await_that, is_running
from strangers import answer_to_get, family, is_content, listening, walk
from workloads import Lines, Provider, lines_of, note, notes, pids, tell

from espnet3.errors import ConfigError
from espnet3.parallel.clusters import open_cluster
from espnet3.parallel.config import parse_parallel
from espnet3.parallel.credentials import KeyFiles, make_credentials
from espnet3.parallel.parallel import get_client, set_parallel

SLURM = {
    "env": "slurm",
    "n_workers": 1,
    "options": {"memory": "500MB", "walltime": "10", "interface": "lo", "death_timeout": 5},
}


@pytest.mark.parametrize("secure", [True, False])
def test_no_port_of_a_run_answers_a_stranger(log, out, start_driver, secure):
    tell(log, 5, "hold")
    driver = start_driver(10, n_workers=2, lease_seconds=1e-6, security=None if secure else False)
    await_that(lambda: notes(log, "held"), driver)
    ports, unix = listening(driver)
    assert len(ports) == 5  # the scheduler, two nannies, two workers
    assert unix == []
    assert {ip for ip, _ in ports} == {"127.0.0.1"}
    tcp, tls, web = asyncio.run(walk(ports))
    assert not any(answer.startswith(b"HTTP") for answer in web)
    assert not any(tls)
    if secure:
        assert not any(tcp)
        assert not any(map(is_content, web))
    else:  # so it was no fault of the stranger's
        assert all(tcp)
    tell(log, 5, None)
    assert driver.wait(DEADLINE) == 0
    assert (out / "text").read_bytes() + (out / "ids").read_bytes() == lines_of(range(10))


def test_security_false_says_what_it_means(caplog):
    with (
        caplog.at_level(logging.WARNING),
        get_client({"n_workers": 2, "security": False}) as client,
    ):
        assert client.submit(pow, 2, 3).result() == 8
        assert client.cluster.scheduler_address.startswith("tcp://")
    assert "can run code as you" in caplog.text


def test_workers_make_no_credentials_and_clients_have_them(log, out):
    class Asks(Lines):
        @staticmethod
        def forward(idx, log, **env):
            note(log, "loaded", "cryptography" in sys.modules)
            return {"utt_id": f"utt{idx}", "text": "x"}

    set_parallel({"n_workers": 2})
    Asks(Provider(log), output_dir=out)(range(4))
    assert set(notes(log, "loaded")) == {"False"}
    with get_client() as client:
        assert client.submit(pow, 2, 3).result() == 8
        workers = client.scheduler_info(n_workers=-1)["workers"]
        assert all(address.startswith("tls://127.0.0.1:") for address in workers)
        assert all(info["nanny"].startswith("tls://127.0.0.1:") for info in workers.values())


def test_the_web_server_of_dask_is_there_for_those_who_ask_for_it():
    options = {"dashboard_address": "127.0.0.1:0"}
    with get_client({"n_workers": 2, "options": options}) as client:
        port = client.cluster.scheduler.http_server.port
        assert asyncio.run(answer_to_get("127.0.0.1", port)).startswith(b"HTTP/1.1 ")


def test_certificate_is_good_where_the_clock_is_an_hour_behind_and_for_long():
    certificate = x509.load_pem_x509_certificate(make_credentials().certificate.encode())
    now, hour = datetime.datetime.now(datetime.UTC), datetime.timedelta(hours=1)
    assert certificate.not_valid_before_utc < now - hour
    assert certificate.not_valid_after_utc > now + 24 * 90 * hour


def test_key_is_not_shown_and_files_have_no_name_that_a_job_script_cannot_have(tmp_path):
    credentials = make_credentials()
    assert "PRIVATE" in credentials.key
    assert "PRIVATE" not in f"{credentials} {credentials.security()!r}"
    with pytest.raises(ConfigError, match="set parallel.options.shared_temp_directory"):
        KeyFiles(tmp_path / "a b")


@pytest.fixture
def jobs(tmp_path, monkeypatch):
    """A Slurm that runs jobs here at once; yields where it keeps their scripts."""
    programs, jobs = tmp_path / "bin", tmp_path / "jobs"
    programs.mkdir()
    jobs.mkdir()
    for name, text in {
        "sbatch": f'cp "$1" {jobs}/script.$$\n'
        f"setsid sh {jobs}/script.$$ > {jobs}/log.$$ 2>&1 < /dev/null &\n"
        'echo "Submitted batch job $!"\n',
        "scancel": 'kill "$1"\n',
    }.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    return jobs


def key_directories(out):
    return list((out / "logs").glob(".tls-*"))


def jobs_of(jobs):
    """The processes of jobs; their arguments name the key file."""
    found = [(p, " ".join(p.info["cmdline"] or [])) for p in psutil.process_iter(["cmdline"])]
    return [p for p, line in found if "worker.entry" in line and str(jobs.parent) in line]


def test_jobs_find_the_key_in_a_file_that_only_the_user_reads(
    log, out, tmp_path, start_driver, jobs
):
    tell(log, 5, "hold")
    driver = start_driver(10, **SLURM)
    await_that(lambda: notes(log, "held"), driver)
    (directory,) = key_directories(out)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}
    secret = (directory / "key.pem").read_text().splitlines()[1]
    assert secret not in "".join(p.read_text() for p in jobs.iterdir())
    told = [path for path in tmp_path.rglob("*") if path.is_file() and directory != path.parent]
    assert not any(secret.encode() in path.read_bytes() for path in told)
    (job,) = jobs_of(jobs)
    for process in (*family(driver), *family(job)):
        assert secret not in " ".join(process.cmdline())
        assert secret not in " ".join(process.environ().values())
    ports = [*listening(driver)[0], *listening(job)[0]]
    assert len(ports) == 3  # the scheduler, the nanny, the worker
    tcp, tls, web = asyncio.run(walk(ports))
    assert not any([*tcp, *tls, *map(is_content, web)])
    tell(log, 5, None)
    assert driver.wait(DEADLINE) == 0
    assert (out / "text").read_bytes() + (out / "ids").read_bytes() == lines_of(range(10))
    assert key_directories(out) == []


def test_closing_a_cluster_of_jobs_removes_the_key(out, jobs):
    parallel, _ = parse_parallel(SLURM)
    with open_cluster(parallel, out / "logs"):
        assert len(key_directories(out)) == 1
    assert key_directories(out) == []
    await_that(lambda: not jobs_of(jobs))


@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGINT] * 2, [signal.SIGKILL]])
def test_no_key_file_outlives_the_driver_or_its_successor(log, out, start_driver, jobs, signals):
    tell(log, 5, "hold")
    driver = start_driver(10, **SLURM)
    await_that(lambda: notes(log, "held"), driver)
    assert len(key_directories(out)) == 1
    for number in signals:
        os.kill(driver.pid, number)
        if number != signal.SIGKILL:
            await_that(lambda: "Stopping after" in (log / "driver.txt").read_text(), driver)
    if signals == [signal.SIGTERM]:
        tell(log, 5, None)
    driver.wait(DEADLINE)
    if signals == [signal.SIGKILL]:
        assert len(key_directories(out)) == 1
        KeyFiles(out / "logs").remove()
    assert key_directories(out) == []
    tell(log, 5, None) if signals != [signal.SIGTERM] else None
    await_that(lambda: not any(map(is_running, pids(log))))


def test_key_files_of_the_living_stay(tmp_path):
    first, second = KeyFiles(tmp_path), KeyFiles(tmp_path)
    assert Path(first.credentials.key).exists()
    second.remove()
    assert Path(first.credentials.key).exists()
