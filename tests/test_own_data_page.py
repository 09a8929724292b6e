"""The live page says what the lab makes of uploads, as plain text."""

import sys
from pathlib import Path

import pytest
from waiting import PATIENCE

pytest.importorskip("streamlit")
from streamlit.testing.v1 import AppTest

from nllab.experiment import Experiment
from nllab.trainer import Trainer

sys.path.insert(0, str(Path(__file__).parent.parent / "app"))


def script():
    import form
    import own_data
    import streamlit as st
    from session import Session

    session = Session.of("live")
    own_data.panel(session)
    base, problems = form.shown()
    form.remember(base, pair="2")
    st.session_state.told = base and (base.stream, base.dim), problems, len(session.todo)


def table(offset):
    rows = [f"{i};{i * 37 % 101 + offset},5;{'up' if i % 3 else 'down'}" for i in range(40)]
    return ("nr;x;label\n" + "\n".join(rows)).encode()


def uploaded(*files):
    page = AppTest.from_function(script, default_timeout=PATIENCE).run()
    (uploader,) = page.get("file_uploader")
    return uploader.set_value(list(files)).run()


def test_two_files_are_reported_and_then_trained_on_and_no_address_names_them():
    page = uploaded(("a.csv", table(0), "text/csv"), ("b.csv", table(2), "text/csv"))
    assert not page.exception and not page.error
    report, command = (block.value for block in page.code)
    assert (
        "semicolons with decimal commas; 40 samples" in report and "'nr'" in report and "shared classes: all" in report
    )
    assert command.startswith("nllab run own:PATH_A,PATH_B")
    page.button(key="own_train").click().run()
    (stream, units), problems, waiting = page.session_state["told"]
    place = page.session_state["own_place"].name
    assert stream.startswith(f"own:{place}/0/a-") and units == 32 and not problems and waiting == 1
    assert "stream" not in page.query_params and place not in str(dict(page.query_params))
    trained = Trainer(Experiment(stream=stream)).step()
    assert any(event.kind == "step" for event in trained)
    page.session_state["own_place"].remove()
    assert not Path(place).exists()


def test_one_file_asks_for_another_and_a_bad_one_is_named_without_markdown():
    assert "One more" in uploaded(("a.csv", table(0), "text/csv")).info[0].value
    page = uploaded(("a.csv", table(0), "text/csv"), ("![x](y).csv", b"\0\1\2", "text/csv"))
    assert not page.exception and "![x](y)" not in page.error[0].value and "/tmp" not in page.error[0].value
