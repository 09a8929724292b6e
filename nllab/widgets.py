"""The live lab inside a notebook: buttons, figures and one sentence over a training that goes on in the kernel itself.

The same trainer as everywhere, in a thread of its own (live.py); a second thread redraws what is new a few times a
second. Run its cell again, and it takes the place of its predecessor; reload the page, and its curves are there again;
without its kernel its last picture is there, and says how to go on (place.py).
"""

from __future__ import annotations

import html
import io
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets as widgets

from nllab import figures, live_figure, narration
from nllab.errors import SettingError, unknown
from nllab.events import Event
from nllab.experiment import LEARNING_RATES, Experiment
from nllab.live import LiveRun
from nllab.place import Place, building
from nllab.runs import Run
from nllab.stage_widget import StageWidget
from nllab.trainer import train

KNOBS = ("optimizer", "teach", "learning_rate", "periods", "rate", "retention", "manager")
HINT = "The live lab on {}. Run this cell in Jupyter, then press Play."
SPEEDS = (("5 steps/s", 5.0), ("20 steps/s", 20.0), ("100 steps/s", 100.0), ("unlimited", None))
PERIODS = (1, 2, 4, 8, 16, 32, 64)
REDRAW_SECONDS = 0.2  # a figure sends whole arrays again, so no more than five times a second


class LiveLab:
    """A training to play, pause, step and steer, with figures that grow while it goes on; show it as the last value of
    a cell.

    knobs: what can be changed while it trains, out of `KNOBS`; optimizer is the toggle of the deep optimizer. Its
        manager alone is switched by the next reset.
    views: what its figure shows, one below the other, out of `figures.FIGURES`.
    speed: steps per second, or None for unlimited. network: whether the network itself stands above the figure, unit
        by unit (stage_widget.py).
    `reset` starts anew from where the knobs stand. `close()` ends both threads; a `with` block does it by itself.

    Raises: SettingError for a knob or a view that does not exist.
    """

    def __init__(
        self,
        experiment: Experiment | None = None,
        *,
        knobs: Sequence[str] = ("optimizer", "teach"),
        views: Sequence[str] = figures.FIGURES,
        speed: float | None = 20.0,
        network: bool = False,
    ) -> None:
        for kind, given, known in (("knob", knobs, KNOBS), ("view", views, figures.FIGURES)):
            for name in given:
                if name not in known:
                    raise unknown(kind, name, known)
        self.experiment = experiment or Experiment()
        self.live = LiveRun(self.experiment, speed=speed)
        self._drawing = threading.RLock()
        self._ending = threading.Event()
        self._drawn: tuple[Any, ...] = ()
        self._pictured: tuple[Any, ...] = ()

        self.play = widgets.Button(
            icon="play", description="Play", button_style="primary", tooltip="Train, or stand still"
        )
        self.step = widgets.Button(
            icon="step-forward", description="Step", tooltip="Train on one batch, then stand still"
        )
        self.reset = widgets.Button(
            icon="refresh", description="Reset", tooltip="Start anew from where the knobs stand"
        )
        self.toggle = widgets.ToggleButton(value=self.experiment.optimizer == "deep", layout={"width": "190px"})
        self.teach = {name: widgets.Button(description=f"Teach {name}") for name in self.live.run.tasks}
        self.speed = widgets.Dropdown(
            options=_with(SPEEDS, speed), value=speed, description="speed", layout={"width": "190px"}
        )
        self.seed = widgets.BoundedIntText(
            self.experiment.seed,
            min=0,
            max=2**31 - 1,
            description="seed",
            tooltip="Used by the next reset",
            layout={"width": "150px"},
        )
        self.learning_rate = widgets.FloatLogSlider(
            self.experiment.base_learning_rate, min=-6, max=-1, step=0.25, description="learning rate",
            continuous_update=False,
            readout_format=".1e", style={"description_width": "90px"}, layout={"width": "420px"},
        )  # fmt: skip
        self.periods = {
            name: widgets.SelectionSlider(
                options=sorted({*PERIODS, period}),
                value=period,
                description=name,
                continuous_update=False,
                layout={"width": "240px"},
            )
            for name, period in self.live.run.levels.items()
        }
        self.rate = widgets.FloatLogSlider(
            max(self.experiment.rate, 1e-3), min=-3, max=2, step=0.1, description="deep rate", continuous_update=False,
            readout_format=".2g", style={"description_width": "90px"}, layout={"width": "420px"},
        )  # fmt: skip
        self.retention = widgets.FloatSlider(
            self.experiment.retention, min=0, max=1, step=0.01, description="retention", continuous_update=False,
            style={"description_width": "90px"}, layout={"width": "420px"},
        )  # fmt: skip
        self.manager = widgets.Checkbox(
            self.experiment.manager, description="manager (from the next reset)", indent=False
        )
        self.sentence = widgets.HTML()
        self.views = tuple(views)
        self.figure = self._empty_figure()
        self.network = StageWidget(self.live) if network else None
        self.box = self._laid_out(knobs)
        self._listen()
        self._name_toggle()
        me = weakref.ref(self)
        self.place = Place(
            self.box,
            hint=HINT.format(self.experiment.stream),
            close=lambda: (lab := me()) and lab.close(),
            again=lambda: (lab := me()) and lab.send_again(),
        )
        if building():  # a page that is only read shows the run that Play would have made
            self.place.frames = {"experiment": self.experiment.model_dump(mode="json")}
            self.place.picture(self._png(train(self.experiment)))
        self.refresh()
        # Threads and widgets know the lab only weakly: one that nobody can reach any more ends.
        self._watcher = threading.Thread(
            target=_watch, args=(me, self._ending), name=f"watch-{self.live.id[:6]}", daemon=True
        )
        self._watcher.start()
        weakref.finalize(self, _end, self.live, self._ending)

    def _laid_out(self, knobs: Sequence[str]) -> widgets.VBox:
        wrapping = {"flex_flow": "row wrap", "align_items": "center"}
        rows = [[self.play, self.step, self.reset, self.speed, self.seed]]
        steering = [self.toggle] * ("optimizer" in knobs) + list(self.teach.values()) * ("teach" in knobs)
        rows += [steering] * bool(steering)
        rows += [[self.learning_rate]] * ("learning_rate" in knobs)
        rows += [[self.rate]] * ("rate" in knobs) + [[self.retention]] * ("retention" in knobs)
        rows += [[self.manager]] * ("manager" in knobs)
        rows += [list(self.periods.values())] * ("periods" in knobs)
        bars = [widgets.Box(row, layout=wrapping) for row in rows]
        shown = [self.sentence, *([self.network] if self.network else []), self.figure]
        return widgets.VBox([*bars, *shown], layout={"max_width": "960px"})

    def _empty_figure(self) -> live_figure.Curves:
        # One widget for all views: of several that a page loads at once, plotly 7.1 with anywidget 0.11 draws the last
        # alone.
        run, state = self.live.run, self.live.state
        specs = [figures.empty(name, run.tasks, run.levels, steps=state.planned_steps) for name in self.views]
        self._shown = {name: spec["layout"]["xaxis"]["range"] for name, spec in zip(self.views, specs, strict=True)}
        self._marked: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
        return live_figure.Curves(live_figure.stacked(specs))

    def traces(self, view: str) -> list[Any]:
        """The traces of one view: one for each task or level."""
        axis = f"x{live_figure.suffix(self.views.index(view))}"
        traces: Any = self.figure.data
        return [trace for trace in traces if trace.xaxis == axis and trace.mode != "text"]

    def _listen(self) -> None:
        me = weakref.ref(self)

        def do(what: Callable[[LiveLab, Any], Any]) -> Callable[[Any], None]:
            def called(change: Any) -> None:
                if (lab := me()) is not None:
                    lab._trying(what, lab, change)

            return called

        self.play.on_click(do(lambda lab, _: lab.live.pause() if lab.live.playing else lab.live.play()))
        self.step.on_click(do(lambda lab, _: lab.live.step()))
        self.reset.on_click(do(lambda lab, _: lab._reset()))
        for name, button in self.teach.items():
            button.on_click(do(lambda lab, _, task=name: lab._teach(task)))
        self.speed.observe(do(lambda lab, change: lab.live.set_speed(change["new"])), "value")
        plain = self.experiment.base
        self.toggle.observe(do(lambda lab, c: lab._command("optimizer", "deep" if c["new"] else plain)), "value")
        for name in ("learning_rate", "rate", "retention"):
            getattr(self, name).observe(do(lambda lab, c, name=name: lab._command(name, c["new"])), "value")
        for level, slider in self.periods.items():
            slider.observe(do(lambda lab, c, level=level: lab._command("period", [level, c["new"]])), "value")

    def _command(self, name: str, value: Any) -> None:
        self._trying(self.live.command, name, value)
        self._name_toggle()

    def _name_toggle(self) -> None:
        self.toggle.description = f"Deep optimizer is {'on' if self.toggle.value else 'off'}"

    def _teach(self, task: str) -> None:
        self.live.command("teach", task)
        self.live.play()

    def _reset(self) -> None:
        first, *memories, last = (self.periods[name].value for name in self.live.run.levels)
        known = {"input_period": first, "periods": tuple(memories), "head_period": last} if memories else {}
        plain = self.experiment.base
        usual = self.learning_rate.value == LEARNING_RATES[plain]
        fresh = self.experiment.but(
            seed=self.seed.value,
            rate=self.experiment.rate if self.rate.value == max(self.experiment.rate, 1e-3) else self.rate.value,
            retention=self.retention.value,
            manager=self.manager.value,
            optimizer="deep" if self.toggle.value else plain,
            base_optimizer=plain,
            learning_rate=None if usual else self.learning_rate.value,
            **known,
        )
        self.live.reset(fresh)

    def _trying(self, what: Callable[..., Any], *arguments: Any) -> None:
        """Do it, or say why it cannot be done; the training goes on either way."""
        try:
            what(*arguments)
        except SettingError as error:
            self._say(str(error))

    def _say(self, text: str) -> None:
        # A screen reader speaks what changes in a polite region: not five times a second while it trains.
        politeness = "off" if self.live.playing else "polite"
        self.sentence.value = (
            f'<p aria-live="{politeness}" style="font-size:1.05em;margin:.4em 0">{html.escape(text)}</p>'
        )

    def refresh(self) -> None:
        """Draw what happened since the last call. The watching thread calls this; so may you."""
        with self._drawing:
            if self.network:
                self.network.update(self.live)
            status = self.live.status()
            log = list(self.live.run.log)
            now = (status["generation"], len(log), status["playing"], status["finished"], status["error"])
            if now == self._drawn:
                if not status["playing"] and log and now[:2] != self._pictured:
                    self._pictured = now[:2]
                    self.place.picture(self._png(self.live.run))
                return
            self._show_status(status)
            if now[:2] != self._drawn[:2]:
                self._draw(log)
            if log or not self._drawn:
                self._say(status["error"] or narration.sentence(log, self.live.run.tasks))
            self._drawn = now

    def send_again(self) -> None:
        """Send every curve and mark once more, to a page that missed messages: as changes, which its view draws."""
        figure: Any = self.figure
        with self._drawing:
            with figure.batch_update():
                for trace in figure.data:
                    trace.update(dict.fromkeys(live_figure.NO_ENDS), overwrite=True)
                figure.update_layout({f"xaxis{live_figure.suffix(i)}_range": None for i in range(len(self.views))})
                figure.layout.shapes = figure.layout.annotations = ()
            self._marked, self._shown = ([], []), {}
            self._draw(list(self.live.run.log))

    def _show_status(self, status: dict[str, Any]) -> None:
        self.play.description, self.play.icon = ("Pause", "pause") if status["playing"] else ("Play", "play")
        self.play.disabled = self.step.disabled = status["finished"]

    def _draw(self, log: list[Event]) -> None:
        run, state = self.live.run, self.live.state
        levels = state.periods
        extended: list[dict[str, list]] = []
        layout: dict[str, Any] = {}
        shapes, notes = [], live_figure.titles(self.views)
        for i, name in enumerate(self.views):
            kept = live_figure.kept(name, log, len(run.tasks), len(levels))
            extended += [
                *figures.points(name, kept, run.tasks, levels),
                figures.ends(name, kept, run.tasks, levels) or live_figure.NO_ENDS,
            ]
            steps = max((event.step for event in kept), default=0)
            shown = [0, max(state.planned_steps, steps)]
            if name == "raster":
                shown = [max(0, steps - live_figure.RASTER_STEPS), max(min(shown[1], live_figure.RASTER_STEPS), steps)]
                layout[f"yaxis{live_figure.suffix(i)}"] = figures.lanes(levels)
            if shown != self._shown.get(name):  # else the reader's own zoom stays
                self._shown[name] = layout[f"xaxis{live_figure.suffix(i)}_range"] = shown
            over = figures.overlay(name, figures.marks(log), chance=1 / len(self.live.subject.classes))
            shapes += [live_figure.placed(shape, i) for shape in over["shapes"] if shape.get("x1", 0) >= shown[0]]
            notes += [live_figure.placed(note, i) for note in over["annotations"]]
        figure: Any = self.figure
        with figure.batch_update():
            for trace, added in zip(figure.data, extended, strict=True):
                trace.update(added, overwrite=True)
            if (shapes, notes) != self._marked:
                # Whole lists at once: plotly.js refuses a list together with one of its items, which `update_layout`
                # would send.
                figure.layout.shapes, figure.layout.annotations = self._marked = shapes, notes
            figure.update_layout(layout)

    def _png(self, run: Run) -> bytes:
        """The views as a picture, for a notebook that is opened without its kernel."""
        from nllab.course.draw import canvas, still

        if not self.views:
            return b""
        figure, axes = canvas(len(self.views))
        for name, own in zip(self.views, axes, strict=True):
            still(name, run, own)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        return buffer.getvalue()

    def close(self) -> None:
        """End the training and the drawing; the figures stay as they are."""
        _end(self.live, self._ending)
        if threading.current_thread() is not self._watcher:
            self._watcher.join(5)
        for control in (self.play, self.step, self.reset, self.toggle, *self.teach.values()):
            control.disabled = True
        self.place.end()

    def __enter__(self) -> LiveLab:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ipython_display_(self) -> None:
        self.place.show()


def _watch(lab: weakref.ref[LiveLab], ending: threading.Event) -> None:
    while not ending.wait(REDRAW_SECONDS):
        if (known := lab()) is None:
            return
        known.refresh()
        del known


def _end(live: LiveRun, ending: threading.Event) -> None:
    ending.set()
    live.close()


def _with(options: Sequence[tuple[str, float | None]], value: float | None) -> list[tuple[str, float | None]]:
    return list(options) if any(value == known for _, known in options) else [*options, (f"{value:g} steps/s", value)]
