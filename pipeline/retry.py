"""Trying again what a storage or network refused, and stopping with a clear message when it stays away."""

import random
import time
from collections.abc import Callable
from typing import TypeVar

from hmsa_label.pipeline.executor import EngineError
from hmsa_label.stores.errors import StoreError

ATTEMPTS = 5
FIRST_PAUSE_SECONDS = 0.5
# Network trouble below s3fs that is no OSError.
_NETWORK_PACKAGES = ("aiobotocore", "aiohttp", "botocore", "urllib3")

T = TypeVar("T")


def with_retries(what: str, attempt: Callable[[], T]) -> T:
    """What `attempt` returns; storage and network errors are met with up to four more tries, after 0.5 s to 4 s.

    Args:
        what: names the attempt in the message, such as "writing the labels of aachen_000001".

    Raises:
        EngineError: if the last try fails as well. It carries text alone, since errors of storage packages do not
            survive the way to another process.
        Exception: at once, for everything that a second try cannot cure.
    """
    pause = FIRST_PAUSE_SECONDS
    for left in reversed(range(ATTEMPTS)):
        try:
            return attempt()
        except Exception as error:
            if not _may_pass(error):
                raise
            if not left:
                raise EngineError(f"{what} failed {ATTEMPTS} times: {_one_line(error)}") from error
        time.sleep(pause * random.uniform(0.75, 1.25))  # many workers, one storage: not all at the same moment
        pause *= 2
    raise AssertionError("unreachable")


def _may_pass(error: Exception) -> bool:
    if isinstance(error, FileExistsError | StoreError):  # an answer, not a failure to answer
        return False
    return isinstance(error, OSError) or type(error).__module__.partition(".")[0] in _NETWORK_PACKAGES


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
