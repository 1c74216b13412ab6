"""Everything that can only be known on a GPU, in one call of less than nine minutes, with one report.

The tests marked `gpu`; one image with the published network, three scales and mirror image (seconds, peak, kernels,
cuDNN's own search, image and mirror image as a batch); `run` with four threads against the bare teacher; batches of 1
to 16 images; axial attention against convolution; training steps. Every section runs in a process of its own with a
time limit. What fails or takes too long is written into the report, and the rest goes on. The report is written anew
after each section.

    python benchmarks/gpu_hour.py --output benchmarks/results/gpu_hour       # gpu_hour.md and gpu_hour.json
    python benchmarks/gpu_hour.py --device cpu --output /tmp/hour            # small sizes, a few seconds

Exit code: 0 all sections succeeded, 1 some did not, 2 there is no such device.

On a machine that has torch and no network, bring the other libraries as wheels. Where there is a network, for the same
Python and without what torch brings:

    pip download --dest wheels --only-binary :all: --no-deps -c constraints.txt -r benchmarks/gpu_wheels.txt

and there, all at once or in as many parts as can be carried at a time:

    pip install --no-index --no-deps wheels/*.whl

A section whose libraries are missing fails alone, and `machine` names them. Without ray, the test of two actors fails.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the package is read where it lies, installed or not

import gpu_sections as sections
import torch
from results_page import markdown

# Name -> (function, seconds that it may take, whether it makes sense on a CPU).
SECTIONS = {
    "machine": (sections.machine, 30, True),
    "pass": (sections.one_pass, 120, True),
    "run": (sections.labeling_run, 90, True),
    "batches": (sections.batches, 90, True),
    "axial": (sections.axial, 90, True),
    "training": (sections.training, 60, True),
    "tests": (sections.tests, 210, False),
}
ALL_SECONDS = 535  # a section has less than its own seconds where those before it used them up


def run_section(name: str, device: torch.device) -> dict[str, Any]:
    """Figures of one section, with `ok`, `error` and `seconds`."""
    started, size = time.monotonic(), sections.WHOLE if device.type == "cuda" else sections.SMALL
    figures, error = {}, None
    try:
        figures = SECTIONS[name][0](device, size)
    except sections.SectionFailed as failure:
        figures, error = failure.figures, str(failure)
    except Exception:
        error = traceback.format_exc()[-1500:]
    return {"ok": error is None, "error": error, "seconds": time.monotonic() - started, **figures}


def in_own_process(command: list[str], answer: Path, seconds: float) -> dict[str, Any]:
    """What a command writes to `answer` as JSON; its last words if it dies before, or takes longer than `seconds`."""
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as words:
        process = subprocess.Popen(command, stdout=words, stderr=words, start_new_session=True)
        try:
            code: int | str = process.wait(max(seconds, 1))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)  # pytest and Ray have children of their own
            process.wait()
            code = f"stopped after {seconds:.0f} s"
        if answer.exists():
            found: dict[str, Any] = json.loads(answer.read_text())
            return found
        words.seek(0)
        error = f"the section gave no figures ({code}): {words.read()[-1200:]}"
    return {"ok": False, "error": error, "seconds": time.monotonic() - started}


def report(found: dict[str, dict[str, Any]]) -> str:
    """The report as Markdown."""
    parts = ["# What a GPU says", f"`python benchmarks/gpu_hour.py {' '.join(sys.argv[1:])}`"]
    for name, figures in found.items():
        parts.append(f"## {name}: {'ok' if figures['ok'] else 'FAILED'}, {figures['seconds']:.0f} s")
        if figures["error"]:
            parts.append(f"```\n{figures['error']}\n```")
        lines = [f"- {key}: {_shown(value)}" for key, value in figures.items() if _is_plain(key, value)]
        parts.append("\n".join(lines))
        tables = {key: value for key, value in figures.items() if isinstance(value, list) and _is_table(value)}
        nested = figures.get("kernels") or {}
        parts += [_table(rows) for rows in tables.values()]
        if nested:
            parts += [f"{nested['launches']} launches, {nested['total_ms']:.1f} ms in kernels", _table(nested["rows"])]
    return "\n\n".join(part for part in parts if part) + "\n"


def _is_plain(key: str, value: Any) -> bool:
    return key not in ("ok", "error", "seconds", "kernels") and not (isinstance(value, list) and _is_table(value))


def _is_table(value: list[Any]) -> bool:
    return bool(value) and isinstance(value[0], dict)


def _table(rows: list[dict[str, Any]]) -> str:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return markdown(columns, [[_shown(row.get(column)) for column in columns] for row in rows])


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = "" if value is None else str(value)
    return " ".join(text.split()).replace("|", "/")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--output", default="gpu_hour", help="report without its suffix; .md and .json are written")
    parser.add_argument("--only", help="sections, with commas between them")
    parser.add_argument("--section", help=argparse.SUPPRESS)
    parser.add_argument("--answer", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no CUDA device here; --device cpu measures small sizes on a CPU")
    if arguments.section:
        Path(arguments.answer).write_text(json.dumps(run_section(arguments.section, device)))
        return 0
    names = arguments.only.split(",") if arguments.only else list(SECTIONS)
    if unknown := [name for name in names if name not in SECTIONS]:
        parser.error(f"no section {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    found = measure([name for name in names if device.type == "cuda" or SECTIONS[name][2]], device, arguments.output)
    return 0 if all(figures["ok"] for figures in found.values()) else 1


def measure(names: list[str], device: torch.device, output: str) -> dict[str, dict[str, Any]]:
    """Figures of the sections; the report lies at `output`, and grows with each."""
    found: dict[str, dict[str, Any]] = {}
    ends = time.monotonic() + ALL_SECONDS
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    for name in names:
        if device.type == "cpu":  # no device that one section could take from the next
            found[name] = run_section(name, device)
        else:
            with tempfile.TemporaryDirectory() as folder:
                answer = Path(folder) / "answer.json"
                command = [
                    sys.executable,
                    __file__,
                    "--device",
                    device.type,
                    "--section",
                    name,
                    "--answer",
                    str(answer),
                ]
                found[name] = in_own_process(command, answer, min(SECTIONS[name][1], ends - time.monotonic()))
        print(f"{name}: {'ok' if found[name]['ok'] else 'FAILED'}, {found[name]['seconds']:.0f} s", flush=True)
        Path(f"{output}.json").write_text(json.dumps(found, indent=1) + "\n")
        Path(f"{output}.md").write_text(report(found))
    return found


if __name__ == "__main__":
    sys.exit(main())
