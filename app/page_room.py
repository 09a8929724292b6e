"""A class: the teacher opens a room, students join by its link or code, everybody predicts and trains a seed of their
own, and all curves are one band."""

from __future__ import annotations

import statistics

import shared
import streamlit as st

from nllab.errors import NllabError, SettingError
from nllab.experiment import PRESETS, Experiment
from nllab.room import BINS, Room, Student, band, histogram

state = st.session_state
REFRESH_SECONDS = 2.0
OPTIMIZERS = {"adam": "Adam, a plain optimizer", "deep": "the deep optimizer"}
STREAMS = [name for name in ("digits-ab", "permuted-digits", "remapped-digits", "plane-ab") if name in PRESETS]
HEIGHT = 300


def question(room: Room) -> str:
    return (
        f"A network learns task A of *{room.experiment.stream}*, then task B, with "
        f"{OPTIMIZERS[room.experiment.optimizer]}."
        " How much of its test samples of **A** will it still get right at the end?"
    )


def say(error: NllabError) -> None:
    st.error(shared.as_text(str(error)), icon=":material/error:")


def begin() -> None:
    """The way in: open a room, or join one."""
    left, right = st.columns(2)
    with left, st.form("join"):
        st.subheader("Join a room", anchor=False)
        code = st.text_input("Code", max_chars=20, help="Your teacher has it: eight letters and digits.")
        if st.form_submit_button("Join", type="primary"):
            if shared.rooms().get(code) is None:
                st.error("There is no room of this code. Look at it once more.", icon=":material/error:")
            else:
                st.query_params.from_dict({"room": code})
                st.rerun()
    with right, st.form("open"):
        st.subheader("Open a room", anchor=False)
        stream = st.selectbox("What is learned", STREAMS)
        optimizer = st.selectbox("Who writes", list(OPTIMIZERS), format_func=lambda name: OPTIMIZERS[name])
        if st.form_submit_button("Open"):
            experiment = Experiment.preset(stream, optimizer=optimizer)
            try:
                shared.check_size(experiment)
                room = shared.rooms().open(experiment)
            except SettingError as error:
                say(error)
            else:
                st.query_params.from_dict({"room": room.code, "teacher": room.key})
                st.rerun()


def curves(room: Room, own: Student | None = None) -> None:
    """The class as a band: mean ± standard deviation over all networks; of a student, the own curve in front."""
    jobs = room.jobs
    tasks = next((job.tasks for job in jobs if job.tasks), ())
    points = [{"task": task, **point} for task in tasks[:2] for point in band(jobs, task)]
    layers = [
        {
            "mark": {"type": "area", "opacity": 0.25},
            "encoding": {"y": {"field": "low", **AXIS}, "y2": {"field": "high"}},
        },
        {"mark": {"type": "line", "strokeWidth": 2.5}, "encoding": {"y": {"field": "mean", **AXIS}}},
    ]
    if own is not None and own.job:
        mine = [
            {"task": task, "step": step, "own": accuracy[task]}
            for step, accuracy in list(own.job.curve)
            for task in tasks[:2]
        ]
        points += mine
        layers.append({"mark": {"type": "line", "strokeDash": [4, 3]}, "encoding": {"y": {"field": "own", **AXIS}}})
    shared_encoding = {
        "x": {"field": "step", "type": "quantitative", "title": "step"},
        "color": {"field": "task", "scale": {"range": ["#0072B2", "#D55E00"]}, "title": "accuracy on"},
    }
    done, words = sum(job.summary is not None for job in jobs), "Nobody has trained yet."
    if jobs:
        words = f"{len(jobs)} networks, {done} of them trained to the end: mean ± standard deviation over the class."
    st.caption(words + (" Dashed: yours." if own is not None and own.job else ""))
    st.vega_lite_chart(
        {"data": {"values": points}, "encoding": shared_encoding, "layer": layers, "height": HEIGHT}, key="band"
    )


AXIS = {"type": "quantitative", "scale": {"domain": [0, 1]}, "title": "accuracy"}


def predictions(room: Room) -> None:
    """The predictions as a histogram, what came out as a line across it."""
    bars = [
        {"from": i / BINS, "to": (i + 1) / BINS, "students": count}
        for i, count in enumerate(histogram(room.predictions))
    ]
    results = room.results
    layers: list[dict] = [
        {
            "data": {"values": bars},
            "mark": {"type": "bar", "color": "#56B4E9"},
            "encoding": {
                "x": {
                    "field": "from", "bin": {"binned": True, "step": 1 / BINS}, "type": "quantitative",
                    "scale": {"domain": [0, 1]}, "title": "predicted accuracy on A at the end",
                },
                "x2": {"field": "to"},
                "y": {"field": "students", "type": "quantitative", "title": "students", "axis": {"tickMinStep": 1}},
            },
        }
    ]  # fmt: skip
    if results:
        mean = statistics.fmean(results)
        layers.append(
            {
                "data": {"values": [{"mean": mean}]},
                "mark": {"type": "rule", "color": "#D55E00", "strokeWidth": 3},
                "encoding": {"x": {"field": "mean", "type": "quantitative"}},
            }
        )
        spread = f" ± {statistics.stdev(results):.3f}" if len(results) > 1 else ""
        st.caption(f"{len(room.predictions)} predictions. The line: what came out, {mean:.3f}{spread}.")
    else:
        st.caption(f"{len(room.predictions)} predictions.")
    st.vega_lite_chart({"layer": layers, "height": HEIGHT}, key="predictions")


def start_all(room: Room) -> None:
    """Train every network whose student has predicted and that has not been trained."""
    for student in list(room.students.values()):
        if student.prediction is not None and (student.job is None or student.job.error):
            try:
                room.train(student)
            except SettingError as error:
                state.room_error = str(error)
                return


def teach(room: Room) -> None:
    st.markdown(question(room))
    st.markdown("Students open this page's address with the code, or choose **Room** in the menu and type it:")
    st.code(f"{room.code[:4]}-{room.code[4:]}", language=None)
    st.caption(f"The link for students ends in /room?room={room.code}. This address is yours: keep it to yourself.")
    st.button("Train all that have predicted", type="primary", on_click=start_all, args=(room,))
    if error := state.pop("room_error", None):
        st.error(shared.as_text(error), icon=":material/error:")

    @st.fragment(run_every=REFRESH_SECONDS)
    def live() -> None:
        jobs = room.jobs
        told = {
            "joined": len(room.students),
            "predicted": len(room.predictions),
            "in line": sum(not job.started and not job.is_over for job in jobs),
            "training": sum(job.started and not job.is_over for job in jobs),
            "trained": sum(job.summary is not None for job in jobs),
        }
        for column, (name, count) in zip(st.columns(len(told)), told.items(), strict=True):
            column.metric(name, count)
        left, right = st.columns(2)
        with left:
            predictions(room)
        with right:
            curves(room)

    live()


def learn(room: Room, student: Student) -> None:
    st.markdown(question(room))
    st.caption(f"Your network draws its weights and its batches from seed {student.seed}; everybody's is another.")
    if student.job is None:
        with st.form("predict"):
            value = st.slider(
                "My prediction", 0.0, 1.0, student.prediction if student.prediction is not None else 0.5, 0.05
            )
            if st.form_submit_button("This is my prediction: train", type="primary"):
                try:
                    room.predict(student, value)
                    room.train(student)
                except SettingError as error:
                    say(error)
                else:
                    st.rerun()
        return

    @st.fragment(run_every=REFRESH_SECONDS)
    def live() -> None:
        job = student.job
        assert job
        if job.error:
            say(NllabError(job.error))
            if st.button("Train again"):
                try:
                    room.train(student)
                except SettingError as error:
                    say(error)
        elif place := room.pool.place(job):
            st.info(f"Place {place} in line. Training begins by itself.", icon=":material/hourglass:")
        elif job.summary is None:
            st.progress(min(1.0, job.step / max(1, job.planned_steps)), f"step {job.step} of {job.planned_steps}")
        else:
            result = job.curve[-1][1][job.tasks[0]]
            st.metric(
                "Accuracy on A at the end", f"{result:.3f}", f"{result - (student.prediction or 0):+.3f} from mine"
            )
        if job.curve:
            own_step = job.curve[-1][0]
            job.step = max(job.step, own_step)
        curves(room, student)

    live()


st.title("A class trains together", anchor=False)
code = st.query_params.get("room", "")
room = shared.rooms().get(code)
if not code:
    begin()
elif room is None:
    st.error("This room is not open, or is no longer.", icon=":material/error:")
    begin()
elif st.query_params.get("teacher") == room.key:
    teach(room)
else:
    student = room.students.get(st.query_params.get("me", ""))
    if student is None:
        try:
            student = room.join()
        except SettingError as error:
            say(error)
            st.stop()
        st.query_params["me"] = student.id
    learn(room, student)
