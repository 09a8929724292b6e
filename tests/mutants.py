"""Mutation testing: are the tests of the core able to fail?

    pip install -e ".[mutants]"
    python tests/mutants.py --sample 150 --seed 0        a random sample; without --sample every mutant (hours)
    mutmut show NAME                                     what was changed in a mutant that survived

mutmut (settings in pyproject.toml) writes changed copies of the code into mutants/ and runs, for each, the tests that
reach it. The score is the share of mutants that a test caught; those that no test reaches count as survivors.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

FIRST = "nllab.metrics.*"  # few mutants: enough to have all of them written, and to learn which tests reach what
MEANING = {0: "survived", 5: "no test", 33: "no test", 34: "skipped", 1: "caught", 3: "caught"}
TIMES_OUT = (24, -24, 36, 152, 255)


def names() -> list[str]:
    """All mutants that have been written."""
    return sorted(name for meta in Path("mutants").rglob("*.meta") for name in _codes(meta))


def _codes(meta: Path) -> dict[str, int | None]:
    return json.loads(meta.read_text(encoding="utf-8"))["exit_code_by_key"]


def found(chosen: Sequence[str]) -> dict[str, str]:
    """Mutant -> caught, timed out (caught as well), survived, or no test."""
    codes = {name: code for meta in Path("mutants").rglob("*.meta") for name, code in _codes(meta).items()}
    told = {name: "timed out" if codes[name] in TIMES_OUT else MEANING.get(codes[name], "caught") for name in chosen
            if codes[name] is not None}  # fmt: skip
    return told


def score(results: dict[str, str]) -> float:
    """Share of the mutants that were caught, 0 to 1."""
    return sum(result in ("caught", "timed out") for result in results.values()) / max(len(results), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description="Mutation testing of the core.")
    parser.add_argument("--sample", type=int, default=None, help="how many mutants, drawn at random; all without it")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--only", default="", help="part of the names of the mutants to draw from, such as optim.rates")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    asked = parser.parse_args()
    mutmut = [sys.executable, "-m", "mutmut", "run", "--max-children", str(asked.jobs)]
    if not names():
        print("Writing mutants, and finding out which tests reach which …", flush=True)
        subprocess.run([*mutmut, FIRST], check=True, stdout=subprocess.DEVNULL)
    pool = [name for name in names() if asked.only in name]
    chosen = pool if asked.sample is None else random.Random(asked.seed).sample(pool, min(asked.sample, len(pool)))
    subprocess.run([*mutmut, *chosen], check=True, stdout=subprocess.DEVNULL)
    results = found(chosen)
    for name, result in sorted(results.items()):
        if result in ("survived", "no test"):
            print(f"{result}: {name}")
    counts = ", ".join(f"{count} {result}" for result, count in Counter(results.values()).most_common())
    print(f"{score(results):.1%} of {len(results)} mutants out of {len(pool)} caught ({counts}).")


if __name__ == "__main__":
    main()
