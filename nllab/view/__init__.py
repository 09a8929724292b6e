"""The view modules: one set of small ES modules that draw a run in the dashboard, in an exported page and in notebooks.

The modules import each other by relative names. `bundle()` joins them into one script for hosts that take a single
text. No torch.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
MODULES = (  # each after those that it imports
    "canvas", "colours", "reel", "chart", "network", "wall", "rings", "manager", "write", "fan", "stage",
)  # fmt: skip
_IMPORT = re.compile(r'^import \{[^}]*\} from "\./\w+\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(async )?(class|const|let|function)\b)", re.MULTILINE)


@cache
def bundle() -> str:
    """All modules as one script without imports or exports; their names share one scope."""
    texts = [(HERE / f"{name}.js").read_text(encoding="utf-8") for name in MODULES]
    return "\n".join(_EXPORT.sub("", _IMPORT.sub("", text)) for text in texts)


@cache
def style() -> str:
    """The style of what the modules make, for hosts that take it as a text."""
    return (HERE / "stage.css").read_text(encoding="utf-8")
