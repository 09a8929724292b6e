"""The pages of the course in a browser that reaches nothing: formulas are drawn, sliders and recorded runs play, a
phone and a dark screen are fine, and axe finds nothing serious."""

from pathlib import Path

import pytest

from nllab.bench.live import CHROMIUM_OPTIONS, chromium_path
from nllab.cli.serving import shipped
from nllab.course.site import write_site

playwright = pytest.importorskip("playwright.sync_api")
axe_playwright_python = pytest.importorskip("axe_playwright_python")  # for the axe.min.js that it brings
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(chromium_path() is None, reason="needs Chromium"),
]
PATIENCE = 120_000  # milliseconds, for a slow machine; nothing here asserts a speed
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 800}
# Sizes and colours that a reader sees. A formula of no height is one that was not drawn.
FORMULAS = "() => [...document.querySelectorAll('math')].map((m) => m.getBoundingClientRect().height)"
WIDER = (
    "() => [...document.querySelectorAll('main *')].filter((e) => e.getBoundingClientRect().right > innerWidth + 1"
    " && !e.closest('pre, .formula, .wide, .pl')).map((e) => e.outerHTML.slice(0, 80))"
)
AXE = Path(axe_playwright_python.__file__).parent / "axe.min.js"
SERIOUS = """async () => (await axe.run({ preload: false })).violations
  .filter(({ impact }) => ['serious', 'critical'].includes(impact))
  .map(({ id, nodes }) => [id, nodes.slice(0, 3).map((node) => [String(node.target), node.failureSummary])])"""
CUT_OFF = """() => [...document.querySelectorAll('pre')].filter((e) => e.scrollWidth > e.clientWidth + 1)
  .map((e) => e.textContent.slice(0, 80))"""
LARGEST = 25e6  # bytes of all pages together


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("course") / "site"
    write_site(shipped("notebooks"), folder)
    return folder


@pytest.fixture
def page():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium_path(), args=list(CHROMIUM_OPTIONS))
        page = browser.new_page(viewport=DESK, offline=True)
        page.set_default_timeout(PATIENCE)
        yield page
        browser.close()


@pytest.fixture
def wrong(page):
    """What fails on the pages: requests, scripts, and what they would fetch from elsewhere."""
    found = []
    page.on("requestfailed", lambda request: found.append(request.url))
    page.on("request", lambda request: request.url.startswith(("file:", "data:", "blob:")) or found.append(request.url))
    page.on("pageerror", lambda error: found.append(str(error)))
    page.on("console", lambda message: message.type == "error" and found.append(message.text))
    return found


def test_every_page_is_readable_on_a_desk_and_a_phone_in_light_and_dark(site, page, wrong):
    assert sum(path.stat().st_size for path in site.rglob("*") if path.is_file()) < LARGEST
    papers = set()
    for path in sorted(site.glob("*.html")):
        for scheme, size in (("light", DESK), ("dark", PHONE)):
            page.emulate_media(color_scheme=scheme)
            page.set_viewport_size(size)
            page.goto(path.as_uri())
            papers.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
            heights = page.evaluate(FORMULAS)
            assert len(heights) >= (3 if path.name[:2].isdigit() else 0) and min(heights, default=9) > 5, path.name
            page.wait_for_function(f"document.documentElement.scrollWidth <= {size['width']}")
            assert page.evaluate(WIDER) == [], path.name
            assert scheme == "dark" or page.evaluate(CUT_OFF) == [], path.name
            page.add_script_tag(path=AXE)
            assert page.evaluate(SERIOUS) == [], (path.name, scheme)
    assert len(papers) == 2 and wrong == []


def test_sliders_and_every_recorded_run_play_without_a_network(site, page, wrong):
    played = 0
    for path in sorted(site.glob("[0-9]*.html")):
        page.goto(path.as_uri())
        if page.locator(".sliders").count():
            slider, picture = page.locator(".sliders input").first, page.locator(".sliders img").first
            before = picture.get_attribute("src")
            slider.press("Home" if page.evaluate("(one) => Number(one.value)", slider.element_handle()) else "End")
            page.wait_for_function("(old) => document.querySelector('.sliders img').src !== old", arg=before)
        for recording in page.locator(".recording").all():
            moment, play = recording.locator(".pl-slider"), recording.locator(".pl-play")
            moment.press("Home")
            assert moment.input_value() == "0"
            play.click()
            page.wait_for_function("(one) => Number(one.value) > 2", arg=moment.element_handle())
            play.click()
            played += 1
    assert played >= 5 and wrong == []
    page.get_by_role("link", name="For teachers").click()
    page.get_by_role("heading", name="Ten questions, before and after").wait_for()
