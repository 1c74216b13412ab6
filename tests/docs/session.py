"""Runs a page as its reader would: block after block in one folder, on tiny data and with tiny trainings."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from hmsa_label.cli.main import main
from tests.docs.pages import Block, Page, product_calls

# What a page says for real data, and what the test takes; --epochs gives way to --max-steps of the environment.
SMALL = {"--max-steps": "2", "--model": "hrnet_tiny_ocr", "--crop": "32x32", "--batch-size": "2", "--epochs": "1",
         "--warmup-steps": "1", "--validate-every": "2", "--cpu-threads": "1", "--workers": "1"}  # fmt: skip
PANOPTIC = "axial_deeplab_tiny"  # in place of its larger ones
ENVIRONMENT = {
    "HMSA_LABEL_MAX_STEPS": "2",
    "HMSA_LABEL_MODEL": "hrnet_tiny_ocr",
    "HMSA_LABEL_CROP": "32x32",
    "HMSA_LABEL_TRAIN_TEACHER_BATCH_SIZE": "2",
    "HMSA_LABEL_TRAIN_STUDENT_BATCH_SIZE": "2",
    "HMSA_LABEL_COMPARE_BATCH_SIZE": "2",
    "HMSA_LABEL_LOADER_WORKERS": "0",
    "HMSA_LABEL_CPU_THREADS": "1",
    "HMSA_LABEL_DEVICE": "cpu",
    "HMSA_LABEL_EXECUTOR": "local",
    "HMSA_LABEL_WORKERS": "1",
    "HMSA_LABEL_TRAIN_TEACHER_MAX_STEPS": "12",  # after two it is sure of nothing, and students have nothing to learn
    "HMSA_LABEL_TRAIN_TEACHER_LR": "0.05",
    "HMSA_LABEL_TRAIN_TEACHER_WARMUP_STEPS": "1",
}


class Session:
    """One reader in one folder.

    Args:
        folder: where the page is followed; `/data/cityscapes` in a page means `streets` in it.
        env: sets environment variables, and takes them back at the end of the test.
    """

    def __init__(self, folder: Path, env: pytest.MonkeyPatch) -> None:
        self.folder, self.env = folder, env
        self.names: dict[str, Any] = {}
        env.chdir(folder)
        env.syspath_prepend(folder)  # as `python` has it
        for name in os.environ:
            if name.startswith("HMSA_LABEL_") or name in ("CITYSCAPES_DATASET", "RAY_ADDRESS"):
                env.delenv(name)
        for name, value in ENVIRONMENT.items():
            env.setenv(name, value)
        env.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)

    def follow(self, page: Page) -> None:
        for block in page.blocks:
            self.take(block, f"{page}:{block.line}")

    def take(self, block: Block, place: str) -> None:
        """Does what a block says, and checks what it shows; `place` is for messages."""
        if "not run" in block.asks:
            return
        text = self._local(block.text)
        if "file" in block.asks:
            Path(block.asks["file"]).write_text(text)
        elif block.kind == "python":
            exec(compile(text, place, "exec"), self.names)
        elif block.kind == "yaml":
            yaml.safe_load(text)
        commands = block.commands()
        for number, (command, shown) in enumerate(commands, 1):
            code, printed = self.shell(command)
            expected = int(block.asks.get("exit code", 0)) if number == len(commands) else 0
            assert code == expected, f"{place}: {command}\nleft with {code}:\n{printed}"
            if "words differ" not in block.asks:
                assert words(shown) <= words(printed), f"{place}: {command}\nprinted:\n{printed}"

    def shell(self, command: str) -> tuple[int, str]:
        """Exit code and all that was printed; calls of hmsa-label alone are made in this process."""
        command = made_small(self._local(command))
        if command.startswith("export "):
            for pair in shlex.split(command)[1:]:
                name, _, value = pair.partition("=")
                self.env.setenv(name, os.path.expandvars(value))
            return 0, ""
        if command.startswith("hmsa-label ") and not re.search(r"[|&;<>$]", command):
            result = CliRunner().invoke(main, shlex.split(command, comments=True)[1:], prog_name="hmsa-label")
            return result.exit_code, result.output
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120)
        return done.returncode, done.stdout + done.stderr

    def _local(self, text: str) -> str:
        return text.replace("/data/cityscapes", str(self.folder / "streets"))


def made_small(command: str) -> str:
    """The command with values for seconds on one core, if it is one of ours."""
    if not product_calls(command):
        return command
    names = "|".join(map(re.escape, SMALL))
    panoptic = re.sub(r"(?<=\s)(--model\s+)axial_deeplab_\S+", rf"\1{PANOPTIC}", command)
    return re.sub(
        rf"(?<=\s)({names})(\s+)(?!{PANOPTIC})(\S+)", lambda found: found[1] + found[2] + SMALL[found[1]], panoptic
    )


def words(text: str) -> set[str]:
    """Words of three letters or more in an output, without paths, names of networks, digests and numbers."""
    return {word for word in re.split(r"[\s,;:.()\[\]\"'|]+", text) if re.fullmatch(r"[A-Za-z]{3,}", word)}
