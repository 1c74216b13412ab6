"""Damage to random objects of a small store: what readers do, what `verify --all` says, and what verbs make of it.

One bit is flipped, or an object is deleted, truncated, emptied, swapped with another of its sort, or replaced by an
older copy. Then everything that a reader can ask for is asked for (labels, evidence, a training's data set, exports;
versions by number and by tag), `verify --all` looks at the store, and the object is put back. Damage counts as
harmful if a reader gets something else than before, an error included. With --verbs, a copy of the damaged store is
also tagged, rethresholded, labeled, rolled back and collected, and then looked at once more.

    python benchmarks/store_faults.py --folder /dev/shm --output benchmarks/results/store_faults.md
"""

import argparse
import contextlib
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from results_page import page, publish
from small_store import LOWER, SIZES, TAG, Facts, ask, build, label, labels_at, observe, wrong_labels

from hmsa_label.stores.audit.verify import Problem, verify
from hmsa_label.stores.errors import StoreError
from hmsa_label.stores.format.layout import COMMITS, PRUNED, ROOT, RUNS, TAGS
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.versions.gc import gc
from hmsa_label.stores.versions.rethreshold import rethreshold
from hmsa_label.stores.versions.rollback import rollback
from hmsa_label.stores.versions.tags import tag

ROWS, OTHERS = "manifest rows", {TAGS: "tag", PRUNED: "prune mark", COMMITS: "commit mark"}
FLIP, DELETE, TRUNCATE, EMPTY, SWAP, REPLAY = "bit flip", "deletion", "truncation", "emptied", "swap", "older copy"
KINDS = (FLIP, DELETE, TRUNCATE, EMPTY, SWAP, REPLAY)
FOUND, UNNAMED, RAISED, MISSED, HARMLESS = "found", "found, not named", "verify crashed", "missed", "harmless"

EXPLANATION = (
    "*harmful*: a reader gets something else than before, an error included; *readers refuse*: all that differs is an "
    "error of the store's own; *found and named*: `verify --all` names the file, the version, the run or the image; "
    "*wrong pixels*: a reader (LabelStore, AutoLabelDataset, export) got other labels or evidence and no error; "
    "*tracebacks*: an error that is not the store's own, of a reader, verify or a verb; *covered up*: after the verbs "
    "`verify --all` finds nothing, yet an old version is not what it was."
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
    """What came of a fault: `seen` is what differs for readers, `verdict` what verify made of it.

    Attributes:
        wrong: pixels that a reader or a verb got wrong without an error.
        crashes: errors that are not the store's own.
        covered_up: whether verbs made verify blind to what still differs.
    """

    fault: Fault
    verdict: str
    refused: bool
    wrong: list[str]
    crashes: list[str]
    covered_up: bool
    seen: list[str]
    said: str

    @property
    def bad(self) -> bool:
        """Whether this must not happen."""
        unnamed = bool(self.seen) and self.verdict != FOUND
        return bool(self.wrong or self.crashes or self.covered_up or unnamed)


@dataclass(frozen=True, kw_only=True)
class Sound:
    """A store before damage: its objects, and those of an older one made in the same way."""

    bodies: dict[Path, bytes]
    older: dict[Path, bytes]


@dataclass
class Verbs:
    """What verbs made of a damaged copy."""

    wrong: list[str] = field(default_factory=list)
    crashes: list[str] = field(default_factory=list)
    covered_up: bool = False


def objects_of(root: Path) -> dict[Path, bytes]:
    """Every object of a store by its path."""
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def sort_of(path: Path) -> str:
    """Which part of a store an object belongs to."""
    parts = path.parts
    if "checkpoint" in path.name:
        return {COMMITS: "checkpoint note"}.get(parts[0], "checkpoint")
    if parts[0] == "manifest":
        return "manifest log" if path.suffix == ".json" else ROWS
    if parts[0] == RUNS:
        return "run record" if len(parts) == 2 else "run outcome"
    if parts[0] in OTHERS:
        return OTHERS[parts[0]]
    if path.name == ROOT:
        return "Zarr metadata"
    return "receipt" if "receipts" in parts else f"pixels: {parts[-2]}"


def draw_fault(random: Random, sound: Sound, kind: str) -> Fault:
    """A fault in a random object of a random sort; what would change nothing is drawn again."""
    bodies = sound.bodies
    by_sort: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(bodies):
        by_sort[sort_of(path)].append(path)
    while True:
        sort = random.choice(sorted(by_sort))
        path = random.choice(by_sort[sort])
        damaged, detail = damage(random, sound, kind, path, by_sort[sort])
        if any(bodies.get(place) != body for place, body in damaged.items()):
            return Fault(kind=kind, sort=sort, bodies=damaged, detail=detail)


def damage(
    random: Random, sound: Sound, kind: str, path: Path, like: list[Path]
) -> tuple[dict[Path, bytes | None], str]:
    """What is put in place of an object and, for a swap, of another one of its sort; and how, in words."""
    body, other = sound.bodies[path], random.choice(like)
    if kind == FLIP:
        bit = random.randrange(8 * len(body))
        flipped = bytearray(body)
        flipped[bit // 8] ^= 1 << bit % 8
        return {path: bytes(flipped)}, f"bit {bit}"
    if kind == DELETE:
        return {path: None}, ""
    if kind == EMPTY:
        nothing = random.choice([b"", b"{}"])
        return {path: nothing}, f"with {nothing!r}"
    if kind == TRUNCATE:
        length = random.randrange(len(body))
        return {path: body[:length]}, f"to {length} of {len(body)} bytes"
    if kind == SWAP:
        return {path: sound.bodies[other], other: body}, ""
    # The same path in an older store, or an object of its sort that is older.
    earlier = [place for place in like if place < path]
    if path in sound.older and (not earlier or random.random() < 0.5):
        return {path: sound.older[path]}, "of an older store"
    return {path: sound.bodies[random.choice(earlier)] if earlier else body}, "of another one"


def put(root: Path, bodies: dict[Path, bytes | None]) -> None:
    """Writes or deletes objects of the store."""
    for path, body in bodies.items():
        if body is None:
            (root / path).unlink()
        else:
            (root / path).write_bytes(body)


def try_fault(root: Path, facts: Facts, sound: Sound, fault: Fault, *, verbs: bool) -> Outcome:
    """Outcome of one fault; the store is whole again afterwards."""
    put(root, fault.bodies)
    try:
        now = observe(str(root), facts)
        verdict, said = judge(str(root), fault, facts)
        after = try_verbs(root, facts) if verbs else Verbs()
    finally:
        put(root, {path: sound.bodies[path] for path in fault.bodies})
    seen = [name for name in facts.before if now[name] != facts.before[name]]
    if verdict == MISSED and not seen:
        verdict = HARMLESS
    return Outcome(
        fault=fault,
        verdict=verdict,
        refused=bool(seen) and all(now[name][0] == "refused" for name in seen),
        wrong=[*wrong_labels(facts.before, now), *after.wrong],
        crashes=[*(f"{name}: {value}" for name, (state, value) in now.items() if state == "crashed"), *after.crashes],
        covered_up=after.covered_up,
        seen=seen,
        said=said,
    )


def judge(uri: str, fault: Fault, facts: Facts) -> tuple[str, str]:
    """Verdict on the whole store, and the first line that verify said."""
    state, found = ask(lambda: verify(uri, every=True, threads=1))
    if state == "crashed":
        return RAISED, str(found)[:200]
    problems: list[Problem] = found if state == "seen" else [Problem(key="", kind="refused", detail=str(found))]
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
        if path == Path(ROOT):
            words = [f"/{ROOT} ", "identity"]
        if path.parts[0] == RUNS:
            words.append(path.parts[1].removesuffix(".json"))
        if path.parent.name == "_delta_log" and path.suffix == ".json":
            words.append(f"version {int(path.stem)} ")
        keys = set(SIZES) if fault.sort == ROWS else facts.keys_of.get(str(path), set())
        if problem.key in keys or any(word in f"{problem.detail} " for word in words):
            return True
    return False


def try_verbs(damaged: Path, facts: Facts) -> Verbs:
    """What verbs do to a copy of a damaged store; each is right or refuses, and hides nothing from verify."""
    found = Verbs()
    with tempfile.TemporaryDirectory(dir=damaged.parent) as folder:
        uri = str(shutil.copytree(damaged, Path(folder) / "labels.zarr"))
        first = facts.versions[0]
        newest = {key: facts.before[f"version newest threshold {key}"] for key in SIZES}
        verbs: dict[str, tuple[Callable[[], Any], dict[str, tuple[str, Any]] | None]] = {
            "tag": (lambda: tag(uri, "new"), None),
            "rethreshold": (lambda: rethreshold(uri, LOWER, threads=1), newest),
            "run": (lambda: label(uri, ["c"], seed=300, relabel=True, rule=Rule(LOWER)), None),
            "rollback": (lambda: rollback(uri, first), labels_before(facts, first)),
            "gc": (lambda: gc(uri, apply=True), None),
        }
        for name, (verb, expected) in verbs.items():
            state, value = ask(verb)
            if state == "crashed" and not value.startswith(("OSError", "ValueError", "FileNotFoundError")):
                found.crashes.append(f"{name}: {value}")
            if state == "seen" and expected is not None:
                found.wrong += [f"after {name}: {key}" for key in differing(expected, labels_at(uri, None), wrong=True)]
        old = {version: labels_at(uri, version) for version in (*facts.versions, TAG)}
        changed = False
        for version, labels in old.items():
            before = labels_before(facts, version)
            found.wrong += [f"{version} after verbs: {key}" for key in differing(before, labels, wrong=True)]
            changed = changed or bool(differing(before, labels))
        with contextlib.suppress(StoreError):
            found.covered_up = changed and not verify(uri, every=True, threads=1)
    return found


def labels_before(facts: Facts, version: int | str) -> dict[str, tuple[str, Any]]:
    """What a reader of a version got for each key before the damage."""
    return {key: facts.before[f"version {version} label {key}"] for key in SIZES}


def differing(before: dict[str, tuple[str, Any]], now: dict[str, tuple[str, Any]], *, wrong: bool = False) -> list[str]:
    """Keys with another answer than before; with `wrong` only those with pixels."""
    return [key for key in before if now[key] != before[key] and (not wrong or now[key][0] == "seen")]


def table(outcomes: list[Outcome]) -> str:
    """Markdown: faults by kind and sort of object."""
    columns: dict[str, Callable[[Outcome], bool]] = {
        "faults": lambda o: True,
        "harmful": lambda o: bool(o.seen),
        "readers refuse": lambda o: o.refused,
        "found and named": lambda o: bool(o.seen) and o.verdict == FOUND,
        "found, not named": lambda o: bool(o.seen) and o.verdict == UNNAMED,
        "missed": lambda o: bool(o.seen) and o.verdict in (MISSED, RAISED),
        "wrong pixels": lambda o: bool(o.wrong),
        "tracebacks": lambda o: bool(o.crashes) or o.verdict == RAISED,
        "covered up": lambda o: o.covered_up,
        "harmless, yet found": lambda o: not o.seen and o.verdict != HARMLESS,
    }
    lines = ["| damage | object | " + " | ".join(columns) + " |", "| --- | --- " + "| ---: " * len(columns) + "|"]
    groups = Counter((outcome.fault.kind, outcome.fault.sort) for outcome in outcomes)
    for kind, sort in [*sorted(groups), *((kind, "all") for kind in KINDS), ("all", "all")]:
        chosen = [o for o in outcomes if kind in (o.fault.kind, "all") and sort in (o.fault.sort, "all")]
        counts = [sum(test(outcome) for outcome in chosen) for test in columns.values()]
        lines.append("| " + " | ".join([kind, sort, *map(str, counts)]) + " |")
    return "\n".join(lines)


def describe(outcome: Outcome) -> str:
    """One line on an outcome, for finding the defect."""
    paths = ", ".join(map(str, outcome.fault.bodies))
    facts = [f"seen: {'; '.join(outcome.seen[:3])}", outcome.said]
    facts += [f"wrong: {outcome.wrong[:3]}"] * bool(outcome.wrong) + [f"crashes: {outcome.crashes[:2]}"] * bool(
        outcome.crashes
    )
    covered = " COVERED UP" if outcome.covered_up else ""
    return f"{outcome.verdict}{covered}: {outcome.fault.kind} {outcome.fault.detail} of {paths}; {'; '.join(facts)}"


def campaign(folder: str | None, faults: int, seed: int, verbs: int) -> list[Outcome]:
    """Outcomes of `faults` faults, the kinds in turn, the verbs tried after the first `verbs` of them."""
    random = Random(seed)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        root = Path(place) / "labels.zarr"
        build(str(Path(place) / "older.zarr"))
        facts = build(str(root))
        sound = Sound(bodies=objects_of(root), older=objects_of(Path(place) / "older.zarr"))
        assert all(state == "seen" for state, _ in facts.before.values()), "the sound store does not read"
        assert verify(str(root), every=True) == []
        outcomes = []
        for number in range(faults):
            fault = draw_fault(random, sound, KINDS[number % len(KINDS)])
            outcomes.append(try_fault(root, facts, sound, fault, verbs=number < verbs))
        assert observe(str(root), facts) == facts.before, "the store was not put back"
    return outcomes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=1000, help="the kinds of damage in turn")
    parser.add_argument("--verbs", type=int, default=100, help="try the verbs after so many of them")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", help="where the store is put for a while; a memory disk is fastest")
    parser.add_argument("--output", help="write the table there")
    parser.add_argument("--details", action="store_true", help="print every outcome that must not be")
    arguments = parser.parse_args()
    started = time.monotonic()
    outcomes = campaign(arguments.folder, arguments.faults, arguments.seed, arguments.verbs)
    bad = [outcome for outcome in outcomes if outcome.bad]
    if arguments.details:
        print("\n".join(describe(outcome) for outcome in bad), file=sys.stderr)
    text = table(outcomes)
    facts_text = (
        f"{len(outcomes)} faults in {time.monotonic() - started:.0f} s, verbs after {arguments.verbs} of them. "
    )
    title = "Damage to random objects of a store"
    publish(page(title, arguments.folder or ".", facts_text + EXPLANATION, text), arguments.output)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
