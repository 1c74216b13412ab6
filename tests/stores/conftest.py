"""Drawn labels and small stores for the tests of the label store, and an S3 server on the loopback."""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hmsa_label.stores.format.bounds import Bounds
from hmsa_label.stores.format.cut import cut
from hmsa_label.stores.format.evidence import code_of, grid_with, label_at, level_of
from hmsa_label.stores.format.instances import StoredInstance, exact
from hmsa_label.stores.format.layout import U8
from hmsa_label.stores.format.receipt import ImageFacts, Receipt
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.runs.segment import SegmentWriter
from hmsa_label.stores.runs.writer import RunWriter
from hmsa_label.stores.versions.label_store import LabelStore
from tests.atomic_s3 import make_puts_atomic

CLASSES = {
    "name": "five",
    "names": ["road", "car", "person", "sky", "bus"],
    "colours": [[128, 64, 128], [0, 0, 142], [220, 20, 60], [70, 130, 180], [0, 60, 100]],
    "raw_ids": [7, 26, 24, 23, 28],
    "ignore_index": 255,
    "things": [1, 2, 4],
}


@dataclass(frozen=True)
class Drawn:
    """One image's arrays and instances, drawn at random; the label is cut at the threshold alone."""

    label: U8
    top1: U8
    code: U8
    instance: NDArray[np.uint16]
    instances: tuple[StoredInstance, ...]

    def arrays(self, rule: Rule, *, evidence: bool = True, panoptic: bool = False) -> dict[str, Any]:
        """What a writer takes: the label by a rule, and what else is stored of the image."""
        grid = grid_with(rule.threshold)
        known, told = {"top1": self.top1, "code": self.code}, ({"instance": self.instance} if panoptic else {})
        bounds = Bounds(names=tuple(CLASSES["names"]), thresholds=grid, instances=self.instances if panoptic else None)
        return {**cut({**known, **told}, rule, bounds).arrays, **(known if evidence else {}), **told}


def draw(seed: int, threshold: float = 0.9, size: tuple[int, int] = (16, 24)) -> Drawn:
    """Blocks of classes with a confidence that varies from block to block, and instances of the things among them."""
    generator = np.random.default_rng(seed)
    height, width = size
    blocks = (-(-height // 4), -(-width // 4))
    top1 = np.kron(generator.integers(0, 5, blocks), np.ones((4, 4))).astype(np.uint8)[:height, :width]
    confidence = np.kron(generator.random(blocks), np.ones((4, 4))).astype(np.float32)[:height, :width] ** 0.2
    grid = grid_with(threshold)
    code = code_of(confidence, grid)
    label = label_at(top1, code, level_of(threshold, grid))
    return Drawn(label, top1, code, *draw_instances(seed, top1, confidence))


def draw_instances(seed: int, top1: U8, confidence: NDArray[np.float32]) -> tuple[Any, tuple[StoredInstance, ...]]:
    """Map and table of instances: one for each thing class in each four rows of an image."""
    places = (np.arange(top1.shape[0])[:, None] // 4) * 5 + top1
    found, number = np.unique(np.where(np.isin(top1, CLASSES["things"]), places, -1), return_inverse=True)
    instance = (number.reshape(top1.shape) + (found[0] != -1)).astype(np.uint16)
    return instance, table_of(instance, top1, confidence, seed)


def table_of(
    instance: NDArray[np.uint16], top1: U8, confidence: NDArray[np.float32] | None = None, seed: int = 0
) -> tuple[StoredInstance, ...]:
    """The table that belongs to a map, with center scores drawn at random."""
    generator, found = np.random.default_rng(seed + 1000), []
    for number in range(1, int(instance.max()) + 1):
        mask = instance == number
        (top, bottom), (left, right) = ((at.min(), at.max()) for at in np.nonzero(mask))
        box = (left, top, right - left + 1, bottom - top + 1)
        mean = 0.5 if confidence is None else confidence[mask].mean()
        found.append(StoredInstance(top1[mask][0], generator.random(), mean, mask.sum(), box))
    return exact(found)


@dataclass
class Labeling:
    """One run on a store, and the labels it wrote by key."""

    uri: str
    writer: RunWriter
    segment: SegmentWriter
    evidence: bool
    panoptic: bool
    rule: Rule
    size: tuple[int, int]
    labels: dict[str, U8] = field(default_factory=dict)

    def write(self, key: str, seed: int | None = None, size: tuple[int, int] | None = None) -> Receipt:
        """Pixels and a receipt on storage; the manifest does not know of them yet."""
        seed = sum(map(ord, key)) if seed is None else seed
        drawn = draw(seed, self.rule.threshold, size or self.size)
        facts = ImageFacts(
            key=key,
            source=f"{key.replace('../', '').lstrip('/')}.png",
            source_sha256="ab" * 32,
            source_bytes=9,
            device="cpu",
            mean_confidence=0.8,
            instances=drawn.instances if self.panoptic else None,
        )
        arrays = drawn.arrays(self.rule, evidence=self.evidence, panoptic=self.panoptic)
        self.labels[key] = arrays["label"]
        return self.segment.write(facts, arrays)


def changed(**fields: Any) -> Callable[[Rule, LabelStore], Rule]:
    """What `rethreshold` makes the new rule with: some fields of the old one are others."""
    return lambda old, store: replace(old, **fields)


def settings(rule: Rule, teacher: str = "a") -> dict[str, Any]:
    return {"teacher_sha256": teacher * 64, "scales": [0.5, 1.0], **rule.settings}


@dataclass
class Labels:
    """Makes stores and runs on them."""

    def begin(
        self,
        uri: str,
        *,
        threshold: float = 0.9,
        teacher: str = "a",
        split: str = "train",
        relabel: bool = False,
        evidence: bool = True,
        panoptic: bool = False,
        size: tuple[int, int] = (16, 24),
        storage_options: dict[str, Any] | None = None,
        **rule: float,
    ) -> Labeling:
        """A run that has begun, on a store that is created if need be.

        Args:
            panoptic: whether its images have instances. rule: what decides beside the threshold.
        """
        LabelStore.create(uri, CLASSES, storage_options=storage_options)
        run = {
            "settings": settings(decided := Rule(threshold, **rule), teacher),
            "data": {"dataset": "folder", "root": "/images", "split": split},
        }
        writer = RunWriter(uri, run, relabel=relabel, storage_options=storage_options)
        grid = grid_with(threshold) if evidence else None
        segment = SegmentWriter(uri, writer.run_id, grid, decided, 100, storage_options)
        return Labeling(uri, writer, segment, evidence, panoptic, decided, size)

    def fill(self, uri: str, keys: Sequence[str] = ("a", "b", "c"), *, seed: int | None = None, **run: Any) -> Labeling:
        """A finished run over `keys`."""
        labeling = self.begin(uri, **run)
        labeling.writer.append([labeling.write(key, seed) for key in keys])
        labeling.writer.finish()
        return labeling


@pytest.fixture(scope="session")
def shared_labels() -> Labels:
    """As `labels`, for fixtures that live longer than a test."""
    return Labels()


@pytest.fixture
def labels() -> Labels:
    return Labels()


@pytest.fixture
def drawn() -> Callable[..., Drawn]:
    return draw


@pytest.fixture
def classes() -> dict[str, Any]:
    return CLASSES


@pytest.fixture
def uri(tmp_path: Path) -> Iterator[str]:
    """Place of a store that does not exist yet; on a memory disk if there is one, as every write is flushed."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as folder:
        yield f"{folder}/labels.zarr"


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """URL of an S3 server with a bucket `labels`."""
    import boto3
    from moto.server import ThreadedMotoServer

    make_puts_atomic()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    client = boto3.client(
        "s3", endpoint_url=endpoint, aws_access_key_id="made-up", aws_secret_access_key="key", region_name="us-east-1"
    )
    client.create_bucket(Bucket="labels")
    yield endpoint
    server.stop()


@pytest.fixture
def s3_environment(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The AWS_* variables that lead to the server; returns the endpoint."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAMADEUPFORTESTS")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up-secret-of-the-tests")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    return s3_endpoint
