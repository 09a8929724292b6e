"""The lessons: a question, a prediction, a training, and what became of the prediction."""

from __future__ import annotations

import actions
import controls
import form
import streamlit as st
from session import Session, state
from settings import MOST_SEED, TWIN

from nllab import claims, figures
from nllab.events import End, Experience
from nllab.runs import Run
from nllab.scenarios import DONT_KNOW, NOT_TOLD, SCENARIOS

MOST_RUNS = 4  # that stand side by side

session = Session.of("lessons")
keys = list(SCENARIOS)
if "lesson" not in state:
    asked = st.query_params.get("lesson", keys[0])
    state.lesson = asked if asked in SCENARIOS else keys[0]
    if asked not in SCENARIOS:
        session.problems = [f"There is no lesson {asked!r}; this is the first. Lessons: {', '.join(keys)}."]
    choices = [*SCENARIOS[state.lesson].choices, DONT_KNOW]
    answer = st.query_params.get("answer", "")
    state.answers = {state.lesson: choices[int(answer)]} if answer.isdigit() and int(answer) < len(choices) else {}
if "lesson_next" in state:
    state.lesson = state.pop("lesson_next")
scenario = SCENARIOS[state.lesson]
if state.get("lesson_shown") != state.lesson:
    if "lesson_shown" in state:
        session.clear()
        session.problems = []
        state.pop("lesson_twin", None)
    state.lesson_shown, state.speed = state.lesson, scenario.speed
    state.prediction = state.answers.get(state.lesson)
state.setdefault("lesson_seed", state.base.seed)
wanted = {
    title: experiment.but(seed=min(max(state.lesson_seed, 0), MOST_SEED)) for title, experiment in scenario.runs.items()
}
last = list(wanted)[-1]
if state.get("lesson_twin") == state.lesson:
    wanted[TWIN] = wanted[last].but(frozen=True)
waiting = session.sync(wanted, state.speed)
for run in session.live:
    run.scheduled_commands, run.asked = scenario.scheduled_commands, scenario.asks


def predict() -> None:
    state.answers[state.lesson] = state.prediction


def add_twin() -> None:
    state.lesson_twin = state.lesson
    session.ask(actions.catch_up)


def lit(text: str) -> str:
    """The text as HTML, in which a figure's title, and what stands for a view, lights it (main.css)."""
    for name, title in {
        **figures.TITLES,
        "network": "frames around the image",
        "words": "names that each makes",
    }.items():
        text = text.replace(title, f"<span class='nl-names nl-names-{name}'>{title}</span>")
    return text


def learned_beside(twin: Run, whole: Run) -> str | None:
    """What hidden levels that learn are worth beside a twin that has been trained to its end."""
    end = twin.last(End)
    if not end or end.reason != "finished" or twin.summary.get("average_accuracy") is None:
        return None
    return claims.hidden_levels([whole.summary["average_accuracy"]], [twin.summary["average_accuracy"]])


st.title("Lessons", anchor=False)
st.selectbox(
    "Lesson",
    keys,
    key="lesson",
    format_func=lambda key: f"{keys.index(key) + 1} · {SCENARIOS[key].title}",
    filter_mode=None,
    help="Each asks one question; first predict, then watch.",
    persist_state="session",
)
answer = state.answers.get(state.lesson)
watching, asking = st.columns([0.72, 0.28], gap="medium")  # what came of the prediction stands beside the curve
with asking, st.container(key="lesson_text"):
    st.markdown(f"**{scenario.goal}**")
    st.radio(
        scenario.question,
        [*scenario.choices, DONT_KNOW],
        index=None,
        key="prediction",
        on_change=predict,
        persist_state="session",
        help="Your prediction, before you press Play.",
    )
    answer = state.answers.get(state.lesson)
    if not answer:
        st.caption("**Play waits for your prediction:** choose an answer above.")
    look = "; ".join(scenario.look).rstrip("?.") + ("?" if scenario.look[-1].endswith("?") else ".")
    st.html(f"<p class='nl-look'>What to look at: {lit(look)}</p>")
    every = [run.run for run in session.live]
    done = every[: len(scenario.runs)]
    if len(done) == len(scenario.runs) and all(
        (end := run.last(End)) and end.reason == "finished" and run.last(Experience) is not None for run in done
    ):
        came, text = scenario.reveal(dict(zip(scenario.runs, done, strict=True)))
        was = NOT_TOLD if came is None else scenario.choices[came]
        right = answer == was
        with st.container(border=True, key="reveal"):
            st.markdown(f"**You predicted:** {answer or 'nothing'}  \n**It was:** {was}{' ✓' if right else ''}")
            st.markdown(text)
            if len(every) > len(scenario.runs):
                said = learned_beside(every[-1], done[-1])
                st.markdown(said or f"The twin of “{last}” is being trained: all but its output layer stands still.")
            elif len(every) < MOST_RUNS:
                st.button(
                    "And what did the hidden levels learn?", key="lesson_twin_add", icon=":material/ac_unit:",
                    on_click=add_twin,
                    help=f"Trains “{last}” once more, of which only the output layer learns.",
                )  # fmt: skip
            st.markdown(f"**{scenario.after}**")
            following = keys.index(state.lesson) + 1
            if following < len(keys):
                st.button(
                    f"Next: {SCENARIOS[keys[following]].title}",
                    key="lesson_on",
                    icon=":material/arrow_forward:",
                    shortcut="Right",
                    on_click=lambda: state.update(lesson_next=keys[following]),
                    help="To the next lesson.",
                )
with watching:
    controls.controls(
        session, teaching=False, locked="" if answer else "Predict first: choose an answer beside the figures."
    )
    controls.messages(session, [], waiting)
    controls.view(session, list(wanted))
with st.sidebar:
    st.subheader("Settings of this lesson")
    st.number_input(
        "Seed",
        key="lesson_seed",
        min_value=0,
        max_value=MOST_SEED,
        step=1,
        help=form.about("seed"),
        persist_state="session",
    )
    first = next(iter(wanted.values()))
    st.markdown(
        f"Stream `{first.stream}`, model `{first.model}`, loss {first.loss.replace('_', ' ')}, batches of"
        f" {first.batch_size}."
    )
    for title, experiment in wanted.items():
        periods = ", ".join(map(str, experiment.periods))
        st.markdown(
            f"**{title}**: writes `{experiment.optimizer}`, periods {periods}"
            + ("" if experiment.observe else ", memory blind")
        )
    for at, name, value in scenario.scheduled_commands:
        st.markdown(f"From step {at} on: {name} `{value}`.")
    st.caption(
        "Another seed is another network and another order of samples. What the lesson says at the end is computed from"
        " your run."
    )
answered = [*scenario.choices, DONT_KNOW].index(answer) if answer in [*scenario.choices, DONT_KNOW] else None
address = {"lesson": state.lesson} | ({} if answered is None else {"answer": str(answered)})
if state.lesson_seed:
    address["seed"] = str(state.lesson_seed)
if dict(st.query_params) != address:
    st.query_params.from_dict(address)
