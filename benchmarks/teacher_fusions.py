"""Ways to fuse scales, compared on one data set: single, average, explicit and hierarchical attention.

The question of the paper's ablation (arXiv 2005.10821, table 1), asked of a small network on a small data set. For
every seed one network is trained on one scale; it is then trained on for the same number of steps on one scale, with
hierarchical attention over 0.5 and 1, and with explicit attention over 0.5, 1 and 2, all with the same crops, loss and
schedule. The average needs no training of its own: it is the single-scale network at several scales. The weights of the
last step are scored, so nothing is chosen on the validation split.

    python benchmarks/teacher_fusions.py --data camvid --work fusions --output benchmarks/results/teacher_fusions

A training that has ended is not repeated, and one that was interrupted goes on. Hierarchical attention is also scored
at the two scales that it is trained on.
"""

import argparse
import json
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from results_page import page, publish

from hmsa_label import (
    AugmentConfig,
    DataConfig,
    EvaluateConfig,
    HmsaLoss,
    ModelConfig,
    TeacherConfig,
    TrainConfig,
    evaluate,
    train_teacher,
)

MODEL = "hrnet_s_ocr"
PAPER_SINGLE = 47.7
TWO, THREE, FOUR = (0.5, 1.0), (0.5, 1.0, 2.0), (0.25, 0.5, 1.0, 2.0)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table: a training, how its scales are fused, and the paper's mIoU on Mapillary in percent."""

    training: str
    fusion: str
    scales: tuple[float, ...]
    paper: float | None = None


ROWS = (
    Row(training="single", fusion="single", scales=(1.0,), paper=PAPER_SINGLE),
    Row(training="single", fusion="average", scales=TWO),
    Row(training="hierarchical", fusion="hierarchical", scales=TWO),
    Row(training="single", fusion="average", scales=THREE, paper=49.4),
    Row(training="explicit", fusion="explicit", scales=THREE, paper=51.4),
    Row(training="hierarchical", fusion="hierarchical", scales=THREE, paper=51.6),
    Row(training="single", fusion="average", scales=FOUR, paper=48.7),
    Row(training="hierarchical", fusion="hierarchical", scales=FOUR, paper=52.2),
)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What every training gets.

    Attributes:
        first_steps: steps of the single-scale training that all continue from; batches of eight.
        steps: steps of each continuation; batches of four.
    """

    data: str
    work: Path
    first_steps: int
    steps: int
    threads: int


def config_of(budget: Budget, name: str, seed: int) -> TrainConfig:
    """Settings of one training of one seed; `first` is what the others start from."""
    first = name == "first"
    folder = budget.work / f"seed{seed}"
    return TrainConfig(
        data=DataConfig(root=budget.data, split="train"),
        output=str(folder / name),
        model=ModelConfig(
            name=f"{MODEL}_explicit" if name == "explicit" else MODEL,
            init_weights=None if first else str(folder / "first" / "last.safetensors"),
        ),
        augment=AugmentConfig(
            crop_px=(256, 320), scale_range=(0.6, 1.8), colour_jitter=0.1, class_uniform=0.5 if first else 0.7
        ),
        objective=HmsaLoss(
            loss="ce" if first else "rmi", low_scale=0.5 if name in ("hierarchical", "explicit") else None
        ),
        optimizer="adamw",
        learning_rate=0.003 if first else 0.0012,
        weight_decay=0.02,
        poly_power=0.9,
        warmup_steps=40 if first else 20,
        ema_decay=0.99,
        max_steps=budget.first_steps if first else budget.steps,
        batch_size=8 if first else 4,
        precision="bf16",
        cpu_threads=budget.threads,
        seed=seed,
        val_split="",
        save_every=100,
        resume=True,
    )


def train_all(budget: Budget, seed: int) -> dict[str, float]:
    """Every training of a seed, in the order they need each other; seconds by name."""
    seconds = {}
    for name in ("first", "single", "hierarchical", "explicit"):
        config = config_of(budget, name, seed)
        done = Path(config.output) / "seconds.json"
        if not done.exists():
            started = time.process_time()
            train_teacher(config)
            done.write_text(json.dumps(time.process_time() - started))
        seconds[name] = json.loads(done.read_text())
    return seconds


def score(budget: Budget, row: Row, seed: int) -> dict:
    """One row's scores for one seed; a row that was scored before is not scored again."""
    folder = budget.work / f"seed{seed}" / row.training
    done = folder / f"{row.fusion}-{'-'.join(map(str, row.scales))}.json"
    if not done.exists():
        done.write_text(json.dumps(scores_of(budget, row, folder / "last.safetensors")))
    return {**asdict(row), "seed": seed, **json.loads(done.read_text())}


def scores_of(budget: Budget, row: Row, weights: Path) -> dict:
    """`miou`, `iou` by class and the number of `images` of one network on the validation split."""
    teacher = TeacherConfig(
        weights=str(weights),
        options={"scales": row.scales, "fusion": row.fusion},
        precision="bf16",
        cpu_threads=budget.threads,
    )
    result = evaluate(EvaluateConfig(data=DataConfig(root=budget.data, split="val"), teacher=teacher))
    return {"miou": result.miou, "iou": result.iou, "images": result.images}


def table(scores: list[dict], seeds: list[int]) -> str:
    """mIoU in percent by row and seed, their mean, and what fusing gains over one scale."""
    columns = ["fusion", "scales", *(f"seed {seed}" for seed in seeds), "mean", "against single", "paper"]
    lines = [f"| {' | '.join(columns)} |"]
    lines.append("| --- | --- |" + " ---: |" * (len(seeds) + 3))
    by_row = {(one["fusion"], tuple(one["scales"]), one["seed"]): 100 * one["miou"] for one in scores}
    base = [by_row["single", (1.0,), seed] for seed in seeds]
    for row in ROWS:
        values = [by_row[row.fusion, row.scales, seed] for seed in seeds]
        gain = statistics.mean(values) - statistics.mean(base)
        scales = ", ".join(f"{scale:g}" for scale in row.scales)
        figures = " | ".join(f"{value:.1f}" for value in values)
        paper = "" if row.paper is None else f"{row.paper:.1f} ({row.paper - PAPER_SINGLE:+.1f})"
        lines.append(f"| {row.fusion} | {scales} | {figures} | {statistics.mean(values):.1f} | {gain:+.1f} | {paper} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a Cityscapes tree with fine labels in train and val")
    parser.add_argument("--work", type=Path, default=Path("fusions"), help="folder for the trainings")
    parser.add_argument("--seeds", default="1,2", help="comma-separated")
    parser.add_argument("--first-steps", type=int, default=600)
    parser.add_argument("--steps", type=int, default=160)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", help="write the figures there, with .json and .md added")
    arguments = parser.parse_args()
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    budget = Budget(
        data=arguments.data,
        work=arguments.work,
        first_steps=arguments.first_steps,
        steps=arguments.steps,
        threads=arguments.threads,
    )
    seconds = {seed: train_all(budget, seed) for seed in seeds}
    scores = [score(budget, row, seed) for row in ROWS for seed in seeds]
    costs = ", ".join(
        f"{name} {statistics.mean(seconds[seed][name] for seed in seeds) / 60:.1f}" for name in seconds[seeds[0]]
    )
    what = (
        f"{MODEL}, {budget.first_steps} steps of 8 crops on one scale, then {budget.steps} steps of 4 crops each, "
        f"256x320, bf16 on a CPU with {budget.threads} thread(s). mIoU in percent on {scores[0]['images']} images, "
        f"over the classes that occur; the paper's figures are for another network on Mapillary Vistas. "
        f"CPU minutes of a training, mean over seeds: {costs}."
    )
    text = page("Ways to fuse scales", str(budget.work), what, table(scores, seeds))
    if arguments.output:
        document = {"first_steps": budget.first_steps, "steps": budget.steps, "cpu_seconds": seconds, "scores": scores}
        Path(f"{arguments.output}.json").write_text(json.dumps(document, indent=1) + "\n")
    publish(text, f"{arguments.output}.md" if arguments.output else None)


if __name__ == "__main__":
    main()
