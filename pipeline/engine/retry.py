"""Trying again what a storage or network refused, and stopping with a clear message when it stays away.

Storage packages try again themselves, within one request; this is about outages that outlast them, and about operations
of several requests. Whatever is given to `with_retries` must bear being done twice.
"""

import errno
import random
import re
import time
from collections.abc import Callable
from typing import TypeVar

from hmsa_label.pipeline.errors import EngineError
from hmsa_label.stores.credentials import missing_credentials
from hmsa_label.stores.errors import StoreError, is_network_trouble
from hmsa_label.stores.files import FileRoot

ATTEMPTS = 6
PATIENCE_SECONDS = 30.0  # a try that begins later than this is the last one: each may itself have waited for long
FIRST_PAUSE_SECONDS = 0.5
# What waiting does not cure: somebody has to make room, or to give a permission.
_FOR_GOOD = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
# Answers of a storage, not failures to answer.
_ANSWERS = (FileExistsError, FileNotFoundError, IsADirectoryError, NotADirectoryError, StoreError)
_COLORS = re.compile(r"\x1b\[[0-9;]*m|\u21b3")  # delta-rs paints its chains of causes
MESSAGE_CHARS = 300

KEPT = "; what is finished is kept, and the same command goes on once the storage is back"

T = TypeVar("T")


def with_retries(what: str, attempt: Callable[[], T], attempts: int = ATTEMPTS) -> T:
    """What `attempt` returns; storage and network errors are met with up to five more tries, after 0.5 s to 8 s.

    Args:
        what: names the attempt in the message, such as "writing the labels of aachen_000001".
        attempts: the most tries.

    Raises:
        EngineError: if the last try fails as well, or at once if a disk is full or may not be written. It carries text
            alone, since errors of storage packages do not survive the way to another process.
        Exception: at once, for everything that a second try cannot cure.
    """
    pause, began = FIRST_PAUSE_SECONDS, time.monotonic()
    for number in range(1, attempts + 1):
        try:
            return attempt()
        except Exception as error:
            if text := missing_credentials(error):
                raise EngineError(f"{what} failed: {text}") from error
            if not _may_pass(error):
                raise
            if getattr(error, "errno", None) in _FOR_GOOD:
                raise EngineError(f"{what} failed: {_one_line(error)}{KEPT}") from error
            if number == attempts or time.monotonic() - began > PATIENCE_SECONDS:
                times = "" if number == 1 else f" {number} times"
                raise EngineError(f"{what} failed{times}: {_one_line(error)}{KEPT}") from error
        time.sleep(pause * random.uniform(0.75, 1.25))  # many workers, one storage: not all at the same moment
        pause *= 2
    raise AssertionError("unreachable")


def patient_reader(root: FileRoot) -> Callable[[str], bytes]:
    """Reads files below a root, each with tries of its own: among thousands one fails sooner or later."""
    return lambda path: with_retries(f"reading {path}", lambda: root.read(path))


def _may_pass(error: Exception) -> bool:
    if isinstance(error, _ANSWERS):
        return False
    return isinstance(error, OSError) or is_network_trouble(error)


def _one_line(error: Exception) -> str:
    text = " ".join(_COLORS.sub("", str(error)).split())
    return f"{type(error).__name__}: {text if len(text) <= MESSAGE_CHARS else text[:MESSAGE_CHARS] + ' ...'}"
