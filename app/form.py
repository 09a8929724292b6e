"""The settings that the controls of a page show, and the address that holds them."""

from __future__ import annotations

import streamlit as st
from settings import START, preset_changes, read_address, write_address

from nllab.errors import SettingError
from nllab.experiment import PRESETS, Experiment, read_setting

MOST_LEVELS = 8
SETTINGS = (  # with a control of the same name
    "stream", "seed", "epochs", "batch_size", "loss", "model", "input_period", "head_period", "rate", "retention",
    "observe", "frozen", "manager", "front", "method",
)  # fmt: skip
state = st.session_state


def about(setting: str) -> str:
    text = Experiment.model_fields[setting].description or ""
    return text[:1].upper() + text[1:] + "."


def read_settings() -> list[str]:
    """Fill the controls with the settings of the address; what could not be used of it."""
    experiment, speed, problems = read_address(st.query_params)
    put(experiment, speed)
    return problems


def put(experiment: Experiment, speed: float) -> None:
    """Fill the controls with these settings."""
    state.base = experiment.but(base_optimizer=experiment.base)  # settings without a control stay as they are here
    state.speed = speed
    for name in SETTINGS:
        state[name] = getattr(state.base, name)
    state.deep, state.plain = experiment.optimizer == "deep", experiment.base
    state.periods = ", ".join(map(str, experiment.periods))
    state.order = ", ".join(experiment.order)
    state.learning_rate = "" if experiment.learning_rate is None else str(experiment.learning_rate)


def follow_preset() -> None:
    """Another stream brings the settings of its preset along."""
    if state.stream != state.base.stream:
        changes = preset_changes(state.base.stream, state.stream)
        for name in changes.keys() & set(SETTINGS):
            state[name] = changes[name]
        state.base = state.base.but(stream=state.stream, **changes)


def draft() -> Experiment:
    """The settings as the page shows them. Raises SettingError for what cannot be."""
    return state.base.but(
        **{name: state[name] for name in SETTINGS},
        optimizer="deep" if state.deep else state.plain,
        base_optimizer=state.plain,
        periods=read_setting("periods", state.periods),
        order=read_setting("order", state.order),
        learning_rate=read_setting("learning_rate", state.learning_rate.strip()),
    )


def add_level() -> None:
    periods = [part.strip() for part in state.periods.split(",")]
    if len(periods) < MOST_LEVELS and periods[-1].isdigit():
        state.periods = ", ".join([*periods, str(min(4 * int(periods[-1]), 100_000))])


def drop_level() -> None:
    periods = state.periods.split(",")
    if len(periods) > 1:
        state.periods = ",".join(periods[:-1])


def names_writer() -> bool:
    """Whether the address of this page says who writes, as that of a single network does."""
    return bool({"optimizer", "frozen", "joint", "method"} & set(st.query_params))


def remember(wanted: Experiment | None, *, pair: str | None = None, **more: str) -> None:
    """Write the settings into the address. pair: how many networks stand side by side, of which each has its own
    writer; None for one, whose writer the address names."""
    if wanted is None:
        return
    if wanted.stream not in PRESETS:  # somebody's own files are held for this session alone, and no address names them
        wanted = wanted.but(stream=START.stream)
    address = write_address(wanted, state.speed) | more
    if pair:
        for key in ("optimizer", "frozen"):
            address.pop(key, None)
        if state.plain != START.optimizer:
            address["base_optimizer"] = state.plain
    if pair and (pair != "2" or "method" in address):
        address["networks"] = pair
    if not pair and "optimizer" not in address and not more:
        address["networks"] = "1"
    if "present" in st.query_params:
        address["present"] = "1"
    if dict(st.query_params) != address:
        st.query_params.from_dict(address)


def shown() -> tuple[Experiment | None, list[str]]:
    """(the settings that the controls show, why they cannot be used); None in place of settings that cannot."""
    try:
        return draft(), []
    except SettingError as error:
        return None, [str(error)]
