"""The reader's copy, what a teacher collects, and the pages of the course."""

import json
import os
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nllab import cli, html_export
from nllab.cli import serving
from nllab.cli.serving import shipped
from nllab.course import marks
from nllab.course.copies import copy_notebooks
from nllab.course.progress import Progress
from nllab.course.site import rendered, write_site
from nllab.errors import SettingError


@pytest.fixture
def release(tmp_path):
    """A folder of notebooks as one version of nllab ships them, and a way to ship another."""
    source = tmp_path / "shipped"
    source.mkdir()

    def ship(**texts):
        for name, text in texts.items():
            (source / f"{name}.ipynb").write_text(text)
        return source

    return ship


def test_an_edited_notebook_is_kept_and_a_new_version_put_beside_it(release, tmp_path):
    mine = tmp_path / "mine"
    assert [how for _, how in copy_notebooks(release(a="1", b="1"), mine)] == ["wrote", "wrote"]
    (mine / "a.ipynb").write_text("my work")
    assert [how for _, how in copy_notebooks(release(), mine)] == ["kept", "kept"]
    done = copy_notebooks(release(a="2", b="2"), mine)
    assert [(path.name, how) for path, how in done] == [("a.new.ipynb", "offered"), ("b.ipynb", "wrote")]
    assert (mine / "a.ipynb").read_text() == "my work" and (mine / "b.ipynb").read_text() == "2"
    (mine / "a.new.ipynb").write_text("worked on as well")
    copy_notebooks(release(a="3"), mine)
    texts = {path.name: path.read_text() for path in mine.glob("a*.ipynb")}
    assert texts == {"a.ipynb": "my work", "a.new.ipynb": "worked on as well", "a.new-2.ipynb": "3"}


def test_notebooks_of_before_copies_were_recorded_count_as_the_readers(release, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "a.ipynb").write_text("of long ago")
    assert copy_notebooks(release(a="1"), mine) == [(mine / "a.new.ipynb", "offered")]
    assert (mine / "a.ipynb").read_text() == "of long ago"


def test_a_folder_that_cannot_be_written_is_named(release, tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(SettingError, match="--folder is .*file"):
            copy_notebooks(release(a="1"), folder)


def noted(folder):
    """What a reader did: one exercise right, one wrong, one that ends its process."""
    progress = Progress(folder)
    right = "def half_life(beta):\n    return math.log(0.5) / math.log(beta)\n"
    progress.note("03.1", prediction=70.0, answer=right, solved="2026-01-01", attempts=2)
    progress.note("02.1", answer="def delta_write(memory, key, value, rate):\n    return memory\n", attempts=1)
    progress.note("02.3", answer="raise SystemExit(0)", attempts=1)
    return marks.collected(folder, "Ada")


def test_what_a_teacher_collects_is_what_was_noted(tmp_path):
    with pytest.raises(SettingError, match="neither notebooks nor nllab-progress.json"):
        marks.collected(tmp_path)
    (tmp_path / "00-first-contact.ipynb").write_text("{}")  # a copy in which nothing has been solved
    assert marks.collected(tmp_path)["solved"] == 0
    found = noted(tmp_path)
    assert found["solved"] == 1 and found["of"] == len(marks.exercises())
    file = tmp_path / "ada.json"
    file.write_text(json.dumps(found))
    assert marks.read_collected(file) == found
    assert marks.grade({"exercises": {"03.1": {"answer": " "}}}) == {
        "03.1": (False, "No answer was kept that could be run.")
    }
    for text in ("", "[]", '{"format": 9}', '{"format": 1, "exercises": {"a": 3}}'):
        file.write_text(text)
        with pytest.raises(SettingError, match="is not what"):
            marks.read_collected(file)


@pytest.mark.slow  # each answer is run in a process that loads torch
def test_what_a_teacher_collects_can_be_run_again(tmp_path):
    results = marks.grade(noted(tmp_path))
    assert {name: good for name, (good, _) in results.items()} == {"02.1": False, "02.3": False, "03.1": True}
    assert "delta rule" in results["02.1"][1] and "could not be run" in results["02.3"][1]


def test_the_commands_of_a_class(tmp_path, monkeypatch):
    """Open one's own copy, look at one's progress, hand it in, have it graded."""

    def nllab(*arguments):
        return CliRunner(env={"COLUMNS": "200"}).invoke(cli.app, [*map(str, arguments)], catch_exceptions=False)

    opened = []
    monkeypatch.setattr(serving, "_call", lambda command: opened.append(command) or 0)
    mine, file = tmp_path / "mine", tmp_path / "ada.json"
    for word, user in (("wrote", 1000), ("kept your", 0)):
        monkeypatch.setattr(os, "geteuid", lambda user=user: user, raising=False)
        done = nllab("lab", "--folder", mine, "--no-browser")
        assert done.exit_code == 0 and done.stderr.count(word) == 13 and ("You are root" in done.stderr) == (not user)
    assert f"--notebook-dir={mine}" in opened[0] and "--no-browser" in opened[0]
    assert ["--allow-root" in command for command in opened] == [False, True]
    noted(mine)
    done = nllab("lab", "--folder", mine, "--check", "--reader", "Ada", "--out", file)
    assert done.exit_code == 0 and len(opened) == 2
    assert re.search(r"1 of \d\d exercises solved", done.stdout) and re.search(
        r"03\.1 .* 2026-01-01 .* 2 .* 70\.0", done.stdout
    )
    verdicts = {"03.1": (True, ""), "02.1": (False, "It adds.")}
    monkeypatch.setattr(marks, "grade", lambda found: verdicts if found["reader"] == "Ada" else {})
    graded = nllab("lab", "--grade", file).stdout
    assert re.search(r"ada\.json .* Ada .* 1 of \d\d .* 02\.1: It adds\.", graded)
    with pytest.raises(SettingError, match="cannot be written"):
        nllab("lab", "--folder", mine, "--check", "--out", tmp_path / "nowhere" / "f.json")
    with pytest.raises(SettingError, match="--out goes with --check"):
        nllab("lab", "--out", file)


# Pages.


def test_mathematics_becomes_mathml_and_code_stays():
    made = rendered(
        "Let $a < b$ and\n\n$$x^2 = \\tfrac12$$\n\nand `$HOME` and\n\n| $t$ | b |\n|---|---|\n| 1 | $u$ |\n"
    )
    assert made.count("<math") == 4 and "$" not in made.replace("$HOME", "") and "<code>$HOME</code>" in made
    assert "[01](01-a.html)" not in made and 'href="01-a.html"' in rendered("[01](01-a.ipynb)")


@pytest.fixture
def small(tmp_path):
    """The first and the last notebook, as they are shipped."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    for path in sorted(shipped("notebooks").glob("[0-9][0-9]-*.ipynb"))[1:3]:
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_pages_ask_for_nothing_from_anywhere(small, tmp_path):
    pages = write_site(small, tmp_path / "site")
    assert {page.name for page in pages} >= {"index.html", "teacher.html"} and len(pages) == 4
    files = {
        path.relative_to(tmp_path / "site").as_posix() for path in (tmp_path / "site").rglob("*") if path.is_file()
    }
    assert sum((tmp_path / "site" / name).stat().st_size for name in files) < 25e6
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for link in re.findall(r'(?:src|href)="([^"]+)"', text):
            assert link.startswith(("data:", "https://arxiv.org/", "#")) or link in files or "-" in link, link
        assert not re.search(r'<(?:script|link|img)[^>]+(?:src|href)="https?:', text)
        assert "$$" not in text and "ClaimError" not in text
    played = re.findall(
        r'class="recording"><div></div><script type="application/json">(.+?)</script>',
        pages[0].read_text(encoding="utf-8"),
    )
    assert played and all("moments" in run for found in played for run in json.loads(found))
    script = (tmp_path / "site" / "assets" / "player.js").read_text(encoding="utf-8")
    assert script == html_export.script()  # the player with the view that it draws with


def test_a_folder_with_something_else_is_left_alone(small, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(SettingError, match="not an empty folder"):
        write_site(small, tmp_path / "mine")
    with pytest.raises(SettingError, match="no built notebooks"):
        write_site(tmp_path, tmp_path / "new")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_the_formulas_of_every_notebook_can_be_drawn():
    for path in sorted(Path(shipped("notebooks")).glob("*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "markdown":
                text = "".join(cell["source"])
                assert "$" not in re.sub(r"<code>.*?</code>", "", rendered(text)), text
