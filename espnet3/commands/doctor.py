"""``espnet3 doctor``: what stands between this machine and a run."""

from __future__ import annotations

import json
from collections.abc import Iterable

import click


@click.command(
    "doctor",
    context_settings={"ignore_unknown_options": True},
    short_help="Check the installation, the scheduler and the disks.",
)
@click.option("--worker", is_flag=True, help="Start one real worker of the backend, and ask it.")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object instead of lines.")
@click.argument(
    "words",
    nargs=-1,
    type=click.UNPROCESSED,
    metavar="[--parallel_config FILE | WORDS OF run.py]...",
)
def command(worker: bool, as_json: bool, words: tuple[str, ...]) -> None:
    """Check what runs need, and say what to do where it is not there.

    The backend and the directory of runs are those of the given config, of conf/inference.yaml if
    none is given and it is there, or else local workers and this directory. With --worker one
    worker is started as a run would start it (a job, on a cluster), and compared with the driver.

    The status is 0 if there is no problem, 1 if there is one, 2 if the config is wrong.
    """
    from espnet3.doctor.examine import examine
    from espnet3.doctor.finding import Finding, Level, summary
    from espnet3.doctor.words import read
    from espnet3.errors import ConfigError
    from espnet3.utils.logging import console_log

    def shown(findings: Iterable[Finding]) -> Iterable[Finding]:
        for finding in findings:
            if not as_json:
                click.echo("\n".join(finding.lines()))
            yield finding

    with console_log():
        try:
            asked = read(words)
        except ConfigError as error:
            click.echo(f"error: {error}", err=True)
            raise SystemExit(2) from None
        if not as_json:
            env, n = asked.parallel.env, asked.parallel.n_workers
            click.echo(f"env: {env}, n_workers: {n} ({asked.source})")
        found = list(shown(examine(asked, worker)))
    healthy = all(finding.level is not Level.PROBLEM for finding in found)
    if as_json:
        checks = [vars(finding) for finding in found]
        told = {"ok": healthy, "env": asked.parallel.env, "source": asked.source, "checks": checks}
        click.echo(json.dumps(told, ensure_ascii=False, indent=2))
    else:
        click.echo(summary(found))
    raise SystemExit(0 if healthy else 1)
