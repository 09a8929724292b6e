"""A run as one HTML file with a time slider and a play button, which needs no server and no network. No torch.

`recording(run)` is all that a player is told: figures and, for each moment, what stands beside them. `page(run)` is the
    file.
The dashboard plays the same recording with the same script (player.js over the view modules) and style (player.css).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

from nllab import figures, narration, pictures, view
from nllab.events import Decision, Event, Experience, Network, Step, Where, jsonable, measured
from nllab.experiment import Experiment, spelled
from nllab.reproduce import command_line, snippet
from nllab.runs import Run, periods_asked
from nllab.scenes import Scenes, changed_levels, stage

HERE = Path(__file__).parent
POINTS = 800  # of a curve
MOMENTS = 300  # at which the slider can stand
PICTURES = 12  # of each kind
SCENES = 16  # portraits of the network
STILLS = {Experience: "matrix", Where: "where"}  # the others are the stage's; `where` only without a stage
SCRIPT, STYLE = "player.js", "player.css"


def recording(run: Run) -> dict[str, Any]:
    """What a player needs to know of a run, as JSON can hold it."""
    thinned = replace(run, log=_thinned(run.log))
    drawn = {name: _figure(name, thinned, run.steps) for name in figures.CURVES}
    drawn = {
        name: spec
        for name, spec in drawn.items()
        if name in figures.FIGURES or any(trace["x"] for trace in spec["data"])
    }
    score = run.summary
    content = {
        "title": _title(run),
        "tasks": run.tasks,
        "figures": drawn,
        "about": figures.ABOUT,
        "writers": narration.WRITERS | {"deep": "deep optimizer"},
        "moments": _moments(run),
        "stills": _stills(run),
        "levels": list(run.levels),
        "periods": run.levels,
        "stage": stage(run.log[:50], list(run.levels), drawn=any(run.of(Network))),
        "scenes": _scenes(run),
        "decisions": [{"step": d.step, "text": d.text, "did": d.did} for d in run.of(Decision)],
        "events": sorted(
            [[mark["step"], mark["text"]] for mark in figures.marks(run.log)]
            + [[decision.step, f"{decision.level}: {decision.text}"] for decision in run.of(Decision)],
            key=lambda event: event[0],
        ),
        "settings": [
            [key, spelled(value) or "–", Experiment.model_fields[key].description] for key, value in run.experiment
        ],
        "scores": [
            [" ".join(w.upper() if w in "ab" else w for w in key.split("_")), f"{value:.3f}"]
            for key, value in score.items()
            if isinstance(value, float)
        ],
        "snippet": snippet(run),
        "command": command_line(run),
    }
    return jsonable(content)


def _scenes(run: Run) -> list[dict[str, Any]]:
    """The portraits, as many as fit, the first and the last among them."""
    scenes = list(Scenes(drawn=any(run.of(Network))).read(run.log))
    stride = math.ceil(len(scenes) / SCENES) or 1
    sent: dict[str, str] = {}
    return [changed_levels(scene, sent) for scene in scenes[::-1][::stride][::-1]]


def _title(run: Run) -> str:
    """The stream, who wrote, one after another, and the seed."""
    writers = [key for key, _ in groupby(step.optimizer for step in run.of(Step))] or [run.experiment.optimizer]
    names = [narration.WRITERS.get(str(writer), str(writer)) for writer in writers[:3]] + ["others"] * (
        len(writers) > 3
    )
    twin = ", the frozen twin" if run.experiment.frozen else ""
    return f"{run.experiment.stream}: {', then '.join(names)}{twin}, seed {run.experiment.seed}"


def _thinned(log: Sequence[Event]) -> list[Event]:
    """About POINTS steps that stand for all, and as many measurements; events of other kinds all stay."""
    places = [i for i, event in enumerate(log) if isinstance(event, Step) and event.accuracy is not None]
    stride = math.ceil(len(places) / POINTS) or 1
    dropped = set(places) - {*places[::stride], *places[-1:]}
    return figures.thin(
        [replace(e, accuracy=None) if i in dropped and isinstance(e, Step) else e for i, e in enumerate(log)], POINTS
    )


def _figure(name: str, run: Run, steps: int) -> figures.Spec:
    spec = figures.draw(name, run)
    spec["layout"]["xaxis"]["range"] = [0, max(steps, 1)]
    values = [math.log10(y) for trace in spec["data"][:-1] for y in trace["y"] if y] if name == "drift" else []
    if values:  # the whole of it from the start, so that it stands still while the curves grow
        spec["layout"]["yaxis"]["range"] = [min(values) - 0.15, max(values) + 0.15]
    return spec


def _moments(run: Run) -> list[dict[str, Any]]:
    """What is shown beside the curves once a step is over, for as many steps as a slider needs."""
    log = run.log
    ends = [i for i, event in enumerate(log) if i + 1 == len(log) or log[i + 1].step > event.step]
    stride = math.ceil(len(ends) / MOMENTS) or 1
    moments, optimizer, task, periods, read = [], run.experiment.optimizer, run.tasks[0], dict(run.levels), 0
    for i in [*ends[:-1:stride], *ends[-1:]] or [-1]:
        past = log[: i + 1]
        step = next((event for event in reversed(past) if isinstance(event, Step)), None)
        if step:
            optimizer, task = step.optimizer, step.task
        asked = periods_asked(past[read:])
        periods |= asked
        lanes = {"lanes": figures.lanes(periods)["ticktext"]} if asked or not moments else {}
        read = len(past)
        labels = {name: figures.ends(name, past, run.tasks, run.levels) for name in figures.CURVES}
        moments.append(
            {
                "step": past[-1].step if past else 0,
                "task": task,
                "optimizer": optimizer,
                "accuracy": next((accuracy for _, accuracy in measured(reversed(past))), {}),
                "sentence": narration.sentence(past, run.tasks),
                "ends": {name: label for name, label in labels.items() if label},
                **lanes,
            }
        )
    return moments


def _stills(run: Run) -> dict[str, list[list[Any]]]:
    """Pictures by their names, each [step, figure]; of a long run as many as fit."""
    pictures_of = {}
    for kind, name in STILLS.items():
        if kind is Where and any(run.of(Network)):
            continue
        places = [i for i, event in enumerate(run.log, start=1) if isinstance(event, kind)]
        stride = math.ceil(len(places) / PICTURES) or 1
        specs = [[run.log[end - 1].step, pictures.still(name, run, end)] for end in places[::-1][::stride][::-1]]
        if any(spec for _, spec in specs):
            pictures_of[name] = [[step, spec] for step, spec in specs if spec]
    return pictures_of


def embedded(value: Any) -> str:
    """The value as JSON that may stand inside a <script>: nothing in it can end the element or a line of the
    program."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def recordings(runs: Mapping[str, Run]) -> list[dict[str, Any]]:
    """The recordings of runs that are watched side by side, with the titles that stand above them."""
    return [recording(run) | ({"heading": title} if title else {}) for title, run in runs.items()]


def page(runs: Run | Mapping[str, Run]) -> str:
    """A run, or runs side by side by their titles, as one HTML document. It asks for nothing from anywhere, and its own
    rules forbid that it could."""
    rules = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
    recorded = recordings(runs if isinstance(runs, Mapping) else {"": runs})
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{rules}">
<title>{escape(recorded[0]["title"])} · nllab</title>
<style>{style()}</style>
</head>
<body class="pl-page">
<main id="player"><noscript>This recording is played by a script, and scripts are switched off here.</noscript></main>
<script type="application/json" id="recording">{embedded(recorded)}</script>
<script>{script()}
new Player(document.getElementById("player"), JSON.parse(document.getElementById("recording").textContent));
</script>
</body>
</html>
"""


def script() -> str:
    """The player with the view that it draws with, as one script."""
    return view.bundle() + "\n" + (HERE / SCRIPT).read_text(encoding="utf-8")


def style() -> str:
    """The player's style sheet."""
    return view.style() + (HERE / STYLE).read_text(encoding="utf-8")
