"""One module defines what can happen in a run; whoever reads it reads fields that are there."""

import json
import re
import timeit
from dataclasses import fields
from pathlib import Path

import pytest

from nllab.errors import RunFormatError
from nllab.events import KINDS, Context, Decision, LevelStep, Step, jsonable, read, schema

ROOT = Path(__file__).parent.parent
RUN = {"tasks": ("A", "B"), "levels": ("fast",)}


def level(**changes):
    sizes = {"update_norm": 0.1, "drift": 0.2, "drift_since_switch": 0.2, "gradient_norm": 1.0}
    return LevelStep(**{"wrote": True, "writes": 3, **sizes, **changes})


def step(**changes):
    told = {"step": 3, "task": "A", "optimizer": "adam", "loss": 0.5, "online_accuracy": 0.25}
    return Step(**{**told, "levels": {"fast": level()}, **changes})


def test_an_event_comes_back_equal_and_what_is_missing_takes_no_place():
    for event in (step(), step(accuracy={"A": 1.0, "B": 0.0}, levels={"fast": level(surprise=0.5)})):
        line = json.dumps(jsonable(event))
        assert read(line, Context(**RUN)) == event == read(line)
    assert "accuracy" not in jsonable(step()) and "surprise" not in jsonable(step())["levels"]["fast"]
    assert jsonable(step(levels={"fast": level(drift=float("inf"))}))["levels"]["fast"]["drift"] is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"step": -1}, "step of the event step is -1"),
        ({"step": "3"}, "step of the event step is '3'"),
        ({"loss": None}, "loss of the event step is None"),
        ({"task": "C"}, "task of the event step is 'C': the run has no task of that name"),
        ({"accuracy": {"A": 1.0}}, "does not name every task"),
        ({"accuracy": {"A": 1.0, "B": 2}}, "accuracy.B of the event step is 2"),
        ({"levels": {}}, "does not name every level"),
        ({"kind": "dance"}, "kind is 'dance', which this version of nllab does not know"),
        ({"kind": "command", "name": "period", "value": ["slow", 3]}, "the command period has no such value"),
        ({"kind": "command", "name": "rm", "value": 1}, "name of the event command is 'rm'"),
        ({"kind": "command", "name": "rate", "value": -1}, "the command rate has no such value"),
    ],
)
def test_what_is_not_an_event_is_refused_with_its_field_and_value(changes, words):
    with pytest.raises(RunFormatError, match=re.escape(words)):
        read(json.dumps(jsonable(step()) | changes), Context(**RUN))


def test_the_schema_has_every_kind_and_every_field():
    told = schema()
    assert set(told["discriminator"]["mapping"]) == set(KINDS)
    for kind in KINDS.values():
        assert set(told["$defs"][kind.__name__]["properties"]) == {field.name for field in fields(kind)}


def test_the_view_reads_no_field_of_a_decision_that_is_not_in_the_schema():
    scripts = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "app").glob("*.js")))
    name, note = re.search(r"\n  note\((\w+)\) \{(.*?)\n  \}\n", scripts, re.S).groups()  # writes a decision down
    read_there = set(re.findall(rf"\b{name}\.(\w+)", note))
    assert read_there and read_there <= set(schema()["$defs"][Decision.__name__]["properties"])


def test_nobody_else_spells_a_kind_of_event():
    spelled = re.compile(rf'(kind"?\]?|kind") ?(==|:|in) ?"({"|".join(KINDS)})"')
    for path in [*ROOT.glob("nllab/**/*.py"), *ROOT.glob("app/*.py")]:
        if path.name not in ("events.py", "figures.py"):
            assert not spelled.search(path.read_text(encoding="utf-8")), path


def test_building_an_event_costs_no_more_than_a_few_dicts():
    told = jsonable(level())
    built, dicts = (
        min(timeit.repeat(lambda make=make: make(**told), number=2000, repeat=5)) for make in (LevelStep, dict)
    )
    assert built < 5 * dicts  # validated, or frozen, it would be seven times and more
