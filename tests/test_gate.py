"""The door of the dashboard's server, and the server behind a proxy."""

import contextlib
import sys
import warnings
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocketDisconnect

with warnings.catch_warnings():  # it would rather have httpx's successor
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

sys.path.insert(0, str(Path(__file__).parent.parent / "app"))
from gate import MOST_BODY_BYTES, Gate, Rules


def client(host="localhost", **rules):
    async def page(request):
        return PlainTextResponse(f"page {request.url.path} {len(await request.body())}")

    async def stream(socket):
        await socket.accept()
        await socket.send_text("open")
        with contextlib.suppress(WebSocketDisconnect):
            await socket.receive_text()

    routes = [
        Route("/_stcore/{rest:path}", page),
        WebSocketRoute("/_stcore/stream", stream),
        Route("/{rest:path}", page, methods=["GET", "POST"]),
    ]
    app = Starlette(routes=routes, middleware=[Middleware(Gate, rules=Rules(**rules), pages=("compare",))])
    return TestClient(app, base_url=f"http://{host}", follow_redirects=False)


def connected(it, **more):
    return it.websocket_connect(f"ws://{it.base_url.netloc.decode()}/_stcore/stream", **more)


@pytest.mark.parametrize("host", ["localhost:8501", "127.0.0.1:8501", "[::1]:8501"])
def test_this_machine_is_let_in(host):
    assert client(host).get("/").status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "user@localhost:1:2"])
def test_a_foreign_name_for_the_server_is_refused_and_not_repeated(host):
    answer = client().get("/<b>x", headers={"host": host})
    assert answer.status_code == 403 and "evil" not in answer.text and "<b>" not in answer.text
    assert client().get("/_stcore/health", headers={"host": host}).status_code == 200


def test_a_name_that_was_allowed_is_let_in():
    assert client("lab.example", hosts=frozenset({"lab.example"})).get("/").status_code == 200
    assert client("other.example", hosts=frozenset({"*"})).get("/").status_code == 200


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost:1234", "http://localhost.evil.example"]
)
def test_a_page_of_another_origin_can_neither_send_nor_listen(origin):
    with client("localhost:8501") as it:
        assert it.post("/", headers={"origin": origin}).status_code == 403
        with (
            pytest.raises(WebSocketDisconnect),
            connected(it, headers={"origin": origin}),
        ):
            pass
        with it.websocket_connect(
            f"ws://{it.base_url.netloc.decode()}/_stcore/stream", headers={"origin": "http://localhost:8501"}
        ) as socket:
            assert socket.receive_text() == "open"


def test_a_frame_of_another_site_is_refused_unless_allowed():
    framed = {"sec-fetch-site": "cross-site", "sec-fetch-dest": "iframe"}
    refused = client().get("/?embed=true", headers=framed)
    assert refused.status_code == 403
    assert refused.headers["content-security-policy"] == "frame-ancestors 'self'"
    allowed = client(frames=("https://slides.example",)).get("/?embed=true", headers=framed)
    assert allowed.status_code == 200
    assert allowed.headers["content-security-policy"] == "frame-ancestors 'self' https://slides.example"
    assert client().get("/", headers={"sec-fetch-site": "cross-site", "sec-fetch-dest": "document"}).status_code == 200
    assert (
        client().get("/live/x", headers={"sec-fetch-site": "cross-site", "sec-fetch-dest": "script"}).status_code == 403
    )


def test_without_the_token_nobody_gets_in_and_the_link_leaves_it_in_a_cookie():
    it = client("192.0.2.7:8501", token="t0ken")
    for path in ("/", "/?token=wrong", "/live/x", "/_stcore/host-config"):
        assert it.get(path).status_code == 403
    with pytest.raises(WebSocketDisconnect), connected(it):
        pass
    assert it.get("/_stcore/health").status_code == 200
    moved = it.get("/compare?token=t0ken&seed=3&order=")
    assert (moved.status_code, moved.headers["location"]) == (303, "./compare?seed=3&order=")
    assert "httponly" in moved.headers["set-cookie"].lower() and "t0ken" not in moved.text
    assert it.get("/compare").status_code == 200
    with connected(it) as socket:
        assert socket.receive_text() == "open"


def test_a_proxy_may_show_the_token_in_a_header():
    assert client("hub", token="t0ken").get("/", headers={"x-nllab-token": "t0ken"}).status_code == 200


def test_a_base_path_is_taken_away_where_the_proxy_keeps_it_and_not_missed_where_it_does_not():
    it = client(base_path="/lab")
    for asked, seen in (("/lab/compare", "/compare"), ("/lab/", "/"), ("/compare", "/compare"), ("/label", "/label")):
        assert it.get(asked).text.startswith(f"page {seen} ")
    assert it.get("/lab").headers["location"] == "/lab/"
    assert it.get("/lab/compare/?a=1").headers["location"] == "../compare?a=1"


def test_what_is_too_large_is_refused_whether_or_not_it_says_so():
    it = client()
    assert it.get("/" + "x" * 9000).status_code == 414
    assert it.post("/", content=b"x" * 1000).text == "page / 1000"
    assert it.post("/", content=bytes(MOST_BODY_BYTES + 1)).status_code == 413
    assert it.post("/", content=(bytes(2**20) for _ in range(40))).status_code == 413


def test_as_many_pages_as_fit_are_open_at_once():
    it = client(sessions=2)
    with (
        connected(it),
        connected(it),
    ):
        refused = it.get("/")
        assert refused.status_code == 503 and "Try again" in refused.text
        with (
            pytest.raises(WebSocketDisconnect),
            connected(it),
        ):
            pass
    assert it.get("/").status_code == 200


def test_doors_that_the_lab_does_not_need_are_shut():
    for path in ("/_stcore/agent/openapi.json", "/_stcore/agent/interact", "/_stcore/metrics"):
        assert client().get(path).status_code == 404


def test_rules_come_from_the_environment():
    found = Rules.from_environment(
        {"NLLAB_TOKEN": "a", "NLLAB_BASE_PATH": "lab/", "NLLAB_HOSTS": "A b", "NLLAB_FRAMES": "https://c"}
    )
    assert found == Rules("a", "/lab", frozenset({"a", "b"}), ("https://c",))
    assert Rules.from_environment({}) == Rules()
