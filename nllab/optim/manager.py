"""The manager: watches how learning goes and balances stability and plasticity while it goes, each decision with its
reason.

It is told what an optimizer can see by itself: which share of a batch the model got wrong, how new the inputs are to
    the
memory, and whether errors repeat each other. One table of situations is all it knows:

    the first task                        nothing is there to be forgotten: hidden levels are let loose
    few errors, familiar inputs           nothing to do
    more errors than usual,               a new task: surprising samples count more; nothing is forgotten. Hidden levels
        stay right answers never heard of      careful, since old answers read what they would change
    more errors, new inputs,              a new world: as a new task, but hidden levels are let loose, since what these
        inputs right answers heard before        use is free; they stay so until new answers come
    more errors, familiar inputs,         the world has changed its answer: the output layer forgets what it was told;
        errors that repeat each other     hidden levels keep theirs, since the inputs are the same
    more errors, familiar inputs,         noise: learn slowly until it is over
        errors that contradict
    inputs grow newer all the time        drift: every memory forgets slowly

It decides rates, retention and attention. It leaves periods alone: no trial found a stream where changing them in
mid-run helped (LOG.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

NOW, RECENT, USUAL, UNSETTLED = (
    3,
    15,
    50,
    500,
)  # steps that a mean looks back; the last for what is usual while something else goes on
WARM = 20  # steps before the first decision
UNUSUAL = 0.15  # share of errors above the usual one that calls for a decision
# and that a change of answers brings: errors between classes that are alike repeat each other, too, but are few
MOST = 0.3
OVER = 0.05  # and that ends it
NEW = 1.4  # novelty, in terms of the usual one, that tells new inputs from familiar ones
# share of errors with right answers just heard for the first time up to which all answers are taken to be known
HEARD = 0.2
REPEATS = 0.4  # share of errors that repeat the last one made with the same answer
ENOUGH = 30  # errors to look at before their agreement is trusted
GROWN = 1.05  # usual novelty above which inputs may be drifting; 1 is what memory holds on average
PATIENCE = 30  # steps that novelty has to stay above that and rise before it is called a drift
# steps that new inputs may take until their errors are usual, before old memories are taken to stand in their way
CROWDED = 10

ATTENTION = 1.0  # further weight of wrong samples
FORGET = 0.9  # what the output layer's memory keeps at each write while the world changes its answers
FOLLOW = 0.99  # what every memory keeps at each write under drift, or when it is crowded
DOUBT = 0.1  # factor on all rates under noise
HORIZON = 2000.0  # samples: while let loose, a hidden level learns as if it had seen no more than these

STEADY, UNSURE, TASK, WORLD, CHANGED, NOISE, DRIFT, FULL = (
    "steady",
    "unsure",
    "new answers",
    "new inputs",
    "changed answers",
    "noise",
    "drift",
    "crowded memory",
)


class Decision(NamedTuple):
    """What was seen (numbers), what was done (settings in force from the next step on) and why, in one sentence."""

    saw: dict[str, float]
    did: dict[str, float]
    text: str


@dataclass
class Manager:
    """Means of what was seen, the situation they stand for, and the settings that follow from it.

    Source: the paper's talk ("a manager that observes the learning process"); nothing of it is an equation.
    Differs from paper: a readable table in place of a learned controller.
    """

    hidden: bool = True  # whether there are hidden levels that learn; forgetting makes room for nothing else
    situation: str = STEADY
    steps: int = 0
    wrong_now: float = 0.0
    wrong_usual: float = 0.0
    novelties: int = 0
    novelty_now: float = 0.0
    novelty_recent: float = 0.0
    novelty_usual: float = 0.0
    fresh: float = 0.0  # share of errors whose right answer was heard for the first time a few steps ago
    first_heard: dict[int, int] = field(default_factory=dict)  # right answer -> step
    agreement: float = 0.0
    since: int = 0  # step at which the situation began
    loose: bool = (
        True  # whether this is the first task, or came with new inputs: then hidden levels may learn at full speed
    )
    errors: int = 0  # seen since the situation began
    rising: int = 0  # steps that novelty has been rising above GROWN, less twice those that it has not
    last_error: dict[int, int] = field(default_factory=dict)  # answer -> what was right the last time that it was wrong

    @property
    def attention(self) -> float:
        """Further weight of samples that the model got wrong."""
        return ATTENTION if self.situation in (TASK, WORLD, FULL, CHANGED) else 0.0

    @property
    def rate(self) -> float:
        """A factor on the rates of all levels."""
        return DOUBT if self.situation == NOISE else 1.0

    def hidden_rate(self, rate: float, seen: float) -> float:
        """The rate of a hidden level whose own rate is this, and whose memory holds as many samples as `seen`."""
        return max(rate, seen / HORIZON) if self.loose and rate else rate

    def retention(self, reader: bool) -> float:
        """A factor on the retention of the output layer (reader) or of any other."""
        if self.situation in (DRIFT, FULL):
            return FOLLOW
        return FORGET if self.situation == CHANGED and reader else 1.0

    def observe(self, wrong: float, novelty: float | None, errors: Sequence[tuple[int, int]]) -> None:
        """Take in one step.

        wrong: share of the batch that the model got wrong. novelty: of the output layer's inputs, 1 for what its memory
            holds on
        average; None if it was not measured. errors: (answer, right answer) of every wrong sample.
        """
        usual = USUAL if self.situation in (STEADY, DRIFT) else UNSETTLED
        self.steps += 1
        self.wrong_now += (wrong - self.wrong_now) / min(self.steps, NOW)
        self.wrong_usual += (wrong - self.wrong_usual) / min(self.steps, usual)
        if novelty is not None:
            self.novelties += 1
            self.novelty_now += (novelty - self.novelty_now) / min(self.novelties, NOW)
            self.novelty_recent += (novelty - self.novelty_recent) / min(self.novelties, RECENT)
            self.novelty_usual += (novelty - self.novelty_usual) / min(self.novelties, USUAL)
            rising = self.novelty_recent > self.novelty_usual > GROWN and self.situation in (STEADY, DRIFT)
            self.rising = self.rising + 1 if rising else max(0, self.rising - 2)
        for answer, right in errors:
            self.first_heard.setdefault(right, self.steps)
            self.errors += 1
            self.agreement += ((self.last_error.get(answer) == right) - self.agreement) / ENOUGH
            self.last_error[answer] = right
        if errors:
            fresh = sum(self.first_heard[right] > self.steps - RECENT for _, right in errors) / len(errors)
            self.fresh += (fresh - self.fresh) / NOW

    def decide(self) -> Decision | None:
        """Move to the situation that fits what was seen; None if that is the one that was."""
        before, text = self.situation, self._judge()
        if self.situation == before:
            return None
        self.since = self.steps
        saw = {
            "surprise": self.wrong_now,
            "usual": self.wrong_usual,
            "novelty": self.novelty_now,
            "agreement": self.agreement,
        }
        saw["new answers"] = self.fresh
        did = {
            "attention": self.attention,
            "rate": self.rate,
            "retention of the output layer": self.retention(True),
            "retention of the others": self.retention(False),
            "hidden levels let loose": float(self.loose),
        }
        return Decision({name: round(value, 4) for name, value in saw.items()}, did, text)

    def _arrived(self) -> str | None:
        """Which kind of task has begun, if any."""
        if self.fresh > HEARD:
            return TASK if self.fresh > 0.5 else None
        return WORLD if self.novelty_now > NEW * self.novelty_usual else None

    def _enter(self, task: str) -> str:
        """Begin with a new task, and say why and how."""
        self.situation, self.loose = task, task == WORLD
        attended = f"Wrong samples count {1 + ATTENTION:.0f} times; nothing is forgotten."
        if task == TASK:
            heard = f"{self.fresh:.0%} of the right answers have just been heard for the first time: a new task"
            return f"{heard} among old ones, so hidden levels stay careful. {attended}"
        newer = f"the inputs are {self.novelty_now / max(self.novelty_usual, 1e-9):.1f} times as new as usual"
        return (
            f"Answers are known, {newer}: a new task in new directions, so hidden levels are let loose there."
            f" {attended}"
        )

    def _judge(self) -> str:
        """Move to the situation that fits, and say why."""
        if self.steps < WARM:
            return ""
        unusual = self.wrong_now > self.wrong_usual + UNUSUAL
        percent = f"{self.wrong_now:.0%} of the answers are wrong, {self.wrong_usual:.0%} are usual"
        arrived = self._arrived()
        if self.situation in (STEADY, DRIFT) and unusual:
            self.errors, self.agreement, self.last_error, self.rising = 0, 0.0, {}, 0
            if arrived:
                return f"{percent}. {self._enter(arrived)}"
            self.situation = UNSURE
            return f"{percent}, and the inputs are familiar: other answers, or noise? It waits for {ENOUGH} errors."
        if self.situation not in (STEADY, DRIFT) and self.wrong_now < self.wrong_usual + OVER:
            was, self.situation, self.rising = self.situation, STEADY, 0
            self.novelty_usual = max(
                self.novelty_usual, self.novelty_recent
            )  # so that what fades after a jump does not look like a rise
            return f"{percent}: the end of what was taken for {was}. All settings as before."
        if self.situation in (UNSURE, NOISE) and arrived:
            return self._enter(arrived)
        many = self.wrong_now > self.wrong_usual + MOST
        if self.situation in (UNSURE, NOISE) and self.errors >= ENOUGH and many and self.agreement > REPEATS:
            self.situation = CHANGED
            kept = f"The output layer keeps {FORGET} of its memory at each write, hidden levels keep all."
            return (
                f"{self.agreement:.0%} of the errors repeat each other on familiar inputs: the world has changed its"
                f" answer. {kept}"
            )
        if self.situation == UNSURE and self.errors >= ENOUGH and self.agreement <= REPEATS:
            self.situation = NOISE
            return (
                f"The errors contradict each other ({self.agreement:.0%} repeat) on familiar inputs: noise. Rates fall"
                f" to {DOUBT:.0%}."
            )
        if self.situation == WORLD and self.hidden and self.steps - self.since >= CROWDED:
            self.situation = FULL
            stuck = f"{percent}, {CROWDED} steps after the task changed: old memories stand in its way."
            return f"{stuck} Every memory keeps {FOLLOW} at each write."
        if self.situation == STEADY and self.rising >= PATIENCE:
            self.situation = DRIFT
            grown = f"Inputs are {self.novelty_usual:.1f} times as new as what is remembered, and getting newer: drift."
            return f"{grown} Every memory keeps {FOLLOW} at each write."
        return ""

    def state(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_state(cls, state: dict[str, Any]) -> Manager:
        return cls(**{**state, "last_error": dict(state["last_error"]), "first_heard": dict(state["first_heard"])})
