"""What watching costs: training with the page open in a real browser against the same training without anybody looking.

Both are measured in alternating windows of one run, so that what else the machine does falls on both. Needs playwright
and a Chromium.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from nllab.errors import NllabError
from nllab.experiment import Experiment

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# The browser stays with itself: no calls home, nothing that asks for a graphics card or for root's sandbox.
CHROMIUM_OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
PATIENCE_SECONDS = 60.0
EXPERIMENT = Experiment.preset("digits-ab", optimizer="adam", epochs=100)  # longer than any window
PAIR_SPEED = 15  # steps per second of each of two runs side by side
COUNT_FRAMES = """() => {
  window.nllabFrames = 0;
  const count = () => { window.nllabFrames++; requestAnimationFrame(count); };
  requestAnimationFrame(count);
}"""


# Ends a server with whoever started it, however that one ended: the other end of its input is closed then.
GUARD = """
import os, signal, subprocess, sys
server = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, start_new_session=True)
sys.stdin.buffer.read()
os.killpg(server.pid, signal.SIGTERM) if os.name == "posix" else server.terminate()
server.wait(60)
"""


def chromium_path() -> str | None:
    """Where a Chromium is installed; None where there is none."""
    return next((found for name in CHROMIUM if (found := shutil.which(name))), None)


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(told: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> Any:
    """What `told` returns once that is true; NllabError if it never is."""
    end = time.monotonic() + seconds
    while True:
        found = told()
        if found:
            return found
        if time.monotonic() > end:
            raise NllabError(f"{what} did not come about within {seconds:g} seconds.")
        time.sleep(0.02)


def fetch(address: str) -> str | None:
    """What this address answers, or None while nobody does."""
    try:
        with urlopen(address, timeout=5) as answer:
            return answer.read().decode()
    except (URLError, ConnectionError, TimeoutError):
        return None


@contextmanager
def serving(**environment: str) -> Iterator[str]:
    """`nllab dashboard` on a free port; the address of its page. /stat tells the state of its runs."""
    port = free_port()
    root = str(Path(__file__).parents[2])  # of a checkout that is not installed
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH", ""))))
    command = [
        sys.executable,
        "-c",
        "from nllab.cli import main; main()",
        "dashboard",
        "--port",
        str(port),
        "--no-browser",
    ]
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", GUARD, *command],
        env={**os.environ, "PYTHONPATH": path, "NLLAB_TEST": "1", "NLLAB_RUNS": "none", **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # out of reach of a Ctrl+C
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        if process.stdin:
            process.stdin.close()
        process.wait(90)


def stat(address: str) -> dict[str, Any]:
    """The state of a dashboard's runs, their watchers and processor seconds, as /stat tells it."""
    return json.loads(fetch(f"{address}/stat") or '{"runs": {}, "watchers": {}}')


def headless_rate(seconds: float) -> float:
    """Steps per second of the experiment with nobody looking."""
    import torch

    from nllab.trainer import Trainer

    torch.set_num_threads(1)
    trainer = Trainer(EXPERIMENT)
    for _ in range(20):
        trainer.step()
    start, begun = trainer.steps, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        trainer.step()
    return (trainer.steps - start) / (time.perf_counter() - begun)


def run_live(quick: bool = False) -> dict[str, Any]:
    """Measure and return plain numbers that JSON can hold.

    Units: seconds from the command to the first answer, to the first frame with its figures and to the first curve that
        moves, and from the click to that; megabytes on the wire up to the first frame; steps per second at unlimited
        speed, headless and watched; ratio = the median of watched to headless in the same round; refreshes of the
        figures per second while watched.
    side_by_side: two runs on one page, with the frames that the browser shows per second, the share of a core that the
        server spends on all but the trainings, whether a zoom was kept, and errors on the browser's console.
    Raises NllabError without playwright or Chromium.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise NllabError("bench live drives a browser: pip install playwright, and install Chromium.") from None
    executable = chromium_path()
    if executable is None:
        raise NllabError(f"bench live drives a browser and found none of {', '.join(CHROMIUM)}; install Chromium.")
    rounds, window = (2, 3.0) if quick else (5, 8.0)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(CHROMIUM_OPTIONS))
        begun = time.perf_counter()
        with serving() as address:
            wait_for(lambda: fetch(address), "The first answer of the dashboard")
            first_answer = time.perf_counter() - begun
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            query, asked = EXPERIMENT.to_query(), []
            page.on("requestfinished", lambda request: asked.append(request))  # Playwright wraps no built-in method
            page.goto(f"{address}/?{query}&networks=1&speed=unlimited")
            play = page.locator(".st-key-play button:visible")
            page.locator(".nl:not([data-draws='0'])").wait_for(timeout=PATIENCE_SECONDS * 1000)
            play.wait_for(timeout=PATIENCE_SECONDS * 1000)
            first_frame = time.perf_counter() - begun
            wire = sum(request.sizes()["responseBodySize"] for request in list(asked))
            clicked = time.perf_counter()
            play.click(timeout=PATIENCE_SECONDS * 1000)
            page.wait_for_function(
                "document.querySelector('.nl-accuracy')?.data?.[0].x.length > 1", timeout=PATIENCE_SECONDS * 1000
            )
            first_curve, first_motion = time.perf_counter() - begun, time.perf_counter() - clicked
            play.click()
            wait_for(lambda: not playing(address), "The pause")
            headless, watched, refreshes = [], [], []
            for _ in range(rounds):
                headless.append(headless_rate(window))
                page.locator(".st-key-reset button").first.dispatch_event("click")  # which is folded away
                wait_for(lambda: next(iter(stat(address)["runs"].values()))["step"] == 0, "The reset")
                play.click()
                wait_for(lambda: playing(address), "The start")
                rate, drawn = watch(page, address, window)
                watched.append(rate)
                refreshes.append(drawn)
                play.click()
                wait_for(lambda: not playing(address), "The pause")
            pair = watch_pair(browser, address, window)
        browser.close()
    return {
        "experiment": json.loads(EXPERIMENT.to_json()),
        "cpus": os.cpu_count(),
        "rounds": rounds,
        "window_seconds": window,
        "first_answer_seconds": round(first_answer, 2),
        "first_frame_seconds": round(first_frame, 2),
        "first_page_megabytes": round(wire / 1e6, 2),
        "click_to_motion_seconds": round(first_motion, 2),
        "first_curve_seconds": round(first_curve, 2),
        "headless_steps_per_second": [round(rate, 1) for rate in headless],
        "watched_steps_per_second": [round(rate, 1) for rate in watched],
        "ratio": round(median(seen / unseen for seen, unseen in zip(watched, headless, strict=True)), 3),
        "refreshes_per_second": round(median(refreshes), 2),
        "side_by_side": pair,
    }


def playing(address: str) -> bool:
    """Whether any run of the dashboard is training."""
    return any(run["playing"] for run in stat(address)["runs"].values())


def watch_pair(browser: Any, address: str, seconds: float) -> dict[str, Any]:
    """The page Compare while its two runs train: how smoothly, and at what cost."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(f"{address}/compare?epochs=20&speed={PAIR_SPEED}")
    page.locator(".st-key-play button:visible").click(timeout=PATIENCE_SECONDS * 1000)
    page.wait_for_function(
        "document.querySelector('.nl-accuracy')?.data?.[0].x.length > 2", timeout=PATIENCE_SECONDS * 1000
    )
    box = page.locator(".nl-accuracy").first.bounding_box()
    page.mouse.move(box["x"] + 40, box["y"] + 60)
    page.keyboard.down("Shift")
    page.mouse.down()
    page.mouse.move(box["x"] + 200, box["y"] + 60, steps=4)
    page.mouse.up()
    page.keyboard.up("Shift")
    page.mouse.move(2, 2)
    page.wait_for_timeout(1500)
    ranges = "Array.from(document.querySelectorAll('.nl-figure'), (one) => one.layout?.xaxis.range)"
    zoomed = page.evaluate(ranges)
    page.evaluate(COUNT_FRAMES)
    spent, begun, draws = (
        stat(address)["cpu"],
        time.perf_counter(),
        int(page.locator(".nl").get_attribute("data-draws")),
    )
    page.wait_for_timeout(seconds * 1000)
    now, drawn, frames = (
        stat(address)["cpu"],
        int(page.locator(".nl").get_attribute("data-draws")),
        page.evaluate("window.nllabFrames"),
    )
    passed = time.perf_counter() - begun
    views = (now["all"] - spent["all"]) - (now["training"] - spent["training"])
    found = {
        "steps_per_second": PAIR_SPEED,
        "refreshes_per_second": round((drawn - draws) / passed, 2),
        "frames_per_second": round(frames / passed, 1),
        "server_share_of_a_core": round(views / passed, 3),
        "zoom_kept": page.evaluate(ranges) == zoomed,
        "console_errors": said,
    }
    page.close()
    return found


def watch(page: Any, address: str, seconds: float) -> tuple[float, float]:
    """(steps, refreshes) per second over the next `seconds`, while the page trains."""

    def now() -> tuple[int, float, int]:
        draws = int(page.locator(".nl").get_attribute("data-draws"))
        step = next(iter(stat(address)["runs"].values()))["step"]
        return step, time.perf_counter(), draws

    page.wait_for_timeout(500)
    step, begun, draws = now()
    page.wait_for_timeout(seconds * 1000)
    last_step, ended, last_draws = now()
    return (last_step - step) / (ended - begun), (last_draws - draws) / (ended - begun)
