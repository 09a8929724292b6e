"""The dashboard's server: Streamlit for the pages, and beside it the stream of news that feeds the live figures.

Started by `nllab dashboard`, or by hand: streamlit run app/serve.py
"""

import asyncio
import json
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import shared
import streamlit as st
from feed import Feed
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

HERE = Path(__file__).parent
NEWS_PER_SECOND = 10.0
STILL_ALIVE_SECONDS = 1.0


async def live(request: Request) -> Response:
    """Server-sent events for one run. Whoever holds this connection watches the run, and a run that is watched goes on."""
    runs, id = shared.runs(), request.path_params["id"]
    run = runs.get(id)
    if run is None:
        return PlainTextResponse("No run of this name is live. It was freed, or it never was.", status_code=404)
    asked = request.query_params.get("per_second", "")
    pause = 1 / min(max(float(asked) if asked.isdigit() else NEWS_PER_SECOND, 1.0), NEWS_PER_SECOND)
    feed = Feed(run, request.headers.get("last-event-id", ""))

    async def news() -> AsyncIterator[str]:
        shared.watchers[id] += 1
        quiet = 0.0
        try:
            yield "retry: 1000\n\n"
            while not await request.is_disconnected():
                runs.seen(id)
                message = feed.news()
                if message:
                    yield f"id: {feed.place}\ndata: {json.dumps(message, separators=(',', ':'))}\n\n"
                    quiet = 0.0
                elif quiet >= STILL_ALIVE_SECONDS:
                    yield ": still here\n\n"
                    quiet = 0.0
                if run.closed or shared.stopping.is_set():
                    return
                await asyncio.sleep(pause)
                quiet += pause
        finally:
            shared.watchers[id] -= 1

    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(news(), media_type="text/event-stream", headers=headers)


async def plotly_script(_: Request) -> Response:
    found = find_spec("plotly")
    assert found and found.origin
    path = Path(found.origin).parent / "package_data" / "plotly.min.js"
    return FileResponse(path, media_type="text/javascript", headers={"cache-control": "max-age=604800, immutable"})


async def stat(_: Request) -> Response:
    return JSONResponse({"runs": shared.runs().status(), "watchers": +shared.watchers, "plotly": version("plotly")})


def end_news_with_the_server() -> None:
    """A server asked to stop waits for open connections, and the news would go on for ever: end them first."""

    def wrap(before):
        def stop(number, frame):
            shared.stopping.set()
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
    yield


routes = [Route("/live/{id}", live), Route("/assets/plotly.min.js", plotly_script)]
if shared.TESTING:
    routes.append(Route("/stat", stat))
app = st.App(HERE / "frame.py", routes=routes, lifespan=lifespan)
