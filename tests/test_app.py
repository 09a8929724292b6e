"""The live page without a browser: its controls steer the run, bad input is a sentence, and the news adds up to the
figures."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from waiting import PATIENCE, until

APP = Path(__file__).parents[1] / "app"
sys.path.insert(0, str(APP))

import actions  # noqa: E402
import menus  # noqa: E402
import settings  # noqa: E402
import shared  # noqa: E402
from feed import Feed, together  # noqa: E402
from streamlit.testing.v1 import AppTest  # noqa: E402
from tour import STATIONS  # noqa: E402

from nllab import figures  # noqa: E402
from nllab.errors import SettingError  # noqa: E402
from nllab.events import Decision, End, Experience, Step, Switch  # noqa: E402
from nllab.experiment import PRESETS, Experiment  # noqa: E402
from nllab.live import LiveRun  # noqa: E402
from nllab.methods import METHODS  # noqa: E402
from nllab.scenarios import SCENARIOS  # noqa: E402

CONTROLS = [
    "play",
    "step",
    "open_write",
    "futures_train",
    "more",
    "one_write",
    "undo",
    "reset",
    "teach_A",
    "teach_B",
    "pin",
    "level_add",
    "level_drop",
]
LEVELS = ("input", "fast", "medium", "slow", "head")


@pytest.fixture(autouse=True)
def unhurried(monkeypatch):
    """A run that nobody watches pauses after three seconds; a busy machine needs more for one run of a page."""
    monkeypatch.setattr(shared.runs(), "pause_after", PATIENCE)


@pytest.fixture
def page():
    opened = AppTest.from_file(str(APP / "page_live.py"), default_timeout=PATIENCE)
    opened.query_params["networks"] = "1"
    yield opened
    for run in runs_of(opened):
        run.close()


def runs_of(page, name="live"):
    return page.session_state["sessions"][name].live if "sessions" in page.session_state else []


def run_of(page):
    return next(iter(runs_of(page)), None)


def test_every_stream_has_a_line_in_the_menu_and_methods_say_what_they_are_told():
    assert set(menus.STREAMS) <= set(PRESETS) and all(menus.stream_line(name) for name in PRESETS)
    assert set(menus.METHOD_NAMES) | set(menus.OWN_MODEL) == set(METHODS)
    assert "200 samples" in menus.method_line("er") and "when a task ends" in menus.method_line("ewc")
    assert menus.told_by("naive") == menus.told_by("fewer-updates") == ""


def ended(runs):
    """Whether all have ended; watching them, since a run that nobody watches pauses."""
    for run in runs:
        shared.runs().seen(run.id)
    return all(run.run.of(End) for run in runs)


def said(element):
    """What an element says, without the backslashes that keep it from being Markdown."""
    return element.value.replace("\\", "")


def button(page, key):
    return next(found for found in page.button if found.key == key)


def toggle(page, key):
    return next(found for found in page.toggle if found.key == key)


def messages(page):
    return [found.value for found in (*page.error, *page.info)]


def opened(page):
    """The page with a run that has taken some steps and stands still."""
    page.run()
    button(page, "step").click().run()
    until(lambda: run_of(page).status()["step"] == 1)
    return page


# -- the page
# ---------------------------------------------------------------------------------------------------------------------


def test_the_page_comes_up_with_its_controls_and_the_overwrite_problem_first(page):
    page.run()
    assert not page.exception and not messages(page)
    assert sorted(found.key for found in page.button) == sorted(CONTROLS)
    assert button(page, "play").label == "Play" and toggle(page, "deep").value is False
    help_missing = [
        w.label
        for w in (*page.button, *page.toggle, *page.number_input, *page.text_input)
        if not w.help and w.label != "Play"
    ]  # its tooltip would lie over the page after a click
    assert not help_missing
    assert run_of(page) is None  # a page that nobody touches trains nothing


def test_play_trains_pause_stands_still_and_step_takes_one(page):
    page.run()
    button(page, "play").click().run()
    run = run_of(page)
    until(lambda: run.status()["step"] >= 2)
    assert button(page, "play").label == "Pause"
    button(page, "play").click().run()
    assert button(page, "play").label == "Play" and not run.playing
    until(lambda: run.state.step == len(run.run.of(Step)))
    stood = run.state.step
    button(page, "step").click().run()
    until(lambda: run.state.step == stood + 1)


def test_the_toggle_is_a_command_and_only_the_first_step_waits_for_it(page):
    run = run_of(opened(page))
    toggle(page, "deep").set_value(True).run()
    button(page, "step").click().run()
    until(lambda: run.run.steps == 2)
    assert run.run.commands == [(2, "optimizer", "deep")]
    assert figures.marks(run.run.log)[-1]["text"] == "deep optimizer on"
    assert page.query_params["evaluate_every"] and page.query_params["optimizer"] == "deep"


def test_before_the_first_step_settings_are_the_experiments_own(page):
    page.run()
    button(page, "reset").click().run()
    toggle(page, "deep").set_value(True).run()
    next(w for w in page.number_input if w.key == "seed").set_value(3).run()
    run = run_of(page)
    assert (run.experiment.optimizer, run.experiment.seed, run.run.commands) == ("deep", 3, []) and not messages(page)


def test_what_cannot_change_while_running_waits_for_a_reset(page):
    run = run_of(opened(page))
    next(w for w in page.number_input if w.key == "seed").set_value(3).run()
    assert messages(page) == ["Press **Reset** for the new seed; until then the run goes on as it began."]
    assert run.experiment.seed == 0
    button(page, "reset").click().run()
    assert run.experiment.seed == 3 and run.status()["step"] == 0 and not messages(page)


def test_another_stream_brings_its_presets_settings_along(page):
    page.run()
    stream = next(w for w in page.selectbox if w.key == "stream")
    stream.set_value("fashion-ab").run()
    batch_size = next(w for w in page.number_input if w.key == "batch_size")
    assert batch_size.value == 64 and page.query_params["stream"] == "fashion-ab"
    assert any("five others (<b>B</b>)" in str(found.proto) for found in page.get("html"))
    next(w for w in page.selectbox if w.key == "stream").set_value("digits-ab").run()
    assert next(w for w in page.number_input if w.key == "batch_size").value == 10
    assert dict(page.query_params) == {"networks": "1"} and not page.exception


def test_periods_change_while_it_trains(page):
    run = run_of(opened(page))
    next(w for w in page.text_input if w.key == "periods").set_value("1, 2, 8").run()
    button(page, "step").click().run()
    until(lambda: run.run.steps == 2)
    assert run.run.commands == [(2, "period", ["medium", 2]), (2, "period", ["slow", 8])]


def test_a_bad_value_is_a_sentence_and_the_training_goes_on(page):
    page.run()
    button(page, "play").click().run()
    run = run_of(page)
    before = shared.applied[run]
    for key, value, words in (
        ("learning_rate", "fast", "learning_rate is 'fast'"),
        ("periods", "1 4 16", "periods is '1 4 16': expected"),
        ("periods", "", "periods is '': expected"),
        ("periods", "0, 4, 16", "periods is '0': expected"),
    ):
        box = next(w for w in page.text_input if w.key == key)
        good = box.value
        box.set_value(value).run()
        assert not page.exception and len(page.error) == 1 and words in said(page.error[0])
        assert said(page.error[0]).count(" is ") == 1
        assert key != "periods" or "such as 1, 4, 16" in said(page.error[0])
        assert run.playing and shared.applied[run] == before
        if value != "0, 4, 16":
            next(w for w in page.text_input if w.key == key).set_value(good)
    stood = run.status()["step"]
    until(lambda: run.status()["step"] > stood)
    button(page, "play").click().run()  # the controls still work
    assert not run.playing and words in said(page.error[0])
    next(w for w in page.text_input if w.key == "periods").set_value(good)
    next(w for w in page.number_input if w.key == "seed").set_value(-1).run()
    assert len(page.error) == 1 and "seed is -1" in said(page.error[0]) and not page.exception
    assert run.experiment.seed == 0


def test_a_bad_address_is_a_sentence_and_the_rest_of_it_counts(page):
    page.query_params["seed"] = "x"
    page.query_params["strem"] = "digits-ab"
    page.query_params["epochs"] = "2"
    page.query_params["speed"] = "warp"
    page.query_params["periods"] = "x,y"
    page.run()
    text = " ".join(said(found) for found in page.error)
    assert (
        not page.exception
        and text.count("periods is 'x': expected 1 to 8 whole numbers") == text.count("periods is") == 1
    )
    assert "seed is 'x'" in text and "Did you mean 'stream'" in text and "speed is 'warp'" in text
    assert next(w for w in page.number_input if w.key == "epochs").value == 2
    assert next(w for w in page.number_input if w.key == "seed").value == 0
    button(page, "step").click().run()
    assert run_of(page).experiment.epochs == 2


def test_the_speed_reaches_the_run_and_unlimited_is_one_of_them(page):
    run = run_of(opened(page))
    for speed, held in ((15.0, 15.0), (settings.UNLIMITED, None)):
        next(w for w in page.selectbox if w.key == "speed").set_value(speed).run()
        assert run.speed == held and page.query_params["speed"] == settings.speed_name(speed)


def test_teach_overrules_the_plan_and_trains(page):
    run = run_of(opened(page))
    button(page, "teach_B").click().run()
    assert run.playing
    until(lambda: run.status()["task"] == "B" and run.status()["step"] >= 2)


def test_two_sessions_have_two_runs(page):
    other = AppTest.from_file(str(APP / "page_live.py"), default_timeout=PATIENCE)
    other.query_params["networks"] = "1"
    first, second = run_of(opened(page)), run_of(opened(other))
    assert first is not second
    button(other, "step").click().run()
    until(lambda: second.run.steps == 2)
    assert first.status()["step"] == 1
    second.close()


def test_a_failed_training_is_told_on_the_page(page):
    run = run_of(opened(page))

    def broken():
        raise SettingError("This is what went wrong.")

    run._trainer.step = broken
    button(page, "step").click().run()
    until(lambda: run.error)
    page.run()
    assert [found.value for found in page.error] == ["This is what went wrong."] and button(
        page, "play"
    ).label == "Play again"
    button(page, "reset").click().run()
    assert not messages(page) and run.error is None


# -- one write, going back, stops, levels, order, ceiling
# ----------------------------------------------------------------------------


def number(page, key):
    return next(w for w in page.number_input if w.key == key)


def test_one_write_of_a_level_and_back_to_the_checkpoint_before(page):
    run = run_of(opened(page))
    assert next(w for w in page.selectbox if w.key == "level").value == "slow"
    next(w for w in page.selectbox if w.key == "level").set_value("medium").run()
    button(page, "one_write").click().run()
    until(lambda: run.run.steps == 4 and not run._wanting)
    button(page, "undo").click().run()
    until(lambda: run.state.step == 0)
    button(page, "undo").click().run()
    assert "no checkpoint to go back to" in page.error[0].value and not page.exception


def test_it_stops_by_itself_and_says_so(page):
    page.run()
    number(page, "stop_at").set_value(3).run()
    button(page, "play").click().run()
    run = run_of(page)
    until(lambda: run.notice)
    page.run()
    assert "Stopped after step 3" in page.info[0].value and button(page, "play").label == "Play"
    button(page, "play").click().run()
    until(lambda: run.run.steps > 4)
    assert not page.info


def test_levels_are_added_and_taken_before_the_start(page):
    page.run()
    button(page, "level_add").click().run()
    button(page, "step").click().run()
    assert run_of(page).experiment.periods == (1, 4, 16, 64)
    until(lambda: run_of(page).run.steps == 1)
    for _ in range(5):
        button(page, "level_drop").click().run()
    assert "Reset" in page.info[0].value and not page.exception
    button(page, "reset").click().run()
    assert run_of(page).experiment.periods == (1,) and list(run_of(page).run.levels) == ["input", "memory", "head"]
    assert next(w for w in page.selectbox if w.key == "level").value == "memory"


def test_tasks_are_taught_in_another_order_and_a_strange_one_is_a_sentence(page):
    page.run()
    order = next(w for w in page.text_input if w.key == "order")
    order.set_value("B, A").run()
    button(page, "step").click().run()
    run = run_of(page)
    until(lambda: run.run.steps == 1)
    assert run.run.of(Switch)[0].task == "B" and page.query_params["order"] == "B,A"
    next(w for w in page.text_input if w.key == "order").set_value("A, Z").run()
    button(page, "reset").click().run()
    assert "Unknown task 'Z'" in page.error[0].value and not page.exception and run.run.steps == 1


def test_the_ceiling_is_trained_beside_the_run_and_told_as_a_line(page):
    run = run_of(opened(page))
    toggle(page, "ceiling").set_value(True).run()
    ceiling = run.ceiling
    assert ceiling.experiment.joint and ceiling.experiment.seed == run.experiment.seed
    until(lambda: ended([ceiling]))
    joint = sum(ceiling.run.last(Experience).accuracy.values()) / 2
    feed = Feed(run)
    note = next(n for n in feed.news()["overlay"]["accuracy"]["annotations"] if n["text"] == " joint")
    assert note["y"] == pytest.approx(joint) and note["y"] > 0.8
    toggle(page, "ceiling").set_value(False).run()
    assert run.ceiling is None and ceiling.closed
    assert "overlay" in feed.news()


# -- side by side
# -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def compared():
    opened = AppTest.from_file(str(APP / "page_compare.py"), default_timeout=PATIENCE)
    yield opened
    for run in runs_of(opened, "compare"):
        run.close()


def test_one_play_trains_both_on_the_same_samples_and_the_twin_is_one_click_away(compared):
    compared.session_state["begin_comparison"] = True  # what the button of the live page leaves
    compared.session_state["speed"] = settings.UNLIMITED
    compared.run()
    off, on = runs_of(compared, "compare")
    assert (off.experiment.optimizer, on.experiment.optimizer) == (
        "adam",
        "deep",
    ) and off.experiment.seed == on.experiment.seed
    until(lambda: off.run.steps > 3 and on.run.steps > 3)
    button(compared, "play").click().run()
    assert not off.playing and not on.playing
    button(compared, "twin_add").click().run()
    twin = runs_of(compared, "compare")[2]
    assert twin.experiment == on.experiment.but(frozen=True) and twin.playing and not on.playing
    assert compared.query_params["twin"] and not compared.exception
    button(compared, "twin_away").click().run()
    assert not twin.playing and len(runs_of(compared, "compare")) == 2 and "twin" not in compared.query_params


def test_pinned_runs_stand_side_by_side_with_what_sets_them_apart(compared):
    compared.run()
    button(compared, "pin").click().run()
    assert "nothing to pin" in compared.error[0].value
    for _ in range(2):
        button(compared, "step").click().run()
        until(
            lambda: all(
                run.state.step == run.run.steps > 0 and not run._wanting for run in runs_of(compared, "compare")
            )
        )
        button(compared, "pin").click().run()
    assert not compared.error and not compared.exception
    table = next(found.value for found in compared.markdown if found.value.startswith("| "))
    assert (
        "| optimizer | adam | deep | adam | deep |" in table
        and "| steps | 1 | 1 | 2 | 2 |" in table
        and "| seed" not in table
    )
    assert len(compared.get("plotly_chart")) == 2
    button(compared, "pin").click().run()
    assert "4 pinned runs are as many as fit. 4 are pinned and this would add 2: take 2 away" in said(compared.error[0])
    next(found for found in compared.button if found.key.startswith("unpin_2")).click().run()
    table = next(found.value for found in compared.markdown if found.value.startswith("| "))
    assert "| optimizer | adam | adam | deep |" in table
    button(compared, "pin").click().run()
    assert "3 are pinned and this would add 2: take 1 away" in said(compared.error[0])


def test_a_checkpoint_is_returned_to_by_all_runs_of_a_page(compared):
    compared.run()
    for _ in range(3):
        button(compared, "step").click().run()
        until(lambda: all(not run._wanting for run in runs_of(compared, "compare")))
    session = compared.session_state["sessions"]["compare"]
    session.ask(actions.back(0))
    compared.run()
    assert [run.state.step for run in session.live] == [0, 0] and not compared.error
    session.ask(actions.back(77))
    compared.run()
    assert "no checkpoint at step 77" in compared.error[0].value


# -- lessons, tour, glossary, mathematics
# -----------------------------------------------------------------------------------------


@pytest.fixture
def lessons(monkeypatch):
    """The page of the lessons, two of them with larger batches, and so with fewer steps."""
    for key, batch_size, toggle_at in (("overwrite", 20, 0), ("deep", 20, 35)):
        lesson = SCENARIOS[key]
        runs = {title: experiment.but(batch_size=batch_size) for title, experiment in lesson.runs.items()}
        commands = tuple((toggle_at, name, value) for _, name, value in lesson.scheduled_commands)
        monkeypatch.setitem(SCENARIOS, key, replace(lesson, runs=runs, scheduled_commands=commands))
    opened = AppTest.from_file(str(APP / "page_lessons.py"), default_timeout=PATIENCE)
    yield opened
    for run in runs_of(opened, "lessons"):
        run.close()


def test_a_lesson_waits_for_a_prediction_and_then_says_what_became_of_it(lessons):
    lessons.run()
    assert (
        button(lessons, "play").disabled and "Predict first" in button(lessons, "play").help and not lessons.exception
    )
    assert any("waits for your prediction" in found.value for found in lessons.caption)
    lessons.radio[0].set_value("Nearly all of it").run()
    assert not any("waits for your prediction" in found.value for found in lessons.caption)
    next(w for w in lessons.selectbox if w.key == "speed").set_value(settings.UNLIMITED).run()
    button(lessons, "play").click().run()
    (run,) = runs_of(lessons, "lessons")
    until(lambda: ended([run]))
    lessons.run()
    told = " ".join(found.value for found in lessons.markdown)
    assert "**You predicted:** Nearly all of it" in told and "**It was:** Nearly nothing" in told
    assert f"{run.run.summary['a_after_b']:.2f}, no better than guessing" in told
    assert dict(lessons.query_params) == {"lesson": "overwrite", "answer": "0"}
    button(lessons, "lesson_twin_add").click().run()
    whole, twin = runs_of(lessons, "lessons")
    assert whole is run and twin.experiment == run.experiment.but(frozen=True)
    until(lambda: ended([twin]), 60)
    lessons.run()
    assert any("against the twin on this seed" in found.value for found in lessons.markdown)
    button(lessons, "lesson_on").click().run()
    assert runs_of(lessons, "lessons") != [run] and lessons.radio[0].value is None and button(lessons, "play").disabled


def test_the_agenda_of_a_lesson_is_given_to_its_runs(lessons):
    lessons.query_params["lesson"] = "deep"
    lessons.query_params["answer"] = "1"
    lessons.run()
    next(w for w in lessons.selectbox if w.key == "speed").set_value(settings.UNLIMITED).run()
    button(lessons, "play").click().run()
    pair = runs_of(lessons, "lessons")
    until(lambda: ended(pair))
    assert [run.run.commands for run in pair] == [[(35, "optimizer", "deep")]] * 2
    lessons.run()
    assert any("**It was:** Only the one that watched ✓" in found.value for found in lessons.markdown)


@pytest.mark.parametrize("query", [{"lesson": "x", "answer": "-1"}, {"lesson": "slow", "answer": "99", "seed": "1e99"}])
def test_a_nonsense_address_of_a_lesson_is_survived(lessons, query):
    for key, value in query.items():
        lessons.query_params[key] = value
    lessons.run()
    assert not lessons.exception and lessons.radio[0].value is None
    if query.get("lesson") == "x":
        assert "no lesson 'x'" in lessons.error[0].value


def test_the_tour_stops_at_every_station_trains_and_ends(page):
    page.session_state["tour"] = 0
    page.run()
    assert not runs_of(page)  # the first stop frames networks that stand still
    seen = []
    while any(found.key == "tour_next" for found in page.button):
        seen.append(next(found.value for found in page.markdown if f" of {len(STATIONS)}" in found.value))
        button(page, "tour_next").click().run()
    assert len(set(seen)) == len(STATIONS) - 1 and not page.exception
    until(lambda: all(run.run.steps for run in runs_of(page)))
    button(page, "tour_end").click().run()
    assert not any(f" of {len(STATIONS)}" in found.value for found in page.markdown)


@pytest.mark.parametrize("name", ["tour", "glossary", "mathematics"])
def test_pages_to_read_come_up(name):
    opened = AppTest.from_file(str(APP / f"page_{name}.py"), default_timeout=PATIENCE).run()
    assert not opened.exception and opened.title and len(opened.markdown) > 5


def test_the_glossary_can_be_searched():
    opened = AppTest.from_file(str(APP / "page_glossary.py"), default_timeout=PATIENCE).run()
    whole = len(opened.markdown)
    opened.text_input[0].set_value("twin").run()
    assert 0 < len(opened.markdown) < whole
    opened.text_input[0].set_value("<script>").run()
    assert not opened.markdown and "Nothing here holds" in opened.info[0].value


# -- the address
# ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "experiment",
    [
        settings.START,
        settings.START.but(seed=4),
        Experiment(),
        Experiment(periods=(2, 8), loss="cross_entropy"),
        Experiment(frozen=True),
        Experiment(stream="names-ab"),  # not as its preset has it
        Experiment.preset("fashion-ab", optimizer="sgd"),
    ],
)
@pytest.mark.parametrize("speed", settings.SPEEDS)
def test_an_address_gives_back_what_was_written_into_it(experiment, speed):
    assert settings.read_address(settings.write_address(experiment, speed)) == (experiment, speed, [])


def test_the_address_of_an_experiment_means_that_experiment():
    wanted = Experiment(stream="digits-5x2", epochs=2, optimizer="adam")
    pairs = dict(pair.split("=") for pair in wanted.to_query().split("&"))
    assert settings.read_address(pairs)[0] == wanted
    assert settings.write_address(settings.START, settings.SPEED) == {}


@pytest.mark.parametrize("query", [{"stream": "plane-ab"}, {"seed": "4"}, {"base_optimizer": "sgd"}])
def test_an_address_that_names_no_optimizer_starts_with_the_plain_one(query):
    assert settings.read_address(query)[0].optimizer == query.get("base_optimizer", "adam")
    assert settings.read_address(query | {"optimizer": "deep"})[0].optimizer == "deep"


@pytest.mark.parametrize("stream", ["names-ab", "fashion-ab", "plane-ab", "permuted-digits-50"])
def test_the_address_of_a_stream_alone_is_its_preset(stream):
    assert settings.read_address({"stream": stream})[0] == Experiment.preset(stream, optimizer="adam")


def test_parts_that_do_not_go_together_fall_back_as_a_whole():
    experiment, _, problems = settings.read_address({"optimizer": "sgd", "periods": "8,2"})
    assert len(problems) == 1 and "must not fall" in problems[0] and experiment.optimizer == "sgd"


# -- what changes while running
# ---------------------------------------------------------------------------------------------------


def test_commands_carry_one_setting_to_another_and_name_the_rest():
    old = Experiment(optimizer="adam")
    given, after, waiting = settings.commands(
        old, old.but(optimizer="deep", rate=2.0, head_period=2, loss="cross_entropy"), LEVELS
    )
    assert given == [("period", ["head", 2]), ("rate", 2.0), ("optimizer", "deep")]
    assert after == old.but(optimizer="deep", rate=2.0, head_period=2) and waiting == ["loss"]


def test_another_plain_optimizer_takes_over_only_while_the_deep_one_is_off():
    deep = Experiment(optimizer="deep", base_optimizer="adam")
    assert settings.commands(deep, deep.but(base_optimizer="sgd"), LEVELS)[0] == []
    off = Experiment(optimizer="adam", base_optimizer="adam")
    switched = off.but(optimizer="sgd", base_optimizer="sgd", learning_rate=0.02)
    assert settings.commands(off, switched, LEVELS)[0] == [("optimizer", "sgd"), ("learning_rate", 0.02)]


def test_another_number_of_memory_levels_waits_for_a_reset():
    old = Experiment()
    assert settings.commands(old, old.but(periods=(1, 8)), LEVELS) == ([], old, ["periods"])


# -- the news
# ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def live():
    run = LiveRun(settings.START)
    yield run
    run.close()


def take(run, count):
    before = run.state.step
    run.step(count)
    until(lambda: run.run.steps == before + count)


def drawn(news, name):
    traces = [{"x": [], "y": []} for _ in news[0]["open"]["figures"][name]["data"][:-1]]
    for message in news:
        for trace, added in zip(traces, message.get("add", {name: []})[name], strict=False):
            trace["x"] += added["x"]
            trace["y"] += added["y"]
    return traces


def test_the_news_adds_up_to_the_figures_and_nothing_is_told_twice(live):
    feed, news = Feed(live), []
    news.append(feed.news())
    for count in (1, 3, 6):
        take(live, count)
        news.append(feed.news())
    assert feed.news() is None
    for name in figures.FIGURES:
        assert drawn(news, name) == figures.points(name, live.run.log, live.run.tasks, live.run.levels)
    assert news[-1]["now"]["step"] == 10 and len(news[-1]["now"]["accuracy"]) == 2


def test_every_step_that_is_told_has_its_own_sentence(live):
    feed = Feed(live)
    for steps in (1, 2):
        take(live, 1)
        message = feed.news()
        assert message["now"]["step"] == steps and f"for {steps} step" in message["sentence"]
    take(live, 2)
    assert "hint" in feed.news()
    take(live, 1)  # nothing is measured after step 5
    message = feed.news()
    assert message["now"]["step"] == 5 and "for 4 steps" in message["sentence"]
    assert "hint" not in message


def test_the_news_of_a_page_says_how_its_runs_compare(live):
    other = LiveRun(settings.START.but(optimizer="deep"))
    try:
        feeds = [Feed(live), Feed(other)]
        assert "The same samples" in together(feeds)["together"]
        for run in (live, other):
            take(run, 8)
        message = together(feeds)
        a, b = (run.run.of(Step)[-1].accuracy["A"] for run in (live, other))
        assert f"{a:.2f} with Adam and {b:.2f} with the deep optimizer" in message["together"]
        assert (
            set(message["runs"][0]["wrote"]) == {"input", "fast", "medium", "head"}
            and message["runs"][0]["writes"]["medium"] == 2
        )
        assert together(feeds) is None
    finally:
        other.close()


def test_the_decisions_of_a_manager_are_told_as_they_come(live):
    feed = Feed(live)
    take(live, 1)
    assert feed.news()["log"] == []
    saw = {"surprise": 0.9, "novelty": 0.8, "conflict": 0.1, "drift": 0.0}
    told = {"step": 1, "level": "slow", "saw": saw, "did": {"rate": 0.5}, "text": "Something new: learn."}
    live.run.log.append(Decision(**told))
    message = feed.news()
    assert message["log"] == [{"kind": "decision", **told}] and "overlay" not in message


def test_a_lost_line_resumes_where_it_broke_and_a_reset_begins_anew(live):
    feed = Feed(live)
    take(live, 3)
    feed.news()
    place = feed.place
    take(live, 2)
    resumed = Feed(live, place).news()
    assert "open" not in resumed and resumed["add"]["drift"][0]["x"] == [4, 5] and resumed["now"]["accuracy"]
    live.reset()
    until(lambda: live.generation == 1)
    assert Feed(live, place).news()["open"] and feed.news()["open"]


@pytest.mark.parametrize("place", ["", "x", "0:x", "7:3", "-1:-5", "0:99999999"])
def test_a_nonsense_place_is_survived(live, place):
    take(live, 2)
    assert Feed(live, place).news()["now"]["step"] == 2


def test_a_message_of_many_steps_stays_small(live):
    live.reset(settings.START.but(batch_size=20))
    until(lambda: live.generation == 1)
    feed = Feed(live)
    feed.news()
    take(live, 68)
    message = feed.news()
    assert message["hint"] == "collapsed" and message["became"].startswith("A is gone: ")
    assert all(len(trace["x"]) <= 140 for trace in message["add"]["drift"])
    assert [name for name, *_ in message["stills"]].count("matrix") == 2 and message["stills"][-1][2]["data"]
    assert (
        sum(
            level.wrote
            for row in figures.thin(live.run.log, 20)
            if isinstance(row, Step)
            for level in [row.levels["slow"]]
        )
        == 4
    )


@pytest.mark.slow  # a process that loads torch
def test_futures_are_trained_in_the_background_and_shown_as_a_fan(page):
    page.query_params.update({"dim": "8", "hidden": "8", "batch_size": "80"})
    page.run()
    button(page, "futures_train").click().run()
    job = page.session_state["futures_job"]
    assert job.over.wait(120) and job.error is None and not page.exception
    page.run()
    assert not page.exception and not messages(page)
    assert len(job.futures) > 10 and {future["at"] for future in job.futures} >= {1, job.planned_steps}
    first, last = (min(job.futures, key=lambda f: f["at"]), max(job.futures, key=lambda f: f["at"]))
    assert first["curve"][-1][0] == last["curve"][-1][0] == job.planned_steps
    shared.rooms().pool.close()
    shared.rooms.cache_clear()
