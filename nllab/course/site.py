"""The course as pages for any static host: mathematics as MathML, recorded runs where a live lab stands, pictures under
sliders. The pages ask for nothing from anywhere. No torch, but for the runs that are recorded.
"""

from __future__ import annotations

import html
import json
import re
import shutil
from pathlib import Path
from typing import Any

from nllab.errors import SettingError
from nllab.html_export import embedded
from nllab.place import FRAMES

HERE = Path(__file__).parent
ASSETS = ("course.css", "course.js")
MATHS = re.compile(r"\$\$(.+?)\$\$|\$([^$]+?)\$", re.S)
CODE = re.compile(r"```.*?```|`[^`\n]+`", re.S)


def write_site(notebooks: Path, folder: Path) -> list[Path]:
    """Write index.html, a page for each notebook, teacher.html and assets; the pages written.

    Raises SettingError where the folder holds something else, or cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())) and not (folder / "assets").is_dir():
        raise SettingError(f"{folder} is not an empty folder; name a new one.")
    sources = sorted(notebooks.glob("[0-9][0-9]-*.ipynb"))
    if not sources:
        raise SettingError(f"{notebooks} holds no built notebooks; run notebooks/build.py first.")
    opened = {path.stem: json.loads(path.read_text(encoding="utf-8"))["cells"] for path in sources}
    titles = {stem: _text(cells[0]).splitlines()[0].lstrip("# ") for stem, cells in opened.items()}
    try:
        (folder / "assets").mkdir(parents=True, exist_ok=True)
        _write_assets(folder / "assets")
        pages = {f"{stem}.html": _notebook(cells) for stem, cells in opened.items()}
        pages["teacher.html"] = rendered((HERE / "teacher.md").read_text(encoding="utf-8"))
        pages["index.html"] = _index(opened, titles)
        named = {f"{stem}.html": title for stem, title in titles.items()}
        for name, body in pages.items():
            title = named.get(name, "For teachers" if name == "teacher.html" else "A course on learning without losing")
            (folder / name).write_text(_page(title, body, named, name), encoding="utf-8")
    except OSError as error:
        raise SettingError(f"{folder} cannot be written: {error.strerror}.") from None
    return [folder / name for name in pages]


def _write_assets(folder: Path) -> None:
    from pygments.formatters import HtmlFormatter

    from nllab import html_export

    for name in ASSETS:
        shutil.copyfile(HERE / name, folder / name)
    (folder / html_export.SCRIPT).write_text(html_export.script(), encoding="utf-8")
    (folder / html_export.STYLE).write_text(html_export.style(), encoding="utf-8")
    dark = HtmlFormatter(style="github-dark").get_style_defs("pre")
    styles = (
        f"{HtmlFormatter(style='default').get_style_defs('pre')}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}"
    )
    (folder / "code.css").write_text(styles, encoding="utf-8")


def rendered(markdown: str) -> str:
    """Markdown as HTML, its mathematics as MathML."""
    import mistune
    from latex2mathml.converter import convert

    kept: list[str] = []

    def hold(text: str) -> str:
        kept.append(text)
        return f"\x02{len(kept) - 1}\x03"

    def formula(match: re.Match[str]) -> str:
        block = match[1] is not None
        made = convert((match[1] or match[2]).strip(), display="block" if block else "inline")
        return hold(f'<div class="formula" tabindex="0">{made}</div>' if block else made)

    codes: list[str] = []

    def hide(match: re.Match[str]) -> str:
        codes.append(match[0])
        return f"\x04{len(codes) - 1}\x05"

    text = MATHS.sub(formula, CODE.sub(hide, markdown))
    text = re.sub("\x04(\\d+)\x05", lambda m: codes[int(m[1])], text)
    text = re.sub(r"\]\((\d\d-[a-z-]+)\.ipynb\)", r"](\1.html)", text)
    made = str(mistune.create_markdown(escape=False, plugins=["table"])(text))
    made = made.replace("<table>", '<div class="wide" tabindex="0"><table>').replace("</table>", "</table></div>")
    return re.sub("\x02(\\d+)\x03", lambda m: kept[int(m[1])], made)


def _text(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def _notebook(cells: list[dict[str, Any]]) -> str:
    parts = []
    for cell in cells:
        if cell["cell_type"] == "markdown":
            parts.append(rendered(_text(cell)))
        elif cell["cell_type"] == "code":
            parts += [_highlighted(_text(cell)), *map(_output, cell["outputs"])]
    return "\n".join(parts)


def _highlighted(code: str) -> str:
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    return highlight(code, PythonLexer(), HtmlFormatter(nowrap=True)).join(
        ('<pre class="code" tabindex="0">', "</pre>")
    )


def _output(output: dict[str, Any]) -> str:
    if output["output_type"] == "stream":
        return f'<pre class="said" tabindex="0">{html.escape("".join(output["text"]))}</pre>'
    data = output.get("data", {})
    if FRAMES in data:
        frames = data[FRAMES]
        return _sliders(frames["frames"]) if "frames" in frames else _recorded(frames["experiment"])
    if "image/png" in data:
        picture = "".join(data["image/png"]).replace("\n", "")
        image = f'<img alt="Figure drawn by the cell above" src="data:image/png;base64,{picture}">'
        return f'<div class="wide" tabindex="0">{image}</div>'
    if "text/html" in data:
        return "".join(data["text/html"])
    return f'<pre class="said" tabindex="0">{html.escape("".join(data.get("text/plain", "")))}</pre>'


def _sliders(frames: dict[str, Any]) -> str:
    """One picture for every place of the sliders (course.js)."""
    bars, at = [], 0
    for name, values, place in frames["knobs"]:
        at = at * len(values) + place
        told = html.escape(json.dumps(values))
        bars.append(
            f'<label>{html.escape(name)} <input type="range" min="0" max="{len(values) - 1}" value="{place}"'
            f' data-values="{told}"> <output>{html.escape(values[place])}</output></label>'
        )
    shown = f'<img alt="Figure under the sliders" src="data:image/png;base64,{frames["pictures"][at]}">'
    rest = embedded(frames["pictures"])
    return f'<div class="sliders">{"".join(bars)}{shown}<script type="application/json">{rest}</script></div>'


def _recorded(experiment: dict[str, Any]) -> str:
    """The run that Play would have made, to be played."""
    from nllab.experiment import Experiment
    from nllab.html_export import recordings
    from nllab.trainer import train

    told = embedded(recordings({"": train(Experiment(**experiment))}))
    note = "Recorded: in the notebook, the network trains while you steer it (<code>nllab lab</code>)."
    data = f'<script type="application/json">{told}</script>'
    return f'<p class="note">{note}</p><div class="recording"><div></div>{data}</div>'


def _index(opened: dict[str, list[dict[str, Any]]], titles: dict[str, str]) -> str:
    rows = []
    for stem, cells in opened.items():
        minutes = re.search(r"About (\d+) minutes\.\W+The exercises take another (\d+)", _text(cells[0]))
        reading, solving = minutes.groups() if minutes else ("", "")
        asked = sum("exercise" in cell["metadata"].get("tags", []) for cell in cells)
        rows.append(f"| [{titles[stem]}]({stem}.html) | {reading} | {asked} | {solving} |")
    table = "\n".join(["| notebook | minutes | exercises | minutes |", "|---|---|---|---|", *rows])
    return rendered(f"""# Learning without losing

A course in notebooks on nested and continual learning: why networks forget what they knew, and what an optimizer with a
memory can do about it. Every figure and every line with a ✓ was computed when these pages were built.

{table}

These pages can be read anywhere. To solve the exercises, install `nllab` and run `nllab lab`: it opens the notebooks on
a copy of your own, checks your answers and keeps your progress. `nllab dashboard` has short lessons on the same
questions, on its page *Lessons*. For a class: [for teachers](teacher.html).
""")


def _page(title: str, body: str, pages: dict[str, str], here: str) -> str:
    order = ["index.html", *pages, "teacher.html"]
    names = {"index.html": "Contents", "teacher.html": "For teachers"} | {n: t[:2] for n, t in pages.items()}
    links = "".join(
        f'<a href="{name}"{" aria-current=page" if name == here else ""}>{html.escape(names[name])}</a>'
        for name in order
    )
    scripts = '<script src="assets/course.js"></script>'
    if 'class="recording"' in body:
        scripts = '<script src="assets/player.js"></script>' + scripts
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)} · nllab</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="assets/code.css">
<link rel="stylesheet" href="assets/player.css">
<link rel="stylesheet" href="assets/course.css">
</head>
<body>
<nav aria-label="Course">{links}</nav>
<main>
{body}
</main>
{scripts}
</body>
</html>
"""
