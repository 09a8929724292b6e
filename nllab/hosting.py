"""How the dashboard is served: on this machine alone, to others with a token in the link, behind a proxy, from
JupyterHub. No torch."""

from __future__ import annotations

import os
import re
import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from platformdirs import user_data_path

from nllab.errors import SettingError

NO_RUNS = "none"
ANY_ADDRESS = ("0.0.0.0", "::")
NAME = re.compile(r"[A-Za-z0-9*_.:-]{1,253}")
SITE = re.compile(r"https?://[A-Za-z0-9*_.-]{1,253}(:\d{1,5})?|file:")
PATH = re.compile(r"/?[A-Za-z0-9._~/-]{0,200}")


@dataclass(frozen=True)
class Serving:
    """command and environment of the server's process; links: where it is found; warnings: what to know about it."""

    command: list[str]
    environment: dict[str, str]
    links: list[str]
    warnings: list[str]


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches this host."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def serving(
    script: Path,
    port: int,
    *,
    host: str = "127.0.0.1",
    base_path: str = "",
    allowed_hosts: Sequence[str] = (),
    allowed_frames: Sequence[str] = (),
    token: str | None = None,
    needs_token: bool = True,
    browser: bool = True,
    runs: str = "",
) -> Serving:
    """What is not given here comes from the environment: NLLAB_TOKEN, NLLAB_BASE_PATH, NLLAB_HOSTS, NLLAB_FRAMES,
    NLLAB_RUNS.

    runs: the folder that keeps what is trained, "none" for nothing; not given, one in the user's home on a server of
    this machine's own, and nothing on one that others reach.

    Raises SettingError for a name, site, path or token that cannot be."""
    base_path = base_path or os.environ.get("NLLAB_BASE_PATH", "")
    allowed_hosts = [*allowed_hosts, *os.environ.get("NLLAB_HOSTS", "").split()]
    allowed_frames = [*allowed_frames, *os.environ.get("NLLAB_FRAMES", "").split()]
    for kind, pattern, values in (
        ("--host", NAME, [host]),
        ("--allow-host", NAME, allowed_hosts),
        ("--allow-frame", SITE, allowed_frames),
        ("--base-path", PATH, [base_path]),
    ):
        for value in values:
            if not pattern.fullmatch(value):
                example = {"--allow-frame": "https://slides.example", "--base-path": "/lab"}.get(kind, "lab.example")
                raise SettingError(f"{kind} is {value[:80]!r}; expected something like {example}.")
    here = is_loopback(host)
    token = token or os.environ.get("NLLAB_TOKEN") or None
    if token is not None and not re.fullmatch(r"[A-Za-z0-9._~-]{16,200}", token):
        raise SettingError("The token needs 16 or more letters and digits; leave it out and one is drawn.")
    if not needs_token:
        token = None
    elif token is None and not here:
        token = secrets.token_urlsafe(24)
    warnings = []
    if not here:
        warnings.append(
            "Everybody who reaches this address and has the link can train on this machine, and what passes is not"
            " encrypted."
            if token
            else "Without a token everybody who reaches this address can train on this machine. Only a proxy that asks"
            " who comes belongs in front of it."
        )
    base = "/" + base_path.strip("/") if base_path.strip("/") else ""
    options = {
        "server.port": port,
        "server.address": host,
        "server.headless": str(not browser or token is not None).lower(),
        "server.showEmailPrompt": "false",  # else it waits for an answer the first time
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "runner.postScriptGC": "false",
    }
    shown = [
        f"[{name}]" if ":" in name else name
        for name in (["127.0.0.1", *_own_name()] if host in ANY_ADDRESS else [host])
    ]
    hosts = {*allowed_hosts} | ({"*"} if not here and token is None else set())
    alone = here and not allowed_hosts
    runs = runs or os.environ.get("NLLAB_RUNS", "") or (str(user_data_path("nllab") / "runs") if alone else NO_RUNS)
    environment = {
        "NLLAB_TOKEN": token or "",
        "NLLAB_BASE_PATH": base,
        "NLLAB_HOSTS": " ".join(sorted(hosts)),
        "NLLAB_FRAMES": " ".join(allowed_frames),
        "NLLAB_RUNS": runs,
        "NLLAB_ALONE": "1" if alone else "",
        # threads that come and go leave a heap each behind otherwise, and memory that was given back stays with them
        "MALLOC_ARENA_MAX": os.environ.get("MALLOC_ARENA_MAX", "2"),
    }
    return Serving(
        [
            sys.executable,
            "-m",
            "streamlit",
            "run",
            str(script),
            *(f"--{key}={value}" for key, value in options.items()),
        ],
        environment,
        [f"http://{name}:{port}{base}/" + (f"?token={token}" if token else "") for name in shown],
        warnings,
    )


def _own_name() -> list[str]:
    import socket

    return [socket.gethostname()]


def jupyter() -> dict:
    """The entry for jupyter-server-proxy: the lab in JupyterLab's launcher, for whom Jupyter has let in.

    The token that the proxy shows keeps other users of the same machine out."""
    token = secrets.token_urlsafe(24)
    code = "from nllab.cli import main; main()"
    return {
        "command": [sys.executable, "-c", code, "dashboard", "--port", "{port}", "--no-browser"],
        "environment": {"NLLAB_TOKEN": token},
        "request_headers_override": {"X-Nllab-Token": token},
        "timeout": 300,
        "new_browser_tab": True,
        "launcher_entry": {"title": "Nested Learning lab"},
    }
