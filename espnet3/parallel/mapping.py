"""The work behind `parallel_map` and `parallel_for`: chunks of elements as Dask tasks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from espnet3.parallel.env_provider import check_env
from espnet3.parallel.modules_by_path import Carried
from espnet3.parallel.worker.inject import select_env
from espnet3.parallel.worker_env import DictReturnWorkerPlugin, current_env

if TYPE_CHECKING:
    from distributed import Client

CHUNKS_PER_WORKER = 8  # Dask moves some 500 tasks a second, so single elements would crawl


def map_here(
    func: Callable[..., Any],
    elements: list[Any],
    setup_fn: Callable[[], dict[str, Any]] | None,
) -> Iterator[tuple[int, Any]]:
    """Call `func` on each element in this process; yields (index, result)."""
    env = check_env(setup_fn(), "setup_fn") if setup_fn else {}
    selected = select_env(func, env, n_given=1)
    for index, element in enumerate(elements):
        yield index, func(element, **selected)


@contextmanager
def env_on_workers(
    client: "Client", setup_fn: Callable[[], dict[str, Any]] | None
) -> Iterator[None]:
    """Let tasks of `client` find the env of `setup_fn`; not those that come after the block."""
    if setup_fn is None:
        yield
        return
    client.register_plugin(DictReturnWorkerPlugin(setup_fn), name=DictReturnWorkerPlugin.name)
    try:
        yield
    finally:
        with suppress(OSError):  # the cluster is gone already
            client.unregister_worker_plugin(DictReturnWorkerPlugin.name)


def map_on_client(
    func: Callable[..., Any],
    elements: list[Any],
    client: "Client",
    setup_fn: Callable[[], dict[str, Any]] | None,
) -> Iterator[tuple[int, Any]]:
    """Call `func` on each element on the client's workers; yields (index, result) as they come."""
    from distributed import as_completed

    workers = max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
    size = max(1, len(elements) // (workers * CHUNKS_PER_WORKER))
    with env_on_workers(client, setup_fn):
        carried = Carried(func)
        futures = [
            client.submit(_call_chunk, carried, first, elements[first : first + size], pure=False)
            for first in range(0, len(elements), size)
        ]
        try:
            for future in as_completed(futures):
                yield from future.result()
        finally:
            client.cancel(futures)


def _call_chunk(carried: Carried, first: int, chunk: list[Any]) -> list[tuple[int, Any]]:
    func = carried.value
    try:
        selected = select_env(func, current_env(), n_given=1)
        return [(first + i, func(element, **selected)) for i, element in enumerate(chunk)]
    except SystemExit as error:  # it would end the worker, and tell nobody why
        raise RuntimeError(f"{func.__name__} called sys.exit({error.code!r})") from error
