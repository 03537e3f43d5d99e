"""The owner's heartbeat: a counter in its lock file, for drivers on other hosts.

It is written over in place, always as many bytes, so that a full disk does not stop it. A thread
does it, which never holds anything up: at the end nobody waits for it or for its disk.
"""

import errno
import logging
import os
import signal
import threading
from collections.abc import Callable

from espnet3.parallel.engine.owner import BEAT_AT, encode_beat

logger = logging.getLogger(__name__)

BEAT = 10.0  # seconds between two beats
FIRST_BEAT = 1.0  # seconds to the first, which brings the record to those who share the disk


class Heartbeat:
    """Counts up in the record that an owner has written into its lock file, until `stop`.

    Args:
        fd: the owner's open lock file. Whatever takes that file's name later is never written to.
        path: its name, for messages.
        after: called by the thread after each beat.
    """

    def __init__(self, fd: int, path: str, after: Callable[[], object] = lambda: None) -> None:
        self._after = after
        self._path = path
        self._fd = os.dup(fd)  # the thread's own, so that it can be left to itself
        self._beat = 0
        self._stopped = threading.Event()
        self._writing = threading.Lock()
        self._warned = False
        threading.Thread(target=self._run, name="espnet3-heartbeat", daemon=True).start()

    def stop(self) -> None:
        """From here on nothing is written."""
        with self._writing:
            self._stopped.set()

    def _run(self) -> None:
        # Signals are the main thread's, which they have to wake.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pause = min(FIRST_BEAT, BEAT)
            while not self._stopped.wait(pause):
                self._write()
                self._after()
                pause = BEAT
        finally:
            os.close(self._fd)

    def _write(self) -> None:
        try:
            with self._writing:
                if self._stopped.is_set():
                    return
                self._beat += 1
                os.pwrite(self._fd, encode_beat(self._beat), BEAT_AT)
            os.fdatasync(self._fd)  # else NFS may keep it here for half a minute
        except OSError as error:
            if not self._warned and error.errno != errno.ESTALE:  # that file is another's now
                self._warned = True
                logger.warning(
                    "the heartbeat in %s cannot be written (%s); a driver on another host may take "
                    "this one for dead",
                    self._path,
                    error.strerror,
                )
