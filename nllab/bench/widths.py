"""The wider the net, the less is left to learn: learned levels beside their frozen twin, width by width, on the same
seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.table import Table

from nllab.claims import compare_seeds, hidden_levels
from nllab.errors import SettingError
from nllab.experiment import Experiment
from nllab.figures import FAINT, INK, Spec
from nllab.summary import paired_difference, spread
from nllab.tables import interval, mean_std, table_of

WIDTHS = (8, 16, 32, 64, 128, 256)
QUICK = (8, 64)
LEARNED, TWIN = "every level learns", "frozen twin"
COLOURS = {LEARNED: "#0072B2", TWIN: "#7A7A7A"}


def run_widths(
    *,
    widths: Sequence[int | str] = (),
    preset: str = "digits-ab",
    seeds: int = 3,
    quick: bool = False,
    report: Callable[[str], None] = lambda line: None,
    device: str = "cpu",
) -> dict[str, Any]:
    """Final average accuracy of the deep optimizer at each width, with all levels learning and with the head alone.

    widths: of the net and inside its memory levels alike. quick: two widths, two seeds.
    Raises: SettingError for a width that is no whole number from 1.
    """
    from nllab.trainer import Trainer

    chosen = tuple(map(_width, widths)) or (QUICK if quick else WIDTHS)
    rows = []
    for width in chosen:
        values: dict[str, list[float]] = {LEARNED: [], TWIN: []}
        for seed in range(2 if quick else seeds):
            for name, scores in values.items():
                settings = {"dim": width, "hidden": width, "frozen": name == TWIN, "evaluate_every": 100_000}
                run = Trainer(Experiment.preset(preset, optimizer="deep", seed=seed, **settings), device=device).run()
                scores.append(run.summary["average_accuracy"])
        gap = paired_difference(values[LEARNED], values[TWIN])
        rows.append({"width": width, **{name: spread(scores) for name, scores in values.items()}, "difference": gap})
        report(f"{width} units: {hidden_levels(values[LEARNED], values[TWIN])}")
    result = {"preset": preset, "seeds": 2 if quick else seeds, "rows": rows}
    return result | {"sentence": sentence(rows), "figure": width_curve(result)}


def _width(given: int | str) -> int:
    if not str(given).isdigit() or not 1 <= int(given) <= 4096:
        raise SettingError(f"The width {given!r} is no whole number from 1 to 4096.")
    return int(given)


def sentence(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """What the narrowest and the widest net say about what is left to learn; None for a single width."""
    if len(rows) < 2:
        return None
    narrow, wide = (min(rows, key=_of), max(rows, key=_of))
    gains = [row["difference"]["values"] for row in (narrow, wide)]
    order = compare_seeds(*gains)
    means = [f"{row['difference']['mean']:+.3f} at {row['width']} units" for row in (narrow, wide)]
    text = f"What levels that learn add to their twin: {means[0]}, {means[1]}"
    if order is None:
        return f"{text}; one seed does not say whether that is more than chance."
    if order == "alike":
        return f"{text}, which differ by less than they vary."
    return f"{text}: the wider the net, the {'less' if order == 'higher' else 'more'} learning adds."


def _of(row: Mapping[str, Any]) -> int:
    return row["width"]


def width_curve(result: Mapping[str, Any]) -> Spec:
    """Accuracy over width, learned and frozen, with the standard deviation over seeds, as a Plotly specification."""
    rows = sorted(result["rows"], key=_of)
    widths = [row["width"] for row in rows]
    data = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": name,
            "x": widths,
            "y": [row[name]["mean"] for row in rows],
            "error_y": {"type": "data", "array": [row[name]["std"] or 0.0 for row in rows], "color": colour},
            "line": {"color": colour, "dash": "solid" if name == LEARNED else "dot"},
        }
        for name, colour in COLOURS.items()
    ]
    axis = {"gridcolor": FAINT, "zeroline": False}
    units = {**axis, "type": "log", "tickvals": widths, "ticktext": list(map(str, widths)), "title": {"text": "units"}}
    layout = {
        "title": {"text": f"Average accuracy on {result['preset']} at the end, {result['seeds']} seeds"},
        "font": {"color": INK},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "xaxis": units,
        "yaxis": {**axis, "range": [0, 1.02]},
        "legend": {"x": 1, "xanchor": "right", "y": 0.02},
    }
    return {"data": data, "layout": layout}


def widths_tables(result: Mapping[str, Any]) -> list[Table | str]:
    """What `run_widths` found, for the terminal."""
    rows = [
        (str(row["width"]), *(mean_std(row[name]) for name in (LEARNED, TWIN)), interval(row["difference"]))
        for row in result["rows"]
    ]
    title = f"{result['preset']}, average accuracy, {result['seeds']} seeds"
    shown = table_of(title, ("units", LEARNED, TWIN, "difference"), rows, 0)
    return [shown, *([result["sentence"]] if result["sentence"] else [])]
