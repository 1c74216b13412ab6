"""Where the stores of `store_kills.py` lie: on a disk, or on S3 behind a proxy that loses answers."""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s3_server import BUCKET, CREDENTIALS, s3_server

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.faulty_proxy import FaultyProxy

STORE, OUT = "labels.zarr", "out"


@dataclass(frozen=True, kw_only=True)
class Site:
    """One store, and one destination of exports, that operations may reach; picklable.

    Attributes:
        images: folder of the images. base: URL or folder that holds the store and the export.
        options: fsspec options of the store.
    """

    images: str
    base: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def store(self) -> str:
        return f"{self.base}/{STORE}"

    @property
    def out(self) -> str:
        return f"{self.base}/{OUT}"


class Disk:
    """Stores in a folder."""

    name = "disk"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fresh(self, origin: Path, number: int) -> Site:
        """A copy of images and store; the one before is gone."""
        work = self.folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(origin, work)
        return Site(images=str(work), base=str(work))

    def look(self, site: Site) -> Path:
        """A folder with the store and the export as they are now."""
        return Path(site.base)

    def faults(self) -> str:
        """What the storage did to requests."""
        return "none"


class S3:
    """Stores in a bucket; requests of operations go through the proxy, those of the benchmark itself do not."""

    name = "S3"

    def __init__(self, folder: Path, proxy: FaultyProxy, client: Any) -> None:
        self.folder, self.proxy, self.client = folder, proxy, client

    def fresh(self, origin: Path, number: int) -> Site:
        prefix, work = f"kill-{number:04}", self.folder / "images"
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(origin, work, ignore=shutil.ignore_patterns(STORE))
        for path in sorted((origin / STORE).rglob("*")):
            if path.is_file():
                key = f"{prefix}/{STORE}/{path.relative_to(origin / STORE)}"
                self.client.put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes())
        access = {"key": CREDENTIALS["AWS_ACCESS_KEY_ID"], "secret": CREDENTIALS["AWS_SECRET_ACCESS_KEY"]}
        options = {**access, "endpoint_url": self.proxy.endpoint}
        return Site(images=str(work), base=f"s3://{BUCKET}/{prefix}", options=options)

    def look(self, site: Site) -> Path:
        seen, prefix = self.folder / "seen", site.base.rpartition("/")[2]
        shutil.rmtree(seen, ignore_errors=True)
        seen.mkdir(parents=True)
        for part in self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{prefix}/"):
            for entry in part.get("Contents", ()):
                path = seen / entry["Key"].partition("/")[2]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(self.client.get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].read())
        return seen

    def faults(self) -> str:
        done = ", ".join(f"{count} {name}" for name, count in sorted(self.proxy.done.items()))
        return f"{done} of {self.proxy.requests} requests"


@contextmanager
def behind_a_proxy(folder: Path, share: float, seed: int) -> Iterator[S3]:
    """A server of S3, and a proxy that fails a share of the requests."""
    import boto3

    with s3_server():
        import os

        target = os.environ["AWS_ENDPOINT_URL"]
        proxy = FaultyProxy(target, share=share, seed=seed)
        try:
            yield S3(folder, proxy, boto3.client("s3", endpoint_url=target))
        finally:
            proxy.close()
