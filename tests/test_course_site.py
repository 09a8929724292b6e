"""The pages of the course in a browser that reaches nothing: formulas are drawn, sliders and a recorded run play, a
phone and a dark screen are fine."""

import pytest

from nllab.bench.live import CHROMIUM_OPTIONS, chromium_path
from nllab.cli.serving import shipped
from nllab.course.site import write_site

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(chromium_path() is None, reason="needs Chromium"),
]
PATIENCE = 120_000  # milliseconds, for a slow machine; nothing here asserts a speed
PAGE = "00-first-contact"
# Sizes and colours that a reader sees. A formula of no height is one that was not drawn.
FORMULAS = "() => [...document.querySelectorAll('math')].map((m) => m.getBoundingClientRect().height)"
WIDER = (
    "() => [...document.querySelectorAll('main *')].filter((e) => e.getBoundingClientRect().right > innerWidth + 1"
    " && !e.closest('pre, .formula, .wide, .pl')).map((e) => e.outerHTML.slice(0, 80))"
)
UNNAMED = (
    "() => [...document.querySelectorAll('img:not([alt]), button, input, select, a')].filter((e) => e.tagName === 'IMG'"
    " || !(e.textContent.trim() || e.getAttribute('aria-label') || e.labels?.length))"
    ".map((e) => e.outerHTML.slice(0, 80))"
)
MOMENT = "Number(document.querySelector('.pl-slider').value)"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("course")
    (folder / "notebooks").mkdir()
    source = shipped("notebooks") / f"{PAGE}.ipynb"
    (folder / "notebooks" / source.name).write_bytes(source.read_bytes())
    write_site(folder / "notebooks", folder / "site")
    return folder / "site"


@pytest.fixture
def page():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium_path(), args=list(CHROMIUM_OPTIONS))
        page = browser.new_page(viewport={"width": 1280, "height": 900}, offline=True)
        page.set_default_timeout(PATIENCE)
        yield page
        browser.close()


def test_a_page_of_the_course_works_without_a_network(site, page):
    wrong = []
    page.on("requestfailed", lambda request: wrong.append(request.url))
    page.on("request", lambda request: request.url.startswith(("file:", "data:", "blob:")) or wrong.append(request.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: message.type == "error" and wrong.append(message.text))
    page.goto((site / f"{PAGE}.html").as_uri())

    heights = page.evaluate(FORMULAS)
    assert len(heights) >= 3 and min(heights) > 5

    slider, picture = page.locator(".sliders input").first, page.locator(".sliders img").first
    before = picture.get_attribute("src")
    slider.focus()
    slider.press("ArrowRight")
    page.wait_for_function("(old) => document.querySelector('.sliders img').src !== old", arg=before)

    page.locator(".pl-slider").focus()
    page.keyboard.press("Home")
    assert page.evaluate(MOMENT) == 0
    page.locator(".pl-play").click()
    page.wait_for_function(f"{MOMENT} > 2")
    page.locator(".pl-play").click()
    assert page.evaluate(UNNAMED) == []

    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
    page.wait_for_function("document.documentElement.scrollWidth <= 390")
    assert page.evaluate(WIDER) == []

    page.get_by_role("link", name="For teachers").click()
    page.get_by_role("heading", name="Ten questions, before and after").wait_for()
    page.wait_for_function("document.documentElement.scrollWidth <= 390")
    assert wrong == []
