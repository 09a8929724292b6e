"""Who may train now, and who stands in line."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Turns:
    """Who may train now: at most `limit` groups, the others in line. Who has trained for `seconds` while others wait
    goes to its end.

    A group is one run, or several that train side by side.
    """

    def __init__(self, limit: int, seconds: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit, self.seconds, self.clock = limit, seconds, clock
        self._line: dict[str, float | None] = {}  # group -> since when it has trained, in the order of the line
        self._lock = threading.Lock()

    def ask(self, group: str) -> int:
        """0 if the group may train now, else its place in line, from 1; who is not in line yet joins its end."""
        with self._lock:
            self._line.setdefault(group, None)
            place = list(self._line).index(group)
            since = self._line[group]
            if place >= self.limit:
                return place - self.limit + 1
            if since is None:
                self._line[group] = self.clock()
            elif len(self._line) > self.limit and self.clock() - since > self.seconds:
                del self._line[group]
                self._line[group] = None
                return len(self._line) - self.limit
            return 0

    def leave(self, group: str) -> None:
        """Take a group out of the order of turns."""
        with self._lock:
            self._line.pop(group, None)
