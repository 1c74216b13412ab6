"""Badly formed records of a store, sealed anew so that every seal and digest agrees; also rows of its manifest."""

import json
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hmsa_label.stores.format.self_digest import CHECK, seal
from hmsa_label.stores.manifest.delta_actions import COMMIT_KEY
from tests.fuzz.mutate import DEEP, NUMBERS, TEXTS, json_text, mutate_value
from tests.fuzz.small_store import SmallStore, chain

SEALED_FOLDERS = ("tags", "pruned", "commits")


class Target:
    """Changes the values in one record, and asks the store something."""

    def __init__(self, folder: Path) -> None:
        self.store = SmallStore(folder)
        self.store.may_differ = True
        kinds: dict[str, list[Path]] = {}
        for path in self.store.bodies:
            if path.suffix in (".json", ".jsonl", ".parquet"):
                kinds.setdefault(_kind(path), []).append(path)
        self.kinds = list(kinds.values())

    def run(self, seed: int) -> None:
        random = Random(seed)
        path = random.choice(random.choice(self.kinds))
        body = self.store.bodies[path]
        (self.store.root / path).write_bytes(
            _rows(random, body) if path.suffix == ".parquet" else _mutated(random, path, body)
        )
        try:
            if path.suffix == ".parquet":
                self._rename_rows(path)
            chain(self.store.root, changed=self.store.root / path)
            self.store.ask(random)
        finally:
            self.store.restore(all_of_it=path.suffix == ".parquet")

    def _rename_rows(self, path: Path) -> None:
        """Gives changed rows a name that no digest speaks against, and their size, wherever the log names them."""
        file = self.store.root / path
        size = file.stat().st_size
        file.rename(file.with_name("rows.parquet"))
        for log in (self.store.root / "manifest/_delta_log").glob("*.json"):
            actions = [json.loads(line) for line in log.read_text().splitlines()]
            for action in actions:
                if action.get("add", {}).get("path") == path.name:
                    action["add"] |= {"path": "rows.parquet", "size": size}
                if action.get("remove", {}).get("path") == path.name:
                    action["remove"]["path"] = "rows.parquet"
            log.write_text("\n".join(map(json.dumps, actions)) + "\n")


def _kind(path: Path) -> str:
    if path.parts[0] == "data":
        return f"data {len(path.parts)} {'receipts' in path.parts}"
    return f"{path.parts[0]} {path.suffix} {len(path.parts)}"


def _mutated(random: Random, path: Path, body: bytes) -> bytes:
    """The record's file with other values, and a seal that fits them."""
    if path.suffix == ".jsonl" or path.parent.name == "_delta_log":
        lines = body.decode().splitlines()
        at = random.randrange(len(lines))
        lines[at] = _line(random, json.loads(lines[at]))
        return "\n".join(lines).encode("utf-8", "surrogatepass")
    document = json.loads(body)
    if path.name == "zarr.json":
        part = random.random() < 0.8
        changed = mutate_value(random, document["attributes"] if part else document)
        document = {**document, "attributes": _sealed(changed, document["attributes"])} if part else changed
        return json_text(document).encode("utf-8", "surrogatepass")
    return json_text(_sealed(mutate_value(random, document), document)).encode("utf-8", "surrogatepass")


def _line(random: Random, action: dict[str, Any]) -> str:
    record = action.get("commitInfo", {}).get(COMMIT_KEY)
    if record is None or random.random() < 0.2:
        return json_text(mutate_value(random, action))
    changed = _sealed(mutate_value(random, record), record)
    return json_text({**action, "commitInfo": {**action["commitInfo"], COMMIT_KEY: changed}})


def _sealed(changed: Any, before: Any) -> Any:
    """The changed record with a seal of its own, if it had one and can be sealed."""
    if not isinstance(changed, dict) or CHECK not in before or DEEP in json.dumps(changed):
        return changed
    try:
        return seal({name: value for name, value in changed.items() if name != CHECK})
    except (ValueError, TypeError, RecursionError):
        return changed


def _rows(random: Random, body: bytes) -> bytes:
    """Manifest rows with other values in one column, or another type of it."""
    table = pq.read_table(pa.BufferReader(body))
    if not table.num_rows:
        return body
    at = random.randrange(table.num_columns)
    values = table.column(at).to_pylist()
    for row in range(len(values)):
        if random.random() < 0.7:
            values[row] = random.choice((random.choice(TEXTS), random.choice(NUMBERS), None, values[0]))
    field = table.schema.field(at)
    for kind in (field.type, None):
        try:
            table = table.set_column(at, pa.field(field.name, kind) if kind else field.name, pa.array(values, kind))
            break
        except (pa.ArrowException, OverflowError, ValueError, TypeError):
            values = [_fitting(random, field.type, value) for value in values]
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


def _fitting(random: Random, kind: pa.DataType, value: Any) -> Any:
    """A value that an array of the type takes."""
    if pa.types.is_string(kind):
        return str(value).encode("utf-8", "replace").decode()
    if pa.types.is_integer(kind):
        return random.choice((0, -1, 1, 2**31 - 1))
    if pa.types.is_floating(kind):
        return random.choice((float("nan"), float("inf"), -1.0, 1e308))
    return None
