"""The dashboard behind a proxy that puts a path in front of it, in a real browser: one that keeps that path when it
asks the server, and one that takes it away."""

import asyncio
import contextlib
import socket
import threading

import httpx
import pytest
import uvicorn
import websockets
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from waiting import PATIENCE, until

from nllab.bench.live import CHROMIUM_OPTIONS, chromium_path, fetch, serving

playwright_api = pytest.importorskip("playwright.sync_api")
pytestmark = [pytest.mark.browser, pytest.mark.skipif(chromium_path() is None, reason="needs Chromium")]

PAGES = ("compare", "lessons", "tour", "replay", "glossary", "mathematics")
OF_THE_LINE = {"connection", "keep-alive", "transfer-encoding", "upgrade", "host", "content-length", "content-encoding"}
PREFIX = "/teaching/lab"


def proxy(target, keeps, own_host):
    """A reverse proxy below PREFIX. own_host: it asks with the server's own name, as nginx does, or else passes the
    browser's on."""

    def passed_on(headers):
        found = {name: value for name, value in headers.items() if name.lower() not in OF_THE_LINE}
        return found if own_host else found | {"host": headers["host"]}

    def path_of(address):
        path = address.path if keeps else address.path.removeprefix(PREFIX) or "/"
        return path + (f"?{address.query}" if address.query else "")

    async def http(request):
        asked = http_client.build_request(
            request.method,
            f"http://{target}{path_of(request.url)}",
            headers=passed_on(request.headers),
            content=await request.body(),
        )
        answer = await http_client.send(asked, stream=True)
        headers = {name: value for name, value in answer.headers.items() if name not in OF_THE_LINE}
        return StreamingResponse(
            answer.aiter_bytes(), answer.status_code, headers, background=BackgroundTask(answer.aclose)
        )

    async def stream(near):
        kinds = near.scope["subprotocols"]
        skipped = OF_THE_LINE | {name for name in near.headers if name.startswith("sec-websocket")}
        headers = {name: value for name, value in near.headers.items() if name not in skipped}
        asked = f"ws://{target if own_host else near.headers['host']}{path_of(near.url)}"
        host, _, port = target.partition(":")
        async with websockets.connect(
            asked, additional_headers=headers, subprotocols=kinds, max_size=None, proxy=None, host=host, port=int(port)
        ) as far:
            await near.accept(far.subprotocol)

            async def up():
                while (message := await near.receive())["type"] == "websocket.receive":
                    await far.send(message.get("bytes") or message.get("text"))

            async def down():
                async for message in far:
                    await near.send_bytes(message)

            ends = [asyncio.create_task(up()), asyncio.create_task(down())]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for end in ends:
                end.cancel()
            await asyncio.gather(*ends, return_exceptions=True)

    async def elsewhere(_):
        return PlainTextResponse("not below the prefix", status_code=404)

    @contextlib.asynccontextmanager
    async def lifespan(_):
        nonlocal http_client
        async with httpx.AsyncClient(timeout=None) as http_client:
            yield

    http_client = None
    methods = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"]
    below = PREFIX + "/{rest:path}"
    return Starlette(
        routes=[
            WebSocketRoute(below, stream),
            Route(below, http, methods=methods),
            Route("/{rest:path}", elsewhere, methods=methods),
        ],
        lifespan=lifespan,
    )


@contextlib.contextmanager
def running(app):
    door = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", ws="websockets-sansio"))
    thread = threading.Thread(target=server.run, args=([door],), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{door.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        door.close()


@pytest.mark.parametrize(("keeps", "own_host"), [(True, False), (False, True)], ids=["keeps", "strips"])
def test_every_page_figure_download_upload_and_stream_works_behind_a_prefix(keeps, own_host, tmp_path):
    settings = {"NLLAB_HOSTS": "127.0.0.1"} | ({"NLLAB_BASE_PATH": PREFIX} if keeps else {})
    with serving(**settings) as server, contextlib.ExitStack() as stack:
        until(lambda: fetch(f"{server}/stat"))
        outside = stack.enter_context(running(proxy(server.removeprefix("http://"), keeps, own_host)))
        chromium = stack.enter_context(playwright_api.sync_playwright()).chromium
        browser = chromium.launch(executable_path=chromium_path(), args=list(CHROMIUM_OPTIONS))
        page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
        page.set_default_timeout(1000 * PATIENCE)
        said = []
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.on(
            "response", lambda answer: said.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None
        )
        page.goto(f"{outside}{PREFIX}/?speed=300&dim=32&hidden=32")
        page.locator(".nl:not([data-draws='0'])").wait_for()
        page.locator(".st-key-play button:visible").click()
        page.locator(".nl-panel[data-finished=true]").nth(1).wait_for()  # two networks on the page
        page.get_by_text("Share and keep").click()
        page.get_by_text("Repeats this run exactly").first.wait_for()
        page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
        with page.expect_download() as told:
            page.locator(".st-key-keep-live-Deep-optimizer-on-zip button:visible").click()
        told.value.save_as(tmp_path / "run.zip")
        for name in PAGES:
            page.goto(f"{outside}{PREFIX}/{name}")
            page.locator("h1").first.wait_for()
            page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
        page.goto(f"{outside}{PREFIX}/replay")
        page.locator("input[type=file]").set_input_files(tmp_path / "run.zip")
        page.locator(".pl-play").first.wait_for()
        browser.close()
    if not keeps:  # looking for the server Streamlit asks below the page first, where nothing can be
        said = [line for line in said if "_stcore" not in line]
    assert not said
