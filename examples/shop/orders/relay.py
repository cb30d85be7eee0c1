"""Brings what is in the outbox onto the bus: at once after each commit, and again later for what failed.

At least once: an event may be published twice with the same id when the process dies between publishing and
noting it, which consumers tell by the id.
"""

import sys
import threading

import platform_calls
from store import Store, Waiting

PAUSE = 2.0  # seconds between looks at what failed


class Relay:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._busy = threading.Lock()
        threading.Thread(target=self._run, daemon=True, name="relay").start()

    def flush(self) -> None:
        """Publishes all that waits; what cannot be published stays for later."""
        with self._busy:
            for waiting in self._store.waiting():
                if not self._publish(waiting):
                    return

    def _publish(self, waiting: Waiting) -> bool:
        try:
            platform_calls.publish(waiting.event, waiting.traceparent)
        except OSError as error:
            print(f"event {waiting.id} stays in the outbox: {error}", file=sys.stderr, flush=True)
            return False
        self._store.published(waiting.id)
        return True

    def _run(self) -> None:
        pause = threading.Event()
        while True:
            self.flush()
            pause.wait(PAUSE)
