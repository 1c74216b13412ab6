"""Faults in random objects of a small store: what readers do, and what `verify` says.

One bit is flipped, or an object is deleted, truncated, or swapped with another of its sort; then everything that a
reader can ask for is asked for, `verify` looks at every version, and the object is put back. A fault counts as harmful
if a reader gets something else than before, an error included.

    python benchmarks/store_faults.py --flips 1000 --others 200 --output benchmarks/results/store_faults.md
"""

import argparse
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from results_page import page, publish
from small_store import SIZES, Facts, build, observe, wrong_labels

from hmsa_label.stores.errors import StoreError
from hmsa_label.stores.schema import COMMITS, PRUNED, ROOT, RUNS, TAGS
from hmsa_label.stores.verify import Problem, verify

ROWS, OTHERS = "manifest rows", {TAGS: "tag", PRUNED: "prune mark", COMMITS: "commit mark"}
FLIP, DELETE, TRUNCATE, SWAP = "bit flip", "deletion", "truncation", "swap"
FOUND, UNNAMED, RAISED, MISSED, HARMLESS = "found", "found, not named", "verify crashed", "missed", "harmless"

EXPLANATION = (
    "*harmful*: a reader gets something else than before, an error included; *readers refuse*: all that differs is an "
    "error of the store's own; *found and named*: `verify --deep` names the file, the version, the run or the image; "
    "*wrong labels read*: a reader got other pixels, or codes with other thresholds, and no error."
)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Damage to one object, or two for a swap.

    Attributes:
        sort: what kind of object, as `sort_of` says; bodies: what is put at each path, None for a deletion.
    """

    kind: str
    sort: str
    bodies: dict[Path, bytes | None]
    detail: str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a fault: `seen` is what differs for readers, `verdict` what verify made of it."""

    fault: Fault
    verdict: str
    refused: bool
    wrong: list[str]
    seen: list[str]
    said: str


def sort_of(path: Path) -> str:
    """Which part of a store an object belongs to."""
    parts = path.parts
    if parts[0] == "manifest":
        return "manifest log" if path.suffix == ".json" else ROWS
    if parts[0] == RUNS:
        return "run record" if len(parts) == 2 else "run outcome"
    if parts[0] in OTHERS:
        return OTHERS[parts[0]]
    if path.name == ROOT:
        return "Zarr metadata"
    return "receipt" if "receipts" in parts else f"pixels: {parts[-2]}"


def draw_fault(random: Random, bodies: dict[Path, bytes], kind: str) -> Fault:
    """A fault in a random object of a random sort; empty objects and sorts of one object are not swapped."""
    by_sort: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(bodies):
        by_sort[sort_of(path)].append(path)
    while True:
        sort = random.choice(sorted(by_sort))
        path = random.choice(by_sort[sort])
        body = bodies[path]
        if kind == FLIP:
            bit = random.randrange(8 * len(body))
            flipped = bytearray(body)
            flipped[bit // 8] ^= 1 << bit % 8
            return Fault(kind=kind, sort=sort, bodies={path: bytes(flipped)}, detail=f"bit {bit}")
        if kind == DELETE:
            return Fault(kind=kind, sort=sort, bodies={path: None}, detail="")
        if kind == TRUNCATE:
            length = random.randrange(len(body))
            return Fault(kind=kind, sort=sort, bodies={path: body[:length]}, detail=f"to {length} of {len(body)} bytes")
        others = [other for other in by_sort[sort] if bodies[other] != body]
        if others:
            other = random.choice(others)
            return Fault(kind=kind, sort=sort, bodies={path: bodies[other], other: body}, detail="")


def put(root: Path, bodies: dict[Path, bytes | None]) -> None:
    """Writes or deletes objects of the store."""
    for path, body in bodies.items():
        if body is None:
            (root / path).unlink()
        else:
            (root / path).write_bytes(body)


def try_fault(root: Path, facts: Facts, sound: dict[Path, bytes], fault: Fault) -> Outcome:
    """Outcome of one fault; the store is whole again afterwards."""
    put(root, fault.bodies)
    try:
        now = observe(str(root), facts)
        verdict, said = judge(str(root), facts, fault)
    finally:
        put(root, {path: sound[path] for path in fault.bodies})
    seen = [name for name in facts.before if now[name] != facts.before[name]]
    refused = bool(seen) and all(now[name][0] == "refused" for name in seen)
    if verdict == MISSED and not seen:
        verdict = HARMLESS
    return Outcome(
        fault=fault, verdict=verdict, refused=refused, wrong=wrong_labels(facts.before, now), seen=seen, said=said
    )


def judge(uri: str, facts: Facts, fault: Fault) -> tuple[str, str]:
    """Verdict on the whole store, version by version, and the first line that verify said."""
    problems: list[Problem] = []
    for version in (None, *facts.versions[:-1]):
        try:
            problems += verify(uri, version, threads=1)
        except StoreError as error:
            problems.append(Problem(key="", kind="refused", detail=str(error)))
        except BaseException as error:  # a Rust panic is no Exception
            if isinstance(error, KeyboardInterrupt):
                raise
            return RAISED, f"{type(error).__name__}: {str(error)[:150]}"
    named = [problem for problem in problems if names(problem, facts, fault)]
    if named:
        return FOUND, f"{named[0].kind} {named[0].key}: {named[0].detail}"
    if problems:
        return UNNAMED, f"{problems[0].kind} {problems[0].key}: {problems[0].detail}"
    return MISSED, ""


def names(problem: Problem, facts: Facts, fault: Fault) -> bool:
    """Whether a problem names a damaged object, or an image whose pixels or manifest row are damaged."""
    for path in fault.bodies:
        words = [str(path), path.name] if path.name != ROOT else [str(path)]
        if path.parts[0] == RUNS:
            words.append(path.parts[1].removesuffix(".json"))
        if path.parent.name == "_delta_log":
            words.append(f"version {int(path.stem)} ")
        keys = set(SIZES) if fault.sort == ROWS else facts.keys_of.get(str(path), set())
        if problem.key in keys or any(word in f"{problem.detail} " for word in words):
            return True
    return False


def table(outcomes: list[Outcome]) -> str:
    """Markdown: faults by kind and sort of object."""
    columns: dict[str, Callable[[Outcome], bool]] = {
        "faults": lambda o: True,
        "harmful": lambda o: bool(o.seen),
        "readers refuse": lambda o: o.refused,
        "found and named": lambda o: bool(o.seen) and o.verdict == FOUND,
        "found, not named": lambda o: bool(o.seen) and o.verdict == UNNAMED,
        "verify crashed": lambda o: bool(o.seen) and o.verdict == RAISED,
        "missed": lambda o: bool(o.seen) and o.verdict == MISSED,
        "wrong labels read": lambda o: bool(o.wrong),
        "harmless, yet found": lambda o: not o.seen and o.verdict != HARMLESS,
    }
    lines = ["| fault | object | " + " | ".join(columns) + " |", "| --- | --- " + "| ---: " * len(columns) + "|"]
    groups = Counter((outcome.fault.kind, outcome.fault.sort) for outcome in outcomes)
    for group in [*sorted(groups), (FLIP, "all"), ("others", "all")]:
        chosen = [outcome for outcome in outcomes if in_group(outcome, group)]
        counts = [sum(test(outcome) for outcome in chosen) for test in columns.values()]
        lines.append("| " + " | ".join([*group, *map(str, counts)]) + " |")
    return "\n".join(lines)


def in_group(outcome: Outcome, group: tuple[str, str]) -> bool:
    """Whether an outcome belongs to a line of the table."""
    kind, sort = group
    if sort == "all":
        return (outcome.fault.kind == FLIP) == (kind == FLIP)
    return (outcome.fault.kind, outcome.fault.sort) == group


def describe(outcome: Outcome) -> str:
    """One line on an outcome, for finding the defect."""
    paths = ", ".join(map(str, outcome.fault.bodies))
    seen = "; ".join(outcome.seen[:3])
    return f"{outcome.verdict}: {outcome.fault.kind} {outcome.fault.detail} of {paths}; seen: {seen}; {outcome.said}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=1000)
    parser.add_argument("--others", type=int, default=200, help="deletions, truncations and swaps, in turn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", help="where the store is put for a while; a memory disk is fastest")
    parser.add_argument("--output", help="write the table there")
    parser.add_argument("--details", action="store_true", help="print every fault that was not found and named")
    arguments = parser.parse_args()
    kinds = [FLIP] * arguments.flips + [(DELETE, TRUNCATE, SWAP)[n % 3] for n in range(arguments.others)]
    random, started = Random(arguments.seed), time.monotonic()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        root = Path(folder) / "labels.zarr"
        facts = build(str(root))
        sound = {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        outcomes = [try_fault(root, facts, sound, draw_fault(random, sound, kind)) for kind in kinds]
        assert observe(str(root), facts) == facts.before, "the store was not put back"
    bad = [outcome for outcome in outcomes if outcome.wrong or (outcome.seen and outcome.verdict != FOUND)]
    if arguments.details:
        print("\n".join(describe(outcome) for outcome in bad), file=sys.stderr)
    text = table(outcomes)
    facts_text = f"{len(outcomes)} faults in {time.monotonic() - started:.0f} s. {EXPLANATION}"
    publish(page("Faults in random objects of a store", arguments.folder or ".", facts_text, text), arguments.output)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
