"""What tests of the page in a real browser share: the server, the browser, a visit, and what is read from the page."""

from functools import partial

import pytest
import waiting

from nllab.bench.live import chromium_path, stat

NEEDS_CHROMIUM = pytest.mark.skipif(chromium_path() is None, reason="needs Chromium")
PATIENCE = 300.0  # seconds, for a slow machine; nothing here asserts a speed
FREE_AFTER = 30  # seconds, instead of two minutes; a reload on a slow machine takes less
FAST = "?epochs=20&optimizer=adam&speed=40"
DESK, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}


until = partial(waiting.until, seconds=PATIENCE)


def drawn(page):
    page.locator(".nl:not([data-draws='0'])").wait_for()
    return page


def settled(page):
    """When for half a second no script has run and nothing has faded: half faded, or before its style sheet is there,
    every text is pale."""
    page.evaluate("""() => new Promise((resolve) => {
      const busy = () => !document.querySelector('[data-testid=stApp][data-test-script-state=notRunning]') ||
        document.getAnimations().some((one) => one.effect.getComputedTiming().iterations < Infinity);
      let since = Infinity;
      const look = (now) => {
        since = busy() ? Infinity : Math.min(since, now);
        if (now - since > 500) resolve();
        else requestAnimationFrame(look);
      };
      requestAnimationFrame(look);
    })""")


def step_of(page):
    return int(page.locator(".nl-number-step dd").first.inner_text())


def draws_of(page):
    return int(page.locator(".nl").get_attribute("data-draws"))


def press(page, key):
    """Press a button; one that is not shown at first is asked for."""
    button = page.locator(f".st-key-{key} button")
    if button.count() and not button.first.is_visible():
        page.locator(".st-key-more button:visible").first.click()
    page.locator(f".st-key-{key} button:visible").first.click()


def download(page, key):
    """A file of a run that has ended. It is made when it is asked for, by the script's last run: a press in the middle
    of the next one would go to nobody, and one more is to come when a run ends, which shows the code that repeats
    it."""
    page.get_by_text("Repeats this run exactly").first.wait_for()
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
    with page.expect_download() as told:
        press(page, key)
    return told.value


def run_of(page, address):
    """(id, what the server says of the run that this tab has)."""
    id = page.evaluate("JSON.parse(sessionStorage.getItem('nllab.runs'))['/'].runs")
    return id, stat(address)["runs"].get(id)


def notes(page):
    """What stands at the marks of the accuracy figure."""
    return page.evaluate("document.querySelector('.nl-accuracy').layout.annotations.map((note) => note.text)")


def ranges(page):
    return [
        page.evaluate(f"document.querySelector('.nl-{name}').layout.xaxis.range")
        for name in ("accuracy", "drift", "raster")
    ]
