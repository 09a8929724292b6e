"""The examples in docstrings give what they say; torch is imported in all of them."""

import doctest
import importlib
import re
from pathlib import Path

import pytest
import torch

import nllab

PACKAGE = Path(nllab.__file__).parent
MODULES = [
    ".".join(("nllab", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
    for path in sorted(PACKAGE.rglob("*.py"))
    if re.search("^ *>>> ", path.read_text(encoding="utf-8"), re.MULTILINE)
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_give_what_they_say(name):
    module = importlib.import_module(name)
    failed, tried = doctest.testmod(module, extraglobs={"torch": torch})
    assert tried and not failed


def test_there_are_examples():
    assert {"nllab.levels", "nllab.experiment", "nllab.metrics", "nllab.memory.rules", "nllab.streams"} <= set(MODULES)
