"""Whoever else is on the host: what the ports of a run's processes say to those without its key."""

import asyncio
import socket
import ssl

import psutil
from distributed.comm import connect

from espnet3.parallel.credentials import make_credentials

PATIENCE = 2.0  # seconds that a stranger waits for an answer


def family(process):
    """A process and all that it started."""
    parent = psutil.Process(process.pid)
    return [parent, *parent.children(recursive=True)]


def listening(process):
    """Every listening socket of a process and of those that it started."""
    sockets = [c for one in family(process) for c in one.net_connections("all")]
    unix = [c.laddr for c in sockets if c.family == socket.AF_UNIX and c.laddr]
    return [c.laddr for c in sockets if c.status == psutil.CONN_LISTEN], unix


def anonymous():
    """TLS of somebody who has no key, and believes whatever is at the other end."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def foreign():
    """The same of somebody with the key of another run."""
    context = make_credentials().security().get_connection_args("client")["ssl_context"]
    context.verify_mode = ssl.CERT_NONE
    return context


async def gets_in(address, **arguments):
    """Whether a Dask client is answered."""
    try:
        comm = await connect(address, timeout=PATIENCE, **arguments)
    except (OSError, ValueError):  # not in TLS's words
        return False
    await comm.close()
    return True


async def answer_to_get(ip, port, context=None):
    """What a web browser gets."""
    try:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection(ip, port, ssl=context)
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            return await reader.read()
    except OSError:  # a timeout, too
        return b""


async def walk(ports):
    """What strangers get at each port: whether in over TCP and TLS, and what of a web server."""
    tcp = await asyncio.gather(*(gets_in(f"tcp://{ip}:{port}") for ip, port in ports))
    tls = await asyncio.gather(
        *(
            gets_in(f"tls://{ip}:{port}", ssl_context=context())
            for ip, port in ports
            for context in (anonymous, foreign)
        )
    )
    web = await asyncio.gather(
        *(
            answer_to_get(ip, port, context)
            for ip, port in ports
            for context in (None, anonymous(), foreign())
        )
    )
    return tcp, tls, web


def is_content(answer):
    """Whether an answer is more than a TLS alert."""
    return len(answer) > 0 and answer[0] != 21
