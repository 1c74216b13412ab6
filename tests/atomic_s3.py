"""moto's S3 with puts that keep their condition: it looks whether an object is there and writes it in two steps."""

import functools
import threading
from typing import Any

_LOCK = threading.RLock()


def make_puts_atomic() -> None:
    """Lets one put at a time into every S3 server of this process; done once."""
    from moto.s3.responses import S3Response

    put: Any = S3Response.put_object
    if hasattr(put, "__wrapped__"):
        return

    @functools.wraps(put)
    def put_alone(self: Any) -> Any:
        with _LOCK:
            return put(self)

    S3Response.put_object = put_alone
