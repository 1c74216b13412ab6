"""Puts two rows more into the table of arrays; imported before anything has been derived from the table."""

from hmsa_label.stores.format.arrays import ARRAYS, CLASSES, Array, Bounds, Pixels, Values


def negative(pixels: Pixels, bounds: Bounds) -> str:
    lowest = int(pixels.min())
    return "" if lowest >= 0 else f"it holds {lowest}, which is no depth"


NEW = (
    Array(name="second_class", dtype="uint8", meaning="the runner-up", values=CLASSES, fill=254, beside=("top1",)),
    Array(
        name="depth",
        dtype="int32",
        meaning="a number per object, 0 for none",
        values=Values(text="0 and above", fault=negative),
        fill=-1,
        in_digest=True,
    ),
)
ARRAYS.update({array.name: array for array in NEW})
