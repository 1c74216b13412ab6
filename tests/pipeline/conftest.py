"""Small drawn images, labeling runs with the fake teacher, and what a store holds after them."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hmsa_label.pipeline.config import DataConfig, EngineConfig, LabelConfig, TeacherConfig
from hmsa_label.pipeline.engine.events import Event
from hmsa_label.pipeline.interrupt import THREAD_NAME
from hmsa_label.pipeline.label.run import label_images
from hmsa_label.pipeline.records import U8, LabelSummary
from hmsa_label.pipeline.rules import RuleConfig
from hmsa_label.pipeline.training import log as train_log
from hmsa_label.stores.versions.label_store import LabelStore
from tests.atomic_s3 import make_puts_atomic
from tests.fake_teacher import PLACE, fake

FAKE = fake()
KILL = (1, 2, 3)  # first pixel of an image that ends its worker's process
HANG = (4, 5, 6)  # first pixel of an image that its worker never comes back from


def draw_image(
    path: Path, seed: int, size: tuple[int, int] = (24, 40), first: tuple[int, int, int] | None = None
) -> U8:
    """A PNG of [H, W, 3] random pixels; the pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    if first is not None:
        pixels[0, 0] = first
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


@dataclass
class Bench:
    """A folder of images and a store to label them into.

    Attributes:
        options: fields of EngineConfig for every run.
        fake_options: of every fake teacher; see `both_kinds`.
        others: threads that were here before.
    """

    folder: Path
    store: str
    options: dict[str, Any] = field(default_factory=lambda: {"executor": "local", "workers": 2})
    fake_options: dict[str, Any] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    others: set[threading.Thread] = field(default_factory=lambda: set(threading.enumerate()))

    def draw(self, count: int, *, start: int = 0, **options: Any) -> None:
        """Images `all/000.png` and so on."""
        for number in range(start, start + count):
            draw_image(self.folder / "all" / f"{number:03}.png", number, **options)

    def config(self, teacher: TeacherConfig | str = FAKE, *, limit: int | None = None, **options: Any) -> LabelConfig:
        """A run of a teacher (its config, or its weights) on everything; options of engine and rule go there."""
        engine = {name: options.pop(name) for name in list(options) if name in EngineConfig.__dataclass_fields__}
        rule = {name: options.pop(name) for name in list(options) if name in RuleConfig.__dataclass_fields__}
        if isinstance(teacher, str):
            teacher = TeacherConfig(weights=teacher, options={"scales": options.pop("scales", (1.0,))})
        elif teacher.teacher == PLACE:
            teacher = replace(teacher, options={**teacher.options, **self.fake_options})
        return LabelConfig(
            data=DataConfig(root=str(self.folder), dataset="folder", split="all", limit=limit),
            teacher=teacher,
            store=options.pop("store", self.store),
            engine=EngineConfig(**{**self.options, **engine}),
            rule=RuleConfig(**rule),
            **options,
        )

    def label(self, teacher: TeacherConfig | str = FAKE, **options: Any) -> LabelSummary:
        """Labels into the store, collecting events."""
        on_event = options.pop("on_event", None)

        def watch(event: Event) -> None:
            self.events.append(event)
            if on_event is not None:
                on_event(event)

        return label_images(self.config(teacher, **options), watch)

    def wait_for_threads(self) -> None:
        """Until the threads of a run that was left at once have written what they had in flight."""
        for thread in set(threading.enumerate()) - self.others:
            if thread.name == THREAD_NAME:  # one of those that serve images
                thread.join(60)
                assert not thread.is_alive(), thread

    def open(self, version: int | str | None = None) -> LabelStore:
        return LabelStore.open(self.store, version)


@pytest.fixture(scope="module", autouse=True)
def no_picture_of_a_training() -> Iterator[None]:
    """`curve.png` takes longer to draw than a tiny training; test_log.py and the tests of the command line draw it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_log, "curve", lambda events, score: b"")
        yield


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Nothing drawn yet, no store yet."""
    return Bench(folder=tmp_path / "images", store=str(tmp_path / "labels.zarr"))


@pytest.fixture(params=[{}, {"instances": True}], ids=["semantic", "panoptic"])
def both_kinds(request: pytest.FixtureRequest, bench: Bench) -> dict[str, Any]:
    """The test is run twice: with a teacher that tells classes, and with one that tells instances apart, too.

    The options that make the difference; teachers that reach the runs of `bench` have them by themselves.
    """
    bench.fake_options = dict(request.param)
    return bench.fake_options


@pytest.fixture
def drawn(bench: Bench) -> Bench:
    """Twenty images of two sizes."""
    bench.draw(12)
    bench.draw(8, start=12, size=(16, 32))
    return bench


@pytest.fixture(scope="session")
def s3_storage() -> Iterator[dict[str, Any]]:
    """Storage options that lead to an S3 server on the loopback with a bucket `labels`."""
    import boto3
    from moto.server import ThreadedMotoServer

    make_puts_atomic()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    access = {"aws_access_key_id": "made-up", "aws_secret_access_key": "made-up-secret", "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=endpoint, **access).create_bucket(Bucket="labels")
    yield {"key": "made-up", "secret": "made-up-secret", "endpoint_url": endpoint}
    server.stop()


BLOCKS = {7: (90, 60, 90), 11: (30, 200, 30), 23: (220, 60, 40)}  # raw id -> color that gives the class away


@pytest.fixture(scope="session")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Cityscapes tree of 96x128 px images, blocks of three classes: 6 to train, 2 to validate, 4 with polygons."""
    root = tmp_path_factory.mktemp("blocks")
    rng = np.random.default_rng(0)
    for split, count, kind in (("train", 6, "gtFine"), ("val", 2, "gtFine"), ("train_extra", 4, "gtCoarse")):
        for number in range(count):
            ids = rng.choice(list(BLOCKS), (3, 4)).repeat(32, 0).repeat(32, 1).astype(np.uint8)
            image = np.stack([np.vectorize(lambda i, c=c: BLOCKS[i][c])(ids) for c in range(3)], axis=2)
            image = np.clip(image + rng.integers(-10, 11, image.shape), 0, 255).astype(np.uint8)
            for folder, suffix, pixels in (("leftImg8bit", "leftImg8bit", image), (kind, f"{kind}_labelIds", ids)):
                place = root / folder / split / "town"
                place.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(place / f"town_{number:06}_000000_{suffix}.png")
    return root


@pytest.fixture(scope="session")
def parked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Cityscapes tree of 96x128 px images with instances: blocks of stuff, cars on them, a crowd, and what is void.

    6 to train, 2 to validate; the crowd is a region of the car's id alone.
    """
    root = tmp_path_factory.mktemp("parked")
    rng = np.random.default_rng(0)
    colors = {**BLOCKS, 26: (40, 60, 200), 0: (5, 5, 5)}
    for split, count in (("train", 6), ("val", 2)):
        for number in range(count):
            ids = rng.choice([7, 23], (3, 4)).repeat(32, 0).repeat(32, 1).astype(np.uint16)
            for car, (y, x) in enumerate(rng.permutation([(8, 8), (40, 20), (20, 70), (56, 84)])[:3]):
                ids[y : y + 24, x : x + 28] = 26_000 + car
            ids[84:, 40:80], ids[:, :4] = 26, 0
            raw = np.where(ids >= 1000, ids // 1000, ids).astype(np.uint8)
            image = np.stack([np.vectorize(lambda i, c=c: colors[i][c])(raw) for c in range(3)], axis=2)
            image = np.clip(image + rng.integers(-10, 11, image.shape), 0, 255).astype(np.uint8)
            files = (("leftImg8bit", "leftImg8bit", image), ("gtFine", "gtFine_labelIds", raw),
                     ("gtFine", "gtFine_instanceIds", ids))  # fmt: skip
            for folder, suffix, pixels in files:
                place = root / folder / split / "town"
                place.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(place / f"town_{number:06}_000000_{suffix}.png")
    return root


@pytest.fixture
def first_pixels() -> dict[str, tuple[int, int, int]]:
    """What the fake teachers `?kill=1,2,3` and `?hang=4,5,6` look for."""
    return {"kill": KILL, "hang": HANG}


@pytest.fixture
def draw() -> Callable[..., U8]:
    """`draw_image`, for tests that need files of their own."""
    return draw_image
