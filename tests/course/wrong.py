"""Wrong answers by exercise: plausible ones, each named for its mistake."""

from collections import defaultdict

WRONG = defaultdict(list)


def wrong(exercise):
    """Keep a wrong answer to an exercise; the name of the function says what is wrong with it."""

    def kept(answer):
        WRONG[exercise].append((answer.__name__, answer))
        return answer

    return kept
