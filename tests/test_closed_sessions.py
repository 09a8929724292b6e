"""Pages that are opened and closed leave nothing behind: neither handles nor memory."""

import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from test_load import Session, until

from nllab.bench.live import fetch, free_port, serving, stat, wait_for

client = pytest.importorskip("websockets.sync.client")
APP = Path(__file__).parents[1] / "app"
SERVER = """
import streamlit as st
from abandoned import closing_abandoned

async def lifespan(_):
    async with closing_abandoned({seconds}):
        yield

from contextlib import asynccontextmanager
app = st.App("page.py", lifespan=asynccontextmanager(lifespan))
"""


def process_at(address):
    port = int(address.rpartition(":")[2])
    return psutil.Process(
        next(c.pid for c in psutil.net_connections("tcp") if c.status == "LISTEN" and c.laddr.port == port)
    )


@pytest.fixture
def bare_server(tmp_path):
    """A server of one empty page that closes what nobody has looked at for half a second."""
    (tmp_path / "page.py").write_text("import streamlit as st\nst.write('a page')\n")
    (tmp_path / "serve.py").write_text(SERVER.format(seconds=0.5))
    port = free_port()
    command = [sys.executable, "-m", "streamlit", "run", "serve.py", f"--server.port={port}"]
    options = ["--server.headless=true", "--server.fileWatcherType=none", "--browser.gatherUsageStats=false"]
    path = os.pathsep.join(filter(None, (str(APP), os.environ.get("PYTHONPATH", ""))))
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([*command, *options], cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, **quiet)
    try:
        address = f"http://127.0.0.1:{port}"
        wait_for(lambda: fetch(f"{address}/_stcore/health"), "the server")
        yield address, psutil.Process(process.pid)
    finally:
        process.kill()
        process.wait(10)


def test_closed_pages_give_their_handles_back_and_open_ones_stay(bare_server):
    address, server = bare_server
    with ExitStack() as stack:
        stays = Session(address, stack)
        stays.rerun()
        before = server.num_fds()
        with ExitStack() as going:
            pages = [Session(address, going) for _ in range(20)]
            for page in pages[:3]:
                page.rerun()
            until(lambda: server.num_fds() >= before + 20, 60)
        until(lambda: server.num_fds() <= before, 60)
        stays.rerun()


@pytest.mark.slow
def test_two_hundred_sessions_with_a_training_each_leave_a_tenth_at_most():
    def open_and_leave():
        with ExitStack() as stack:
            session = Session(address, stack)
            session.rerun()
            session.rerun("play")
            session.watch()
            until(lambda: session.heard and session.heard[-1]["step"] > 3, 60)
            session.close()

    def settled():
        until(lambda: not stat(address)["runs"], 120)
        return server.memory_info().rss / 2**20, server.num_fds()

    with serving(NLLAB_FREE_AFTER="20", NLLAB_SESSIONS="300") as address:
        until(lambda: fetch(f"{address}/stat"))
        server = process_at(address)
        open_and_leave()
        time.sleep(40)
        first = settled()
        for _ in range(200):
            open_and_leave()
        peak = server.memory_info().rss / 2**20, server.num_fds()
        left = time.monotonic()
        until(lambda: settled()[0] < 1.1 * first[0] and settled()[1] <= first[1] + 2, 120)  # two for whoever asks
        last, took = settled(), time.monotonic() - left
        print(f"\n(MB, handles) after one session {first}, after 200 {peak}, {took:.0f} s later {last}")
