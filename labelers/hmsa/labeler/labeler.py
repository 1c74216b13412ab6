"""Hierarchical multi-scale attention as a labeler: a chain of scales, fused, in windows that fit into memory."""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor

from hmsa_label.labelers.base import CannotLabel, LabelerBase, NotFinite, Part, Place, Result, View, WeightsFile
from hmsa_label.labelers.hmsa.labeler.options import HmsaOptions
from hmsa_label.labelers.hmsa.labeler.pass_memory import PassMemory
from hmsa_label.labelers.hmsa.labeler.windows import Size, describe
from hmsa_label.labelers.hmsa.net import SegmentationNet, trained_scales
from hmsa_label.labelers.inference.explanation import explain
from hmsa_label.labelers.inference.fused_rows import FusedLogits
from hmsa_label.labelers.inference.net import InferenceNet
from hmsa_label.labelers.inference.tiling import Tile, tiles
from hmsa_label.labelers.weights.networks import read_network

ATTENTION = ("hierarchical", "explicit")  # fusions whose weights are learned


class HmsaLabeler(LabelerBase):
    """The networks of this package; see `LabelerBase` for the attributes.

    Attributes:
        num_views: one for each scale, and for each scale of the mirrored image.
    """

    precisions = ("fp32", "bf16", "fp16")
    checks_itself = True
    identity = staticmethod(HmsaOptions.identity)

    @classmethod
    def load(cls, weights: WeightsFile | None, place: Place, **options: Any) -> "HmsaLabeler":
        """The labeler of a checkpoint of ours, or of a published HRNet-OCR file.

        Raises:
            ValueError: weights and options cannot be used, or do not go together.
        """
        if weights is None:
            raise ValueError("this teacher has no network without --weights")
        return cls(weights, place, HmsaOptions(**options))

    def __init__(self, weights: WeightsFile, place: Place, options: HmsaOptions) -> None:
        net, self.classes, checkpoint = read_network(weights.getvalue(), weights.name)
        check_fusion(net, options, weights.name)
        self._options, self._scales = options, tuple(sorted(options.scales))
        self.num_views = options.num_views
        self._precision = place.precision
        self._net = InferenceNet(net, place.device, place.dtype)
        self._room = PassMemory(self._net, net, options, place)
        drawn = (checkpoint.get(kind) or {} for kind in ("trained_on", "coarse_labels"))
        self.trained_keys = frozenset(key for part in drawn for key in part.get("keys", ()))
        trained = recorded_scales(net, checkpoint)
        self.about = {
            "model": checkpoint["model"],
            "trained_on": checkpoint["trained_on"],
            "trained_scales": trained,
            "val_split": (checkpoint.get("config") or {}).get("val_split"),
        }
        self.warnings = other_scales(trained, options)

    def in_parts(
        self, images: Tensor, work: Callable[[Iterator[Part], str | None], Result], views: bool = False
    ) -> Result:
        """See `LabelerBase`; logits never exist as a whole.

        Raises:
            DoesNotFit: an image needs more memory than there is, even in the smallest windows.
            NotFinite: the network gave NaN or infinite logits for an image.
            CannotLabel: the smallest scale leaves nothing of the images.
        """
        height, width = images.shape[1:3]
        self._refuse_tiny(height, width)

        def over(at_once: int, window_px: Size) -> Result:
            cut = describe((height, width), window_px)
            # on a GPU another kernel may compute a batch, and round otherwise; on a CPU every image gets the same bits
            batch = f"batches of {at_once}" if at_once > 1 and self._net.device.type == "cuda" else None
            return work(self._parts(images, at_once, window_px, views), batch or cut)

        return self._room.in_batches_that_fit((height, width), len(images), over)

    def explain(self, image: Tensor) -> list[View]:
        """Each scale's part in the prediction, without flip; the windows of large images are not looked at."""
        self._refuse_tiny(*image.shape[:2])
        return [
            View(name=f"{part.scale:g}", title=f"{part.scale:g}x", top1=part.top1, share=part.share)
            for part in explain(self._net, image, self._scales, self._options.fusion)
        ]

    def _refuse_tiny(self, height: int, width: int) -> None:
        smallest = self._scales[0]
        if int(min(height, width) * smallest) < 1:
            least = math.ceil(1 / smallest)
            raise CannotLabel(
                f"the image has {height} x {width} px; the teacher's scale {smallest:g} needs {least} x {least} or more"
            )

    def _parts(self, images: Tensor, at_once: int, window_px: Size, views: bool) -> Iterator[Part]:
        """Parts that cover each image once, of one image at a time; `at_once` images are predicted together."""
        look = self._options
        for number in range(0, len(images), at_once):
            for tile in tiles((images.shape[1], images.shape[2]), window_px):
                windows = images[number : number + at_once, slice(*tile.rows), slice(*tile.columns)].contiguous()
                fused = self._net.fused(windows, self._scales, look.fusion, look.flip)
                for index, logits in enumerate(fused, number):
                    for rows, columns, kept, alone in self._kept(logits, tile, views):
                        yield Part(slice(index, index + 1), rows, columns, kept[None], alone)

    def _kept(
        self, logits: FusedLogits, tile: Tile, views: bool
    ) -> Iterator[tuple[slice, slice, Tensor, list[Tensor]]]:
        """(rows, columns, logits [K, R, C] float32, views [1, R, C]) of what is kept of one window, a few rows at a
        time."""
        (top, bottom), (left, right) = tile.kept_rows, tile.kept_columns
        for start, stop, block in self._blocks(logits):
            first, last = max(start + tile.rows[0], top), min(stop + tile.rows[0], bottom)
            if first < last:
                kept = slice(first - tile.rows[0] - start, last - tile.rows[0] - start)
                across = slice(left - tile.columns[0], right - tile.columns[0])
                alone = [view[None, kept, across] for view in logits.views(start, stop)] if views else []
                yield slice(first, last), slice(left, right), block[:, kept, across], alone

    def _blocks(self, logits: FusedLogits) -> Iterator[tuple[int, int, Tensor]]:
        try:
            yield from logits.blocks(finite=True)
        except FloatingPointError as error:
            full = self._precision == "fp32"
            way_out = "its weights are no good for this image: train it again" if full else "use --precision fp32"
            raise NotFinite(f"the network gave {error} in {self._precision}; {way_out}") from error


def check_fusion(net: SegmentationNet, options: HmsaOptions, source: str) -> None:
    """Holds that the network can do what is asked.

    Raises:
        ValueError: naming the options that would work.
    """
    if options.fusion not in ATTENTION or options.fusion == net.fusion:
        return
    if options.fusion == "hierarchical" and options.scales == (1.0,):
        return
    way_out = {
        "single": "has no attention head, which weighs scales; use --scales 1.0 --fusion single, or --fusion average",
        "explicit": "has explicit attention; use --fusion explicit",
        "hierarchical": "has hierarchical attention; use --fusion hierarchical",
    }
    raise ValueError(f"{source} {way_out[net.fusion]}")


def recorded_scales(net: SegmentationNet, checkpoint: dict[str, Any]) -> list[float] | None:
    """Scales that the network saw in its training, ascending; None if its file does not say."""
    if net.fusion == "explicit":
        return list(trained_scales(net, None))
    if not isinstance(config := checkpoint.get("config"), dict):
        return None
    low = config.get("low_scale")
    if net.attention is not None and not isinstance(low, (int, float, type(None))):
        return None
    return sorted(set(trained_scales(net, low)))


def other_scales(trained: Sequence[float] | None, options: HmsaOptions) -> list[str]:
    """A warning of scales that the attention cannot fuse well; more of them at the trained ratio are no reason for one.

    It weighs two neighbors of the chain at a time (arXiv 2005.10821, section 3.2), so what counts is their ratio.
    """
    if not trained or options.fusion not in ATTENTION or _ratios(options.scales) <= _ratios(trained):
        return []
    return [
        f"the attention was trained on the scales {_listed(trained)} and fuses {_listed(sorted(options.scales))}; "
        f"'hmsa-label evaluate' tells whether they help, '--scales {_listed(trained)}' is what it was trained on"
    ]


def _ratios(scales: Sequence[float]) -> set[float]:
    """Ratios of neighbors in a chain of ascending scales, to four digits."""
    return {round(high / low, 4) for low, high in pairwise(sorted(scales))}


def _listed(scales: Sequence[float]) -> str:
    return ",".join(f"{scale:g}" for scale in scales)
