"""An S3 server that answers conditional writes as if no condition had been asked for."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from hmsa_label.stores.errors import UnsafeStorage
from hmsa_label.stores.versions.creation import check_place
from hmsa_label.stores.versions.label_store import LabelStore


@pytest.fixture
def forgetful_s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of the server, with the AWS_* variables that lead to it."""
    backend = DomainDispatcherApplication(create_backend_app)

    def drop_conditions(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        environ.pop("HTTP_IF_NONE_MATCH", None)
        environ.pop("HTTP_IF_MATCH", None)
        return backend(environ, start_response)

    server = make_server("127.0.0.1", 0, drop_conditions, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    for name, value in (
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_ACCESS_KEY_ID", "made-up"),
        ("AWS_SECRET_ACCESS_KEY", "made-up-secret"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    client = boto3.client("s3", endpoint_url=endpoint)
    client.create_bucket(Bucket="unsafe")
    yield client
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_server_that_ignores_the_condition_is_refused_at_first_use(
    forgetful_s3: Any, classes: dict[str, Any]
) -> None:
    with pytest.raises(UnsafeStorage, match="--single-writer") as refused:
        LabelStore.create("s3://unsafe/labels", classes)
    assert "\n" not in str(refused.value)
    left = [entry["Key"] for entry in forgetful_s3.list_objects_v2(Bucket="unsafe").get("Contents", [])]
    assert not [key for key in left if key.endswith(("zarr.json", ".parquet", "_delta_log"))]
    with pytest.raises(UnsafeStorage, match="--single-writer"):
        check_place("s3://unsafe/labels")
    check_place("s3://unsafe/labels", single_writer=True)
    assert not forgetful_s3.list_objects_v2(Bucket="unsafe").get("Contents")
    LabelStore.create("s3://unsafe/alone", classes, single_writer=True)
    assert LabelStore.open("s3://unsafe/alone").identity.probe is not None
