"""Time that overlapping work takes together."""

from __future__ import annotations

import threading
import time


class Clock:
    """Seconds during which at least one inference was running; any thread may start and stop it."""

    def __init__(self) -> None:
        self.busy_s = 0.0
        self._lock = threading.Lock()
        self._running = 0
        self._since = 0.0

    def start(self) -> None:
        """Note that an inference begins."""
        with self._lock:
            if self._running == 0:
                self._since = time.perf_counter()
            self._running += 1

    def stop(self) -> None:
        """Note that an inference ended."""
        with self._lock:
            self._running -= 1
            if self._running == 0:
                self.busy_s += time.perf_counter() - self._since
