"""What Dask's scheduler, which lives in the driver, is told on every backend.

It is also a preload module of that scheduler.
"""

import os
import socket
from collections.abc import Mapping
from typing import Any

from espnet3.errors import ConfigError
from espnet3.parallel.wording import nearest

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
    """All options, those of the user included, of one that workers on other hosts reach.

    Raises:
        ConfigError: if this host has no such interface, or cannot listen at such an address.
    """
    from distributed.utils import get_ip

    if "host" in given or "interface" in given:
        where = {}
    elif interface:
        where = {"interface": interface}
    else:  # the address by which other hosts most likely reach this one
        where = {"host": get_ip()}
    key = "interface" if where else "scheduler_options.interface"
    _check_interface(f"parallel.options.{key}", {**where, **given}.get("interface"))
    _check_address(given.get("host"), given.get("port"))
    return {**where, "protocol": "tls" if secure else "tcp", **web_server(given)}


def _check_interface(key: str, interface: str | None) -> None:
    import psutil  # type: ignore[import-untyped]

    names = psutil.net_if_addrs()
    if interface is not None and interface not in names:
        raise ConfigError(
            f"{key}: {os.uname().nodename} has no network interface {interface!r}; "
            f"{nearest(interface, names)}"
        )


def _check_address(host: Any, port: Any) -> None:
    """Try what Dask, which does not say what was wrong, is about to do."""
    if not isinstance(host, str) or "/" in host:  # Dask knows other ways to write it
        return
    port = port if isinstance(port, int) else 0
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        where = f"{host!r}" + (f", port {port}" if port else "")
        raise ConfigError(
            f"parallel.options.scheduler_options: {os.uname().nodename} cannot listen at {where} "
            f"({error.strerror}); write one of its own addresses, or leave it out"
        ) from error
