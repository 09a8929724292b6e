from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nllab import events, experiment, html_export, live, methods, models, optim, reproduce, runs, streams
from nllab.errors import SettingError
from nllab.experiment import OPTIMIZERS, PRESETS, Experiment

ROOT = Path(__file__).parent.parent

experiments = st.builds(
    Experiment,
    stream=st.sampled_from(sorted(PRESETS)),
    seed=st.integers(0, 2**31 - 1),
    periods=st.lists(st.integers(1, 500), min_size=1, max_size=8).map(lambda p: tuple(sorted(p))),
    optimizer=st.sampled_from(OPTIMIZERS),
    learning_rate=st.none() | st.floats(0, 10),
    retention=st.floats(0, 1),
    frozen=st.booleans(),
    loss=st.sampled_from(["squared_error", "cross_entropy"]),
)


@given(experiments)
def test_json_and_address_bring_an_experiment_back(experiment):
    assert Experiment.from_json(experiment.to_json()) == experiment
    assert Experiment.from_query(experiment.to_query()) == experiment
    assert Experiment.from_query("?" + experiment.to_query()) == experiment


def test_an_address_holds_only_what_differs_from_the_defaults():
    assert Experiment().to_query() == ""
    assert Experiment(seed=3, periods=(1, 8)).to_query() == "seed=3&periods=1%2C8"


@given(st.dictionaries(st.text(max_size=12), st.text(max_size=12), max_size=4))
def test_any_address_gives_an_experiment_or_a_sentence(query):
    try:
        Experiment.from_query(query)
    except SettingError as error:
        assert str(error).endswith(".")


@pytest.mark.parametrize("text", ["", "[1]", "3", "{", '{"seed": "x"}', '{"sede": 1}', "null"])
def test_json_that_is_no_experiment_is_refused_in_words(text):
    with pytest.raises(SettingError):
        Experiment.from_json(text)


def test_plain_side_of_the_toggle():
    assert Experiment(optimizer="deep", base_optimizer="sgd").base == "sgd"
    assert Experiment(optimizer="muon").base == "muon"
    assert (
        Experiment(optimizer="adam").base_learning_rate == 1e-3
        and Experiment(learning_rate=0.5).base_learning_rate == 0.5
    )


def test_an_experiment_cannot_be_changed_only_varied():
    experiment = Experiment()
    with pytest.raises(Exception, match="frozen"):
        experiment.seed = 3
    assert experiment.but(seed=3).seed == 3 and experiment.seed == 0
    with pytest.raises(SettingError, match="dim is 0"):
        experiment.but(dim=0)


def test_settings_are_read_by_their_former_names_in_files_and_addresses():
    now = Experiment(error_weight=2.0, realign_every=5)
    assert Experiment.from_query("attention=2&carry_every=5") == now
    assert Experiment.from_query("passes=3&off_optimizer=sgd") == Experiment(epochs=3, base_optimizer="sgd")
    assert Experiment.from_json('{"attention": 2, "carry_every": 5}') == now
    assert "error_weight=2.0" in now.to_query() and "attention" not in now.to_json()
    with pytest.raises(SettingError, match="error_weight is given twice"):
        Experiment(error_weight=1.0, attention=1.0)
    with pytest.raises(SettingError, match="attention|error_weight"):
        Experiment.from_query("attention=-1")


def test_a_changed_experiment_takes_former_names_too():
    assert Experiment().but(passes=3) == Experiment.preset("digits-ab", passes=3) == Experiment(epochs=3)
    with pytest.raises(SettingError, match="epochs is given twice"):
        Experiment(passes=3, epochs=2)


OLD = Path(__file__).parent / "data" / "v1"


def test_experiments_and_addresses_of_before_are_read():
    old = Experiment.from_json((OLD / "experiment.json").read_text())
    assert (old.epochs, old.base_optimizer, old.realign_every, old.error_weight) == (3, "adamw", 0, 2.5)
    for line in (OLD / "addresses.txt").read_text().splitlines():
        now = Experiment.from_query(line)
        assert Experiment.from_query(now.to_query()) == now and "passes" not in now.to_query()


def test_no_public_name_is_an_old_word():
    old = {"passes", "off_optimizer", "attention", "carry_every", "agenda", "company", "party", "rows", "told", "dream"}
    old |= {"home", "plain", "player", "repeat", "desk", "heed_stops", "raise_ceiling", "bundle", "loose", "adopt"}
    files = {path.stem for folder in ("nllab", "app") for path in (ROOT / folder).rglob("*.py")}
    assert not files & old
    for name, module in {
        "events": events, "runs": runs, "experiment": experiment, "live": live, "methods": methods, "streams": streams,
        "html_export": html_export, "reproduce": reproduce, "optim": optim, "models": models,
    }.items():  # fmt: skip
        public = {word for word in vars(module) if not word.startswith("_")}
        for kind in [found for found in vars(module).values() if isinstance(found, type)]:
            if kind.__module__ == module.__name__:
                public |= {word for word in vars(kind) if not word.startswith("_")} | set(kind.__annotations__)
        assert not {word.lower() for word in public} & old, name
