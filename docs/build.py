"""The pages that are made from the code: glossary and command line, committed, and the reference, made when the site
is.

python docs/build.py     writes docs/glossary.md and docs/command-line.md
mkdocs build --strict    makes the site, without any network; this module is its hook
"""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(__file__).parent
PACKAGE = FOLDER.parent / "nllab"


def glossary() -> str:
    """Every term and every metric of the lab, one line each."""
    from nllab.terms import glossary

    rows = "".join(f"**{word}**\n: {' '.join(meaning.split())}\n\n" for word, meaning in sorted(glossary().items()))
    return f"# Glossary\n\nMade from `nllab/terms.py` and `nllab/runs.py` by `docs/build.py`.\n\n{rows}".rstrip() + "\n"


def command_line() -> str:
    """Every command with its arguments and options."""
    os.environ["COLUMNS"] = "200"
    import typer
    from typer.cli import get_docs_for_click

    from nllab import cli

    command = typer.main.get_command(cli.app)
    pages = get_docs_for_click(obj=command, ctx=typer.Context(command, info_name="nllab"), name="nllab")
    return pages.replace("# `nllab`", "# Command line\n\nMade from `nllab/cli/` by `docs/build.py`.", 1).strip() + "\n"


def reference() -> dict[str, str]:
    """A page for each folder of the package: its modules with their public names, from their docstrings."""
    pages: dict[str, list[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        if "__pycache__" in parts or any(part.startswith("_") for part in parts[1:]):
            continue
        pages.setdefault("-".join(parts[1:-1]) or "nllab", []).append(".".join(parts))
    return {
        f"reference/{name}.md": f"# {name}\n\n" + "".join(f"::: {module}\n\n" for module in modules)
        for name, modules in pages.items()
    }


WRITTEN = {"glossary.md": glossary, "command-line.md": command_line}


def on_files(files, config):  # the hook of mkdocs
    from mkdocs.structure.files import File

    for uri, text in reference().items():
        files.append(File.generated(config, uri, content=text))
    return files


if __name__ == "__main__":
    for name, make in WRITTEN.items():
        (FOLDER / name).write_text(make(), encoding="utf-8")
