"""What to call when stored labels are damaged: the images are labeled again, all others stay as they are."""

import shlex
from collections.abc import Sequence

MOST_NAMED = 5


def repair_command(keys: Sequence[str]) -> str:
    """The command that labels images again; many, or names that a list cannot hold, are to be put into a file."""
    listed = ",".join(keys)
    if len(keys) > MOST_NAMED or listed.count(",") >= len(keys) or "\n" in listed:
        return "hmsa-label run --keys @FILE --relabel"  # one name per line
    return f"hmsa-label run --keys {shlex.quote(listed)} --relabel"


def some_of(keys: Sequence[str]) -> str:
    """A few names, and how many more there are."""
    more = f" and {len(keys) - MOST_NAMED} more" if len(keys) > MOST_NAMED else ""
    return ", ".join(keys[:MOST_NAMED]) + more
