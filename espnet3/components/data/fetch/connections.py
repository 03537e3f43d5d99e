"""Connections to servers, kept open from one file to the next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

if TYPE_CHECKING:
    from urllib3 import PoolManager


class Connections:
    """The connections of one process, one to a server: a handshake may take longer than a file.

    Args:
        timeout: Seconds without a byte, or without a connection, after which one is given up.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._pools: dict[str, PoolManager] = {}
        """By the URL of the proxy, "" without one."""

    def to(self, url: str) -> tuple[PoolManager, str, dict[str, str]]:
        """Give a pool for a URL, the URL as it is asked for, and the headers that go with it."""
        from urllib3 import make_headers

        parts = urlsplit(url)
        user, at, host = parts.netloc.rpartition("@")
        headers = {"User-Agent": "espnet3", "Accept-Encoding": "identity"}
        if at:
            headers |= make_headers(basic_auth=unquote(user))
        address = urlunsplit((parts.scheme, host, parts.path, parts.query, ""))
        proxy = getproxies().get(parts.scheme, "")
        proxy = "" if proxy and proxy_bypass(host) else proxy
        if proxy not in self._pools:
            self._pools[proxy] = self._pool(proxy)
        return self._pools[proxy], address, headers

    def _pool(self, proxy: str) -> PoolManager:
        from urllib3 import PoolManager, ProxyManager, make_headers

        options: dict[str, Any] = {"timeout": self._timeout, "maxsize": 1}
        if not proxy:
            return PoolManager(**options)
        user = urlsplit(proxy).netloc.rpartition("@")[0]
        if user:
            options["proxy_headers"] = make_headers(proxy_basic_auth=unquote(user))
        return ProxyManager(proxy, **options)
