"""The network unit by unit in a notebook: the view modules of the dashboard (nllab/view) in an anywidget.

The widget holds the whole scene of this moment, so that a page that is loaded again, or opened without its kernel,
shows it at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anywidget
import traitlets

from nllab import view
from nllab.live import LiveRun
from nllab.scenes import Scenes, stage

HEIGHT = 380  # pixels

_RENDER = """
function render({ model, el }) {
  const stage = new Stage({ reduced: matchMedia("(prefers-reduced-motion: reduce)").matches });
  stage.root.style.height = `${STAGE_HEIGHT}px`;
  el.append(stage.root);
  let waiting = false;
  let closed = false;
  const draw = () => {
    waiting = false;
    if (closed) return;
    const style = getComputedStyle(el);
    if (stage.frame(themeOf(style.color), style.fontFamily)) ask();
  };
  const ask = () => {
    if (!waiting) requestAnimationFrame(draw);
    waiting = true;
  };
  const open = () => {
    stage.open(model.get("opened"));
    see();
  };
  const see = () => {
    const scene = model.get("scene");
    if (scene.levels) stage.add(scene);
    ask();
  };
  open();
  model.on("change:opened", open);
  model.on("change:scene", see);
  const size = new ResizeObserver(() => {
    stage.dirty = true;
    ask();
  });
  size.observe(el);
  return () => {
    closed = true;
    size.disconnect();
  };
}
export default { render };
"""


class StageWidget(anywidget.AnyWidget):
    """One live run as it is now: the network, the wall of samples, what each level writes and what is held back.

    opened: what a stage has to know before anything happens. scene: the newest portrait and what stands beside it.
    `update` brings both up to date; it sends nothing where nothing is new.
    """

    _esm = f"{view.bundle()}\nconst STAGE_HEIGHT = {HEIGHT};\n{_RENDER}"
    _css = view.style()
    opened = traitlets.Dict().tag(sync=True)
    scene = traitlets.Dict().tag(sync=True)

    def __init__(self, live: LiveRun, **settings: Any) -> None:
        self._generation, self._cursor, self._scenes = -1, 0, Scenes()
        super().__init__(**settings)
        self.update(live)

    def update(self, live: LiveRun) -> None:
        """Show the run as it stands now."""
        run, subject = live.run, live.subject
        if live.generation != self._generation:
            self._generation, self._cursor = live.generation, 0
            self._scenes = Scenes(subject.drawable)
            opening = stage(list(subject.samples), list(run.levels), weights=subject.weights, drawn=subject.drawable)
            self.opened = {
                **opening,
                "tasks": list(run.tasks),
                "levels": list(run.levels),
                "periods": live.state.periods,
            }
        events = run.log[self._cursor :]
        self._cursor += len(events)
        scenes = [*self._scenes.read(events), *self._scenes.read(live.portrait())]
        if scenes and not self._is_shown(scenes[-1]):
            self.scene = scenes[-1]

    def _is_shown(self, scene: Mapping[str, Any]) -> bool:
        return bool(self.scene) and self.scene.get("step") == scene["step"] and self.scene == scene
