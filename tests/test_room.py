"""A class: everybody has a seed and a prediction, training is in line in processes of its own."""

import sys
from pathlib import Path

import pytest
from waiting import PATIENCE, until

from nllab import room as rooms
from nllab import workers
from nllab.errors import SettingError
from nllab.events import measured
from nllab.experiment import Experiment
from nllab.room import Room, Rooms, band, histogram
from nllab.trainer import train
from nllab.workers import Job, Pool

APP = Path(__file__).parent.parent / "app"
SMALL = Experiment.preset("digits-ab", dim=12, hidden=12, batch_size=80, evaluate_every=5)


@pytest.fixture(scope="module")
def pool():
    found = Pool(1)
    yield found
    found.close()


class Line(Pool):
    """The line alone, without workers."""

    def _work(self):
        pass


def test_a_process_trains_what_this_one_would_and_a_killed_one_costs_its_own_training_alone(pool):
    job = pool.submit("a", SMALL)
    until(lambda: job.is_over)
    run = train(SMALL)
    assert job.summary["a_after_b"] == run.summary["a_after_b"] and job.tasks == ("A", "B")
    assert job.curve == [(event.step, accuracy) for event, accuracy in measured(run.log)]
    long = pool.submit("a", SMALL.but(passes=1000))
    until(lambda: long.curve)
    after = pool.submit("b", SMALL)
    (worker,) = pool._workers.values()
    worker.kill()
    until(lambda: after.is_over)
    assert "ended" in long.error and after.summary["a_after_b"] == run.summary["a_after_b"]
    refused = pool.submit("c", SMALL.but(order=("A", "X")))
    until(lambda: refused.is_over)
    assert "Unknown task 'X'" in refused.error


def test_a_worker_without_work_ends(monkeypatch):
    answer = 'import sys\nfor line in sys.stdin: print(\'{"error": "refused"}\', flush=True)'
    monkeypatch.setattr(
        workers,
        "_command",
        lambda: [sys.executable, "-S", "-c", answer],
    )
    pool = Pool(1, idle_seconds=0.2)
    job = pool.submit("a", SMALL)
    ((thread, _),) = pool._workers.items()
    until(lambda: job.is_over)
    process = pool._workers[thread]
    thread.join(20)
    assert not pool._workers and job.error == "refused" and process.poll() is not None


def test_turns_are_fair_and_the_line_is_seen_and_bounded():
    pool = Line(1, limit=3)
    first = pool.submit("a", SMALL)
    assert pool.place(first) == 1
    assert pool._next() is first and first.started and pool.place(first) == 0
    again, other = pool.submit("a", SMALL), pool.submit("b", SMALL)
    assert (pool.place(again), pool.place(other)) == (2, 1)  # who has had a turn comes after who has had none
    with pytest.raises(SettingError, match="in line already"):
        pool.submit("b", SMALL)
    pool.submit("c", SMALL)
    with pytest.raises(SettingError, match="3 trainings are in line"):
        pool.submit("d", SMALL)


def test_a_student_predicts_before_training_and_not_after():
    room = Room("C", "k", SMALL, Line())
    one, two = room.join(), room.join()
    assert (one.seed, two.seed) == (0, 1) and one.id != two.id
    with pytest.raises(SettingError, match="Predict first"):
        room.train(one)
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(SettingError, match=r"number in \[0, 1\]"):
            room.predict(one, wrong)
    room.predict(one, 0.4)
    assert room.train(one).experiment.seed == 0
    with pytest.raises(SettingError, match="prediction stands"):
        room.predict(one, 0.9)
    with pytest.raises(SettingError, match="already"):
        room.train(one)
    one.job.error = "it ended"
    room.pool._waiting.clear()
    assert room.train(one).error is None and room.predictions == [0.4]


def test_rooms_are_found_by_their_code_however_it_is_spelled_and_closed_when_left(monkeypatch):
    now = [0.0]
    all_rooms = Rooms(Line(), clock=lambda: now[0])
    room = all_rooms.open(SMALL)
    spelled = f" {room.code[:4].lower()}-{room.code[4:]} "
    assert all_rooms.get(spelled) is room and all_rooms.get("") is None and all_rooms.get("<b>") is None
    monkeypatch.setattr(rooms, "MOST_STUDENTS", 1)
    room.join()
    with pytest.raises(SettingError, match="as many as it takes"):
        room.join()
    monkeypatch.setattr(rooms, "MOST_ROOMS", 2)
    all_rooms.open(SMALL)
    with pytest.raises(SettingError, match="2 rooms are open"):
        all_rooms.open(SMALL)
    now[0] = rooms.ROOM_SECONDS - 1
    assert all_rooms.get(room.code) is room
    now[0] = rooms.ROOM_SECONDS + 1
    assert all_rooms.open(SMALL) and all_rooms.get(room.code) is room


def test_the_band_and_the_histogram_by_hand():
    jobs = [Job("a", SMALL), Job("b", SMALL), Job("c", SMALL)]
    for job, value in zip(jobs, (0.2, 0.4, 0.9), strict=True):
        job.curve = [(1, {"A": value, "B": 0.0})]
    jobs[0].curve.append((5, {"A": 0.7, "B": 1.0}))
    first, last = band(jobs, "A")
    assert first["mean"] == pytest.approx(0.5) and first["count"] == 3
    assert first["low"] == pytest.approx(0.5 - 0.13**0.5) and first["high"] == pytest.approx(0.5 + 0.13**0.5)
    assert last == {"step": 5, "count": 1, "mean": 0.7, "low": 0.7, "high": 0.7}
    assert histogram([0.0, 0.09, 0.1, 0.99, 1.0]) == [2, 1, 0, 0, 0, 0, 0, 0, 0, 2]


def test_on_the_page_a_teacher_opens_a_room_and_a_student_joins_predicts_and_trains(monkeypatch, pool):
    monkeypatch.syspath_prepend(str(APP))
    from streamlit.testing.v1 import AppTest

    def opened(**query):
        page = AppTest.from_file(str(APP / "page_room.py"), default_timeout=PATIENCE)
        for name, value in query.items():
            page.query_params[name] = value
        page.run()
        assert not page.exception
        return page

    def asked(page, name):
        found = page.query_params.get(name)
        return found[0] if isinstance(found, list) else found

    import shared

    monkeypatch.setattr(shared.rooms(), "pool", pool)  # whose process is there already
    teacher = opened()
    next(button for button in teacher.button if button.label == "Open").click().run()
    code = asked(teacher, "room")
    student = opened(room=code.lower())
    next(button for button in student.button if button.label.startswith("This is my prediction")).click().run()
    room = shared.rooms().get(code)
    until(lambda: room.results)
    student.run()
    assert student.metric[0].value == f"{room.results[0]:.3f}" and not student.exception
    again = opened(room=code, me=asked(student, "me"))
    assert again.metric[0].value == student.metric[0].value and len(room.students) == 1
    teacher.run()
    assert [metric.value for metric in teacher.metric] == ["1", "1", "0", "0", "1"] and not teacher.exception
    stranger = opened(room=code, teacher="guessed")
    assert not any(button.label.startswith("Train all") for button in stranger.button)
