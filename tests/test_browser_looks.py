"""The page in a real browser, as everybody meets it: legible, by keyboard, on a phone, in a lesson, on a slide, and
whatever the address says."""

import re
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from browsing import DESK, NEEDS_CHROMIUM, PATIENCE, PHONE, drawn, press, settled, step_of, until

axe_playwright_python = pytest.importorskip("axe_playwright_python")  # for the axe.min.js that it brings
pytestmark = [pytest.mark.browser, NEEDS_CHROMIUM]


# Every text that is in sight, with its contrast to what lies behind it (1 to 21), the opacity of all around it counted
# in.
CONTRASTS = """() => {
  const numbers = (colour) => { const [r, g, b, a = 1] = colour.match(/[\\d.]+/g).map(Number); return [[r, g, b], a]; };
  const linear = (part) => (part /= 255) <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const over = (top, share, below) => top.map((part, i) => share * part + (1 - share) * below[i]);
  const ground = (element) => {
    if (!element) return [255, 255, 255];
    const [colour, share] = numbers(getComputedStyle(element).backgroundColor);
    return share === 1 ? colour : over(colour, share, ground(element.parentElement));
  };
  const found = [];
  for (const element of document.querySelectorAll('.stMain *, .stSidebar *')) {
    // What cannot be pressed is grey on purpose; a number on a coloured cell is black or white as Plotly finds best.
    if (element.closest(':disabled, .heatmap-label')) continue;
    const text = [...element.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data).join('').trim();
    if (!text || !element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    const style = getComputedStyle(element);
    let [ink, share] = numbers(element instanceof SVGElement ? style.fill : style.color);
    for (let one = element; one; one = one.parentElement) share *= Number(getComputedStyle(one).opacity);
    const behind = ground(element);
    const [dark, light] = [luminance(over(ink, share, behind)), luminance(behind)].sort((a, b) => a - b);
    found.push([(light + 0.05) / (dark + 0.05), text.slice(0, 60), element instanceof SVGElement]);
  }
  return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_is_legible(visit, scheme):
    page = visit("?optimizer=deep&speed=unlimited", color_scheme=scheme)
    press(page, "play")
    page.locator(".nl-panel[data-finished=true]").wait_for()
    page.locator(".nl-more > summary").click()
    page.locator(".nl-log li").first.wait_for()
    page_colour = page.locator(".stApp").evaluate("one => getComputedStyle(one).backgroundColor")
    assert (page_colour == "rgb(255, 255, 255)") == (scheme == "light")
    found = page.evaluate(CONTRASTS)
    assert len(found) > 80
    titles = {"Lessons": "Lessons", "Compare": "Side by side", "Replay": "Replay a run", "Tour": "A tour of the lab"}
    for name, title in {**titles, "Glossary": "Glossary", "Mathematics": "The mathematics"}.items():
        page.goto(f"{page.url.split('?')[0].rpartition('/')[0]}/{name.lower()}")
        page.get_by_role("heading", name=title, exact=True).wait_for()
        settled(page)
        found += page.evaluate(CONTRASTS)
    assert not [told for told in found if told[0] < (2.95 if told[2] else 4.5)]  # a curve's name has the curve's colour


def test_a_phone_shows_everything_below_one_another_and_the_table_holds_the_numbers(visit):
    page = visit("?speed=unlimited&optimizer=adam", viewport=PHONE)
    press(page, "play")
    page.locator(".nl-hint", has_text="overwritten").wait_for()
    page.locator(".st-key-play button:visible", has_text="Play again").wait_for()
    page.locator(".nl-more > summary").click()
    boxes = [page.locator(f".nl-{name}").bounding_box() for name in ("accuracy", "drift", "raster")]
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= PHONE["width"] for box in boxes)
    assert boxes[0]["y"] + boxes[0]["height"] <= boxes[1]["y"] and boxes[1]["y"] + boxes[1]["height"] <= boxes[2]["y"]
    assert page.evaluate("document.querySelector('.stMain').scrollWidth") <= PHONE["width"]
    page.locator(".nl-card-accuracy .nl-table summary").click()
    first = page.locator(".nl-card-accuracy .nl-table tr").nth(1)
    assert first.locator("td").first.inner_text() == "136" == page.locator(".nl-number-step dd").inner_text()
    until(lambda: "stands at" in page.locator(".nl-accuracy").get_attribute("aria-label"))


def test_a_lesson_from_prediction_to_reveal_and_every_view_follows_the_hovered_step(visit):
    page = visit("lessons?lesson=overwrite")
    play = page.locator(".st-key-play button:visible")
    assert play.is_disabled()
    page.get_by_text("Nearly all").click()
    until(lambda: not play.is_disabled())
    page.get_by_role("heading", name="Lessons").click()  # away from the choices, where keys choose
    page.keyboard.press("w")  # one write of the slow level
    until(lambda: step_of(page) == 16)
    play.click()
    spoken = """() => document.querySelector('.nl-panel').dataset.playing === 'false' &&
      document.querySelector('.nl-sentence').textContent.startsWith('The plan is over') &&
      [document.querySelector('.nl-sentence').textContent, document.querySelector('.nl-spoken').textContent]"""
    shown, told = page.wait_for_function(spoken, polling="raf").json_value()
    assert shown == told
    page.locator(".st-key-reveal", has_text="Nearly nothing").wait_for()
    page.locator(".nl-more > summary").click()
    until(lambda: page.locator(".nl-matrix").get_attribute("data-step") == "136")
    assert "135" in page.locator(".nl-levels").text_content()
    page.locator(".nl-accuracy").scroll_into_view_if_needed()
    box = page.locator(".nl-accuracy").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + 60)
    until(lambda: 0 < step_of(page) < 68)  # the numbers of that step
    page.locator(".nl-card-matrix .nl-about summary").click()
    assert "Read down a column" in page.locator(".nl-card-matrix .nl-about").inner_text()
    assert "No decision so far" in page.locator(".nl-log").inner_text()
    page.keyboard.press("ArrowRight")  # to the next lesson
    until(lambda: "lesson=dolls" in page.evaluate("location.search") and step_of(page) == 0)
    until(lambda: "135" not in page.locator(".nl-levels").text_content())  # the answer is not given away
    assert page.locator(".nl-spoken").text_content().startswith("Press Play")


def test_a_lesson_with_one_run_keeps_nothing_of_the_two_before(visit):
    page = visit("lessons?lesson=slow")
    page.locator(".nl-together", has_text="side by side").wait_for()
    page.get_by_role("combobox", name="Lesson").click()
    page.get_by_role("option", name="2 · ").click()
    until(
        lambda: page.locator(".nl-panel").count() == 1 and page.locator(".nl-sentence", has_text="Press Play").count()
    )
    assert not page.locator(".nl-together").is_visible() and "Press Play" in page.locator(".nl-spoken").text_content()


def test_the_tour_brings_what_it_speaks_of_into_sight_and_trains(visit):
    page = visit("tour", figures=False)
    press(page, "tour_begin")
    page.locator(".st-key-tour", has_text="1 of ").wait_for()
    press(page, "tour_next")
    until(lambda: page.locator(".nl-panel").first.get_attribute("data-playing") == "true" or step_of(page) > 0)
    page.keyboard.press("Escape")
    page.locator(".st-key-tour").wait_for(state="detached")


def test_whoever_wants_less_motion_gets_news_once_a_second_and_no_pulse(visit):
    page = visit(reduced_motion="reduce")
    with page.expect_request("**/live/**") as asked:
        page.reload()
    assert asked.value.url.endswith("?per_second=1")
    drawn(page)
    press(page, "step")
    until(lambda: step_of(page) == 1)
    assert not page.evaluate("document.querySelector('.nl').parentElement.nllab.panels[0].stage.moving")


def test_every_control_is_reached_by_tab_alone(visit):
    page = visit("?seed=3&networks=1")
    first = []
    for _ in range(6):  # Play is among the first five stops
        page.keyboard.press("Tab")
        first.append(page.evaluate("document.activeElement.closest('.st-key-play') !== null"))
    assert True in first
    press(page, "more")
    page.get_by_test_id("stExpandSidebarButton").click()
    wanted = {
        "play",
        "step",
        "one_write",
        "level",
        "undo",
        "reset",
        "deep",
        "teach_A",
        "teach_B",
        "pin",
        "speed",
    }
    wanted |= {"stream", "seed", "plain", "periods", "level_add", "level_drop", "frozen", "ceiling"}
    reached, named = set(), True
    for _ in range(150):
        page.keyboard.press("Tab")
        key, name = page.evaluate("""() => { const at = document.activeElement;
              const keyed = at.closest('[class*=st-key-]');
              const key = keyed && [...keyed.classList].find((one) => one.startsWith('st-key-')).slice(7);
              const name = at.ariaLabel || at.textContent || at.labels?.[0]?.textContent || at.getAttribute('aria-labelledby') || at.title;
              return [key, Boolean(name) || at === document.body]; }""")  # noqa: E501
        reached.add(key)
        named = named and name
    assert wanted <= reached and named


HOSTILE = (
    "?seed=-1", "?seed=1e99", "?dim=99999999", "?periods=,,,", "?stream=own:/etc/passwd", "?stream=<script>alert(1)</script>",  # noqa: E501
    "?order=" + "A," * 3000, "?speed=nan", "?rate=inf&retention=-3", "?front=conv&stream=plane-ab", "?model=hope&stream=names-ab",  # noqa: E501
    "?batch_size=0&epochs=9999999999999999999999", "?optimizer=%00&loss=%F0%9F%92%A9", "?" + "&".join(f"k{i}=v" for i in range(300)),  # noqa: E501
    "lessons?lesson=../../etc&answer=99", "compare?twin=yes&seed=x", "?embed=true&seed=x",
)  # fmt: skip


def test_no_address_breaks_a_page(browser, address):
    context = browser.new_context(viewport=DESK)
    page = context.new_page()
    page.set_default_timeout(PATIENCE * 1000)
    asked, broken = [], []
    page.on("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
    page.on("pageerror", lambda error: broken.append(str(error)))
    for query in HOSTILE:
        page.goto(f"{address}/{query}")
        page.locator(".nl-sentence", has_not_text="Getting ready").first.wait_for()
        alerts = page.get_by_test_id("stAlert")
        alerts.first.wait_for()
        assert alerts.count() <= 6 and max(map(len, alerts.all_inner_texts())) < 1000
        assert page.get_by_test_id("stException").count() == 0, query
        assert page.locator(".st-key-reset button").count()  # the rest of the page is there
    assert not asked and not broken
    context.close()


def test_a_run_that_is_not_there_is_not_found(address):
    with pytest.raises(HTTPError) as told, urlopen(f"{address}/live/nobody"):
        pass
    assert told.value.code == 404
    told.value.close()


def test_a_slide_shows_the_figures_without_controls_and_trains_by_itself(visit):
    page = visit("?embed=true&speed=6&seed=3")
    until(lambda: step_of(page) >= 2)
    controls = page.locator(".st-key-controls")
    assert controls.evaluate("one => getComputedStyle(one).opacity") == "0"
    for gone in (".stSidebar", "h1", ".st-key-keep", ".stAppHeader", ".nl-under"):
        assert not page.locator(gone).first.is_visible()
    assert "embed=true" in page.url and "seed=3" in page.url
    page.keyboard.press("Space")
    until(lambda: page.locator(".nl-panel[data-playing=false][data-finished=false]").count() == 2)
    page.mouse.move(600, DESK["height"] - 15)  # as in a video, they come up for whoever points there
    until(lambda: controls.evaluate("one => getComputedStyle(one).opacity") == "1")


AXE = Path(axe_playwright_python.__file__).parent / "axe.min.js"
SERIOUS = """async () => (await axe.run()).violations.filter(({ impact }) => ['serious', 'critical'].includes(impact))
  .map(({ id, nodes }) => [id, nodes.slice(0, 3).map((node) => [String(node.target), node.failureSummary])])"""


def faults(page):
    """What axe finds serious on the page as it stands."""
    settled(page)
    if not page.evaluate("'axe' in window"):
        page.add_script_tag(path=AXE)
    return [(page.url, *fault) for fault in page.evaluate(SERIOUS)]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(visit, scheme):
    page = visit("?speed=unlimited", color_scheme=scheme)
    found = faults(page)
    press(page, "play")
    until(lambda: page.locator(".nl-panel[data-finished=true]").count() == 2)
    press(page, "more")
    page.locator(".nl-more > summary").first.click()
    page.get_by_test_id("stExpandSidebarButton").click()
    found += faults(page)
    titles = {"Lessons": "Lessons", "Compare": "Side by side", "Replay": "Replay a run", "Tour": "A tour of the lab"}
    for name, title in {**titles, "Glossary": "Glossary", "Mathematics": "The mathematics"}.items():
        page.goto(f"{page.url.split('?')[0].rpartition('/')[0]}/{name.lower()}")
        page.get_by_role("heading", name=title, exact=True).wait_for()
        found += faults(page)
    assert not found


def test_a_presentation_fills_its_screen_with_large_type_and_goes_on_for_ever(visit):
    page = visit("?present&speed=unlimited", viewport={"width": 1920, "height": 1080})
    until(lambda: page.locator(".nl-panel[data-finished=true]").count() == 2)  # nobody pressed anything
    sizes = page.evaluate("""() => [...document.querySelectorAll('.stMain *')].filter((one) =>
      [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim()) &&
      one.checkVisibility({ opacityProperty: true, visibilityProperty: true }) && one.getBoundingClientRect().width > 1)
      .map((one) => [parseFloat(getComputedStyle(one).fontSize), one.textContent.trim().slice(0, 40)])""")
    assert len(sizes) > 10 and not [found for found in sizes if found[0] < 24]
    assert page.evaluate("document.querySelector('.stMain').scrollHeight") <= 1080
    until(lambda: page.locator(".nl-panel[data-finished=true]").count() == 0)  # and again, from the first step
    page.keyboard.press("Escape")
    page.locator(".st-key-play button:visible").first.wait_for()


def test_a_fan_of_futures_shows_what_became_of_each_moment(visit):
    page = visit()
    page.locator(".st-key-futures summary").click()
    press(page, "futures_train")
    page.get_by_text("futures are at their end").wait_for()
    page.get_by_text("futures are at their end").wait_for(state="detached")
    fan, text = page.locator(".nl-fan-canvas"), page.locator(".nl-fan-text")
    fan.focus()
    ends = {}
    for _ in range(20):
        found = re.search(r"Switched on at step (\d+): A ends at (\d.\d+) and B ends at (\d.\d+)", text.inner_text())
        if found:
            ends[int(found[1])] = float(found[2])
        page.keyboard.press("ArrowRight")
    moments = sorted(ends)
    assert 15 <= len(moments) == int(fan.get_attribute("aria-valuemax")) + 1
    assert ends[moments[0]] - ends[moments[-1]] > 0.4  # switched on too late, A is painted over
    box = fan.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 90)
    until(lambda: "Switched on at step" in text.inner_text())
