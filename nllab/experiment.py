"""One frozen, validated value that says everything about a run: what is learned, by what, how. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from textwrap import shorten
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, urlencode

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nllab.errors import SettingError, check_choice, unknown
from nllab.methods import METHODS
from nllab.models import REGISTRY as MODELS
from nllab.optim import LEARNING_RATES
from nllab.streams import REGISTRY as STREAMS
from nllab.streams import is_known

BASE_OPTIMIZERS = tuple(LEARNING_RATES)
OPTIMIZERS = (*BASE_OPTIMIZERS, "deep")

SEQUENCES = {"model": "hope-lm", "loss": "cross_entropy", "optimizer": "adamw", "periods": (1, 4), "observe": False}
# What differs from the defaults below, by preset. A preset is named after its stream.
# Measurements are spaced so that they cost under a tenth of the training time. At the default width learned levels are
# far above their frozen twin; 28 x 28 images, text and fifty tasks need more. Widths were chosen on validation data
# (LOG.md).
WIDE = {"dim": 256, "hidden": 256}
PRESETS: dict[str, dict[str, Any]] = {name: {} for name in STREAMS} | {
    "permuted-digits-5": {"evaluate_every": 25},
    "permuted-digits-50": {"evaluate_every": 270, **WIDE},
    "rotated-digits": {"evaluate_every": 25},
    "contexts-digits": {
        "batch_size": 8,
        "context_length": 20,
        "pairs": 5,
        "evaluate_every": 40,
        "dim": 128,
        "periods": (1,),
        "context_level": True,
        "retention_by_level": {"context": 0.4},
        "manager": False,
        "realign_every": 0,
    },
    "fashion-ab": {"batch_size": 64, "evaluate_every": 100, "filters": 128, **WIDE, "dim": 768},
    "fashion-5x2": {"batch_size": 64, "evaluate_every": 100, "filters": 128, **WIDE, "dim": 768},
    "permuted-fashion": {"batch_size": 64, "evaluate_every": 500, **WIDE, "hidden": 512},
    "names-ab": {"batch_size": 64, "evaluate_every": 50, "loss": "cross_entropy", "rate": 2.0, **WIDE},
    "letters-ab": {**SEQUENCES, "batch_size": 32, "evaluate_every": 10},
    "facts-ab": {**SEQUENCES, "batch_size": 16, "epochs": 4, "evaluate_every": 8},
    "names-5": {"batch_size": 64, "evaluate_every": 250, "loss": "cross_entropy", "rate": 2.0, **WIDE},
}

# Settings that files and addresses of before call otherwise.
FORMER_NAMES = {
    "attention": "error_weight",
    "carry_every": "realign_every",
    "passes": "epochs",
    "off_optimizer": "base_optimizer",
}

Period = Annotated[int, Field(ge=1, le=100_000)]
Amount = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
Rate = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]


class Experiment(BaseModel):
    """Everything that decides what a run does. Two equal experiments give equal runs, bit for bit, on one CPU thread.

    Raises SettingError that names the key, the value and what was expected.

    ```pycon
    >>> Experiment.preset("digits-ab", optimizer="adam").but(seed=3).to_query()
    'seed=3&optimizer=adam'

    ```
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    stream: str = Field("digits-ab", description="what is learned, task after task")
    seed: int = Field(
        0,
        ge=0,
        le=2**31 - 1,
        description="draws the initial weights, the order of samples and what is random in the stream",
    )
    split: int = Field(0, ge=0, le=2**31 - 1, description="draws the cut between training and test samples")
    evaluate_on: Literal["test", "validation"] = Field(
        "test", description="validation holds out a tenth of the training part and scores on it"
    )
    order: tuple[str, ...] = Field(
        (),
        max_length=1000,
        description="tasks as they are taught in turn, such as B,A,B; empty, as the stream has them",
    )
    epochs: int = Field(1, ge=1, le=1000, description="times that each task is shown")
    batch_size: int = Field(10, ge=1, le=10_000, description="samples per step")
    context_length: int = Field(40, ge=1, le=100_000, description="batches of a context, in a stream of contexts")
    pairs: int = Field(3, ge=0, le=5, description="pairs of classes that swap names in every other context")
    loss: Literal["squared_error", "cross_entropy"] = Field(
        "squared_error", description="the same on both sides of the toggle"
    )
    outputs: Literal["all", "seen", "batch"] = Field(
        "all",
        description=(
            "outputs that the loss counts: all, those of the classes seen so far, or those of the batch's classes"
        ),
    )
    method: str = Field("naive", description="continual-learning method around a plain optimizer")
    method_settings: dict[str, Amount] = Field({}, description="settings of the method, such as strength:100")
    model: str = Field(
        "cms",
        description="cms: memory levels; hope: reads images row by row; mlp: two layers; hope-lm: reads sequences",
    )
    front: Literal["dense", "conv"] = Field(
        "dense", description="input level of a cms: all pixels at once, or filters on patches of images"
    )
    filters: int = Field(64, ge=1, le=1024, description="of the input level conv; each answers with 18 features")
    variant: Literal["sequential", "nested", "independent"] = Field(
        "sequential", description="how a cms joins its memory levels"
    )
    dim: int = Field(32, ge=1, le=4096, description="width")
    hidden: int = Field(32, ge=1, le=8192, description="width inside a memory level")
    periods: tuple[Period, ...] = Field(
        (1, 4, 16), min_length=1, max_length=8, description="steps between writes of each memory level, fast to slow"
    )
    input_period: Period = Field(1, description="steps between writes of the input level")
    head_period: Period = Field(1, description="steps between writes of the output layer")
    context_level: bool = Field(
        False, description="a fast level behind the head of a cms, which reads the scores and says what they are called"
    )
    optimizer: str = Field("deep", description="who writes at the start")
    base_optimizer: str = Field("adam", description="who writes while the deep optimizer is switched off")
    learning_rate: Rate | None = Field(None, description="of the plain optimizer; empty takes its usual one")
    rate: Rate = Field(1.0, description="of the deep optimizer, a factor on the rates of its levels")
    ridge: float = Field(
        0.1, gt=0, le=1e6, allow_inf_nan=False, description="resistance of what the deep optimizer has never seen"
    )
    realign_every: int = Field(
        16,
        ge=0,
        le=100_000,
        description="most steps between realignments of the head to its drifted features; 0 disables",
    )
    retention: float = Field(
        1.0, ge=0, le=1, allow_inf_nan=False, description="what the deep optimizer's memory keeps at each write"
    )
    retention_by_level: dict[str, Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]] = Field(
        {}, description="what the memory of a level keeps at each write where it differs, such as context:0.7"
    )
    error_weight: float = Field(
        0.0, ge=0, le=1000, allow_inf_nan=False, description="further weight of samples that the model got wrong"
    )
    manager: bool = Field(True, description="whether a manager balances stability and plasticity as it sees fit")
    observe: bool = Field(True, description="whether the deep optimizer's memory watches while it is switched off")
    joint: bool = Field(False, description="the ceiling: all tasks at once, mixed")
    frozen: bool = Field(False, description="the twin: every level but the head stays at its initial values")
    evaluate_every: int = Field(
        10, ge=1, le=100_000, description="steps between two measurements of the accuracy on every task"
    )

    def __init__(self, **settings: Any) -> None:
        for former, name in FORMER_NAMES.items():
            if former in settings:
                if name in settings:
                    raise SettingError(f"{name} is given twice, once under its former name {former}; leave one out.")
                settings[name] = settings.pop(former)
        strange = [key for key in settings if key not in type(self).model_fields]
        if strange:
            raise unknown("setting", strange[0], type(self).model_fields)
        try:
            super().__init__(**settings)
        except ValidationError as error:
            raise SettingError(_readable(error)) from None
        self._check_names()

    def _check_names(self) -> None:
        if not is_known(self.stream):
            raise unknown("stream", self.stream, STREAMS)
        check_choice("optimizer", self.optimizer, OPTIMIZERS)
        check_choice("model", self.model, MODELS)
        check_choice("method", self.method, METHODS)
        check_choice("base_optimizer", self.base_optimizer, BASE_OPTIMIZERS)
        if list(self.periods) != sorted(self.periods):
            raise SettingError(
                f"periods is {spelled(self.periods)}; memory levels go from fast to slow, so their periods must not"
                " fall."
            )

    @property
    def base(self) -> str:
        """The base optimizer: who writes whenever the deep one does not."""
        return self.base_optimizer if self.optimizer == "deep" else self.optimizer

    @property
    def base_learning_rate(self) -> float:
        """Of the base optimizer: as set, or its usual one."""
        return LEARNING_RATES[self.base] if self.learning_rate is None else self.learning_rate

    def but(self, **changes: Any) -> Experiment:
        """The same experiment with some settings changed, validated."""
        return Experiment(**{**self.model_dump(), **renamed(changes)})

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Experiment:
        """The settings known by this name, changed where asked; "own:PATH_A,PATH_B" is one too. Raises SettingError for
        other names."""
        if name not in PRESETS and not is_known(name):
            raise unknown("preset", name, PRESETS)
        return cls(**{"stream": name, **PRESETS.get(name, WIDE), **renamed(changes)})

    def to_json(self) -> str:
        """As `from_json` reads it."""
        return json.dumps(self.model_dump(mode="json"), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Experiment:
        """Raises SettingError for a text that is no experiment."""
        try:
            settings = json.loads(text)
        except (ValueError, RecursionError) as error:  # also for integers of thousands of digits
            raise SettingError(f"This is not an experiment in JSON: {str(error)[:150]}.") from None
        if not isinstance(settings, dict):
            raise SettingError(f"An experiment in JSON is an object of settings, not {type(settings).__name__}.")
        return cls(**settings)

    def to_query(self) -> str:
        """What differs from the defaults, as the part of an address behind its question mark."""
        return urlencode(
            {
                key: spelled(value)
                for key, value in self.model_dump().items()
                if value != Experiment.model_fields[key].default
            }
        )

    @classmethod
    def from_query(cls, query: str | Mapping[str, str]) -> Experiment:
        """The experiment of an address or of its parsed query. Raises SettingError for what cannot be used."""
        pairs = dict(parse_qsl(query.lstrip("?"))) if isinstance(query, str) else dict(query)
        return cls(**{key: read_setting(key, value) for key, value in pairs.items()})


def renamed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings by the names that they have today."""
    return {FORMER_NAMES.get(key, key): value for key, value in settings.items()}


def spelled(value: Any) -> str:
    """The value as `read_setting` reads it."""
    if isinstance(value, dict):
        return ",".join(f"{key}:{item}" for key, item in value.items())
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def read_setting(key: str, text: str) -> Any:
    """The value that a person means by `key=text`: lists by commas, pairs by colons, nothing for None. The experiment
    itself checks it.

    ```pycon
    >>> read_setting("periods", "1,4,16"), read_setting("method_settings", "strength:100")
    (('1', '4', '16'), {'strength': '100'})

    ```
    """
    if FORMER_NAMES.get(key, key) not in Experiment.model_fields:
        raise unknown("setting", key, Experiment.model_fields)
    if key == "periods":
        return tuple(part.strip() for part in text.split(","))
    if key == "order":
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if key in ("method_settings", "retention_by_level"):
        pairs = [part.partition(":") for part in text.split(",") if part.strip()]
        return {name.strip(): amount.strip() for name, _, amount in pairs}
    return None if key == "learning_rate" and text.lower() in ("", "none") else text


def _readable(error: ValidationError) -> str:
    """Each problem as one sentence: the key, what came, what is expected, what the setting is for."""
    sentences: list[str] = []
    for problem in error.errors():
        name, came = str(problem["loc"][0]), problem["input"]
        wanted = f"{problem['msg'][0].lower()}{problem['msg'][1:]} ({Experiment.model_fields[name].description})"
        if name == "periods":
            if any(sentence.startswith("periods ") for sentence in sentences):
                continue  # a part that is wrong makes the whole wrong once more
            came = spelled(came) if isinstance(came, tuple | list) else came
            wanted = (
                "expected 1 to 8 whole numbers of steps, from 1 to 100,000, the fastest first, with commas between,"
                " such as 1, 4, 16"
            )
        sentences.append(f"{name} is {shorten(repr(came), 80, placeholder=' …')}: {wanted}.")
    return " ".join(sentences)
