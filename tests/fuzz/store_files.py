"""Damaged files of a store, of every kind; readers may refuse them, but never give other pixels."""

from collections import defaultdict
from pathlib import Path
from random import Random

from tests.fuzz.mutate import mutate_bytes
from tests.fuzz.small_store import SmallStore


class Target:
    """Changes, empties, swaps or deletes one file, and asks the store something."""

    def __init__(self, folder: Path) -> None:
        self.store = SmallStore(folder)
        kinds: dict[str, list[Path]] = defaultdict(list)
        for path in self.store.bodies:
            pixels = path.parts[0] == "data" and path.name.startswith("c.")
            kinds[f"{path.parts[0]} {path.suffix} {len(path.parts)} {pixels}"].append(path)
        self.kinds = list(kinds.values())

    def run(self, seed: int) -> None:
        random = Random(seed)
        path = random.choice(random.choice(self.kinds))
        body = self.store.bodies[path]
        kind = random.randrange(10)
        if kind == 0:
            (self.store.root / path).unlink()
        elif kind == 1:
            (self.store.root / path).write_bytes(random.choice((b"", b"{}", b"null", b"\0" * len(body))))
        elif kind == 2:
            (self.store.root / path).write_bytes(self.store.bodies[random.choice(list(self.store.bodies))])
        else:
            other = self.store.bodies[random.choice(list(self.store.bodies))]
            (self.store.root / path).write_bytes(mutate_bytes(random, body, other))
        try:
            self.store.ask(random)
        finally:
            self.store.restore()
