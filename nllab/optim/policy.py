"""The policy: watches how learning goes and balances stability and plasticity, each decision with its reason.

It sees what an optimizer can see by itself: which share of a batch the model got wrong, how new the inputs are to the
head's context, and whether errors repeat each other. One table of situations is all it knows:

    few errors, familiar inputs           nothing to do
        all as ever, for long                 nothing old is in danger, since it comes again: contexts hold as many
                                              inputs as tell where inputs lie, and all count once anything changes
    more errors than usual,               new classes: nothing to do, they are learned beside the old ones
        right answers never seen before
    more errors, new inputs,              new inputs: nothing to do, new directions are free (rates.py)
        right answers seen before
    more errors, familiar inputs,         labels have shifted: the head forgets what it learned, hidden layers keep
        errors that repeat each other         theirs, since the inputs are the same
    more errors, familiar inputs,         noise: learn slowly until it is over
        errors that contradict
    inputs grow newer all the time,       drift: every context fades slowly
        which no new classes explain

That a task is new it must see all the same: its errors are neither noise nor a shift. Heavier errors and room made for
new inputs, which it once asked for, cost more than they brought (LOG.md).

It sets rates, retention and the weight of errors. It leaves periods alone: no trial found a stream where changing them
in mid-run helped (LOG.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from operator import sub
from typing import Any, NamedTuple

NOW, RECENT, USUAL = 3, 15, 50  # steps that a mean looks back
UNSETTLED = 500  # the same, for what is usual while something else goes on
WARM = 20  # steps before the first decision
UNUSUAL = 0.15  # share of errors above the usual one that calls for a decision
MOST = 0.3  # the same that a shift of labels brings: alike classes are confused repeatedly, too, but seldom
OVER = 0.05  # and that ends it
NEW = 1.4  # novelty, in terms of the usual one, that tells new inputs from familiar ones
KNOWN = 0.2  # if at most this fraction of errors fall on classes first seen just now, assume no new classes
REPEATS = 0.4  # share of errors that repeat the last one made with the same answer
ENOUGH = 30  # errors to look at before their agreement is trusted
GROWN = 1.05  # usual novelty above which inputs may be drifting; 1 is what the context holds on average
LONG = 150  # steps without any change after which the world is taken to be one
ODD = 6  # standard deviations from its mean at which the distance of recent answers from all before is a change
LEAST = 0.02  # and that distance more than usual at least
BINS = 64  # answers are counted in so many bins
PATIENCE = 30  # steps that novelty has to stay above that and rise before it is called a drift

ERROR_WEIGHT = 1.0  # further weight of wrong samples
FORGET = 0.9  # what the head's context keeps at each write while labels shift
FOLLOW = 0.99  # what every context keeps at each write under drift
DOUBT = 0.1  # factor on all rates under noise
SPAN = 64.0  # inputs for each direction of a layer that are remembered while all is unchanged

STEADY, UNCHANGED, UNSURE, NEW_CLASSES, NEW_INPUTS, LABEL_SHIFT, NOISE, DRIFT = (
    "steady",
    "unchanged",
    "unsure",
    "new classes",
    "new inputs",
    "label shift",
    "noise",
    "drift",
)


class Decision(NamedTuple):
    """What was seen (numbers), what was done (settings in force from the next step on) and why, in one sentence."""

    saw: dict[str, float]
    did: dict[str, float]
    text: str


class Settings(NamedTuple):
    """What is in force.

    error_weight: further weight of wrong samples. · rate: factor on the rates of all levels.
    head_retention, hidden_retention: factors on the retention of the head and of all other layers.
    span: inputs for each direction of a layer that its context remembers for now; None for all.
    """

    error_weight: float = 0.0
    rate: float = 1.0
    head_retention: float = 1.0
    hidden_retention: float = 1.0
    span: float | None = None


CALM = (STEADY, UNCHANGED, DRIFT)
FIXED = Settings()  # without a policy

# What each situation calls for.
SETTINGS = {
    STEADY: FIXED,
    UNCHANGED: Settings(span=SPAN),
    UNSURE: FIXED,
    NEW_CLASSES: FIXED,
    NEW_INPUTS: FIXED,
    LABEL_SHIFT: Settings(error_weight=ERROR_WEIGHT, head_retention=FORGET),
    NOISE: Settings(rate=DOUBT),
    DRIFT: Settings(head_retention=FOLLOW, hidden_retention=FOLLOW),
}


@dataclass
class Policy:
    """Means of what was seen, and the situation they stand for; `settings` follow from it.

    Source: the paper's talk ("a manager that observes the learning process"); nothing of it is an equation.
    Differs from paper: a readable table in place of a learned controller.
    """

    situation: str = STEADY
    steps: int = 0
    wrong_now: float = 0.0
    wrong_usual: float = 0.0
    novelties: int = 0
    novelty_now: float = 0.0
    novelty_recent: float = 0.0
    novelty_usual: float = 0.0
    fresh: float = 0.0  # share of errors on classes seen for the first time a few steps ago
    first_seen: dict[int, int] = field(default_factory=dict)  # right answer -> step
    agreement: float = 0.0
    since: int = 0  # step at which the situation began
    errors: int = 0  # seen since the situation began
    rising: int = 0  # steps that novelty has been rising above GROWN, less twice those that it has not
    last_error: dict[int, int] = field(default_factory=dict)  # answer -> what was right the last time that it was wrong
    answers: list[float] = field(default_factory=list)  # right answers, life mean of their shares
    answers_recent: list[float] = field(default_factory=list)  # the same of the last steps
    counted: int = 0  # steps that they are the mean of
    apart: float = 0.0  # how far the two are apart (total variation), mean
    apart_square: float = 0.0  # and mean square
    changed: bool = False  # whether anything ever has

    @property
    def settings(self) -> Settings:
        """What the situation calls for."""
        return SETTINGS[self.situation]

    def look(self, wrong: float, answers: Sequence[float]) -> None:
        """See, before a batch is taken in, whether anything has changed: `changed` says so, and never forgets.

        wrong: share of the batch that the model got wrong. answers: how often each was the right one, in BINS bins.
        """
        now = self.wrong_now + (wrong - self.wrong_now) / NOW
        self.changed |= self.steps > WARM and now > self.wrong_usual + UNUSUAL
        if total := sum(answers):
            self._count([count / total for count in answers])

    def observe(self, wrong: float, novelty: float | None, errors: Sequence[tuple[int, int]]) -> None:
        """Take in one step.

        wrong: share of the batch that the model got wrong. novelty: of the head's inputs, 1 for what its context
        holds on average; None if it was not measured. errors: (answer, right answer) of every wrong sample.
        """
        usual = USUAL if self.situation in CALM else UNSETTLED
        self.steps += 1
        self.wrong_now += (wrong - self.wrong_now) / min(self.steps, NOW)
        self.wrong_usual += (wrong - self.wrong_usual) / min(self.steps, usual)
        if novelty is not None:
            self.novelties += 1
            self.novelty_now += (novelty - self.novelty_now) / min(self.novelties, NOW)
            self.novelty_recent += (novelty - self.novelty_recent) / min(self.novelties, RECENT)
            self.novelty_usual += (novelty - self.novelty_usual) / min(self.novelties, USUAL)
            rising = self.novelty_recent > self.novelty_usual > GROWN and self.situation in CALM
            self.rising = self.rising + 1 if rising else max(0, self.rising - 2)
        for answer, right in errors:
            self.first_seen.setdefault(right, self.steps)
            self.errors += 1
            self.agreement += ((self.last_error.get(answer) == right) - self.agreement) / ENOUGH
            self.last_error[answer] = right
        if errors:
            fresh = sum(self.first_seen[right] > self.steps - RECENT for _, right in errors) / len(errors)
            self.fresh += (fresh - self.fresh) / NOW
        self.changed |= self.situation not in (STEADY, UNCHANGED)

    def _count(self, shares: list[float]) -> None:
        """Compare the right answers of the last steps with all before, by what such a distance usually is."""
        self.counted += 1
        steps = self.counted
        self.answers = mixed(self.answers or shares, shares, steps)
        self.answers_recent = mixed(self.answers_recent or shares, shares, min(steps, RECENT))
        apart = sum(map(abs, map(sub, self.answers, self.answers_recent))) / 2
        if steps > LONG / 2:
            spread = max(self.apart_square - self.apart**2, 0.0) ** 0.5
            self.changed |= apart > self.apart + ODD * spread + LEAST
        if steps > USUAL:
            self.apart += (apart - self.apart) / (steps - USUAL)
            self.apart_square += (apart**2 - self.apart_square) / (steps - USUAL)

    def decide(self) -> Decision | None:
        """Move to the situation that fits what was seen; None if that is the one that was."""
        situation, text = judge(self)
        if situation == self.situation:
            return None
        self._enter(situation)
        saw = {
            "surprise": self.wrong_now,
            "usual": self.wrong_usual,
            "novelty": self.novelty_now,
            "agreement": self.agreement,
        }
        saw["new classes"] = self.fresh
        settings = self.settings
        did: dict[str, float] = {
            "error weight": settings.error_weight,
            "rate": settings.rate,
            "retention of the head": settings.head_retention,
            "retention of the others": settings.hidden_retention,
        }
        if settings.span is not None:
            did["inputs remembered for each direction"] = settings.span
        return Decision({name: round(value, 4) for name, value in saw.items()}, did, text)

    def _enter(self, situation: str) -> None:
        if self.situation in CALM and situation not in CALM:
            self.errors, self.agreement, self.last_error, self.rising = 0, 0.0, {}, 0
        if situation == STEADY:
            self.rising = 0
            # What fades after a jump must not look like a rise.
            self.novelty_usual = max(self.novelty_usual, self.novelty_recent)
        self.situation, self.since = situation, self.steps

    def state(self) -> dict[str, Any]:
        """As plain values, for `state_dict`."""
        return asdict(self)

    @classmethod
    def of_state(cls, state: dict[str, Any]) -> Policy:
        """The inverse of `state`."""
        kept = {"changed": True, **state}  # states of before this was noted may have seen anything
        return cls(**{**kept, "last_error": dict(state["last_error"]), "first_seen": dict(state["first_seen"])})


def mixed(mean: list[float], new: list[float], count: int) -> list[float]:
    """The mean of `count` lists, of which the last is new."""
    return [old + (one - old) / count for old, one in zip(mean, new, strict=True)]


def judge(seen: Policy) -> tuple[str, str]:
    """The situation that fits what was seen, and why it is not what it was."""
    if seen.steps < WARM:
        return seen.situation, ""
    percent = f"{seen.wrong_now:.0%} of the answers are wrong, {seen.wrong_usual:.0%} are usual"
    arrived = _arrived(seen)
    if seen.situation in CALM:
        if seen.wrong_now > seen.wrong_usual + UNUSUAL:
            if arrived:
                return arrived, f"{percent}. {_reason(seen, arrived)}"
            wait = f"and the inputs are familiar: other answers, or noise? It waits for {ENOUGH} errors."
            return UNSURE, f"{percent}, {wait}"
        # New classes bring new inputs, which are new until there are as many of them as of the old ones.
        newest = max(seen.first_seen.values(), default=0)
        if seen.situation != DRIFT and seen.rising >= PATIENCE and seen.steps >= 2 * newest:
            newer = f"Inputs are {seen.novelty_usual:.1f} times as new as what is remembered, and getting newer: drift."
            return DRIFT, f"{newer} Every context keeps {FOLLOW} at each write."
        if seen.situation == STEADY and not seen.changed and seen.counted >= LONG:
            return UNCHANGED, (
                f"Errors, inputs and answers have been as ever for {seen.counted} steps. Contexts remember the last"
                f" {SPAN:g} inputs for each direction, and all once anything changes."
            )
        if seen.situation == UNCHANGED and seen.changed:
            return STEADY, "Other answers are right than all the time before: what was learned so far counts in full."
        return seen.situation, ""
    if seen.wrong_now < seen.wrong_usual + OVER:
        return STEADY, f"{percent}: the end of what was taken for {seen.situation}. All settings as before."
    if seen.situation in (UNSURE, NOISE) and arrived:
        return arrived, _reason(seen, arrived)
    many, enough = seen.wrong_now > seen.wrong_usual + MOST, seen.errors >= ENOUGH
    if seen.situation in (UNSURE, NOISE) and enough and many and seen.agreement > REPEATS:
        return LABEL_SHIFT, (
            f"{seen.agreement:.0%} of the errors repeat each other on familiar inputs: the labels have shifted. The"
            f" head keeps {FORGET} of its context at each write, hidden layers keep all."
        )
    if seen.situation == UNSURE and enough and seen.agreement <= REPEATS:
        return NOISE, (
            f"The errors contradict each other ({seen.agreement:.0%} repeat) on familiar inputs: noise. Rates fall to"
            f" {DOUBT:.0%}."
        )
    return seen.situation, ""


def _arrived(seen: Policy) -> str | None:
    """Which kind of task has begun, if any."""
    if seen.fresh > KNOWN:
        return NEW_CLASSES if seen.fresh > 0.5 else None
    return NEW_INPUTS if seen.novelty_now > NEW * seen.novelty_usual else None


def _reason(seen: Policy, task: str) -> str:
    """Why a task is taken to be new, and what follows."""
    if task == NEW_CLASSES:
        fresh = f"{seen.fresh:.0%} of the right answers have just been seen for the first time: a new task"
        return f"{fresh} among old ones. It is learned beside them; nothing is forgotten."
    newer = f"the inputs are {seen.novelty_now / max(seen.novelty_usual, 1e-9):.1f} times as new as usual"
    return f"Answers are known, {newer}: a new task in new directions, which are free. Nothing is forgotten."
