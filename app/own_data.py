"""What the lab makes of somebody's own two files, on the live page: the report, before anything is trained."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import shared
import streamlit as st

from nllab.data import load, uploads
from nllab.errors import DataError

MOST_MEGABYTES = 20  # of one upload; the command line reads larger files


def report(files: Sequence[Any]) -> list[str]:
    """The report on these uploads as lines of plain text. They are written into a folder that is gone afterwards.
    Raises DataError."""
    with tempfile.TemporaryDirectory() as place:
        kept = [uploads.keep(file.name, file.getvalue(), Path(place) / str(i)) for i, file in enumerate(files)]
        return load(kept).report.lines()


def panel() -> None:
    with st.expander("Your own data", icon=":material/table_view:", key="own-data"):
        sent = st.file_uploader(
            "Two tables, .npz files or .zip files of images: what A and then B teach",
            key="own_files",
            accept_multiple_files=True,
            max_upload_size=MOST_MEGABYTES,
            help="See what the lab makes of them. They are read here and kept nowhere.",
        )
        if len(sent) == 1:
            st.info("One more: the first file is task A, the second task B.")
        if len(sent) >= 2:
            try:
                st.code("\n".join(report(sent[:2])), language=None, wrap_lines=True)
            except DataError as error:
                st.error(shared.as_text(str(error)), icon=":material/error:")
            else:
                st.markdown("Train on them on your own machine, and replay the run here:")
                st.code(
                    "nllab run own:PATH_A,PATH_B --optimizer deep --out runs\nnllab export runs/seed-0 --zip run.zip",
                    language="bash",
                )
