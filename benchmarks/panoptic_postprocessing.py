"""What the way from maps to instances costs on one core: time by step, and memory of averaging over scales.

    python benchmarks/panoptic_postprocessing.py --output benchmarks/results/panoptic_postprocessing.md

The maps are made up: a grid of 200 centers at 1024x2048, each pixel's offset pointing at the nearest one with 3 px of
noise, and a share of the pixels, those nearest to the centers, that are things. Medians of CPU time in one process with
one thread. The memory is the growth of the process's peak, each case in a process of its own.
"""

import argparse
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable

import torch
from results_page import markdown, page, publish

from hmsa_label.labelers.heads.panoptic_deeplab import PanopticMaps
from hmsa_label.labelers.panoptic.centers import find_centers
from hmsa_label.labelers.panoptic.grouping import group_pixels
from hmsa_label.labelers.panoptic.merge import is_thing, merge
from hmsa_label.labelers.panoptic.predict import predict
from hmsa_label.labelers.panoptic.quality import count_regions
from hmsa_label.labelers.panoptic.scales import average_over_scales
from hmsa_label.labelers.taxonomy import CITYSCAPES

SIZE, GRID, CLASSES = (1024, 2048), (10, 20), 19
SCALES = {1: ((1.0,), False), 8: ((0.5, 1.0, 1.5, 2.0), True), 14: ((0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0), True)}


def made_up_maps(thing_share: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Probabilities, heat map and offsets of one image."""
    torch.manual_seed(0)
    y, x = (torch.arange(float(side)) for side in SIZE)
    to_row, to_column = (_nearest_line(axis, count) for axis, count in ((y, GRID[0]), (x, GRID[1])))
    offset = torch.stack([(to_row - y)[:, None].expand(SIZE), (to_column - x).expand(SIZE)])
    distance = offset.square().sum(0)
    thing = distance <= distance.flatten()[::97].quantile(thing_share)
    semantic = torch.where(thing, (CITYSCAPES.things[0] + (to_column // 100) % 8).long(), (y // 200).long()[:, None])
    probabilities = torch.rand(CLASSES, *SIZE) * 0.1
    probabilities.scatter_(0, semantic[None], 1.0)
    heatmap = torch.exp(-distance / 128)
    return (probabilities / probabilities.sum(0))[None], heatmap[None, None], (offset + 3 * torch.randn(2, *SIZE))[None]


def _nearest_line(positions: torch.Tensor, count: int) -> torch.Tensor:
    lines = torch.linspace(40, len(positions) - 40, count).round()
    return lines[(positions[:, None] - lines).abs().argmin(1)]


def seconds(call: Callable[[], object], times: int = 5) -> float:
    """Median CPU time of a call."""
    taken = []
    for _ in range(times):
        began = time.process_time()
        call()
        taken.append(time.process_time() - began)
    return statistics.median(taken)


def steps(thing_share: float) -> dict[str, float]:
    """Seconds by step, for one image."""
    probabilities, center, offset = made_up_maps(thing_share)
    semantic, things = probabilities[0].argmax(0), CITYSCAPES.things
    points, _ = find_centers(center[0, 0])
    assert len(points) == GRID[0] * GRID[1]
    mask = is_thing(semantic, things)
    groups = group_pixels(points, offset[0], mask)
    panoptic = merge(semantic, groups, things, CLASSES).panoptic_map().numpy()
    return {
        "arg-max over 19 classes": seconds(lambda: probabilities[0].max(0)),
        "centers": seconds(lambda: find_centers(center[0, 0])),
        "grouping": seconds(lambda: group_pixels(points, offset[0], mask)),
        "merging": seconds(lambda: merge(semantic, groups, things, CLASSES)),
        "all, with scores and boxes": seconds(lambda: predict(probabilities, center, offset, things)),
        "beside: counting for PQ": seconds(lambda: count_regions(panoptic, panoptic, CITYSCAPES)),
    }


def averaging_gb(views: int) -> float:
    """What averaging over so many views adds to the peak of a process, GB."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_averaging_gb, (views,))


def _averaging_gb(views: int) -> float:
    torch.set_num_threads(1)

    def net(x: torch.Tensor) -> PanopticMaps:
        height, width = ((side - 1) // 4 + 1 for side in x.shape[-2:])
        return PanopticMaps(*(torch.randn(1, channels, height, width) for channels in (CLASSES, 1, 2)))

    x = torch.randn(1, 3, *SIZE)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with torch.inference_mode():
        average_over_scales(net, x, *SCALES[views])
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", help="write the page there")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    grown = [
        [str(views), f"{averaging_gb(views):.2f}"] for views in SCALES
    ]  # first: a child inherits its parent's peak
    some, every = steps(0.3), steps(1.0)
    rows = [[name, f"{1e3 * some[name]:.0f}", f"{1e3 * every[name]:.0f}"] for name in some]
    timed = markdown(["step, CPU ms of one core", "30 % things", "100 % things"], rows)
    memory = markdown(["views (scales and mirror images)", "GB more at the peak"], grown)
    what = "One image of 1024x2048 with 200 centers and 19 classes, float32. Maps at full size are given."
    publish(page("From maps to instances", ".", what, timed, memory), arguments.output)


if __name__ == "__main__":
    main()
