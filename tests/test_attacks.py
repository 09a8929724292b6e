"""What was done to the dashboard from outside: links that ask for gigabytes, widgets with impossible values, tabs by
the dozen. Against the real server; run with -m slow."""

import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from test_closed_sessions import process_at
from test_load import Session, until

from nllab.bench.live import fetch, serving, stat

pytest.importorskip("websockets.sync.client")
pytestmark = pytest.mark.slow
ROOT = str(Path(__file__).parents[1])
MANY = 60  # tabs with two networks each: more than the 96 that a server keeps


@pytest.fixture(scope="module")
def address():
    with serving() as found:
        until(lambda: fetch(f"{found}/stat"))
        yield found


def megabytes(address):
    return process_at(address).memory_info().rss / 2**20


def test_a_link_to_an_enormous_net_ends_in_a_sentence(address):
    with ExitStack() as stack:
        Session(address, stack).rerun()
        before = megabytes(address)
        visitor = Session(address, stack)
        link = "dim=4096&hidden=8192&periods=" + ",".join("1" * 8)
        visitor.rerun(query=link)
        visitor.rerun("step", query=link)
        assert any("need about" in error and "GB of memory" in error for error in visitor.errors)
        assert not visitor.run and megabytes(address) < before + 100


def test_impossible_values_of_widgets_show_neither_path_nor_traceback(address):
    from streamlit.proto.BackMsg_pb2 import BackMsg

    with ExitStack() as stack:
        visitor = Session(address, stack)
        visitor.rerun()
        for value in ({"int_value": 10**9}, {"string_value": "<b>"}, {"bytes_value": b"\xff"}, {"json_value": "{"}):
            message = BackMsg()
            message.rerun_script.query_string = ""
            for name in visitor.ids.values():
                message.rerun_script.widget_states.widgets.add(id=name, **value)
            visitor.socket.send(message.SerializeToString())
            visitor.rerun()
        assert ROOT.encode() not in visitor.answered and b"site-packages" not in visitor.answered
        assert b"Traceback" not in visitor.answered
        visitor = Session(address, stack)  # and others go on
        visitor.rerun()
        visitor.rerun("play")
        assert visitor.run in stat(address)["runs"]


def test_tabs_by_the_dozen_lock_nobody_out(address):
    for _ in range(MANY):
        with ExitStack() as stack:
            tab = Session(address, stack)
            tab.rerun()
            tab.rerun("step")
    assert len(stat(address)["runs"]) <= 96
    with ExitStack() as stack:
        visitor, begun = Session(address, stack), time.monotonic()
        visitor.rerun()
        visitor.rerun("play")
        visitor.watch()
        until(lambda: visitor.heard and visitor.heard[-1]["step"] > 1, 15)
        print(f"\na visitor's own training began {time.monotonic() - begun:.1f} s after {MANY} tabs had come and gone")
        visitor.close()
