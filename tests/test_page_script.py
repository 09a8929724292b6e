"""The script of the live page without a browser: messages of real trainings, drawn on a canvas that writes down what it
is told (tests/view/canvas.mjs)."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import until

from nllab import figures, narration, view
from nllab.experiment import Experiment
from nllab.live import LiveRun

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "app"))
from feed import Feed, together  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("node") is None, reason="needs node"),
]

DRIVE = """
const told = JSON.parse(readFileSync(process.argv[2], "utf8"));
const titles = told.count > 1 ? ["off", "on"] : [""];
const data = { ...told.data, titles, runs: titles.map((_, i) => `r${i}`), shown: [], hints: {}, note: "", opened: [] };
const component = { data, setStateValue() {}, setTriggerValue() {} };
const shown = new View(new Element("div"), component);
shown.update(component);
for (const message of told.messages) {
  shown.hear(message);
  flush();
}
for (const step of [10, null]) {
  shown.point(step);
  flush();
}
for (const panel of shown.panels) panel.more.open = true;
shown.redrawAll();
flush();
const lines = [];
component.data.opened = told.opened;
shown.update(component);
for (let phase = 0; shown.open && phase < PHASES.length; phase++) {
  shown.goTo(phase);
  flush();
  lines.push(shown.panels.map((panel) => panel.opened.text.textContent));
}
shown.closeWrites();
flush();
const words = (row) => row.children.map((one) => one.textContent).join(" | ");
const levels = shown.panels.map((panel) => panel.stage.list.children.map(words));
const texts = shown.panels.map((panel) => panel.plots.accuracy.chart.canvas.pen.texts.map(({ text }) => text));
const manager = shown.panels.map((panel) => panel.manager.text.textContent);
console.log(JSON.stringify({ lines, levels, texts, manager }));
process.exit(0);
"""


def messages(experiments, steps, level):
    """What the page is told of these runs up to a step, and the write of a level after it."""
    runs = [LiveRun(experiment) for experiment in experiments]
    feeds = [Feed(run) for run in runs]
    found = [together(feeds)]
    for _ in range(2):
        for run in runs:
            run.step(steps // 2)
        until(lambda: not any(run._single for run in runs), 120)
        found.append(together(feeds))
    for run in runs:
        run.open_write(level, after=steps)
    until(lambda: all(run.opened for run in runs), 120)
    found.append(together(feeds))
    for run in runs:
        run.close()
    return [message for message in found if message], [run.opened for run in runs]


def shown(tmp_path, experiments, steps, level="input"):
    told, opened = messages(experiments, steps, level)
    data = {"about": figures.ABOUT, "writers": narration.WRITERS | {"deep": "deep optimizer"}, "spotlight": None}
    whole = {"messages": told, "opened": opened, "data": data, "count": len(experiments)}
    (tmp_path / "told.json").write_text(json.dumps(whole))
    scripts = [(ROOT / "app" / name).read_text() for name in ("panel.js", "screen.js", "live_view.js")]
    head = f'import {{ Element, page }} from "{ROOT}/tests/view/canvas.mjs";\n'
    head += 'import { readFileSync } from "node:fs";\nconst flush = page();\n'
    (tmp_path / "page.mjs").write_text(head + "\n".join([view.bundle(), *scripts, DRIVE]))
    node = subprocess.run(
        ["node", str(tmp_path / "page.mjs"), str(tmp_path / "told.json")], capture_output=True, text=True, timeout=120
    )
    assert node.returncode == 0, node.stderr[-2000:]
    return json.loads(node.stdout)


def test_two_networks_their_levels_and_one_write_opened(tmp_path):
    pair = [Experiment.preset("digits-ab", optimizer=name, evaluate_every=4) for name in ("adam", "deep")]
    found = shown(tmp_path, pair, 80)
    assert all(level.endswith("| nothing") for level in found["levels"][0][1:])
    assert all("| A " in level and ", B " in level for level in found["levels"][1][1:])
    assert found["manager"][0].startswith("Adam writes") and found["manager"][1].startswith("Manager, step")
    assert len(found["lines"]) == 6 and "nothing is held back" in found["lines"][3][0]
    moved = [float(line.split("those for A move by ")[1][:4]) for line in found["lines"][5]]
    assert moved[1] < 0.7 * moved[0]
    assert {"task A", "task B"} <= set(found["texts"][0])


def test_fifty_tasks_are_a_map_and_a_network_that_is_not_drawn_tells_its_levels(tmp_path):
    fifty = Experiment.preset("permuted-digits-50", optimizer="deep", dim=16, hidden=16, evaluate_every=20)
    found = shown(tmp_path, [fifty], 40)
    assert any("bright 1" in text for text in found["texts"][0]) and "A" in found["texts"][0]
    assert "head | 1 | 41 | A " in found["levels"][0][-1]
