"""Tests wait for an event, not for a time: a busy machine takes minutes for what a quiet one does in a second."""

import time

PATIENCE = 600  # seconds, after which an event is taken never to come


def until(condition, seconds=PATIENCE):
    """What `condition()` returns, once that is true. AssertionError: it was not within `seconds`."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"waited in vain for {seconds} seconds"
        time.sleep(0.01)
    return found
