"""A class of thirty in one room of a real server: everybody joins, predicts, stands in line, trains and sees the band.
Takes minutes: run with -m slow."""

import json
import os
import re
import time
from contextlib import ExitStack
from urllib.parse import parse_qs

import pyarrow as pa
import pytest
from test_closed_sessions import process_at
from waiting import PATIENCE, until

from nllab.bench.live import fetch, serving

client = pytest.importorskip("websockets.sync.client")
pytestmark = pytest.mark.slow
STUDENTS = int(os.environ.get("NLLAB_STUDENTS", "30"))
MOST_MB = 60.0  # for each further student


class Visitor:
    """A browser's tab of the page of rooms, as Streamlit's websocket sees it. query: its address; metrics, charts,
    texts, alerts: what the last run of the script showed."""

    def __init__(self, address, stack, query=""):
        place = address.replace("http", "ws") + "/_stcore/stream"
        self.socket = stack.enter_context(client.connect(place, subprotocols=["streamlit"], max_size=None))
        self.query, self.buttons, self.sliders, self.known = query, {}, {}, {}
        self.rerun()

    def rerun(self, press=None, slide=None):
        from streamlit.proto.BackMsg_pb2 import BackMsg
        from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

        message, begun = BackMsg(), time.monotonic()
        message.rerun_script.page_name, message.rerun_script.query_string = "room", self.query
        if slide is not None:
            slider = message.rerun_script.widget_states.widgets.add(id=self.sliders["My prediction"])
            slider.double_array_value.data.append(slide)
        if press:
            message.rerun_script.widget_states.widgets.add(id=self.buttons[press], trigger_value=True)
        self.socket.send(message.SerializeToString())
        while True:
            told = ForwardMsg.FromString(self.socket.recv(timeout=PATIENCE))
            if told.WhichOneof("type") == "ref_hash":  # what this browser has had before is not sent again
                told = self.known[told.ref_hash]
            elif told.hash:
                self.known[told.hash] = told
            kind = told.WhichOneof("type")
            if kind == "new_session":
                self.metrics, self.charts, self.texts, self.alerts = {}, [], [], []
            elif kind == "page_info_changed":
                self.query = told.page_info_changed.query_string
            elif kind == "delta" and told.delta.WhichOneof("type") == "new_element":
                element = told.delta.new_element
                match element.WhichOneof("type"):
                    case "button":
                        self.buttons[element.button.label] = element.button.id
                    case "slider":
                        self.sliders[element.slider.label] = element.slider.id
                    case "metric":
                        self.metrics[element.metric.label] = element.metric.body
                    case "markdown":
                        self.texts.append(element.markdown.body)
                    case "alert":
                        self.alerts.append(element.alert.body)
                    case "vega_lite_chart":
                        self.charts.append(
                            (json.loads(element.vega_lite_chart.spec), element.vega_lite_chart.data.data)
                        )
                    case "exception":
                        raise AssertionError(element.exception.message)
            elif kind == "script_finished":
                if told.script_finished == ForwardMsg.FINISHED_EARLY_FOR_RERUN:
                    continue
                return time.monotonic() - begun

    def asked(self, name):
        return parse_qs(self.query)[name][0]


def rows(chart):
    return pa.ipc.open_stream(chart[1]).read_all().to_pylist()


def test_thirty_students_predict_train_in_line_and_are_one_band():
    def memory():
        return process_at(address).memory_info().rss / 2**20

    with ExitStack() as stack:
        address = stack.enter_context(serving())
        until(lambda: fetch(f"{address}/stat"))
        teacher = Visitor(address, stack)
        teacher.rerun("Open")
        until(lambda: "teacher=" in teacher.query or teacher.rerun() < 0)
        link = f"room={teacher.asked('room')}"
        students = [Visitor(address, stack, link)]
        first, took = memory(), []
        students += [Visitor(address, stack, link) for _ in range(STUDENTS - 1)]
        joined = (memory() - first) / max(1, STUDENTS - 1)
        assert len({student.asked("me") for student in students}) == STUDENTS
        seeds = {re.search(r"from seed (\d+)", " ".join(student.texts))[1] for student in students}
        assert seeds == {str(i) for i in range(STUDENTS)}

        for i, student in enumerate(students):
            took.append(student.rerun("This is my prediction: train", slide=round(i / STUDENTS, 2)))
        places = []
        for student in students:
            took.append(student.rerun())
            places += [int(place) for alert in student.alerts for place in re.findall(r"^Place (\d+) in line", alert)]
        assert places == sorted(places) and len(places) == len(set(places))  # as they came, nobody twice

        def trained():
            time.sleep(0.5)
            took.append(teacher.rerun())
            return teacher.metrics["trained"] == str(STUDENTS)

        until(trained)
        assert teacher.metrics == {
            name: str(count)
            for name, count in {
                "joined": STUDENTS, "predicted": STUDENTS, "in line": 0, "training": 0, "trained": STUDENTS
            }.items()
        }  # fmt: skip
        bars = [bar["students"] for bar in teacher.charts[0][0]["layer"][0]["data"]["values"]]
        assert sum(bars) == STUDENTS and (min(bars) == max(bars) or STUDENTS % 10)
        band = [point for point in rows(teacher.charts[1]) if point["task"] == "A"]
        assert band[-1]["count"] == STUDENTS and all(point["low"] <= point["mean"] <= point["high"] for point in band)
        for student in students:
            took.append(student.rerun())
            own = [point["own"] for point in rows(student.charts[0]) if point.get("own") is not None]
            assert own and student.metrics["Accuracy on A at the end"]
        took.sort()
        last = (memory() - first) / max(1, STUDENTS - 1)
        workers = [child.memory_info().rss / 2**20 for child in process_at(address).children()]
        print(
            f"\n{STUDENTS} students: {first:.0f} MB with one, {joined:.1f} MB for each further one once joined,"
            f" {last:.1f} once trained; workers {', '.join(f'{one:.0f}' for one in workers)} MB; longest line"
            f" {max(places, default=0)}; answers: median {took[len(took) // 2]:.2f} s, 95 %"
            f" {took[int(len(took) * 0.95)]:.2f} s"
        )
        assert max(joined, last) <= MOST_MB
