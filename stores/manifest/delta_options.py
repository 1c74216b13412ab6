"""How delta-rs reaches the storage that fsspec reaches: the same place, credentials and endpoint, spelled its way."""

import os
from typing import Any

from hmsa_label.stores.files import join, public_uri
from hmsa_label.stores.format.layout import MANIFEST

S3_SCHEMES = ("s3://", "s3a://")
FOREIGN_SCHEMES = ("gs://", "gcs://", "abfs://", "abfss://", "az://")


def delta_uri(store_uri: str) -> str:
    """URL or absolute path of a store's manifest.

    Raises:
        ValueError: for a storage that Delta tables cannot live on, such as memory:// or http://.
    """
    uri = public_uri(store_uri)
    if uri.startswith("file://"):
        uri = uri.removeprefix("file://")
    if "://" in uri and not uri.startswith((*S3_SCHEMES, *FOREIGN_SCHEMES)):
        raise ValueError(f"a label store cannot live at {uri}; give a local folder or an s3:// URL")
    return join(uri, MANIFEST)


def delta_options(store_uri: str, storage_options: dict[str, Any] | None = None) -> dict[str, str]:
    """delta-rs' storage options for a store: from s3fs' options where given, else from the AWS_* environment.

    delta-rs reads the environment itself; what s3fs takes by other names is translated here. Plain HTTP is allowed only
    when the endpoint itself is spelled http://.
    """
    if not store_uri.startswith(S3_SCHEMES):
        return {}
    given = dict(storage_options or {})
    client = dict(given.get("client_kwargs") or {})
    endpoint = given.get("endpoint_url") or client.get("endpoint_url")
    endpoint = endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = client.get("region_name") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    options = {
        "aws_access_key_id": given.get("key") or given.get("username"),
        "aws_secret_access_key": given.get("secret") or given.get("password"),
        "aws_session_token": given.get("token"),
        "aws_endpoint_url": endpoint,
        # Servers other than AWS ignore the region, but a request cannot be signed without one.
        "aws_region": region or ("us-east-1" if endpoint else None),
        "aws_skip_signature": "true" if given.get("anon") else None,
        "aws_allow_http": "true" if str(endpoint).startswith("http://") else None,
        "aws_conditional_put": "etag",
    }
    return {name: str(value) for name, value in options.items() if value}
