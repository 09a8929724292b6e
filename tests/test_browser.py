"""The live page in a real browser: what a person sees, presses, reloads and closes. What the server knows is read from
/stat."""

import contextlib
import re
import socket
import threading

import pytest
from browsing import (
    DESK,
    FAST,
    NEEDS_CHROMIUM,
    PATIENCE,
    download,
    drawn,
    draws_of,
    notes,
    press,
    ranges,
    run_of,
    step_of,
    until,
)

from nllab.bench.live import stat
from nllab.experiment import Experiment
from nllab.run_io import load_run
from nllab.trainer import Trainer

pytestmark = [pytest.mark.browser, NEEDS_CHROMIUM]


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
    assert re.match(r"A \d+ %, B ", panels.nth(1).locator(".nl-held").nth(1).inner_text())
    assert panels.nth(0).locator(".nl-held").nth(1).inner_text() == "nothing"
    right = [int(page.locator(".nl-wall").nth(i).get_attribute("aria-label").split()[0]) for i in (0, 1)]
    assert right[0] < 20 < right[1]

    # One step pointed at is shown everywhere, of both runs; by keyboard, too.
    box = panels.first.locator(".nl-accuracy").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + 50)
    until(lambda: 30 < int(panels.nth(1).locator(".nl-number-step dd").inner_text()) < 80)
    until(lambda: "at step 136" not in page.locator(".nl-network-canvas").nth(1).get_attribute("aria-label"))
    assert panels.nth(1).locator(".nl-number-task dd").inner_text() == "task A"  # not the one that was learned last
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
    until(lambda: not stat(address)["runs"][id]["playing"])
    until(lambda: id not in stat(address)["runs"])
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
    slow = "document.querySelector('.nl-raster').layout.yaxis.ticktext[3]"  # "every 8 steps", or 8 where it is narrow
    until(lambda: re.search(r"\b8\b", page.evaluate(slow)))
    until(lambda: alert.count() == 0)  # the news may come before the script that takes the sentence away has ended


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
