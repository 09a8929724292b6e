"""The door of the dashboard's server: who may come in, from where, with how much.

Every request passes here before Streamlit sees it. `Rules` come from the environment, which `nllab dashboard` fills
from its options; without any, the server is there for this machine alone. What is refused gets one sentence that
repeats nothing of the request.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HOME = frozenset({"localhost", "127.0.0.1", "::1"})
HEALTH, SESSION = "/_stcore/health", "/_stcore/stream"
CLOSED_PATHS = ("/_stcore/agent", "/_stcore/metrics")  # of Streamlit; nothing here needs them
TOKEN_HEADER = "x-nllab-token"  # for a proxy that has checked who comes, such as JupyterHub's
MOST_ADDRESS_BYTES = 8_192
MOST_BODY_BYTES = 33 * 2**20  # an upload of a run has at most 32 MB
HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::\d{1,5})?")
NEVER_FRAMED = "frame-ancestors 'self'"


@dataclass(frozen=True)
class Rules:
    """token: what everybody has to bring, None for nobody. base_path: what a proxy leaves in front of paths, such as
    "/lab". hosts: names under which the server may be asked for, beside this machine's own; "*" for any. frames: sites
    that may show the lab in a frame. sessions, streams: open at once, in all and from one address."""

    token: str | None = None
    base_path: str = ""
    hosts: frozenset[str] = frozenset()
    frames: tuple[str, ...] = ()
    sessions: int = 200
    streams: int = 64

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Rules:
        path = environment.get("NLLAB_BASE_PATH", "").strip("/")
        return cls(
            token=environment.get("NLLAB_TOKEN") or None,
            base_path=f"/{path}" if path else "",
            hosts=frozenset(environment.get("NLLAB_HOSTS", "").lower().split()),
            frames=tuple(environment.get("NLLAB_FRAMES", "").split()),
            sessions=int(environment.get("NLLAB_SESSIONS", "200")),
        )


class Gate:
    """ASGI middleware around the whole server."""

    def __init__(self, app: ASGIApp, rules: Rules, pages: tuple[str, ...] = ()) -> None:
        self.app, self.rules = app, rules
        self.pages = {"/", *(f"/{page}" for page in pages)}
        name = hashlib.blake2b((rules.token or "").encode(), digest_size=4).hexdigest()
        self.cookie = f"nllab-{name}"  # ports of one machine share their cookies
        self.sessions: Counter[str] = Counter()  # client's address -> open connections of pages
        self.streams: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        scope = self._without_base_path(dict(scope))
        refusal = self._refusal(scope)
        if refusal is not None:
            await self._answer(refusal, scope, receive, send)
            return
        if scope["type"] == "websocket":  # Streamlit compares with the Host alone, which a proxy may have replaced
            scope["headers"] = [(name, value) for name, value in scope["headers"] if name != b"origin"]
        kind = scope["path"]
        count = self.sessions if kind == SESSION else self.streams if kind.startswith("/live/") else None
        client = _client(scope)
        if count is not None:
            count[client] += 1
        try:
            await self.app(scope, _bounded(receive), self._with_headers(send))
        except _TooLarge:
            await _too_large()(scope, receive, send)
        finally:
            if count is not None:
                count[client] -= 1
                count += Counter()  # without those that have gone

    def _without_base_path(self, scope: Scope) -> Scope:
        base = self.rules.base_path
        if base and (scope["path"] == base or scope["path"].startswith(base + "/")):
            scope["path"] = scope["path"][len(base) :]
            scope["raw_path"] = scope["path"].encode()
        return scope

    def _refusal(self, scope: Scope) -> Response | None:
        """What to answer in place of the page, or None where the request may pass."""
        headers, path = Headers(scope=scope), scope["path"]
        if len(scope.get("raw_path", b"")) + len(scope.get("query_string", b"")) > MOST_ADDRESS_BYTES:
            return _sentence(414, "This address is too long.")
        if path == HEALTH:
            return None
        if path.startswith(CLOSED_PATHS):
            return _sentence(404, "There is nothing here.")
        if not self.rules.token and not self._is_ours(headers.get("host", "")):
            return _sentence(403, "This server does not answer to that name; --allow-host adds one.")
        if not self._comes_from_here(headers):
            return _sentence(403, "Another site asked for this; --allow-frame lets one show the lab.")
        if self.rules.token and (answer := self._without_token(scope, headers)):
            return answer
        if path == "" or path != "/" and path.endswith("/") and path.rstrip("/") in self.pages:
            return _moved(scope, f"{self.rules.base_path}/" if not path else f"../{path.strip('/')}")
        if int(headers.get("content-length") or 0) > MOST_BODY_BYTES:
            return _too_large()
        if self._is_full(scope):
            return _sentence(503, "As many pages are open as this server can serve. Try again in a minute.")
        return None

    def _is_ours(self, host: str) -> bool:
        name = _name(host)
        return name in HOME or name in self.rules.hosts or "*" in self.rules.hosts

    def _comes_from_here(self, headers: Headers) -> bool:
        """Whether the request comes from a page of this server, from a link, or from no page at all."""
        origin = headers.get("origin")
        if origin is not None:
            there = urlsplit(origin)
            name = there.hostname or ""
            names = (headers.get("host", ""), headers.get("x-forwarded-host", ""))  # a page cannot set either
            if name not in self.rules.hosts and there.netloc.lower() not in map(str.lower, filter(None, names)):
                return False
        if headers.get("sec-fetch-site") == "cross-site":
            return headers.get("sec-fetch-dest") in ("document", *(["iframe"] if self.rules.frames else []))
        return True

    def _without_token(self, scope: Scope, headers: Headers) -> Response | None:
        """What to answer somebody who has not shown the token yet, or None."""
        expected = self.rules.token or ""
        shown = headers.get(TOKEN_HEADER) or cookie_parser(headers.get("cookie", "")).get(self.cookie, "")
        if secrets.compare_digest(shown.encode(), expected.encode()):
            return None
        query = dict(parse_qsl(scope.get("query_string", b"").decode("latin-1")))
        if scope["type"] == "http" and secrets.compare_digest(query.get("token", "").encode(), expected.encode()):
            answer = _moved(scope, "./" + scope["path"].rpartition("/")[2])
            answer.set_cookie(self.cookie, expected, httponly=True, samesite="lax", path="/")
            return answer
        return _sentence(403, "This lab asks for its token: open the link that `nllab dashboard` printed.")

    def _is_full(self, scope: Scope) -> bool:
        if scope["path"] == SESSION or scope["path"] in self.pages and scope["type"] == "http":
            return self.sessions.total() >= self.rules.sessions
        return scope["path"].startswith("/live/") and self.streams[_client(scope)] >= self.rules.streams

    async def _answer(self, refusal: Response, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        await refusal(scope, receive, self._with_headers(send))

    def _with_headers(self, send: Send) -> Send:
        frames = " ".join([NEVER_FRAMED, *self.rules.frames])

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["content-security-policy"] = frames
                headers["x-content-type-options"] = "nosniff"
                headers["referrer-policy"] = "same-origin"
            await send(message)

        return sending


class _TooLarge(Exception):
    pass


def _bounded(receive: Receive) -> Receive:
    """The same, until more came than a request may have."""
    left = MOST_BODY_BYTES

    async def receiving() -> Message:
        nonlocal left
        message = await receive()
        if message["type"] == "http.request":
            left -= len(message.get("body", b""))
            if left < 0:
                raise _TooLarge
        return message

    return receiving


def _too_large() -> Response:
    return _sentence(413, f"This is larger than the {MOST_BODY_BYTES // 2**20} MB that the lab takes.")


def _sentence(status: int, text: str) -> Response:
    return PlainTextResponse(text, status_code=status, headers={"cache-control": "no-store"})


def _moved(scope: Scope, where: str) -> Response:
    """The same address without its token, relative to the one that was asked for: a proxy may have taken away a part of
    that."""
    pairs = parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
    query = urlencode([(key, value) for key, value in pairs if key != "token"])
    answer = RedirectResponse(where + (f"?{query}" if query else ""), status_code=303)
    answer.headers["cache-control"] = "no-store"
    return answer


def _client(scope: Scope) -> str:
    return (scope.get("client") or ("",))[0]


def _name(host: str) -> str:
    """The name in a Host header, without its port; empty where it is none."""
    found = HOST.fullmatch(host.lower())
    return (found[1] or found[2]).rstrip(".") if found else ""
