"""The live page in a real browser: what a person sees, presses, reloads and closes. What the server knows is read from
/stat."""

import contextlib
import re
import socket
import threading
from functools import partial
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
import waiting

from nllab.bench.live import CHROMIUM_OPTIONS, chromium_path, fetch, serving, stat
from nllab.experiment import Experiment
from nllab.run_io import load_run
from nllab.trainer import Trainer

playwright_api = pytest.importorskip("playwright.sync_api")
pytestmark = [pytest.mark.browser, pytest.mark.skipif(chromium_path() is None, reason="needs Chromium")]

PATIENCE = 90.0  # for a slow machine; nothing here asserts a speed
FREE_AFTER = 12  # seconds, instead of two minutes; a reload on a slow machine takes less
FAST = "?epochs=20&optimizer=adam&speed=40"
DESK, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}


until = partial(waiting.until, seconds=PATIENCE)


@pytest.fixture(scope="module")
def address():
    with serving(NLLAB_FREE_AFTER=str(FREE_AFTER)) as found:
        until(lambda: fetch(f"{found}/stat"))
        yield found


@pytest.fixture(scope="module")
def browser():
    with playwright_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium_path(), args=list(CHROMIUM_OPTIONS))
        yield found
        found.close()


@pytest.fixture
def visit(browser, address):
    """Opens a page of its own browser profile; in the end nothing may have been said on the console or asked of another
    server."""
    contexts, said, abroad = [], [], []

    def open_page(query="", viewport=DESK, **settings):
        contexts.append(browser.new_context(viewport=viewport, **settings))
        page = contexts[-1].new_page()
        page.set_default_timeout(PATIENCE * 1000)
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.on(
            "response", lambda answer: said.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None
        )
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on(
            "request",
            lambda request: None if request.url.startswith((address, "data:", "blob:")) else abroad.append(request.url),
        )
        page.goto(f"{address}/{query}")
        drawn(page)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not said and not abroad


class Proxy:
    """A line between a browser and the server that can be cut: no byte passes, and nobody is let in, until it is
    mended."""

    def __init__(self, port):
        self.target, self.open, self.socks = port, True, set()
        self.door = socket.create_server(("127.0.0.1", 0))
        self.port = self.door.getsockname()[1]

    def __enter__(self):
        threading.Thread(target=self._let_in, daemon=True).start()
        return self

    def _let_in(self):
        while True:
            try:
                near, _ = self.door.accept()
            except OSError:
                return
            if not self.open:
                near.close()
                continue
            far = socket.create_connection(("127.0.0.1", self.target))
            self.socks |= {near, far}
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._pass_on, args=(one, other), daemon=True).start()

    def _pass_on(self, one, other):
        try:
            while data := one.recv(65536):
                other.sendall(data)
        except OSError:
            pass
        for end in (one, other):  # closed alone, it would live on as long as another thread waits for its next byte
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def cut(self):
        self.open = False
        for end in self.socks:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self.socks = set()

    def mend(self):
        self.open = True

    def __exit__(self, *_):
        self.cut()
        self.door.close()


def drawn(page):
    page.locator(".nl:not([data-draws='0'])").wait_for()
    return page


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


def test_play_pause_toggle_and_keys(visit, address):
    page = visit("?networks=1")
    assert page.locator(".st-key-play button:visible").inner_text().split()[1] == "Play" and step_of(page) == 0
    press(page, "play")
    until(lambda: step_of(page) >= 3)
    page.locator(".st-key-deep label").click()
    until(lambda: "deep optimizer on" in notes(page))
    assert page.locator(".nl-panel").get_attribute("data-acting") == "deep"
    until(
        lambda: len(page.evaluate("document.querySelector('.nl-raster').layout.shapes")) == 2
    )  # task A, and the toggle
    press(page, "play")
    until(lambda: not run_of(page, address)[1]["playing"])
    page.wait_for_timeout(1000)  # the step that was under way still ends
    stood = run_of(page, address)[1]["step"]
    until(lambda: step_of(page) == stood)
    page.keyboard.press("n")
    until(lambda: step_of(page) == stood + 1)
    assert run_of(page, address)[1]["step"] == stood + 1  # paused means paused
    page.keyboard.press("Space")
    until(lambda: step_of(page) > stood + 2)
    page.keyboard.press("d")
    until(lambda: page.locator(".nl-panel").get_attribute("data-acting") == "plain")
    page.keyboard.press("Space")
    until(lambda: not run_of(page, address)[1]["playing"])
    until(lambda: "adam takes over" in notes(page))


def test_keys_pressed_quickly_leave_the_page_alive(visit):
    page = visit("compare?speed=20")
    page.get_by_role("heading", name="Side by side").click()  # away from all fields
    for _ in range(2):
        for key in (
            "Space",
            "n",
            "w",
            "b",
            "1",
            "2",
            "p",
            "Space",
            "b",
            "b",
            "Shift+X",
            "Space",
            "n",
            "1",
            "2",
            "w",
            "p",
        ):
            page.keyboard.press(key)
            page.wait_for_timeout(60)
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
    assert page.get_by_role("dialog").count() == 0
    press(page, "reset")
    until(lambda: page.locator(".nl-number-step dd").all_inner_texts() == ["0", "0"])


def test_a_stretch_zoomed_into_stays_while_rows_stream_and_is_so_in_all_figures(visit):
    page = visit(FAST)
    press(page, "play")
    until(lambda: step_of(page) >= 5)
    page.locator(".nl-more > summary").click()
    box = page.locator(".nl-accuracy").bounding_box()
    page.mouse.move(box["x"] + 60, box["y"] + 60)
    page.keyboard.down("Shift")
    page.mouse.down()
    page.mouse.move(box["x"] + 300, box["y"] + 60, steps=4)
    page.mouse.up()
    page.keyboard.up("Shift")
    full = [0, 20 * 136]
    zoomed = until(lambda: ranges(page)[0] != full and ranges(page)[0])
    before = draws_of(page)
    until(lambda: draws_of(page) >= before + 10)
    assert ranges(page) == [zoomed] * 3
    page.mouse.move(box["x"] + 150, box["y"] + 60)
    until(lambda: zoomed[0] <= step_of(page) <= zoomed[1])  # the numbers are of the step that is pointed at
    page.mouse.dblclick(box["x"] + 100, box["y"] + 60)
    until(lambda: ranges(page) == [full] * 3)


def test_one_click_shows_a_painted_over_without_and_staying_with_the_deep_optimizer(visit):
    page = visit(viewport={"width": 1366, "height": 768})
    panels = page.locator(".nl-panel")
    # Before any click: both networks, their walls and their curves are drawn, in sight, with Play.
    for selector in (".st-key-play button", ".nl-network-canvas", ".nl-wall", ".nl-accuracy canvas"):
        boxes = [found.bounding_box() for found in page.locator(f"{selector}:visible").all()]
        assert boxes and all(box["y"] + box["height"] <= 780 for box in boxes), selector
    painted = """(one) => new Set(new Uint32Array(one.getContext('2d').getImageData(0, 0, one.width,
    one.height).data.buffer)).size"""
    until(lambda: all(one.evaluate(painted) > 20 for one in page.locator(".nl-network-canvas").all()))
    words = page.locator(".st-key-opening p").inner_text().split()
    assert len(words) <= 60
    controls = "button:visible, input:visible, a:visible, summary:visible, [role=combobox]:visible"
    assert page.locator(".stMain").locator(controls).count() <= 20
    press(page, "play")
    until(lambda: page.locator(".nl-panel[data-finished=true]").count() == 2)
    until(lambda: [panels.nth(i).locator(".nl-number-step dd").inner_text() for i in (0, 1)] == ["136", "136"])
    a, b = (
        [float(panels.nth(i).locator(f".nl-number-accuracy-{task} dd").inner_text()) for i in (0, 1)] for task in "AB"
    )
    assert a[0] < 0.3 and a[1] > 0.85 and min(b) > 0.85  # overwritten there, kept here, and B was learned by both
    assert f"{a[0]:.2f} with Adam and {a[1]:.2f} with the deep optimizer" in page.locator(".nl-together").inner_text()

    # Three views differ: what is left of the units' responses, what was held back, the wall.
    left = [page.locator(".nl-network-canvas").nth(i).get_attribute("aria-label") for i in (0, 1)]
    shares = [[int(number) for number in re.findall(r" (\d+) %", text)] for text in left]
    assert len(shares[0]) == 5 and all(off < on for off, on in zip(*shares, strict=True))
    assert "held back" in panels.nth(1).locator(".nl-held").first.inner_text()
    assert panels.nth(0).locator(".nl-held").first.inner_text() == "nothing held back"
    right = [int(page.locator(".nl-wall").nth(i).get_attribute("aria-label").split()[0]) for i in (0, 1)]
    assert right[0] < 20 < right[1]

    # One step pointed at is shown everywhere, of both runs; by keyboard, too.
    box = panels.first.locator(".nl-accuracy").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + 50)
    until(lambda: 30 < int(panels.nth(1).locator(".nl-number-step dd").inner_text()) < 80)
    until(lambda: "at step 136" not in page.locator(".nl-network-canvas").nth(1).get_attribute("aria-label"))
    page.mouse.move(10, 10)
    panels.first.locator(".nl-accuracy").focus()
    page.keyboard.press("ArrowLeft")
    until(lambda: [panels.nth(i).locator(".nl-number-step dd").inner_text() for i in (0, 1)] == ["135", "135"])
    page.keyboard.press("Escape")
    until(lambda: panels.nth(0).locator(".nl-number-step dd").inner_text() == "136")

    # Back to a checkpoint, both, and a reload picks them up.
    page.get_by_role("button", name="68", exact=True).click()
    until(lambda: [panels.nth(i).locator(".nl-number-step dd").inner_text() for i in range(2)] == ["68"] * 2)
    page.reload()
    drawn(page)
    until(lambda: [panels.nth(i).locator(".nl-number-step dd").inner_text() for i in range(2)] == ["68"] * 2)


def test_the_frozen_twin_is_one_click_away_and_never_changes_below_its_head(visit):
    page = visit("compare")
    assert "what did the hidden levels learn" in page.locator(".st-key-question").inner_text()
    press(page, "twin_add")
    until(lambda: page.locator(".nl-panel").count() == 3)
    press(page, "play")
    until(lambda: page.locator(".nl-panel[data-finished=true]").count() >= 1)
    twin = "document.querySelector('.nl').parentElement.nllab.panels[2].stage.reel"
    until(lambda: page.evaluate(f"{twin}.last?.step ?? 0") >= 68)
    kept = page.evaluate(
        f"{twin}.portraits.every(({{ levels }}) => levels.slow.weights.join() ==="
        f" {twin}.portraits[0].levels.slow.weights.join())"
    )
    learned = page.evaluate(f"{twin}.last.levels.head.weights.some((one) => one !== 0)")
    assert kept and learned


def test_a_run_belongs_to_its_tab(visit, address):
    page = visit(f"{FAST}&seed=7")
    press(page, "play")
    until(lambda: step_of(page) >= 2)
    id, before = run_of(page, address)

    # a reload picks it up, with all of its past
    page.reload()
    drawn(page)
    assert run_of(page, address)[0] == id
    until(lambda: step_of(page) > before["step"])
    until(lambda: page.evaluate("document.querySelector('.nl-drift').data?.[0].x[0]") == 1)
    page.locator(".st-key-play button:visible", has_text="Pause").wait_for()

    # a copied link carries the settings, never the run, and two browsers train apart
    other = visit(page.url.removeprefix(f"{address}/"))
    assert "seed=7" in other.url
    other_id, other_run = run_of(other, address)
    assert other_id != id and other_run["step"] == 0 and id not in page.url
    press(other, "step")
    until(lambda: step_of(other) == 1)
    stood = step_of(page)
    until(lambda: step_of(page) > stood)
    assert run_of(other, address)[1]["step"] == 1

    # a duplicated tab begins with a copy of the tab's memory, and yet gets a run of its own
    with page.context.expect_page() as opened:
        page.evaluate("window.open(location.href)")
    twin = drawn(opened.value)
    until(lambda: run_of(twin, address)[0] not in (id, other_id))

    # closing the tab pauses the training at once and frees the run later; who is watched stays
    page.close()
    until(lambda: not stat(address)["runs"][id]["playing"], seconds=5)
    until(lambda: id not in stat(address)["runs"], seconds=FREE_AFTER + 10)
    assert run_of(other, address)[1] is not None


def test_bad_input_is_a_sentence_and_the_training_goes_on(visit, address):
    page = visit("?seed=x&epochs=20")
    alert = page.get_by_test_id("stAlert")
    assert "seed is 'x'" in alert.inner_text()
    press(page, "play")
    until(lambda: step_of(page) >= 2)
    page.get_by_test_id("stExpandSidebarButton").click()
    field = page.get_by_role("textbox", name="Periods of the memory levels")
    field.fill("0, 4, 16")
    field.press("Enter")
    alert.filter(has_text="periods is '0'").wait_for()
    stood = step_of(page)
    until(lambda: step_of(page) > stood)
    field.fill("1, 2, 8")
    field.press("Enter")
    until(lambda: "every 8 steps" in page.evaluate("document.querySelector('.nl-raster').layout.yaxis.ticktext[3]"))
    assert alert.count() == 0


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
        page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
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
    assert "135 writes" in page.locator(".nl-levels").text_content()
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
    page = visit("tour")
    press(page, "tour_begin")
    page.locator(".st-key-tour", has_text="1 of ").wait_for()
    press(page, "tour_next")
    until(lambda: page.locator(".nl-panel").first.get_attribute("data-playing") == "true" or step_of(page) > 0)
    page.keyboard.press("Escape")
    page.locator(".st-key-tour").wait_for(state="detached")


def test_signals_and_the_managers_log_are_linked_with_all_views(visit):
    page = visit("?optimizer=deep&speed=unlimited")
    press(page, "play")
    page.locator(".nl-panel[data-finished=true]").wait_for()
    page.locator(".nl-more > summary").click()
    for name in ("surprise", "novelty", "conflict"):
        page.locator(f".nl-{name} canvas").first.wait_for()
        assert page.evaluate(f"document.querySelector('.nl-{name}').data[0].x.length") > 5
    page.locator(".nl-log li").last.focus()  # a decision, reached without a mouse
    step = int(page.locator(".nl-log li").last.get_attribute("data-step"))
    until(lambda: step_of(page) == step)
    page.locator(".nl-card-novelty").scroll_into_view_if_needed()
    box = page.locator(".nl-novelty").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + 40)
    until(lambda: 0 < step_of(page) < 68)
    page.locator(".nl-card-surprise .nl-table summary").click()
    page.locator(".nl-card-surprise .nl-table th").first.wait_for()  # it is filled when it has opened
    assert page.locator(".nl-card-surprise .nl-table th").all_inner_texts()[:2] == ["step", "surprise of input"]


def test_a_network_of_names_writes_on_in_the_live_view_and_in_the_replay(visit, tmp_path):
    query = "stream=names-ab&loss=cross_entropy&batch_size=64&evaluate_every=50&dim=32&hidden=32&optimizer=adam"
    last = str(Trainer(Experiment.from_query(query)).planned_steps)  # another Babel has other names
    page = visit(f"?{query}&speed=unlimited")
    press(page, "play")
    page.locator(".nl-panel[data-finished=true]").wait_for()
    until(lambda: step_of(page) == int(last))
    until(lambda: page.locator(".nl-words li").count() == 12)
    page.locator(".st-key-keep summary").first.click()
    download(page, "keep-live--zip").save_as(tmp_path / "names.zip")
    page.goto(f"{page.url.split('?')[0]}replay")
    sent = page.locator("[data-testid=stFileUploader] input[type=file]")
    sent.wait_for(state="attached")
    sent.set_input_files(tmp_path / "names.zip")
    until(lambda: page.locator(".player .nl-words li").count() == 12)


def test_a_lost_connection_is_said_and_nothing_is_lost(browser, address):
    with Proxy(int(address.rpartition(":")[2])) as proxy:
        context = browser.new_context(viewport=DESK)
        page = context.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        page.goto(f"http://127.0.0.1:{proxy.port}/?epochs=20&optimizer=adam")
        drawn(page)
        press(page, "play")
        until(lambda: step_of(page) >= 5)
        id, _ = run_of(page, address)
        proxy.cut()
        page.locator(".nl-lost", has_text="Connection lost").wait_for()
        until(lambda: not stat(address)["runs"][id]["playing"])  # nobody watches: it stands still
        stood = step_of(page)
        proxy.mend()
        page.locator(".nl-lost").wait_for(state="hidden")
        until(lambda: step_of(page) > stood + 5)
        steps = page.evaluate("document.querySelector('.nl-drift').data[0].x")
        assert steps == list(range(1, len(steps) + 1))  # each step once, none missing
        assert run_of(page, address)[0] == id
        context.close()


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
    page.locator(".st-key-more button").click()
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


def test_a_run_is_kept_and_replayed_and_trained_again(visit, address, tmp_path):
    page = visit("?speed=unlimited&seed=3&optimizer=adam")
    press(page, "play")
    page.locator(".nl-panel[data-finished=true]").wait_for()
    page.locator(".st-key-keep summary").first.click()
    for ending in ("zip", "html", "csv", "parquet", "json"):
        kept = download(page, f"keep-live--{ending}")
        kept.save_as(tmp_path / f"run.{ending}")
        assert kept.suggested_filename == f"nllab-digits-ab-seed-3.{ending}"
    assert load_run(tmp_path / "run.zip").steps == 136
    with page.expect_download() as kept:
        page.locator(".nl-card-accuracy .nl-save", has_text="SVG").click()
    assert kept.value.path().read_bytes().startswith(b"<svg")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy link", exact=True).click()
    until(lambda: "seed=3" in page.evaluate("navigator.clipboard.readText()"))

    page.goto(f"{page.url.split('?')[0]}replay")
    sent = page.locator("[data-testid=stFileUploader] input[type=file]")
    sent.wait_for(state="attached")
    with open(tmp_path / "huge.zip", "wb") as file:
        file.truncate(200_000_000)
    sent.set_input_files(tmp_path / "huge.zip")
    page.get_by_text("File must be 32.0MB or smaller").wait_for()
    sent.set_input_files(tmp_path / "run.zip")
    page.wait_for_function("document.querySelector('.pl-drift')?.data")
    page.locator(".pl-slider").fill("68")
    until(lambda: page.evaluate("document.querySelector('.pl-drift').data[0].x.at(-1)") == 68)
    press(page, "train_again")
    drawn(page)
    assert "seed=3" in page.url


def test_a_slide_shows_the_figures_without_controls_and_trains_by_itself(visit):
    page = visit("?embed=true&speed=6&seed=3")
    until(lambda: step_of(page) >= 2)
    controls = page.locator(".st-key-controls")
    assert controls.evaluate("one => getComputedStyle(one).opacity") == "0"
    for gone in (".stSidebar", "h1", ".st-key-keep", ".stAppHeader", ".nl-under"):
        assert not page.locator(gone).first.is_visible()
    assert "embed=true" in page.url and "seed=3" in page.url
    page.keyboard.press("Space")
    page.locator(".nl-panel[data-playing=false]").wait_for()
    page.mouse.move(600, DESK["height"] - 15)  # as in a video, they come up for whoever points there
    until(lambda: controls.evaluate("one => getComputedStyle(one).opacity") == "1")


def test_a_write_opens_phase_by_phase_and_closes_when_training_goes_on(visit):
    page = visit("?speed=40")
    press(page, "play")
    until(lambda: step_of(page) >= 70)
    press(page, "play")
    press(page, "open_write")
    bar = page.locator(".nl-phasebar")
    bar.wait_for()
    assert page.locator(".nl-stage:visible").count() == 0 and page.locator(".nl-write:visible").count() == 2
    steps = page.locator(".nl-number-step dd")
    until(lambda: len(set(steps.all_inner_texts())) == 1)  # the same write of both, on the same samples
    bar.get_by_role("button", name="The write", exact=True).click()
    plain, deep = page.locator(".nl-write-text").all_inner_texts()
    moved = [float(re.search(r"those for A move by (\d\.\d+)", text)[1]) for text in (plain, deep)]
    assert moved[1] < 0.7 * moved[0]  # what the memory lets through disturbs A less
    bar.get_by_role("button", name="Held back", exact=True).click()
    plain, deep = page.locator(".nl-write-text").all_inner_texts()
    assert "nothing is held back" in plain and "and is held back" in deep
    page.keyboard.press("ArrowLeft")
    until(lambda: "Its main direction" in page.locator(".nl-write-text").first.inner_text())
    page.get_by_label("Level whose next write is opened").select_option("medium")  # which writes at every fourth step
    until(lambda: {int(text) % 4 for text in steps.all_inner_texts()} == {0} and bar.is_visible())
    press(page, "play")
    bar.wait_for(state="hidden")
    assert page.locator(".nl-stage:visible").count() == 2
