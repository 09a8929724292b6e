"""A recording tells what the run tells, moment by moment, and the page that plays it needs nothing else."""

import functools
import json
import re
from dataclasses import replace

import pytest

from nllab import figures, html_export, narration
from nllab.bench.live import CHROMIUM_OPTIONS, chromium_path
from nllab.cli.training import export
from nllab.errors import SettingError
from nllab.events import Decision, End, Step
from nllab.experiment import Experiment
from nllab.runs import Run
from nllab.trainer import Trainer

LONG = 2_000  # steps, more than a recording keeps


@functools.cache
def trained():
    experiment = Experiment(dim=16, hidden=16, batch_size=40, optimizer="adam", periods=(1, 4), evaluate_every=4)
    return Trainer(experiment).run(commands=[(18, "optimizer", "deep"), (20, "period", ["slow", 2])])


def test_every_moment_is_what_a_watcher_saw_then():
    run = trained()
    told = html_export.recording(run)
    assert [moment["step"] for moment in told["moments"]] == list(range(run.steps + 1))
    for moment in told["moments"]:
        past = [row for row in run.log if row.step <= moment["step"]]
        assert moment["sentence"] == narration.sentence(past, run.tasks)
        assert moment["ends"].get("accuracy") == figures.ends("accuracy", past, run.tasks, run.levels)
    writers = [moment["optimizer"] for moment in told["moments"][1:]]
    assert writers == [row.optimizer for row in run.of(Step)]
    assert [(moment["step"], moment["lanes"][-2]) for moment in told["moments"] if "lanes" in moment] == [
        (0, "slow · every 4 steps"),
        (20, "slow · every 2 steps"),
    ]
    for name in figures.FIGURES:
        points = figures.points(name, run.log, run.tasks, run.levels)
        assert [{"x": trace["x"], "y": trace["y"]} for trace in told["figures"][name]["data"][:-1]] == points
    decision = Decision(step=3, level="all", saw={}, did={}, text="It waits.")
    events = html_export.recording(Run(run.experiment, run.tasks, run.levels, [*run.log[:6], decision]))["events"]
    assert events == [[1, "task A"], [3, "all: It waits."]]
    assert told["title"] == "digits-ab: Adam, then the deep optimizer, seed 0"


def test_a_long_run_is_thinned_and_every_write_still_counts():
    run = trained()
    step = run.of(Step)[-1]
    rows = [
        replace(step, step=i, levels=step.levels | {"slow": replace(step.levels["slow"], wrote=i == 777)})
        for i in range(1, LONG + 1)
    ]
    told = html_export.recording(Run(run.experiment, run.tasks, run.levels, [*run.log[:2], *rows]))
    assert len(told["moments"]) <= html_export.MOMENTS + 2 and told["moments"][-1]["step"] == LONG
    assert len(json.dumps(told)) < 600_000
    slow = told["figures"]["raster"]["data"][list(run.levels).index("slow")]["x"]
    assert len(slow) == 3 and 777 <= slow[0] < 777 + LONG / html_export.POINTS + 1


def test_a_run_without_a_step_has_a_recording():
    run = trained()
    for rows in ([], run.log[:1], run.log[:2]):
        told = html_export.recording(Run(run.experiment, run.tasks, run.levels, rows))
        assert told["moments"][-1]["sentence"] == "Nothing has been learned yet."


def test_nothing_in_a_run_can_break_out_of_the_page():
    run = trained()
    hostile = "</script><script>alert(1)</script><!-- \u2028"
    rows = [*run.log, End(step=run.steps, reason=hostile, text=hostile)]
    page = html_export.page(Run(run.experiment, run.tasks, run.levels, rows))
    assert "alert(1)</script>" not in page and len(re.findall("</script", page)) == 2
    (told,) = json.loads(re.search(r'id="recording">(.*?)</script>', page, re.S)[1])
    assert told["moments"][-1]["sentence"] == hostile
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", page)


def test_a_comparison_is_one_page_of_less_than_700_kb_with_both_networks():
    deep, plain = (
        Trainer(Experiment.preset("digits-ab", optimizer=name, evaluate_every=4, batch_size=20)).run()
        for name in ("deep", "adam")
    )
    page = html_export.page({"off": plain, "on": deep})
    told = json.loads(re.search(r'id="recording">(.*?)</script>', page, re.S)[1])
    assert len(page.encode()) < 700_000
    assert [run["heading"] for run in told] == ["off", "on"]
    for run in told:
        assert run["stage"]["drawn"] and len(run["stage"]["samples"]["tasks"]["A"]["images"]) == 40
        assert 8 <= len(run["scenes"]) <= html_export.SCENES and run["scenes"][-1]["step"] == deep.steps
        assert all("weights" in level for level in run["scenes"][0]["levels"].values())
    held = [run["scenes"][-1]["held"] for run in told]
    assert held[0] == {} and held[1]["input"]["A"] > 0


def test_export_writes_what_is_asked_for_and_says_what_it_cannot(tmp_path):
    folder, page, archive = trained().save(tmp_path / "run"), tmp_path / "run.html", tmp_path / "run.zip"
    export(folder, html=page, archive=archive, csv=None, parquet=None)
    assert page.read_text(encoding="utf-8") == html_export.page(trained())
    export(archive, html=None, archive=None, csv=tmp_path / "run.csv", parquet=None)
    with pytest.raises(SettingError, match="Nothing to write"):
        export(folder, html=None, archive=None, csv=None, parquet=None)
    with pytest.raises(SettingError, match="cannot be written: No such file"):
        export(folder, html=tmp_path / "nowhere" / "run.html", archive=None, csv=None, parquet=None)


@pytest.mark.browser
@pytest.mark.skipif(chromium_path() is None, reason="needs Chromium")
def test_the_page_plays_in_a_browser_without_server_and_network(tmp_path):
    playwright_api = pytest.importorskip("playwright.sync_api")
    (tmp_path / "run.html").write_text(html_export.page(trained()), encoding="utf-8")
    said, asked = [], []
    with playwright_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=list(CHROMIUM_OPTIONS))
        page = browser.new_context(
            viewport={"width": 1280, "height": 900}, offline=True, accept_downloads=True
        ).new_page()
        page.set_default_timeout(60_000)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on(
            "request",
            lambda request: asked.append(request.url) if not request.url.startswith(("data:", "blob:")) else None,
        )
        page.goto((tmp_path / "run.html").as_uri())
        page.wait_for_function("document.querySelector('.pl-drift')?.data")
        last = page.evaluate("document.querySelector('.pl-drift').data[0].x.at(-1)")
        page.locator(".pl-slider").fill("10")
        page.wait_for_function("document.querySelector('.pl-drift').data[0].x.at(-1) === 10")
        assert last == trained().steps and page.locator(".pl-clock").inner_text() == "step 10"
        assert page.locator(".pl-number dd").last.inner_text() == "Adam"
        page.locator(".pl-slider").press("ArrowRight")
        page.locator(".pl-clock", has_text="step 11").wait_for()
        page.locator(".pl-play").click()
        page.locator(".pl-clock", has_text=f"step {last}").wait_for()
        page.locator(".pl-play", has_text="Play").wait_for()
        assert page.locator(".pl-number dd").last.inner_text() == "deep optimizer"
        with page.expect_download() as saved:
            page.locator(".pl-card-accuracy .pl-save").click()
        with open(saved.value.path(), "rb") as file:
            assert file.read(4) == b"\x89PNG"
        browser.close()
    assert not said and asked == [(tmp_path / "run.html").as_uri()]
