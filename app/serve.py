"""The dashboard's server: Streamlit for the pages, and beside it the stream of news that feeds the live figures.

Started by `nllab dashboard`, or by hand: streamlit run app/serve.py
"""

import asyncio
import json
import os
import signal
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from itertools import zip_longest
from pathlib import Path

import shared
import streamlit as st
from abandoned import closing_abandoned
from feed import Feed, together
from gate import Gate, Rules
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

HERE = Path(__file__).parent
NEWS_PER_SECOND = 16.0
STILL_ALIVE_SECONDS = 1.0
SUBPAGES = ("compare", "replay", "lessons", "tour", "glossary", "mathematics", "room")
MOST_RUNS = 4  # of one page
STOP_SECONDS = 5.0  # for a server that was asked to stop


async def live(request: Request) -> Response:
    """Server-sent events for the runs of one page, all over one connection: a browser has no more than six for all its
    tabs.

    Whoever holds this connection watches the runs, and a run that is watched goes on.
    """
    runs, ids = shared.runs(), request.path_params["ids"].split(",")[:MOST_RUNS]
    watched = [run for id in ids if (run := runs.get(id))]
    if len(watched) < len(ids):
        return PlainTextResponse("No run of this name is live. It was freed, or it never was.", status_code=404)
    asked = request.query_params.get("per_second", "")
    pause = 1 / min(max(float(asked) if asked.isdigit() else NEWS_PER_SECOND, 1.0), NEWS_PER_SECOND)
    places = request.headers.get("last-event-id", "").split("|")
    feeds = [Feed(run, place) for run, place in zip_longest(watched, places[: len(watched)], fillvalue="")]  # type: ignore[arg-type]

    async def news() -> AsyncIterator[str]:
        shared.watchers.update(ids)
        quiet = 0.0
        try:
            yield "retry: 1000\n\n"
            while not await request.is_disconnected():
                for run in watched:
                    runs.seen(run.id)
                    if run.ceiling:
                        runs.seen(run.ceiling.id)
                if message := together(feeds):
                    place = "|".join(feed.place for feed in feeds)
                    yield f"id: {place}\ndata: {json.dumps(message, separators=(',', ':'))}\n\n"
                    quiet = 0.0
                elif quiet >= STILL_ALIVE_SECONDS:
                    yield ": still here\n\n"
                    quiet = 0.0
                if any(run.closed for run in watched) or shared.stopping.is_set():
                    return
                await asyncio.sleep(pause)
                quiet += pause
        finally:
            shared.watchers.subtract(ids)

    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(news(), media_type="text/event-stream", headers=headers)


async def plotly_script(_: Request) -> Response:
    found = find_spec("plotly")
    assert found and found.origin
    path = Path(found.origin).parent / "package_data" / "plotly.min.js"
    return FileResponse(path, media_type="text/javascript", headers={"cache-control": "max-age=604800, immutable"})


@cache
def subpage_document() -> str:
    """Streamlit's document for a page below the root. Told where the server is, the browser does not look for it below
    that page first, which fails with two errors on its console. A proxy may have put a path in front of the page's."""
    index = (Path(st.__file__).parent / "static" / "index.html").read_text(encoding="utf-8")
    root = r"location.origin + location.pathname.replace(/\/[^/]*\/?$/, '')"
    return index.replace("<head>", f"<head><script>window.__streamlit = {{ BACKEND_BASE_URL: {root} }};</script>", 1)


async def subpage(_: Request) -> Response:
    return HTMLResponse(subpage_document(), headers={"cache-control": "no-cache"})


async def stat(_: Request) -> Response:
    spent = {"all": time.process_time(), "training": shared.runs().cpu_seconds}
    return JSONResponse(
        {"runs": shared.runs().status(), "watchers": +shared.watchers, "plotly": version("plotly"), "cpu": spent}
    )


def end_news_with_the_server() -> None:
    """A server asked to stop waits for open connections, and the news would go on for ever: end them first, and the
    trainings, which would take the processor from it. What is not done in time is left: what runs had
    done by then is written."""

    def leave():
        for run in shared.runs().all():
            run.pause()
        if kept := shared.keeper():
            kept.close()
        time.sleep(STOP_SECONDS)
        os._exit(0)

    def wrap(before):
        def stop(number, frame):
            if not shared.stopping.is_set():
                shared.stopping.set()
                threading.Thread(target=leave, name="leave", daemon=True).start()
            before(number, frame)

        return stop

    for number in (signal.SIGINT, signal.SIGTERM):
        if callable(before := signal.getsignal(number)):
            signal.signal(number, wrap(before))


@asynccontextmanager
async def lifespan(_: st.App):
    shared.warm()
    if threading.current_thread() is threading.main_thread():
        end_news_with_the_server()
    async with closing_abandoned(min(shared.FREE_AFTER, 60)):
        yield


routes = [
    Route("/live/{ids}", live),
    Route("/assets/plotly.min.js", plotly_script),
    *(Route(f"/{page}", subpage) for page in SUBPAGES),
]
if shared.TESTING:
    routes.append(Route("/stat", stat))
gate = Middleware(Gate, rules=Rules.from_environment(), pages=SUBPAGES)
app = st.App(HERE / "main.py", routes=routes, middleware=[gate], lifespan=lifespan)
