"""The notebooks in a real JupyterLab and in Notebook 7: run all, play, turn a knob, run the cell again, reload the
page, restart the kernel; nothing is cut off."""

import contextlib
import os
import subprocess
import sys
import urllib.request

import pytest
from waiting import until

from nllab.bench.live import CHROMIUM_OPTIONS, chromium_path, free_port

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(chromium_path() is None, reason="needs Chromium"),
]
PATIENCE = 240_000  # milliseconds, for a slow machine; nothing here asserts a speed

MADE = """import nllab
small = nllab.Experiment.preset("digits-ab", optimizer="adam", dim=16, hidden=16, passes=20)
lab = nllab.LiveLab(small, views=("accuracy",), knobs=("optimizer", "rate"), speed=None)
made = [*globals().get("made", ()), lab.live]
lab"""
IDLE = "window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
ENDED = "print('closed', [one.closed for one in made])"
POINTS = (
    "() => [...document.querySelectorAll('.js-plotly-plot')].flatMap(e => (e.data || []).map(t => t.x?.length ?? 0))"
)


# Code, outputs and text that reach further than what is shown of them. Formulas may be scrolled.
CUT_OFF = """() => [...document.querySelectorAll(
    '.jp-Notebook .cm-scroller, .jp-Notebook .jp-OutputArea-output, .jp-Notebook .jp-RenderedHTMLCommon')]
  .filter((e) => e.scrollWidth > e.clientWidth + 1 && e.clientWidth).map((e) => e.textContent.slice(0, 200))"""


@pytest.fixture(params=["lab", "notebook"])
def served(tmp_path, request):
    """Serve a folder of notebooks: the address at which JupyterLab or Notebook 7 shows one."""
    if request.param == "notebook":
        pytest.importorskip("notebook")
    port, folders = free_port(), ("CONFIG_DIR", "RUNTIME_DIR", "DATA_DIR")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"} | {f"JUPYTER_{k}": str(tmp_path / k) for k in folders[:2]}
    environment |= {f"JUPYTERLAB_{k}": str(tmp_path / k) for k in ("SETTINGS_DIR", "WORKSPACES_DIR")}
    tracker = tmp_path / "SETTINGS_DIR" / "@jupyterlab" / "notebook-extension" / "tracker.jupyterlab-settings"
    tracker.parent.mkdir(parents=True)
    tracker.write_text('{"windowingMode": "none"}')  # all cells are in the page
    options = [
        "--no-browser",
        f"--port={port}",
        "--ServerApp.ip=127.0.0.1",
        "--IdentityProvider.token=",
        f"--{'LabApp' if request.param == 'lab' else 'JupyterNotebookApp'}.expose_app_in_browser=True",
        "--allow-root",
    ]
    command = [sys.executable, "-m", "jupyter", request.param, *options, f"--notebook-dir={tmp_path}"]
    with open(tmp_path / "log", "w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/api", timeout=5):
                break
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(0.5)
                raise AssertionError((tmp_path / "log").read_text()[-2000:])
        yield f"http://127.0.0.1:{port}/{'lab/tree' if request.param == 'lab' else 'notebooks'}"
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture
def page():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium_path(), args=list(CHROMIUM_OPTIONS))
        page = browser.new_page(viewport={"width": 1300, "height": 1200})
        page.set_default_timeout(PATIENCE)
        yield page
        browser.close()


def drawn(page, points=3):
    """Wait for a curve of more points than these."""
    page.wait_for_function(f"Math.max(0, ...({POINTS})()) > {points}")


def run_all(page):
    """Run all cells once the kernel is there; before, JupyterLab would ask for one."""
    page.wait_for_function(IDLE)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()


def test_a_live_lab_lives_through_a_day(served, page, tmp_path):
    import nbformat

    cells = [nbformat.v4.new_code_cell(code) for code in (MADE, ENDED)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, tmp_path / "x.ipynb")
    page.goto(f"{served}/x.ipynb?reset")
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    run_all(page)
    page.get_by_text("closed [False]").wait_for()
    page.get_by_role("button", name="Play").click()
    drawn(page)
    page.get_by_role("button", name="Deep optimizer is off").click()
    page.get_by_role("button", name="Deep optimizer is on").wait_for()

    page.keyboard.press("Control+s")
    until(lambda: "nllab-live" in (tmp_path / "x.ipynb").read_text())
    page.reload()
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    drawn(page)

    page.locator(".jp-CodeCell").first.click()
    run_all(page)
    page.get_by_text("closed [True, False]").wait_for()

    page.get_by_role("button", name="Play").click()
    drawn(page)
    page.get_by_role("button", name="Pause").click()
    page.locator(".nllab-still img").wait_for(state="attached")
    page.get_by_role("menuitem", name="Kernel", exact=True).click()
    page.locator('.lm-Menu-item[data-command="kernelmenu:restart"]').click()
    page.locator(".jp-Dialog .jp-mod-accept.jp-mod-warn").click()
    page.get_by_text("Run this cell in Jupyter, then press Play.").wait_for()
    page.locator(".nllab-still img").wait_for()
    assert not page.get_by_role("button", name="Play").is_visible()
    assert not page.get_by_text("model not found").count()
    page.wait_for_function(IDLE)  # in the middle of a restart no server can be ended


def test_nothing_of_a_notebook_is_cut_off_at_1280_pixels(served, page, tmp_path):
    from nllab.cli.serving import shipped

    page.set_viewport_size({"width": 1280, "height": 900})
    for source in sorted(shipped("notebooks").glob("*.ipynb")):
        (tmp_path / source.name).write_bytes(source.read_bytes())
        page.goto(f"{served}/{source.name}?reset")
        page.get_by_role("heading", name="Sources").wait_for()
        page.wait_for_function("[...document.querySelectorAll('.jp-Notebook .cm-scroller')].length > 10")
        assert page.evaluate(CUT_OFF) == [], source.name
