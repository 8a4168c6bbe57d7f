"""Changes the course's code at random places, and says which changes tests notice.

Run:  python tools/mutants.py [--count 300] [--seed 1]     (`make mutants`)

Each change is tried in a copy of the project, with the tests that run the changed line:
all of them first with those that need no server, then what is left with the others.
What runs which line is measured once (tools/mutants_reach.py), which takes half an
hour. A verdict is added to tests/mutants/results.jsonl as it comes; a run that is ended
goes on where it was, and one whose function has the same text is not tried again. A
survivor either gets a test or its reason in tests/mutants/equivalent.toml: why nobody
could tell the difference.

  --quick             leave out what needs a server; what is not noticed is still open
  --report            only say how many were noticed, and which were not
  --survivors         try those again that were not noticed, by everything
  --again KEY ...     try these again

Exit code 0 if at least 95 % of those that make a difference are noticed, else 1.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.mutants_copy import Copy  # noqa: E402
from tools.mutants_finding import (  # noqa: E402
    GROUPS,
    Mutant,
    functions_of,
    mutant_of,
    sample,
)
from tools.mutants_reach import is_quick  # noqa: E402
from tools.mutants_trying import Trial, Verdict  # noqa: E402

RESULTS = ROOT / "tests" / "mutants" / "results.jsonl"
EQUIVALENT = ROOT / "tests" / "mutants" / "equivalent.toml"
WISH = 0.95
SEED = 1
COUNT = 300
OPEN = "unnoticed by units"  # the slow tests have not been asked yet
LIMIT = 240.0  # seconds for a few tests
PROMPT = 20.0  # seconds that a mutant took, those for starting with them
NO_RESULT = "(ended without a result)"


def results(path: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """Return the last verdict on each mutant, by its key."""
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    rows = [json.loads(line) for line in lines]
    return {row["key"]: row for row in rows}


def reasons(path: Path = EQUIVALENT) -> dict[str, str]:
    """Return why a mutant makes no difference, by its key."""
    if not path.exists():
        return {}
    listed = tomllib.loads(path.read_text("utf-8")).get("equivalent", [])
    return {row["key"]: row["why"] for row in listed}


def row_of(mutant: Mutant, verdict: Verdict, seed: int) -> dict[str, Any]:
    """Return what is kept of a mutant and its verdict."""
    return {
        "key": mutant.key,
        "file": mutant.function.file,
        "function": mutant.function.name,
        "operator": mutant.family,
        "before": mutant.before.strip(),
        "after": mutant.after.strip(),
        "verdict": verdict.verdict,
        "by": verdict.by,
        "seconds": verdict.seconds,
        "seed": seed,
        "turn": mutant.turn,
    }


def add(row: dict[str, Any], path: Path = RESULTS) -> None:
    """Add a verdict to the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def states(mutants: Iterable[Mutant]) -> dict[str, str]:
    """Return what is known of each mutant: noticed, equivalent, survived, ..."""
    known = results()
    why = reasons()
    found = {}
    for mutant in mutants:
        state = known.get(mutant.key, {}).get("verdict", "untried")
        if state in ("survived", OPEN) and mutant.key in why:
            state = "equivalent"
        found[mutant.key] = state
    return found


def share_of(tally: Counter[str]) -> float:
    """Return how many of those that make a difference were noticed."""
    differ = tally["noticed"] + tally["survived"] + tally[OPEN]
    return tally["noticed"] / differ if differ else 1.0


def report(mutants: list[Mutant]) -> float:
    """Print the tally of each lesson and each survivor; return the share noticed."""
    state_of = states(mutants)
    columns = ("noticed", "equivalent", "survived", OPEN, "untried")
    print(f"{'':<10} " + " ".join(f"{name:>10}" for name in columns) + "      share")
    total: Counter[str] = Counter()
    for group in sorted(set(GROUPS.values())):
        own = [one for one in mutants if one.function.group == group]
        tally = Counter(state_of[one.key] for one in own)
        total += tally
        print_row(group, tally, columns)
    print_row("all", total, columns)
    for mutant in mutants:
        state = state_of[mutant.key]
        if state in ("survived", OPEN):
            print(f"{state} {mutant.key} {mutant.label}")
    return share_of(total)


def print_row(name: str, tally: Counter[str], columns: Iterable[str]) -> None:
    """Print a row of the table."""
    counts = " ".join(f"{tally[one]:>{max(10, len(one))}}" for one in columns)
    print(f"{name:<10} {counts} {share_of(tally):>10.1%}")


def try_all(
    mutants: list[Mutant], seed: int, kinds: Sequence[bool], trial: Trial
) -> None:
    """Try mutants one after the other; each verdict is kept as it comes."""
    for number, mutant in enumerate(mutants, 1):
        verdict = trial.verdict_on(mutant, kinds)
        add(row_of(mutant, verdict, seed))
        what = f"{verdict.verdict} {verdict.by}".strip()
        print(f"{number}/{len(mutants)} {mutant.key} {mutant.label}")
        print(f"    {what} ({verdict.seconds:.0f} s)", flush=True)


def run(mutants: list[Mutant], args: argparse.Namespace) -> None:
    """Try what is to be tried: all by quick tests, then what is left by the others."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        trial = Trial.in_folder(Path(folder).resolve())
        if args.again or args.survivors:
            try_all(wanted(mutants, args), args.seed, (True, False), trial)
            return
        state_of = states(mutants)
        untried = [one for one in mutants if state_of[one.key] == "untried"]
        try_all(untried, args.seed, (True,), trial)
        if not args.quick:
            state_of = states(mutants)
            left = [one for one in mutants if state_of[one.key] == OPEN]
            try_all(left, args.seed, (False,), trial)
        for test in sorted(trial.broken):
            print(f"did not count, for it fails without a mutant too: {test}")


def made_again(row: Mapping[str, Any]) -> Mutant | None:
    """Return the mutant that a verdict is about, None if its function has changed."""
    for function in functions_of(row["file"]) if (ROOT / row["file"]).exists() else ():
        if function.name == row["function"]:
            mutant = mutant_of(function, row["seed"], row["turn"])
            return mutant if mutant and mutant.key == row["key"] else None
    return None


def is_for_a_handful(row: Mapping[str, Any]) -> bool:
    """Tell whether a test that needs no server noticed a mutant, and soon."""
    soon = row["seconds"] < PROMPT  # others wait, or hang
    return row["verdict"] == "noticed" and is_quick(row["by"]) and soon


def handful(count: int, seed: int) -> Iterator[tuple[Mutant, str]]:
    """Yield some mutants that were noticed without a server, and the test that did."""
    rows = [row for row in results().values() if is_for_a_handful(row)]
    Random(seed).shuffle(rows)
    found = 0
    for row in rows:
        mutant = made_again(row) if found < count else None
        if mutant:
            found += 1
            yield mutant, row["by"]


def unnoticed(pairs: Sequence[tuple[Mutant, str]], folder: Path) -> list[str]:
    """Return what goes wrong: a test fails without a mutant, or does not notice it."""
    copy = Copy(folder)
    copy.fill()
    clean = copy.test(sorted({test for _, test in pairs}), LIMIT)
    wrong = [] if clean.passed else [clean.printed]
    for mutant, test in pairs:
        copy.mutate(mutant)
        if copy.test([test], LIMIT).passed:
            wrong.append(f"{test} no longer notices {mutant.label}")
    return wrong


def wanted(mutants: list[Mutant], args: argparse.Namespace) -> list[Mutant]:
    """Return which mutants are to be tried again, by everything."""
    if args.again:
        return [one for one in mutants if one.key in args.again]
    state_of = states(mutants)
    return [one for one in mutants if state_of[one.key] in ("survived", OPEN)]


def main(argv: list[str] | None = None) -> int:
    """Try what has no verdict yet, and report; return the exit code."""
    summary = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(description=summary)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--quick", action="store_true", help="without servers")
    parser.add_argument("--report", action="store_true", help="try none")
    parser.add_argument("--survivors", action="store_true", help="try those again")
    parser.add_argument("--again", nargs="+", default=[], metavar="KEY")
    args = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    mutants = list(sample(args.seed, args.count))
    if not args.report:
        run(mutants, args)
    return int(report(mutants) < WISH)


if __name__ == "__main__":
    sys.exit(main())
