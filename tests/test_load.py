"""A class of thirty: thirty real sessions over loopback, four trainings at once, the rest in line. Takes minutes: run
with -m slow.

A session speaks to the server as a browser does: Streamlit's websocket for the page, one stream of news for the
figures. Who has finished plays again, so that four always train.
NLLAB_BROWSERS: how many real browser tabs (30), each a visitor of its own; needs Chromium and gigabytes.
NLLAB_LOAD_SECONDS: how long they watch (60; ten minutes say more about memory). NLLAB_LONG_SECONDS: how long one page
trains at unlimited speed (180; an hour is the claim), NLLAB_LONG_PASSES: how often it reads the data before it
begins anew (5): the log of a run takes 1.4 kB a step, which only a new run gives back.
"""

import json
import os
import threading
import time
from contextlib import ExitStack
from urllib.request import Request, urlopen

import psutil
import pytest
from browsing import DESK, NEEDS_CHROMIUM, PATIENCE, drawn, press, run_of
from waiting import until

from nllab.bench.live import CHROMIUM_OPTIONS, chromium_path, fetch, serving, stat

client = pytest.importorskip("websockets.sync.client")
pytestmark = pytest.mark.slow

SESSIONS, TRAININGS = 30, 4
SECONDS = float(os.environ.get("NLLAB_LOAD_SECONDS", "60"))
LONG_SECONDS = float(os.environ.get("NLLAB_LONG_SECONDS", "180"))
PASSES = os.environ.get("NLLAB_LONG_PASSES", "5")
BROWSERS = int(os.environ.get("NLLAB_BROWSERS", "30"))
ANSWER_SECONDS = 300.0  # a time-out, not a claim: what was measured is printed


class Session:
    """One visitor: a page, its widgets, its run, its news."""

    def __init__(self, address, stack, headers=None):
        place = address.replace("http", "ws") + "/_stcore/stream"
        options = {"subprotocols": ["streamlit"], "max_size": None, "additional_headers": headers}
        self.socket, self.headers = stack.enter_context(client.connect(place, **options)), headers or {}
        self.address, self.ids, self.heard, self.run = address, {}, [], None
        self.runs, self.offers, self.errors, self.played = [], [], [], False
        self.answered = bytearray()  # all that the server has sent
        self.closing = threading.Event()

    def rerun(self, press=None, page="", choose=(), query=""):
        """Send what opening the page, a press of a button or a choice of runs sends, and wait until the script has
        finished; how long it took."""
        from streamlit.proto.BackMsg_pb2 import BackMsg
        from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

        message, begun = BackMsg(), time.monotonic()
        message.rerun_script.query_string, message.rerun_script.page_name = query, page
        if press:
            message.rerun_script.widget_states.widgets.add(id=self.ids[press], trigger_value=True)
        if choose:
            chosen = message.rerun_script.widget_states.widgets.add(id=self.ids["kept"])
            chosen.string_array_value.data.extend(choose)
        self.socket.send(message.SerializeToString())
        while True:
            assert time.monotonic() - begun < ANSWER_SECONDS
            heard = self.socket.recv(timeout=ANSWER_SECONDS)
            told = ForwardMsg.FromString(heard)
            kind = told.WhichOneof("type")
            if kind == "new_session":
                told.new_session.main_script_path = ""  # Streamlit names every visitor the place of its script
            self.answered += told.SerializeToString()
            if kind == "delta" and told.delta.WhichOneof("type") == "new_element":
                element = told.delta.new_element
                if element.HasField("button"):
                    self.ids[element.button.label.lower()] = element.button.id
                if element.HasField("multiselect"):
                    self.ids["kept"], self.offers = element.multiselect.id, list(element.multiselect.options)
                if element.HasField("exception") or element.HasField("alert"):
                    self.errors.append(str(element))
                if element.HasField("bidi_component"):
                    self.played |= "recordings" in str(element.bidi_component)
                    data = element.bidi_component.json or element.bidi_component.mixed.json
                    runs = json.loads(data or "{}").get("runs")  # the links have no data
                    self.run, self.runs = (runs[0], runs) if runs else (self.run, self.runs)
            if kind == "script_finished" and told.script_finished != ForwardMsg.FINISHED_EARLY_FOR_RERUN:
                return time.monotonic() - begun

    def watch(self):
        def listen():
            runs = ",".join(self.runs)  # as the page does: a run that nobody watches is paused, and later freed
            with urlopen(
                Request(f"{self.address}/live/{runs}", headers={"Accept": "text/event-stream", **self.headers}),
                timeout=60,
            ) as news:
                for line in news:
                    if self.closing.is_set():
                        return
                    if line.startswith(b"data: "):
                        self.heard += [run["now"] for run in json.loads(line[6:])["runs"] if run and "now" in run]

        self.listener = threading.Thread(target=listen, daemon=True)
        self.listener.start()

    def close(self):
        self.closing.set()
        self.socket.close()
        self.listener.join(10)


def server_memory(address):
    port = int(address.rpartition(":")[2])
    pid = next(c.pid for c in psutil.net_connections("tcp") if c.status == "LISTEN" and c.laddr.port == port)
    return psutil.Process(pid).memory_info().rss


def test_thirty_sessions_share_one_server_and_keep_apart():
    with ExitStack() as stack:
        address = stack.enter_context(serving(NLLAB_TRAININGS=str(TRAININGS), NLLAB_FREE_AFTER="20"))
        until(lambda: fetch(f"{address}/stat"))
        class_room = [Session(address, stack) for _ in range(SESSIONS)]
        took = []
        for session in class_room:
            took.append(session.rerun())
            took.append(session.rerun("play"))
            session.watch()
        assert len({session.run for session in class_room}) == SESSIONS  # everybody has a run of their own
        until(lambda: sum(run["place"] == 0 and run["step"] > 0 for run in stat(address)["runs"].values()) >= TRAININGS)

        def in_line():
            """Whether all stand in line who neither train nor have finished, each in a place of its own."""
            told = stat(address)["runs"]
            going = sum(any(told[run]["playing"] for run in session.runs) for session in class_room)
            return {run["place"] for run in told.values() if run["place"]} == set(range(1, going - TRAININGS + 1))

        def at_work():
            return sum(run["playing"] and not run["place"] for run in stat(address)["runs"].values())

        until(in_line)
        until(lambda: sum(bool(session.heard and session.heard[-1]["place"]) for session in class_room) >= TRAININGS)

        memory, again, end = [], 0, time.monotonic() + SECONDS
        while time.monotonic() < end:
            memory.append(server_memory(address))
            begun = time.monotonic()
            assert fetch(address)
            took.append(time.monotonic() - begun)
            until(lambda: at_work() <= 2 * TRAININGS)  # two on a page; at a change of turns a step may be under way
            told = stat(address)["runs"]
            over = next((session for session in class_room if told[session.run]["finished"]), None)
            if over:
                took += [over.rerun(), over.rerun("play again")]
                again += 1
            time.sleep(1)

        for session in class_room[:10]:  # who leaves is paused within seconds and freed later
            session.close()
        left = {session.run for session in class_room[:10]}
        until(lambda: not any(stat(address)["runs"].get(id, {}).get("playing") for id in left))
        until(lambda: not left & set(stat(address)["runs"]))
        assert {session.run for session in class_room[10:]} <= set(stat(address)["runs"])
        for session in class_room[10:]:
            session.close()
        took.sort()
        print(
            f"\nanswers: median {took[len(took) // 2]:.2f} s, 95 % {took[int(len(took) * 0.95)]:.2f} s, slowest"
            f" {took[-1]:.2f} s; ",
            end="",
        )
        half, last = memory[len(memory) // 2], memory[-1]
        tenths = ", ".join(f"{memory[i * (len(memory) - 1) // 10] / 2**20:.0f}" for i in range(11))
        print(f"{again} played again; server memory in MB, every tenth of {SECONDS:g} s: {tenths}")
        assert last < half * 1.25 + 2**27  # once everybody has had a turn nothing grows but the rows


def test_training_for_long_with_the_page_open_takes_no_more_memory():
    with ExitStack() as stack:
        address = stack.enter_context(serving())
        until(lambda: fetch(f"{address}/stat"))
        session = Session(address, stack)
        query = f"speed=unlimited&passes={PASSES}"
        session.rerun(query=query)
        session.rerun("play", query=query)
        session.watch()
        memory, again, steps, end = [], 0, 0, time.monotonic() + LONG_SECONDS
        while time.monotonic() < end:
            memory.append(server_memory(address) / 2**20)
            told = stat(address)["runs"][session.run]
            if told["finished"]:
                steps, again = steps + told["step"], again + 1
                session.rerun(query=query)
                session.rerun("play again", query=query)
            time.sleep(1)
        steps += stat(address)["runs"][session.run]["step"]
        session.close()
        tenths = ", ".join(f"{memory[i * (len(memory) - 1) // 10]:.0f}" for i in range(11))
        print(f"\n{steps:,} steps, played again {again} times; server memory in MB, every tenth: {tenths}")
        assert max(memory[-len(memory) // 10 :]) < max(memory[: len(memory) // 3]) + 50  # flat after a third


@pytest.mark.browser
@NEEDS_CHROMIUM
def test_thirty_browsers_share_one_server_and_keep_apart():
    """Thirty contexts of Chromium on this same machine, each with a page that plays; what the browsers themselves take
    from the processor is taken from the server."""
    api = pytest.importorskip("playwright.sync_api")
    with ExitStack() as stack:
        address = stack.enter_context(serving(NLLAB_TRAININGS=str(TRAININGS)))
        until(lambda: fetch(f"{address}/stat"))
        chromium = stack.enter_context(api.sync_playwright()).chromium
        browser = chromium.launch(executable_path=chromium_path(), args=list(CHROMIUM_OPTIONS))
        pages = []
        for _ in range(BROWSERS):
            page = browser.new_context(viewport=DESK).new_page()
            page.set_default_timeout(PATIENCE * 1000)
            page.goto(f"{address}/?networks=1&passes=5")
            press(drawn(page), "play")
            pages.append(page)
        runs = {run_of(page, address)[0] for page in pages}
        assert len(runs) == BROWSERS
        memory, took, end = [], [], time.monotonic() + SECONDS
        while time.monotonic() < end:
            begun = time.monotonic()
            assert fetch(address)
            took.append(time.monotonic() - begun)
            memory.append(server_memory(address) / 2**20)
            time.sleep(0.5)
        steps = {id: run["step"] for id, run in stat(address)["runs"].items()}
        assert set(steps) == runs and min(steps.values()) > 0  # all had their turns
        assert {run_of(page, address)[0] for page in pages} == runs
        took.sort()
        print(
            f"\n{BROWSERS} browsers, {SECONDS:g} s: answers median {took[len(took) // 2]:.2f} s, 95 %"
            f" {took[int(len(took) * 0.95)]:.2f} s, slowest {took[-1]:.2f} s; {min(steps.values())} to"
            f" {max(steps.values())} steps; server memory {memory[0]:.0f} to {memory[-1]:.0f} MB"
        )
        assert memory[-1] < memory[len(memory) // 2] * 1.25 + 128
        browser.close()
