"""How busy GPUs are, as the driver says it, sampled while something else runs."""

import threading
import time
from types import TracebackType
from typing import Any

_EVERY = 0.1
"""Seconds between samples; the driver's own window is about as long."""


class Watch:
    """Samples the first `n` GPUs from entering to leaving; none if the driver cannot be asked."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._samples: list[tuple[float, float]] = []
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "Watch":
        try:
            import pynvml

            pynvml.nvmlInit()
            handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(self._n)]
        except Exception:  # no package, no driver, no such GPU: all mean the same here
            return self
        self._thread = threading.Thread(target=self._sample, args=(pynvml, handles), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def share(self, begin: float, end: float) -> float | None:
        """Mean share of the time that a kernel ran, from `begin` to `end` of `time.monotonic`."""
        within = [share for when, share in self._samples if begin <= when <= end]
        return sum(within) / len(within) if within else None

    def _sample(self, pynvml: Any, handles: list[Any]) -> None:
        while not self._ended.wait(_EVERY):
            try:
                rates = [pynvml.nvmlDeviceGetUtilizationRates(handle).gpu for handle in handles]
            except pynvml.NVMLError:
                return
            self._samples.append((time.monotonic(), sum(rates) / len(rates) / 100))
