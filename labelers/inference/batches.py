"""How many images of one size go through the network together, and what to do where they took too much memory."""

from collections.abc import Callable
from typing import TypeVar

from hmsa_label.labelers.device_errors import is_out_of_memory

Result = TypeVar("Result")


def in_smaller_batches(
    most: int, together: Callable[[int], Result], one_by_one: Callable[[], Result], free: Callable[[], None]
) -> Result:
    """What `together` gives for batches of `most` images, of half as many where it runs out of memory, or `one_by_one`.

    Args:
        together: takes how many images go through the network at a time, two or more.
        free: gives back what a failed attempt left.

    Raises:
        Exception: what `one_by_one` raises, and whatever else `together` raises.
    """
    while most > 1:
        try:
            return together(most)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        free()  # not inside `except`: there the error holds the frames of the failed attempt, and these its tensors
        most //= 2
    return one_by_one()
