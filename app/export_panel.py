"""Sharing and keeping: the link to a page's settings, its runs as files, and the code that repeats them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import streamlit as st
import streamlit.components.v2 as components
from session import Session

from nllab import html_export, run_io
from nllab.reproduce import command_line, snippet
from nllab.runs import Run

HERE = Path(__file__).parent
_links = components.component("nllab_links", js=(HERE / "links.js").read_text(encoding="utf-8"), isolate_styles=False)

WAYS: dict[str, tuple[str, str, Callable[[Run], bytes | str], str]] = {  # ending -> (label, type, contents, help)
    "zip": (
        "Run",
        "application/zip",
        run_io.pack,
        "All of it in one file: settings, every event, scores, code. The page Replay takes it back.",
    ),
    "html": (
        "Replay",
        "text/html",
        html_export.page,
        "A page with a time slider that plays this run in any browser, without server or network.",
    ),
    "csv": ("Table as CSV", "text/csv", run_io.to_csv, "Every number and every event, a line each."),
    "parquet": (
        "Table as Parquet",
        "application/vnd.apache.parquet",
        run_io.to_parquet,
        "The same table for pandas, Polars or DuckDB.",
    ),
    "json": (
        "Experiment",
        "application/json",
        lambda run: run.experiment.to_json(),
        "The settings that the run began with.",
    ),
}


def export_panel(session: Session) -> None:
    """The link and, for each run of the session, its downloads and its code."""
    with st.expander("Share and keep", icon=":material/ios_share:", key="keep"):
        _links(key=f"links-{session.name}")
        if len(session.live) > 1:
            together(session)
        for title, live in zip(session.runs, session.live, strict=False):
            if title:
                st.markdown(f"**{title}**")

            def as_it_stands(live=live) -> Run:
                return live.run.upto()

            downloads(as_it_stands, f"{session.name}-{title}")
            if live.playing:
                st.caption("Pause for the code that repeats this run: while it trains it is not over.")
            elif live.run.steps:
                code(live.run)


def together(session: Session) -> None:
    """All runs of the session as one page that plays them side by side."""

    def made() -> bytes:
        runs = {title: live.run.upto() for title, live in zip(session.runs, session.live, strict=True)}
        return html_export.page(runs).encode()

    seed = session.live[0].run.experiment.seed
    st.download_button(
        "All side by side",
        made,
        f"nllab-comparison-seed-{seed}.html",
        "text/html",
        key=f"keep-{session.name}-together",
        help="One page that plays these runs beside each other in any browser, without server or network.",
        on_click="ignore",
        icon=":material/compare:",
    )


def downloads(taken: Callable[[], Run], key: str) -> None:
    """A button for each kind of file; `taken` says what it holds when it is pressed."""
    run = taken()
    stream = "".join(c if c.isalnum() or c in "-_" else "-" for c in run.experiment.stream)[:40]
    name = f"nllab-{stream}-seed-{run.experiment.seed}"
    with st.container(horizontal=True, gap="xsmall"):
        for ending, (label, kind, contents, about) in WAYS.items():

            def made(contents=contents) -> bytes:
                found = contents(taken())
                return found if isinstance(found, bytes) else found.encode()

            st.download_button(
                label,
                made,
                f"{name}.{ending}",
                kind,
                key=f"keep-{key}-{ending}",
                help=about,
                on_click="ignore",
                icon=":material/download:",
            )


def code(run: Run) -> None:
    st.caption("Repeats this run exactly, with all that was changed on the way: in Python, or on the command line.")
    st.code(snippet(run), language="python")
    st.code(command_line(run), language="bash", wrap_lines=True)
