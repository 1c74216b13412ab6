"""Damaged settings files, given to commands that end before they do anything: there is neither data nor a store."""

import json
from pathlib import Path
from random import Random
from typing import Any

import yaml
from click.testing import CliRunner

from hmsa_label.cli.main import main
from tests.fuzz.mutate import DEEP, mutate_bytes, mutate_value

NOWHERE = ("--data", "no-such-folder", "--store", "no-such-store", "--weights", "none.safetensors")
COMMANDS = (
    ("run", *NOWHERE),
    ("evaluate", *NOWHERE[:2], *NOWHERE[4:]),
    ("train-teacher", *NOWHERE[:2], "--output", "no-such-output"),
    ("audit", "verify", *NOWHERE[2:4]),
    ("audit", "log", *NOWHERE[2:4]),
    ("rethreshold", *NOWHERE[2:4]),
    ("export", *NOWHERE[2:4], "no-such-destination"),
)
SETTINGS = {
    "threshold": 0.9, "dataset": "folder", "batch-size": 2, "scales": [0.5, 1.0, 2.0], "flip": True, "limit": 3,
    "store-options": {"key": "a", "client_kwargs": {"endpoint_url": "http://x"}}, "data-options": {"anon": True},
    "run": {"threads": 2, "thresholds": [0.5, 0.9], "relabel": False, "max-memory": 4.5, "keys": "a,b"},
    "train-teacher": {"crop": "64x128", "model": "hrnet_tiny_ocr", "lr": 0.01, "scale-range": "0.5,2.0", "steps": 3},
    "audit": {"verify": {"deep": False}, "log": {"progress": True}}, "export": {"name": "gtAuto"},
}  # fmt: skip
# Nine lists of nine times the one before: a few hundred bytes that stand for a billion values.
BOMB = "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
OPTIONS = f"store-options: {{a: &a [x,x,x,x,x,x,x,x,x], {BOMB.replace(chr(10), ', ')}}}\n"
SPECIAL = (
    "a: &a [x,x,x,x,x,x,x,x,x]\n" + BOMB,
    *(f"{OPTIONS}{name}: *i\n" for name in ("run", "scales", "flip")),
    "run: &r {threshold: *r}\n", "threshold: !!python/object/apply:os.system [true]\n", "run: &r\n  <<: *r\n",
    "threshold: !!binary aGVsbG8=\n", "threshold: 2026-01-01\n", "threshold: .nan\n", "scales: .inf\n", "? [a]\n: b\n",
    "[" * 3000, "{" * 3000, "run: " + "[" * 900 + "]" * 900, "threshold: 0x" + "f" * 5000, "threshold: 1" + "0" * 5000,
    "%YAML 9.9\n---\na: 1\n", "---\n---\n", "\ufeffthreshold: 0.5\n", "threshold: 190:20:30:15\n", "flip: no\n",
    "~: ~\n",
)  # fmt: skip


class Target:
    """Calls a command with `--config`."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "settings.yaml"
        self.sound = yaml.safe_dump(SETTINGS).encode()
        self.path.write_bytes(self.sound)
        for command in COMMANDS:  # what a command imports at its first call is not an input's time
            CliRunner().invoke(main, [*command, "--config", str(self.path)])
            CliRunner().invoke(main, [*command])

    def run(self, seed: int) -> None:
        random = Random(seed)
        self.path.write_bytes(self._damaged(random))
        command = random.choice(COMMANDS)
        result = CliRunner().invoke(main, [*command, "--config", str(self.path)])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 2, f"exit code {result.exit_code} of {command}: {result.output[-300:]}"
        assert "Error: unexpected " not in result.stderr, result.stderr[-300:]
        assert len(result.stderr) < 20_000, f"{len(result.stderr)} characters of error"

    def _damaged(self, random: Random) -> bytes:
        kind = random.randrange(10)
        if kind == 0:
            return random.choice(SPECIAL).encode("utf-8", "surrogatepass")
        if kind < 4:
            return mutate_bytes(random, self.sound, random.choice(SPECIAL).encode())
        changed = mutate_value(random, SETTINGS)
        if DEEP in json.dumps(changed, default=str):
            return b"run: " + b"[" * 2000
        try:
            return self._dumped(random, changed)
        except RecursionError:
            return self.sound

    def _dumped(self, random: Random, changed: Any) -> bytes:
        return yaml.safe_dump(changed, allow_unicode=random.random() < 0.5).encode("utf-8", "surrogatepass")
