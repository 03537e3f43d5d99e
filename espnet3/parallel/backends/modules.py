"""Which modules are a backend. They are imported when it is asked for."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any


@dataclass(frozen=True)
class Backend:
    """A backend that is neither local nor one of dask-jobqueue's.

    Attributes:
        options: module with `option_problems(options)`, a list of sentences, and `check(options)`,
            which raises `ConfigError` for those and for what this host lacks. It must be quick to
            import, and need no extra.
        cluster: module with `make_cluster(config, logs)`, which starts workers and gives a running
            `distributed.deploy.Cluster`.
    """

    options: str
    cluster: str

    def option_problems(self, options: Mapping[str, Any]) -> list[str]:
        """What is wrong with `parallel.options`, one sentence each."""
        found: list[str] = import_module(self.options).option_problems(options)
        return found

    def checked(self, options: Mapping[str, Any]) -> ModuleType:
        """The module that makes the cluster, once the options are found to hold here."""
        import_module(self.options).check(options)
        return import_module(self.cluster)


_HERE = "espnet3.parallel.backends"
BACKENDS = {
    "ssh": Backend(f"{_HERE}.ssh_options", f"{_HERE}.ssh"),
    "kube": Backend(f"{_HERE}.kube_options", f"{_HERE}.kube"),
}
"""By `parallel.env`."""
