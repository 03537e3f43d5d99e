"""What Dask's scheduler, which lives in the driver, is told on every backend.

It is also a preload module of that scheduler.
"""

from collections.abc import Mapping
from typing import Any

_SILENT = {"dashboard_address": "127.0.0.1:0", "dashboard": False, "preload": [__name__]}
_PAGES = {"dashboard_address": "127.0.0.1:8787"}


def web_server(given: Mapping[str, Any]) -> dict[str, Any]:
    """Options that stop its web server; `given` may ask for one, by `dashboard_address`.

    Whoever can reach one sees what runs: it has no login.
    """
    return {**(_PAGES if any(key.startswith("dashboard") for key in given) else _SILENT), **given}


def dask_setup(scheduler: Any) -> None:
    """Called by Dask when its scheduler starts, which has a web server in any case."""
    scheduler.http_server.stop()


def listening(given: Mapping[str, Any], interface: str | None, secure: bool) -> dict[str, Any]:
    """All options, those of the user included, of one that workers on other hosts reach."""
    from distributed.utils import get_ip

    # The address by which other hosts most likely reach this one.
    where = {"interface": interface} if interface else {"host": get_ip()}
    return {**where, "protocol": "tls" if secure else "tcp", **web_server(given)}
