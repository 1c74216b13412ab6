"""How panoptic labels hold when images come smaller or larger than in training: mIoU and PQ by scale.

The test of the paper (arXiv 2003.07853, figure 4), asked of small networks on a small data set: attention against
convolutions, trained alike. Each image is resized by one factor, its maps are brought back to the size of the image,
and instances are found and scored there against the labels as they are, which are the same at every factor. Factors
count from --base, the scale at which the networks were trained to be used.

    python benchmarks/panoptic_scales.py --data demo/streets --output benchmarks/results/panoptic_scales.md \
        --network axial=axial/best.safetensors --network conv=conv/best.safetensors

The first network is compared with each of the others.
"""

import argparse
import json
from dataclasses import dataclass

from results_page import markdown, page, publish

from hmsa_label import DataConfig, EvaluateConfig, TeacherConfig, evaluate

FACTORS = "0.5,0.625,0.75,1,1.25,1.5,2"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Scores of one network at one factor, percent; None where the data has no such class."""

    miou: float
    pq: float
    things: float | None
    stuff: float | None
    images: int


def score(data: DataConfig, weights: str, scale: float, options: dict, threads: int) -> Cell:
    """One network on images resized by one scale."""
    teacher = TeacherConfig(
        weights=weights,
        teacher="axial_deeplab",
        options={**options, "scales": (scale,)},
        precision="fp32",
        device="cpu",
        cpu_threads=threads,
    )
    found = evaluate(EvaluateConfig(data=data, teacher=teacher))
    things, stuff = (None if kind is None else 100 * kind["pq"] for kind in (found.things, found.stuff))
    return Cell(
        miou=100 * found.miou,
        pq=100 * found.pq,
        things=things,
        stuff=stuff,
        images=found.images,
    )


def by_network(name: str, cells: dict[float, Cell]) -> str:
    """Scores of one network by factor, and what share of the PQ at factor 1 is left."""
    own = cells[1.0].pq

    def row(factor: float, cell: Cell) -> list[str]:
        figures = [cell.miou, cell.pq, cell.things, cell.stuff, 100 * cell.pq / own if own else None]
        return [f"{factor:g}", *("" if value is None else f"{value:.1f}" for value in figures)]

    columns = ["factor", "mIoU", "PQ", "PQ things", "PQ stuff", "% of PQ at 1"]
    return f"## {name}\n\n{markdown(columns, [row(*item) for item in cells.items()])}"


def compared(first: str, other: str, cells: dict[str, dict[float, Cell]]) -> str:
    """What the first network has over another one by factor: in points, and relative as in the paper's figure."""
    rows = []
    for factor, cell in cells[first].items():
        base = cells[other][factor]
        relative = f"{100 * (cell.pq / base.pq - 1):+.1f}" if base.pq else ""
        rows.append([f"{factor:g}", f"{cell.miou - base.miou:+.1f}", f"{cell.pq - base.pq:+.1f}", relative])
    table = markdown(["factor", "mIoU, points", "PQ, points", "PQ, relative %"], rows)
    return f"## {first} over {other}\n\n{table}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a Cityscapes tree with instances, such as drawn streets")
    parser.add_argument("--split", default="val")
    parser.add_argument("--network", action="append", required=True, help="NAME=WEIGHTS; the first is compared")
    parser.add_argument("--factors", default=FACTORS, help="comma-separated, 1 among them")
    parser.add_argument("--base", type=float, default=1.0, help="scale that factor 1 stands for")
    parser.add_argument("--options", default="{}", help="further options of the labeler, as JSON")
    parser.add_argument("--limit", type=int, help="only the first images by key")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--note", default="", help="how the networks were trained, for the page")
    parser.add_argument("--output", help="write the page there")
    arguments = parser.parse_args()
    factors = [float(factor) for factor in arguments.factors.split(",")]
    networks = dict(one.split("=", 1) for one in arguments.network)
    data = DataConfig(root=arguments.data, split=arguments.split, limit=arguments.limit)
    base, options = arguments.base, json.loads(arguments.options)
    cells = {
        name: {factor: score(data, weights, base * factor, options, arguments.threads) for factor in factors}
        for name, weights in networks.items()
    }
    first, *others = cells
    images = cells[first][factors[0]].images
    what = (
        f"{images} images of {arguments.split}, labels at their own size; factor 1 is scale {base:g}; float32 on a "
        f"CPU. Scores in percent, over the classes that occur. {arguments.note}"
    )
    parts = [compared(first, other, cells) for other in others]
    parts += [by_network(name, found) for name, found in cells.items()]
    publish(page("Panoptic labels by the scale of the image", arguments.data, what.strip(), *parts), arguments.output)


if __name__ == "__main__":
    main()
