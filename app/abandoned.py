"""Sessions whose page has gone: Streamlit keeps them, each with an event loop of three handles, until others come."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from streamlit.runtime import get_instance

LOOK_EVERY = 5.0  # seconds


def close_abandoned(since: dict[str, float], seconds: float, now: float) -> int:
    """Close the sessions that have had no page for `seconds`; how many. since: when each was first seen without one.

    To be called on the event loop of the server. The list of sessions without a page is not public in Streamlit."""
    manager = get_instance()._session_mgr
    ids = {info.session.id for info in manager.list_sessions()}
    abandoned = {id for id in ids if not manager.is_active_session(id)}
    for id in since.keys() - abandoned:
        del since[id]
    over = [id for id in abandoned if now - since.setdefault(id, now) >= seconds]
    for id in over:
        get_instance().close_session(id)
    return len(over)


@asynccontextmanager
async def closing_abandoned(seconds: float) -> AsyncIterator[None]:
    """While this lasts, whoever closes a page may return to its session for `seconds`; then it is closed."""

    async def look_for_ever() -> None:
        since: dict[str, float] = {}
        while True:
            await asyncio.sleep(min(LOOK_EVERY, max(seconds, 0.1)))
            if close_abandoned(since, seconds, time.monotonic()):
                gc.collect()  # a session refers to itself

    looking = asyncio.create_task(look_for_ever())
    try:
        yield
    finally:
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking
