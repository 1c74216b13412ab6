"""An S3 server on the loopback, in a process of its own, so that its work is not counted for the store's."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

BUCKET = "labels"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "made-up", "AWS_SECRET_ACCESS_KEY": "made-up", "AWS_DEFAULT_REGION": "us-east-1"}


@contextmanager
def s3_server(log: IO[str] | None = None) -> Iterator[str]:
    """URL of an empty bucket; the AWS_* variables of this process lead to it meanwhile. A line per request in `log`."""
    import boto3

    pipes: dict[str, Any] = {
        "stdin": subprocess.PIPE,
        "stdout": subprocess.PIPE,
        "stderr": log or subprocess.DEVNULL,  # every request is logged
    }
    with subprocess.Popen([sys.executable, __file__], **pipes, text=True) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        before = dict(os.environ)
        os.environ.update({**CREDENTIALS, "AWS_ENDPOINT_URL": server.stdout.readline().strip()})
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        try:
            yield f"s3://{BUCKET}"
        finally:
            os.environ.clear()
            os.environ.update(before)
            server.stdin.close()


def serve() -> None:
    """Serves until the standard input is closed, that is, no longer than the process that wants it lives."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    print(f"http://{host}:{port}", flush=True)
    sys.stdin.read()
    server.stop()


if __name__ == "__main__":
    serve()
